"""Questions about documents, answered by spans: SQuAD files, TensorFlow Datasets or a sample."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import python_docs
from data.sources import (
    SPLITS,
    BadData,
    Fault,
    completed,
    empty_splits,
    existing,
    left_out,
    named_splits,
    tfds_builder,
)
from data.text_files import not_utf8, read_text, required_split_files

BUILT_IN = ("python_docs",)
ANOTHER_FORM = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""What reading json in another form than ours raises."""


@dataclass(frozen=True)
class Question:
    """A question about a document.

    Args:
        id: Its name in the data.
        question: What is asked.
        document: The text that answers it, or does not.
        answers: Text and start (in characters of the document) of each answer that counts as
            right; empty if the document has none.
    """

    id: str
    question: str
    document: str
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Questions:
    """Questions split for training, in the order of the data.

    Args:
        train: To train on.
        validation: To choose by.
        test: To measure by.
        skipped: Bad questions that were left out.
    """

    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    skipped: int = 0


@dataclass(frozen=True)
class _Found:
    """A question, the article it belongs to, and the split of that article; may be empty."""

    question: Question
    article: str
    split: str


def load(data: str, *, skip_bad: bool = False) -> Questions:
    """Finds the questions that `data` names, checks them all and splits them.

    Files are SQuAD json, version 1.1 or 2.0. A folder holds such files with train, dev (or val)
    and test in their names. A split that the data lacks is 10 % of the articles, by a hash of
    their titles, so that no document straddles and more articles never move old ones.

    Reference:
        Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016.
        https://arxiv.org/abs/1606.05250
        Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018.
        https://arxiv.org/abs/1806.03822

    Args:
        data: `python_docs` (sentences of the Python reference with a blank for a piece of code;
            `./python_docs` for a folder of that name), `tfds:NAME`, or the path of a file or
            folder.
        skip_bad: Leaves bad questions out and counts them instead of raising.

    Example:
        >>> question = load("python_docs").train[0]
        >>> text, start = question.answers[0]
        >>> question.document[start:].startswith(text)
        True
    """
    if data == "python_docs":
        cloze = enumerate(python_docs.cloze_questions())
        found = [
            _Found(Question(f"{number}", question, document, ((text, start),)), document, "")
            for number, (document, question, text, start) in cloze
        ]
        return _divided(data, found, [], skip_bad)
    if data.startswith("tfds:"):
        return _divided(data, *_from_tfds(data.removeprefix("tfds:")), skip_bad)
    path = existing(data, "a SQuAD json file, a folder with such files", BUILT_IN)
    found, faults = [], []
    for split, file in required_split_files(path, "SQuAD json files").items():
        questions, wrong = _from_file(file, split)
        found += questions
        faults += wrong
    return _divided(data, found, faults, skip_bad)


def _divided(data: str, found: list[_Found], faults: list[Fault], skip_bad: bool) -> Questions:
    given = {one.split for one in found}
    splits: dict[str, list[Question]] = {split: [] for split in SPLITS}
    for one in found:
        # As ASCII, because a title that is not UTF-8 has no hash.
        splits[completed(one.split, ascii(one.article), given)].append(one.question)
    faults = faults + empty_splits({split: len(some) for split, some in splits.items()})
    skipped = left_out(data, faults, skip_bad)
    return Questions(**{split: tuple(some) for split, some in splits.items()}, skipped=skipped)


def _from_file(path: Path, split: str) -> tuple[list[_Found], list[Fault]]:
    wanted = 'SQuAD json: {"data": [{"title": ..., "paragraphs": [...]}, ...]}'
    try:
        articles = json.loads(read_text(path))["data"]
    except json.JSONDecodeError as error:
        fault = Fault(f"{path.name} line {error.lineno}", error.msg, wanted, skippable=False)
        return [], [fault]
    except (KeyError, TypeError):
        articles = None
    if not isinstance(articles, list):
        return [], [Fault(path.name, "no list 'data'", wanted, skippable=False)]
    found, faults = [], []
    for number, article in enumerate(articles):
        place = f"{path.name}, article {number}"
        try:
            title, paragraphs = article["title"], list(article["paragraphs"])
        except ANOTHER_FORM as error:
            faults.append(Fault(place, f"another form ({error!r})", wanted))
            continue
        for paragraph in paragraphs:
            questions, wrong = _in_paragraph(paragraph, f"{path.name}, article {title!r}")
            found += [_Found(question, title, split) for question in questions]
            faults += wrong
    return found, faults


