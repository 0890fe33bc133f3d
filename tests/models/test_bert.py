import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from models.bert import (
    BERT_SIZES,
    FEATURES,
    BertSize,
    bert_backbone,
    bert_classifier,
    bert_pretraining,
    bert_span,
    bert_tagger,
    pretrained_backbone,
)
from models.transformers import attention_weights, depths, width
from tests.models.blueprint import blueprint, count, with_slow

MODELS = {
    "classifier": lambda backbone: bert_classifier(backbone, 3),
    "classifier of the mean": lambda backbone: bert_classifier(backbone, 3, pooling="mean"),
    "classifier of both orders": lambda backbone: bert_classifier(
        backbone, 3, pooling="mean", orders="both"
    ),
    "tagger": lambda backbone: bert_tagger(backbone, 4),
    "span": bert_span,
    "span without mask": lambda backbone: bert_span(backbone, masked=False),
    "pretraining": bert_pretraining,
}


@pytest.fixture(autouse=True)
def quick_size(monkeypatch):
    monkeypatch.setitem(BERT_SIZES, "quick", BertSize(2, 16, 2))


def quick_backbone(dropout: float = 0.0):
    return bert_backbone("quick", vocabulary_size=30, max_length=12, dropout=dropout)


def features(rows: int = 3, tokens: int = 7, vocabulary: int = 30) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    lengths = np.array([[tokens], [tokens - 3], [tokens - 1]][:rows])
    mask = (np.arange(tokens) < lengths).astype("int32")
    return {
        "token_ids": random.integers(5, vocabulary, (rows, tokens)).astype("int32") * mask,
        "segment_ids": (np.arange(tokens) > 3).astype("int32") * mask,
        "padding_mask": mask,
    }


def fitting(model: keras.Model) -> dict[str, np.ndarray]:
    given = features()
    given["answer_mask"] = given["segment_ids"]
    given["mask_positions"] = np.array([[1, 2], [0, 3], [5, 1]], "int32")
    return {
        name: given[name] if len(wanted.shape) == 2 else np.stack([given[name], given[name]], 1)
        for name, wanted in model.input.items()
    }


@pytest.mark.parametrize(
    ("size", "published"),
    [("base", 109_482_240), pytest.param("large", 335_141_888, marks=pytest.mark.slow)],
)
def test_parameters_of_the_encoder_are_the_published_number(size, published):
    assert count(blueprint(bert_backbone, size).trainable_weights) == published


@pytest.mark.parametrize(
    ("size", "published"),
    [("tiny", 4.4), ("mini", 11.3), ("small", 29.1), ("medium", 41.7), ("base", 110.1)],
)
def test_parameters_with_the_masked_words_round_to_the_published_millions(size, published):
    model = blueprint(lambda: bert_pretraining(bert_backbone(size)))
    assert round(count(model.trainable_weights) / 1e6, 1) == published


def normalized(x: np.ndarray, layer) -> np.ndarray:
    gamma, beta = (np.asarray(weight) for weight in layer.get_weights())
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return (x - x.mean(-1, keepdims=True)) / spread * gamma + beta


