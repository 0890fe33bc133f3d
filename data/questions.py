"""Questions about documents, answered by spans: SQuAD files, TensorFlow Datasets or a sample."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from data import python_docs
from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    existing,
    named_splits,
    reported,
    tfds_builder,
)
from data.splits import Splits, dealt, shared
from data.tables import json_values
from data.text_files import not_utf8, required_split_files

BUILT_IN = ("python_docs",)
SUFFIXES = (".json", ".jsonl")
LAYOUT = (
    'SQuAD JSON: {"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": '
    '...}]}]}]}, or records {"context": ..., "question": ..., "answers": ...}'
)
"""The layouts of files, for messages."""
OTHER_LAYOUT = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""Errors that reading JSON with another layout raises."""


@dataclass(frozen=True)
class Question:
    """A question about a document.

    Args:
        id: Its name in the data.
        question: The text of the question.
        document: The text that may contain the answer.
        answers: Text and start (in characters of the document) of each correct answer; empty if
            the document does not answer the question.
    """

    id: str
    question: str
    document: str
    answers: tuple[tuple[str, int], ...]

    @property
    def span(self) -> tuple[int, int]:
        """Bytes of the document at which the answer to train on begins and ends.

        It is the most frequent answer, and the first one if several are equally frequent. Both
        are -1 if there is no answer.
        """
        if not self.answers:
            return -1, -1
        ((text, start), _), *_ = Counter(self.answers).most_common(1)
        begin = len(self.document[:start].encode())
        return begin, begin + len(text.encode())


