"""BERT: an encoder of text, and heads for classes, tags, answers and pretraining."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
from keras import ops

from models.transformers import able_to_read, num_orders


class BertSize(NamedTuple):
    """Encoder layers, features of a token, attention heads; the MLP is four times as wide."""

    num_layers: int
    hidden_dim: int
    num_heads: int


BERT_SIZES = {
    "tiny": BertSize(2, 128, 2),
    "mini": BertSize(4, 256, 4),
    "small": BertSize(4, 512, 8),
    "medium": BertSize(8, 512, 8),
    "base": BertSize(12, 768, 12),
    "large": BertSize(24, 1024, 16),
}
"""base and large: Devlin et al. (2019), section 3; the others: Turc et al. (2019), table 1."""

NAMES = ("bert", *(f"bert_{size}" for size in BERT_SIZES))
"""`bert` is pretrained; the others have random initial weights."""

FEATURES = ("token_ids", "segment_ids", "padding_mask")
"""Inputs of every model here, int32 `(batch, tokens)` each; `padding_mask` is 0 in padding."""

POOLS = ("first", "mean")
"""Ways to pool the features of tokens."""

# One per layer, because an initializer draws the same numbers each time.
_initializer = partial(keras.initializers.TruncatedNormal, stddev=0.02)


def bert_backbone(
    size: str = "base", vocabulary_size: int = 30522, max_length: int = 512, dropout: float = 0.1
) -> Any:
    """Builds a BERT encoder with random weights.

    Reference:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language
        Understanding, 2019, section 3. https://arxiv.org/abs/1810.04805
        Turc et al., Well-Read Students Learn Better, 2019. https://arxiv.org/abs/1908.08962

    Args:
        size: `tiny`, `mini`, `small`, `medium`, `base` or `large`.
        vocabulary_size: Size of the tokenizer's vocabulary; at least 1.
        max_length: Maximum number of tokens per row; at least 1.
        dropout: Dropout rate of features and of attention, in [0, 1).

    Returns:
        A `keras_hub.models.BertBackbone`, from features to `sequence_output`
        `(batch, tokens, hidden_dim)` and `pooled_output` `(batch, hidden_dim)`.
    """
    if size not in BERT_SIZES:
        raise ValueError(f"`size` must be one of {', '.join(BERT_SIZES)}. Received: size={size!r}")
    import keras_hub  # It takes a second to load, and no network for images needs it.

    chosen = BERT_SIZES[size]
    return keras_hub.models.BertBackbone(
        vocabulary_size,
        chosen.num_layers,
        chosen.num_heads,
        chosen.hidden_dim,
        4 * chosen.hidden_dim,
        dropout=dropout,
        max_sequence_length=max_length,
        name="bert",
    )


def pretrained_backbone(preset: str, length: int = 1, vocabulary_size: int = 1) -> Any:
    """Loads a BERT encoder.

    Args:
        preset: Name of a KerasHub preset, or a folder in KerasHub's or Hugging Face's layout.
        length: Number of tokens per row that it must be able to read.
        vocabulary_size: Size of its tokenizer's vocabulary.

    Returns:
        A `keras_hub.models.BertBackbone`, as from `bert_backbone`.
    """
    import keras_hub

    backbone = able_to_read(length, keras_hub.models.BertBackbone.from_preset(str(preset)))
    if vocabulary_size > backbone.vocabulary_size:
        raise ValueError(
            f"`preset` must have embeddings for the {vocabulary_size} tokens of its tokenizer. "
            f"Received: preset={str(preset)!r} with {backbone.vocabulary_size} embeddings"
        )
    return backbone


def save_bert(backbone: Any, tokenizer: Any, folder: str | Path) -> None:
    """Writes the preset that `pretrained_backbone` and KerasHub read.

    Args:
        backbone: From `bert_backbone`.
        tokenizer: A `keras_hub.models.BertTokenizer`.
        folder: Folder of the preset.
    """
    import keras_hub

    backbone.save_to_preset(str(folder))
    # Saves the tokenizer, too, and how many tokens KerasHub's text classifier may read.
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=backbone.max_sequence_length
    )
    preprocessor.save_to_preset(str(folder))


def encoder(vocabulary_size: int, *, size: str, preset: str, length: int, dropout: float) -> Any:
    """Builds an encoder with random weights; if `size` is empty, loads a preset instead.

    The arguments are those of `bert_backbone` and `pretrained_backbone`.
    """
    if size:
        return bert_backbone(size, vocabulary_size, length, dropout)
    return pretrained_backbone(preset, length, vocabulary_size)


def bert_classifier(
    backbone: Any,
    num_classes: int,
    dropout: float = 0.1,
    pooling: str = "first",
    orders: str = "given",
) -> keras.Model:
    """Builds a classifier of texts on BERT.

    In one order, `logits = pooled @ kernel + bias`. In both, `pooled` is the mean of those of the
    two orders (symmetric), or their mean beside half of their difference.

    Reference:
        Devlin et al., 2019, section 4.1. https://arxiv.org/abs/1810.04805
        Reimers & Gurevych, Sentence-BERT, 2019, section 3. https://arxiv.org/abs/1908.10084
        orders: Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        section 3.3.

    Args:
        backbone: From `bert_backbone` or `pretrained_backbone`.
        num_classes: Number of classes; at least 1.
        dropout: Dropout rate of the pooled features, in [0, 1).
        pooling: `first`, BERT's own layer on the token `[CLS]`; or `mean`, the mean of the tokens,
            as in the pretraining of Sentence-BERT and similar networks.
        orders: How pairs are read, one of `models.transformers.ORDERS`.

    Returns:
        A model from features, `(batch, tokens)` each, or `(batch, 2, tokens)` for both orders, to
        logits `(batch, num_classes)`.
    """
    if pooling not in POOLS:
        raise ValueError(f"`pooling` must be one of {', '.join(POOLS)}. Received: {pooling=}")
    encode = backbone if pooling == "first" else _tokens(backbone)
    mean = keras.layers.GlobalAveragePooling1D(name="mean")

    def pool(features):
        encoded = encode(features)
        if pooling == "first":
            return encoded["pooled_output"]
        mask = features["padding_mask"]
        # A row of only padding has a mean, too: its first token, which is never padding in others.
        return mean(encoded, mask=ops.concatenate([ops.ones_like(mask[:, :1]), mask[:, 1:]], 1))

    if num_orders(orders) == 1:
        inputs = _inputs()
        pooled = pool(inputs)
    else:
        inputs = _inputs((2, None))
        first, second = (pool({name: inputs[name][:, i] for name in inputs}) for i in range(2))
        pooled = keras.layers.Average(name="orders")([first, second])
        if orders == "both":
            pooled = ops.concatenate([pooled, (first - second) / 2], axis=-1)
    pooled = keras.layers.Dropout(dropout, name="dropout")(pooled)
    return keras.Model(inputs, _linear(num_classes, "logits")(pooled), name="bert_classifier")


def bert_tagger(backbone: Any, num_tags: int, dropout: float = 0.1) -> keras.Model:
    """Builds a classifier of each token on BERT; the tag of a word is that of its first piece.

    Reference:
        Devlin et al., 2019, section 5.3. https://arxiv.org/abs/1810.04805

    Args:
        backbone: From `bert_backbone` or `pretrained_backbone`.
        num_tags: Number of tags; at least 1.
        dropout: Dropout rate of the features of the tokens, in [0, 1).

    Returns:
        A model from features to logits `(batch, tokens, num_tags)`.
    """
    inputs = _inputs()
    tokens = _tokens(backbone)(inputs)
    tokens = keras.layers.Dropout(dropout, name="dropout")(tokens)
    return keras.Model(inputs, _linear(num_tags, "logits")(tokens), name="bert_tagger")


def bert_span(backbone: Any, masked: bool = True) -> keras.Model:
    """Builds a network that finds the first and the last token of an answer.

    Reference:
        Devlin et al., 2019, section 4.2. https://arxiv.org/abs/1810.04805

    Args:
        backbone: From `bert_backbone` or `pretrained_backbone`.
        masked: Whether the features include `answer_mask`: 1 for tokens that may be in an answer, 0
            for others, whose logits become -1e9.

    Returns:
        A model from features to two logits of each token, `start` and `end`, `(batch, tokens)`.
    """
    inputs = _inputs()
    tokens = _tokens(backbone)(inputs)
    logits = _linear(2, "logits")(tokens)  # (batch, tokens, 2)
    if masked:
        inputs["answer_mask"] = keras.Input((None,), dtype="int32", name="answer_mask")
        logits = ops.where(inputs["answer_mask"][:, :, None] > 0, logits, -1e9)
    outputs = {"start": logits[:, :, 0], "end": logits[:, :, 1]}
    return keras.Model(inputs, outputs, name="bert_span")


def bert_pretraining(backbone: Any) -> keras.Model:
    """Builds BERT with its two heads for pretraining: masked words and the next sentence.

    Masked words are predicted by a dense layer with GELU, layer normalization, and the transposed
    token embedding with a bias. The model shares the layers of the backbone, so that training
    changes the backbone, too. Save that with its `save_to_preset`.

    Reference:
        Devlin et al., 2019, section 3.1 and appendix A.2. https://arxiv.org/abs/1810.04805

    Args:
        backbone: From `bert_backbone` or `pretrained_backbone`.

    Returns:
        A model from features and `mask_positions` int32 `(batch, predictions)` to logits:
        `masked_words` `(batch, predictions, vocabulary)` and `next_sentence` `(batch, 2)`.
    """
    import keras_hub

    # Uses the graph of the backbone instead of calling it. Otherwise the embedding would no longer
    # be shared after saving and loading.
    encoded = backbone.output
    positions = keras.Input((None,), dtype="int32", name="mask_positions")
    # Otherwise the head casts to float32 only after the product.
    backbone.token_embedding.reverse_dtype = "float32"
    words = keras_hub.layers.MaskedLMHead(
        token_embedding=backbone.token_embedding,
        intermediate_activation="gelu",
        layer_norm_epsilon=1e-12,
        kernel_initializer=_initializer(),
        dtype="float32",
        name="masked_words",
    )(encoded["sequence_output"], positions)
    outputs = {
        "masked_words": words,
        "next_sentence": _linear(2, "next_sentence")(encoded["pooled_output"]),
    }
    inputs = {**backbone.input, "mask_positions": positions}
    return keras.Model(inputs, outputs, name="bert_pretraining")


def _inputs(shape: tuple[int | None, ...] = (None,)) -> dict[str, Any]:
    return {name: keras.Input(shape, dtype="int32", name=name) for name in FEATURES}


def _tokens(backbone: Any) -> keras.Model:
    """Returns the encoder without the pooling, whose weights would get no gradient."""
    return keras.Model(backbone.input, backbone.output["sequence_output"], name=backbone.name)


def _linear(units: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(units, kernel_initializer=_initializer(), dtype="float32", name=name)
