"""A GAN of a few weights, with all that a checkpoint must hold."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from training.optimizers import optimizer

STEPS_PER_EPOCH = 10


def network(name: str, inputs: int, dropout: float) -> keras.Model:
    layers = [keras.layers.Dense(8, activation="leaky_relu"), keras.layers.Dropout(dropout)]
    return keras.Sequential([keras.Input((inputs,)), *layers, keras.layers.Dense(1)], name=name)


class ToyGan(keras.Model):
    """Learns to draw numbers from the distribution of the numbers that it is shown."""

    def __init__(self, accumulate: int = 1):
        super().__init__()
        self.generator = network("generator", 2, 0.0)
        self.discriminator = network("discriminator", 1, 0.25)
        self.mean_of_real = self.add_weight(
            (), "zeros", trainable=False, aggregation="mean", name="mean_of_real"
        )
        self.noise = keras.random.SeedGenerator(7)
        self.optimizers = {
            "generator": optimizer("adam", 0.003, average=0.9, accumulate=accumulate),
            "discriminator": optimizer("adamw", 0.01, clip_norm=1.0),
        }
        self.losses_of = {
            name: keras.metrics.Mean(f"{name}_loss") for name in ("generator", "discriminator")
        }

    def train_step(self, real):
        cross_entropy = keras.losses.binary_crossentropy
        count = ops.shape(real)[0]
        self.mean_of_real.assign(0.9 * self.mean_of_real + 0.1 * ops.mean(real))
        noise = keras.random.normal((count, 2), seed=self.noise)
        with tf.GradientTape(persistent=True) as tape:
            made = self.generator(noise, training=True)
            judged_real, judged_made = (self.discriminator(x, training=True) for x in (real, made))
            ones = ops.ones_like(judged_real)
            losses = {
                "generator": ops.mean(cross_entropy(ones, judged_made, from_logits=True)),
                "discriminator": ops.mean(cross_entropy(ones, judged_real, from_logits=True))
                + ops.mean(cross_entropy(0 * ones, judged_made, from_logits=True)),
            }
            # What the replicas have is added up, and the loss is the mean over all of them.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            shares = {name: loss / replicas for name, loss in losses.items()}
        for name, made_optimizer in self.optimizers.items():
            weights = getattr(self, name).trainable_variables
            made_optimizer.apply(tape.gradient(shares[name], weights), weights)
            self.losses_of[name].update_state(losses[name])
        return {metric.name: metric.result() for metric in self.losses_of.values()}


class UnseededGan(ToyGan):
    """Also draws random numbers from the state that all of Keras shares."""

    def train_step(self, real):
        return super().train_step(real + keras.random.normal(ops.shape(real), stddev=0.01))


def batches(start: int) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    numbers = random.normal(3.0, 0.5, (16 * STEPS_PER_EPOCH, 1)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(numbers).batch(16).repeat().skip(start)


def state_of(model: ToyGan) -> list[np.ndarray]:
    """All that training changes but the metrics."""
    kept = [variable for one in model.optimizers.values() for variable in one.variables]
    return [np.asarray(variable) for variable in (*model.variables, *kept)]
