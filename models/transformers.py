"""What the Transformers of KerasHub have in common: depth of each variable, attention."""

from typing import Any

import keras
from keras import ops

BERT_FEATURES = ("token_ids", "segment_ids", "padding_mask")


def able_to_read(length: int, backbone: Any) -> Any:
    """Returns a pretrained backbone, or raises `ValueError` if it has no places for so many tokens.

    Args:
        length: Tokens of a row.
        backbone: A Transformer of KerasHub.
    """
    if length > backbone.max_sequence_length:
        raise ValueError(
            f"`length` must be at most {backbone.max_sequence_length}, the tokens that the preset "
            f"can read. Received: length={length}"
        )
    return backbone


def attention_weights(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """Computes how much each token attends to each other one, `softmax(query key / sqrt(dim))`.

    Args:
        model: A backbone, or a model of this module.
        inputs: Features `(batch, tokens)`.

    Returns:
        float32 `(layers, batch, heads, tokens, tokens)`: from the token of the fourth axis to that
        of the fifth; each row sums to 1, and padding gets 0.
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
    """Computes how much each token attends to each other one in one layer.

    Args:
        model: As in `attention_weights`.
        inputs: Features of one text, `(1, tokens)`.
        layer: Index of the layer; -1 is the last.
        head: Index of the head; None for the mean of all heads.

    Returns:
        float32 `(tokens, tokens)`.
    """
    heads = attention_weights(model, inputs)[layer, 0]
    return ops.mean(heads, axis=0) if head is None else heads[head]


def require_attention(backbone: Any, layer: int, head: int | None) -> None:
    """Raises `ValueError` unless a Transformer has a layer and a head of these indices."""
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
    """Tells how deep each trainable variable of a Transformer lies, for learning rates by layer.

    Reference:
        Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, 2018,
        section 3.2. https://arxiv.org/abs/1801.06146
        Clark et al., ELECTRA, 2020, appendix A. https://arxiv.org/abs/2003.10555

    Args:
        model: A backbone of KerasHub, BERT or GPT-2, or a model on one.

    Returns:
        From the path of each variable to its depth: 0 in the embeddings, 1 to the number of layers
        in these, and one more in all that follows, the pooling and the last normalization included.
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


def _transformer(model: keras.Model) -> keras.Model:
    """Finds the model that holds the encoder's layers: this one or one inside it."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    for candidate in (model, *inner):
        if _encoder_layers(candidate):
            return candidate
    raise ValueError(
        "`model` must be a Transformer of KerasHub or hold one. "
        f"Received: a model with the layers {', '.join(layer.name for layer in model.layers)}"
    )


def _encoder_layers(model: keras.Model) -> list[Any]:
    import keras_hub

    kinds = (keras_hub.layers.TransformerEncoder, keras_hub.layers.TransformerDecoder)
    return [layer for layer in model.layers if isinstance(layer, kinds)]
