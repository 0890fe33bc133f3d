"""The server's flags: TensorFlow Serving's names and defaults, and a few of Hornbook."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Flags:
    """Models to serve, addresses and limits."""

    folder: tyro.conf.Positional[Path | None] = None
    """Folder of models, each a folder of versions; every model in it is served, also those that
    appear later. Alternatives: `--model_base_path` or `--model_config_file`."""
    port: int = 8500
    """Port for gRPC; 0 for none."""
    rest_api_port: int = 8501
    """Port for REST and the playground; 0 for none."""
    host: str = "127.0.0.1"
    """Address to listen at, of IPv4 or IPv6; 0.0.0.0 for all IPv4 addresses of this machine, :: for
    those of both."""
    model_name: str = "default"
    """Name of the model in `--model_base_path`."""
    model_base_path: Path | None = None
    """Folder of the versions of one model."""
    model_config_file: Path | None = None
    """ModelServerConfig in text format: several models, version policies, labels."""
    model_config_file_poll_wait_seconds: int = 0
    """Seconds between two reads of that file; 0 to read it only at the start."""
    file_system_poll_wait_seconds: int = 1
    """Seconds between two checks for new versions; 0 to check only at the start."""
    enable_batching: bool = False
    """Answer simultaneous requests in one batch."""
    batching_parameters_file: Path | None = None
    """BatchingParameters in text format."""
    monitoring_config_file: Path | None = None
    """MonitoringConfig in text format: whether and where Prometheus finds metrics."""
    allow_version_labels_for_unavailable_models: bool = False
    """Let a new label name a version that is not loaded yet."""
    enable_model_warmup: bool = True
    """Replay assets.extra/tf_serving_warmup_requests before a version answers requests."""
    max_num_load_retries: int = 5
    """Maximum number of retries of loading a version."""
    load_retry_interval_micros: int = 60_000_000
    """Microseconds between two attempts."""
    rest_api_timeout_in_ms: int = 30_000
    """Milliseconds that a REST request may take."""
    rest_api_enable_cors_support: bool = False
    """Allow requests of pages from other origins (CORS)."""
    ssl_config_file: Path | None = None
    """SSLConfig in text format, for gRPC."""
    grpc_socket_path: str = ""
    """Path of a UNIX socket for gRPC, in addition to the port."""
    grpc_max_threads: int = 64
    """Number of requests that are answered at the same time, for gRPC and for REST each; with
    batching, more than the examples of a batch."""
    tensorflow_intra_op_parallelism: int = 0
    """Number of threads of one operation; 0 for as many as cores."""
    tensorflow_inter_op_parallelism: int = 0
    """Number of operations at the same time; 0 for as many as cores."""
    xla_cpu_compilation_enabled: bool = False
    """Let XLA compile functions of models that require it. Without it such models are refused."""
    max_request_bytes: int = 2**30
    """Maximum size of a request, in bytes (Hornbook only)."""
    max_requests: int = 1024
    """Maximum number of requests in the server at the same time (Hornbook only)."""
    max_image_pixels: int = 2**26
    """Maximum number of pixels of a decoded image. It also limits the sum over a request, unless
    there are at most 64 pixels per byte (Hornbook only)."""

    def __post_init__(self):
        sources = [self.folder, self.model_base_path, self.model_config_file]
        if sum(source is not None for source in sources) != 1:
            raise ValueError(
                "Name what to serve: a folder of models, `--model_base_path` or "
                f"`--model_config_file`, one of them. Received: folder={self.folder}, "
                f"model_base_path={self.model_base_path}, "
                f"model_config_file={self.model_config_file}"
            )
        if self.batching_parameters_file and not self.enable_batching:
            raise ValueError("`--batching_parameters_file` needs `--enable_batching`.")
        if not (self.port or self.rest_api_port or self.grpc_socket_path):
            raise ValueError("`--port` or `--rest_api_port` must be above 0. Received: both are 0.")
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise ValueError(
                    f"`--{name}` must be a port, 0 to 65535. Received: {getattr(self, name)}"
                )
        for name in ("grpc_max_threads", "max_request_bytes", "max_requests", "max_image_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"`--{name}` must be at least 1. Received: {getattr(self, name)}")


BOOLEANS = {field.name for field in fields(Flags) if field.type is bool}


def with_values(arguments: Sequence[str]) -> list[str]:
    """Gives each boolean flag its value, for `--flag`, `--flag=true` and `--flag true`.

    Example:
        >>> with_values(["--enable_batching", "--port=1", "--enable_model_warmup=false"])
        ['--enable_batching=True', '--port=1', '--enable_model_warmup=False']
    """
    words = {"true": "True", "1": "True", "false": "False", "0": "False"}
    given = list(arguments)
    result = []
    while given:
        name, equals, value = given.pop(0).partition("=")
        if name.startswith("--") and name[2:].replace("-", "_") in BOOLEANS:
            if not equals and given and given[0].lower() in words:
                value = given.pop(0)
            result.append(f"{name}={words.get(value.lower(), value) or 'True'}")
        else:
            result.append(name + equals + value)
    return result
