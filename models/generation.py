"""The loop that writes text token by token, with any network that reads one token after another."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

CANDIDATES = 256
"""Number of likeliest tokens that are sorted at each step; all are only where these are too few."""
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

MEANINGS = {
    "max_tokens": "maximum number of tokens that are written, at least 1",
    "temperature": "divides the logits; 0 always takes the likeliest token",
    "top_k": "number of likeliest tokens to choose from; 0: all",
    "top_p": "chooses from the fewest likeliest tokens whose probabilities sum to at least this, "
    "above 0 and at most 1",
    "repetition_penalty": "divides the positive logits of tokens that are there already, and "
    "multiplies the negative ones, above 0; 1: none",
    "seed": "the same seed gives the same text, regardless of the other requests",
    "log_probability": "of what was written, its end included, in nats, as the network gives it "
    "before temperature and the like",
    "finish_reason": "`stop`: the text ended; `length`: after max_tokens",
    "tokens": "number of tokens that were written",
    "prompt_tokens": "number of tokens of the prompt that were read, its start included",
    "dropped_tokens": "number of tokens at the beginning of the prompt that were not read",
}
"""Meanings of these inputs, and of what every loop returns."""


class Steps(NamedTuple):
    """How a network reads a text step by step. Rows do not influence each other.

    Args:
        start: From features to the logits of the first token `(n, vocabulary)` and the state after
            the features, any nest of tensors. It reads a whole prompt or source at once.
        step: From a state and the next token of each row, int32 `(n,)`, to the logits of the token
            after it `(n, vocabulary)` and the new state, of the same shapes.
    """

    start: Callable[[Any], tuple[tf.Tensor, Any]]
    step: Callable[[Any, tf.Tensor], tuple[tf.Tensor, Any]]


class Choice(NamedTuple):
    """How each row chooses its tokens; each is a tensor `(n,)`.

    Args:
        max_tokens: Maximum number of tokens, the end token included, int32, at least 1.
        temperature: Divides the logits. 0 takes the likeliest token, of equal ones that with the
            lowest id.
        top_k: Number of likeliest tokens to choose from, int32. 0: all.
        top_p: Chooses from the fewest likeliest tokens whose probabilities sum to at least this,
            in (0, 1]. 1: all.
        repetition_penalty: Divides the positive logits of tokens that are in prompt or answer, and
            multiplies the negative ones, above 0. 1: none.
        seed: int64. A row with the same seed chooses the same tokens in any batch.
    """

    max_tokens: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    repetition_penalty: tf.Tensor
    seed: tf.Tensor


class Written(NamedTuple):
    """What `generate` wrote.

    Args:
        token_ids: int32 `(n, limit)`, without the end token; -1 behind the last one.
        log_probability: Sum of the log-probabilities of the tokens, the end token included, as the
            network gives them, before all that `Choice` changes: nats, float32 `(n,)`.
        ended: Whether the end token ended the row, bool `(n,)`.
    """

    token_ids: tf.Tensor
    log_probability: tf.Tensor
    ended: tf.Tensor


def generate(
    steps: Steps, features: Any, prompt: tf.Tensor, choice: Choice, *, limit: int, end_id: int
) -> Written:
    """Writes what follows each row, until the end token or `max_tokens`, in one `tf.while_loop`.

    Args:
        steps: How the network reads.
        features: What `steps.start` takes.
        prompt: Tokens that count as repeated, int32 `(n, tokens)`, -1 in padding.
        choice: How each row chooses.
        limit: Maximum number of tokens of every row; `max_tokens` may be less.
        end_id: The end token.
    """
    logits, state = steps.start(features)
    drawn = uniforms(choice.seed, limit)
    rows, vocabulary_size = tf.shape(prompt)[0], logits.shape[-1]

    def goes_on(index, tokens, total, ended, done, *_):
        return (index < limit) & ~tf.reduce_all(done)

    def write(index, tokens, total, ended, done, seen, logits, state):
        logits = tf.cast(logits, tf.float32)  # Sums over a vocabulary in bfloat16 lose digits.
        chosen = choose(logits, seen, choice, drawn[:, index])
        logs = tf.gather(tf.nn.log_softmax(logits), chosen, batch_dims=1)
        total += tf.where(done, 0.0, logs)
        ended |= ~done & (chosen == end_id)
        done |= ended
        is_next = ~done[:, None] & (tf.range(limit) == index)
        tokens = tf.where(is_next, chosen[:, None], tokens)
        done |= index + 1 >= choice.max_tokens
        seen |= tf.one_hot(chosen, vocabulary_size, on_value=True, off_value=False)
        return index + 1, tokens, total, ended, done, seen, *steps.step(state, chosen)

    nothing = tf.zeros((rows,), tf.bool)
    first = (
        *(0, tf.fill((rows, limit), PADDING), tf.zeros((rows,)), nothing, nothing),
        *(occurring(prompt, vocabulary_size), logits, state),
    )
    _, tokens, total, ended, *_ = tf.while_loop(goes_on, write, first)
    return Written(tokens, total, ended)


def choose(logits: tf.Tensor, seen: tf.Tensor, choice: Choice, drawn: tf.Tensor) -> tf.Tensor:
    """Chooses a token for each row: penalty, temperature, `top_k`, `top_p`, and then by chance.

    The tokens are sorted by probability, and the number that was drawn is looked up among the
    cumulative sums. What a row chooses does not depend on the others.

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

    Returns:
        int32 `(n,)`.
    """
    penalty = choice.repetition_penalty[:, None]
    penalized = tf.where(logits > 0, logits / penalty, logits * penalty)
    logits = tf.where(seen, penalized, logits)
    # The largest becomes 0, so that no temperature makes it infinite.
    logits -= tf.reduce_max(logits, axis=1, keepdims=True)
    logits /= tf.where(choice.temperature > 0, choice.temperature, 1.0)[:, None]
    whole = tf.reduce_sum(tf.exp(logits), axis=1)  # (n,)
    vocabulary_size = logits.shape[-1]
    if vocabulary_size <= CANDIDATES:
        return _among(logits, whole, choice, drawn, vocabulary_size)[0]
    chosen, suffices = _among(logits, whole, choice, drawn, CANDIDATES)
    every = tf.cond(
        tf.reduce_all(suffices),
        lambda: chosen,
        lambda: _among(logits, whole, choice, drawn, vocabulary_size)[0],
    )
    return tf.where(suffices, chosen, every)


def _among(
    logits: tf.Tensor, whole: tf.Tensor, choice: Choice, drawn: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses among the likeliest tokens.

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
    # Without a cut the sum is 1, so that the number is looked up as it is.
    uncut = (choice.top_k <= 0) & (choice.top_p >= 1)
    mass = tf.where(uncut, 1.0, tf.reduce_max(tf.where(within, sums, 0.0), axis=1))
    passed = within & (sums <= (drawn * mass)[:, None])
    last = tf.reduce_sum(tf.cast(within, tf.int32), axis=1) - 1
    place = tf.minimum(tf.reduce_sum(tf.cast(passed, tf.int32), axis=1), last)
    greedy = choice.temperature <= 0
    reached = tf.where(uncut, drawn < sums[:, -1], choice.top_p <= sums[:, -1])
    suffices = greedy | tf.where(choice.top_k > 0, choice.top_k <= count, reached)
    place = tf.where(greedy, 0, place)
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
        context: As in `continuing`.
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
    """Returns the tokens of what the core of `continuing` wrote, and their log-probability."""
    return {name: written[name] for name in ("token_ids", "log_probability")}


def as_text(written: Mapping[str, tf.Tensor], decode: Callable) -> dict[str, tf.Tensor]:
    """Returns the text of what the core of `continuing` wrote, and its log-probability.

    Args:
        written: From the core.
        decode: From tokens, int32 `(n, tokens)`, -1 in padding, to strings `(n,)`.
    """
    return {"text": decode(written["token_ids"]), "log_probability": written["log_probability"]}


def explained(written: Mapping[str, tf.Tensor], decode: Callable) -> dict[str, tf.Tensor]:
    """Returns what `as_text` returns, and how it came about."""
    return {
        **as_text(written, decode),
        "finish_reason": tf.where(written["ended"], "stop", "length"),
        "tokens": tf.reduce_sum(tf.cast(written["token_ids"] >= 0, tf.int32), axis=1),
        "prompt_tokens": written["prompt_tokens"],
        "dropped_tokens": written["dropped_tokens"],
    }


def continuing(
    steps_of: Callable[[Any], Steps], context: int, end_id: int
) -> Callable[[Any, dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Returns the core of a signature that writes what follows prompts.

    The end token is put before each prompt, and the oldest tokens are dropped where prompt and
    `max_tokens` together are longer than the context. The core takes `token_ids`, int32
    `(n, tokens)`, -1 in padding, and the `INPUTS`. It returns `token_ids`,
    int32 `(n, context - 1)`, `log_probability` and `ended` as `Written` has them, and how many
    tokens of each prompt were read and dropped, `prompt_tokens` and `dropped_tokens`.

    Args:
        steps_of: From the model to how it reads.
        context: Maximum number of tokens that the model reads; at least 2.
        end_id: The end token.
    """

    def core(network, features):
        choice, limit = Choice(**{name: features[name] for name in INPUTS}), context - 1
        begun = tf.pad(features["token_ids"], [[0, 0], [1, 0]], constant_values=end_id)
        prompt, dropped = latest(begun, context - choice.max_tokens, limit)
        steps = steps_of(network.model)
        written = generate(steps, prompt, prompt, choice, limit=limit, end_id=end_id)
        read = tf.reduce_sum(tf.cast(prompt >= 0, tf.int32), axis=1)
        return {**written._asdict(), "prompt_tokens": read, "dropped_tokens": dropped}

    return core
