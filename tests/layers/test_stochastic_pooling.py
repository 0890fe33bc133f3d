import numpy as np
import pytest
from keras import ops

from layers import StochasticPooling2D
from tests.layers.check import assert_close, check_layer, gradients


def positive(*shape):
    return np.float32(np.random.default_rng(0).uniform(0.5, 2.0, size=shape))


@pytest.mark.parametrize(
    ("config", "out"),
    [
        ({"seed": 1}, (2, 3, 4, 3)),
        ({"pool_size": 3, "strides": 2, "seed": 1}, (2, 2, 3, 3)),
        ({"pool_size": (2, 3), "strides": 2, "padding": "same"}, (2, 3, 4, 3)),
    ],
    ids=["side by side", "overlapping", "same"],
)
def test_layer_does_what_every_layer_does(config, out):
    check_layer(StochasticPooling2D, config, (2, 6, 8, 3), out)


def test_inference_by_hand():
    x = np.array([0.0, -2.0, 1.0, 3.0], "float32").reshape(1, 2, 2, 1)
    assert_close(ops.squeeze(StochasticPooling2D()(x)), 0.25 * 1 + 0.75 * 3)


@pytest.mark.parametrize("training", [False, True])
def test_windows_of_one_pixel_keep_its_positive_part(training):
    x = np.array([[-1.0, 2.0], [0.0, 3.0]], "float32").reshape(1, 2, 2, 1)
    layer = StochasticPooling2D(1)
    assert_close(layer(x, training=training), np.maximum(x, 0))
    assert ((gradients(layer, x, training=True)[1][0] != 0) == (x > 0)).all()


def test_inference_equals_weighted_means_written_out():
    x = np.float32(np.random.default_rng(0).normal(size=(2, 7, 7, 3)))
    y = ops.convert_to_numpy(StochasticPooling2D(3, 2, "same")(x))
    for i in range(4):
        for j in range(4):
            rows, columns = (slice(max(2 * n - 1, 0), 2 * n + 2) for n in (i, j))
            active = np.maximum(x[:, rows, columns], 0)
            total = active.sum(axis=(1, 2))
            wanted = (active**2).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
            assert_close(y[:, i, j], wanted, rtol=1e-5, atol=1e-7)


def test_mean_of_many_draws_is_the_inference():
    x = positive(1, 5, 5, 1)
    many = np.tile(x, (1, 1, 1, 20000))
    layer = StochasticPooling2D(3, 2, "same", seed=4)
    drawn = ops.convert_to_numpy(layer(many, training=True))
    # The values are in [0.5, 2], so a mean's deviation is below 0.75 / sqrt(20000) = 0.0053.
    assert_close(drawn.mean(axis=-1), ops.convert_to_numpy(layer(x))[..., 0], atol=0.025)


@pytest.mark.parametrize("training", [False, True])
def test_window_without_positive_activation_gives_zero(training):
    x = -positive(1, 4, 4, 2)
    assert not ops.convert_to_numpy(StochasticPooling2D()(x, training=training)).any()


@pytest.mark.parametrize("strides", [2, 1])
def test_pixels_are_drawn_as_often_as_their_share(strides):
    # 20,000 draws of one window: each frequency within 5 standard deviations.
    values = np.array([1.0, 0.0, 2.0, 5.0], "float32")
    x = np.tile(values.reshape(1, 2, 2, 1), (1, 1, 1, 20000))
    drawn = ops.convert_to_numpy(StochasticPooling2D(2, strides, seed=3)(x, training=True))
    for value, share in zip(values, values / 8, strict=True):
        deviation = np.sqrt(share * (1 - share) / 20000)
        assert abs((drawn == value).mean() - share) <= 5 * deviation
    assert not (drawn == 0).any()


def test_same_seed_draws_the_same_and_each_call_anew():
    x = positive(2, 8, 8, 16)
    first, second = StochasticPooling2D(seed=5), StochasticPooling2D(seed=5)
    a, b = first(x, training=True), second(x, training=True)
    assert_close(a, b)
    assert np.any(ops.convert_to_numpy(a) != ops.convert_to_numpy(first(x, training=True)))


def test_gradient_reaches_only_the_drawn_pixel():
    x = positive(3, 4, 6, 2)
    layer = StochasticPooling2D(seed=0)
    gradient = gradients(layer, x, training=True)[1][0]
    per_window = gradient.reshape(3, 2, 2, 3, 2, 2) != 0
    assert (per_window.sum(axis=(2, 4)) == 1).all()


def test_gradient_of_overlapping_windows_adds_up_at_the_drawn_pixels():
    # No two pixels are equal, so that a window's draw tells its place.
    x = np.float32(np.random.default_rng(0).permutation(7 * 7 * 4).reshape(1, 7, 7, 4) + 1)
    drawn = StochasticPooling2D(3, 2, "same", seed=6)(x, training=True)
    direction = np.random.default_rng(1).normal(size=tuple(drawn.shape)) / 8
    wanted = np.zeros_like(x)
    for value, weight in zip(ops.convert_to_numpy(drawn).flat, direction.flat, strict=True):
        wanted[x == value] += weight
    layer = StochasticPooling2D(3, 2, "same", seed=6)
    layer.build(x.shape)
    assert_close(gradients(layer, x, training=True)[1][0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_windows_of_zeros_give_zeros_and_a_finite_gradient(training):
    x = np.zeros((1, 5, 5, 2), "float32")
    layer = StochasticPooling2D(3, 2, seed=0)
    assert not ops.convert_to_numpy(layer(x, training=training)).any()
    assert not gradients(layer, x, training=training)[1][0].any()


def test_drawn_values_come_from_their_overlapping_windows():
    x = positive(1, 7, 7, 4)
    drawn = ops.convert_to_numpy(StochasticPooling2D(3, 2)(x, training=True))
    for i in range(3):
        for j in range(3):
            window = x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].reshape(9, 4)
            assert (window == drawn[0, i, j]).any(axis=0).all()


def test_large_half_precision_activations_do_not_overflow():
    x = np.full((1, 2, 2, 1), 30000, "float32")
    y = StochasticPooling2D(dtype="mixed_float16")(x)
    assert_close(ops.squeeze(y), 30000, rtol=1e-3)


def test_larger_window_than_the_image_is_refused():
    with pytest.raises(ValueError, match="must be at most the height and width of the image"):
        StochasticPooling2D(5)(np.zeros((1, 4, 4, 1)))