def _in_paragraph(paragraph: Any, place: str) -> tuple[list[Question], list[Fault]]:
    wanted = 'SQuAD json: {"context": ..., "qas": [{"id": ..., "question": ..., "answers": ...}]}'
    try:
        document, asked = paragraph["context"] + "", list(paragraph["qas"])
    except ANOTHER_FORM as error:
        return [], [Fault(place, f"a paragraph of another form ({error!r})", wanted)]
    questions, faults = [], []
    for one in asked:
        try:
            answers = tuple(_answer(of["text"], of["answer_start"]) for of in one["answers"])
            question = Question(str(one["id"]), one["question"].strip(), document, answers)
        except ANOTHER_FORM as error:
            name = one.get("id", "") if isinstance(one, dict) else ""
            found = f"another form ({error!r})"
            faults.append(Fault(f"{place}, question {name}", found, wanted))
        else:
            questions.append(question)
    good, wrong = _checked(questions, place)
    return good, faults + wrong


def _answer(text: str, start: int) -> tuple[str, int]:
    """Takes white space off the ends of an answer, which is no part of any word."""
    return text.strip(), int(start) + len(text) - len(text.lstrip())


def _checked(questions: Sequence[Question], place: str) -> tuple[list[Question], list[Fault]]:
    """Parts good questions from what is wrong with the others."""
    faults = [_wrong(question, f"{place}, question {question.id}") for question in questions]
    good = [question for question, fault in zip(questions, faults, strict=True) if not fault]
    return good, [fault for fault in faults if fault]


def _wrong(question: Question, place: str) -> Fault | None:
    """Says what is wrong with a question, if anything."""
    if not question.question or not question.document.strip():
        found = "no question" if question.document.strip() else "an empty document"
        return Fault(place, found, "a question about a document")
    for text, start in question.answers:
        there = question.document[max(start, 0) : max(start, 0) + len(text)]
        if not text or start < 0 or there != text:
            wanted = f"the answer {text!r}" if text else "an answer of some letters"
            return Fault(place, f"{there!r} at character {start}", wanted)
    return not_utf8(question.question + question.document, place)


def _from_tfds(name: str) -> tuple[list[_Found], list[Fault]]:
    """Reads a data set in the form of `tfds:squad`; its titles, where it has them, are articles."""
    builder = tfds_builder(name)
    features = builder.info.features
    place = f"tfds:{name}"
    if not {"id", "question", "context", "answers"} <= set(features):
        wanted = "id, question, context and answers, as squad has them"
        fault = Fault(place, f"the features {', '.join(sorted(features))}", wanted, skippable=False)
        raise BadData(place, [fault])
    found, faults = [], []
    for split, name in named_splits(builder).items():
        rows = builder.as_dataset(split=name, shuffle_files=False).as_numpy_iterator()
        for row in rows:
            good, wrong = _checked([_of_row(row)], f"{place}, {split}")
            title = row.get("title", row["context"]).decode()
            found += [_Found(question, title, split) for question in good]
            faults += wrong
    return found, faults


def _of_row(row: dict[str, Any]) -> Question:
    answers: Iterable[tuple[bytes, int]] = zip(
        row["answers"]["text"], row["answers"]["answer_start"], strict=True
    )
    return Question(
        row["id"].decode(),
        row["question"].decode().strip(),
        row["context"].decode(),
        tuple(_answer(text.decode(), start) for text, start in answers),
    )
