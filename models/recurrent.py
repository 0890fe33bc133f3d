"""Recurrent networks that classify texts and tag their tokens."""

from typing import Any

import keras
from keras import ops

from layers import (
    AttentionPooling,
    LayerNormalizationGRUCell,
    LayerNormalizationLSTMCell,
    LayerNormalizationSimpleRNNCell,
)

# Keras' own layers. On 2 CPU cores (LSTM of 128 units both ways, 32 x 32 tokens, 30 ms of processor
# time a step) computing the inputs' share of all steps at once took as long, both directions in one
# loop a quarter longer, and unrolled loops as long after ten times the time to build.
CELLS = {
    "lstm": (keras.layers.LSTM, LayerNormalizationLSTMCell),
    "gru": (keras.layers.GRU, LayerNormalizationGRUCell),
    "rnn": (keras.layers.SimpleRNN, LayerNormalizationSimpleRNNCell),
}
"""The layer of each cell, and the cell with normalization inside."""

NAMES = tuple(CELLS)
POOLS = ("attention", "last", "max")


def recurrent_classifier(
    vocabulary_size: int,
    num_classes: int,
    cell: str = "lstm",
    units: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    embedding_dim: int = 128,
    dropout: float = 0.3,
    layer_normalization: bool = False,
    pooling: str = "attention",
) -> keras.Model:
    """Builds a recurrent network that classifies a text or a pair of texts.

    Tokens are embedded, read by recurrent layers, one on another, and the states of the last
    layer are made one, from which a linear layer tells the class. Padding changes nothing.

    Reference:
        lstm: Hochreiter & Schmidhuber, Long Short-Term Memory, 1997.
        https://doi.org/10.1162/neco.1997.9.8.1735
        gru: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014, equations
        5 to 8, but the reset gate multiplies behind the recurrent matrix, as cuDNN has it.
        https://arxiv.org/abs/1406.1078
        rnn: Elman, Finding Structure in Time, 1990. https://doi.org/10.1207/s15516709cog1402_1
        bidirectional: Schuster & Paliwal, Bidirectional Recurrent Neural Networks, 1997.
        https://doi.org/10.1109/78.650093
        attention: Zhou et al., Attention-Based Bidirectional LSTM for Relation Classification,
        2016. https://aclanthology.org/P16-2034
        max: Conneau et al., Supervised Learning of Universal Sentence Representations, 2017,
        section 3.2. https://arxiv.org/abs/1705.02364

    Args:
        vocabulary_size: Tokens that the tokenizer knows; at least 1.
        num_classes: How many classes; at least 1.
        cell: `lstm`, `gru` or `rnn`.
        units: Features of a state, of each direction; at least 1.
        layers: Recurrent layers; at least 1.
        bidirectional: Whether each layer reads from both ends.
        embedding_dim: Features of a token; at least 1.
        dropout: Share of the embeddings, of the features between layers and of the pooled ones
            that training drops, in [0, 1).
        layer_normalization: Whether to normalize inside the cells.
        pooling: `attention`, the mean weighted by learned scores; `last`, the state of each
            direction at its end; or `max`, the largest value of each feature.

    Returns:
        A model from `token_ids`, `segment_ids` (0, and 1 in a second text) and `padding_mask`
        (0 in padding), int32 `(batch, tokens)` each, to logits `(batch, num_classes)`.
    """
    if pooling not in POOLS:
        raise ValueError(f"`pooling` must be one of {', '.join(POOLS)}. Received: {pooling=}")
    inputs, mask, x = _read(
        vocabulary_size,
        cell,
        units,
        layers,
        bidirectional,
        embedding_dim,
        dropout,
        layer_normalization,
        sequences=pooling != "last",
    )
    if pooling == "attention":
        x, _ = AttentionPooling(units, name="attention")(x, mask=mask, return_attention_scores=True)
    elif pooling == "max":
        # No state of any cell is below -1.
        x = ops.max(ops.where(mask[:, :, None], x, -1.0), axis=1)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"{cell}_classifier")


