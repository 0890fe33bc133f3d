"""The text files that TensorFlow Serving's flags name, as protocol buffer messages.

tensorflow-serving-api has only `ModelServerConfig`; the other three are declared here, field by
field as in tensorflow_serving/servables/tensorflow/session_bundle_config.proto,
config/monitoring_config.proto and config/ssl_config.proto.
"""

from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from serving.messages import declare

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, "Int64Value"),
        "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"),
        "num_batch_threads": (4, "Int64Value"),
        "thread_pool_name": (5, "StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "BoolValue"),
        "max_execution_batch_size": (9, "Int64Value"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
}

M = TypeVar("M", bound=Message)

_CLASSES = declare("tensorflow.serving", _MESSAGES)
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read_text(path: Path, message: M) -> M:
    """Fills a message from a file in protocol buffers' text format.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not in text format, or has fields that the message does not have.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        name = message.DESCRIPTOR.name
        raise ValueError(f"{path} is no {name} in text format: {error}") from error
