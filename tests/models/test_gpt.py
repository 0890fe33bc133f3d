import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from models.gpt import GPT_SIZES, GPTSize, gpt_backbone, gpt_classifier, pretrained_gpt
from models.transformers import ORDERS, num_orders
from tests.models.blueprint import blueprint, count


@pytest.fixture(autouse=True)
def quick_size(monkeypatch):
    monkeypatch.setitem(GPT_SIZES, "quick", GPTSize(2, 16, 2))


def quick_backbone(dropout: float = 0.0):
    return gpt_backbone("quick", vocabulary_size=30, max_length=12, dropout=dropout)


def features(orders: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    lengths = np.array([[7], [4], [6]])
    mask = (np.arange(7) < lengths).astype("int32")[:, None].repeat(orders, 1)
    return {
        "token_ids": random.integers(5, 30, (3, orders, 7)).astype("int32") * mask,
        "padding_mask": mask,
        "extract": (lengths - 1).astype("int32").repeat(orders, 1),
    }


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("gpt2", 124_439_808),
        pytest.param("gpt2_medium", 354_823_168, marks=pytest.mark.slow),
        pytest.param("gpt2_large", 774_030_080, marks=pytest.mark.slow),
        pytest.param("gpt2_xl", 1_557_611_200, marks=pytest.mark.slow),
    ],
)
def test_parameters_of_gpt2_are_the_published_number(size, published):
    network = blueprint(gpt_backbone, size, vocabulary_size=50257, max_length=1024)
    assert count(network.trainable_weights) == published


def test_parameters_of_gpt1_are_those_published_with_one_more_normalization():
    assert count(blueprint(gpt_backbone, "gpt1").trainable_weights) == 116_534_784 + 2 * 768


@pytest.mark.parametrize("orders", ORDERS)
def test_logits_are_linear_in_the_features_at_the_extract_tokens(orders):
    backbone = quick_backbone()
    model = gpt_classifier(backbone, 3, orders)
    inputs = features(num_orders(orders))
    found = []
    for order in range(num_orders(orders)):
        names = ("token_ids", "padding_mask")
        hidden = np.asarray(backbone({name: inputs[name][:, order] for name in names}))
        found.append(hidden[np.arange(3), inputs["extract"][:, order]])
    together = np.concatenate(found, axis=1) if orders == "both" else sum(found)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(inputs), together @ kernel + bias, atol=1e-5)


def test_the_order_of_a_pair_does_not_matter_when_both_are_given():
    model = gpt_classifier(quick_backbone(), 3, "symmetric")
    inputs = features(2)
    turned = {name: values[:, ::-1] for name, values in inputs.items()}
    np.testing.assert_allclose(model(inputs), model(turned), atol=1e-5)


def test_what_follows_the_extract_token_changes_no_answer():
    model = gpt_classifier(quick_backbone(), 3)
    inputs = features(1)
    longer = {
        name: np.pad(inputs[name], ((0, 0), (0, 0), (0, 5))) for name in inputs if name != "extract"
    }
    longer["token_ids"][inputs["padding_mask"].shape[0] - 1, :, 7:] = 9
    np.testing.assert_allclose(model(inputs), model({**inputs, **longer}), atol=1e-5)


@pytest.mark.parametrize("orders", [pytest.param("given", marks=pytest.mark.slow), "symmetric"])
def test_the_model_survives_saving_and_compiles(orders, tmp_path):
    model = gpt_classifier(quick_backbone(0.1), 3, orders)
    inputs = features(num_orders(orders))
    answer = model(inputs)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(restored(inputs), answer, atol=1e-5)
    compiled = tf.function(model, jit_compile=True, autograph=False)(inputs)
    np.testing.assert_allclose(compiled, answer, rtol=1e-4, atol=1e-5)


def test_the_loss_falls_on_one_batch():
    model = gpt_classifier(quick_backbone(), 3, "symmetric", dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=True)
    losses = []
    for _ in range(8):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(features(2), np.array([0, 1, 2]))))
    assert losses[-1] < 0.7 * losses[0]


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    logits = gpt_classifier(quick_backbone(), 3, "symmetric")(features(2))
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()


def test_a_preset_is_widened_by_tokens_and_else_unchanged(tmp_path):
    saved = keras_hub.models.GPT2Backbone(30, 2, 2, 16, 32, max_sequence_length=12)
    saved.save_to_preset(tmp_path)
    same, wider = pretrained_gpt(tmp_path), pretrained_gpt(tmp_path, 32)
    inputs = {name: features(1)[name][:, 0] for name in ("token_ids", "padding_mask")}
    np.testing.assert_allclose(same(inputs), saved(inputs), atol=1e-6)
    np.testing.assert_allclose(wider(inputs), saved(inputs), atol=1e-6)
    new = np.asarray(wider.token_embedding.embeddings)[30:]
    assert new.shape == (2, 16) and not np.allclose(new[0], new[1])
    assert pretrained_gpt(tmp_path, 29).vocabulary_size == 30
    with pytest.raises(ValueError, match="`length` must be at most 12, the number of tokens that"):
        pretrained_gpt(tmp_path, length=13)


def test_embeddings_of_tokens_begin_with_the_norm_that_they_have_in_gpt2(monkeypatch):
    for width in (48, 192):
        monkeypatch.setitem(GPT_SIZES, "wide", GPTSize(1, width, 2))
        backbone = gpt_backbone("wide", vocabulary_size=2000, max_length=1000)
        for layer, stddev in (
            (backbone.token_embedding, 0.02),
            (backbone.position_embedding, 0.01),
        ):
            norms = np.linalg.norm(np.asarray(layer.weights[0]), axis=1)
            assert np.sqrt(np.mean(norms**2)) == pytest.approx(stddev * 768**0.5, rel=0.02)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="`size` must be one of tiny, nano"):
        gpt_backbone("huge")
