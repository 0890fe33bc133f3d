"""Texts to answer, and worked examples of how: user files or TensorFlow Datasets."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data import text
from data.sources import BadData, Evaluated, Fault, empty_splits, listed, reported
from data.splits import dealt
from data.text import Columns, Texts
from preprocessing.byte_tokens import Tokens
from preprocessing.prompts import Prompts

COUNTS = (0, 1, 4, 8)
"""Numbers of worked examples that are compared with the chosen one."""


class Answered(NamedTuple):
    """A text and its answer, and the file that they are from; "" if they are from none."""

    text: str
    answer: str
    where: str


@dataclass(frozen=True, kw_only=True)
class WorkedExamples(Texts):
    """Texts and their answers, which are the classes; those of the worked examples come first.

    The split `train` has the worked examples, and `test` the texts to answer, by length.

    Args:
        worked: The worked examples.
        tested: The test texts.
        is_free: Whether an answer may be any text, as those of some test texts are none of the
            worked examples.
    """

    LABELS = ""  # They are no classes that a network knows.
    worked: Sequence[Answered]
    tested: Sequence[Answered]
    is_free: bool

    @property
    def scored(self) -> tuple[str, ...]:
        """The answers among which the network chooses; empty if an answer may be any text."""
        return () if self.is_free else self.classes


def load(
    data: str,
    *,
    shots: str,
    text_column: str | None = None,
    label_column: str | None = None,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
) -> WorkedExamples:
    """Loads and checks texts to answer, and worked examples.

    Both are as `data.text.load` reads them, with the answers as labels. The texts of a pair are
    joined by a line feed. Of the data only one split is read, as of data on which a finished
    network is evaluated: nothing is trained. Of a file of worked examples with splits only the
    training split is read. Worked examples that are test texts are left out.

    Args:
        data: `python_docs`, the path of a file or folder, or `tfds:NAME`, whose answers must be
            among those of the worked examples.
        shots: Path of the file with worked examples.
        text_column: Column of the text. None: found by its name.
        label_column: Column of the answer. None: found by its name.
        skip_bad: Whether to skip and count bad examples instead of raising.
        evaluated: Not read, because no network learned answers.
    """
    if not Path(shots).is_file():
        expected = "a .csv, .tsv, .jsonl or .json file of worked examples"
        raise BadData(shots, [Fault(shots, "no such file", expected, skippable=False)])
    columns = Columns(text_column, label=label_column)
    examples, findings = text.examples_of(shots, columns, Evaluated())
    worked = [
        Answered(one.name, one.label, one.where) for one in examples if one.split in ("", "train")
    ]
    faults = empty_splits({"test": len(worked)}, Evaluated())
    read = reported(shots, [*findings, *faults], skip_bad)
    known = sorted({one.answer for one in worked})
    if data.startswith("tfds:"):
        texts = text.load(
            data,
            text_column=text_column,
            label_column=label_column,
            skip_bad=skip_bad,
            evaluated=Evaluated(tuple(known)),
        )
        found: dict[str, Any] = {"skipped": texts.skipped, "remarks": texts.remarks}
        tested = [
            Answered("\n".join(map(bytes.decode, parts)), known[label], "")
            for parts, label in texts.test.as_numpy_iterator()
        ]
    else:
        examples, findings = text.examples_of(data, columns, Evaluated(tuple(known)))
        splits, remarks = dealt(((one.split, one.name, one) for one in examples), Evaluated())
        tested = [Answered(one.name, one.label, one.where) for one in splits["test"]]
        faults = empty_splits({"test": len(tested)}, Evaluated())
        found = reported(data, [*findings, *faults, *remarks], skip_bad)
    texts_of_test = {one.text for one in tested}
    every, worked = worked, [one for one in worked if one.text not in texts_of_test]
    if not worked:
        expected = "worked examples that are no test texts"
        raise BadData(shots, [Fault(shots, "only test texts", expected, skippable=False)])
    # A batch of texts of similar length has little padding.
    tested.sort(key=lambda one: len(one.text))
    classes = (*known, *sorted({one.answer for one in tested} - {*known}))
    is_free = len(classes) > len(known) or len(known) < 2
    return WorkedExamples(
        train=_dataset(worked, classes),
        test=_dataset(tested, classes),
        classes=classes,
        worked=worked,
        tested=tested,
        is_free=is_free,
        origins={"test": [one.where for one in tested]},
        skipped=read["skipped"] + found["skipped"],
        remarks=(
            *(f"{Path(shots).name}: {remark}" for remark in read["remarks"]),
            *found["remarks"],
            *_remarks(len(every) - len(worked), tested, known, is_free),
        ),
    )


def _dataset(examples: Sequence[Answered], classes: Sequence[str]) -> tf.data.Dataset:
    texts = [(one.text,) for one in examples]
    labels = np.array([classes.index(one.answer) for one in examples], np.int32)
    return tf.data.Dataset.from_tensor_slices((texts, labels))


def _remarks(
    left_out: int, tested: Sequence[Answered], known: Sequence[str], is_free: bool
) -> list[str]:
    """Says how answers are scored, and how many worked examples are test texts."""
    how, among = "by the likelihood of each answer", f"each is one of {listed(known)}"
    if is_free:
        other = next((one for one in tested if one.answer not in known), tested[0])
        where = f" ({other.where})" if other.where else ""
        how = "as a text"
        among = f"{other.answer!r}{where} is none of the worked examples' ({listed(known)})"
        if len(known) == 1:
            among = f"the worked examples have one answer alone, {known[0]!r}"
    remarks = [f"Answers are scored {how}: {among}."]
    if left_out:
        remarks.append(f"Worked examples left out, because they are test texts: {left_out:,}.")
    return remarks


def drawn(worked: Sequence[Answered], seed: int) -> list[Answered]:
    """Shuffles worked examples so that the first of any number have each answer equally often.

    Where a number cannot be divided by that of the answers, or there are too few examples with one
    of them, the frequencies differ as little as possible.

    Example:
        >>> some = [Answered("good", "1", ""), Answered("fine", "1", ""), Answered("bad", "0", "")]
        >>> sorted(one.answer for one in drawn(some, 0)[:2])
        ['0', '1']
    """
    shuffled = [worked[index] for index in np.random.default_rng(seed).permutation(len(worked))]
    before = Counter[str]()
    rounds = []
    for one in shuffled:
        rounds.append(before[one.answer])
        before[one.answer] += 1
    # Sorting keeps the order within a round.
    return [shuffled[index] for index in np.argsort(rounds, kind="stable")]


def prompts(
    data: WorkedExamples,
    tokens: Tokens,
    *,
    template: str,
    seed: int,
    length: int,
    max_tokens: int,
    choose: Callable[[Sequence[int], int], tuple[int, int]],
) -> tuple[int, dict[int, Prompts], str]:
    """Returns the number of worked examples that is chosen, prompts of that and of `COUNTS`, and
    what there is to say.

    Args:
        data: The examples.
        tokens: The tokenizer.
        template: As in `Prompts`.
        seed: Decides which examples are drawn, and in which order.
        length: Maximum number of tokens of the examples, a prompt and its answer.
        max_tokens: Maximum number of tokens of an answer that is written.
        choose: From the tokens of each worked example, and how many there may be with the longest
            test text, to the chosen number of them, and the maximum.
    """
    ending = Prompts(tokens, template).stop
    for one in (*data.worked, *data.tested):
        if ending in one.answer:
            raise ValueError(
                f"`template` must have a text behind {{label}} that is in no answer. Received: "
                f"{ending!r}, {one.where}: {one.answer!r}"
            )
    # Each has at least one token.
    order = [(one.text, one.answer) for one in drawn(data.worked, seed)[:length]]
    every = Prompts(tokens, template, order)
    prompt = every.encode(tf.constant([one.text for one in data.tested])).shape[1]
    answers = every.encode_answers(tf.constant([one.answer for one in data.tested])).numpy()
    answer = every.encode_answers(tf.constant(data.classes)).shape[1]
    chosen, most = choose(every.sizes, length - prompt - max(answer, max_tokens))
    counts = sorted({chosen, *(count for count in COUNTS if count <= most)})
    found = {count: replace(every, examples=order[:count]) for count in counts}
    size = f"{len(found[chosen].prefix):,} tokens before each text"
    said = f"Worked examples: {chosen} of {len(data.worked):,}, {size}."
    if data.is_free and (longer := int(np.sum(np.sum(answers >= 0, axis=1) > max_tokens))):
        said += f" {longer:,} of {len(answers):,} true answers have more than {max_tokens} tokens,"
        said += " which is all that is written: pass a larger --max-tokens."
    return chosen, found, said
