"""Vocabularies of whole words or of word pieces, learned from texts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import tensorflow as tf

from preprocessing.words import KEPT, SPLIT, cleaned

MAX_WORDS = 200_000
"""Number of words, the most frequent, that pieces are learned from; others only add letters."""

LEAST_COUNT = 2
"""Minimum count of a word that is a token; rarer words are unknown."""
LEAST_WORDS = 40_000
"""Number of words in the texts from which on recurrent networks read whole words. With 52,000 to
132,000 words these were better or equal on validation data, with 35,000 equal."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learned_vocabulary(
    texts: Iterable[str] | tf.data.Dataset,
    size: int,
    lowercase: bool = True,
    kind: str = "pieces",
) -> list[str]:
    """Learns the tokens of a vocabulary: special tokens, then `pieces` or `words`.

    `pieces` are letters, then the most frequent words and parts of words: rare words are spelled.
    `words` are the words that occur at least `LEAST_COUNT` times, the most frequent first: rare
    words are unknown. `auto` are the words where the texts have at least `LEAST_WORDS` words and
    there is room for all words that are not rare, else the pieces.

    Reference:
        Wu et al., Google's Neural Machine Translation System, 2016, section 4.1.
        https://arxiv.org/abs/1609.08144

    Args:
        texts: Strings, or a dataset of strings, each a text or a batch of texts.
        size: Maximum size of the vocabulary, the five special tokens included.
        lowercase: Whether to convert texts to lower case; accents are kept.
        kind: `pieces`, `words` or `auto`.
    """
    if size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"`size` must be above {len(SPECIAL_TOKENS)}, the number of special tokens. "
            f"Received: size={size}"
        )
    counts = _count_words(texts, lowercase)
    room = size - len(SPECIAL_TOKENS)
    words = [word for word, count in counts.most_common() if count >= LEAST_COUNT]
    if kind == "auto":
        kind = "words" if counts.total() >= LEAST_WORDS and len(words) <= room else "pieces"
    return [*SPECIAL_TOKENS, *words[:room]] if kind == "words" else _learned(counts, size)


def _count_words(texts: Iterable[str] | tf.data.Dataset, lowercase: bool) -> Counter[str]:
    """Counts words, split like KerasHub's tokenizer."""
    import tensorflow_text

    counts: Counter[bytes] = Counter()
    for batch in _batches(texts):
        words = tensorflow_text.regex_split(cleaned(batch), SPLIT, KEPT).values
        if lowercase:
            words = tensorflow_text.case_fold_utf8(words)
        counts.update(words.numpy().tolist())
    if not counts:
        raise ValueError("`texts` must hold at least one word. Received none.")
    return Counter({word.decode(): count for word, count in counts.items()})


def _batches(texts: Iterable[str] | tf.data.Dataset) -> Iterator[tf.Tensor]:
    if isinstance(texts, tf.data.Dataset):
        single = texts if texts.element_spec.shape.rank == 0 else texts.unbatch()
        yield from single.batch(1024)
    else:
        rest = iter(texts)
        while batch := list(islice(rest, 1024)):
            yield tf.constant(batch)


def _learned(counts: Counter[str], size: int) -> list[str]:
    """Learns at most `size` pieces: special tokens, letters, then the most frequent pieces."""
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    # Minimum count of a piece. With the count of the last of the `size` most frequent words, these
    # words alone would fill the vocabulary. If 16 times that is needed, the surplus is cut below.
    least = max(2, counts.most_common(size)[-1][1])
    common = {word for word, _ in counts.most_common(MAX_WORDS)}
    words = {word: count for word, count in counts.items() if word in common}
    for word in counts.keys() - words.keys():
        words.update((letter, 1) for letter in word if letter not in words)
    pieces = learner.learn(
        words,
        size,
        [*SPECIAL_TOKENS],
        lower_thresh=least,
        upper_thresh=max(64, 16 * least),
        num_iterations=2,
        max_unique_chars=max(1000, size // 2),
    )
    # The learner adds each letter twice: as the first of a word, and as a later one. Most Chinese
    # characters never occur as the latter.
    inner = {letter for word in counts for letter in word[1:]}
    pieces = [p for p in pieces if len(p) != 3 or not p.startswith("##") or p[2] in inner]
    # Letters are kept, so that hardly any word is unknown.
    surplus = max(0, len(pieces) - size)
    long = [p for p in pieces[len(SPECIAL_TOKENS) :] if len(p.removeprefix("##")) > 1]
    dropped = set(long[max(0, len(long) - surplus) :])
    return [piece for piece in pieces if piece not in dropped][:size]
