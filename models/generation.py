"""The loop that writes text token by token, with any network that reads one token after another."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

CANDIDATES = (256, 4096)
"""Numbers of likeliest tokens that `top_k` and `top_p` sort, the next if one is too small, and all
if the last one is."""
PADDING = -1
"""Follows the last token of a row."""
NO_BYTE = -2
"""Stands where a text has no byte that a stop string could have."""


class Steps(NamedTuple):
    """How a network reads a text step by step. Rows do not influence each other.

    Args:
        start: From features, and the maximum number of tokens that are written after them, to the
            logits of the first token `(n, vocabulary)` and the state after the features, any nest
            of tensors. It reads a whole prompt or source at once.
        step: From a state and the next token of each row, int32 `(n,)`, to the logits of the token
            after it `(n, vocabulary)` and the new state, of the same shapes.
        pick: From a state and numbers of its rows, int32 `(m,)`, to the state of these rows. Each
            row of the features keeps equally many, which follow one another, so that what belongs
            to the features need not be moved. Only `beam_search` needs it.
    """

    start: Callable[[Any, tf.Tensor], tuple[tf.Tensor, Any]]
    step: Callable[[Any, tf.Tensor], tuple[tf.Tensor, Any]]
    pick: Callable[[Any, tf.Tensor], Any] | None = None


class Choice(NamedTuple):
    """How each row chooses its tokens; each is a tensor `(n,)`.

    Args:
        max_tokens: Maximum number of tokens, the end token included, int32, at least 1.
        temperature: Divides the logits. 0 takes the likeliest token, of equal ones that with the
            lowest id.
        top_k: Number of likeliest tokens to choose from, int32. 0: all.
        top_p: Chooses from the fewest likeliest tokens whose probabilities sum to at least this,
            in 1e-6 to 1. 1: all.
        repetition_penalty: Divides the positive logits of tokens that are in prompt or answer, and
            multiplies the negative ones, in 0.01 to 100. 1: none.
        seed: int64. A row with the same seed chooses the same tokens in any batch.
    """

    max_tokens: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    repetition_penalty: tf.Tensor
    seed: tf.Tensor


class Stop(NamedTuple):
    """Strings at which a row ends. They are compared with the bytes of the tokens.

    Args:
        strings: Bytes of the strings of each row, int32 `(n, strings, bytes)`, each at the end,
            after -1; a row of -1 is no string. XLA has no strings.
        pieces: From `piece_bytes`, int32 `(vocabulary, bytes)`.
        hides_space: Whether a space that begins a text is not shown. It counts in `num_bytes`, but
            is in no stop string.
    """

    strings: tf.Tensor
    pieces: tf.Tensor
    hides_space: bool = False


class Written(NamedTuple):
    """What `generate` wrote.

    Args:
        token_ids: int32 `(n, limit)`, without the end token; -1 behind the last one.
        log_probability: Sum of the log-probabilities of the tokens, the end token included, as the
            network gives them, before all that `Choice` changes: nats, float32 `(n,)`.
        ended: Whether the end token or a stop string ended the row, bool `(n,)`.
        num_bytes: Bytes of the text before the stop string that ended it, int32 `(n,)`; -1: all.
        gap: The smallest `Chosen.gap` of the tokens, float32 `(n,)`.
    """

    token_ids: tf.Tensor
    log_probability: tf.Tensor
    ended: tf.Tensor
    num_bytes: tf.Tensor
    gap: tf.Tensor


class Chosen(NamedTuple):
    """What `choose` chose.

    Args:
        tokens: int32 `(n,)`.
        gap: Difference of the two largest logits where the likeliest token was taken, in nats: the
            smaller, the more likely rounding takes the other; elsewhere infinite. float32 `(n,)`.
    """

    tokens: tf.Tensor
    gap: tf.Tensor


def generate(
    steps: Steps,
    features: Any,
    prompt: tf.Tensor,
    choice: Choice,
    *,
    limit: int,
    end_id: int,
    stop: Stop | None = None,
    room: tf.Tensor | None = None,
) -> Written:
    """Writes what follows each row, in one `tf.while_loop`.

    A row ends at the end token, after `max_tokens`, or with the token that completes a stop string.

    Args:
        steps: How the network reads.
        features: What `steps.start` takes.
        prompt: Tokens that count as repeated, int32 `(n, tokens)`, -1 in padding.
        choice: How each row chooses.
        limit: Maximum number of tokens of every row; `max_tokens` may be less.
        end_id: The end token.
        stop: The stop strings. None: none.
        room: At least the maximum of `max_tokens`: states have room for as many tokens. None: the
            limit.
    """
    logits, state = steps.start(features, limit if room is None else room)
    drawn = uniforms(choice.seed, limit)
    rows, vocabulary_size = tf.shape(prompt)[0], logits.shape[-1]

    def goes_on(index, tokens, total, gap, ended, done, *_):
        return (index < limit) & ~tf.reduce_all(done)

    def write(index, tokens, total, gap, ended, done, seen, found, logits, state):
        logits = tf.cast(logits, tf.float32)  # Sums over a vocabulary in bfloat16 lose digits.
        chosen, apart = choose(logits, seen, choice, drawn[:, index], done)
        gap = tf.where(done, gap, tf.minimum(gap, apart))
        logs = tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
        total += tf.where(done, 0.0, logs)
        ended |= ~done & (chosen == end_id)
        done |= ended
        is_next = ~done[:, None] & (tf.range(limit) == index)
        tokens = tf.where(is_next, chosen[:, None], tokens)
        if stop:
            read = tf.where(done, end_id, chosen)
            found, stopped = tf.cond(
                tf.reduce_any(stop.strings >= 0),
                lambda: _look_for(stop, found, read, done),
                lambda: (found, tf.zeros_like(done)),
            )
            ended |= stopped
            done |= stopped
        done |= index + 1 >= choice.max_tokens
        seen |= tf.one_hot(chosen, vocabulary_size, on_value=True, off_value=False)
        after = (index + 1, tokens, total, gap, ended, done, seen, found)
        return *after, *steps.step(state, chosen)

    nothing, zeros = tf.zeros((rows,), tf.bool), tf.zeros((rows,))
    first = (
        *(0, tf.fill((rows, limit), PADDING), zeros, zeros + float("inf"), nothing, nothing),
        *(occurring(prompt, vocabulary_size), _nothing_found(stop, rows), logits, state),
    )
    _, tokens, total, gap, ended, _, _, found, *_ = tf.while_loop(goes_on, write, first)
    return Written(tokens, total, ended, found.num_bytes, gap)


class _Found(NamedTuple):
    """What `_look_for` has read.

    Args:
        tail: The last bytes of the text that are shown, int32 `(n, bytes)`; -2 before them.
        length: Bytes that were read, int32 `(n,)`.
        num_bytes: As in `Written`.
    """

    tail: tf.Tensor
    length: tf.Tensor
    num_bytes: tf.Tensor


def _nothing_found(stop: Stop | None, rows: tf.Tensor) -> _Found:
    # So long that a stop string which ends in any byte of the last token is whole in it.
    width = tf.shape(stop.strings)[2] + stop.pieces.shape[1] - 1 if stop else 0
    none = tf.fill((rows,), -1)
    return _Found(tf.fill((rows, width), NO_BYTE), tf.zeros_like(none), none)


def _look_for(
    stop: Stop, found: _Found, chosen: tf.Tensor, done: tf.Tensor
) -> tuple[_Found, tf.Tensor]:
    """Reads the bytes of a token of each row; returns which rows have come to a stop string."""
    new = tf.gather(stop.pieces, chosen)  # (n, bytes of a token)
    count = tf.reduce_sum(tf.cast(new >= 0, tf.int32), axis=1)
    if stop.hides_space:
        is_first = (found.length == 0)[:, None] & (tf.range(tf.shape(new)[1]) == 0)
        new = tf.where(is_first & (new == ord(" ")), NO_BYTE, new)
    width, most = tf.shape(found.tail)[1], stop.pieces.shape[1]
    kept = count[:, None] + tf.range(width)
    tail = tf.gather(tf.concat([found.tail, new], axis=1), kept, batch_dims=1)
    length = found.length + count
    # Windows that end 0, 1, ... bytes before the end of the text.
    before = tf.range(most)
    inside = (most - 1 - before)[:, None] + tf.range(tf.shape(stop.strings)[2])
    windows = tf.gather(tail, inside, axis=1)[:, None]  # (n, 1, windows, bytes)
    strings = stop.strings[:, :, None]  # (n, strings, 1, bytes)
    same = tf.reduce_all((strings < 0) | (strings == windows), axis=-1)
    sizes = tf.reduce_sum(tf.cast(stop.strings >= 0, tf.int32), axis=-1)[:, :, None]
    same &= (sizes > 0) & (before < count[:, None, None]) & ~done[:, None, None]
    begins = length[:, None, None] - before - sizes
    begin = tf.reduce_min(tf.where(same, begins, tf.int32.max), axis=[1, 2])
    stopped = tf.reduce_any(same, axis=[1, 2])
    return _Found(tail, length, tf.where(stopped, begin, found.num_bytes)), stopped


def piece_bytes(pieces: Sequence[bytes]) -> tf.Tensor:
    """Returns the bytes of each token for `Stop`, int32 `(vocabulary, bytes)`, -1 behind them.

    Example:
        >>> piece_bytes([b"ab", b"c", b""]).numpy().tolist()
        [[97, 98], [99, -1], [-1, -1]]
    """
    sizes = np.array([len(piece) for piece in pieces])
    table = np.full((len(pieces), sizes.max()), PADDING, "int32")
    table[np.arange(sizes.max()) < sizes[:, None]] = np.frombuffer(b"".join(pieces), "uint8")
    return tf.constant(table)


def choose(
    logits: tf.Tensor,
    seen: tf.Tensor,
    choice: Choice,
    drawn: tf.Tensor,
    done: tf.Tensor | None = None,
) -> Chosen:
    """Chooses a token for each row: penalty, temperature, `top_k`, `top_p`, and then by chance.

    The number that was drawn is looked up among the cumulative sums of the probabilities. They are
    in the order of the ids if a row has neither `top_k` nor `top_p`, as sorting a vocabulary takes
    long, and otherwise sorted, the largest first. What a row chooses does not depend on the others.

    Reference:
        Keskar et al., CTRL, 2019, section 4.1, for the penalty. https://arxiv.org/abs/1909.05858
        Fan, Lewis & Dauphin, Hierarchical Neural Story Generation, 2018, section 5.4, for `top_k`.
        https://arxiv.org/abs/1805.04833
        Holtzman et al., The Curious Case of Neural Text Degeneration, 2020, section 3.1, for
        `top_p`. https://arxiv.org/abs/1904.09751

    Args:
        logits: float32 `(n, vocabulary)`.
        seen: Tokens that are in prompt or answer, bool `(n, vocabulary)`.
        choice: How each row chooses.
        drawn: One number in [0, 1) for each row, float32 `(n,)`.
        done: Rows whose token does not matter, so that it may be any, bool `(n,)`. None: none.
    """
    penalty = choice.repetition_penalty[:, None]
    penalized = tf.where(logits > 0, logits / penalty, logits * penalty)
    logits = tf.where(seen, penalized, logits)
    # The largest becomes 0, so that no temperature makes it infinite.
    logits -= tf.reduce_max(logits, axis=1, keepdims=True)
    logits /= tf.where(choice.temperature > 0, choice.temperature, 1.0)[:, None]
    by_chance = choice.temperature > 0
    if done is not None:
        by_chance &= ~done
    is_cut = (choice.top_k > 0) | (choice.top_p < 1)
    # Of equal ones, the one with the lowest id. XLA sorts a vocabulary if there are two to find.
    best, likeliest = (found[:, 0] for found in tf.math.top_k(logits, 1))
    is_other = tf.range(logits.shape[-1]) != likeliest[:, None]
    gap = best - tf.reduce_max(tf.where(is_other, logits, -float("inf")), axis=1)
    # Each way is taken only if a row needs it.
    uncut = tf.cond(
        tf.reduce_any(by_chance & ~is_cut),
        lambda: _among_all(logits, drawn),
        lambda: likeliest,
    )
    cut = tf.cond(
        tf.reduce_any(by_chance & is_cut),
        lambda: _among_likeliest(logits, choice, drawn, by_chance & is_cut),
        lambda: likeliest,
    )
    tokens = tf.where(by_chance, tf.where(is_cut, cut, uncut), likeliest)
    return Chosen(tokens, tf.where(by_chance, float("inf"), gap))


def _among_all(logits: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Chooses among all tokens, in the order of their ids."""
    sums = tf.cumsum(tf.exp(logits), axis=1)
    passed = sums <= drawn[:, None] * sums[:, -1:]
    # A rounded product may reach the last sum; the first token with this sum has a probability.
    last = tf.reduce_sum(tf.cast(sums < sums[:, -1:], tf.int32), axis=1)
    return tf.minimum(tf.reduce_sum(tf.cast(passed, tf.int32), axis=1), last)


