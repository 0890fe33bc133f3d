import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks import GradientNorm


def small_model():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, activation="tanh", kernel_regularizer="l2", name="hidden")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.arange(8) % 2


def log(model, inputs=X, targets=Y):
    logs = {}
    callback = GradientNorm(inputs, targets)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    return logs


def test_norm_of_each_layer_equals_that_of_a_tape_written_out():
    model = small_model()
    with tf.GradientTape() as tape:
        logits = model(X, training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits))
        loss += 0.01 * tf.reduce_sum(model.get_layer("hidden").kernel.value ** 2)
    gradients = iter(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    expected = {}
    for name in ("hidden", "norm", "logits"):
        both = np.concatenate([np.ravel(next(gradients)) for _ in range(2)])
        expected[f"gradient_norm/{name}"] = np.linalg.norm(both)
    assert log(model) == pytest.approx(expected, rel=1e-5)


def test_small_gradients_do_not_vanish_in_float16():
    keras.config.set_dtype_policy("mixed_float16")
    top = keras.layers.Dense(
        1, kernel_initializer=keras.initializers.Constant(1e-4), dtype="float32"
    )
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(4, kernel_initializer="zeros", name="w"), top]
    )
    model.compile(keras.optimizers.SGD(), "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    norm = log(model, np.ones((4096, 1), "float32"), np.full((4096, 1), -0.5, "float32"))
    # 2 * 0.5 * 1e-4 for each of 4 kernels and 4 biases.
    assert norm["gradient_norm/w"] == pytest.approx(1e-4 * np.sqrt(8), rel=0.01)


def test_a_linear_unit_by_hand():
    # L = (w x - y)^2 with w = 1, x = 2, y = 5: dL/dw = 2 (2 - 5) 2 = -12.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="w")])
    model.set_weights([np.ones((1, 1))])
    model.compile("sgd", "mse")
    assert log(model, np.array([[2.0]]), np.array([[5.0]])) == {"gradient_norm/w": 12.0}


def test_rows_looked_up_twice_add_up():
    # The embedding of token 0 is summed twice: gradient 2 (2 e - y) 2 with e = 1, y = 5 is -12.
    inputs = keras.Input((2,), dtype="int32")
    x = keras.layers.Embedding(3, 1, embeddings_initializer="ones", name="table")(inputs)
    model = keras.Model(inputs, keras.ops.sum(x, axis=1))
    model.compile("sgd", "mse")
    assert log(model, np.array([[0, 0]]), np.array([[5.0]])) == {"gradient_norm/table": 12.0}


def test_probing_leaves_every_variable_as_it_was():
    model = small_model()
    before = [np.array(variable) for variable in model.variables]
    log(model)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_fit_keeps_the_norms_in_its_history():
    history = small_model().fit(X, Y, epochs=2, verbose=0, callbacks=[GradientNorm(X, Y)])
    norms = history.history["gradient_norm/hidden"]
    assert len(norms) == 2 and norms[0] > 0 and norms[0] != norms[1]
