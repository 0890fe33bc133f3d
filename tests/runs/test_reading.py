from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runs.reading import lengths, padding, part, word_vectors


@dataclass
class Run:
    config: Any = field(default_factory=lambda: SimpleNamespace(EVALUATES=False))
    facts: dict[str, str] = field(default_factory=dict)
    is_foreign: bool = False


def reader(longer=""):
    """Counts letters."""
    return SimpleNamespace(sizes=tf.strings.length, length=4, longer=longer)


TEXTS = tf.data.Dataset.from_tensor_slices(["abcdefgh", "ab", "abcdef", "abcd"])


@pytest.mark.parametrize(
    ("options", "longer", "said"),
    [
        # 4 + 2 of 20 letters.
        (
            {},
            "",
            "2 of the 4 training texts (50.0%) are longer than 4 tokens: 30.0% of all tokens ",
        ),
        ({"length": 7}, "", "1 of the 4 training texts (25.0%) is longer than 7 tokens: 5.0% of "),
        ({"length": 8}, "", "None of the 4 training texts is longer than 8 tokens."),
        ({}, "they are split", "2 of the 4 training texts (50.0%) are longer than 4 tokens: they "),
    ],
)
def test_what_is_truncated_is_said_and_noted(options, longer, said, capsys):
    run: Any = Run()
    lengths(run, TEXTS, reader(longer), "texts", **options)
    printed = capsys.readouterr().out
    assert printed.startswith(said)
    assert run.facts == {"long texts": printed.strip()}


def test_many_texts_are_counted_in_part(monkeypatch, capsys):
    monkeypatch.setattr("runs.reading.MOST_COUNTED", 2)
    lengths(Run(), TEXTS, reader(), "texts")  # type: ignore[arg-type]
    assert capsys.readouterr().out.startswith("1 of the first 2 training texts (50.0%) is longer")


def test_an_evaluation_counts_the_texts_that_it_reads_and_no_padding(capsys):
    run: Any = Run(SimpleNamespace(EVALUATES=True), is_foreign=True)
    lengths(run, TEXTS, reader(), "texts")
    assert capsys.readouterr().out.startswith("2 of the 4 evaluated texts (50.0%) are longer")
    assert padding(run, TEXTS) == 0
    assert not capsys.readouterr().out


IDS = [[1, 2, 3], [4, -1, -1]]


@pytest.mark.parametrize(
    ("features", "share", "per_row"),
    [
        ({"token_ids": IDS}, "33.3%", 2),
        ({"source_ids": IDS, "target_ids": [[1, 2], [3, 4]]}, "20.0%", 4),
        # Where there is a mask, the tokens of padding look like others.
        ({"token_ids": [[1, 0, 0]], "padding_mask": [[1, 0, 0]]}, "66.7%", 1),
    ],
)
def test_the_share_of_padding_is_said_and_noted(features, share, per_row, capsys):
    run: Any = Run()
    assert padding(run, tf.data.Dataset.from_tensors((features, 0)).repeat(3)) == per_row
    printed = capsys.readouterr().out
    assert printed == f"Padding is {share} of the tokens of training batches.\n"
    assert run.facts == {"padding": printed.strip()}


def test_a_part_of_the_test_examples_is_named_with_its_scores(capsys):
    run: Any = Run()
    part(run, "replies", 200, 200, "BLEU and variety")
    assert not run.facts and not capsys.readouterr().out
    part(run, "replies", 200, 1234, "BLEU and variety")
    text = (
        "The network wrote replies for 200 of 1,234 test examples, evenly spread: BLEU and "
        "variety are of these."
    )
    assert capsys.readouterr().out == f"{text}\n"
    assert run.facts == {"part with replies": text}


def test_no_word_vectors_are_read_unless_they_are_named():
    run: Any = Run(SimpleNamespace(continued=None, embeddings=None))
    assert word_vectors(run, None) is None and not run.facts


def test_word_vectors_follow_the_vocabulary(tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("b 1 2\n")
    run: Any = Run(SimpleNamespace(continued=None, embeddings=str(path), seed=0))
    found = word_vectors(run, SimpleNamespace(vocabulary=["a", "b"]))
    assert found is not None
    np.testing.assert_array_equal(found[1], [1, 2])
    assert run.facts["word vectors"] in capsys.readouterr().out
