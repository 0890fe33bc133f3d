"""Find the answer to a question in a document.

Reads documents of any length in windows, with a pretrained BERT (`--preset`). With random weights,
as by default, it only shows how a run goes: test F1 0.23 on gaps in the Python reference, a minute
on 2 CPU cores.

Example:

    python -m apps.question_answering --data squad/ --model bert --preset path/or/name
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from data import questions
from data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from data.questions import Question
from data.sources import watched
from metrics import spans
from models import bert
from preprocessing import tokens
from runs.command import ask_exported, run
from runs.report import Run, run_facts, write_run
from runs.run import train
from runs.text_settings import TextSettings
from serving.export import Prepared, Signature, export
from training.checkpoint import save_model
from training.setup import is_chief, prepare

MODELS = ("bert", *(f"bert_{size}" for size in bert.BERT_SIZES))
"""`bert` is that of a preset, the others begin with random weights."""

NEVER = -100.0
"""Exported logit of a token at which no answer may begin or end."""

HALVES = ("start_loss", "end_loss")

SHOWN = 400
"""Characters of a document that the report shows on each side of an answer."""

OUTPUTS = ("answer", "score", "no_answer_score", "start", "end", "start_byte", "end_byte")

WORDS = {
    "question": "the question, in UTF-8",
    "document": "the text that may hold the answer, in UTF-8, of any length",
    "answer": 'the answer, a part of the document; "" for none',
    "score": "probability of the likeliest answer, whether it is given or not",
    "no_answer_score": "probability that there is no answer rather than the likeliest",
    "start": "character (code point) of the document at which the answer begins; -1 for none",
    "end": "character behind the answer; -1 for none",
    "start_byte": "byte of the document at which the answer begins; -1 for none",
    "end_byte": "byte behind the answer; -1 for none",
    "token_ids": "[CLS] question [SEP] part of the document [SEP], as numbers in the vocabulary",
    "segment_ids": "0, and 1 from the part of the document on",
    "padding_mask": "1 at tokens, 0 at padding",
    "answer_mask": "1 at the tokens of the document and at [CLS], else 0",
    "start_logits": "of each token, log-probability up to a constant that the answer begins there; "
    f"at [CLS], that this part has none; {NEVER:.0f} where the mask is 0",
    "end_logits": "likewise, that it ends there",
}


@dataclass(frozen=True)
class Config(TextSettings):
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME` in the form of squad, a SQuAD json file (1.1 or 2.0),
    or a folder of them with train, dev and test in their names."""
    model: str = "bert_tiny"
    """The network; `--model help` lists them. With `--preset` bert."""
    epochs: int = 3
    """Passes over the training set."""
    out: Path = Path("saved_models/question_answering")
    """Folder of the run: versions for TensorFlow Serving, model.keras, report.html."""
    batch_size: int = 16
    """Rows a step, over all devices."""
    length: int = 384
    """Tokens of a row, which holds the question and as much of the document as fits."""
    stride: int = 128
    """Tokens of the document that neighbouring rows share."""
    question_length: int = 64
    """Most tokens of a question; the rest is cut off."""
    answerless_rows: float = 1.0
    """Share of the rows that miss the answer, of questions that have one, to train on."""
    max_answer_pieces: int = 30
    """Most tokens of an answer."""
    dropout: float = 0.1
    """Share of features that a BERT with random weights drops; a preset keeps its own share."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(MODELS, ("bert",), MODELS)
        if not 0 <= self.answerless_rows <= 1:
            raise ValueError(
                "`answerless_rows` must be in 0 to 1. "
                f"Received: answerless_rows={self.answerless_rows}"
            )
        for name in ("max_answer_pieces", "question_length"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}"
                )
        if not 0 <= self.stride < self.length - self.question_length - 3:
            raise ValueError(
                "`stride` must be at least 0 and below length - question_length - 3, the room that "
                f"the longest question leaves. Received: stride={self.stride}, "
                f"length={self.length}, question_length={self.question_length}"
            )


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test questions."""
    begin = time.perf_counter()
    strategy = prepare(config.seed, config.precision, config.strategy)
    data = load(config)
    pieces = make_pieces(config, data)
    rows = labelled_rows(config, pieces, data.train, config.answerless_rows)
    outputs = ("start", "end")
    trained = train(
        config,
        strategy,
        make_model=lambda: build(config, pieces),
        loss={name: keras.losses.SparseCategoricalCrossentropy(True) for name in outputs},
        loss_weights=dict.fromkeys(outputs, 0.5),
        metrics={name: [keras.metrics.SparseCategoricalAccuracy("accuracy")] for name in outputs},
        steps_per_epoch=steps_per_epoch(len(rows), config.batch_size),
        batches=lambda start: train_batches(config, rows, start),
        validation=validation_batches(config, labelled_rows(config, pieces, data.validation)),
        scale=config.scale(bert.depths),
    )
    if not is_chief(strategy):
        return {}
    model = trained.model
    validation = ask(config, answering(config, pieces), model, data.validation)
    threshold = choose_threshold(data, validation)
    served = answering(config, pieces, threshold)
    test = ask(config, served, model, data.test)
    scores = {
        **test.scores,
        "validation_f1": validation.with_threshold(threshold).scores["f1"],
        **({"no_answer_threshold": threshold} if threshold < 1 else {}),
    }
    version = export_model(config, data, pieces, model, served, scores)
    seconds = time.perf_counter() - begin
    report = report_run(config, data, rows, model, test, scores, trained.history, seconds)
    trained.checkpoint.delete()
    answer_one(data.test[0], version)
    print(
        f"Test F1 {scores['f1']:.4f}, exact match {scores['exact_match']:.4f} on {len(data.test)} "
        f"questions; validation F1 {scores['validation_f1']:.4f} on {len(data.validation)}"
    )
    print(f"Model  {version}\nReport {report}")
    return scores


