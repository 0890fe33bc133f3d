"""Signatures of networks that rate answers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.signature import Network, Signature, tensors

PROMPT = (
    "one turn of the user, or a transcript whose turns begin with Human: and Assistant: after a "
    "blank line, the user's last; in UTF-8"
)
MEANINGS = {
    "prompt": PROMPT,
    "response": "the answer to rate, in UTF-8",
    "response_a": "an answer, in UTF-8",
    "response_b": "another answer, in UTF-8",
    "reward": "rating of the answer, higher is better; 0 is the mean of the reference, the "
    "preferred answers to the training prompts or those of a policy",
    "probability": "probability that response_a is preferred to response_b",
}
"""Meanings of all inputs and outputs but the tokens."""


def signatures(
    read: Callable[[tf.Tensor, tf.Tensor], Mapping[str, tf.Tensor]],
    *,
    gain: Callable[[Any], Any],
    pairs: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    meanings: Mapping[str, str],
    resources: tuple[Any, ...] = (),
) -> dict[str, Signature]:
    """Returns `serving_default`, `compare` and `from_tokens`.

    Args:
        read: From prompts and answers `(n,)` to what the network reads.
        gain: From the network to what it multiplies rewards by. `compare` divides by it, so that
            its probability is that of the loss.
        pairs: Examples of `compare`: `prompt`, `response_a` and `response_b`.
        rows: Examples of what the network reads, int32 `(n, tokens)`, by name.
        meanings: Meanings of these.
        resources: As of a `Signature`.
    """
    meanings = {**meanings, **MEANINGS}
    text = tf.TensorSpec((None,), tf.string)

    def read_both(prompt, response_a, response_b):
        return read(tf.tile(prompt, [2]), tf.concat([response_a, response_b], axis=0))

    def difference(network: Network, features):
        first, second = tf.split(network(features), 2)
        return (first - second) / tf.convert_to_tensor(gain(network.model))

    return {
        "serving_default": Signature(
            inputs={"prompt": text, "response": text},
            preprocess=lambda prompt, response: read(prompt, response),
            postprocess=lambda rewards: {"reward": rewards},
            meanings=meanings,
            resources=resources,
        ),
        "compare": Signature(
            inputs=dict.fromkeys(pairs, text),
            preprocess=read_both,
            core=difference,
            postprocess=lambda margins: {"probability": tf.sigmoid(margins)},
            meanings=meanings,
            resources=resources,
            examples=pairs,
        ),
        "from_tokens": tensors(
            {name: tf.TensorSpec((None, None), tf.int32) for name in rows},
            meanings,
            examples=rows,
            preprocess=dict,
            postprocess=lambda rewards: {"reward": rewards},
        ),
    }
