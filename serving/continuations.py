"""Signatures of networks that continue texts, or answer them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from serving import writing
from serving.signature import Prepared, Signature
from serving.writing import Features, Writer

MEANINGS = {
    **writing.MEANINGS,
    "prompt": "the beginning of a text, in UTF-8; of a long one the end is read",
    "text": "what follows it, without the prompt",
    "bytes": "number of bytes of the text in UTF-8",
}
"""Meanings of inputs and outputs."""
ANSWERS = {
    "prompt": "the text to answer, in UTF-8, without the worked examples, which precede it; of a "
    "long one the end is read",
    "text": "its answer, which ends where the template says",
    "log_probabilities": "of each class of the model card as the answer, in nats",
}
"""Meanings that differ if there are worked examples."""


def signatures(
    writer: Writer,
    *,
    read_pair: Callable[..., tuple[Features, Features]],
    scoring: Callable[[Any, Features], tf.Tensor],
    choosing: tuple[Callable[..., Features], Callable[[tf.Tensor], Features]] | None = None,
) -> dict[str, Signature]:
    """Returns those of the writer, `score` and, if answers are classes, `classes`.

    Args:
        writer: Writes `text` after `prompt`; its examples have `prompt` and `token_ids`.
        read_pair: From `prompt` and `text` to the features of `scoring`, and to numbers by name,
            int32 `(n,)`.
        scoring: A core that returns log-probabilities: of the text of each row, or of each answer.
        choosing: From `prompt` to the features of `scoring` with each class as an answer, and from
            the log-probabilities of these `(n, classes)` to `classes` and `scores`. None: there are
            no classes.
    """
    shared: dict[str, Any] = {"meanings": writer.meanings, "resources": writer.resources}
    texts = writer.examples["prompt"]
    made = {
        **writer.signatures(length_penalty=1.0),
        "score": Signature(
            inputs={"prompt": writing.TEXT, "text": writing.TEXT},
            preprocess=lambda **texts: Prepared(*read_pair(**texts)),
            core=scoring,
            postprocess=lambda found, counts: {
                "log_probability": tf.reshape(found, [-1]),
                **counts,
            },
            examples={"prompt": texts, "text": texts[::-1]},
            **shared,
        ),
    }
    if choosing:
        read, best = choosing
        made["classes"] = Signature(
            inputs=writer.inputs,
            preprocess=read,
            core=scoring,
            postprocess=lambda logs: {**best(logs), "log_probabilities": logs},
            examples={"prompt": texts},
            ties={"classes": "scores"},
            **shared,
        )
    return made
