"""Pretrain BERT or ELMo on plain text, for the other apps to begin with.

The built-in sample, the Python reference, is too small and only shows how a run goes: hidden pieces
of words get a test perplexity of 208; their shares alone give 287, the piece before gives 105.

Example:

    python -m apps.language_pretraining --data documents/ --model bert_mini
"""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from data import plain_text, sentence_pairs, word_rows
from data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from data.sentence_pairs import AROUND
from metrics.language_models import (
    asked,
    begun_at,
    cross_entropy,
    fill_gaps,
    least_expected,
    measure_words,
)
from metrics.ngrams import NO_CONTEXT, Guesses, Ngrams
from models import bert, elmo
from preprocessing import hidden_words, spelled_words, tokens
from preprocessing.hidden_words import MASK
from runs.command import run
from runs.report import Run, run_facts, write_run
from runs.run import train
from runs.settings import Settings
from serving import versions
from serving.export import Prepared, Signature, export
from training.checkpoint import save_model
from training.setup import is_chief, prepare

BERT = ("bert", *(f"bert_{size}" for size in bert.BERT_SIZES))
ELMO = ("elmo", *(f"elmo_{size}" for size in elmo.ELMO_SIZES))
MODELS = (*BERT, *ELMO)
"""`bert` and `elmo` go on with a preset, the others begin with random weights."""

SHOWN = 12
"""Test texts in the report."""

WORDS = {
    "text": "the text, in UTF-8",
    "token_ids": "numbers of the tokens in the vocabulary",
    "segment_ids": "0, and 1 in the second segment",
    "padding_mask": "1 at tokens, 0 at padding",
    "mask_positions": "places of the tokens that are to be told",
    "masked_words": "of each place, log-probabilities of all pieces up to a constant",
    "next_sentence": "likewise, that the second segment is from elsewhere, and that it goes on",
    "characters": "numbers of the characters of each word, 0 at padding",
    "perplexity": "e to the mean cross-entropy, in nats, of each word and end of the text, told "
    "from those before it and from those after it",
    "forward": "of each word, log-probabilities of all words, up to a constant, to come next",
    "backward": "likewise, to stand before it",
}


@dataclass(frozen=True)
class Config(Settings):
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a text file, or a folder of them, also with train, dev
    and test in their names, or in sub-folders of these names. Blank lines, or titles as WikiText
    has, part documents."""
    model: str = "bert_tiny"
    """The network; `--model help` lists them. With `--preset` bert or elmo."""
    epochs: int = 30
    """Passes over the training set."""
    out: Path = Path("saved_models/language_pretraining")
    """Folder of the run: preset for the other apps, versions for TensorFlow Serving, model.keras,
    report.html."""
    preset: str = "none"
    """Pretrained network to go on with: of BERT a name that KerasHub knows, or a folder in its or
    Hugging Face's layout; of ELMo a folder that this app wrote. `none` begins with random weights
    and, for BERT, a vocabulary learned from the training texts."""
    vocabulary: str = "none"
    """File of BERT's pieces of words, one a line; `none` learns them from the training texts."""
    vocabulary_size: int = 8000
    """Most pieces in a vocabulary that is learned; of ELMo most words that it tells apart."""
    lowercase: bool = True
    """Whether BERT reads capitals as small letters; a preset decides itself. ELMo never does."""
    length: int = 128
    """Tokens of a row: of BERT pieces of words, of ELMo words. The exports read the beginnings of
    longer texts, and BERT's preset allows no larger `--length` in the other apps."""
    dropout: float = 0.1
    """Share of features that training drops, in what is not pretrained."""

    def __post_init__(self):
        super().__post_init__()
        if self.model not in MODELS:
            raise ValueError(
                f"`model` must be one of {', '.join(MODELS)}. Received: model={self.model!r}"
            )
        if (self.model in ("bert", "elmo")) != (self.preset != "none"):
            raise ValueError(
                "`preset` goes with the models bert and elmo, and these need one. "
                f"Received: model={self.model!r}, preset={self.preset!r}"
            )
        if self.vocabulary != "none" and (self.model in ELMO or self.preset != "none"):
            raise ValueError(
                f"`vocabulary` is for {', '.join(BERT[1:])}. "
                f"Received: model={self.model!r}, vocabulary={self.vocabulary!r}"
            )
        for name, least in {"length": 8, "vocabulary_size": 6}.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be at least {least}. Received: {name}={getattr(self, name)}"
                )


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    begin = time.perf_counter()
    strategy = prepare(config.seed, config.precision, config.strategy)
    data = load(config)
    task = Elmo.prepared(config, data) if config.model in ELMO else Bert.prepared(config, data)
    trained = train(
        config,
        strategy,
        make_model=task.build,
        loss=task.losses,
        metrics=[],
        weighted_metrics=task.metrics,
        steps_per_epoch=steps_per_epoch(len(task.rows["train"]), config.batch_size),
        batches=task.train_batches,
        validation=task.batches("validation"),
    )
    if not is_chief(strategy):
        return {}
    model = trained.model
    scores = task.scores(model)
    preset = write_preset(config, task, model)
    version = export_model(config, data, task, model, scores)
    seconds = time.perf_counter() - begin
    report = report_run(config, data, task, model, scores, trained.history, seconds)
    trained.checkpoint.delete()
    answer_one(config, task, data.test, version)
    print("Test " + ", ".join(f"{name} {scores[name]:.4g}" for name in task.headlines))
    print(f"Model  {version}\nPreset {preset}\nReport {report}")
    return scores


