"""How clients ask networks that write text: inputs, their checks, and the answers."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from models.generation import PADDING

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
STOP = tf.TensorSpec((None, None), tf.string)
"""The input of a signature with the stop strings of each row, which `checked_stop` reads."""

MOST_STOPS = 8
"""Maximum number of stop strings of a row."""
MOST_STOP_BYTES = 256
"""Maximum length of a stop string, in bytes."""

MEANINGS = {
    "max_tokens": "maximum number of tokens that are written, at least 1",
    "temperature": "divides the logits; 0 always takes the likeliest token",
    "top_k": "number of likeliest tokens to choose from; 0: all",
    "top_p": "chooses from the fewest likeliest tokens whose probabilities sum to at least this, "
    "above 0 and at most 1",
    "repetition_penalty": "divides the positive logits of tokens that are there already, and "
    "multiplies the negative ones, above 0; 1: none",
    "seed": "the same seed gives the same text, regardless of the other requests",
    "stop": f"up to {MOST_STOPS} strings; the text ends before the first of them; empty: none",
    "log_probability": "of what was written, its end included, in nats, as the network gives it "
    "before temperature and the like",
    "finish_reason": "`stop`: the text ended, or came to a stop string; `length`: after max_tokens",
    "tokens": "number of tokens that were written",
    "prompt_tokens": "number of tokens of the prompt that were read, its start included",
    "dropped_tokens": "number of tokens at the beginning of the prompt that were not read",
}
"""Meanings of these inputs, and of what every loop returns."""


def filled(settings: Mapping[str, float], count: int | tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the same settings, by name of the input, for `count` rows."""
    return {
        name: tf.fill((count,), tf.constant(settings[name], spec.dtype))
        for name, spec in INPUTS.items()
    }


def checked(choice: Mapping[str, tf.Tensor], context: int) -> dict[str, tf.Tensor]:
    """Returns the `INPUTS` of a client; fails if one is out of range, and names it and the rows.

    Args:
        choice: By name of the input, values `(n,)`.
        context: Maximum number of tokens that the network reads and writes together.
    """
    tokens, temperature, top_k, top_p, penalty, _ = (choice[name] for name in INPUTS)
    allowed = {
        "max_tokens": (f"in 1 to {context - 1}", (tokens >= 1) & (tokens < context)),
        "temperature": ("at least 0", (temperature >= 0) & tf.math.is_finite(temperature)),
        "top_k": ("at least 0", top_k >= 0),
        "top_p": ("above 0 and at most 1", (top_p > 0) & (top_p <= 1)),
        "repetition_penalty": ("above 0", (penalty > 0) & tf.math.is_finite(penalty)),
    }
    checks = []
    for name, (expected, good) in allowed.items():
        rows = tf.where(~good)[:, 0]
        said = f"`{name}` must be {expected}. Rows, and what was received:"
        facts = [said, rows, tf.gather(choice[name], rows)]
        checks.append(tf.debugging.Assert(tf.reduce_all(good), facts, 1000))
    with tf.control_dependencies(checks):
        return {name: tf.identity(choice[name]) for name in INPUTS}


def as_tokens(written: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the tokens of what the core wrote, and their log-probability."""
    return {name: written[name] for name in ("token_ids", "log_probability")}


def as_text(written: Mapping[str, tf.Tensor], decode: Callable) -> dict[str, tf.Tensor]:
    """Returns the text of what the core wrote, and its log-probability.

    Args:
        written: From the core.
        decode: From tokens, int32 `(n, tokens)`, -1 in padding, and from how many bytes of each
            text are kept, int32 `(n,)`, to strings `(n,)`.
    """
    text = decode(written["token_ids"], written["num_bytes"])
    return {"text": text, "log_probability": written["log_probability"]}


def explained(written: Mapping[str, tf.Tensor], decode: Callable) -> dict[str, tf.Tensor]:
    """Returns what `as_text` returns, and how it came about."""
    return {
        **as_text(written, decode),
        "finish_reason": tf.where(written["ended"], "stop", "length"),
        "tokens": tf.reduce_sum(tf.cast(written["token_ids"] >= 0, tf.int32), axis=1),
        "prompt_tokens": written["prompt_tokens"],
        "dropped_tokens": written["dropped_tokens"],
    }


def checked_stop(stop: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of a client's stop strings; fails if they are too many or too long.

    Args:
        stop: As in `STOP`; "" is none.
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
        return stop_bytes(stop)


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
    places = (
        tf.range(width) - (width - lengths)[:, None] + tf.cumsum(lengths, exclusive=True)[:, None]
    )
    is_byte = tf.range(width) >= (width - lengths)[:, None]
    padded = tf.pad(values, [[0, 1]])  # So that there is a byte to look up.
    rows = tf.where(is_byte, tf.gather(padded, tf.where(is_byte, places, 0)), PADDING)
    return tf.reshape(rows, tf.concat([tf.shape(strings), [width]], axis=0))