def numpy_bert(backbone, inputs) -> tuple[np.ndarray, np.ndarray]:
    """BERT written out: the last features and each layer's attention."""
    tables = [
        np.asarray(backbone.get_layer(f"{kind}_embedding").get_weights()[0])
        for kind in ("token", "segment", "position")
    ]
    x = tables[0][inputs["token_ids"]] + tables[1][inputs["segment_ids"]]
    x = normalized(x + tables[2][: x.shape[1]], backbone.embeddings_layer_norm)
    attention = []
    for layer in backbone.transformer_layers:
        weights = layer.get_weights()
        (wq, bq, wk, bk, wv, bv, wo, bo), rest = weights[:8], weights[8:]
        query, key, value = (
            np.einsum("btd,dhe->bhte", x, w) + b[:, None] for w, b in ((wq, bq), (wk, bk), (wv, bv))
        )
        scores = np.einsum("bhte,bhse->bhts", query, key) / np.sqrt(wq.shape[-1])
        scores = np.where(inputs["padding_mask"][:, None, None] > 0, scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attention.append(scores / scores.sum(-1, keepdims=True))
        mixed = np.einsum("bhts,bhse,hed->btd", attention[-1], value, wo) + bo
        x = normalized(x + mixed, layer._self_attention_layer_norm)
        w1, b1, w2, b2 = rest[-4:]
        wide = x @ w1 + b1
        wide = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        x = normalized(x + wide @ w2 + b2, layer._feedforward_layer_norm)
    return x, np.stack(attention)


def test_features_and_attention_are_those_of_bert_written_out():
    backbone = quick_backbone()
    weights = backbone.trainable_variables
    random = np.random.default_rng(1)
    for weight in weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    inputs = features()
    x, attention = numpy_bert(backbone, inputs)
    real = inputs["padding_mask"] > 0
    answer = np.asarray(backbone(inputs)["sequence_output"])
    np.testing.assert_allclose(answer[real], x[real], atol=1e-4)
    assert attention.std() > 0.05
    models = backbone, bert_tagger(backbone, 2), bert_pretraining(backbone)
    for model in models:
        scores = np.asarray(attention_weights(model, inputs))
        assert scores.shape == (2, 3, 2, 7, 7)
        np.testing.assert_allclose(scores, attention, atol=1e-5)


def test_the_classifier_is_that_of_kerashub():
    backbone = quick_backbone()
    model = bert_classifier(backbone, 3)
    reference = keras_hub.models.BertTextClassifier(quick_backbone(), 3, preprocessor=None)
    reference.backbone.set_weights(backbone.get_weights())
    reference.output_dense.set_weights(model.get_layer("logits").get_weights())
    np.testing.assert_allclose(model(features()), reference(features()), atol=1e-4)


def test_masked_words_are_those_of_kerashub_and_share_the_embedding():
    backbone = quick_backbone()
    model = bert_pretraining(backbone)
    reference = keras_hub.models.BertMaskedLM(quick_backbone(), preprocessor=None)
    reference.masked_lm_head._intermediate_layer_norm.epsilon = 1e-12
    reference.backbone.set_weights(backbone.get_weights())
    head = [weight for weight in model.weights if "masked_words" in weight.path]
    own = [w for w in reference.weights if "mlm_head" in w.path]
    for weight, value in zip(own, head, strict=True):
        weight.assign(value)
    inputs = fitting(model)
    answer = model(inputs)
    assert answer["masked_words"].shape == (3, 2, 30) and answer["next_sentence"].shape == (3, 2)
    np.testing.assert_allclose(answer["masked_words"], reference(inputs), atol=1e-4)
    backbone.token_embedding.embeddings.assign(backbone.token_embedding.embeddings * 0)
    (bias,) = (weight for weight in head if weight.shape == (30,))
    np.testing.assert_allclose(model(inputs)["masked_words"], np.zeros((3, 2, 30)) + bias)


def test_logits_of_masked_words_are_not_rounded_to_16_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = bert_pretraining(quick_backbone())
    logits = np.asarray(model(fitting(model))["masked_words"])
    rounded = tf.cast(tf.cast(logits, "bfloat16"), "float32").numpy()
    assert np.mean(logits == rounded) < 0.1


def test_tags_and_spans_are_linear_in_the_features():
    backbone = quick_backbone()
    sequence = np.asarray(backbone(features())["sequence_output"])
    tagger, span = bert_tagger(backbone, 4), bert_span(backbone)
    kernel, bias = tagger.get_layer("logits").get_weights()
    np.testing.assert_allclose(tagger(features()), sequence @ kernel + bias, atol=1e-5)
    kernel, bias = span.get_layer("logits").get_weights()
    answer = span(fitting(span))
    for number, name in enumerate(("start", "end")):
        logits = (sequence @ kernel + bias)[..., number]
        logits = np.where(fitting(span)["answer_mask"] > 0, logits, -1e9)
        np.testing.assert_allclose(answer[name], logits, atol=1e-5)


def test_padding_changes_no_answer():
    model = bert_classifier(quick_backbone(), 3)
    short = features(tokens=7)
    long = {name: np.pad(values, ((0, 0), (0, 5))) for name, values in short.items()}
    long["token_ids"][:, 7:] = 9
    np.testing.assert_allclose(model(short), model(long), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", with_slow(MODELS, ("classifier of the mean", "span without mask")))
def test_every_model_survives_saving_and_compiles(name, tmp_path):
    model = MODELS[name](quick_backbone(0.1))
    inputs = fitting(model)
    answer = model(inputs)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    compiled = tf.function(model, jit_compile=True, autograph=False)(inputs)
    for other in (restored(inputs), compiled):
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), answer, other
        )
    assert depths(restored).values() and len(depths(restored)) == len(depths(model))
    assert count(restored.trainable_weights) == count(model.trainable_weights)
    if name == "pretraining":
        embedding = restored.get_layer("token_embedding")
        assert restored.get_layer("masked_words").token_embedding is embedding


@pytest.mark.parametrize("name", MODELS)
def test_every_model_answers_in_float32_under_mixed_precision(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = MODELS[name](quick_backbone())
    for logits in tf.nest.flatten(model(fitting(model))):
        assert logits.dtype == tf.float32 and np.isfinite(logits).all()


@pytest.mark.slow  # The apps train it, too.
def test_the_loss_falls_on_one_batch():
    model = bert_classifier(quick_backbone(), 3, dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=True)
    labels = np.array([0, 1, 2])
    losses = []
    for _ in range(8):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(features(), labels)))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("build", [lambda backbone: bert_tagger(backbone, 3), bert_span])
def test_heads_on_tokens_do_without_the_pooling(build):
    backbone = quick_backbone()
    model = build(backbone)
    names = {path.partition("/")[0] for path in depths(model)}
    assert names - {path.partition("/")[0] for path in depths(backbone)} == {"logits"}
    assert "pooled_dense" not in names
    head = model.get_layer("logits")
    left = [*backbone.trainable_weights, *head.trainable_weights]
    assert count(model.trainable_weights) == count(left) - (16 * 16 + 16)