def load(config: Config) -> plain_text.PlainTexts:
    data = plain_text.load(config.data, skip_bad=config.skip_bad)
    print(
        f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test "
        "documents" + (f"; {data.skipped} bad lines left out" if data.skipped else "")
    )
    return data


def splits_of(data: plain_text.PlainTexts) -> dict[str, tuple[plain_text.Document, ...]]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


@dataclass(frozen=True)
class Bert:
    """Tells hidden words, and whether a segment goes on from the one before.

    Args:
        config: The settings.
        pieces: Splits texts.
        rows: By split, features and 1 where the second segment goes on; of `validation` and `test`
            with words hidden, features and the pair of labels and weights.
        ngrams: What pieces are told by in the simplest way.
    """

    config: Config
    pieces: tokens.WordPieces
    rows: dict[str, tf.data.Dataset]
    ngrams: Ngrams

    headlines = ("masked_accuracy", "masked_perplexity", "next_sentence_accuracy")

    @classmethod
    def prepared(cls, config: Config, data: plain_text.PlainTexts) -> "Bert":
        pieces = make_pieces(config, data)
        rows: dict[str, tf.data.Dataset] = {}
        for number, (split, documents) in enumerate(splits_of(data).items()):
            found = sentence_pairs.piece_documents(pieces, documents)
            # Of validation and test always the same, so that scores can be compared.
            seed = config.seed if split == "train" else number
            pairs = sentence_pairs.sentence_pairs(found, pieces, config.length, seed)
            require_rows(split, len(pairs[1]))
            rows[split] = tf.data.Dataset.from_tensor_slices(pairs)
            if split == "train":
                ids = [document.ids for document in found]
                ngrams = Ngrams.counted(*with_word_before(ids), pieces.vocabulary_size)
            else:
                rows[split] = hidden_words.hidden_once(pieces, rows[split], seed=0)
        return cls(config, pieces, rows, ngrams)

    @property
    def vocabulary_size(self) -> int:
        return self.pieces.vocabulary_size

    @property
    def losses(self) -> dict[str, keras.losses.Loss]:
        return {name: cross_entropy() for name in ("masked_words", "next_sentence")}

    @property
    def metrics(self) -> dict[str, list[keras.metrics.Metric]]:
        return {name: [keras.metrics.SparseCategoricalAccuracy("accuracy")] for name in self.losses}

    def build(self) -> keras.Model:
        model = bert.bert_pretraining(self.backbone())
        return begun_at(model, "masked_words", "output_bias", self.ngrams.unigram)

    def backbone(self) -> Any:
        config = self.config
        _, _, size = config.model.partition("_")
        if size:
            return bert.bert_backbone(size, self.vocabulary_size, config.length, config.dropout)
        return bert.pretrained_backbone(config.preset, config.length, self.vocabulary_size)

    def train_batches(self, start: int) -> tf.data.Dataset:
        return training_batches(
            self.rows["train"],
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epochs=self.config.epochs,
            start_step=start,
            transform=partial(hide_words, self.config, hidden_words.WordHider(self.pieces)),
            length=tokens.lengths,
        )

    def batches(self, split: str) -> tf.data.Dataset:
        return evaluation_batches(
            self.rows[split],
            batch_size=self.config.batch_size,
            transform=lambda features, told: (features, *told),
        )

    def scores(self, model: keras.Model) -> dict[str, float]:
        """Scores the network, and counts of pieces and of pairs of pieces at the same places."""
        found = asked(model, self.batches("test"))
        pairs = self.ngrams.tuned(*self.told_by_neighbours("validation"))
        test = self.told_by_neighbours("test")
        return {
            **named("masked", found["masked_words"]),
            "next_sentence_accuracy": found["next_sentence"].scores["accuracy"],
            **named("unigram", self.ngrams.guess(*test)),
            **named("bigram", pairs.guess(*test)),
            "bigram_weight": pairs.weight,
        }

    def told_by_neighbours(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Gives the piece before each one that is to be told, as the network sees it, and this."""
        contexts, true = [], []
        for features, labels, weights in self.batches(split):
            places = tf.maximum(features["mask_positions"] - 1, 0)
            before = tf.gather(features["token_ids"], places, batch_dims=1)
            before = tf.where(before == self.pieces.mask_id, NO_CONTEXT, before)
            real = weights["masked_words"] > 0
            contexts.append(before[real])
            true.append(labels["masked_words"][real])
        return np.concatenate(contexts), np.concatenate(true)

    def save(self, model: keras.Model, folder: Path) -> None:
        import keras_hub

        backbone = with_weights_of(model, self.backbone())
        backbone.save_to_preset(str(folder))
        # Saves the tokenizer, too, and tells KerasHub's text classifier how long a row may be.
        preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
            self.pieces.tokenizer, sequence_length=backbone.max_sequence_length
        )
        preprocessor.save_to_preset(str(folder))

    def signatures(self) -> dict[str, Signature]:
        few = next(iter(self.batches("validation")))[0]
        return {
            "serving_default": Signature(
                inputs=(tf.TensorSpec((None,), tf.string, name="text"),),
                preprocess=self.read,
                postprocess=partial(fill_gaps, tf.constant(self.pieces.tokenizer.vocabulary)),
                words={
                    "text": f"{WORDS['text']}, with {MASK} in the place of words to tell",
                    "words": f"of each {MASK} the likeliest pieces of words, best first",
                    "scores": 'their probabilities; 0, and "" above, where a text has fewer gaps',
                },
                resources=(self.pieces.tokenizer,),
            ),
            "from_tokens": Signature(
                inputs=tuple(
                    tf.TensorSpec((None, *value.shape[1:]), value.dtype, name=name)
                    for name, value in few.items()
                ),
                preprocess=lambda **features: features,
                postprocess=dict,
                words={name: WORDS[name] for name in (*few, *self.losses)},
                examples={name: value[:4].numpy() for name, value in few.items()},
            ),
        }

    def read(self, text: tf.Tensor) -> Prepared:
        return Prepared(*hidden_words.encode_gaps(self.pieces, text, self.config.length))

    def examples(self, documents: Sequence[plain_text.Document]) -> list[tuple[str, str]]:
        """Makes texts with a gap, each with the word that stood there."""
        random = np.random.default_rng(self.config.seed)
        gaps = (
            sentence_pairs.with_gap(self.pieces, line, self.config.length, random)
            for line in spread_lines(documents)
        )
        return [gap for gap in gaps if gap] or [(MASK, "")]

    def example_table(self, model: keras.Model, documents) -> tuple[str, list[tuple[Any, ...]]]:
        examples = self.examples(documents)
        answer = answers(
            self.signatures()["serving_default"], model, [text for text, _ in examples]
        )
        rows = [
            (
                text,
                word,
                ", ".join(
                    f"{guess.decode()} {score:.0%}"
                    for guess, score in zip(words[0], scores[0], strict=True)
                ),
            )
            for (text, word), words, scores in zip(
                examples, answer["words"], answer["scores"], strict=True
            )
        ]
        return "What the network puts in gaps", [("test text", "word", "the network's"), *rows]

    def score_table(self, scores: dict[str, float]) -> tuple[str, list[tuple[Any, ...]]]:
        rows = {
            "the network, from both sides": "masked",
            "the piece before, as the network sees it": "bigram",
            "the shares of pieces alone": "unigram",
        }
        return "Hidden pieces of the test texts", [
            ("told by", "accuracy", "perplexity"),
            *(
                (words, *(f"{scores[f'{name}_{kind}']:.4g}" for kind in ("accuracy", "perplexity")))
                for words, name in rows.items()
            ),
        ]

    def said(self, answer: dict[str, Any]) -> str:
        pairs = zip(answer["words"][0], answer["scores"][0], strict=True)
        return ", ".join(f"{word} {score:.0%}" for word, score in pairs)


def make_pieces(config: Config, data: plain_text.PlainTexts) -> tokens.WordPieces:
    if config.preset != "none":
        return tokens.WordPieces.from_preset(config.preset)
    if config.vocabulary != "none":
        vocabulary = sentence_pairs.read_vocabulary(config.vocabulary)
        return tokens.WordPieces.of(vocabulary, config.lowercase)
    lines = [line for document in data.train for line in document]
    print(f"Learning at most {config.vocabulary_size} pieces of words from {len(lines)} lines")
    return tokens.WordPieces.learned(lines, config.vocabulary_size, config.lowercase)


def require_rows(split: str, count: int) -> None:
    if not count:
        raise ValueError(
            f"The {split} texts must hold at least two words in one document. Received: none."
        )


def with_word_before(documents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Gives the word before each word of documents, -1 at their beginnings, and the word."""
    before = [np.concatenate([[NO_CONTEXT], words[:-1]], dtype="int32") for words in documents]
    return np.concatenate(before), np.concatenate(documents)


def hide_words(config: Config, hider: hidden_words.WordHider, features, goes_on, seed):
    # XLA compiles anew for each length.
    short = features if config.jit_compile else tokens.trimmed(features)
    return hidden_words.labelled(hider, short, goes_on, seed)


@dataclass(frozen=True)
class Elmo:
    """Tells each word from those before it, and from those after it.

    Args:
        config: The settings.
        words: Numbers words and spells them.
        rows: By split, numbers of words, each with 0 as label.
        ngrams: What words are told by in the simplest way, `forward` and `backward`.
    """

    config: Config
    words: spelled_words.SpelledWords
    rows: dict[str, tf.data.Dataset]
    ngrams: dict[str, Ngrams]

    headlines = ("perplexity", "forward_perplexity", "backward_perplexity", "accuracy")
    metrics = None

    @classmethod
    def prepared(cls, config: Config, data: plain_text.PlainTexts) -> "Elmo":
        words, documents = word_rows.spelled_documents(splits_of(data), config.vocabulary_size)
        rows = {
            split: word_rows.word_rows(some, config.length) for split, some in documents.items()
        }
        ngrams = {
            name: Ngrams.counted(*told, words.vocabulary_size)
            for name, told in word_rows.told_by_neighbours(words, rows["train"]).items()
        }
        examples = {
            split: tf.data.Dataset.from_tensor_slices((some, np.zeros(len(some), "int32")))
            for split, some in rows.items()
        }
        return cls(config, words, examples, ngrams)

    @property
    def vocabulary_size(self) -> int:
        return self.words.vocabulary_size

    @property
    def losses(self) -> dict[str, keras.losses.Loss]:
        return {name: cross_entropy() for name in ("forward", "backward")}

    def build(self) -> keras.Model:
        model = elmo.elmo_language_model(self.backbone(), self.vocabulary_size)
        return begun_at(model, "softmax", "bias", self.ngrams["forward"].unigram)

    def backbone(self) -> keras.Model:
        _, _, size = self.config.model.partition("_")
        if size:
            return elmo.elmo_backbone(size, dropout=self.config.dropout)
        return elmo.pretrained_elmo(self.config.preset)

    def train_batches(self, start: int) -> tf.data.Dataset:
        return training_batches(
            self.rows["train"],
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epochs=self.config.epochs,
            start_step=start,
            transform=lambda rows, label, seed: spelled_words.labelled(
                self.words, rows, self.config.jit_compile
            ),
            length=spelled_words.num_words,
        )

    def batches(self, split: str) -> tf.data.Dataset:
        return evaluation_batches(
            self.rows[split],
            batch_size=self.config.batch_size,
            transform=lambda rows, label: spelled_words.labelled(
                self.words, rows, self.config.jit_compile
            ),
        )

    def scores(self, model: keras.Model) -> dict[str, float]:
        """Scores the network, and counts of words and of pairs of words at the same places."""
        rows = {
            split: np.stack([row for row, _ in self.rows[split].as_numpy_iterator()])
            for split in ("validation", "test")
        }
        tuning, test = (word_rows.told_by_neighbours(self.words, some) for some in rows.values())
        pairs = {name: self.ngrams[name].tuned(*tuning[name]) for name in test}
        kinds = {
            "": asked(model, self.batches("test")),
            "unigram_": {name: self.ngrams[name].guess(*test[name]) for name in test},
            "bigram_": {name: pairs[name].guess(*test[name]) for name in test},
        }
        scores = {}
        for kind, guesses in kinds.items():
            for name, value in guesses["forward"].joined(guesses["backward"]).scores.items():
                scores[f"{kind}{name}"] = value
            for direction, some in guesses.items():
                scores[f"{kind}{direction}_perplexity"] = some.scores["perplexity"]
        return scores

    def save(self, model: keras.Model, folder: Path) -> None:
        elmo.save_elmo(with_weights_of(model, self.backbone()), folder)

    def signatures(self) -> dict[str, Signature]:
        numbers = spelled_words.word_numbers(self.words)
        few = next(iter(self.batches("validation")))[0][:1]  # Its logits take megabytes.
        width = self.config.length
        few = tf.pad(few, [[0, 0], [0, width - tf.shape(few)[1]], [0, 0]])
        return {
            "serving_default": Signature(
                inputs=(tf.TensorSpec((None,), tf.string, name="text"),),
                preprocess=partial(self.read, numbers),
                postprocess=measure_words,
                words={
                    "text": WORDS["text"],
                    "perplexity": WORDS["perplexity"],
                    "words": f"the words of the text, of which the first {self.config.length - 2} "
                    'are read; "" behind its end',
                    "log_probabilities": "of each word in nats, the mean of that told from the "
                    "words before it and that told from those after it",
                },
                resources=(numbers,),
            ),
            "from_characters": Signature(
                inputs=(tf.TensorSpec((None, *few.shape[1:]), tf.int32, name="characters"),),
                preprocess=lambda characters: characters,
                postprocess=dict,
                words={name: WORDS[name] for name in ("characters", *self.losses)},
                examples={"characters": few.numpy()},
            ),
        }

    def read(self, numbers: tf.lookup.StaticHashTable, text: tf.Tensor) -> Prepared:
        return Prepared(*spelled_words.encode_lines(numbers, text, self.config.length))

    def examples(self, documents: Sequence[plain_text.Document]) -> list[tuple[str, str]]:
        return [(line, "") for line in spread_lines(documents)]

    def example_table(self, model: keras.Model, documents) -> tuple[str, list[tuple[Any, ...]]]:
        texts = [text for text, _ in self.examples(documents)]
        answer = answers(self.signatures()["serving_default"], model, texts)
        rows = [
            (shortened(text), f"{perplexity:.4g}", least_expected(words.tolist(), logs))
            for text, perplexity, words, logs in zip(
                texts,
                answer["perplexity"],
                answer["words"],
                answer["log_probabilities"],
                strict=True,
            )
        ]
        return "The least expected words", [
            ("test text", "perplexity", "least expected, with their probabilities"),
            *rows,
        ]

    def score_table(self, scores: dict[str, float]) -> tuple[str, list[tuple[Any, ...]]]:
        names = ("accuracy", "perplexity", "forward_perplexity", "backward_perplexity")
        rows = {
            "the network": "",
            "the neighbour alone": "bigram_",
            "the shares of words alone": "unigram_",
        }
        return "Words of the test texts, told from one side", [
            ("told by", *(name.replace("_", " ") for name in names)),
            *(
                (words, *(f"{scores[kind + name]:.4g}" for name in names))
                for words, kind in rows.items()
            ),
        ]

    def said(self, answer: dict[str, Any]) -> str:
        words = [word.encode() for word in answer["words"]]
        unexpected = least_expected(words, answer["log_probabilities"])
        return f"perplexity {answer['perplexity']:.4g}; least expected: {unexpected}"


def shortened(text: str) -> str:
    words = text.split(" ")
    return " ".join(words[: 2 * AROUND]) + (" …" if len(words) > 2 * AROUND else "")


def spread_lines(documents: Sequence[plain_text.Document]) -> list[str]:
    """Picks lines that are no titles, evenly over all."""
    lines = [line for document in documents for line in document if len(line.split()) > 8]
    lines = lines or [line for document in documents for line in document]
    return lines[:: max(1, len(lines) // SHOWN)][:SHOWN]


def named(prefix: str, guesses: Guesses) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in guesses.scores.items()}


def answers(
    signature: Signature, model: keras.Model, texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Asks a network, just as an exported signature does."""
    answer = signature.answer(partial(model, training=False), {"text": tf.constant(texts)})
    return {name: value.numpy() for name, value in answer.items()}


def with_weights_of(model: keras.Model, backbone: Any) -> Any:
    """Gives a backbone the weights of the layers of the same names in a model on one."""
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return backbone


def write_preset(config: Config, task: Bert | Elmo, model: keras.Model) -> Path:
    """Writes what the other apps take as `--preset`; it appears whole, in the place of the last."""
    preset = config.out / "preset"
    with versions.workplace(config.out) as written, float32():
        task.save(model, written)
        for path in (written, *written.rglob("*")):
            versions.flush(path)
        if preset.exists():
            preset.rename(written.with_name("last"))
        written.rename(preset)
        versions.flush(config.out)
    return preset


@contextmanager
def float32() -> Iterator[None]:
    """Makes layers in float32, so that whoever loads them chooses the precision."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def export_model(
    config: Config,
    data: plain_text.PlainTexts,
    task: Bert | Elmo,
    model: keras.Model,
    scores: dict[str, float],
) -> Path:
    card = {
        "task": "language pretraining",
        "model": config.model,
        "data": config.data,
        "scores": scores,
        "num_test": len(task.rows["test"]),
        "config": config.saved,
    }
    texts = [text.encode() for text, _ in task.examples(data.validation)[:8]]
    warmup = {"text": np.array(texts, object)}
    version = export(config.out, model, task.signatures(), warmup, card)
    save_model(model, config.out / "model.keras")
    return version


def report_run(
    config, data: plain_text.PlainTexts, task: Bert | Elmo, model, scores, history, seconds
) -> Path:
    return write_run(
        config.out,
        Run(
            title=f"Language pretraining: {config.model} on {config.data}",
            summary=f"{len(data.train)} training documents. Perplexities are e to the mean "
            "cross-entropy in nats; examples are rows of tokens.",
            config=config.saved,
            scores=scores,
            num_test=len(task.rows["test"]),
            history=history,
            facts=run_facts(
                model,
                history,
                seconds,
                "rows",
                **{
                    "vocabulary": f"{task.vocabulary_size:,}",
                    "training rows": f"{len(task.rows['train']):,}",
                },
            ),
            tables=[task.score_table(scores), task.example_table(model, data.test)],
        ),
    )


def answer_one(config: Config, task: Bert | Elmo, documents, version: Path) -> None:
    """Asks the exported model about one test text, in a process that knows only TensorFlow."""
    text, word = task.examples(documents)[0]
    path = config.out / "example.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], [text]])
    of_word = f", in which {word} is hidden" if word else ""
    print(f"A test text{of_word}, answered from {version}:\n{shortened(text)}", flush=True)
    command = [sys.executable, "-m", "serving", "predict", str(version), str(path), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(task.said(next(iter(json.loads(done.stdout).values()))))


if __name__ == "__main__":
    run(main, Config, __doc__)
