import math

import pytest

from metrics.replies import Replies, varieties, variety


def test_variety_by_counting():
    found = variety(["a b a", "a b", "c", "c"])
    # Words: a b a a b c c; pairs: (a b) (b a) (a b).
    assert found == {
        "distinct_1": pytest.approx(3 / 7),
        "distinct_2": pytest.approx(2 / 3),
        "repeated_4grams": 0,
        "mean_words": 7 / 4,
        "commonest_share": 1 / 2,
    }
    assert variety(["", ""]) == {
        "distinct_1": 0,
        "distinct_2": 0,
        "repeated_4grams": 0,
        "mean_words": 0,
        "commonest_share": 1,
    }


def test_only_a_text_that_repeats_itself_has_repeated_4grams():
    # 4-grams: (a b a b) (b a b a) (a b a b) (b a b a) (a b a b), and (a b a b) again.
    assert variety(["a b a b a b a b", "a b a b"])["repeated_4grams"] == 3 / 6
    assert variety(["a b c"])["repeated_4grams"] == 0


def test_bleu_is_that_of_papineni():
    written = ["the cat sat on the mat today", "a dog"]
    true = ["the cat sat on a mat today", "a dog barks"]
    # Matches and n-grams that were written: 8 of 9 words, 5 of 7 pairs, 2 of 5, 1 of 4.
    precisions = [8 / 9, 5 / 7, 2 / 5, 1 / 4]
    brevity = math.exp(1 - 10 / 9)
    expected = 100 * brevity * math.prod(precisions) ** (1 / 4)
    replies = Replies(written, true)
    assert replies.scores["bleu"] == pytest.approx(expected)
    assert Replies(true, true).scores["bleu"] == pytest.approx(100)
    assert replies.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_tokenized_text_is_scored_without_advice(caplog):
    texts = [f"This is number {number} ." for number in range(200)]
    assert Replies(texts, texts).scores["bleu"] == pytest.approx(100) and not caplog.records


def test_the_table_compares_the_variety_of_both():
    heading, rows = Replies(["no", "no"], ["yes", "no"]).table()
    assert heading == (
        *("replies", "distinct 1", "distinct 2", "repeated 4grams", "mean words"),
        "commonest share",
    )
    assert rows == [
        ("the network's", "0.5", "0", "0", "1", "1"),
        ("the true replies", "1", "0", "0", "1", "0.5"),
    ]
    heading, rows = varieties("temperature", {"0": ["a a a a a"], "1": ["a b"]})
    assert (heading[0], heading[3]) == ("temperature", "repeated 4grams")
    assert [(row[0], row[3]) for row in rows] == [("0", "0.5"), ("1", "0")]
