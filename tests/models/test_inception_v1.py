import keras
import numpy as np
import pytest

from models.inception_v1 import WithAuxiliaryHeads, googlenet
from training.setup import undistributed


def small_model() -> WithAuxiliaryHeads:
    """Three heads on a layer of four features: quick, and enough to see what a head does."""
    images = keras.Input((3,), name="images")
    x = keras.layers.Dense(4, activation="tanh", name="trunk")(images)
    heads = [keras.layers.Dense(2, name=f"head{number}")(x) for number in range(3)]
    return WithAuxiliaryHeads(images, heads, name="small")


@pytest.fixture
def small() -> WithAuxiliaryHeads:
    return small_model()


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    features = random.normal(size=(6, 3)).astype("float32")
    return features, np.eye(2, dtype="float32")[random.integers(0, 2, 6)]


def compiled(model):
    model.compile("sgd", keras.losses.CategoricalCrossentropy(True), metrics=["accuracy"])
    return model


def test_training_loss_is_the_main_one_and_three_tenths_of_the_others(small, batch):
    features, labels = batch
    outputs = small(features, training=True)
    cross_entropy = keras.losses.CategoricalCrossentropy(True)
    main, first, second = (float(cross_entropy(labels, output)) for output in outputs)
    training = compiled(small).train_on_batch(features, labels, return_dict=True)
    assert training["loss"] == pytest.approx(main + 0.3 * first + 0.3 * second, rel=1e-5)


def test_regularization_counts_once(batch):
    images = keras.Input((3,))
    x = keras.layers.Dense(4, kernel_regularizer="l2")(images)
    heads = [keras.layers.Dense(2)(x) for _ in range(3)]
    model, plain = WithAuxiliaryHeads(images, heads), keras.Model(images, heads)
    features, labels = batch
    cross_entropy = keras.losses.CategoricalCrossentropy(True)
    main, first, second = (float(cross_entropy(labels, head)) for head in plain(features))
    expected = main + 0.3 * (first + second) + float(sum(plain.losses))
    loss = compiled(model).train_on_batch(features, labels, return_dict=True)["loss"]
    assert loss == pytest.approx(expected, rel=1e-5)


def test_evaluation_prediction_and_export_know_only_the_main_head(small, batch, tmp_path):
    features, labels = batch
    main = np.array(small(features, training=True)[0])
    assert small(features).shape == (6, 2)
    scores = compiled(small).test_on_batch(features, labels, return_dict=True)
    expected = keras.losses.CategoricalCrossentropy(True)(labels, main)
    assert scores["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert scores["accuracy"] == np.mean(main.argmax(-1) == labels.argmax(-1))
    np.testing.assert_allclose(small.predict(features, verbose=0), main, rtol=1e-5)
    small.export(tmp_path / "1", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "1", call_endpoint="serve")
    np.testing.assert_allclose(served(features), main, rtol=1e-5)


def test_fit_trains_every_head(small, batch):
    before = [np.array(weight) for weight in small.weights]
    compiled(small).fit(*batch, epochs=1, batch_size=3, shuffle=False, verbose=0)
    assert all(np.any(w != b) for w, b in zip(small.weights, before, strict=True))


def test_model_with_heads_clones_and_survives_saving(small, batch, tmp_path):
    small.save(tmp_path / "model.keras")
    clone = keras.models.clone_model(small)
    clone.set_weights(small.get_weights())
    for copy in (keras.models.load_model(tmp_path / "model.keras"), clone):
        assert isinstance(copy, WithAuxiliaryHeads)
        for answer, expected in zip(
            copy(batch[0], training=True), small(batch[0], training=True), strict=True
        ):
            np.testing.assert_allclose(answer, expected, rtol=1e-6)


def test_model_without_heads_shares_layers_and_saves_as_a_plain_model(small, batch, tmp_path):
    plain = small.finished()
    assert plain.get_layer("trunk") is small.get_layer("trunk")
    assert len(plain.weights) == 4
    plain.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert not isinstance(restored, WithAuxiliaryHeads)
    np.testing.assert_allclose(restored(batch[0]), small(batch[0]), rtol=1e-6)


def test_as_part_of_another_model_it_has_one_output(small):
    images = keras.Input((3,))
    assert keras.Model(images, small(images)).output_shape == (None, 2)


def test_heads_are_there_to_be_dropped_after_training(small):
    trained = undistributed(compiled(small), small_model)
    assert isinstance(trained, WithAuxiliaryHeads) and not trained.compiled
    assert len(trained.finished().outputs) == 1


def test_googlenet_counts_seven_million_without_heads():
    with keras.StatelessScope(initialize_variables=False):
        model = googlenet()
    assert isinstance(model, WithAuxiliaryHeads)
    assert model.finished().count_params() == 6_998_552
    # Table 1 and section 5: each head is a 1 x 1 convolution and two dense layers.
    head = (128 + 2048 * 1024 + 1024) + 1024 * 1000 + 1000
    assert model.count_params() == 6_998_552 + 2 * head + 512 * 128 + 528 * 128


@pytest.mark.slow
def test_googlenet_trains_on_one_batch():
    model = googlenet(input_shape=(65, 65, 1), num_classes=2)
    images = np.random.default_rng(0).uniform(0, 1, (4, 65, 65, 1)).astype("float32")
    labels = np.eye(2, dtype="float32")[[0, 1, 0, 1]]
    images[1::2] /= 4
    loss = keras.losses.CategoricalCrossentropy(True)
    # Eagerly: a handful of steps is done before a graph would be made.
    model.compile(keras.optimizers.Adam(3e-4), loss, run_eagerly=True)
    before = model.test_on_batch(images, labels)
    for _ in range(3):
        model.train_on_batch(images, labels)
    assert model.test_on_batch(images, labels) < before
