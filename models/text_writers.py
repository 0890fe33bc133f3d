"""The networks that write texts token by token, by name."""

from collections.abc import Callable, Sequence
from functools import partial

import keras

from models import gpt, recurrent
from models.decoders import decoder_steps, pretrained_decoder
from models.generation import Steps

NAMES = (*recurrent.NAMES, *gpt.NAMES)
"""`gpt` is pretrained, a GPT-2 or Llama; the others have random initial weights."""


def text_writer(
    name: str,
    vocabulary_size: int,
    *,
    length: int = 128,
    units: int = 256,
    layers: int = 1,
    dropout: float = 0.1,
    preset: str = "none",
    lora_rank: int = 0,
) -> keras.Model:
    """Builds a network that predicts the next token, with random weights, or loads a preset.

    Args:
        name: One of `NAMES`.
        vocabulary_size: Number of different tokens; at least 1.
        length: Maximum number of tokens per row that a GPT reads; at least 1.
        units: Features of a token and of each recurrent state; at least 1.
        layers: Number of recurrent layers; at least 1.
        dropout: Dropout rate, in [0, 1); a preset has its own.
        preset: The preset for `gpt`, as in `models.decoders.pretrained_decoder`.
        lora_rank: Rank of the only updates that a preset learns; 0: all its weights learn.

    Returns:
        A model from `token_ids` and `padding_mask`, int32 `(batch, tokens)`, to `logits`, float32
        `(batch, tokens, vocabulary_size)`, in a dict. The `padding_mask` is 0 in padding, elsewhere
        the number of the text in the row: a GPT reads each text as if it were alone, a recurrent
        network reads on from text to text.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}. Received: {name=}")
    if name in recurrent.NAMES:
        return recurrent.recurrent_language_model(vocabulary_size, name, units, layers, dropout)
    if name == "gpt":
        return pretrained_decoder(preset, length, vocabulary_size, lora_rank)
    size = name.removeprefix("gpt_")
    return gpt.gpt_language_model(gpt.gpt_backbone(size, vocabulary_size, length, dropout))


def steps_of(
    name: str, context: int | None = None, prefix: Sequence[int] = ()
) -> Callable[[keras.Model], Steps]:
    """Returns the function from a network of this name to how it reads token by token.

    Args:
        name: One of `NAMES`.
        context: Maximum number of tokens of a row, as in `decoder_steps`.
        prefix: Tokens before each prompt, as there; only a GPT has any.
    """
    if name in recurrent.NAMES:
        return recurrent.recurrent_steps
    return partial(decoder_steps, context=context, prefix=prefix)
