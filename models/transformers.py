"""Functions for the Transformers of KerasHub: attention, and the depth of each variable."""

from typing import Any

import keras
from keras import ops

BERT_FEATURES = ("token_ids", "segment_ids", "padding_mask")
ORDERS = ("given", "both", "symmetric")
"""Orders in which classifiers of BERT and GPT read a pair: that of the data, or both. `symmetric`
stands for both if their order has no meaning. Single texts have one, `given`."""


def num_orders(orders: str) -> int:
    """Returns in how many orders of `ORDERS` each example is read.

    Example:
        >>> num_orders("symmetric")
        2
    """
    if orders not in ORDERS:
        raise ValueError(f"`orders` must be one of {', '.join(ORDERS)}. Received: {orders=}")
    return 1 if orders == "given" else 2


def able_to_read(length: int, backbone: Any, most: int | None = None) -> Any:
    """Returns a pretrained backbone; raises `ValueError` if its rows are shorter than `length`.

    Args:
        length: Number of tokens per row.
        backbone: A Transformer of KerasHub.
        most: Number of tokens that it can read. None: that of its positions.
    """
    most = backbone.max_sequence_length if most is None else most
    if length > most:
        raise ValueError(
            f"`length` must be at most {most}, the number of tokens that the preset can read. "
            f"Received: length={length}"
        )
    return backbone


def attention_weights(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """Computes the attention weights between all tokens, `softmax(query key / sqrt(dim))`.

    Args:
        model: A BERT backbone, or a model on one.
        inputs: Features `(batch, tokens)`.

    Returns:
        float32 `(layers, batch, heads, tokens, tokens)`, from each token of the fourth axis to each
        token of the fifth. Each row sums to 1, and padding has weight 0.
    """
    backbone = _transformer(model)
    inputs = {name: ops.convert_to_tensor(inputs[name]) for name in BERT_FEATURES}
    embedded = keras.Model(
        [backbone.get_layer(name).output for name in BERT_FEATURES],
        backbone.get_layer("embeddings_dropout").output,
    )
    x = embedded([inputs[name] for name in BERT_FEATURES])
    weights = []
    for layer in _encoder_layers(backbone):
        x, scores = layer(
            x, padding_mask=inputs["padding_mask"], training=False, return_attention_scores=True
        )
        weights.append(ops.cast(scores, "float32"))
    return ops.stack(weights)


def attention_of(
    model: keras.Model, inputs: dict[str, Any], layer: int, head: int | None = None
) -> Any:
    """Computes the attention weights between all tokens in one layer.

    Args:
        model: As in `attention_weights`.
        inputs: Features of one text, `(1, tokens)`.
        layer: Index of the layer; -1 is the last.
        head: Index of the head. None: the mean of all heads.

    Returns:
        float32 `(tokens, tokens)`.
    """
    heads = attention_weights(model, inputs)[layer, 0]
    return ops.mean(heads, axis=0) if head is None else heads[head]


def require_attention(backbone: Any, layer: int, head: int | None) -> None:
    """Raises `ValueError` unless a Transformer has a layer and a head with these indices."""
    layers, heads = backbone.num_layers, backbone.num_heads
    if not -layers <= layer < layers:
        raise ValueError(
            f"`attention_layer` must be in {-layers} to {layers - 1}, the layers of the network. "
            f"Received: attention_layer={layer}"
        )
    if head is not None and not 0 <= head < heads:
        raise ValueError(
            f"`attention_head` must be in 0 to {heads - 1}, the heads of the network. "
            f"Received: attention_head={head}"
        )


def depths(model: keras.Model) -> dict[str, int]:
    """Returns the depth of each trainable variable of a Transformer, for learning rates by layer.

    Reference:
        Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, 2018,
        section 3.2. https://arxiv.org/abs/1801.06146
        Clark et al., ELECTRA, 2020, appendix A. https://arxiv.org/abs/2003.10555

    Args:
        model: A backbone of KerasHub, BERT or GPT-2, or a model on one.

    Returns:
        The depth of each variable by its path: 0 for embeddings, 1 to the number of layers for
        these, and one more for everything after them, such as pooling and the last normalization.
    """
    backbone = _transformer(model)
    layers = _encoder_layers(backbone)
    depth = {id(v): len(layers) + 1 for v in model.trainable_variables}
    for layer in backbone.layers:
        if "embedding" in layer.name:
            depth.update((id(v), 0) for v in layer.trainable_variables)
    for number, layer in enumerate(layers, 1):
        depth.update((id(v), number) for v in layer.trainable_variables)
    return {v.path: depth[id(v)] for v in model.trainable_variables}


def width(model: keras.Model) -> int:
    """Returns the number of features of a token in a Transformer of KerasHub, or a model on one."""
    table = next(w for w in model.weights if w.path.endswith("token_embedding/embeddings"))
    return table.shape[-1]


def _transformer(model: keras.Model) -> keras.Model:
    """Finds the model with the encoder's layers: this one or one inside it."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    for candidate in (model, *inner):
        if _encoder_layers(candidate):
            return candidate
    raise ValueError(
        "`model` must be a Transformer of KerasHub or contain one. "
        f"Received: a model with the layers {', '.join(layer.name for layer in model.layers)}"
    )


def _encoder_layers(model: keras.Model) -> list[Any]:
    import keras_hub

    kinds = (keras_hub.layers.TransformerEncoder, keras_hub.layers.TransformerDecoder)
    return [layer for layer in model.layers if isinstance(layer, kinds)]
