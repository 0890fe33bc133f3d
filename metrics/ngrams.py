"""Predictions from counts of words and of those before them: the baseline of language models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

NO_CONTEXT = -1
"""Marks a word without a known context."""


@dataclass(frozen=True)
class Guesses:
    """How well words were predicted.

    Args:
        losses: Cross-entropy of each word in nats `(words,)`.
        hits: Whether the most probable word was the correct one, bool `(words,)`.
    """

    losses: np.ndarray
    hits: np.ndarray

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy, and perplexity: e to the power of the mean cross-entropy."""
        return {
            "accuracy": float(self.hits.mean()),
            "perplexity": float(np.exp(self.losses.mean(dtype="float64"))),
        }

    def named(self, prefix: str) -> dict[str, float]:
        """Returns the scores with a prefix before each name."""
        return {f"{prefix}{name}": value for name, value in self.scores.items()}

    def joined(self, other: "Guesses") -> "Guesses":
        return Guesses(
            np.concatenate([self.losses, other.losses]), np.concatenate([self.hits, other.hits])
        )


def with_previous(documents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the word before each word, -1 at the beginning of a document, and the words.

    Example:
        >>> [part.tolist() for part in with_previous([np.array([7, 8]), np.array([9])])]
        [[-1, 7, -1], [7, 8, 9]]
    """
    before = [np.concatenate([[NO_CONTEXT], words[:-1]], dtype="int32") for words in documents]
    return np.concatenate(before), np.concatenate(documents)


@dataclass(frozen=True)
class Ngrams:
    """Unigram and bigram probabilities of words with Jelinek-Mercer interpolation.

    `P(word) = (count(word) + 1) / (words + vocabulary)` and `P(word | context) =
    weight * count(context, word) / count(context) + (1 - weight) * P(word)`. If the context is -1
    or was never seen, `P(word | context) = P(word)`.

    Reference:
        Chen & Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1999,
        section 2.3. https://doi.org/10.1006/csla.1999.0128

    Args:
        unigram: `P(word)` `(vocabulary,)`.
        pairs: `context * vocabulary + word` of each pair that was seen, ascending `(pairs,)`.
        shares: `count(context, word) / count(context)` of each pair `(pairs,)`.
        weight: Weight of the bigrams, in [0, 1); 0 uses unigrams only.

    Example:
        >>> ngrams = Ngrams.counted(np.array([-1, 0, 1, 0]), np.array([0, 1, 0, 1]), 3)
        >>> ngrams.unigram.round(2).tolist(), ngrams.pairs.tolist(), ngrams.shares.tolist()
        ([0.43, 0.43, 0.14], [1, 3], [1.0, 1.0])
    """

    unigram: np.ndarray
    pairs: np.ndarray
    shares: np.ndarray
    weight: float = 0.0

    @classmethod
    def counted(cls, contexts: np.ndarray, words: np.ndarray, vocabulary_size: int) -> "Ngrams":
        """Counts words, and pairs of a word and the context that it is predicted from.

        Args:
            contexts: Integers `(words,)`, below `vocabulary_size`; -1 for no context.
            words: Integers `(words,)`, in [0, vocabulary_size).
            vocabulary_size: Number of different words.
        """
        unigram = np.bincount(words, minlength=vocabulary_size) + 1.0
        known = contexts >= 0
        keys = contexts[known].astype("int64") * vocabulary_size + words[known]
        pairs, counts = np.unique(keys, return_counts=True)
        of_context = pairs // vocabulary_size
        totals = np.bincount(of_context, weights=counts, minlength=vocabulary_size)
        return cls(unigram / unigram.sum(), pairs, counts / totals[of_context])

    def tuned(self, contexts: np.ndarray, words: np.ndarray) -> "Ngrams":
        """Chooses the weight among 0, 0.01, ... 0.99 with the lowest loss on these words."""
        weights = np.linspace(0, 0.99, 100)
        known = self._is_known(contexts)
        shares, alone = self._shares_of(contexts[known], words[known]), self.unigram[words[known]]
        losses = [-np.log(weight * shares + (1 - weight) * alone).sum() for weight in weights]
        return replace(self, weight=float(weights[np.argmin(losses)]))

    def guess(self, contexts: np.ndarray, words: np.ndarray) -> Guesses:
        """Predicts words `(words,)` from contexts `(words,)`, -1 for no context."""
        return Guesses(self.losses(contexts, words), self.likeliest(contexts) == words)

    def losses(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Computes the cross-entropy of each word in nats `(words,)`."""
        alone = self.unigram[words]
        shares = self._shares_of(contexts, words)
        mixed = self.weight * shares + (1 - self.weight) * alone
        return -np.log(np.where(self._is_known(contexts), mixed, alone))

    def likeliest(self, contexts: np.ndarray) -> np.ndarray:
        """Returns the most probable word for each context `(words,)`."""
        usual = int(self.unigram.argmax())
        contexts_seen, words_seen = np.divmod(self.pairs, len(self.unigram))
        mixed = self.weight * self.shares + (1 - self.weight) * self.unigram[words_seen]
        # Among the words that never followed a context, the most frequent is the most probable.
        better = np.flatnonzero(mixed > (1 - self.weight) * self.unigram[usual])
        order = better[np.argsort(mixed[better], kind="stable")]
        table = np.full(len(self.unigram), usual)
        # If a context occurs several times, the last assignment remains, which is the largest.
        table[contexts_seen[order]] = words_seen[order]
        return np.where(contexts >= 0, table[contexts], usual)

    def _is_known(self, contexts: np.ndarray) -> np.ndarray:
        seen = np.zeros(len(self.unigram), bool)
        seen[self.pairs // len(self.unigram)] = True
        return (contexts >= 0) & seen[contexts]

    def _shares_of(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        if not len(self.pairs):
            return np.zeros(len(words))
        keys = contexts.astype("int64") * len(self.unigram) + words
        indices = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        was_seen = (self.pairs[indices] == keys) & (contexts >= 0)
        return np.where(was_seen, self.shares[indices], 0.0)


def witten_bell(
    counted: np.ndarray, predicted: np.ndarray, vocabulary_size: int, order: int
) -> np.ndarray:
    """Computes the cross-entropy of tokens, predicted by interpolated n-grams.

    `P(w | h) = (count(h, w) + kinds(h) * P(w | h')) / (count(h) + kinds(h))`, where `kinds(h)` is
    the number of different tokens that followed the context h, and h' is h without its first token.
    Without any context P is uniform. A context that was never seen gives what h' gives.

    Reference:
        Witten & Bell, The Zero-Frequency Problem, 1991, method C.
        https://doi.org/10.1109/18.87000
        Chen & Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1999,
        section 2.4. https://doi.org/10.1006/csla.1999.0128

    Args:
        counted: The tokens that are counted, integers `(tokens,)` in [0, vocabulary_size).
        predicted: Tokens `(tokens,)`. The first one is only a context.
        vocabulary_size: Number of different tokens; to the power of `order` it is below 2**63.
        order: Number of tokens of an n-gram; at least 1.

    Returns:
        Nats of each token but the first, `(tokens - 1,)`.
    """
    probabilities = np.full(len(predicted) - 1, 1 / vocabulary_size)
    for size in range(order):
        contexts, following = _with_context(counted, size, vocabulary_size)
        grams, counts = np.unique(contexts * vocabulary_size + following, return_counts=True)
        seen, first = np.unique(grams // vocabulary_size, return_index=True)
        totals, kinds = np.add.reduceat(counts, first), np.diff(first, append=len(grams))
        contexts, following = _with_context(predicted, size, vocabulary_size)
        gram, context = contexts * vocabulary_size + following, contexts
        count = np.where(grams[_place(grams, gram)] == gram, counts[_place(grams, gram)], 0)
        known = seen[_place(seen, context)] == context
        total, kind = totals[_place(seen, context)], kinds[_place(seen, context)]
        mixed = (count + kind * probabilities) / (total + kind)
        probabilities = np.where(known, mixed, probabilities)
    return -np.log(probabilities)


def _with_context(stream: np.ndarray, size: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of the `size` tokens before each token but the first, and the token.

    Before the stream stand zeros.
    """
    contexts = np.zeros(len(stream) - 1, "int64")
    for back in range(size, 0, -1):
        before = np.concatenate([np.zeros(back - 1, "int64"), stream[: len(stream) - back]])
        contexts = contexts * base + before
    return contexts, stream[1:].astype("int64")


def _place(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
