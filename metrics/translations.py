"""Translations beside their references, measured on raw text."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

MOST_TRANSLATED = 2000
"""Number of test texts that are translated; resampling takes 53 kB for each."""
RESAMPLED = 1000
"""Number of samples for the interval of BLEU."""
MOST_KNOWN = 100_000
"""Number of training pairs among which `retrieved` searches."""
LENGTHS = (1, 6, 11, 16, 21, 31, 51)
"""First numbers of words of the groups of sources by length."""
HEADING = ("text", "reference", "translation", "chrF")
"""Columns of `Translations.row`."""


@dataclass(frozen=True)
class Translations:
    """Translations of test texts.

    Reference:
        BLEU: Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, 2002.
        https://aclanthology.org/P02-1040
        Post, A Call for Clarity in Reporting BLEU Scores, 2018. https://arxiv.org/abs/1804.08771
        chrF: Popović, chrF: character n-gram F-score for automatic MT evaluation, 2015.
        https://aclanthology.org/W15-3049
        The interval: Koehn, Statistical Significance Tests for Machine Translation Evaluation,
        2004. https://aclanthology.org/W04-3250

    Args:
        sources: The texts.
        references: Their translations in the data.
        translations: Those of the network.
    """

    sources: Sequence[str]
    references: Sequence[str]
    translations: Sequence[str]

    @cached_property
    def scores(self) -> dict[str, float]:
        """BLEU with the bounds of its 95 % interval, chrF, BLEU in lower case, all from 0 to 100;
        and the share of translations that are equal to their references."""
        metric = bleu_metric()
        resampled = self._measured(metric, n_bootstrap=RESAMPLED)
        shown = resampled.format(signature=str(metric.get_signature()), width=9, is_json=True)
        found = self.bleu
        equal = [a == b for a, b in zip(self.translations, self.references, strict=True)]
        half = json.loads(shown).get("confidence_var", 0.0)
        return {
            "bleu": found,
            "bleu_low": max(found - half, 0.0),
            "bleu_high": min(found + half, 100.0),
            "chrf": self._measured(_chrf()).score,
            "bleu_lowercase": self._measured(bleu_metric(lowercase=True)).score,
            "exact_match": float(np.mean(equal)),
        }

    @property
    def bleu(self) -> float:
        """BLEU alone."""
        return self._measured(bleu_metric()).score

    @cached_property
    def signatures(self) -> dict[str, str]:
        """What sacrebleu says of how each score was computed, by name of the score."""
        kinds = {
            "bleu": bleu_metric(),
            "chrf": _chrf(),
            "bleu_lowercase": bleu_metric(lowercase=True),
        }
        found = {}
        for name, metric in kinds.items():
            self._measured(metric)
            found[name] = str(metric.get_signature())
        return found

    @cached_property
    def of_each(self) -> np.ndarray:
        """chrF of each translation, `(n,)`."""
        metric, pairs = _chrf(), zip(self.translations, self.references, strict=True)
        return np.array([metric.sentence_score(ours, [true]).score for ours, true in pairs])

    def baselines(self, known: Sequence[tuple[str, str]]) -> dict[str, tuple[str, float]]:
        """Describes simpler translators, by name, and measures their BLEU.

        Args:
            known: As of `retrieved`.
        """
        usual, _ = Counter(target for _, target in known).most_common(1)[0]
        always = Translations(self.sources, self.references, [usual] * len(self.sources))
        return {
            "majority": ("the most frequent translation", always.bleu),
            "copied": ("the text as it is", copied(self.sources, self.references)),
            "retrieved": (
                "the translation of the most similar training text",
                retrieved(known, self.sources, self.references),
            ),
        }

    @property
    def spread(self) -> range:
        """Indices of at most 12 test texts, evenly over all."""
        return range(0, len(self.sources), max(1, len(self.sources) // 12))[:12]

    @property
    def worst(self) -> list[int]:
        """Indices of the translations with the lowest chrF, at most 12, without perfect ones."""
        order = np.argsort(self.of_each, kind="stable")[:12]
        return [int(i) for i in order if self.translations[i] != self.references[i]]

    def row(self, index: int) -> tuple[Any, ...]:
        """Returns a row of a table with the columns of `HEADING`."""
        texts = (self.sources[index], self.references[index], self.translations[index])
        return (*texts, f"{self.of_each[index]:.1f}")

    def by_length(self) -> list[tuple[str, int, str]]:
        """Returns rows of a table: words of the source, number of texts, their BLEU."""
        counts = np.array([len(source.split()) for source in self.sources])
        rows = []
        for first, beyond in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
            chosen = np.flatnonzero((counts >= first) & (counts < (beyond or np.inf)))
            if len(chosen):
                name = f"{first} to {beyond - 1}" if beyond else f"{first} or more"
                rows.append((name, len(chosen), f"{self._picked(chosen).bleu:.1f}"))
        return rows

    def _picked(self, indices: np.ndarray) -> "Translations":
        fields = (self.sources, self.references, self.translations)
        return Translations(*([texts[i] for i in indices] for texts in fields))

    def _measured(self, metric: Any, **options: Any) -> Any:
        return metric.corpus_score(list(self.translations), [list(self.references)], **options)


def translated(total: int) -> list[int]:
    """Returns the indices of the test texts that are translated, evenly over all of them.

    Example:
        >>> indices = translated(5000)
        >>> len(indices), indices[:4], indices[-1]
        (2000, [0, 2, 5, 7], 4997)
    """
    count = min(total, MOST_TRANSLATED)
    return [number * total // count for number in range(count)]


def copied(sources: Sequence[str], references: Sequence[str]) -> float:
    """Returns BLEU of the sources themselves."""
    return Translations(sources, references, sources).bleu


def retrieved(
    known: Sequence[tuple[str, str]], sources: Sequence[str], references: Sequence[str]
) -> float:
    """Returns BLEU of the training translations of the most similar training sources.

    Similar are texts with the same rare words: the cosine of their counts, weighted by tf-idf.

    Args:
        known: Training sources and their translations; only the first `MOST_KNOWN` are used.
        sources: The test sources.
        references: Their translations in the data.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = known[:MOST_KNOWN]
    # Texts of signs alone, such as Morse or emoji, have words, too: each run of signs is one.
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]+", sublinear_tf=True)
    table = words.fit_transform([source for source, _ in known]).T.tocsr()
    rows = words.transform(sources)
    nearest = [
        int(np.asarray((rows[begin : begin + 1] @ table).argmax()))
        for begin in range(rows.shape[0])
    ]
    return Translations(sources, references, [known[i][1] for i in nearest]).bleu


def bleu_metric(**options: Any) -> Any:
    """Returns sacrebleu's BLEU of raw text."""
    from sacrebleu.metrics import BLEU

    # Data with spaces before its periods is scored as it is; sacrebleu would print advice.
    return BLEU(force=True, **options)


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
