"""Pretrain ELMo on plain text.

The run writes a preset, which the other text apps put heads on. The built-in sample, the Python
reference, is too small and only shows how a run goes: in 8 minutes on 2 CPU cores words reach a
test perplexity of 135; their frequencies give 282, the neighboring word gives 98.

Example:

    hornbook elmo_pretraining --data documents/ --model elmo_small
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from data import plain_text, word_rows
from data.feed import Feed
from data.plain_text import shortened
from data.word_rows import WordRows
from metrics import language_models
from metrics.language_models import DIRECTIONS, both_ways
from metrics.ngrams import Ngrams
from models import elmo
from preprocessing import spelled_words
from runs import presets
from runs.command import command
from runs.presets import with_weights_of
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import Settings
from runs.text_settings import PretrainingSettings
from serving.signature import Prepared, Signature, ask, tensors

PREDICTORS = {
    "ELMo": "",
    "only the neighboring word": "bigram_",
    "the frequencies of the words": "unigram_",
}
"""Predictors that the report compares, and the prefixes of their scores."""


@dataclass(frozen=True)
class Config(PretrainingSettings, Settings):
    NETWORK = (*Settings.NETWORK, "vocabulary_size", "length", "dropout")
    model: str = "elmo_tiny"
    """The network; `--model help` lists them. `elmo` needs `--preset`."""
    out: Path = Path("saved_models/elmo_pretraining")
    preset: str = "none"
    """Folder of a finished run to train further, or its folder `preset`, which gets a new head.
    `none` begins with random weights."""
    vocabulary_size: int = 8000
    """Maximum number of different words that ELMo predicts; it reads all words."""
    length: int = 128
    """Number of words per row; longer texts are truncated in the export."""
    dropout: float = 0.1
    """Dropout rate, in [0, 1). A preset keeps its own."""

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(elmo.NAMES, "model")
        self.require_least(6, "vocabulary_size")
        self.require_least(8, "length")
        self.require_share("dropout")
        self.require_only(elmo.NAMES[1:], "dropout")
        self.require_preset_of(["elmo"])


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    texts = counted(run, load(config), "documents")
    known = spelled_words.saved_words(config.part("tokenizer")) if config.continued else []
    size = 0 if config.EVALUATES else config.vocabulary_size
    rows = counted(run, word_rows.arrange(texts, size, config.length, known), "rows")
    pairs, size = rows.contexts_and_targets("train"), rows.words.vocabulary_size
    counts = {name: Ngrams.counted(*pairs[name], size) for name in DIRECTIONS}
    fed = feed(config, rows)
    trained = train(
        run,
        partial(build, config, rows, counts["forward"]),
        fed,
        loss={name: language_models.cross_entropy() for name in DIRECTIONS},
        monitor="val_loss",
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    scores = evaluate(rows, counts, trained.model, fed.evaluation("test", config.batch_size))
    scores = run.compared(scores, PREDICTORS)
    lines = plain_text.sample_lines(texts.test)
    served = signatures(config, rows)
    return finish(
        run,
        trained,
        task="ELMo pretraining",
        signatures=served,
        warmup={"text": plain_text.sample_lines(texts.validation)[:8]},
        example=Example(f"a test text: {shortened(lines[0])}", {"text": lines[0]}),
        scores=scores,
        num_test=len(rows.test),
        examples="rows",
        facts={"vocabulary": size, "training rows": len(rows.train)},
        warnings=language_models.beaten(scores, PREDICTORS, "perplexity"),
        report=report(lines, served["serving_default"], trained.model, scores),
        tokens=rows.words,
        preset=partial(save, config, trained.model),
    )


def load(config: Config) -> plain_text.PlainTexts:
    return plain_text.load(**config.loading)


def feed(config: Config, rows: WordRows) -> Feed:
    return Feed(
        rows,
        batch=lambda numbers: spelled_words.labeled(rows.words, numbers, config.fixed_lengths),
        length=spelled_words.num_words,
    )


def build(config: Config, rows: WordRows, counts: Ngrams) -> keras.Model:
    if config.continued:
        return presets.network(config.continued, rows.words.vocabulary_size)
    model = elmo.elmo_language_model(encoder(config), rows.words.vocabulary_size)
    return language_models.with_prior_bias(model, "softmax", "bias", counts.unigram)


def encoder(config: Config) -> keras.Model:
    size = config.model.partition("_")[2]
    return elmo.encoder(size=size, preset=config.part("preset"), dropout=config.dropout)


def evaluate(rows: WordRows, counts: dict[str, Ngrams], model, batches) -> dict[str, float]:
    """Scores the network, and the frequencies of words and of pairs of words as baselines."""
    validation, test = (rows.contexts_and_targets(split) for split in ("validation", "test"))
    pairs = {name: counts[name].tuned(*validation[name]) for name in DIRECTIONS}
    return {
        **both_ways(language_models.evaluate(model, batches)),
        **both_ways({name: counts[name].guess(*test[name]) for name in DIRECTIONS}, "unigram_"),
        **both_ways({name: pairs[name].guess(*test[name]) for name in DIRECTIONS}, "bigram_"),
    }


def signatures(config: Config, rows: WordRows) -> dict[str, Signature]:
    numbers, encode = spelled_words.word_numbers(rows.words), spelled_words.encode_lines
    ((row,),) = rows.first("validation", 1)  # One: its logits take megabytes.
    characters = rows.words.spell(row[None, 1:-1]).numpy()
    return {
        "serving_default": Signature(
            inputs={"text": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda text: Prepared(*encode(numbers, text, config.length)),
            postprocess=language_models.measure_words,
            meanings={
                "text": f"the text, in UTF-8; only the first {config.length - 2} words are read",
                **language_models.WORD_MEANINGS,
            },
            resources=(numbers,),
        ),
        "from_characters": tensors(
            {"characters": tf.TensorSpec((None, *characters.shape[1:]), tf.int32)},
            meanings={**spelled_words.MEANINGS, **language_models.LOGITS},
            examples={"characters": characters},
        ),
    }


def report(lines, signature: Signature, model, scores: dict[str, float]) -> list[Section]:
    kinds = ("accuracy", "perplexity", "forward_perplexity", "backward_perplexity")
    answers = ask(signature, model, {"text": lines})
    columns = (answers[name] for name in ("perplexity", "words", "log_probabilities"))
    rows = [
        (shortened(line), f"{perplexity:.4g}", language_models.least_expected(words, logs))
        for line, perplexity, words, logs in zip(lines, *columns, strict=True)
    ]
    compared = language_models.comparison(scores, PREDICTORS, kinds)
    return [
        Table("Words of the test texts, predicted from one side", *compared),
        Table("Least expected words", ("test text", "perplexity", "words, probabilities"), rows),
    ]


def save(config: Config, model: keras.Model, folder: Path) -> None:
    elmo.save_elmo(with_weights_of(model, encoder(config)), folder)


if __name__ == "__main__":
    command(main, Config, __doc__)
