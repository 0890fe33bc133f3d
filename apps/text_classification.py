"""Classify texts or pairs of texts.

Reaches 0.80 test accuracy on SST-2 with an LSTM in minutes on 2 CPU cores, and 0.70 on the
built-in sample: sentences of the Python reference, classified by the part they come from.

Example:

    hornbook text_classification --data reviews.csv --model bert --preset path/or/name
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from data import text
from data.feed import Feed
from metrics import baselines, classification
from models import bert, elmo, gpt, recurrent, transformers
from preprocessing import tokens
from preprocessing.readers import Reader, text_reader
from runs import attention, presets, reading
from runs.classified import ClassSettings, classified, tabled
from runs.command import command
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import Data
from runs.text_settings import PairSettings
from serving.signature import Prepared, Signature, in_blocks, tensors

MODELS = (*recurrent.NAMES, *elmo.NAMES, *bert.NAMES, *gpt.NAMES)
FAMILIES = {"elmo": elmo, "bert": bert, "gpt": gpt}


@dataclass(frozen=True)
class Config(ClassSettings, PairSettings):
    NETWORK = (*PairSettings.NETWORK, "pooling", "windows")
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a .csv, .tsv, .jsonl or .json file, a folder of such
    files named train, dev and test, or a folder with one sub-folder of .txt files per class."""
    model: str = "gru"
    """The network; `--model help` lists them. `bert`, `gpt` and `elmo` need `--preset`."""
    out: Path = Path("saved_models/text_classification")
    text_column: Data[str | None] = None
    """Column of the text, or of the first text of a pair. Default: found by its name."""
    pair_column: Data[str | None] = None
    """Column of the second text of a pair. Default: found by its name."""
    label_column: Data[str | None] = None
    """Column of the class. Default: found by its name."""
    out_of_scope: Data[str | None] = None
    """TensorFlow Datasets split of texts without a class, such as test_oos, to count refusals."""
    pooling: Literal["attention", "last", "max", "first", "mean"] | None = None
    """Pooling of the token features: attention, last or max in recurrent networks, attention on
    ELMo, first or mean in BERT. Default: attention; in BERT first, or mean with a preset."""
    windows: bool = False
    """Read texts that are longer than `length` in overlapping windows. Each window is a training
    example, and the probabilities of the windows of a text are averaged."""
    attention_layer: int = -1
    """BERT layer whose attention the report shows; -1 is the last."""
    attention_head: int | None = None
    """BERT head whose attention the report shows. Default: the mean of all heads."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(MODELS)
        self.require_one_of(FAMILIES.get(self.family, recurrent).POOLS, "pooling")
        self.require_only(bert.NAMES, "attention_layer", "attention_head")

    @property
    def reading(self) -> dict[str, Any]:
        return super().reading | {"windows": self.windows}


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    data = counted(run, load(config), "texts")
    reader = text_reader(config.family, data.texts, **config.reading)
    reading.lengths(run, data.texts_of("train"), reader, "texts")
    fed = feed(config, data, reader)
    weights = data.class_weights(config.class_weight, reader.row_counts(data.texts_of("train")))
    trained = train(
        run,
        partial(build, config, data, reader, reading.word_vectors(run, reader.tokens)),
        fed,
        loss=classification.cross_entropy(config.label_smoothing, weights),
        metrics=lambda: [keras.metrics.CategoricalAccuracy(name="accuracy")],
        rates=config.rates(transformers.width, transformers.depths),
        monitor="val_accuracy",
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    recurrent.without_cudnn(trained.model)

    def evaluate(split: str) -> classification.Evaluation:
        rows = reader.row_counts(data.texts_of(split))
        batches = fed.evaluation(split, config.batch_size)
        return classification.evaluate(trained.model, batches, rows)

    test = evaluate("test")
    scores = test.scores
    if other := config.out_of_scope:
        kept = presets.scores(Path(config.preset)) if run.is_foreign else None
        scores |= classification.refusals(evaluate("validation"), test, evaluate(other), kept)
    return finish(
        run,
        trained,
        task="text classification",
        signatures=signatures(data, reader),
        warmup=data.table("validation", 8),
        example=Example(*data.example()),
        scores=scores,
        num_test=len(data.test),
        examples="texts",
        facts={"classes": data.classes, "vocabulary": reader.tokens.vocabulary_size},
        report=report(config, data, reader, trained.model, test),
        baselines=partial(baselines.of_texts, data),
        warnings=test.warnings(data.classes),
        tokens=reader.tokens,
    )


def load(config: Config) -> text.Texts:
    return text.load(**config.loading, pairs=config.needs_pairs, windows=config.windows)


def feed(config: Config, data: text.Texts, reader: Reader) -> Feed:
    return Feed(
        data,
        prepare_many=reader.labeled,
        batch=lambda features, labels: (
            tokens.trimmed(features, unless=config.fixed_lengths),
            tf.one_hot(labels, len(data.classes)),
        ),
        vary=tokens.word_dropout(reader.tokens, config.word_dropout),
        length=tokens.lengths,
    )


def build(config: Config, data: text.Texts, reader: Reader, vectors=None) -> keras.Model:
    vocabulary_size, num_classes = reader.tokens.vocabulary_size, len(data.classes)
    orders = config.orders if len(data.columns) == 2 else "given"
    if config.continued:
        return presets.network(config.continued, num_classes)
    match config.family:
        case "bert":
            encoder = bert.encoder(vocabulary_size, **config.transformer)
            transformers.require_attention(encoder, config.attention_layer, config.attention_head)
            pooling = config.pooling or ("mean" if config.fine_tuned else "first")
            return bert.bert_classifier(encoder, num_classes, pooling=pooling, orders=orders)
        case "gpt":
            decoder = gpt.decoder(vocabulary_size, **config.transformer)
            return gpt.gpt_classifier(decoder, num_classes, orders=orders)
        case "elmo":
            network = elmo.encoder(**config.elmo)
            return elmo.elmo_classifier(network, num_classes, **config.elmo_head)
    head = {"pairs": len(data.columns) == 2, "vectors": vectors, **config.recurrent}
    head["pooling"] = config.pooling or "attention"
    return recurrent.recurrent_classifier(vocabulary_size, num_classes, **head)


def signatures(data: text.Texts, reader: Reader) -> dict[str, Signature]:
    return {
        "serving_default": Signature(
            inputs={name: tf.TensorSpec((None,), tf.string) for name in data.columns},
            preprocess=lambda **texts: Prepared(*reader.read_columns(texts.values())),
            core=in_blocks if reader.windows else None,
            postprocess=classification.best_classes(data.classes),
            meanings={**text.MEANINGS, **classification.MEANINGS},
            resources=reader.tokens.resources,
            ties=classification.TIES,
        ),
        reader.signature_name: tensors(
            **reader.sample(data.table("validation", 4)),
            meanings={**tokens.MEANINGS, "logits": classification.LOGITS},
        ),
    }


def report(config, data: text.Texts, reader: Reader, model, test) -> list[Section]:
    some = data.of_each_class("train", 12)
    seen = [(text.shown(texts), data.classes[label]) for texts, label in some]
    return [
        *classified(test, data, tabled("text", text.shown)),
        Table("Training texts", ("text", "class"), seen),
        *attended(config, data, reader, model),
    ]


def attended(config: Config, data: text.Texts, reader: Reader, model) -> list[Section]:
    """Shows to which tokens BERT, or to which words the pooling, attends in test texts."""
    texts = [texts for texts, _ in data.first("test", 8)]
    if config.family == "bert":
        layer, head = config.attention_layer, config.attention_head
        weights = partial(transformers.attention_of, model, layer=layer, head=head)
        return attention.between_tokens(texts[:3], reader, weights)
    if config.family == "gpt" or config.pooling not in (None, "attention"):
        return []
    return attention.of_words(texts, reader, partial(recurrent.attention_weights, model))


if __name__ == "__main__":
    command(main, Config, __doc__)
