"""How a Keras optimizer updates the weights: fused, clipped, scaled, accumulated, averaged.

These functions change an instance of a Keras optimizer: a model with an optimizer class of our
own would not load without that class.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def fuse_adam(made: Any) -> None:
    """Takes steps of Adam in one operation; Keras passes over the weights ten times."""
    update_step = made.update_step

    def fused_step(gradient, variable, learning_rate):
        index = made._get_variable_index(variable)
        momentum, velocity = made._momentums[index].value, made._velocities[index].value
        if isinstance(momentum, tf.distribute.DistributedValues):
            return update_step(gradient, variable, learning_rate)
        weights = variable.value if isinstance(variable, keras.Variable) else variable
        step = tf.cast(made.iterations + 1, weights.dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=weights.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=made.beta_1**step,
            beta2_power=made.beta_2**step,
            lr=tf.cast(learning_rate, weights.dtype),
            beta1=made.beta_1,
            beta2=made.beta_2,
            epsilon=made.epsilon,
            grad=tf.cast(gradient, weights.dtype),
        )

    made.update_step = fused_step


def add_up_gradients(made: Any) -> None:
    """Squares the gradient of a row of an embedding only after adding up its parts.

    It has a part for each time the row was looked up, and Keras squares each part separately.
    """
    update_step = made.update_step

    def whole_step(gradient, variable, learning_rate):
        return update_step(tf.convert_to_tensor(gradient), variable, learning_rate)

    made.update_step = whole_step


def clip_gradients(made: Any, clip_norm: float) -> None:
    """Clips the gradients of all replicas together, and whole rows; Keras clips each replica's."""
    add_replicas = made._all_reduce_sum_gradients

    def added_and_clipped(gradients_and_variables):
        gradients, variables = zip(*add_replicas(gradients_and_variables), strict=True)
        whole = [None if one is None else tf.convert_to_tensor(one) for one in gradients]
        clipped, _ = tf.clip_by_global_norm(whole, clip_norm)
        return list(zip(clipped, variables, strict=True))

    made._all_reduce_sum_gradients = added_and_clipped


def scale_learning_rates(made: keras.optimizers.Optimizer, scale: Callable[[str], float]) -> None:
    update_step = made.update_step

    def scaled_step(gradient, variable, learning_rate):
        # Keras passes the backend's variable, which does not know its path.
        known = made._trainable_variables[made._get_variable_index(variable)]
        return update_step(gradient, variable, learning_rate * scale(known.path))

    made.update_step = scaled_step


def accumulate_gradients(made: Any) -> None:
    """Updates the weights once in `made.gradient_accumulation_steps` calls, by the mean gradient.

    Keras' own accumulation fails on several devices, and its learning rate schedule and moving
    average advance with each call.
    """
    steps = made.gradient_accumulation_steps

    def sums(variables):
        return [made._accumulated_gradients[made._get_variable_index(v)] for v in variables]

    def add(gradients, variables):
        for added, gradient in zip(sums(variables), gradients, strict=True):
            added.assign_add(gradient)

    def update(gradients, variables):
        pairs = list(zip(sums(variables), gradients, strict=True))
        made._apply_weight_decay(variables)
        means = [(added + gradient) / steps for added, gradient in pairs]
        made._backend_update_step(means, variables, made.learning_rate)
        for added, gradient in pairs:
            added.assign(tf.zeros_like(gradient))
        made._update_model_variables_moving_average(made._trainable_variables)

    def add_or_update(gradients, variables):
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            # Every replica then has the same sums, so that the chief's checkpoint is complete.
            gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)

        def choose(strategy, *gradients):
            def on_replicas(function):
                return lambda: strategy.extended.call_for_each_replica(
                    lambda *own: function(own, variables), args=gradients
                )

            is_last = (made._iterations.value + 1) % steps == 0
            tf.cond(is_last, on_replicas(update), on_replicas(add))

        # Replicas cannot add up gradients inside a condition, so `merge_call` evaluates it once.
        replica.merge_call(choose, args=gradients)

    made._backend_apply_gradients = add_or_update
    schedule = made._learning_rate
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        made._get_current_learning_rate = lambda: schedule(made.iterations)


def averages(made: Any) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns the pairs of a weight and its moving average; none if there is no average."""
    if isinstance(made, keras.optimizers.LossScaleOptimizer):
        return averages(made.inner_optimizer)
    if not made.use_ema:
        return []
    pairs = zip(made._trainable_variables, made._model_variables_moving_average, strict=True)
    return [(weight, average) for weight, average in pairs if average is not None]
