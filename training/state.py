"""The variables that change while a model trains, and the moving average of its weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

# Keras does not save this state, and has no public name for it.
from keras.src.random.seed_generator import global_seed_generator

from training.updates import averages


class ModelState:
    """Reads and writes the whole state of a model in training, for checkpoints.

    These are the model's weights, seed generators and metrics, the variables of its optimizers, and
    the state of the random numbers that `keras.random` draws without a seed generator. Any other
    variable that Keras tracks (`add_weight`, a `keras.Variable`, a network) counts as a weight.

    Args:
        model: Its optimizers are the dict `optimizers`, or else its only one is `optimizer`. An
            optimizer in the dict trains the network that is the model's attribute of the same
            name, unless it is already built on other variables.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        several = getattr(model, "optimizers", None)
        self.optimizers: Mapping[str, keras.optimizers.Optimizer] = (
            several if several else {"": model.optimizer}
        )

    def build(self) -> None:
        """Creates the variables of optimizers and random numbers, because a traced step cannot."""
        for name, optimizer in self.optimizers.items():
            if not optimizer.built:
                optimizer.build(self._trained_by(name))
        for weight, average in self._averages():
            average.assign(weight)
        global_seed_generator()

    def _trained_by(self, name: str) -> list[keras.Variable]:
        network = getattr(self.model, name, None) if name else self.model
        if network is None:
            raise ValueError(
                "`optimizers` must be named after the networks that they train, which are "
                "attributes of the model, or be built in its constructor. "
                f"Received: {name!r} in {type(self.model).__name__}"
            )
        return network.trainable_variables

    def count_variables(self) -> None:
        """Records how many variables there are before the first step."""
        self._count = len(self.variables)

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables of the model, with its seed generators."""
        return self.model.variables

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables, in an order that depends only on the code."""
        return [
            *self.weights,
            *self.model.metrics_variables,
            *self._optimizer_variables,
            global_seed_generator().state,
        ]

    @property
    def _optimizer_variables(self):
        return [variable for one in self.optimizers.values() for variable in one.variables]

    def read(self) -> list[np.ndarray]:
        """Returns the values of all variables."""
        if len(self.variables) != self._count:
            raise ValueError(
                "The model must make all metrics and variables in its constructor, so that a "
                f"resumed run finds them. Received: {self._count} variables before the first step, "
                f"{len(self.variables)} now"
            )
        return values_of(self.variables)

    def is_finite(self) -> bool:
        """Whether every weight and every variable of an optimizer is finite."""
        return bool(self._is_finite())

    @tf.function
    def _is_finite(self):
        values = [variable.value for variable in (*self.weights, *self._optimizer_variables)]
        floats = [value for value in values if value.dtype.is_floating]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in floats])

    def _averages(self):
        return [pair for one in self.optimizers.values() for pair in averages(one)]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Gives the model its averaged weights until the end of the `with`, if it has any."""
        weights = [weight for weight, _ in self._averages()]
        values = [tf.identity(weight.value) for weight in weights]
        self.keep_averages()
        yield
        assign(weights, values, self.model.distribute_strategy)

    def keep_averages(self) -> None:
        """Gives the model its averaged weights, if it has any."""
        pairs = self._averages()
        averaged = [tf.identity(average.value) for _, average in pairs]
        assign([weight for weight, _ in pairs], averaged, self.model.distribute_strategy)


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Returns the values of variables; with several workers all must call it together."""
    return [variable.value.numpy() for variable in variables]


def assign(
    variables: Sequence[keras.Variable], values: Sequence, strategy: tf.distribute.Strategy
) -> None:
    """Sets variables, on every replica."""
    if len(variables) != len(values):
        raise ValueError(
            f"The model must have the variables of the checkpoint. Received: {len(variables)} "
            f"variables, {len(values)} in the checkpoint"
        )
    with strategy.scope():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
