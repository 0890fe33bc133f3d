import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks.deconvolution import Deconvolution
from callbacks.feature_visualization import only_strongest


def conv_net(activation):
    """Convolution, overlapping max pooling, average pooling, padding, strides, groups."""
    inputs = keras.Input((16, 16, 2))
    x = keras.layers.ZeroPadding2D(1)(inputs)
    x = keras.layers.Conv2D(4, 3, activation=activation, name="c1")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="s2")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", groups=2, activation=activation, name="c3")(x)
    x = keras.layers.AveragePooling2D(2, 1, name="s4")(x)
    x = keras.layers.Conv2D(5, 3, strides=2, activation=activation, name="c5")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="f6")(keras.layers.Flatten()(x)))


IMAGES = np.random.default_rng(0).normal(size=(3, 16, 16, 2)).astype("float32")


def test_without_relu_the_projection_is_the_activation_times_its_gradient():
    model = conv_net(activation=None)
    deconvolution = Deconvolution(model, "c5")
    features = keras.Model(model.inputs, model.get_layer("c5").output)
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        activations = features(images)
        strongest = tf.reduce_max(activations[..., 2], axis=(1, 2))
    gradients = tape.gradient(strongest, images).numpy()
    np.testing.assert_allclose(deconvolution.activations(IMAGES), activations, rtol=1e-6)
    projections = deconvolution.project(IMAGES, only_strongest(activations.numpy(), 2))
    expected = strongest.numpy()[:, None, None, None] * gradients
    np.testing.assert_allclose(projections, expected, rtol=1e-4, atol=1e-6)


def test_relu_on_the_way_down_makes_it_differ_from_the_gradient():
    # Pixels (1, 1) -> c1 = relu([x0 + x1, x0 - x1 - 1]) = [2, 0] -> c2 = 3 * 2 + 1 * 0 = 6.
    # Down: 6 * [3, 1] = [18, 6], rectified the same although channel 1 was silent in the forward
    # pass, then back through c1: (18 + 6, 18 - 6) = (24, 12). The gradient gives (18, 18).
    inputs = keras.Input((1, 1, 2))
    x = keras.layers.Conv2D(2, 1, activation="relu", name="c1")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="relu", name="c2")(x))
    model.get_layer("c1").set_weights([np.array([[[[1, 1], [1, -1]]]]), np.array([0, -1])])
    model.get_layer("c2").set_weights([np.array([[[[3], [1]]]]), np.array([0])])
    deconvolution = Deconvolution(model, "c2")
    image = np.ones((1, 1, 1, 2), "float32")
    features = deconvolution.activations(image)
    assert features.numpy().ravel().tolist() == [6.0]
    assert deconvolution.project(image, features).numpy().ravel().tolist() == [24.0, 12.0]


def test_relu_drops_what_is_negative_on_its_way_down():
    inputs = keras.Input((1, 1, 1))
    x = keras.layers.Conv2D(2, 1, name="c1")(inputs)
    x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="c2")(x))
    model.get_layer("c1").set_weights([np.array([[[[1, 1]]]]), np.zeros(2)])
    model.get_layer("c2").set_weights([np.array([[[[3], [-1]]]]), np.zeros(1)])
    image = np.ones((1, 1, 1, 1), "float32")
    # c2 = 3 - 1 = 2; down [6, -2], rectified [6, 0], then 6 * 1 + 0 * 1.
    projection = Deconvolution(model, "c2").project(image, np.full((1, 1, 1, 1), 2.0))
    assert projection.numpy().item() == 6.0


def test_max_pooling_puts_the_value_back_at_its_switch_and_average_pooling_spreads_it():
    image = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    image[0, 0, 1] = 99.0
    value = np.zeros((1, 2, 2, 1), "float32")
    value[0, 0, 0] = 8.0
    expected_max, expected_mean = np.zeros((4, 4)), np.zeros((4, 4))
    expected_max[0, 1] = 8.0
    expected_mean[:2, :2] = 2.0
    for pool, expected in (("Max", expected_max), ("Average", expected_mean)):
        inputs = keras.Input((4, 4, 1))
        layer = getattr(keras.layers, f"{pool}Pooling2D")(2, name="pool")
        projection = Deconvolution(keras.Model(inputs, layer(inputs)), "pool").project(image, value)
        np.testing.assert_array_equal(projection[0, ..., 0], expected)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization(),
        keras.layers.GroupNormalization(2),
        keras.layers.Dropout(0.5),
        keras.layers.Activation("tanh"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_normalisation_dropout_and_smooth_activations_pass_the_signal_on(layer):
    inputs = keras.Input((16, 16, 2))
    x = layer(inputs)
    deconvolution = Deconvolution(keras.Model(inputs, x), layer.name)
    np.testing.assert_array_equal(deconvolution.project(IMAGES, IMAGES), IMAGES)


def test_the_scaling_of_images_that_networks_begin_with_is_undone():
    inputs = keras.Input((16, 16, 2))
    x = keras.layers.Rescaling(3.0, [1.0, -2.0])(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, use_bias=False, name="conv")(x))
    model.get_layer("conv").set_weights([np.array([[[[2], [5]]]])])
    value = np.ones((2, 16, 16, 1), "float32")
    projection = Deconvolution(model, "conv").project(np.zeros((2, 16, 16, 2)), value)
    np.testing.assert_allclose(projection, np.broadcast_to([6, 15], (2, 16, 16, 2)))


def test_a_model_in_mixed_precision_is_projected_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    deconvolution = Deconvolution(conv_net(activation="relu"), "c5")
    activations = deconvolution.activations(IMAGES)
    projections = deconvolution.project(IMAGES, activations)
    assert activations.dtype == projections.dtype == "float32"
    assert np.isfinite(projections).all()


def test_an_unknown_layer_is_refused_by_name():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.UpSampling2D(name="bigger")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="conv")(x))
    with pytest.raises(ValueError, match=r"knows.*Conv2D.*layer 'bigger' \(UpSampling2D\)"):
        Deconvolution(model, "conv")


def test_a_branching_network_is_refused_at_the_branch():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 1)(inputs)
    x = keras.layers.Add(name="shortcut")([x, inputs])
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="conv")(x))
    with pytest.raises(ValueError, match=r"one input.*'shortcut' \(Add\)"):
        Deconvolution(model, "conv")


def test_the_layer_must_be_there_and_have_feature_maps():
    model = conv_net("relu")
    with pytest.raises(ValueError, match=r"`layer_name`.*'c9'"):
        Deconvolution(model, "c9")
    inputs = keras.Input((4,))
    flat = keras.Model(inputs, keras.layers.Activation("relu", name="flat")(inputs))
    with pytest.raises(ValueError, match="feature maps"):
        Deconvolution(flat, "flat")


def test_channels_first_is_refused():
    inputs = keras.Input((2, 8, 8))
    pool = keras.layers.MaxPooling2D(2, data_format="channels_first", name="pool")
    with pytest.raises(ValueError, match=r"'channels_last'.*'pool'"):
        Deconvolution(keras.Model(inputs, pool(inputs)), "pool")
