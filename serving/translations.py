"""Signatures of networks that translate."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from serving import writing
from serving.signature import Prepared, Signature
from serving.writing import Features, Writer

MEANINGS = {
    **writing.MEANINGS,
    "text": "the text to translate, in UTF-8; of a long one the beginning is read",
    "translation": "its translation, in UTF-8",
    "texts": "the best translations that beam search found, the best first",
    "score": "log-probability of the translation, its end included, in nats, divided by the length "
    "penalty if there are beams",
    "prompt_tokens": "number of tokens of the text that were read, its end included",
    "dropped_tokens": "number of tokens at the end of the text that were not read",
    "repetition_penalty": "divides the positive logits of tokens that are in the translation "
    "already, and multiplies the negative ones, in 0.01 to 100; 1: none",
    "source_ids": "pieces of the text and an end token, -1 in padding",
    "source_pieces": 'pieces of the text, an end token among them; "" after the last',
    "translation_pieces": 'pieces of the translation; "" after the last',
    "attention": "weight of each piece of the text when a piece of the translation was written; "
    "the weights for each piece sum to 1",
    "bytes": "number of bytes of the translation in UTF-8",
    "target_ids": "an end token and the pieces of the translation, -1 in padding",
    "token_ids": "pieces of the translation, -1 in padding",
    "logits": "log-probabilities of all pieces to follow each one, up to a constant",
}
"""Meanings of all inputs and outputs."""


def signatures(
    writer: Writer,
    length_penalty: float,
    *,
    read_pair: Callable[..., tuple[Features, Features]],
    scoring: Callable[[Any, Features], tf.Tensor],
    attending: Callable[[Any, Features], Features] | None,
    show: Callable[[Features, Features], Features],
) -> dict[str, Signature]:
    """Returns those of the writer, `score` and, if there is attention, `attention`.

    Args:
        writer: Writes `translation` for `text`; its examples have both.
        length_penalty: That of the examples of `beams`.
        read_pair: From `text` and `translation` to the features of `scoring`, and to numbers by
            name, int32 `(n,)`.
        scoring: A core that returns the log-probability of each translation.
        attending: A core that writes and returns what was attended to. None: no attention.
        show: From what this core returns and its features to the outputs of `attention`.
    """
    shared: dict[str, Any] = {"meanings": writer.meanings, "resources": writer.resources}
    examples = writer.examples
    made = {
        **writer.signatures(length_penalty),
        "score": Signature(
            inputs={"text": writing.TEXT, "translation": writing.TEXT},
            preprocess=lambda **texts: Prepared(*read_pair(**texts)),
            core=scoring,
            postprocess=lambda found, counts: {"log_probability": found, **counts},
            examples={name: examples[name] for name in ("text", "translation")},
            **shared,
        ),
    }
    if attending:
        made["attention"] = Signature(
            inputs=writer.inputs,
            preprocess=lambda **texts: Prepared(*2 * (writer.by_default(**texts).features,)),
            core=attending,
            postprocess=show,
            examples={name: examples[name] for name in writer.inputs},
            **shared,
        )
    return made