@dataclass(frozen=True, kw_only=True)
class Questions(Splits):
    """Questions in the order of the data; each split is a tuple of `Question`."""

    @property
    def texts(self) -> list[str]:
        """The training documents, each once, and the training questions."""
        documents = dict.fromkeys(question.document for question in self.train)
        return [*documents, *(question.question for question in self.train)]

    @property
    def all_answered(self) -> bool:
        """Whether every training and validation question has an answer."""
        return all(question.answers for question in (*self.train, *self.validation))

    def table(self, split: str, indices: Iterable[int] | None = None) -> dict[str, list[bytes]]:
        """Returns questions and documents as columns.

        Args:
            split: Name of the split.
            indices: Indices of the questions; None for all of the split.
        """
        chosen = self.split(split) if indices is None else self.picked(split, indices)
        return {
            "question": [question.question.encode() for question in chosen],
            "document": [question.document.encode() for question in chosen],
        }

    def spread(self, split: str, count: int) -> list[int]:
        """Returns the indices of at most so many questions, evenly over the split."""
        number = len(self.split(split))
        return list(range(0, number, max(1, number // count)))[:count]

    def examples(self, split: str, answerless_rows: float = 1.0) -> tf.data.Dataset:
        """Returns a split as `preprocessing.readers.QuestionReader.labeled` takes it.

        Args:
            split: Name of the split.
            answerless_rows: Fraction of the rows without the answer to train on, if the question
                has one, in [0, 1].

        Returns:
            For each question a dict: `question` and `document`; `begin` and `end` as in
            `Question.span`; its index `number`; and `answerless_rows`.
        """
        chosen = self.split(split)
        begins, ends = zip(*(question.span for question in chosen), strict=True)
        columns = {
            "begin": tf.constant(begins, tf.int64),
            "end": tf.constant(ends, tf.int64),
            "number": tf.range(len(chosen)),
            "answerless_rows": tf.fill([len(chosen)], answerless_rows),
        }
        return tf.data.Dataset.from_tensor_slices(columns | self.table(split))


@dataclass(frozen=True)
class _InArticle:
    """A question, the title of its article, and the split of the article (empty if unknown)."""

    question: Question
    article: str
    split: str


def load(data: str, *, skip_bad: bool = False, evaluated: Evaluated | None = None) -> Questions:
    """Loads, checks and splits the questions that `data` names.

    Files are SQuAD JSON, version 1.1 or 2.0, or records of one question as in Hugging Face's copies
    of SQuAD: a .json file with a list of them, or a .jsonl file. Titles and ids may be missing. A
    folder contains such files with train, dev and test in their names, or others of `SPLIT_NAMES`.
    A missing split becomes 10 % of the articles by a hash of their titles (or of their first
    documents), so that no document is in two splits, and adding articles never moves old ones.

    Reference:
        Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016.
        https://arxiv.org/abs/1606.05250
        Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018.
        https://arxiv.org/abs/1806.03822

    Args:
        data: `python_docs` (sentences of the Python reference with a blank in place of some code;
            `./python_docs` for a folder of that name), `tfds:NAME`, or the path of a file or
            folder.
        skip_bad: Whether to skip and count bad questions instead of raising.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> question = load("python_docs").train[0]
        >>> text, start = question.answers[0]
        >>> question.document[start:].startswith(text)
        True
    """
    if data == "python_docs":
        cloze = enumerate(python_docs.cloze_questions())
        questions = [
            _InArticle(Question(f"{number}", question, document, ((text, start),)), document, "")
            for number, (document, question, text, start) in cloze
        ]
        return _divided(data, questions, [], skip_bad, evaluated)
    if data.startswith("tfds:"):
        questions, faults = _from_tfds(data.removeprefix("tfds:"), evaluated)
        return _divided(data, questions, faults, skip_bad, evaluated)
    path = existing(data, "a SQuAD JSON file, a folder with such files", BUILT_IN)
    files, findings = required_split_files(path, "SQuAD JSON files", SUFFIXES, evaluated)
    questions = []
    for split, file in files.items():
        good, wrong = _from_file(file, split)
        questions += good
        findings += wrong
    return _divided(data, questions, findings, skip_bad, evaluated)


def _divided(
    data: str,
    questions: list[_InArticle],
    findings: Sequence[Finding],
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> Questions:
    # As ASCII, because a title that is not UTF-8 cannot be hashed.
    named = ((one.split, ascii(one.article), one.question) for one in questions)
    splits, remarks = dealt(named, evaluated)
    every = [question for some in splits.values() for question in some]
    contents = {
        split: {one.document: one.document for one in some} for split, some in splits.items()
    }
    remarks += shared(contents, "documents")
    answerless = sum(not question.answers for question in every)
    remarks.append(
        f"Documents: {len({question.document for question in every}):,}; "
        f"questions without an answer: {answerless:,} of {len(every):,}."
    )
    empty = empty_splits({split: len(some) for split, some in splits.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *empty], skip_bad)
    # The numbers in the sample are not informative.
    ids = {} if data in BUILT_IN else {name: [q.id for q in some] for name, some in splits.items()}
    return Questions(**said | {split: tuple(some) for split, some in splits.items()}, origins=ids)


def _from_file(path: Path, split: str) -> tuple[list[_InArticle], list[Finding]]:
    values, findings = json_values(path, LAYOUT)
    if len(values) == 1 and isinstance(values[0][1], dict) and "data" in values[0][1]:
        articles = values[0][1]["data"]
        if not isinstance(articles, list):
            return [], [Fault(path.name, "no list 'data'", LAYOUT, skippable=False)]
        values = [(f"{path.name}, article {number}", one) for number, one in enumerate(articles)]
    elif not values and not findings:
        return [], [Fault(path.name, "no questions", LAYOUT, skippable=False)]
    questions = []
    for where, value in values:
        good, wrong = _in_article(value, where, path.name, split)
        questions += good
        findings += wrong
    return questions, findings


def _in_article(
    article: Any, where: str, file: str, split: str
) -> tuple[list[_InArticle], list[Fault]]:
    """Reads an article, or a record of one question with its document.

    Without a title, the first document is used instead.
    """
    try:
        is_record = "question" in article and "paragraphs" not in article
        paragraphs = [{**article, "qas": [article]}] if is_record else list(article["paragraphs"])
        title = article.get("title") or (paragraphs[0]["context"] if paragraphs else "")
        if "title" in article and not is_record:
            where = f"{file}, article {title!r}"
    except OTHER_LAYOUT as error:
        return [], [Fault(where, _layout(error), LAYOUT)]
    questions: list[_InArticle] = []
    faults = []
    for number, paragraph in enumerate(paragraphs):
        place = "" if is_record else f", paragraph {number}"
        good, wrong = _in_paragraph(paragraph, where, place)
        questions += [_InArticle(question, str(title), split) for question in good]
        faults += wrong
    return questions, faults


def _layout(error: Exception) -> str:
    """Describes the error in the layout of JSON that raised one of `OTHER_LAYOUT`."""
    missing = isinstance(error, KeyError)
    return f"another layout (no {error})" if missing else "another layout (a value of another type)"


def _in_paragraph(paragraph: Any, where: str, place: str) -> tuple[list[Question], list[Fault]]:
    """Reads the questions about a document.

    Args:
        paragraph: The document and its questions.
        where: File and article.
        place: The paragraph in the article, for questions without an id.
    """
    try:
        document, listed = paragraph["context"] + "", list(paragraph["qas"])
    except OTHER_LAYOUT as error:
        return [], [Fault(f"{where}{place}", _layout(error), LAYOUT)]
    questions, faults = [], []
    for number, one in enumerate(listed):
        try:
            named = one.get("id") not in (None, "")
            name = str(one["id"]) if named else f"{where}{place}, question {number}"
            none = "answers" not in one and one.get("is_impossible") is True
            answers = () if none else _answers(one["answers"])
            questions.append(Question(name, one["question"].strip(), document, answers))
        except OTHER_LAYOUT as error:
            given = one.get("id", number) if isinstance(one, dict) else number
            faults.append(Fault(f"{where}, question {given}", _layout(error), LAYOUT))
    good, wrong = _checked(questions, where)
    return good, faults + wrong


def _answers(answers: Any) -> tuple[tuple[str, int], ...]:
    """Reads a list of answers, or lists of texts and starts as in Hugging Face's records."""
    if isinstance(answers, dict):
        texts, starts = answers["text"], answers["answer_start"]
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        return tuple(_answer(text, start) for text, start in zip(texts, starts, strict=True))
    return tuple(_answer(of["text"], of["answer_start"]) for of in answers)


def _answer(text: str, start: int) -> tuple[str, int]:
    """Strips white space from an answer and moves its start accordingly."""
    return text.strip(), int(start) + len(text) - len(text.lstrip())


def _checked(questions: Sequence[Question], where: str) -> tuple[list[Question], list[Fault]]:
    """Returns the good questions, and the faults of the others."""
    locations = [
        one.id if one.id.startswith(where) else f"{where}, question {one.id}" for one in questions
    ]
    faults = list(map(_wrong, questions, locations))
    good = [question for question, fault in zip(questions, faults, strict=True) if not fault]
    return good, [fault for fault in faults if fault]


def _wrong(question: Question, where: str) -> Fault | None:
    """Returns the first fault of a question, or None."""
    if not question.question or not question.document.strip():
        received = "no question" if question.document.strip() else "an empty document"
        return Fault(where, received, "a question about a document")
    for text, start in question.answers:
        there = question.document[max(start, 0) : max(start, 0) + len(text)]
        if not text or start < 0 or there != text:
            expected = f"the answer {text!r}" if text else "an answer that is not empty"
            return Fault(where, f"{there!r} at character {start}", expected)
    return not_utf8(question.question + question.document, where)


def _from_tfds(name: str, evaluated: Evaluated | None) -> tuple[list[_InArticle], list[Finding]]:
    """Reads a dataset with the features of `tfds:squad`; without titles, documents are articles."""
    builder = tfds_builder(name)
    features = builder.info.features
    data = f"tfds:{name}"
    if not {"id", "question", "context", "answers"} <= set(features):
        received = f"the features {', '.join(sorted(features))}"
        expected = "the features id, question, context and answers, as in tfds:squad"
        raise BadData(data, [Fault(data, received, expected, skippable=False)])
    questions, faults = [], list[Finding]()
    for split, name in named_splits(builder, evaluated=evaluated).items():
        rows = builder.as_dataset(split=name, shuffle_files=False).as_numpy_iterator()
        for row in rows:
            good, wrong = _checked([_from_row(row)], f"{data}, {split}")
            title = row.get("title", row["context"]).decode()
            questions += [_InArticle(question, title, split) for question in good]
            faults += wrong
    return questions, faults


def _from_row(row: dict[str, Any]) -> Question:
    answers: Iterable[tuple[bytes, int]] = zip(
        row["answers"]["text"], row["answers"]["answer_start"], strict=True
    )
    return Question(
        row["id"].decode(),
        row["question"].decode().strip(),
        row["context"].decode(),
        tuple(_answer(text.decode(), start) for text, start in answers),
    )
