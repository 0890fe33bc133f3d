"""The cores of signatures that translate, for every network with an encoder and a decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models import generation
from models.generation import INPUTS, Choice, Steps, as_tokens, checked, filled, generate

Core = Callable[[Any, dict[str, tf.Tensor]], dict[str, tf.Tensor]]
MEANINGS = {
    **generation.MEANINGS,
    "text": "the text to translate, in UTF-8; of a long one the beginning is read",
    "translation": "its translation, in UTF-8",
    "score": "log-probability of the translation, its end included, in nats",
    "prompt_tokens": "number of tokens of the text that were read, its end included",
    "dropped_tokens": "number of tokens at the end of the text that were not read",
    "repetition_penalty": "divides the positive logits of tokens that are in the translation "
    "already, and multiplies the negative ones, above 0; 1: none",
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


def translating(steps_of: Callable[[Any], Steps], limit: int, end_id: int) -> Core:
    """Returns the core of a signature that translates.

    It takes `source_ids`, int32 `(n, tokens)`, -1 in padding at the end, and the `INPUTS`. It
    returns `token_ids`, int32 `(n, limit)`, `log_probability` and `ended` as `Written` has them.

    Args:
        steps_of: From the model to how it writes.
        limit: Maximum number of tokens of a translation, its end included.
        end_id: The end token.
    """

    def core(network, features):
        choice, source_ids = (
            Choice(**{name: features[name] for name in INPUTS}),
            features["source_ids"],
        )
        # Only what was written counts as repeated.
        nothing = tf.zeros_like(source_ids[:, :0])
        steps = steps_of(network.model)
        return generate(steps, source_ids, nothing, choice, limit=limit, end_id=end_id)._asdict()

    return core


def attending(
    translate: Core,
    attention: Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor],
    begun: Callable[[tf.Tensor], tf.Tensor],
) -> Core:
    """Returns the core of a signature that translates and shows which pieces were attended to.

    It takes and returns what `translate` does, and `attention`, float32
    `(n, limit, source tokens)`, 0 in padding.

    Args:
        translate: From `translating`.
        attention: As of `queries`.
        begun: From `token_ids` to the `target_ids` before each of them.
    """

    def core(network, features):
        written = translate(network, features)
        target_ids = begun(written["token_ids"])
        weights = attention(network.model, features["source_ids"], target_ids)
        return {**written, "attention": tf.where(target_ids[:, :, None] < 0, 0.0, weights)}

    return core


def chosen(weights: tf.Tensor, layer: int | None, head: int | None) -> tf.Tensor:
    """Chooses attention weights `(n, target tokens, source tokens)`.

    Args:
        weights: `(layers, n, heads, target tokens, source tokens)`.
        layer: Index of a layer. None: the mean over all.
        head: Index of a head. None: the mean over all.
    """
    of_heads = tf.reduce_mean(weights, 0) if layer is None else weights[layer]
    return tf.reduce_mean(of_heads, 1) if head is None else of_heads[:, head]


class Query(NamedTuple):
    """The parts of a signature, for `serving.signature.Signature`.

    Args:
        inputs: A spec by name of each input.
        read: From the inputs, as keyword arguments, to the features for the core, and what else
            `answer` needs, or None.
        core: As of a `Signature`; None calls the network once.
        answer: From what the core returns, and from the second part of `read` if it is not None, to
            the outputs by name.
        examples: Real inputs by name.
        ties: As of a `Signature`.
    """

    inputs: dict[str, tf.TensorSpec]
    read: Callable[..., tuple[dict[str, tf.Tensor], dict[str, tf.Tensor] | None]]
    core: Core | None
    answer: Callable[..., dict[str, tf.Tensor]]
    examples: dict[str, np.ndarray]
    ties: dict[str, str]


def queries(
    tokens: Any,
    pairs: Sequence[tuple[str, str]],
    steps_of: Callable[[Any], Steps],
    attention: Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor] | None,
    choice: Mapping[str, float],
    length: int,
) -> dict[str, Query]:
    """Returns the ways to query a network that translates, by name of the signature.

    Args:
        tokens: The tokenizer, as `preprocessing.sentence_pieces.SentencePieces`.
        pairs: Real texts with their translations; at least one.
        steps_of: From the model to how it writes.
        attention: From the model, `source_ids` and `target_ids` to the weight of each source token
            for each target token `(n, target tokens, source tokens)`. None: it has no attention.
        choice: How `serving_default` chooses, by name of the input.
        length: Maximum number of tokens of a text and of a translation.
    """
    core = translating(steps_of, length, tokens.end_id)
    text, ids = tf.TensorSpec((None,), tf.string), tf.TensorSpec((None, None), tf.int32)
    texts, references = (np.array(side, object) for side in zip(*pairs, strict=True))
    choices = {name: part.numpy() for name, part in filled(choice, len(texts)).items()}
    rows = {
        "source_ids": tokens.encode(tf.constant(texts), length),
        "target_ids": tokens.begun(tokens.encode(tf.constant(references), length)),
    }
    rows = {name: row.numpy() for name, row in rows.items()}
    follow = ("translation", "finish_reason", "tokens")

    def read(text):
        features = {"source_ids": tokens.encode(text, length, padded=False)}
        return {**features, **filled(choice, tf.size(text))}, None

    def read_counted(text, **chosen):
        features, _ = read(text)
        whole = tokens.sizes(text)
        counts = {
            "prompt_tokens": tf.minimum(whole, length),
            "dropped_tokens": tf.maximum(whole - length, 0),
        }
        return {**features, **checked(chosen, length + 1)}, counts

    def read_pair(text, translation):
        token_ids, (features, _) = tokens.encode(translation), read(text)
        features = {"source_ids": features["source_ids"], "target_ids": tokens.begun(token_ids)}
        return features, {"token_ids": token_ids, "bytes": tf.strings.length(translation)}

    made = {
        "serving_default": Query(
            {"text": text},
            read,
            core,
            lambda found: _as_text(found, tokens.decode, "score"),
            {"text": texts},
            {"translation": "score"},
        ),
        "generate": Query(
            {"text": text, **INPUTS},
            read_counted,
            core,
            lambda found, counts: _explained(found, counts, tokens.decode),
            {"text": texts, **choices},
            dict.fromkeys(follow, "log_probability"),
        ),
        "generate_from_tokens": Query(
            {"source_ids": ids, **INPUTS},
            lambda source_ids, **chosen: (
                {"source_ids": source_ids, **checked(chosen, length + 1)},
                None,
            ),
            core,
            as_tokens,
            {"source_ids": rows["source_ids"], **choices},
            {"token_ids": "log_probability"},
        ),
        "score": Query(
            {"text": text, "translation": text},
            read_pair,
            None,
            _scored,
            {"text": texts, "translation": references},
            {},
        ),
        "from_tokens": Query(
            {"source_ids": ids, "target_ids": ids},
            lambda **features: (features, None),
            None,
            lambda logits: {"logits": logits["logits"]},
            rows,
            {},
        ),
    }
    if attention:
        made["attention"] = Query(
            {"text": text},
            lambda text: 2 * (read(text)[0],),
            attending(core, attention, tokens.begun),
            lambda found, features: _attended(found, features, tokens),
            {"text": texts},
            {},
        )
    return made


def _as_text(written, decode, named: str) -> dict[str, tf.Tensor]:
    return {"translation": decode(written["token_ids"]), named: written["log_probability"]}


def _explained(written, counts, decode) -> dict[str, tf.Tensor]:
    found = generation.explained({**written, **counts}, decode)
    return {"translation": found.pop("text"), **found}


def _attended(written, features, tokens) -> dict[str, tf.Tensor]:
    """Returns the translation, its pieces and those of the text, and what was attended to."""
    token_ids = written["token_ids"]
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(token_ids >= 0, tf.int32), axis=1))
    return {
        "translation": tokens.decode(token_ids),
        "source_pieces": tokens.names(features["source_ids"]),
        "translation_pieces": tokens.names(token_ids[:, :longest]),
        "attention": written["attention"][:, :longest],
    }


def _scored(logits, context) -> dict[str, tf.Tensor]:
    """Returns the log-probability of given translations, and their numbers of tokens and bytes."""
    token_ids = context["token_ids"]
    real = tf.cast(token_ids >= 0, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(token_ids, 0), logits["logits"]
    )
    return {
        "log_probability": -tf.reduce_sum(losses * real, axis=1),
        "tokens": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
        "bytes": context["bytes"],
    }
