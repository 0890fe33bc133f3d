"""Signatures of networks that write text: how a client chooses, and what it learns."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from serving.signature import Prepared, Signature, tensors, within
from serving.verify import XLA_BATCH_SIZES

PADDING = -1
"""Follows the last token of a row."""

INPUTS = {
    name: tf.TensorSpec((None,), dtype)
    for name, dtype in (
        ("max_tokens", tf.int32),
        ("temperature", tf.float32),
        ("top_k", tf.int32),
        ("top_p", tf.float32),
        ("repetition_penalty", tf.float32),
        ("seed", tf.int64),
    )
}
"""Inputs of a signature that lets a client choose how each row chooses."""
GREEDY = {
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "seed": 0,
}
"""Always chooses the likeliest token."""
BEAM_INPUTS = {
    "max_tokens": INPUTS["max_tokens"],
    "length_penalty": tf.TensorSpec((None,), tf.float32),
}
"""Inputs of a signature that searches for the best texts."""
STOP = tf.TensorSpec((None, None), tf.string)
"""The input of a signature with the stop strings of each row, which `checked_stop` reads."""
TEXT = tf.TensorSpec((None,), tf.string)
"""An input with a text for each row."""
IDS = tf.TensorSpec((None, None), tf.int32)
"""An input with the tokens of each row, -1 in padding."""
PAIR = {"source_ids": IDS, "target_ids": IDS}
"""What a network with an encoder reads: what is before a text, and the tokens before each."""

ROOM = 32
"""States have room for a multiple of as many tokens, so that there are few sizes."""
MOST_STOPS = 8
"""Maximum number of stop strings of a row."""
MOST_STOP_BYTES = 256
"""Maximum length of a stop string, in bytes."""
COMPILED_PROMPT = 32
"""Tokens of the shortest prompts for which a loop is compiled; the next have twice as many each."""

Features = dict[str, tf.Tensor]
MEANINGS = {
    "max_tokens": "maximum number of tokens that are written, at least 1",
    "temperature": "divides the logits; 0 always takes the likeliest token",
    "top_k": "number of likeliest tokens to choose from; 0: all",
    "top_p": "chooses from the fewest likeliest tokens whose probabilities sum to at least this, "
    "in 1e-6 to 1",
    "repetition_penalty": "divides the positive logits of tokens that are there already, and "
    "multiplies the negative ones, in 0.01 to 100; 1: none",
    "seed": "the same seed gives the same text, regardless of the other requests",
    "stop": f"up to {MOST_STOPS} strings; the text ends before the first of them; empty: none",
    "length_penalty": "a score is the log-probability divided by ((5 + tokens) / 6) ** this, at "
    "least 0; larger values prefer longer texts, 0: none",
    "texts": "the best texts that beam search found, the best first",
    "scores": "of each text, higher is better",
    "log_probability": "of what was written, its end included, in nats, as the network gives it "
    "before temperature and the like",
    "finish_reason": "`stop`: the text ended, or came to a stop string; `length`: after max_tokens",
    "tokens": "number of tokens that were written",
    "prompt_tokens": "number of tokens of the prompt that were read, its start included",
    "dropped_tokens": "number of tokens at the beginning of the prompt that were not read",
}
"""Meanings of these inputs, and of what every loop returns."""


@dataclass(frozen=True)
class Writer:
    """A network that writes, as clients ask it.

    Args:
        core: From the `Network` and the features to what was written; `models.writing.Core`.
        inputs: Inputs of `serving_default`, a spec by name.
        read: From `max_tokens`, int32 `(n,)`, and the inputs as keyword arguments to the features,
            and to numbers by name, int32 `(n,)`, which are added to those that the core returns.
        tokens: Inputs of `generate_from_tokens`, which are the features, a spec by name.
        as_features: From `tokens` to what the network reads. None: it reads pairs, `source_ids` and
            `target_ids`, which `from_tokens` then takes instead.
        decode: From tokens, int32 `(n, tokens)`, -1 in padding, and from how many bytes of each
            text are kept, int32 `(n,)`, -1 for all, or None, to strings `(n,)`.
        choice: How `serving_default` writes: a value for each of `INPUTS`, or for beam search
            `max_tokens` and `length_penalty`.
        limit: Maximum of `max_tokens`.
        examples: Real inputs by name, of `serving_default`, `tokens` and `from_tokens`.
        meanings: Meaning of all inputs and outputs.
        text: Name of the output with the text.
        score: Name of the output of `serving_default` with its log-probability, or with the score
            of a text that beam search found.
        optional: Text inputs that `serving_default` lacks: by name, the text of all its rows.
        stop: A stop string of all rows, in addition to those of the client; "" is none. Beam search
            has none.
        resources: As of a `Signature`.
        sizes: Sizes for which the loop is compiled, as in `models.writing.continuing`. A request of
            each is among those of the warm-up, also of beam search, which must take one text then.
            None: it is not compiled.
    """

    core: Callable[[Any, Features], Features]
    inputs: Mapping[str, tf.TensorSpec]
    read: Callable[..., tuple[Features, Features]]
    tokens: Mapping[str, tf.TensorSpec]
    as_features: Callable[..., Features] | None
    decode: Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]
    choice: Mapping[str, float]
    limit: int
    examples: Mapping[str, np.ndarray]
    meanings: Mapping[str, str]
    text: str = "text"
    score: str = "log_probability"
    optional: Mapping[str, str] = field(default_factory=dict)
    stop: str = ""
    resources: tuple[Any, ...] = ()
    sizes: Mapping[str, Sequence[int]] | None = None

    def signatures(self, length_penalty: float | None = None) -> dict[str, Signature]:
        """Returns `serving_default`, `generate`, `generate_from_tokens` and `from_tokens`.

        Args:
            length_penalty: That of the examples of one more signature, `beams`. None: it is left
                out.
        """
        follow = (self.text, "finish_reason", "tokens")
        every = {**self.inputs, **{name: TEXT for name in self.optional}}
        network = self.tokens if self.as_features else PAIR
        made = {
            "serving_default": self._signature(
                self.inputs, self.by_default, self._answered, {self.text: self.score}
            ),
            "generate": self._signature(
                {**every, **INPUTS, "stop": STOP},
                self._as_chosen,
                self._explained,
                dict.fromkeys(follow, "log_probability"),
            ),
            "generate_from_tokens": self._signature(
                {**self.tokens, **INPUTS},
                self._from_tokens,
                lambda written: {n: written[n] for n in ("token_ids", "log_probability")},
                {"token_ids": "log_probability"},
                warmup=self._of_every_size(),
            ),
            "from_tokens": tensors(
                network,
                self.meanings,
                examples={name: self.examples[name] for name in network},
                preprocess=self.as_features,
            ),
        }
        if length_penalty is not None:
            made["beams"] = self._signature(
                {**every, **BEAM_INPUTS},
                self._by_beams,
                self._found,
                {"texts": "scores"},
                {"length_penalty": length_penalty},
                warmup=self._texts_of_every_size(length_penalty),
            )
        return made

    def _signature(
        self, inputs, preprocess, postprocess, ties, choice=None, warmup=()
    ) -> Signature:
        count = len(next(iter(self.examples.values())))
        chosen = {**GREEDY, **self.choice, **(choice or {})}
        filled_in = {name: part.numpy() for name, part in filled(chosen, count).items()}
        texts = {name: np.full(count, text, object) for name, text in self.optional.items()}
        stop = {"stop": np.full((count, 1), "", object)}
        examples = {**self.examples, **texts, **filled_in, **stop}
        return Signature(
            inputs=inputs,
            preprocess=preprocess,
            core=self.core,
            postprocess=postprocess,
            meanings=self.meanings,
            resources=self.resources,
            examples={name: examples[name] for name in inputs},
            ties=ties,
            gaps=lambda written: written.get("gap"),  # Beam search has none.
            warmup=warmup,
        )

    def _texts_of_every_size(self, length_penalty: float) -> list[dict[str, np.ndarray]]:
        """Returns a request of one token for each pair of sizes to a beam search from texts."""
        if not self.sizes:
            return []
        made, prompts = [], self.sizes["prompt"]
        ((name, (text, *_)),) = ((name, self.examples[name]) for name in self.inputs)
        # Tokens of all lengths: few have more than 16 characters.
        ends = np.unique(np.geomspace(1, 16 * prompts[-1], 64).astype(int))
        texts = np.array([((text or "a") * ends[-1])[:end] for end in ends], object)
        read, _ = self.read(tf.ones(len(ends), tf.int32), **{name: tf.constant(texts)})
        (found,) = (np.count_nonzero(read[ids] >= 0, axis=1) for ids in self.tokens)
        for before, width in itertools.pairwise((0, *prompts)):
            # The longest prompts are cut. Others may begin with one more token.
            fits = found > before if width == prompts[-1] else (found > before) & (found < width)
            for rows in self.sizes["rows"] if fits.any() else ():
                choice = filled({"max_tokens": 1, "length_penalty": length_penalty}, rows)
                same = np.full(rows, texts[fits][-1])
                made.append({name: same, **{key: part.numpy() for key, part in choice.items()}})
        return made

    def _of_every_size(self) -> list[dict[str, np.ndarray]]:
        """Returns a request of one token for each pair of sizes of rows and prompts."""
        pairs = itertools.product(self.sizes["rows"], self.sizes["prompt"]) if self.sizes else ()
        made = []
        for rows, width in pairs:
            choice = filled({**GREEDY, "max_tokens": 1}, rows)
            # An end token comes first.
            ids = {
                name: np.resize(self.examples[name][0], (rows, width - 1)) for name in self.tokens
            }
            made.append({**ids, **{name: part.numpy() for name, part in choice.items()}})
        return made

    def by_default(self, **inputs: tf.Tensor) -> Prepared:
        """Reads inputs as `serving_default` does."""
        count = tf.shape(next(iter(inputs.values())))[0]
        texts = {name: tf.fill((count,), text) for name, text in self.optional.items()}
        choice = filled(self.choice, count)
        if self.stop:
            choice["stop"] = stop_bytes(tf.fill((count, 1), self.stop))
        return self._read({**inputs, **texts}, choice)

    def _as_chosen(self, stop: tf.Tensor, **inputs: tf.Tensor) -> Prepared:
        choice = checked({name: inputs.pop(name) for name in INPUTS}, self.limit)
        choice["stop"] = checked_stop(stop, self.stop)
        return self._read(inputs, choice)

    def _by_beams(self, **inputs: tf.Tensor) -> Prepared:
        choice = {name: inputs.pop(name) for name in BEAM_INPUTS}
        return self._read(inputs, checked(choice, self.limit))

    def _from_tokens(self, **inputs: tf.Tensor) -> Features:
        choice = {name: inputs.pop(name) for name in INPUTS}
        return self._with_room({**inputs, **checked(choice, self.limit)})

    def _read(self, inputs: Features, choice: Features) -> Prepared:
        features, counts = self.read(choice["max_tokens"], **inputs)
        return Prepared(self._with_room({**features, **choice}), counts)

    def _with_room(self, features: Features) -> Features:
        """Adds a vector whose size says for how many tokens states need room."""
        most = tf.reduce_max(tf.concat([features["max_tokens"], [1]], axis=0))
        size = tf.minimum(-(-most // ROOM) * ROOM, self.limit)
        return {**features, "room": tf.zeros((size,), tf.bool)}

    def _answered(self, written: Features, _: Features) -> Features:
        if "score" in written:  # Of beam search; the best one is the first.
            text = self.decode(written["token_ids"][:, 0], None)
            return {self.text: text, self.score: written["score"][:, 0]}
        text = self.decode(written["token_ids"], written["num_bytes"])
        return {self.text: text, self.score: written["log_probability"]}

    def _explained(self, written: Features, counts: Features) -> Features:
        return {
            self.text: self.decode(written["token_ids"], written["num_bytes"]),
            "log_probability": written["log_probability"],
            "finish_reason": tf.where(written["ended"], "stop", "length"),
            "tokens": tf.reduce_sum(tf.cast(written["token_ids"] >= 0, tf.int32), axis=1),
            **{
                name: written.get(name, 0) + counts.get(name, 0)
                for name in ("prompt_tokens", "dropped_tokens")
            },
        }

    def _found(self, written: Features, _: Features) -> Features:
        ids = written["token_ids"]
        rows, beams = tf.shape(ids)[0], tf.shape(ids)[1]
        texts = self.decode(tf.reshape(ids, (rows * beams, tf.shape(ids)[2])), None)
        return {"texts": tf.reshape(texts, (rows, beams)), "scores": written["score"]}


def compiled_sizes(context: int) -> dict[str, tuple[int, ...]]:
    """Returns the sizes for which the loop of an export is compiled, as `Writer` takes them.

    Example:
        >>> compiled_sizes(100)
        {'rows': (1, 8, 32), 'prompt': (32, 64, 99), 'stop': (9, 256)}
    """
    doubled = (COMPILED_PROMPT * 2**number for number in itertools.count())
    prompts = itertools.takewhile(lambda size: size < context - 1, doubled)
    return {
        "rows": XLA_BATCH_SIZES,
        "prompt": (*prompts, context - 1),
        "stop": (MOST_STOPS + 1, MOST_STOP_BYTES),  # One more may be that of all rows.
    }


def filled(settings: Mapping[str, float], count: int | tf.Tensor) -> Features:
    """Returns the same settings, by name of the input, for `count` rows."""
    specs = {**INPUTS, **BEAM_INPUTS}
    return {
        name: tf.fill((count,), tf.constant(value, specs[name].dtype))
        for name, value in settings.items()
    }


def checked(choice: Mapping[str, tf.Tensor], limit: int) -> Features:
    """Returns the choice of a client; fails if a value is out of range, and names it and the rows.

    Args:
        choice: By name of the input, of `INPUTS` or `BEAM_INPUTS`, values `(n,)`.
        limit: Maximum of `max_tokens`.
    """
    allowed = {
        "max_tokens": (f"in 1 to {limit}", lambda x: (x >= 1) & (x <= limit)),
        "temperature": ("at least 0", lambda x: (x >= 0) & tf.math.is_finite(x)),
        "top_k": ("at least 0", lambda x: x >= 0),
        # Far outside, float32 has no digits for the sums and the penalized logits.
        "top_p": ("in 1e-6 to 1", lambda x: (x >= 1e-6) & (x <= 1)),
        "repetition_penalty": ("in 0.01 to 100", lambda x: (x >= 0.01) & (x <= 100)),
        "length_penalty": ("at least 0", lambda x: (x >= 0) & tf.math.is_finite(x)),
    }
    return within(choice, allowed)


def checked_stop(stop: tf.Tensor, further: str = "") -> tf.Tensor:
    """Returns the bytes of a client's stop strings; fails if they are too many or too long.

    Args:
        stop: As in `STOP`; "" is none.
        further: One more for each row.
    """
    sizes = tf.strings.length(stop)
    allowed = {
        f"at most {MOST_STOPS} strings": tf.reduce_sum(tf.cast(sizes > 0, tf.int32), axis=1)
        <= MOST_STOPS,
        f"strings of at most {MOST_STOP_BYTES} bytes": tf.reduce_all(
            sizes <= MOST_STOP_BYTES, axis=1
        ),
    }
    checks = []
    for expected, good in allowed.items():
        facts = [f"`stop` must have {expected}. Rows with others:", tf.where(~good)[:, 0]]
        checks.append(tf.debugging.Assert(tf.reduce_all(good), facts, 1000))
    with tf.control_dependencies(checks):
        column = [[0, 0], [0, 1 if further else 0]]
        return stop_bytes(tf.pad(stop, column, constant_values=further))


def stop_bytes(strings: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of stop strings, as `models.generation.Stop` has them.

    Args:
        strings: `(n, strings)`; "" is none.

    Returns:
        int32 `(n, strings, bytes)`, at least one byte, each string at the end, after -1.

    Example:
        >>> stop_bytes(tf.constant([["a", "bc"]])).numpy().tolist()
        [[[-1, 97], [98, 99]]]
    """
    values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(strings), tf.uint8), tf.int32)
    lengths = tf.reshape(tf.strings.length(strings), [-1])
    width = tf.maximum(tf.reduce_max(lengths), 1)
    positions = (
        tf.range(width) - (width - lengths)[:, None] + tf.cumsum(lengths, exclusive=True)[:, None]
    )
    is_byte = tf.range(width) >= (width - lengths)[:, None]
    padded = tf.pad(values, [[0, 1]])  # So that there is a byte to look up.
    rows = tf.where(is_byte, tf.gather(padded, tf.where(is_byte, positions, 0)), PADDING)
    return tf.reshape(rows, tf.concat([tf.shape(strings), [width]], axis=0))