def _among_likeliest(
    logits: tf.Tensor, choice: Choice, drawn: tf.Tensor, is_needed: tf.Tensor
) -> tf.Tensor:
    """Chooses among the likeliest tokens of the rows that need it; in others any token."""
    whole = tf.reduce_sum(tf.exp(logits), axis=1)  # (n,)
    vocabulary_size = logits.shape[-1]
    counts = [*(count for count in CANDIDATES if count < vocabulary_size), vocabulary_size]
    found = _among(logits, whole, choice, drawn, counts[0])
    for count in counts[1:]:
        found = _among_more(found, logits, whole, choice, drawn, is_needed, count)
    return found[0]


def _among_more(found, logits, whole, choice, drawn, is_needed, count: int):
    """Chooses again, among more tokens, where it is needed and those before do not suffice."""
    chosen, suffices = found

    def again():
        more, now = _among(logits, whole, choice, drawn, count)
        return tf.where(suffices, chosen, more), suffices | now

    return tf.cond(tf.reduce_all(suffices | ~is_needed), lambda: found, again)


def _among(
    logits: tf.Tensor, whole: tf.Tensor, choice: Choice, drawn: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses among some of the likeliest tokens.

    Args:
        whole: Sum of `exp(logits)` over the vocabulary `(n,)`.
        count: Number of tokens that are sorted.

    Returns:
        The tokens, and whether no other would be chosen if all were sorted, bool `(n,)`.
    """
    best, ids = tf.math.top_k(logits, count)  # Of equal ones, the lowest id comes first.
    k, p = choice.top_k[:, None], choice.top_p[:, None]
    weights = tf.where((k > 0) & (tf.range(count) >= k), 0.0, tf.exp(best))
    kept = tf.reduce_sum(weights, axis=1)
    probabilities = weights / tf.where(choice.top_k > 0, kept, whole)[:, None]
    sums = tf.cumsum(probabilities, axis=1)
    before = tf.pad(sums[:, :-1], [[0, 0], [1, 0]])
    # A rounded sum may exceed 1 before the last token.
    within = (weights > 0) & ((before < p) | (p >= 1))
    mass = tf.reduce_max(tf.where(within, sums, 0.0), axis=1)
    passed = within & (sums <= (drawn * mass)[:, None])
    last = tf.maximum(tf.reduce_sum(tf.cast(within, tf.int32), axis=1) - 1, 0)
    place = tf.minimum(tf.reduce_sum(tf.cast(passed, tf.int32), axis=1), last)
    suffices = tf.where(choice.top_k > 0, choice.top_k <= count, choice.top_p <= sums[:, -1])
    return tf.gather(ids, place, batch_dims=1), suffices


def uniforms(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """Draws `count` numbers in [0, 1) from each seed, float32 `(n, count)`.

    Each row is drawn by itself, with an algorithm that is the same on every device.
    """

    def draw(seed):
        pair = tf.stack([seed, tf.zeros_like(seed)])
        return tf.random.stateless_uniform(
            (count,), pair, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )

    bits = tf.map_fn(draw, seeds, fn_output_signature=tf.TensorSpec((count,), tf.uint32))
    # Only the bits are the same with XLA: it takes others of them for floating numbers.
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def occurring(tokens: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Returns which tokens occur in each row, bool `(n, vocabulary_size)`.

    Args:
        tokens: int32 `(n, tokens)`, -1 in padding.
        vocabulary_size: Number of different tokens.

    Example:
        >>> occurring(tf.constant([[2, 2, 0], [1, -1, -1]]), 3).numpy().tolist()
        [[True, False, True], [False, True, False]]
    """
    rows, width = tf.shape(tokens)[0], tf.shape(tokens)[1]
    numbers = tf.broadcast_to(tf.range(rows)[:, None], (rows, width))
    columns = tf.where(tokens < 0, vocabulary_size, tokens)  # One more column, for padding.
    counts = tf.scatter_nd(
        tf.stack([numbers, columns], axis=-1), tf.ones_like(tokens), (rows, vocabulary_size + 1)
    )
    return counts[:, :-1] > 0