def test_mean_pooling_is_the_mean_of_the_tokens_that_are_no_padding():
    backbone = quick_backbone()
    model = bert_classifier(backbone, 3, pooling="mean")
    given = features()
    sequence = np.asarray(backbone(given)["sequence_output"])
    mask = given["padding_mask"][:, :, None]
    mean = (sequence * mask).sum(1) / mask.sum(1)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(given), mean @ np.asarray(kernel) + bias, atol=1e-6)
    padding = {name: np.zeros_like(value) for name, value in given.items()}
    assert np.isfinite(model(padding)).all()
    with pytest.raises(ValueError, match="`pooling` must be one of first, mean"):
        bert_classifier(backbone, 3, pooling="max")


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_logits_of_pairs_are_the_mean_of_those_of_each_order_and_their_difference(pooling):
    backbone = quick_backbone()
    single = bert_classifier(backbone, 3, pooling=pooling)
    symmetric, both = (
        bert_classifier(backbone, 3, pooling=pooling, orders=orders)
        for orders in ("symmetric", "both")
    )
    kernel, bias = map(np.asarray, single.get_layer("logits").get_weights())
    symmetric.get_layer("logits").set_weights([kernel, bias])
    assert len(symmetric.weights) == len(both.weights) == len(single.weights)
    some, other = features(), features()
    other["token_ids"] = other["token_ids"][:, ::-1]
    together = {name: np.stack([some[name], other[name]], 1) for name in some}
    mean = (single(some) + single(other)) / 2
    np.testing.assert_allclose(symmetric(together), mean, atol=1e-5)
    # A kernel of 2 instead of 1 for the difference.
    both.get_layer("logits").set_weights([np.concatenate([kernel, 2 * kernel]), bias])
    wanted = mean + single(some) - single(other)
    np.testing.assert_allclose(both(together), wanted, atol=1e-5)
    assert np.abs(single(some) - single(other)).max() > 1e-3
    with pytest.raises(ValueError, match="`orders` must be one of given, both, symmetric"):
        bert_classifier(backbone, 3, orders="reversed")


def test_depths_count_from_the_embeddings_to_the_head():
    model = bert_classifier(quick_backbone(), 3)
    depth = depths(model)
    assert depth.keys() == {v.path for v in model.trainable_variables}
    assert len(depth) == len(model.trainable_variables)
    found = {path: value for path, value in depth.items() if "embedding" in path}
    assert set(found.values()) == {0} and len(found) == 5
    assert {v for p, v in depth.items() if "transformer_layer_0/" in p} == {1}
    assert {v for p, v in depth.items() if "transformer_layer_1/" in p} == {2}
    assert {p for p, v in depth.items() if v == 3} == {
        f"{layer}/{kind}" for layer in ("pooled_dense", "logits") for kind in ("kernel", "bias")
    }
    gpt = keras_hub.models.GPT2Backbone(9, 2, 1, 4, 4)
    assert {v for p, v in depths(gpt).items() if "transformer" not in p} == {0, 3}
    pretraining = bert_pretraining(quick_backbone())
    assert set(depths(pretraining).values()) == {0, 1, 2, 3}


def test_a_model_without_transformer_is_refused():
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="must be a Transformer of KerasHub or contain one"):
        depths(keras.Model(inputs, keras.layers.Dense(2)(inputs)))


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="`size` must be one of tiny, mini"):
        bert_backbone("huge")


def test_a_preset_answers_as_kerashubs_own_backbone(tmp_path):
    saved = quick_backbone()
    saved.save_to_preset(tmp_path)
    inputs = features()
    loaded = pretrained_backbone(str(tmp_path), 12, 30)
    tf.nest.map_structure(np.testing.assert_array_equal, loaded(inputs), saved(inputs))
    with pytest.raises(ValueError, match="`length` must be at most 12, the number of tokens that"):
        pretrained_backbone(str(tmp_path), 13)
    with pytest.raises(
        ValueError, match="`preset` must have embeddings for the 31 tokens of its tokenizer"
    ):
        pretrained_backbone(str(tmp_path), 12, 31)


@pytest.mark.slow
def test_a_published_preset_answers_as_bert_written_out(minilm):
    backbone = pretrained_backbone(str(minilm), 512)
    model = bert_classifier(backbone, 2, dropout=0.0)
    inputs = features(rows=2, vocabulary=30522)
    pooled = np.asarray(backbone(inputs)["pooled_output"])
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(inputs), pooled @ kernel + bias, atol=1e-4)
    x, attention = numpy_bert(backbone, inputs)
    real = inputs["padding_mask"] > 0
    sequence = np.asarray(backbone(inputs)["sequence_output"])
    np.testing.assert_allclose(sequence[real], x[real], atol=1e-3)
    np.testing.assert_allclose(attention_weights(model, inputs), attention, atol=1e-4)
    assert set(FEATURES) == set(model.input)


def test_width_is_the_number_of_features_of_a_token():
    backbone = bert_backbone("tiny", 30, 12)
    assert width(bert_classifier(backbone, 3)) == 128
