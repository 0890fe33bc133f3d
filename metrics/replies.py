"""Replies that a network writes in dialogues: how much they vary, and how near they are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from metrics.translations import bleu_metric


@dataclass(frozen=True)
class Replies:
    """Replies that a network wrote, and the true ones.

    Args:
        written: The network's replies; at least one.
        true: The true reply to the same turns, for each.
    """

    written: Sequence[str]
    true: Sequence[str]

    @property
    def scores(self) -> dict[str, float]:
        """BLEU in percent, and what `variety` returns for the replies that were written."""
        return {"bleu": self._bleu[0], **variety(self.written)}

    @property
    def signature(self) -> str:
        """What sacrebleu says of how BLEU was computed."""
        return self._bleu[1]

    @cached_property
    def _bleu(self) -> tuple[float, str]:
        """BLEU of all replies together, of raw text.

        Reference:
            Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, 2002.
            https://doi.org/10.3115/1073083.1073135
            Post, A Call for Clarity in Reporting BLEU Scores, 2018.
            https://doi.org/10.18653/v1/W18-6319
        """
        bleu = bleu_metric()
        score = bleu.corpus_score(list(self.written), [list(self.true)]).score
        return score, str(bleu.get_signature())

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Returns heading and rows of a table that compares the variety of the replies."""
        return varieties("replies", {"the network's": self.written, "the true replies": self.true})


def varieties(
    what: str, groups: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns heading and rows of a table that compares the variety of groups of texts.

    Args:
        what: Heading of the names of the groups.
        groups: Texts of each group, by its name; at least one group.
    """
    found = {name: variety(texts) for name, texts in groups.items()}
    rows = [(name, *(f"{value:.3g}" for value in kind.values())) for name, kind in found.items()]
    return (what, *(kind.replace("_", " ") for kind in next(iter(found.values())))), rows


def variety(texts: Sequence[str]) -> Mapping[str, float]:
    """Measures how much texts vary.

    `distinct_n = number of different n-grams / number of n-grams`, for words that white space
    separates, over all texts; 0 if there is no n-gram. The measures fall with the number of texts:
    compare only equally many.

    `repeated_4grams = 1 - number of different 4-grams / number of 4-grams`, both counted in each
    text alone: it rises if texts repeat themselves.

    Reference:
        Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models, 2016,
        section 5.3, which divides by the number of words. https://arxiv.org/abs/1510.03055
        Welleck et al., Neural Text Generation with Unlikelihood Training, 2020: the mean of
        seq-rep-4 of the texts. https://arxiv.org/abs/1908.04319

    Args:
        texts: At least one.

    Returns:
        `distinct_1`, `distinct_2` and `repeated_4grams`, in [0, 1]; `mean_words`, the mean number
        of words; and `commonest_share`, the fraction of the texts that equal the commonest one, in
        (0, 1].

    Example:
        >>> variety(["I do not know .", "I do not know .", "Yes ."])["commonest_share"]
        0.6666666666666666
    """
    words = [text.split() for text in texts]
    (_, most), *_ = Counter(texts).most_common(1)
    return {
        "distinct_1": _distinct(words, 1),
        "distinct_2": _distinct(words, 2),
        "repeated_4grams": _repeated(words, 4),
        "mean_words": sum(map(len, words)) / len(texts),
        "commonest_share": most / len(texts),
    }


def _distinct(texts: Sequence[Sequence[str]], size: int) -> float:
    ngrams = [ngram for text in texts for ngram in _ngrams(text, size)]
    return len(set(ngrams)) / max(1, len(ngrams))


def _repeated(texts: Sequence[Sequence[str]], size: int) -> float:
    ngrams = [_ngrams(text, size) for text in texts]
    repeated = sum(len(some) - len(set(some)) for some in ngrams)
    return repeated / max(1, sum(map(len, ngrams)))


def _ngrams(text: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