def recurrent_tagger(
    vocabulary_size: int,
    num_tags: int,
    cell: str = "lstm",
    units: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    embedding_dim: int = 128,
    dropout: float = 0.3,
    layer_normalization: bool = False,
) -> keras.Model:
    """Builds a recurrent network that classifies each token.

    Reference:
        Huang, Xu & Yu, Bidirectional LSTM-CRF Models for Sequence Tagging, 2015, section 2.2.
        https://arxiv.org/abs/1508.01991

    Args:
        num_tags: How many tags; at least 1.
        dropout: Share of the embeddings and of each layer's features that training drops, in
            [0, 1).
        The others are those of `recurrent_classifier`.

    Returns:
        A model from what `recurrent_classifier` takes to logits `(batch, tokens, num_tags)`.
    """
    inputs, _, x = _read(
        vocabulary_size,
        cell,
        units,
        layers,
        bidirectional,
        embedding_dim,
        dropout,
        layer_normalization,
    )
    x = keras.layers.Dropout(dropout, name=f"dropout{layers}")(x)
    logits = keras.layers.Dense(num_tags, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"{cell}_tagger")


def attention_weights(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """Computes how much each token counts in the pooled features.

    Args:
        model: From `recurrent_classifier` with the pooling `attention`, or `elmo_classifier`.
        inputs: What the model takes, by name, `(batch, tokens)` or `(batch, tokens, characters)`.

    Returns:
        float32 `(batch, tokens)`; each row sums to 1, and padding gets 0.
    """
    found = [layer for layer in model.layers if isinstance(layer, AttentionPooling)]
    if not found:
        raise ValueError(
            "`model` must pool by attention. "
            f"Received: a model with the layers {', '.join(layer.name for layer in model.layers)}"
        )
    _, weights = found[0].output
    return keras.Model(model.input, weights)({name: inputs[name] for name in model.input})


def without_cudnn(model: keras.Model) -> None:
    """Makes the layers of a model compute in operations that run on every device and under XLA.

    On a GPU Keras' LSTM and GRU run in cuDNN, which is faster in training but which neither XLA
    nor a server without a GPU takes. Call it before the model is exported or compiled by XLA.

    Args:
        model: Any model; models inside it are changed, too.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            without_cudnn(layer)
        wrapped = isinstance(layer, keras.layers.Bidirectional)
        for inner in (layer.forward_layer, layer.backward_layer) if wrapped else (layer,):
            if isinstance(inner, keras.layers.LSTM | keras.layers.GRU):
                inner.use_cudnn = False


def _read(
    vocabulary_size: int,
    cell: str,
    units: int,
    layers: int,
    bidirectional: bool,
    embedding_dim: int,
    dropout: float,
    layer_normalization: bool,
    sequences: bool = True,
):
    """Gives the inputs, which tokens are none, and what the recurrent layers make of the tokens.

    That is `(batch, tokens, features)`, or, unless it is to be `sequences`, the features at the
    end, `(batch, features)`.
    """
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {', '.join(CELLS)}. Received: {cell=}")
    if layers < 1:
        raise ValueError(f"`layers` must be at least 1. Received: {layers=}")
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    mask = inputs["padding_mask"] > 0
    x = _embedded(inputs, vocabulary_size, embedding_dim, dropout)
    for number in range(1, layers + 1):
        steps = sequences or number < layers
        layer = _recurrence(cell, units, bidirectional, layer_normalization, steps, number)
        x = layer(x, mask=mask)
        if number < layers:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    return inputs, mask, x


def _embedded(inputs, vocabulary_size: int, dim: int, dropout: float):
    """Embeds tokens and which text of a pair they are of: `(batch, tokens, dim)`."""
    tokens = keras.layers.Embedding(vocabulary_size, dim, name="token_embedding")
    segments = keras.layers.Embedding(2, dim, name="segment_embedding")
    x = tokens(inputs["token_ids"])
    x = keras.layers.Add(name="embedded")([x, segments(inputs["segment_ids"])])
    return keras.layers.Dropout(dropout, name="embedding_dropout")(x)


def _recurrence(
    cell: str, units: int, bidirectional: bool, normalized: bool, sequences: bool, number: int
) -> keras.layers.Layer:
    plain, normalized_cell = CELLS[cell]
    name = f"{cell}{number}"
    if normalized:
        layer = keras.layers.RNN(normalized_cell(units), return_sequences=sequences, name=name)
    else:
        layer = plain(units, return_sequences=sequences, name=name)
    if not bidirectional:
        return layer
    return keras.layers.Bidirectional(layer, name=f"bidirectional_{name}")
