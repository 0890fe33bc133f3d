"""Settings that must precede the first tensor: seeds, precision, strategy."""

from collections.abc import Callable
from typing import Literal

import keras
import tensorflow as tf

Precision = Literal["float32", "bfloat16", "float16"]
Strategy = Literal["none", "mirrored", "multi_worker", "tpu"]

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def start(
    seed: int, precision: Precision = "float32", strategy: Strategy = "none"
) -> tf.distribute.Strategy:
    """Seeds everything, sets the dtype policy and starts the strategy.

    On a CPU all operations are made deterministic; on a GPU that would cost speed.

    Args:
        seed: Seeds Python, NumPy, TensorFlow and Keras; at least 0.
        precision: Type of the computations; variables are float32 in each case. With float16 the
            loss is scaled by Keras.
        strategy: `none`: one device; `mirrored`: all GPUs of this machine; `multi_worker`: the
            processes named in the environment variable TF_CONFIG, as Kubernetes operators set it;
            `tpu`: the TPU that the environment names (written after TensorFlow's documentation,
            never tried on a TPU).

    Returns:
        The strategy; make and compile the model in its `scope()`.
    """
    # This comes first: the workers of a cluster find each other before any operation has run.
    chosen = _strategy(strategy)
    keras.utils.set_random_seed(seed)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(POLICIES[precision])
    return chosen


def _strategy(name: Strategy) -> tf.distribute.Strategy:
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


def has_other_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes may train together under this strategy."""
    resolver = strategy.cluster_resolver
    return resolver is not None and bool(resolver.task_type)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files: the chief, or else worker 0."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def is_distributed(model: keras.Model) -> bool:
    """Whether a model has variables that belong to a strategy."""
    return any(
        isinstance(variable.value, tf.distribute.DistributedValues) for variable in model.variables
    )


def undistributed(model: keras.Model, make_model: Callable[[], keras.Model]) -> keras.Model:
    """Returns a model that is not compiled and whose variables belong to no strategy.

    The chief needs it for evaluation and export: only all workers together can read the variables
    of a strategy.

    Args:
        model: The trained model. A functional model that belongs to no strategy shares its layers
            with the result; any other is copied.
        make_model: Builds the same network. A clone would not work: layers inside other layers,
            such as the embedding in the head of BERT's pretraining, are no longer shared in it.
    """
    # Not a subclass, because its constructor may take other arguments.
    if type(model).__name__ == "Functional" and not is_distributed(model):
        free = type(model)(model.input, model.output, name=model.name)
    else:
        free = make_model()
        free.set_weights(model.get_weights())
    # Otherwise XLA would compile each length of a batch of texts on a GPU.
    free.jit_compile = False
    return free
