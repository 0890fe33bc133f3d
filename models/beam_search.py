"""Beam search with any network that reads one token after another."""

from typing import Any, NamedTuple

import tensorflow as tf

from models.generation import PADDING, Steps


class Beams(NamedTuple):
    """The best hypotheses that `beam_search` found, the best first.

    Args:
        token_ids: int32 `(n, beams, limit)`, without the end token; -1 behind the last one.
        log_probability: Sum of the log-probabilities of the tokens, the end token included, in
            nats, float32 `(n, beams)`.
        score: `log_probability` divided by the length penalty, float32 `(n, beams)`.
    """

    token_ids: tf.Tensor
    log_probability: tf.Tensor
    score: tf.Tensor


def length_penalty(length: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Returns `((5 + length) / 6) ** alpha`, by which a hypothesis' log-probability is divided.

    Reference:
        Wu et al., Google's Neural Machine Translation System, 2016, equation 14.
        https://arxiv.org/abs/1609.08144

    Args:
        length: Number of tokens, the end token included.
        alpha: At least 0; 0 is no penalty, and larger values prefer longer texts.

    Example:
        >>> length_penalty(tf.constant([1, 7]), tf.constant(1.0)).numpy().tolist()
        [1.0, 2.0]
    """
    return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha


def beam_search(
    steps: Steps,
    features: Any,
    max_tokens: tf.Tensor,
    alpha: tf.Tensor,
    *,
    beams: int,
    limit: int,
    end_id: int,
    room: tf.Tensor | None = None,
) -> Beams:
    """Searches for the texts with the highest scores, in one `tf.while_loop`.

    At each step the running hypotheses are continued by every token, and the likeliest `beams`
    continuations are kept. Those that end with the end token, or with their `max_tokens`-th token,
    are finished: they no longer run, and their scores no longer change. A row is done when no
    running hypothesis can still reach the score of the last of `beams` finished ones. The highest
    score that one can reach is its log-probability, which only falls, divided by the penalty of
    `max_tokens`.

    Args:
        steps: How the network reads; `pick` is needed.
        features: What `steps.start` takes, of `n` rows.
        max_tokens: Maximum number of tokens of each row, the end token included, int32 `(n,)`.
        alpha: The exponent of `length_penalty` of each row, float32 `(n,)`.
        beams: Number of hypotheses, from 1, which finds what greedy choice finds, to the size of
            the vocabulary.
        limit: Maximum of `max_tokens`.
        end_id: The end token.
        room: As in `generate`.
    """
    if steps.pick is None:
        raise ValueError("`steps` must have `pick`. Received: None")
    pick = steps.pick
    logits, state = steps.start(features, limit if room is None else room)
    rows = tf.shape(logits)[0]
    vocabulary_size = logits.shape[-1]
    first_rows = tf.range(rows)[:, None] * beams  # Of the hypotheses of each row.
    most = length_penalty(max_tokens, alpha)[:, None]

    def goes_on(index, done, *_):
        return (index < limit) & ~tf.reduce_all(done)

    def search(*before):
        index, done, running, totals, finished, logits, state = before
        logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        every = totals[:, :, None] + tf.reshape(logs, (-1, beams, vocabulary_size))
        totals, positions = tf.math.top_k(tf.reshape(every, (-1, beams * vocabulary_size)), beams)
        parents, tokens = positions // vocabulary_size, positions % vocabulary_size
        ends, is_last = tokens == end_id, index + 1 >= max_tokens[:, None]
        running = tf.gather(running, parents, batch_dims=1)
        is_next = ~ends[:, :, None] & (tf.range(limit) == index)
        running = tf.where(is_next, tokens[:, :, None], running)
        score = totals / length_penalty(index + 1, alpha[:, None])
        score = tf.where((ends | is_last) & ~done[:, None], score, -float("inf"))
        finished = _merged(finished, Beams(running, totals, score), beams)
        totals = tf.where(ends, -float("inf"), totals)
        reachable = tf.reduce_max(totals, axis=1, keepdims=True) / most
        done |= tf.squeeze(is_last | (finished.score[:, -1:] >= reachable), axis=1)
        picked = tf.reshape(first_rows + parents, [-1])
        logits, state = steps.step(pick(state, picked), tf.reshape(tokens, [-1]))
        after = (index + 1, done, running, totals, finished, logits, state)
        # A number of rows that is known must stay known.
        return tf.nest.map_structure(lambda x, old: tf.ensure_shape(x, old.shape), after, before)

    # At first all hypotheses of a row are equal, so only one of them may run.
    copies = tf.repeat(tf.range(rows), beams)
    totals = tf.tile(tf.one_hot([0], beams, 0.0, -float("inf")), [rows, 1])
    empty = tf.fill((rows, beams, limit), PADDING)
    worst = tf.fill((rows, beams), -float("inf"))
    first = (
        *(0, tf.zeros((rows,), tf.bool), empty, totals, Beams(empty, worst, worst)),
        *(tf.gather(logits, copies), pick(state, copies)),
    )
    first = tf.nest.map_structure(tf.convert_to_tensor, first)
    return tf.while_loop(goes_on, search, first)[4]


def _merged(one: Beams, other: Beams, beams: int) -> Beams:
    """Keeps the best of two sets of hypotheses."""
    both = Beams(*(tf.concat(parts, axis=1) for parts in zip(one, other, strict=True)))
    score, kept = tf.math.top_k(both.score, beams)
    token_ids, log_probability = (
        tf.gather(part, kept, batch_dims=1) for part in (both.token_ids, both.log_probability)
    )
    return Beams(token_ids, log_probability, score)
