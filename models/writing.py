"""Cores of signatures that write and score texts: with a prompt or a source, and its attention."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.beam_search import Beams, beam_search
from models.generation import PADDING, Choice, Steps, Stop, Written, generate, piece_bytes

Features = dict[str, tf.Tensor]
Core = Callable[[Any, Features], Features]
"""From the `Network` and features to what it wrote.

The features say how to write. With `length_penalty`, float32 `(n,)`, and `max_tokens` it is beam
search, and the fields of `Beams` are returned. Otherwise they have the fields of `Choice` and, if
rows may end at strings, `stop`, the strings of `Stop`, and the fields of `Written` are returned.
They may have `room`, a vector of as many values, which do not matter, as `max_tokens` is at most:
XLA knows the sizes of tensors, but not their values. Without it there is room for the limit."""

Sizes = Mapping[str, Sequence[int]]
"""Sizes for which a loop is compiled, and to which others are padded: `rows`, the numbers of rows,
ascending, of which more are written in blocks of the last; `prompt`, the numbers of tokens of a
prompt, ascending, the last at least the context - 1; and `stop`, the maximum number of stop strings
of a row, and of bytes of each."""
SEARCH = ("max_tokens", "length_penalty")
"""Features that say how beam search searches."""


def _write(
    steps: Steps,
    source: tf.Tensor,
    prompt: tf.Tensor,
    features: Features,
    *,
    limit: int,
    end_id: int,
    pieces: Sequence[bytes],
    beams: int,
    hides_space: bool = False,
) -> Features:
    """Writes as the features say."""
    room = tf.shape(features["room"])[0] if "room" in features else limit
    ends: dict[str, Any] = {"limit": limit, "end_id": end_id, "room": room}
    if "length_penalty" in features:
        chosen = (features[name] for name in SEARCH)
        return beam_search(steps, source, *chosen, beams=beams, **ends)._asdict()
    choice = Choice(**{name: features[name] for name in Choice._fields})
    stop = None
    if "stop" in features:
        stop = Stop(features["stop"], piece_bytes(pieces), hides_space)
    return generate(steps, source, prompt, choice, stop=stop, **ends)._asdict()


def continuing(
    steps_of: Callable[[Any], Steps],
    context: int,
    tokens: Any,
    beams: int = 1,
    limit: int | None = None,
    sizes: Sizes | None = None,
    begun: bool = False,
) -> Core:
    """Returns the core of a signature that writes what follows prompts.

    The token that begins a text is put before each prompt, and the oldest tokens are dropped where
    prompt and `max_tokens` together are longer than the context. The core takes `token_ids`, int32
    `(n, tokens)`, -1 in padding, and how to write, as `Core` says. It returns how many tokens of
    each prompt were read and dropped, too: `prompt_tokens` and `dropped_tokens`.

    Args:
        steps_of: From the model to how it reads.
        context: Maximum number of tokens that the model reads; at least 2.
        tokens: The tokenizer; it has `begin_id`, `end_id` and `pieces`.
        beams: Number of hypotheses of beam search; at least 1.
        limit: Maximum of `max_tokens`, below the context. None: the context - 1.
        sizes: Sizes for which XLA compiles the loop. None: it is not compiled.
        begun: Whether the model has read a prefix, so that prompts do not begin a text.
    """
    begin_id, end_id = None if begun else tokens.begin_id, tokens.end_id
    limit = limit or context - 1
    ends: dict[str, Any] = {"limit": limit, "end_id": end_id}
    parts = {**ends, "pieces": tokens.pieces, "beams": beams}

    def write(model, prompt, features):
        # A text has not ended yet, so that its end does not count as repeated.
        repeated = tf.where(prompt == end_id, PADDING, prompt)
        return _write(steps_of(model), prompt, repeated, features, **parts)

    @functools.cache  # So that all signatures share what is compiled.
    def compiled(model):
        def written(features):
            return write(model, features["prompt"], features)

        return tf.function(written, jit_compile=True, autograph=False)

    def core(network, features):
        prompt = beginning(features["token_ids"], begin_id, end_id)
        prompt, dropped = latest(prompt, context - features["max_tokens"], context - 1)
        if sizes:
            fixed = compiled(network.model)
            written = _at_fixed_sizes(fixed, prompt, features, sizes, limit, beams)
        else:
            written = write(network.model, prompt, features)
        read = tf.reduce_sum(tf.cast(prompt >= 0, tf.int32), axis=1)
        return {**written, "prompt_tokens": read, "dropped_tokens": dropped}

    return core


def beginning(token_ids: tf.Tensor, begin_id: int | None, end_id: int) -> tf.Tensor:
    """Puts a token before each prompt; without one, the end token into prompts without tokens."""
    if begin_id is not None:
        return tf.pad(token_ids, [[0, 0], [1, 0]], constant_values=begin_id)
    padded = tf.pad(token_ids, [[0, 0], [0, 1]], constant_values=PADDING)
    first = padded[:, :1]  # A network needs a token to begin with.
    return tf.concat([tf.where(first < 0, end_id, first), padded[:, 1:]], axis=1)


def _at_fixed_sizes(
    write: Callable[[Features], Features],
    prompt: tf.Tensor,
    features: Features,
    sizes: Sizes,
    limit: int,
    beams: int,
) -> Features:
    """Writes with a function that gets tensors of a few sizes alone, for any prompts.

    Args:
        write: From `prompt` and the features of `Core` to the fields of `Written` or `Beams`.
        prompt: int32 `(n, tokens)`, -1 in padding.
        features: As in `Core`.
        sizes: The sizes.
        limit: Number of columns of the tokens that it writes.
        beams: Number of hypotheses of beam search.
    """
    searches = "length_penalty" in features
    rows, width = tf.shape(prompt)[0], tf.shape(prompt)[1]
    size = _next(rows, sizes["rows"])
    blocks = tf.maximum(-(-rows // size), 1)
    columns = _next(width, sizes["prompt"]) - width
    given = {name: features[name] for name in (SEARCH if searches else Choice._fields)}
    given["prompt"] = tf.pad(prompt, [[0, 0], [0, columns]], constant_values=PADDING)
    if not searches:
        given["stop"] = _fixed_stop(features.get("stop", tf.fill((rows, 1, 1), PADDING)), sizes)

    def in_blocks(name, value):
        # Rows of padding end with their first token, and at no stop string.
        value = tf.pad(
            value,
            [[0, blocks * size - rows], *[[0, 0]] * (value.shape.rank - 1)],
            constant_values={"temperature": 0, "stop": PADDING}.get(name, 1),
        )
        return tf.reshape(value, tf.concat([[blocks, size], tf.shape(value)[1:]], axis=0))

    kinds = {"log_probability": tf.float32, "ended": tf.bool, "num_bytes": tf.int32}
    kinds |= {"gap": tf.float32, "score": tf.float32}
    each = (None, beams) if searches else (None,)
    specs = {
        name: tf.TensorSpec(each, kinds[name])
        for name in (Beams if searches else Written)._fields
        if name != "token_ids"
    }
    specs["token_ids"] = tf.TensorSpec((*each, limit), tf.int32)
    blocked = {name: in_blocks(name, value) for name, value in given.items()}
    found = tf.map_fn(write, blocked, fn_output_signature=specs, parallel_iterations=1)
    return {
        name: tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], axis=0))[:rows]
        for name, value in found.items()
    }


def _next(size: tf.Tensor, sizes: Sequence[int]) -> tf.Tensor:
    """Returns the first of the ascending sizes that is not less, or the last."""
    return tf.reduce_min(tf.where(tf.constant(sizes) >= size, sizes, sizes[-1]))


def _fixed_stop(stop: tf.Tensor, sizes: Sizes) -> tf.Tensor:
    """Returns stop strings `(n, strings, bytes)` with as many of both as the sizes say."""
    most, width = sizes["stop"]
    # Only as many are no padding.
    is_padding = tf.cast(tf.reduce_all(stop < 0, axis=2), tf.int32)
    kept = tf.gather(stop, tf.argsort(is_padding, axis=1, stable=True)[:, :most], batch_dims=1)
    missing = [[0, 0], [0, most - tf.shape(kept)[1]], [width - tf.shape(kept)[2], 0]]
    # The shape of all signatures, so that they share what is compiled.
    return tf.ensure_shape(tf.pad(kept, missing, constant_values=PADDING), (None, most, width))


def translating(
    steps_of: Callable[[Any], Steps],
    limit: int,
    end_id: int,
    pieces: Sequence[bytes] = (),
    beams: int = 1,
) -> Core:
    """Returns the core of a signature that translates.

    It takes `source_ids`, int32 `(n, tokens)`, -1 in padding at the end, and how to write, as
    `Core` says.

    Args:
        steps_of: From the model to how it writes.
        limit: Maximum number of tokens of a translation, its end included.
        end_id: The end token.
        pieces: The bytes of each token, which stop strings need. A space that begins a translation
            is not shown, as in `SentencePieces.decode`.
        beams: Number of hypotheses of beam search; at least 1.
    """

    def core(network, features):
        source = features["source_ids"]
        nothing = tf.zeros_like(source[:, :0])  # Only what was written counts as repeated.
        steps, ends = steps_of(network.model), {"limit": limit, "end_id": end_id}
        parts = {**ends, "pieces": pieces, "beams": beams, "hides_space": True}
        return _write(steps, source, nothing, features, **parts)

    return core


def attending(
    translate: Core,
    attention: Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor],
    begun: Callable[[tf.Tensor], tf.Tensor],
) -> Core:
    """Returns the core of a signature that translates and shows which pieces were attended to.

    It takes what `translate` does. It returns `token_ids` of the translation, of several the best,
    int32 `(n, limit)`, and `attention`, float32 `(n, limit, source tokens)`, 0 in padding.

    Args:
        translate: From `translating`.
        attention: From the model, `source_ids` and `target_ids` to the weight of each source token
            for each target token, `(n, target tokens, source tokens)`.
        begun: From `token_ids` to the `target_ids` before each of them.
    """

    def core(network, features):
        token_ids = translate(network, features)["token_ids"]
        if token_ids.shape.rank == 3:
            token_ids = token_ids[:, 0]
        target_ids = begun(token_ids)
        weights = attention(network.model, features["source_ids"], target_ids)
        weights = tf.where(target_ids[:, :, None] < 0, 0.0, weights)
        return {"token_ids": token_ids, "attention": weights}

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


def scoring(context: int) -> Callable[[Any, dict[str, tf.Tensor]], tf.Tensor]:
    """Returns the core of a signature that scores texts, or translations of `source_ids`.

    Rows longer than the context are read in windows that overlap by half of it. Each token counts
    once, in the first window that has it.

    The core takes `token_ids`, int32 `(n, tokens)`, at least two columns, -1 in padding, and
    `first`, int32 `(n,)`: the number of the first token of each row that counts, at least 1. If
    there are `source_ids`, int32 `(n, source tokens)`, each window is read with the whole source.
    It returns the sum of the log-probabilities of the tokens from there on, given those before, in
    nats, float32 `(n,)`.

    Args:
        context: Maximum number of tokens that the model reads; at least 2.
    """

    def core(network, features):
        ids, first = features["token_ids"], features["first"]
        following = tf.shape(ids)[1] - 1
        width, stride = tf.minimum(following, context), max(context // 2, 1)
        windows = 1 + tf.maximum(-(-(following - context) // stride), 0)
        ids = tf.pad(ids, [[0, 0], [0, stride]], constant_values=PADDING)

        offsets = tf.range(width + 1)
        is_late = offsets[1:] > width - stride

        def read(number, total):
            begin = number * stride
            row = tf.gather(ids, begin + offsets, axis=1)
            outputs = network(_read_by_network(row[:, :-1], features))
            logs = tf.nn.log_softmax(tf.cast(outputs["logits"], tf.float32))
            logs = tf.gather(logs, tf.maximum(row[:, 1:], 0), batch_dims=2)
            counts = ((number == 0) | is_late) & (row[:, 1:] >= 0)
            counts &= begin + offsets[1:] >= first[:, None]
            return number + 1, total + tf.reduce_sum(tf.where(counts, logs, 0.0), axis=1)

        start = (0, tf.zeros_like(first, tf.float32))
        return tf.while_loop(lambda number, _: number < windows, read, start)[1]

    return core


def answering(
    steps_of: Callable[[Any], Steps], context: int, tokens: Any, begun: bool = False
) -> Callable[[Any, Features], tf.Tensor]:
    """Returns the core of a signature that scores several answers to each prompt.

    Prompts are read once, as in `continuing`. The core takes `token_ids`, int32 `(n, tokens)`, and
    `answer_ids`, int32 `(n, answers, tokens)`, fewer tokens than the context and at least one, both
    -1 in padding. It returns the sum of the log-probabilities of the tokens of each answer, in
    nats, float32 `(n, answers)`.

    Args:
        steps_of: As in `continuing`.
        context: As in `continuing`.
        tokens: The tokenizer; it has `begin_id` and `end_id`.
        begun: As in `continuing`.
    """
    begin_id = None if begun else tokens.begin_id

    def core(network, features):
        steps, answers = steps_of(network.model), features["answer_ids"]
        most = tf.shape(answers)[2]
        prompt = beginning(features["token_ids"], begin_id, tokens.end_id)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(answers >= 0, tf.int32), axis=2), axis=1)
        prompt, _ = latest(prompt, context - longest, context - 1)
        first, begin = steps.start(prompt, most)

        def score(ids):
            def added(total, logits, number):
                logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
                token = ids[:, number]
                log = tf.gather(logs, tf.maximum(token, 0), batch_dims=1)
                return total + tf.where(token >= 0, log, 0.0)

            def read(number, total, state):
                logits, state = steps.step(state, tf.maximum(ids[:, number - 1], 0))
                return number + 1, added(total, logits, number), state

            total = added(tf.zeros_like(ids[:, 0], tf.float32), first, 0)
            return tf.while_loop(lambda number, *_: number < most, read, (1, total, begin))[1]

        by_answer = tf.transpose(answers, (1, 0, 2))
        # One after another, because each changes a copy of the state.
        found = tf.map_fn(score, by_answer, fn_output_signature=tf.float32, parallel_iterations=1)
        return tf.transpose(found)

    return core


def _read_by_network(tokens: tf.Tensor, features: Features) -> Features:
    """Returns what a network takes to predict the token after each, -1 in padding."""
    if "source_ids" in features:
        return {"source_ids": features["source_ids"], "target_ids": tokens}
    is_token = tf.cast(tokens >= 0, tf.int32)
    return {"token_ids": tf.maximum(tokens, 0), "padding_mask": is_token}


def latest(tokens: tf.Tensor, room: tf.Tensor, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops the oldest tokens of rows that are too long.

    Args:
        tokens: int32 `(n, tokens)`, at least one column, -1 in padding, which is at the end.
        room: Maximum number of tokens of each row, int32 `(n,)`.
        width: Maximum of `room` that any row may have.

    Returns:
        int32 `(n, at most width)`, padded with -1, and how many each row lost, int32 `(n,)`.

    Example:
        >>> kept, lost = latest(tf.constant([[4, 5, 6], [7, -1, -1]]), tf.constant([2, 2]), 2)
        >>> kept.numpy().tolist(), lost.numpy().tolist()
        ([[5, 6], [7, -1]], [1, 0])
    """
    lengths = tf.reduce_sum(tf.cast(tokens >= 0, tf.int32), axis=1)
    dropped = tf.maximum(lengths - room, 0)
    there = tf.shape(tokens)[1]
    kept = tf.range(there) + dropped[:, None]
    moved = tf.gather(tokens, tf.minimum(kept, there - 1), batch_dims=1)
    return tf.where(kept < lengths[:, None], moved, PADDING)[:, :width], dropped