def load(config: Config) -> questions.Questions:
    data = questions.load(config.data, skip_bad=config.skip_bad)
    print(
        f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test "
        "questions" + (f"; {data.skipped} bad ones left out" if data.skipped else "")
    )
    return data


def make_pieces(config: Config, data: questions.Questions) -> tokens.WordPieces:
    if config.preset != "none":
        return tokens.WordPieces.from_preset(config.preset)
    documents = dict.fromkeys(asked.document for asked in data.train)
    every = [*documents, *(asked.question for asked in data.train)]
    return tokens.WordPieces.learned(every, config.vocabulary_size)


def encode(
    config: Config, pieces: tokens.WordPieces, question: tf.Tensor, document: tf.Tensor, fixed: bool
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    return pieces.windows(
        question, document, config.length, config.stride, config.question_length, fixed
    )


def labelled_rows(
    config: Config, pieces: tokens.WordPieces, asked: Sequence[Question], answerless: float = 1.0
) -> tf.data.Dataset:
    """Lays questions out as the network reads them, with the first and last token of the answer.

    In rows that do not hold the whole answer both are 0, which is [CLS]. Of those whose question
    has an answer in another place the share `answerless` is kept.
    """
    random = np.random.default_rng(config.seed)
    parts = []
    chunks = [asked[place : place + 256] for place in range(0, len(asked), 256)]
    for chunk in watched(chunks, len(asked), "Reading questions"):
        features, places = encode(config, pieces, *as_tensors(chunk), fixed=True)
        begins, ends = (tf.constant(offsets, tf.int64) for offsets in answer_bytes(chunk))
        first, last = tokens.labels_of_spans(places, begins, ends)
        misses = (first.numpy() == 0) & (tf.gather(begins, places["example"]).numpy() >= 0)
        kept = ~misses | (random.random(len(misses)) < answerless)
        labelled = (features, {"start": first, "end": last})
        parts.append(tf.nest.map_structure(partial(tf.boolean_mask, mask=kept), labelled))
    rows = tf.nest.map_structure(lambda *chunks: tf.concat(chunks, 0), *parts)
    return tf.data.Dataset.from_tensor_slices(rows)


def as_tensors(asked: Sequence[Question]) -> tuple[tf.Tensor, tf.Tensor]:
    pairs = [(one.question, one.document) for one in asked]
    question, document = tf.unstack(tf.constant(pairs), axis=1)
    return question, document


def answer_bytes(asked: Sequence[Question]) -> tuple[list[int], list[int]]:
    """Returns the bytes at which the answers to train on begin and end; -1 without an answer.

    Of several it is the one given most often, of equally many the first.
    """
    begins, ends = [], []
    for one in asked:
        ((text, start), _), *_ = Counter(one.answers).most_common(1) or [(("", -1), 0)]
        begin = len(one.document[:start].encode()) if start >= 0 else -1
        begins.append(begin)
        ends.append(begin + len(text.encode()))
    return begins, ends


def finish_batch(config: Config, features, labels, seed=None):
    # XLA compiles anew for each length.
    return features if config.jit_compile else tokens.trimmed(features), labels


def train_batches(config: Config, rows: tf.data.Dataset, start: int) -> tf.data.Dataset:
    return training_batches(
        rows,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=config.epochs,
        start_step=start,
        transform=partial(finish_batch, config),
        length=tokens.lengths,
    )


def validation_batches(config: Config, rows: tf.data.Dataset) -> tf.data.Dataset:
    return evaluation_batches(
        rows, batch_size=config.batch_size, transform=partial(finish_batch, config)
    )


def build(config: Config, pieces: tokens.WordPieces) -> keras.Model:
    _, _, size = config.model.partition("_")
    vocabulary_size = pieces.vocabulary_size
    encoder = (
        bert.bert_backbone(size, vocabulary_size, config.length, config.dropout)
        if size
        else bert.pretrained_backbone(config.preset, config.length, vocabulary_size)
    )
    return bert.bert_span(encoder)


def answering(config: Config, pieces: tokens.WordPieces, threshold: float = 1.0) -> Signature:
    """Makes `serving_default`: no answer is given if its score is above the threshold."""

    def read(question, document):
        features, places = encode(config, pieces, question, document, fixed=False)
        return Prepared(features, {**places, "document": document})

    return Signature(
        inputs=tuple(
            tf.TensorSpec((None,), tf.string, name=name) for name in ("question", "document")
        ),
        preprocess=read,
        postprocess=partial(cut_answers, config, threshold),
        words={name: WORDS[name] for name in ("question", "document", *OUTPUTS)},
        resources=pieces.resources,
    )


def cut_answers(
    config: Config, threshold: float, logits: dict[str, tf.Tensor], places: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Cuts the likeliest answers out of the documents `(n,)`."""
    document, inside = places["document"], places["begins"] >= 0
    best = spans.best_spans(
        logits["start"], logits["end"], places["example"], inside, config.max_answer_pieces
    )
    begin = tf.gather_nd(places["begins"], tf.stack([best.row, best.first], 1))
    end = tf.gather_nd(places["ends"], tf.stack([best.row, best.last], 1))
    given = (begin >= 0) & (best.no_answer_score <= threshold)
    begin, end = tf.where(given, begin, 0), tf.where(given, end, 0)
    answer = tf.strings.substr(document, begin, end - begin)
    characters = tokens.character_offsets(document, tf.stack([begin, end], 1))
    offsets = {
        "start": characters[:, 0],
        "end": characters[:, 1],
        "start_byte": begin,
        "end_byte": end,
    }
    return {
        "answer": answer,
        "score": best.score,
        "no_answer_score": best.no_answer_score,
        **{name: tf.where(given, offset, -1) for name, offset in offsets.items()},
    }


def ask(config: Config, signature: Signature, model, asked: Sequence[Question]) -> spans.Answers:
    """Asks a network, just as the exported signature does."""

    @partial(tf.function, input_signature=signature.inputs, autograph=False)
    def answer(question, document):
        answering = partial(model, training=False)
        return signature.answer(answering, {"question": question, "document": document})

    size = config.batch_size
    chunks = [asked[place : place + size] for place in range(0, len(asked), size)]
    outputs = [
        {name: value.numpy() for name, value in answer(*as_tensors(chunk)).items()}
        for chunk in watched(chunks, len(asked), "Asking")
    ]
    found = {name: np.concatenate([batch[name] for batch in outputs]) for name in OUTPUTS}
    return spans.Answers(found, [[text for text, _ in one.answers] for one in asked])


def choose_threshold(data: questions.Questions, validation: spans.Answers) -> float:
    """Chooses on validation above which no-answer score no answer is given.

    1, so that there always is one, unless there are questions without an answer.
    """
    if all(asked.answers for asked in (*data.train, *data.validation)):
        return 1.0
    return validation.best_threshold()


def export_model(
    config: Config,
    data: questions.Questions,
    pieces: tokens.WordPieces,
    model: keras.Model,
    served: Signature,
    scores: dict[str, float],
) -> Path:
    sample = spread(data.validation, 8)
    features, _ = encode(config, pieces, *as_tensors(sample), fixed=True)
    signatures = {
        "serving_default": served,
        "from_tokens": Signature(
            inputs=tuple(
                tf.TensorSpec((None, config.length), value.dtype, name=name)
                for name, value in features.items()
            ),
            preprocess=lambda **features: features,
            postprocess=lambda logits: {
                f"{name}_logits": tf.maximum(logits[name], NEVER) for name in ("start", "end")
            },
            words={name: WORDS[name] for name in (*features, "start_logits", "end_logits")},
            examples={name: value[:4].numpy() for name, value in features.items()},
        ),
    }
    card = config.card("question answering", scores, len(data.test))
    warmup = {
        "question": np.array([asked.question.encode() for asked in sample], object),
        "document": np.array([asked.document.encode() for asked in sample], object),
    }
    version = export(config.out, model, signatures, warmup, card)
    save_model(model, config.out / "model.keras")
    return version


def spread(asked: Sequence[Question], count: int) -> Sequence[Question]:
    """Picks so many questions, evenly over all."""
    return asked[:: max(1, len(asked) // count)][:count]


def report_run(
    config, data: questions.Questions, rows, model, test: spans.Answers, scores, history, seconds
) -> Path:
    mistakes = [
        (
            data.test[i].question,
            " | ".join(dict.fromkeys(test.right[i])) or "(none)",
            test.texts[i] or "(none)",
            f"{test.sure[i]:.0%}",
        )
        for i in test.worst
    ]
    shown = range(0, len(data.test), max(1, len(data.test) // 12))
    return write_run(
        config.out,
        Run(
            title=f"Question answering: {config.model} on {config.data}",
            summary=f"{len(data.train)} training questions.",
            config=config.saved,
            scores=scores,
            num_test=len(data.test),
            # The loss is the mean of those of start and end.
            history={name: history[name] for name in history if not name.endswith(HALVES)},
            facts=run_facts(model, history, seconds, "rows", **{"training rows": f"{len(rows):,}"}),
            tables=[("The surest mistakes", [("question", "answer", "found", "sure"), *mistakes])],
            texts=[
                (
                    "Answers in test documents",
                    [highlighted(data.test[i], test, i) for i in shown[:12]],
                )
            ],
        ),
    )


def highlighted(asked: Question, test: spans.Answers, index: int) -> list[tuple[str, str]]:
    """Cuts what lies around the answers into pieces, labelled as found, right or both."""
    marks = {}
    if asked.answers:
        # Of several the nearest to what was found.
        text, start = max(asked.answers, key=lambda one: spans.f1(test.texts[index], one[:1]))
        marks["right"] = (start, start + len(text))
    begin, end = int(test.found["start"][index]), int(test.found["end"][index])
    if begin >= 0:
        marks["found"] = (begin, end)
    said = f"{test.sure[index]:.0%} sure{'' if begin >= 0 else ' of no answer'}"
    edges = [offset for span in marks.values() for offset in span]
    first = max(0, min(edges, default=0) - SHOWN)
    last = min(len(asked.document), max(edges, default=0) + SHOWN)
    pieces = [(f"{asked.question} ({said}) \N{EM DASH} {'…' if first else ''}", "")]
    for left, right in pairwise(sorted({first, *edges, last})):
        names = [name for name, (a, b) in marks.items() if a <= left and right <= b]
        pieces.append((asked.document[left:right], " and ".join(names)))
    return [*pieces, ("…" if last < len(asked.document) else "", "")]


def answer_one(asked: Question, version: Path) -> None:
    wanted = f"the answer {asked.answers[0][0]!r}" if asked.answers else "no answer"
    texts = {"question": asked.question, "document": asked.document}
    ask_exported(version, texts, f"A test question with {wanted}")


if __name__ == "__main__":
    run(main, Config, __doc__)
