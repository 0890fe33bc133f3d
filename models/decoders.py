"""Decoders that write text token by token: GPT, and pretrained ones like GPT-2's and Llama's."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops

from models.decoder_layers import decoder_layers, normalized, positions_of, rms_normalized
from models.generation import Steps
from models.lora import merged
from models.transformers import able_to_read

KINDS = {
    "gpt2": "GPT2Backbone",
    "llama": "Llama3Backbone",
    "GPT2Backbone": "GPT2Backbone",
    "LlamaBackbone": "LlamaBackbone",
    "Llama3Backbone": "Llama3Backbone",
}
"""Backbones of KerasHub by the name in `config.json`: Hugging Face's `model_type`, or KerasHub's
`class_name`."""
REQUIRED: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "activation_function": ("gelu_new",),
        "layer_norm_epsilon": (1e-5,),
        "n_inner": (None,),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "tie_word_embeddings": (True,),
    },
    "llama": {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "pretraining_tp": (1,),
    },
}
"""Values of settings in Hugging Face's layout that KerasHub takes for granted; the first one is
that of a file without the setting."""


@keras.saving.register_keras_serializable(package="hornbook")
class PretrainedDecoder(keras.Model):
    """Predicts the next token with a backbone of KerasHub.

    It is a class because KerasHub's Llama layers cannot be saved one by one, and because LoRA's
    updates are merged before the export. A subclass with another `head` has other outputs.

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, section 4.1.
        https://arxiv.org/abs/2106.09685

    Args:
        backbone: A `keras_hub.models.GPT2Backbone`, `LlamaBackbone` or `Llama3Backbone`. Its
            attribute `config` says how to build it.

    Input shape:
        `token_ids` and `padding_mask`, int32 `(batch, tokens)`. A row may hold several texts, as in
        `next_token_logits`.

    Output shape:
        `logits`, float32 `(batch, tokens, vocabulary_size)`, in a dict.
    """

    learned: tuple[str, ...] = ()
    """Names of the layers of the head that learn beside adapters."""

    def __init__(self, backbone: Any, **kwargs):
        super().__init__(backbone.input, self.head(backbone), **kwargs)
        # KerasHub leaves out whether the embeddings are tied.
        tied = {} if _is_gpt2(backbone) else {"tie_word_embeddings": backbone.tie_word_embeddings}
        self._sizes = {**backbone.get_config(), **tied}
        self._kind = type(backbone).__name__

    @staticmethod
    def head(backbone: Any) -> Any:
        """Returns the outputs for the inputs of the backbone."""
        return {"logits": next_token_logits(backbone)}

    def get_config(self):
        return {"name": self.name, "kind": self._kind, "sizes": self._sizes}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        import keras_hub

        backbone = getattr(keras_hub.models, config["kind"]).from_config(dict(config["sizes"]))
        return cls(backbone, name=config["name"])

    def enable_lora(self, rank: int) -> None:
        """Freezes all weights but new adapters of the queries and values, which begin as zero.

        Args:
            rank: Rank of the update of each head; at least 1.
        """
        import keras_hub

        learned = [one for name in self.learned for one in self.get_layer(name).trainable_variables]
        keras_hub.models.Backbone.enable_lora(self, rank, ["query", "value"])
        for variable in self.trainable_variables:
            variable.trainable = "lora" in variable.name  # Keras leaves biases trainable.
        for variable in learned:
            variable.trainable = True

    def with_weights_of(self, values: Mapping[str, Any]) -> Self:
        """Sets the weights that have a value, by path, and returns the network."""
        for variable in self.variables:
            if variable.path in values:
                variable.assign(values[variable.path])
        return self

    def finished(self) -> keras.Model:
        """Returns the network with the updates of the adapters in its weights; itself if none."""
        kernels = merged(self)
        if not kernels:
            return self
        plain = type(self).from_config(self.get_config())
        values = {variable.path: variable for variable in self.variables}
        return plain.with_weights_of(values | kernels)


def pretrained_decoder(
    preset: str,
    length: int = 1,
    vocabulary_size: int = 1,
    lora_rank: int = 0,
    kind: type[PretrainedDecoder] = PretrainedDecoder,
) -> PretrainedDecoder:
    """Loads a decoder in the precision that Keras is set to.

    Args:
        preset: Name of a KerasHub preset, or a folder in KerasHub's or Hugging Face's layout.
        length: Number of tokens per row that it must be able to read.
        vocabulary_size: Number of different tokens that it must know.
        lora_rank: As `rank` of `PretrainedDecoder.enable_lora`; 0: all weights are trained.
        kind: The class of the network.

    Raises:
        ValueError: If it is of another kind, or has a setting that the kind does not.
    """
    import keras_hub
    from keras_hub.src.utils import preset_utils

    path = Path(preset) / "config.json"
    if not Path(preset).exists():
        path = Path(preset_utils.get_file(str(preset), path.name))
    elif not path.is_file():
        raise FileNotFoundError(
            f"{preset}: expected a folder in KerasHub's or Hugging Face's layout. Received: no "
            "config.json in it"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    name = config.get("model_type", config.get("class_name"))
    if name not in KINDS:
        raise ValueError(f"{path}: expected one of {', '.join(KINDS)}. Received: {name}")
    for setting, allowed in REQUIRED.get(name, {}).items():
        if config.get(setting, allowed[0]) not in allowed:
            expected = " or ".join(map(json.dumps, allowed))
            raise ValueError(
                f"{path}: `{setting}` must be {expected}, as KerasHub's {KINDS[name]} has it. "
                f"Received: {json.dumps(config[setting])}"
            )
    backbone = getattr(keras_hub.models, KINDS[name]).from_preset(
        str(preset),
        dtype=keras.config.dtype_policy(),
        **(_unread_by_keras_hub(path, config) if name == "llama" else {}),
    )
    # Rotary positions have no end but that which training had.
    most = None if _is_gpt2(backbone) else config.get("max_position_embeddings", length)
    if backbone.vocabulary_size < vocabulary_size:
        raise ValueError(
            f"{preset}: expected an embedding for each of {vocabulary_size:,} tokens. "
            f"Received: {backbone.vocabulary_size:,}"
        )
    model = kind(able_to_read(length, backbone, most), name="pretrained_decoder")
    if lora_rank:
        model.enable_lora(lora_rank)
    return model


def decoder_features(backbone: Any) -> Any:
    """Returns the features of the tokens of a decoder, where a row may hold several texts.

    `padding_mask` is 0 in padding and elsewhere the number of the text in the row. A token attends
    only to tokens of its text, and its position counts from the beginning of the text.

    Args:
        backbone: A backbone of KerasHub of the kind of GPT-2 or Llama. Rotary positions need not
            be counted anew: only their differences matter.

    Returns:
        A tensor `(batch, tokens, features)`, normalized as `next_token_logits` reads it.
    """
    texts = backbone.input["padding_mask"]
    together = ops.equal(texts[:, :, None], texts[:, None, :])  # (batch, tokens, tokens)
    x = backbone.token_embedding(backbone.input["token_ids"])
    if _is_gpt2(backbone):
        # The first token of the same text is where it begins.
        positions = ops.cumsum(ops.ones_like(texts), axis=1) - 1 - ops.argmax(together, axis=-1)
        x = backbone.embeddings_add([x, backbone.position_embedding(x, positions=positions)])
        x = backbone.embeddings_dropout(x)
    for layer in backbone.transformer_layers:
        x = layer(x, decoder_attention_mask=together)
    return backbone.layer_norm(x)


def next_token_logits(backbone: Any) -> Any:
    """Returns what a decoder predicts for its inputs, as `decoder_features` reads them.

    Returns:
        A tensor of logits, float32 `(batch, tokens, vocabulary_size)`.
    """
    x = backbone.token_embedding(decoder_features(backbone), reverse=True)
    return keras.layers.Activation("linear", dtype="float32", name="logits")(x)


def decoder_steps(
    model: keras.Model, context: int | None = None, prefix: Sequence[int] = ()
) -> Steps:
    """Returns how a decoder reads token by token, with the keys and values of all before.

    Each layer has a cache of keys and values. A token is written at its position in its own row,
    and sees the positions up to its own. So nothing that stands beyond the end of a prompt is ever
    seen: the next token overwrites it first.

    Args:
        model: From `models.gpt.gpt_language_model` or `pretrained_decoder`.
        context: Maximum number of tokens of a row, prompt and answer together. None: all positions
            of a GPT.
        prefix: Tokens before each prompt, which count in the context. They are read once for all
            rows, which then begin with copies of their keys and values.

    Returns:
        The features of `start` are prompts, int32 `(n, tokens)`, -1 in padding, at least one token
        and with the prefix at most the context in each row. Rows that become longer than the cache
        continue writing into its last position.
    """
    layers = decoder_layers(model, "transformer_layer")
    dtype = layers[0].dtype
    embedding = model.get_layer("token_embedding")
    embeddings = tf.convert_to_tensor(embedding.embeddings)
    tokens_table = tf.cast(embeddings, dtype)
    normalize = _last_normalization(model)
    tied = embedding.tie_weights
    kernel = embeddings if tied else tf.convert_to_tensor(embedding.reverse_embeddings)
    positions_table: Any = None
    if _has(model, "position_embedding"):
        positions_table = tf.cast(model.get_layer("position_embedding").position_embeddings, dtype)
    most: int = context or positions_table.shape[0]

    def read(caches, first, tokens):
        """Reads tokens `(n, t)` at the positions from `first` `(n,)` on, in one pass."""
        room = tf.shape(caches[0].keys)[2]
        positions = tf.minimum(first[:, None] + tf.range(tf.shape(tokens)[1]), room - 1)
        x, further = tf.gather(tokens_table, tokens), []
        if positions_table is None:
            further = [layers[0].rotations(positions)]
        else:
            x += tf.gather(positions_table, positions)
        x = tf.reshape(x, (-1, x.shape[-1]))
        where = positions_of(positions, layers[0].heads, room)
        new = []
        for layer, cache in zip(layers, caches, strict=True):
            x, cache, _ = layer.read(x, cache, where, *further)
            new.append(cache)
        return x, new

    def logits(x):
        # In 16 bits, many of a vocabulary would be equal.
        return tf.matmul(tf.cast(normalize(x), tf.float32), kernel, transpose_b=tied)

    def start(prompt, room):
        rows, width = tf.shape(prompt)[0], tf.shape(prompt)[1]
        lengths = tf.reduce_sum(tf.cast(prompt >= 0, tf.int32), axis=1)
        begin = len(prefix)
        room = tf.minimum(begin + width + room, most)
        caches = [layer.empty(1 if prefix else rows, room) for layer in layers]
        if prefix:
            _, caches = read(caches, tf.constant([0]), tf.constant([prefix]))
            caches = pick(caches, tf.zeros((rows,), tf.int32))
        x, caches = read(caches, tf.fill((rows,), begin), tf.maximum(prompt, 0))
        x = tf.gather(x, tf.range(rows) * width + lengths - 1)
        return logits(x), (caches, begin + lengths)

    def step(state, tokens):
        caches, lengths = state
        x, caches = read(caches, lengths, tokens[:, None])
        return logits(x), (caches, lengths + 1)

    def pick(state, rows):
        return tf.nest.map_structure(lambda part: tf.gather(part, rows), state)

    return Steps(start, step, pick)


def _last_normalization(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the normalization after the last layer."""
    if _has(model, "layer_norm"):
        norm = model.get_layer("layer_norm")
        gamma, beta = tf.convert_to_tensor(norm.gamma), tf.convert_to_tensor(norm.beta)
        return lambda x: normalized(x, gamma, beta, norm.epsilon)
    norm = model.get_layer("sequence_output_layernorm")
    scale = tf.convert_to_tensor(norm.scale)
    return lambda x: rms_normalized(x, scale, norm.epsilon)


