"""The text files that TensorFlow Serving's flags name, and those flags."""

from collections.abc import Mapping, Sequence

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config import model_server_config_pb2

from serving.deploy.folders import Model
from serving.deploy.options import Options
from serving.server import protos
from serving.verify import XLA_BATCH_SIZES

# Batches that may wait. Further requests fail at once, which is better than late answers.
MAX_ENQUEUED_BATCHES = 100
# A changed models.config is read within this time.
POLL_SECONDS = 30


def models_config(models: Sequence[Model], options: Options, base_paths: Sequence[str]) -> str:
    """Returns models.config: the models, their versions and labels.

    Args:
        models: The models.
        options: Which versions to serve.
        base_paths: Where the server finds the versions of each model.
    """
    message = model_server_config_pb2.ModelServerConfig()
    for model, base_path in zip(models, base_paths, strict=True):
        config = message.model_config_list.config.add(
            name=model.name, base_path=base_path, model_platform="tensorflow"
        )
        versions, labels = model.served(options)
        # Without a policy a server follows the newest version by itself.
        if options.rollout != "newest":
            config.model_version_policy.specific.versions.extend(versions)
        for label, version in labels.items():
            config.version_labels[label] = version
    return text_format.MessageToString(message)


def batching_config(sizes: Sequence[int], timeout_micros: int, threads: int) -> str:
    """Returns batching.config, which joins requests to batches of a few sizes.

    Args:
        sizes: Batch sizes, ascending: batches are padded to one of them, so that XLA compiles for
            no other.
        timeout_micros: Longest wait for a batch to fill, in microseconds.
        threads: Batches that are computed at the same time.
    """
    message = protos.BatchingParameters()
    message.max_batch_size.value = max(sizes)
    message.batch_timeout_micros.value = timeout_micros
    message.max_enqueued_batches.value = MAX_ENQUEUED_BATCHES
    message.num_batch_threads.value = threads
    message.allowed_batch_sizes.extend(sizes)
    return text_format.MessageToString(message)


def monitoring_config() -> str:
    """Returns monitoring.config, which lets Prometheus read the REST port."""
    message = protos.MonitoringConfig()
    message.prometheus_config.enable = True
    message.prometheus_config.path = "/monitoring/prometheus/metrics"
    return text_format.MessageToString(message)


def config_files(
    models: Sequence[Model], options: Options, base_paths: Sequence[str]
) -> dict[str, str]:
    """Returns the three files by name, each parsed again."""
    texts = {
        "models.config": models_config(models, options, base_paths),
        "batching.config": batching_config(
            XLA_BATCH_SIZES, options.batch_timeout_micros, options.cpus
        ),
        "monitoring.config": monitoring_config(),
    }
    require_readable(texts)
    return texts


def flags(folder: str, models: Sequence[Model], options: Options) -> list[str]:
    """Returns the flags that name the three files in `folder`, threads, and what models require."""
    return [
        f"--model_config_file={folder}/models.config",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
        f"--tensorflow_intra_op_parallelism={options.cpus}",
        f"--tensorflow_inter_op_parallelism={options.cpus}",
        *sorted({flag for model in models for flag in model.flags(options)}),
    ]


def require_readable(texts: Mapping[str, str]) -> None:
    """Parses config files by name again, as a server would.

    Raises:
        ValueError: One is not what its name says.
    """
    messages: dict[str, Message] = {
        "models.config": model_server_config_pb2.ModelServerConfig(),
        "batching.config": protos.BatchingParameters(),
        "monitoring.config": protos.MonitoringConfig(),
    }
    for name, text in texts.items():
        try:
            text_format.Parse(text, messages[name])
        except text_format.ParseError as error:
            raise ValueError(f"{name} does not parse: {error}") from error
