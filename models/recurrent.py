"""Recurrent networks that classify texts, tag their tokens or write them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from layers import (
    AttentionPooling,
    LayerNormalizationGRUCell,
    LayerNormalizationLSTMCell,
    LayerNormalizationSimpleRNNCell,
)
from models.generation import Steps

# These are Keras' own layers, after measurements on 2 CPU cores (bidirectional LSTM of 128 units,
# 32 x 32 tokens, 30 ms of processor time per step). Projecting the inputs of all steps at once took
# as long. Both directions in one loop took a quarter longer. Unrolled loops took as long, and ten
# times as long to build.
CELLS = {
    "lstm": (keras.layers.LSTM, LayerNormalizationLSTMCell),
    "gru": (keras.layers.GRU, LayerNormalizationGRUCell),
    "rnn": (keras.layers.SimpleRNN, LayerNormalizationSimpleRNNCell),
}
"""For each cell, the layer without normalization, and the cell with layer normalization."""

NAMES = ("rnn", "lstm", "gru")
POOLS = ("attention", "last", "max")


def recurrent_classifier(
    vocabulary_size: int,
    num_classes: int,
    cell: str = "lstm",
    units: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    embedding_dim: int = 256,
    dropout: float = 0.3,
    layer_normalization: bool = False,
    pooling: str = "attention",
    pairs: bool = False,
    vectors: np.ndarray | None = None,
) -> keras.Model:
    """Builds a recurrent network that classifies a text or a pair of texts.

    Tokens are embedded and pass through stacked recurrent layers. The states of the last layer are
    pooled, and a linear layer classifies the result. Padding has no influence.

    The two texts of a pair are read separately by the same weights. The input of a hidden layer is
    `[u, v, |u - v|, u * v]` of their pooled features u and v.

    Reference:
        lstm: Hochreiter & Schmidhuber, Long Short-Term Memory, 1997.
        https://doi.org/10.1162/neco.1997.9.8.1735
        gru: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014, equations
        5 to 8, but the reset gate is applied after the recurrent matrix, as in cuDNN.
        https://arxiv.org/abs/1406.1078
        rnn: Elman, Finding Structure in Time, 1990. https://doi.org/10.1207/s15516709cog1402_1
        bidirectional: Schuster & Paliwal, Bidirectional Recurrent Neural Networks, 1997.
        https://doi.org/10.1109/78.650093
        attention: Zhou et al., Attention-Based Bidirectional LSTM for Relation Classification,
        2016. https://aclanthology.org/P16-2034
        max, pairs: Conneau et al., Supervised Learning of Universal Sentence Representations, 2017,
        section 3.2 and figure 1. https://arxiv.org/abs/1705.02364

    Args:
        vocabulary_size: Size of the tokenizer's vocabulary; at least 1.
        num_classes: Number of classes; at least 1.
        cell: `lstm`, `gru` or `rnn`.
        units: Features of the state, per direction; at least 1.
        layers: Number of recurrent layers; at least 1.
        bidirectional: Whether each layer reads in both directions.
        embedding_dim: Features of a token; at least 1.
        dropout: Dropout rate of the embeddings, of the features between layers and of the pooled
            features, in [0, 1).
        layer_normalization: Whether to normalize inside the cells.
        pooling: `attention`, the mean weighted by learned scores; `last`, the final state of each
            direction; or `max`, the maximum of each feature.
        pairs: Whether the examples are pairs of texts.
        vectors: Initial embeddings, float32 `(vocabulary_size, embedding_dim)`, which override
            `embedding_dim`. None: random ones.

    Returns:
        A model from `token_ids`, `segment_ids` (0, but 1 in a second text) and `padding_mask`
        (1, but 0 in padding), int32 `(batch, tokens)` each, to logits `(batch, num_classes)`.
    """
    if pooling not in POOLS:
        raise ValueError(f"`pooling` must be one of {', '.join(POOLS)}. Received: {pooling=}")
    inputs, mask, x = _read(
        vocabulary_size,
        cell,
        units,
        layers,
        bidirectional,
        embedding_dim if vectors is None else vectors.shape[1],
        dropout,
        layer_normalization,
        sequences=pooling != "last",
        pairs=pairs,
    )
    if pooling == "attention":
        x, _ = AttentionPooling(units, name="attention")(x, mask=mask, return_attention_scores=True)
    elif pooling == "max":
        # The states of all cells are at least -1.
        x = ops.max(ops.where(mask[:, :, None], x, -1.0), axis=1)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    if pairs:
        u, v = ops.split(x, 2)
        x = ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1)
        x = keras.layers.Dense(units, activation="relu", name="combined")(x)
        x = keras.layers.Dropout(dropout, name="combined_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return _beginning_with(vectors, keras.Model(inputs, logits, name=f"{cell}_classifier"))


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
    vectors: np.ndarray | None = None,
) -> keras.Model:
    """Builds a recurrent network that classifies each token.

    Reference:
        Huang, Xu & Yu, Bidirectional LSTM-CRF Models for Sequence Tagging, 2015, section 2.2.
        https://arxiv.org/abs/1508.01991

    Args:
        num_tags: Number of tags; at least 1.
        dropout: Dropout rate of the embeddings and of the features of each layer, in [0, 1).
        Other arguments: As of `recurrent_classifier`.

    Returns:
        A model from the inputs of `recurrent_classifier` to logits `(batch, tokens, num_tags)`.
    """
    inputs, _, x = _read(
        vocabulary_size,
        cell,
        units,
        layers,
        bidirectional,
        embedding_dim if vectors is None else vectors.shape[1],
        dropout,
        layer_normalization,
    )
    x = keras.layers.Dropout(dropout, name=f"dropout{layers}")(x)
    logits = keras.layers.Dense(num_tags, dtype="float32", name="logits")(x)
    return _beginning_with(vectors, keras.Model(inputs, logits, name=f"{cell}_tagger"))


def recurrent_language_model(
    vocabulary_size: int,
    cell: str = "lstm",
    units: int = 256,
    layers: int = 1,
    dropout: float = 0.1,
) -> keras.Model:
    """Builds a recurrent network that predicts the next token.

    Reference:
        Mikolov et al., Recurrent Neural Network Based Language Model, 2010.
        https://doi.org/10.21437/Interspeech.2010-343
        lstm: Sundermeyer, Schlüter & Ney, LSTM Neural Networks for Language Modeling, 2012.
        https://doi.org/10.21437/Interspeech.2012-65
        dropout: Zaremba, Sutskever & Vinyals, Recurrent Neural Network Regularization, 2014.
        https://arxiv.org/abs/1409.2329

    Args:
        vocabulary_size: Number of different tokens; at least 1.
        cell: `lstm`, `gru` or `rnn`.
        units: Features of a token and of each state; at least 1.
        layers: Number of recurrent layers; at least 1.
        dropout: Dropout rate of the embeddings and of the features of each layer, in [0, 1).

    Returns:
        A model from `token_ids` and `padding_mask`, int32 `(batch, tokens)`, to `logits`, float32
        `(batch, tokens, vocabulary_size)`, in a dict.
    """
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {', '.join(CELLS)}. Received: {cell=}")
    if layers < 1:
        raise ValueError(f"`layers` must be at least 1. Received: {layers=}")
    names = ("token_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    mask = inputs["padding_mask"] > 0
    x = _embedded({"token_ids": inputs["token_ids"]}, vocabulary_size, units, dropout)
    plain, _ = CELLS[cell]
    for number in range(1, layers + 1):
        layer = plain(units, return_sequences=True, return_state=True, name=f"{cell}{number}")
        x, *_ = layer(x, mask=mask)
        x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    logits = keras.layers.Dense(vocabulary_size, dtype="float32", name="logits")(x)
    return keras.Model(inputs, {"logits": logits}, name=f"{cell}_language_model")


def recurrent_steps(model: keras.Model) -> Steps:
    """Returns how a language model reads token by token; the state is that of its cells.

    Args:
        model: From `recurrent_language_model`.

    Returns:
        The features of `start` are prompts, int32 `(n, tokens)`, -1 in padding, at least one token
        in each row.
    """
    embedding, head = model.get_layer("token_embedding"), model.get_layer("logits")
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]

    def start(prompt, room):
        mask = prompt >= 0
        x, states = embedding(tf.maximum(prompt, 0)), []
        for layer in layers:
            x, *state = layer(x, mask=mask, training=False)
            states.append(state)
        last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) - 1
        return head(tf.gather(x, last, batch_dims=1)), states

    def step(states, tokens):
        x, new = embedding(tokens), []
        for layer, state in zip(layers, states, strict=True):
            x, state = layer.cell(x, state, training=False)
            new.append(list(state))
        return head(x), new

    def pick(states, rows):
        return tf.nest.map_structure(lambda part: tf.gather(part, rows), states)

    return Steps(start, step, pick)


def attention_weights(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """Computes the weight of each token in the pooled features.

    Args:
        model: From `recurrent_classifier` with the pooling `attention`, or `elmo_classifier`.
        inputs: Inputs of the model by name, `(batch, tokens)` or `(batch, tokens, characters)`.

    Returns:
        float32 `(batch, tokens)`. Each row sums to 1, and padding has weight 0. If the texts of a
        pair are pooled separately, each has half of the weight.
    """
    poolings = [layer for layer in model.layers if isinstance(layer, AttentionPooling)]
    if not poolings:
        raise ValueError(
            "`model` must pool by attention. "
            f"Received: a model with the layers {', '.join(layer.name for layer in model.layers)}"
        )
    _, weights = poolings[0].output
    found = keras.Model(model.input, weights)({name: inputs[name] for name in model.input})
    if "combined" not in {layer.name for layer in model.layers}:
        return found
    before = np.sum(np.asarray(inputs["padding_mask"]) * (1 - inputs["segment_ids"]), axis=1)
    first, second = np.split(np.asarray(found), 2)
    moved = [np.roll(row, shift) for row, shift in zip(second, before, strict=True)]
    return (np.roll(first, 1, axis=1) + np.stack(moved)) / 2


def without_cudnn(model: keras.Model) -> None:
    """Makes LSTM and GRU layers use operations that run on every device and under XLA.

    On a GPU Keras runs them in cuDNN, which is faster in training, but does not work under XLA or
    on a server without a GPU. Call this before a model is exported or compiled by XLA.

    Args:
        model: Any model; nested models are changed, too.
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
    pairs: bool = False,
):
    """Returns the inputs, the mask of tokens, and the output of the recurrent layers.

    The output is `(batch, tokens, features)` if `sequences`, else the final `(batch, features)`.
    If `pairs`, the batch has all first texts, then all second ones.
    """
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {', '.join(CELLS)}. Received: {cell=}")
    if layers < 1:
        raise ValueError(f"`layers` must be at least 1. Received: {layers=}")
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    read = _apart(inputs) if pairs else inputs
    mask = read["padding_mask"] > 0
    x = _embedded(read, vocabulary_size, embedding_dim, dropout)
    for number in range(1, layers + 1):
        steps = sequences or number < layers
        layer = _recurrence(cell, units, bidirectional, layer_normalization, steps, number)
        x = layer(x, mask=mask)
        if number < layers:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    return inputs, mask, x


