"""Classify each word of a text, for example to find names of people and places.

Finds code in sentences of the Python reference with an entity F1 of 0.66 in a minute on 2 CPU
cores.

Example:

    hornbook token_classification --data wnut17 --model bert --preset path/or/name
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data import tagged_text
from data.feed import Feed
from metrics import baselines, tagging
from metrics.classification import Evaluation
from metrics.language_models import with_prior_bias
from models import bert, elmo, recurrent, transformers
from preprocessing import tagged_words, tokens
from preprocessing.readers import WORD_MEANINGS, ContextOfWords, WordReader, word_reader
from runs import pictures, presets, reading
from runs.command import command
from runs.report import Marked, Picture, Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import Data
from runs.text_settings import ClassifierSettings
from serving.signature import Prepared, Signature, ask, tensors

MODELS = (*recurrent.NAMES, *elmo.NAMES, *bert.NAMES)


@dataclass(frozen=True)
class Config(ClassifierSettings):
    NETWORK = (*ClassifierSettings.NETWORK, "lowercase")
    RECURRENT_TOKENS = "pieces"  # The letters of a rare word tell its tag.
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a CoNLL file, or a folder of such files with train,
    dev and test in their names."""
    model: str = "lstm"
    """The network; `--model help` lists them. `bert` and `elmo` need `--preset`."""
    out: Path = Path("saved_models/token_classification")
    tag_column: Data[int | str | None] = None
    """Column of the tags: an index from 0, or from the end if negative; or the name of a feature of
    TensorFlow Datasets. Default: the last column (UPOS in .conllu files), or found by its name."""
    lowercase: bool = False
    """Convert words to lower case, if the vocabulary is learned."""
    length: int = 128
    """Maximum number of tokens per row; of words with elmo. Longer sentences are read in
    overlapping rows."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(MODELS)
        learned = [name for name in MODELS if name not in elmo.NAMES and name != "bert"]
        self.require_only(learned, "lowercase")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test sentences."""
    run = start(config)
    data = counted(run, load(config), "sentences")
    reader = word_reader(config.family, data.words, lowercase=config.lowercase, **config.reading)
    reading.lengths(run, data.words, reader, "sentences")
    fed = feed(config, data, reader)
    frequencies = tagging.frequencies(fed.evaluation("train", 1024), len(data.tags))
    trained = train(
        run,
        partial(build, config, reader, frequencies, reading.word_vectors(run, reader.tokens)),
        fed,
        # The mean over the tokens that have a label.
        loss=keras.losses.SparseCategoricalCrossentropy(True, ignore_class=tagging.IGNORED),
        metrics=lambda: [tagging.TagAccuracy(name="accuracy"), tagging.EntityF1(data.tags)],
        rates=config.rates(transformers.width, transformers.depths),
        monitor="val_f1",
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    recurrent.without_cudnn(trained.model)
    test = evaluate(config, data, reader, trained.model, "test")
    scores = test.scores
    if not run.is_foreign:
        validation = evaluate(config, data, reader, trained.model, "validation")
        scores |= {"validation_f1": validation.scores["f1"]}
    return finish(
        run,
        trained,
        task="token classification",
        signatures=signatures(data, reader),
        warmup={"text": [b" ".join(words) for words, _ in data.first("validation", 8)]},
        example=example(data),
        scores=scores,
        num_test=len(data.test),
        examples="sentences",
        facts={"classes": data.tags, "vocabulary": reader.tokens.vocabulary_size},
        report=report(data, test),
        baselines=partial(baselines.of_tags, data, test),
        warnings=test.warnings,
        tokens=reader.tokens,
    )


def load(config: Config) -> tagged_text.TaggedTexts:
    return tagged_text.load(**config.loading)


def feed(config: Config, data: tagged_text.TaggedTexts, reader: WordReader) -> Feed:
    next_tags = tagged_words.continuations(data.tags)
    return Feed(
        data,
        prepare_many=lambda words, tags: tagged_words.labeled(
            reader.encode, words, tags, next_tags
        ),
        batch=lambda features, labels: tagged_words.trimmed(features, labels, config.fixed_lengths),
        vary=tokens.word_dropout(reader.tokens, config.word_dropout),
        length=tokens.lengths,
    )


def build(config: Config, reader: WordReader, frequencies, vectors=None) -> keras.Model:
    vocabulary_size, num_tags = reader.tokens.vocabulary_size, len(frequencies)
    if config.continued:
        return presets.network(config.continued, num_tags)
    match config.family:
        case "bert":
            tagger = bert.bert_tagger(bert.encoder(vocabulary_size, **config.transformer), num_tags)
        case "elmo":
            tagger = elmo.elmo_tagger(elmo.encoder(**config.elmo), num_tags, **config.elmo_head)
        case _:
            sizes = {"vectors": vectors, **config.recurrent}
            tagger = recurrent.recurrent_tagger(vocabulary_size, num_tags, **sizes)
    # Nearly all words are O. If the network had to learn that first, from large gradients that all
    # point the same way, a pretrained encoder would predict the same tag for every word from then
    # on. The remedy is from Lin et al., Focal Loss for Dense Object Detection, 2017, section 4.1.
    return with_prior_bias(tagger, "logits", "bias", frequencies)


def evaluate(
    config: Config, data: tagged_text.TaggedTexts, reader: WordReader, model, split: str
) -> tagging.Tagging:
    """Queries the network about all words of a split, in whole sentences."""
    words, tags = zip(*data.split(split).as_numpy_iterator(), strict=True)
    signature = replace(signatures(data, reader)["from_words"], postprocess=probabilities)
    answers = ask(signature, model, {"words": words}, config.batch_size)
    of_words = Evaluation(np.concatenate(tags), answers["probabilities"])
    return tagging.Tagging(of_words, np.array([len(some) for some in tags]), data.tags)


def probabilities(logits: tf.Tensor, context: ContextOfWords) -> dict[str, tf.Tensor]:
    """Returns the probabilities of all tags `(words, tags)`, one sentence after the other."""
    first_piece, _ = context
    of_words = tokens.at_first_pieces(logits, first_piece)[first_piece >= 0]
    return {"probabilities": tf.nn.softmax(of_words)}


def signatures(data: tagged_text.TaggedTexts, reader: WordReader) -> dict[str, Signature]:
    def answer(logits: tf.Tensor, context: ContextOfWords) -> dict[str, tf.Tensor]:
        first_piece, words = context
        of_words = tokens.at_first_pieces(logits, first_piece)
        return {**words, **tagging.best_tags(data.tags, of_words, first_piece >= 0)}

    sample = tf.ragged.stack([words for words, _ in data.first("validation", 8)]).to_tensor()
    return {
        "serving_default": Signature(
            inputs={"text": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda text: Prepared(*reader.read_texts(text)),
            postprocess=answer,
            meanings={"text": "the text, in UTF-8", **WORD_MEANINGS, **tagging.MEANINGS},
            resources=reader.tokens.resources,
        ),
        "from_words": Signature(
            inputs={"words": tf.TensorSpec((None, None), tf.string)},
            preprocess=lambda words: Prepared(*reader.read_words(words)),
            postprocess=answer,
            meanings={"words": 'words as in the data, rows padded with ""', **tagging.MEANINGS},
            resources=reader.tokens.resources,
            examples={"words": sample.numpy()},
        ),
        reader.signature_name: tensors(
            reader.inputs, {**tokens.MEANINGS, **tagging.MEANINGS}, preprocess=dict
        ),
    }


def report(data: tagged_text.TaggedTexts, test: tagging.Tagging) -> list[Section]:
    numbers = [test.position(word)[0] for word in test.words.worst]
    worst = zip(test.words.worst, numbers, data.picked("test", numbers), strict=True)
    mistakes = [(*test.mistake(i, words), data.origin("test", n)) for i, n, (words, _) in worst]
    shown = test.with_entities[:12]
    entities = test.marked(shown, [words for words, _ in data.picked("test", shown)])
    training = data.with_entities("train").take(8).as_numpy_iterator()
    return [
        Table("Entities by type", tagging.HEADING, test.by_type),
        Picture("Confusion matrix", pictures.confusion_matrix(test.words, data.tags)),
        Picture("Calibration", pictures.reliability_curve(test.words)),
        Table("Worst mistakes", (*tagging.MISTAKE, "from"), mistakes),
        Marked("Entities in test sentences", entities),
        Marked(
            "Training sentences",
            [tagging.marked(words, data.named(tags)) for words, tags in training],
        ),
    ]


def example(data: tagged_text.TaggedTexts) -> Example:
    either = data.with_entities("test").concatenate(data.test)
    words, tags = next(either.as_numpy_iterator())
    pieces = tagging.marked(words, data.named(tags))
    named = ", ".join(f"{piece} ({kind})" for piece, kind in pieces if kind) or "none"
    return Example(f"a test sentence, true entities: {named}", {"text": tagging.joined(words)})


if __name__ == "__main__":
    command(main, Config, __doc__)
