"""Watches for vanishing and exploding gradients."""

import keras
import tensorflow as tf


class GradientNorm(keras.callbacks.Callback):
    """Logs, per layer, the L2 norm of the loss gradient on a probe batch.

    The norm is `sqrt(sum of (dL/dw)^2)` over all trainable weights w of the layer, with L the
    compiled loss plus regularisation. The model runs in inference mode, so that the probe draws no
    random numbers and moves no statistics: the run is the same with it and without. Written at
    the end of each epoch as `logs["gradient_norm/<layer>"]`.

    Args:
        inputs: The probe batch, as the model takes it.
        targets: Its targets, as the compiled loss takes them.
    """

    def __init__(self, inputs, targets):
        super().__init__()
        self.inputs = inputs
        self.targets = targets

    def on_train_begin(self, logs=None):
        model = self.model
        self._names = [layer.name for layer in model.layers if layer.trainable_variables]
        inputs, targets = keras.tree.map_structure(
            tf.convert_to_tensor, (self.inputs, self.targets)
        )

        @tf.function
        def measure():
            layers = [model.get_layer(name) for name in self._names]
            weights = [[v.value for v in layer.trainable_variables] for layer in layers]
            # As in training: in float16 small gradients would vanish on their way.
            scale = model.optimizer.scale_loss(tf.constant(1.0))
            with tf.GradientTape() as tape:
                outputs = model(inputs, training=False)
                loss = scale * model.compute_loss(inputs, targets, outputs, training=False)
            return [_norm(gradients) / scale for gradients in tape.gradient(loss, weights)]

        self._measure = measure

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            for name, norm in zip(self._names, self._measure(), strict=True):
                logs[f"gradient_norm/{name}"] = float(norm)


def _norm(gradients):
    # A row looked up twice has two slices in a sparse gradient: only the dense one adds them.
    squares = [
        tf.reduce_sum(tf.square(tf.cast(tf.convert_to_tensor(gradient), tf.float32)))
        for gradient in gradients
        if gradient is not None
    ]
    return tf.sqrt(tf.add_n([tf.constant(0.0), *squares]))
