import keras
import numpy as np
import pytest
from keras import ops

from layers import Whitening
from layers.whitening import CHUNK, MODES
from tests.layers.check import BACKEND, assert_close, check_layer


def correlated(count=200, features=6, seed=0):
    """Correlated features of scales 1 to 5 and means of some tens."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(features, features)) * np.linspace(1, 5, features)
    return random.normal(size=(count, features)) @ mixing + 10 * random.normal(size=features)


def adapted(mode, data, **config):
    layer = Whitening(mode, **config)
    layer.adapt(data)
    return layer


@pytest.mark.parametrize(
    ("config", "output_shape"),
    [
        ({"mode": "standard"}, (4, 2, 3)),
        ({"mode": "pca"}, (4, 6)),
        ({"mode": "pca", "components": 2}, (4, 2)),
        ({"mode": "zca", "epsilon": 0.1}, (4, 2, 3)),
    ],
    ids=["standard", "pca", "two components", "zca"],
)
def test_layer_does_what_every_layer_does(config, output_shape):
    check_layer(Whitening, config, (4, 2, 3), output_shape)


@pytest.mark.parametrize("mode", MODES)
def test_covariance_becomes_the_identity(mode):
    data = correlated()
    white = ops.convert_to_numpy(adapted(mode, data, epsilon=0)(data))
    covariance = np.cov(white.T, bias=True)
    assert_close(white.mean(0), 0, atol=1e-4)
    assert_close(np.diag(covariance), 1, atol=1e-4)
    if mode != "standard":
        assert_close(covariance, np.eye(6), atol=1e-4)


def test_standardization_by_hand():
    # Mean 2 and variance 1; with 3 added to the variance the answer is halved.
    data = np.array([[1.0], [3.0]])
    assert_close(adapted("standard", data, epsilon=3)(data), [[-0.5], [0.5]])


def test_standardization_equals_that_of_keras():
    data = correlated()
    reference = keras.layers.Normalization()
    reference.adapt(np.float32(data))
    answer = adapted("standard", data, epsilon=0)(data)
    assert_close(answer, reference(data), atol=1e-4)


def test_pca_equals_that_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    data = correlated()
    reference = decomposition.PCA(3, whiten=True, svd_solver="full").fit(data)
    # scikit-learn divides the covariance by n - 1.
    wanted = reference.transform(data) * np.sqrt(200 / 199)
    layer = adapted("pca", data, epsilon=0, components=3)
    assert_close(layer(data), wanted, atol=1e-4)


def test_zca_is_the_inverse_root_of_the_covariance():
    linalg = pytest.importorskip("scipy.linalg")
    data = correlated()
    root = linalg.inv(linalg.sqrtm(np.cov(data.T, bias=True) + 0.1 * np.eye(6)))
    wanted = (data - data.mean(0)) @ root
    assert_close(adapted("zca", data, epsilon=0.1)(data), wanted, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_batches_give_what_the_whole_array_gives(mode):
    data = correlated(50)
    whole = adapted(mode, data)
    parts = adapted(mode, [data[:7], data[7:7], data[7:40], data[40:]])
    for wanted, found in zip(whole.get_weights(), parts.get_weights(), strict=True):
        assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_arrays_longer_than_a_chunk_are_read_to_the_end():
    data = correlated(CHUNK + 100)
    layer = adapted("standard", data)
    assert_close(layer.get_weights()[0], data.mean(0), rtol=1e-5)


def test_tf_data_gives_what_the_array_gives():
    tf = pytest.importorskip("tensorflow")
    data = correlated(50)
    batches = tf.data.Dataset.from_tensor_slices(data).batch(16)
    assert_close(adapted("zca", batches)(data), adapted("zca", data)(data), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_singular_data_give_zeros_where_they_do_not_vary(mode):
    # Two features vary, one copies another, one is constant: rank 2 in 4 features.
    varied = correlated(50, 2)
    data = np.stack([varied[:, 0], varied[:, 1], varied[:, 1], np.full(50, 0.1)], axis=1)
    white = ops.convert_to_numpy(adapted(mode, data, epsilon=0)(data))
    assert np.isfinite(white).all() and np.abs(white).max() < 10
    if mode == "pca":
        assert_close(white.std(0), [1, 1, 0, 0], atol=1e-4)
    else:
        assert_close(white[:, 3], 0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_one_example_gives_zeros(mode):
    data = np.full((1, 3), 0.1)
    assert_close(adapted(mode, data, epsilon=0)(data), np.zeros((1, 3)), atol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_float16", "float16"])
def test_large_mean_costs_no_digits_in_half_precision(dtype):
    data = correlated() + 1e5
    white = adapted("zca", data, dtype=dtype)(data)
    wanted = adapted("zca", data - 1e5)(data - 1e5)
    assert_close(ops.convert_to_numpy(white), wanted, atol=0.05)


def test_before_adapt_it_is_the_identity():
    data = np.float32(correlated())
    assert_close(Whitening("zca")(data), data)


def test_adapting_again_forgets():
    layer = adapted("standard", correlated(seed=1))
    layer.adapt(correlated(seed=2))
    assert_close(layer.get_weights()[0], correlated(seed=2).mean(0), rtol=1e-5)


def test_what_was_adapted_is_saved_with_the_model(tmp_path):
    data = np.float32(correlated())
    model = keras.Sequential([keras.Input((6,)), adapted("pca", data, components=2)])
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert_close(restored(data), model(data), atol=1e-6)
    assert np.std(ops.convert_to_numpy(model(data)), axis=0) == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel needs TensorFlow")
def test_what_was_adapted_is_exported_with_the_model(tmp_path):
    import tensorflow as tf

    data = np.float32(correlated())
    model = keras.Sequential([keras.Input((6,)), adapted("zca", data)])
    model.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1")
    assert_close(served.serve(data), model(data), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mode": "svd"}, "`mode` must be one of .* Received: mode='svd'"),
        ({"epsilon": -1}, "`epsilon` must be at least 0"),
        ({"mode": "zca", "components": 2}, "`components` must be .* with mode='pca'"),
        ({"mode": "pca", "components": 0}, "`components` must be a positive integer"),
    ],
    ids=["mode", "epsilon", "components of zca", "no component"],
)
def test_wrong_argument(config, message):
    with pytest.raises(ValueError, match=message):
        Whitening(**config)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(3), "at least one axis of features"),
        ([], "at least one example"),
        (np.array([[1.0, np.nan]]), "`data` must be finite"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], "must have 3 features.* examples with 4 features"),
    ],
    ids=["no axis", "none", "NaN", "other features"],
)
def test_wrong_data(data, message):
    with pytest.raises(ValueError, match=message):
        Whitening().adapt(data)


def test_wrong_shape():
    with pytest.raises(ValueError, match="all features known"):
        Whitening().build((None, None))
    with pytest.raises(ValueError, match="at most the number of features, 2"):
        Whitening("pca", components=3).build((None, 2))