def _beginning_with(vectors: np.ndarray | None, model: keras.Model) -> keras.Model:
    # An initializer with the vectors would be saved with the model a second time.
    if vectors is not None:
        model.get_layer("token_embedding").set_weights([vectors])
    return model


def _apart(inputs: dict[str, Any]) -> dict[str, Any]:
    """Splits pairs into rows `first [SEP]`, followed by the rows `second [SEP]`.

    Both begin at the first token, without the `[CLS]` of the pair, so that equal texts become equal
    rows, and padding is at the end, as cuDNN requires.
    """
    segments, mask = inputs["segment_ids"], inputs["padding_mask"]
    before = ops.sum(mask * (1 - segments), axis=1, keepdims=True)  # (batch, 1)
    positions = ops.cumsum(ops.ones_like(mask), axis=1) - 1  # (batch, tokens)
    rows = []
    for start, size in ((1, before - 1), (before, ops.sum(mask * segments, 1, keepdims=True))):
        own = ops.cast(positions < size, "int32")
        ids = ops.take_along_axis(inputs["token_ids"], own * (positions + start), axis=1)
        rows.append((ids * own, own))
    token_ids, padding_mask = (ops.concatenate(parts, axis=0) for parts in zip(*rows, strict=True))
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def _embedded(inputs, vocabulary_size: int, dim: int, dropout: float):
    """Adds the embeddings of tokens and, if there are any, of segments, `(batch, tokens, dim)`."""
    x = keras.layers.Embedding(vocabulary_size, dim, name="token_embedding")(inputs["token_ids"])
    if "segment_ids" in inputs:
        segments = keras.layers.Embedding(2, dim, name="segment_embedding")
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
