import keras
import numpy as np
import pytest

from layers import GroupNormalization
from models.parts import NORMS, POOLS, normalization, pooling, require_input


def features(channels: int) -> np.ndarray:
    shape = (4, 6, 6, channels)
    return np.random.default_rng(0).normal(3, 2, shape).astype("float32")


@pytest.mark.parametrize(
    ("norm", "axes"), [("batch", (0, 1, 2)), ("layer", (1, 2, 3)), ("none", None)]
)
def test_normalized_features_have_mean_0_and_variance_1_over_their_axes(norm, axes):
    layer = normalization(norm, 8, name="norm")
    if axes is None:
        assert layer is None
        return
    normalized = np.asarray(layer(features(8), training=True))
    np.testing.assert_allclose(normalized.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.var(axes), 1, atol=1e-3)
    assert layer.name == "norm"


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(256, 32), (80, 16), (64, 32), (32, 16), (16, 8), (7, 1), (2, 1), (1, 1)],
)
def test_groups_are_at_most_32_and_of_two_channels_or_more(channels, groups):
    layer = normalization("group", channels)
    assert isinstance(layer, GroupNormalization)
    assert layer.groups == groups
    assert layer(features(channels)).shape == (4, 6, 6, channels)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "none"])
def test_scale_and_epsilon_reach_the_layer(norm):
    layer = normalization(norm, 8, scale=False, epsilon=0.5)
    layer.build((None, 6, 6, 8))
    assert [weight.name for weight in layer.trainable_weights] == ["beta"]
    assert layer.epsilon == 0.5


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("window", "side"),
    [((2,), 3), ((3, 2), 3), ((3, 2, "same"), 4), ((2, 1, "same"), 7)],
    ids=["halves", "overlapping", "padded", "same size"],
)
def test_every_pooling_gives_the_size_of_max_pooling(pool, window, side):
    layer = pooling(pool, *window, name="pool")
    assert layer.name == "pool"
    assert layer(np.ones((2, 7, 7, 3), "float32")).shape == (2, side, side, 3)


@pytest.mark.parametrize("pool", POOLS)
def test_every_pooling_keeps_a_constant_image(pool):
    constant = np.full((1, 8, 8, 2), 0.7, "float32")
    np.testing.assert_allclose(pooling(pool, 2)(constant), constant[:, :4, :4], rtol=1e-5)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"must be one of batch, group, layer, none.*'instance'"):
        normalization("instance", 8)
    with pytest.raises(ValueError, match=r"must be one of max, average, lp, .*'min'"):
        pooling("min")


def test_an_input_that_is_too_small_is_refused_with_the_smallest_that_works():
    require_input((32, 40, 1), 32)
    for input_shape in ((31, 40, 3), (40, 31, 3), (32, 32, 0)):
        with pytest.raises(ValueError, match=r"1 channel and 32 x 32 pixels\. Received: "):
            require_input(input_shape, 32)
    for input_shape in ((32, 32), (None, None, 3)):
        with pytest.raises(ValueError, match="must be three integers, height, width and channels"):
            require_input(input_shape, 32)


def test_batch_statistics_follow_within_a_few_batches():
    layer = normalization("batch", 8)
    for _ in range(7):
        layer(features(8), training=True)
    assert isinstance(layer, keras.layers.BatchNormalization)
    assert np.asarray(layer.moving_mean).mean() == pytest.approx(3 * (1 - 0.9**7), rel=0.05)
