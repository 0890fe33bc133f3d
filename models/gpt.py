"""GPT: a Transformer that reads from left to right, with heads for classification and writing."""

from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from models.decoders import next_token_logits
from models.transformers import able_to_read, num_orders


class GPTSize(NamedTuple):
    """Decoder layers, features of a token, attention heads; the MLP is four times as wide."""

    num_layers: int
    hidden_dim: int
    num_heads: int


GPT_SIZES = {
    "tiny": GPTSize(2, 128, 2),
    "nano": GPTSize(4, 128, 4),
    "baby": GPTSize(6, 384, 6),
    "mini": GPTSize(4, 256, 4),
    "small": GPTSize(4, 512, 8),
    "gpt1": GPTSize(12, 768, 12),
    "gpt2": GPTSize(12, 768, 12),
    "gpt2_medium": GPTSize(24, 1024, 16),
    "gpt2_large": GPTSize(36, 1280, 20),
    "gpt2_xl": GPTSize(48, 1600, 25),
}
"""gpt1: Radford et al. (2018), section 4.1; gpt2: Radford et al. (2019), table 2, with the heads of
its code; tiny, mini and small, for small data: as BERT's, Turc et al. (2019), table 1; nano and
baby: nanoGPT's settings for a CPU and for a GPU, https://github.com/karpathy/nanoGPT."""

NAMES = ("gpt", *(f"gpt_{size}" for size in GPT_SIZES))
"""`gpt` is pretrained; the others have random initial weights."""

POOLS = ()
"""Empty: the classifier always reads the extract token."""

# One per layer, because an initializer draws the same numbers each time.
_initializer = partial(keras.initializers.RandomNormal, stddev=0.02)


def gpt_backbone(
    size: str = "gpt1", vocabulary_size: int = 40478, max_length: int = 512, dropout: float = 0.1
) -> Any:
    """Builds a GPT decoder with random weights.

    In all sizes, each layer begins with its normalization, and one more follows the last layer, as
    in GPT-2. In GPT-1 normalization follows each layer. The embeddings of tokens begin with a
    standard deviation of 0.02 and those of positions with 0.01, as in GPT-2's code, at 768
    features. In narrower networks they are larger, so that the embedding of a token has the same
    norm: smaller ones disappear among the outputs of the layers, and training stalls.

    Reference:
        Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        section 4.1.
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.3.
        https://github.com/openai/gpt-2/blob/master/src/model.py

    Args:
        size: A name in `GPT_SIZES`, such as `tiny` or `gpt2`.
        vocabulary_size: Size of the tokenizer's vocabulary; at least 1.
        max_length: Maximum number of tokens per row; at least 1.
        dropout: Dropout rate of features and of attention, in [0, 1).

    Returns:
        A `keras_hub.models.GPT2Backbone`, from `token_ids` and `padding_mask` `(batch, tokens)` to
        `(batch, tokens, hidden_dim)`.
    """
    if size not in GPT_SIZES:
        raise ValueError(f"`size` must be one of {', '.join(GPT_SIZES)}. Received: size={size!r}")
    import keras_hub  # It takes a second to load, and no network for images needs it.

    chosen = GPT_SIZES[size]
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size,
        chosen.num_layers,
        chosen.num_heads,
        chosen.hidden_dim,
        4 * chosen.hidden_dim,
        dropout=dropout,
        max_sequence_length=max_length,
        name="gpt",
    )
    for layer, stddev in (
        (backbone.token_embedding, 0.02),
        (backbone.position_embedding, 0.01),
    ):
        initializer = keras.initializers.RandomNormal(
            stddev=stddev * (768 / chosen.hidden_dim) ** 0.5
        )
        (table,) = layer.weights
        table.assign(initializer(table.shape, table.dtype))
    return backbone


