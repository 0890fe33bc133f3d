import numpy as np
import pytest
import sacrebleu

from metrics import translations
from metrics.translations import Translations

REFERENCES = ["the cat sat on the mat", "a dog ran over the old road", "Yes it is", "no"]
OURS = ["the cat sat on a mat", "a dog ran over the old road", "yes it is", "never"]
SOURCES = ["a b c d e f", "a b c d e f g", "x y z", "n"]


@pytest.fixture(scope="module")
def found():
    return Translations(SOURCES, REFERENCES, OURS)


def test_scores_are_those_of_sacrebleu(found):
    scores = found.scores
    assert next(iter(scores)) == "bleu"
    assert scores["bleu"] == sacrebleu.corpus_bleu(OURS, [REFERENCES]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(OURS, [REFERENCES]).score
    lower = sacrebleu.corpus_bleu(OURS, [REFERENCES], lowercase=True).score
    assert scores["bleu_lowercase"] == lower > scores["bleu"]
    assert scores["exact_match"] == 0.25
    assert 0 <= scores["bleu_low"] < scores["bleu"] < scores["bleu_high"] <= 100
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp" in found.signatures["bleu"]
    assert "nc:6|nw:0|space:no" in found.signatures["chrf"]


def test_no_match_at_all_has_an_interval_of_zero():
    scores = Translations(SOURCES, REFERENCES, ["-"] * 4).scores
    assert scores["bleu"] == scores["bleu_low"] == scores["bleu_high"] == 0


def test_the_worst_are_those_with_the_lowest_chrf_and_no_perfect_one_is_among_them(found):
    assert found.worst == sorted([0, 2, 3], key=lambda i: found.of_each[i])
    assert found.of_each[1] == 100
    assert found.row(1) == (SOURCES[1], REFERENCES[1], OURS[1], "100.0")


def test_bleu_by_length_counts_words_of_the_source(found):
    rows = found.by_length()
    assert [(name, count) for name, count, _ in rows] == [("1 to 5", 2), ("6 to 10", 2)]
    expected = sacrebleu.corpus_bleu(OURS[:2], [REFERENCES[:2]]).score
    assert rows[1][2] == f"{expected:.1f}"
    assert np.array_equal(found.spread, range(4))


def test_baselines_are_the_usual_translation_the_text_itself_and_the_nearest_one():
    known = [("a b c d e f", REFERENCES[0]), ("q r s", "one"), ("q r", "one")]
    baselines = Translations(SOURCES[:1], REFERENCES[:1], OURS[:1]).baselines(known)
    assert baselines["majority"] == ("the most frequent translation", 0.0)
    assert baselines["copied"][1] == 0
    assert baselines["retrieved"][1] == pytest.approx(100)
    same = translations.copied(REFERENCES, REFERENCES)
    assert same == pytest.approx(100)


def test_texts_without_letters_have_a_nearest_one():
    known = [(".- -...", REFERENCES[0]), ("-.-. ...", REFERENCES[1]), ("😀 🐕", REFERENCES[2])]
    sources = ["-...", "-.-. !"]
    assert translations.retrieved(known, sources, REFERENCES[:2]) == pytest.approx(100)


def test_tokenized_text_is_scored_without_advice(caplog):
    texts = [f"This is number {number} ." for number in range(200)]
    scores = Translations(texts, texts, texts).scores
    assert scores["bleu"] == pytest.approx(100) and not caplog.records
