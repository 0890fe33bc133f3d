"""Find the answer to a question in a document.

Reads documents of any length in overlapping rows, with a pretrained BERT (`--preset`). With random
weights, the default, it only shows how a run goes: test F1 0.23 on blanks in the Python reference,
in a minute on 2 CPU cores.

Example:

    hornbook question_answering --data squad/ --model bert --preset path/or/name
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from data import questions
from data.feed import Feed
from data.sources import watched
from data.splits import Splits
from metrics import spans
from models import bert, transformers
from preprocessing import tokens
from preprocessing.readers import QuestionReader, question_reader
from runs import presets, reading
from runs.command import command
from runs.report import Marked, Section, Table
from runs.run import Example, counted, finish, start, train
from runs.text_settings import TextSettings
from serving.signature import Prepared, Signature, ask, tensors

OUTPUTS = ("start", "end")


@dataclass(frozen=True)
class Config(TextSettings):
    EPOCHS = 3
    BATCH_SIZE = 16
    NETWORK = (*TextSettings.NETWORK, "stride", "question_length")
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME` with the features of squad, a SQuAD JSON file (1.1 or
    2.0), a .json or .jsonl file with a record per question, or a folder of such files with train,
    dev and test in their names."""
    model: str = "bert_tiny"
    """The network; `--model help` lists them. `bert` needs `--preset`."""
    out: Path = Path("saved_models/question_answering")
    length: int = 384
    """Number of tokens per row: the question and as much of the document as fits."""
    stride: int = 128
    """Overlap of consecutive rows, in tokens of the document."""
    question_length: int = 64
    """Maximum number of tokens of a question; longer questions are truncated."""
    answerless_rows: float = 1.0
    """Fraction of the rows without the answer to train on, if the question has one, in [0, 1]."""
    max_answer_pieces: int = 30
    """Maximum number of tokens of an answer."""
    dropout: float = 0.1
    """Dropout rate of a BERT with random weights, in [0, 1). A preset keeps its own."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(bert.NAMES)
        self.require_least(1, "max_answer_pieces", "question_length")
        if not 0 <= self.answerless_rows <= 1:
            self._refuse("answerless_rows", "in [0, 1]")
        room = self.length - self.question_length - 3
        if not 0 <= self.stride < room:
            self._refuse("stride", f"in [0, length - question_length - 3), which is {room}")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test questions."""
    run = start(config)
    data = counted(run, load(config), "questions")
    reader = question_reader(
        data.texts, stride=config.stride, question_length=config.question_length, **config.reading
    )
    questions = tf.data.Dataset.from_tensor_slices(data.table("train")["question"])
    reading.lengths(run, questions, reader, "questions", config.question_length)
    fed = feed(config, data, reader)
    trained = train(
        run,
        partial(build, config, reader),
        fed,
        # The mean of both losses.
        loss={name: keras.losses.SparseCategoricalCrossentropy(True) for name in OUTPUTS},
        loss_weights=dict.fromkeys(OUTPUTS, 0.5),
        metrics=lambda: {
            name: [keras.metrics.SparseCategoricalAccuracy("accuracy")] for name in OUTPUTS
        },
        rates=config.rates(transformers.width, transformers.depths),
        monitor=("val_start_accuracy", "val_end_accuracy"),
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    others = {}
    if run.is_foreign:
        threshold = presets.scores(Path(config.preset)).get("no_answer_threshold", 1.0)
    else:
        validation = evaluate(config, data, reader, trained.model, "validation")
        threshold = 1.0 if data.all_answered else validation.best_threshold()
        others = {"validation_f1": validation.with_threshold(threshold).scores["f1"]}
    test = evaluate(config, data, reader, trained.model, "test", threshold)
    if threshold < 1:
        others["no_answer_threshold"] = threshold
    return finish(
        run,
        trained,
        task="question answering",
        signatures=signatures(config, data, reader, threshold),
        warmup=data.table("validation", data.spread("validation", 8)),
        example=example(data),
        scores={**test.scores, **others},
        num_test=len(data.test),
        examples="questions",
        facts={"vocabulary": reader.tokens.vocabulary_size, "training rows": fed.count()},
        report=report(data, test),
        tokens=reader.tokens,
    )


def load(config: Config) -> questions.Questions:
    return questions.load(**config.loading)


def feed(config: Config, data: questions.Questions, reader: QuestionReader) -> Feed:
    return Feed(
        Splits(
            train=data.examples("train", config.answerless_rows),
            # Nearly all rows of a long document lack the answer and would outweigh the others.
            validation=data.examples("validation", 0.0),
        ),
        prepare_many=partial(reader.labeled, seed=config.seed),
        batch=lambda features, labels: (tokens.trimmed(features, config.fixed_lengths), labels),
        length=tokens.lengths,
    )


def build(config: Config, reader: QuestionReader) -> keras.Model:
    if config.continued:
        return presets.network(config.continued)
    return bert.bert_span(bert.encoder(reader.tokens.vocabulary_size, **config.transformer))


def evaluate(
    config, data: questions.Questions, reader: QuestionReader, model, split: str, threshold=1.0
) -> spans.Answers:
    """Queries the network about the questions of a split."""
    signature = signatures(config, data, reader, threshold)["serving_default"]
    chosen = data.split(split)
    watch = partial(watched, total=len(chosen), doing=f"Answering {split} questions")
    predictions = ask(signature, model, data.table(split), config.batch_size, watch)
    return spans.Answers(
        predictions,
        right=[[text for text, _ in one.answers] for one in chosen],
        documents=[one.document for one in chosen],
    )


def signatures(
    config: Config, data: questions.Questions, reader: QuestionReader, threshold: float
) -> dict[str, Signature]:
    """Returns the signatures; no answer is given if its score is above the threshold."""

    def read(question, document):
        features, offsets = reader.encode(question, document, False)
        return Prepared(features, {**offsets, "document": document})

    return {
        "serving_default": Signature(
            inputs={name: tf.TensorSpec((None,), tf.string) for name in ("question", "document")},
            preprocess=read,
            postprocess=partial(cut_answers, config, threshold),
            meanings=spans.MEANINGS,
            resources=reader.tokens.resources,
        ),
        "from_tokens": tensors(
            **reader.sample(data.table("validation", data.spread("validation", 8))),
            postprocess=lambda logits: {
                f"{name}_logits": tf.maximum(logits[name], spans.NEVER) for name in OUTPUTS
            },
            meanings={**tokens.MEANINGS, **spans.MEANINGS},
        ),
    }


def cut_answers(
    config: Config, threshold: float, logits: dict[str, tf.Tensor], context: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Cuts the most probable answers out of the documents `(n,)`."""
    best = spans.best_offsets(logits, context, config.max_answer_pieces, threshold)
    document, answered = context["document"], best["start_byte"] >= 0
    begin, end = (tf.where(answered, best[name], 0) for name in ("start_byte", "end_byte"))
    characters = tokens.character_offsets(document, tf.stack([begin, end], 1))
    characters = tf.where(answered[:, None], characters, -1)
    answer = tf.strings.substr(document, begin, end - begin)
    return {**best, "answer": answer, "start": characters[:, 0], "end": characters[:, 1]}


def report(data: questions.Questions, test: spans.Answers) -> list[Section]:
    shown = data.spread("test", 12)
    return [
        Table(
            "Most confident mistakes",
            (*spans.HEADING, "from"),
            [(data.test[i].question, *test.row(i), data.origin("test", i)) for i in test.worst],
        ),
        Marked("Answers in test documents", [marked(data.test[i], test, i) for i in shown]),
    ]


def marked(question: questions.Question, test: spans.Answers, index: int) -> list[tuple[str, str]]:
    """Marks the predicted answer in a document, and the correct one that is most similar to it."""
    none = "" if test.texts[index] else " of no answer"
    title = f"{question.question} (confidence{none} {test.confidence[index]:.0%}) \N{EM DASH} "
    found = test.spans(index, question.answers)
    return [(title, ""), *spans.marked(question.document, found)]


def example(data: questions.Questions) -> Example:
    question = data.test[0]
    correct = f"correct answer {question.answers[0][0]!r}" if question.answers else "no answer"
    texts = {"question": question.question, "document": question.document}
    return Example(f"a test question, {correct}", texts)


if __name__ == "__main__":
    command(main, Config, __doc__)