def pretrained_gpt(preset: str, vocabulary_size: int | None = None, length: int = 1) -> Any:
    """Loads a GPT-2, with embeddings for additional tokens.

    Args:
        preset: Name of a KerasHub preset, or a folder in KerasHub's or Hugging Face's layout.
        vocabulary_size: Number of embeddings, such as `BytePairs.vocabulary_size`. Additional ones
            are initialized by the mean of the others. None: that of the preset.
        length: Number of tokens per row that it must be able to read.

    Returns:
        A `keras_hub.models.GPT2Backbone`, as from `gpt_backbone`.
    """
    import keras_hub

    backbone = able_to_read(length, keras_hub.models.GPT2Backbone.from_preset(str(preset)))
    known = backbone.vocabulary_size
    if vocabulary_size is None or vocabulary_size <= known:
        return backbone
    config = {**backbone.get_config(), "vocabulary_size": vocabulary_size}
    wider = keras_hub.models.GPT2Backbone.from_config(config)
    embedding = ops.convert_to_numpy(backbone.token_embedding.embeddings)
    shape = (vocabulary_size - known, embedding.shape[1])
    # The mean plus noise, so that they differ.
    more = embedding.mean(0) + keras.random.normal(shape, stddev=0.02, seed=0)
    for new, old in zip(wider.trainable_variables, backbone.trainable_variables, strict=True):
        whole = new is wider.token_embedding.embeddings
        new.assign(ops.concatenate([embedding, more]) if whole else old)
    return wider


def decoder(vocabulary_size: int, *, size: str, preset: str, length: int, dropout: float) -> Any:
    """Builds a decoder with random weights; if `size` is empty, loads a preset instead.

    The arguments are those of `gpt_backbone` and `pretrained_gpt`.
    """
    if size:
        return gpt_backbone(size, vocabulary_size, length, dropout)
    return pretrained_gpt(preset, vocabulary_size, length)


def gpt_classifier(
    backbone: Any, num_classes: int, orders: str = "given", dropout: float = 0.1
) -> keras.Model:
    """Builds a classifier of the features of GPT at the extract token.

    Computes `logits = hidden[extract] @ kernel + bias`. Of pairs in both orders, the features are
    summed if `symmetric`, as in the paper, and concatenated if `both`. It does not include the
    auxiliary loss of the paper, that of the next tokens (`L3 = L2 + lambda * L1`).

    Reference:
        Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        sections 3.2 and 3.3.

    Args:
        backbone: From `gpt_backbone` or `pretrained_gpt`.
        num_classes: Number of classes; at least 1.
        orders: How pairs are read, one of `models.transformers.ORDERS`.
        dropout: Dropout rate of the features, in [0, 1); 0.1 in the paper.

    Returns:
        A model from `token_ids` and `padding_mask`, int32 `(batch, orders, tokens)`, and
        `extract`, int32 `(batch, orders)`, to logits `(batch, num_classes)`; 1 or 2 orders.
    """
    count = num_orders(orders)
    inputs = {
        "token_ids": keras.Input((count, None), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((count, None), dtype="int32", name="padding_mask"),
        "extract": keras.Input((count,), dtype="int32", name="extract"),
    }
    extracted = []
    for order in range(count):
        names = ("token_ids", "padding_mask")
        hidden = backbone({name: inputs[name][:, order] for name in names})
        position = inputs["extract"][:, order, None, None]
        extracted.append(ops.take_along_axis(hidden, position, axis=1)[:, 0])  # (batch, hidden_dim)
    joined = keras.layers.Concatenate if orders == "both" else keras.layers.Add
    x = extracted[0] if count == 1 else joined(name="orders")(extracted)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(
        num_classes, kernel_initializer=_initializer(), dtype="float32", name="logits"
    )(x)
    return keras.Model(inputs, logits, name="gpt_classifier")


def gpt_language_model(backbone: Any) -> keras.Model:
    """Builds a network that predicts the next token; the embedding of the tokens is its kernel.

    Reference:
        Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        equation 2.

    Args:
        backbone: From `gpt_backbone` or `pretrained_gpt`.

    Returns:
        A model from `token_ids` and `padding_mask`, int32 `(batch, tokens)`, to `logits`, float32
        `(batch, tokens, vocabulary_size)`, in a dict. A row may hold several texts, as in
        `next_token_logits`.
    """
    logits = {"logits": next_token_logits(backbone)}
    return keras.Model(backbone.input, logits, name="gpt_language_model")
