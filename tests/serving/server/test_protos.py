import pytest
from tensorflow_serving.config import model_server_config_pb2

from serving.server import protos


@pytest.fixture
def file(tmp_path):
    def written(text):
        path = tmp_path / "file"
        path.write_text(text)
        return path

    return written


def test_batching_parameters_are_read(file):
    path = file(
        "max_batch_size { value: 8 }\nbatch_timeout_micros { value: 1000 }\n"
        'thread_pool_name { value: "pool" }\nallowed_batch_sizes: [2, 8]\n'
        "pad_variable_length_inputs: true\nenable_large_batch_splitting { value: true }"
    )
    message = protos.read_text(path, protos.BatchingParameters())
    assert message.max_batch_size.value == 8
    assert message.batch_timeout_micros.value == 1000
    assert list(message.allowed_batch_sizes) == [2, 8]
    assert message.pad_variable_length_inputs
    assert message.enable_large_batch_splitting.value
    assert not message.HasField("num_batch_threads")


def test_monitoring_and_ssl_files_are_read(file):
    text = 'prometheus_config { enable: true, path: "/m" }'
    config = protos.read_text(file(text), protos.MonitoringConfig()).prometheus_config
    assert (config.enable, config.path) == (True, "/m")
    ssl = protos.read_text(
        file('server_key: "k" server_cert: "c" client_verify: false'), protos.SSLConfig()
    )
    assert (ssl.server_key, ssl.server_cert, ssl.custom_ca) == ("k", "c", "")


def test_model_configs_are_read(file):
    path = file(
        'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" '
        'model_version_policy { specific { versions: [1, 2] } } version_labels { key: "stable" '
        "value: 1 } } }"
    )
    config = protos.read_text(path, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert model.version_labels["stable"] == 1


@pytest.mark.parametrize("text", ["max_batch_size: 8", "what: 1", "{", "\xff"])
def test_what_is_no_such_text_is_named(file, text):
    with pytest.raises(ValueError, match="no BatchingParameters in text format"):
        protos.read_text(file(text), protos.BatchingParameters())


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no BatchingParameters in text format"):
        protos.read_text(tmp_path / "file", protos.BatchingParameters())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        protos.read_text(tmp_path / "missing", protos.BatchingParameters())
