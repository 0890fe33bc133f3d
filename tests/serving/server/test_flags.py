from pathlib import Path

import pytest
import tyro

from serving import serve
from serving.server.flags import BOOLEANS, Flags, with_values


def parse(*arguments: str) -> Flags:
    return tyro.cli(
        Flags,
        args=with_values(arguments),
        config=(tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )


def test_the_defaults_are_those_of_the_server():
    flags = parse("models")
    assert flags.folder == Path("models")
    assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 8501, "default")
    assert (flags.file_system_poll_wait_seconds, flags.model_config_file_poll_wait_seconds) == (
        1,
        0,
    )
    assert (flags.max_num_load_retries, flags.load_retry_interval_micros) == (5, 60_000_000)
    assert flags.rest_api_timeout_in_ms == 30_000
    assert not flags.enable_batching
    assert flags.enable_model_warmup


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port=9", "--model_name=m", "--model_base_path=/m"],
        ["--port", "9", "--model_name", "m", "--model_base_path", "/m"],
        ["--port", "9", "--model_name=m", "--model_base_path", "/m"],
    ],
    ids=["equals", "spaces", "both"],
)
def test_values_follow_an_equals_sign_or_a_space(arguments):
    flags = parse(*arguments)
    assert (flags.port, flags.model_name, flags.model_base_path) == (9, "m", Path("/m"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching=True"], True),
        (["--enable_batching=1"], True),
        (["--enable_batching", "true"], True),
        (["--enable_batching=false"], False),
        (["--enable_batching=FALSE"], False),
        (["--enable_batching=0"], False),
        (["--enable_batching", "false"], False),
        (["--enable-batching=true"], True),
        (["--enable_batching", "--port=1"], True),
        ([], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_booleans_come_with_and_without_a_value(arguments, expected):
    assert parse(*arguments, "--model_base_path=/m").enable_batching is expected
    assert parse("--model_base_path=/m", *arguments).enable_batching is expected


def test_a_boolean_before_the_folder_does_not_eat_it():
    flags = parse("--enable_batching", "models")
    assert flags.enable_batching
    assert flags.folder == Path("models")


@pytest.mark.parametrize("name", sorted(BOOLEANS))
def test_every_boolean_can_be_switched_on_and_off(name):
    assert getattr(parse("models", f"--{name}"), name) is True
    assert getattr(parse("models", f"--{name}=false"), name) is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name what to serve"),
        (["models", "--model_base_path=/m"], "Name what to serve"),
        (["--model_config_file=/m", "--model_base_path=/m"], "Name what to serve"),
        (["models", "--batching_parameters_file=/b"], "needs `--enable_batching`"),
        (["models", "--port=0", "--rest_api_port=0"], "must be above 0"),
        (["models", "--port=65536"], "must be a port, 0 to 65535"),
        (["models", "--rest_api_port=-1"], "must be a port, 0 to 65535"),
        (["models", "--grpc_max_threads=0"], "must be at least 1"),
        (["models", "--max_request_bytes=0"], "must be at least 1"),
        (["models", "--enable_batching=perhaps"], "perhaps"),
        (["models", "--port=x"], "x"),
        (["models", "--unknown=1"], "unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags_are_reported_without_a_traceback(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    # tyro draws a box around it and breaks its lines.
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in printed
    assert "Traceback" not in printed


def test_a_socket_is_enough_to_serve():
    flags = parse("models", "--port=0", "--rest_api_port=0", "--grpc_socket_path=/s")
    assert flags.grpc_socket_path == "/s"


def test_the_command_is_documented():
    assert serve.main.__doc__