def _has(model: keras.Model, name: str) -> bool:
    return any(layer.name == name for layer in model.layers)


def _is_gpt2(backbone: Any) -> bool:
    return type(backbone).__name__ == "GPT2Backbone"


def _unread_by_keras_hub(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Returns settings of a Llama in Hugging Face's layout that KerasHub would not read."""
    for setting in ("tie_word_embeddings", "num_key_value_heads"):
        if setting not in config:
            raise ValueError(f"{path}: expected `{setting}`. Received: none. Fix: add it")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    if config.get("head_dim") not in (None, width // heads):
        raise ValueError(
            f"{path}: `head_dim` must be hidden_size / num_attention_heads, {width // heads}. "
            f"Received: {config['head_dim']}"
        )
    rope = {**(config.get("rope_scaling") or {}), **config.get("rope_parameters", {})}
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise ValueError(f"{path}: `rope_type` must be default or llama3. Received: {kind}")
    settings = {"layer_norm_epsilon": config.get("rms_norm_eps", 1e-6)}
    if kind == "default":
        return settings
    return settings | {
        "rope_frequency_adjustment_factor": rope["factor"],
        "rope_low_freq_factor": rope["low_freq_factor"],
        "rope_high_freq_factor": rope["high_freq_factor"],
        "rope_pretraining_sequence_length": rope["original_max_position_embeddings"],
    }
