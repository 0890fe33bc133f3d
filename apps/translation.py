"""Train a network that translates texts.

Reads and writes the pieces of a vocabulary that it learns from your texts. The built-in sample,
numbers in German and in English words, takes 3 minutes on 2 CPU cores.

Example:

    hornbook translation --data corpus/ --source en --target de
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data import parallel_texts
from data.feed import Feed
from data.parallel_texts import ParallelTexts
from data.sources import SPLITS, watched
from data.splits import Splits
from metrics import language_models
from metrics.translations import HEADING, Translations, translated
from models import recurrent, transformer, translators
from models.writing import attending, scoring, translating
from preprocessing import sentence_pieces
from preprocessing.sentence_pieces import SentencePieces
from runs import attention, presets, reading
from runs.command import command
from runs.pictures import attention_maps
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import AUTO, Auto, Data
from runs.text_settings import EncoderDecoderSettings
from serving import translations, writing
from serving.signature import Signature, ask
from serving.writing import Writer


@dataclass(frozen=True)
class Config(EncoderDecoderSettings):
    EPOCHS = 10
    BATCH_SIZE = 64
    NETWORK = (*EncoderDecoderSettings.NETWORK, "vocabulary_size", "length")
    data: str = "number_words"
    """`number_words` (built in), `tfds:NAME`, two files of one name with the languages as endings
    (train.en and train.de, or .gz) or that name, a .tsv, .csv or .jsonl file with a column per
    language, or a folder of such files, optionally with train, dev and test in their names."""
    source: Data[str | None] = None
    """Language of the texts, as the data names it. Default: the first."""
    target: Data[str | None] = None
    """Language of the translations. Default: the other one."""
    model: str = "seq2seq"
    out: Path = Path("saved_models/translation")
    vocabulary_size: Auto[int] = AUTO
    """Maximum number of pieces, of both languages together. Default: 4000; 400 for the sample."""
    length: int = 64
    """Maximum number of pieces of a text and of its translation; longer texts are truncated."""
    max_tokens: Auto[int] = AUTO
    """Maximum number of pieces that `serving_default` writes. Default: the length."""
    beams: int = 4
    """Number of translations that beam search runs with; 1 always takes the likeliest piece."""
    length_penalty: float = 0.6
    """Exponent of the length penalty of beam search; larger values prefer longer translations."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(translators.NAMES, transformer.TRANSFORMER_SIZES)
        self.require_least(2, "length")
        self.require_least(1, "max_tokens", "vocabulary_size", "beams")
        self.require_least(0, "length_penalty")
        if self.max_tokens > self.length:
            self._refuse("max_tokens", f"at most the length, {self.length}")

    @property
    def usual(self) -> dict[str, Any]:
        size = 400 if self.data in parallel_texts.BUILT_IN else 4000
        return super().usual | {"vocabulary_size": size, "max_tokens": self.length}

    @property
    def choice(self) -> dict[str, float]:
        """How `serving_default` writes."""
        way = {"length_penalty": self.length_penalty} if self.beams > 1 else writing.GREEDY
        return {"max_tokens": self.max_tokens, **way}


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    data = counted(run, load(config), "pairs")
    tokens = vocabulary(config, data)
    fed = feed(config, data, tokens)
    for side, what in enumerate(("texts", "translations")):
        texts = tf.data.Dataset.from_tensor_slices(data.texts("train", side))
        reading.lengths(run, texts, tokens, what, config.length)
    reading.padding(run, fed.training(batch_size=config.batch_size, seed=config.seed, epochs=1))
    trained = train(
        run,
        partial(build, config, tokens),
        fed,
        loss={"logits": language_models.cross_entropy(config.label_smoothing)},
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    recurrent.without_cudnn(trained.model)
    served = signatures(config, tokens, data.first("validation", 8))
    test = evaluate(config, data, served["serving_default"], trained.model)
    rated = "BLEU, chrF, exact match and baselines"
    reading.part(run, "translations", len(test.sources), len(data.test), rated)
    losses = language_models.evaluate(trained.model, fed.evaluation("test", config.batch_size))
    source, target = data.test[0]
    return finish(
        run,
        trained,
        task="translation",
        signatures=served,
        warmup={"text": data.texts("validation", 0)[:8]},
        example=Example(f"a test text, reference {target!r}", {"text": source}),
        scores={**test.scores, **losses["logits"].scores},
        num_test=len(data.test),
        examples="texts",
        facts={
            "languages": data.languages,
            "vocabulary": tokens.vocabulary_size,
            **{f"signature of {name}": text for name, text in test.signatures.items()},
        },
        baselines=partial(test.baselines, data.train),
        report=report(test, served, trained.model),
        tokens=tokens,
    )


def load(config: Config) -> ParallelTexts:
    known: dict[str, str] = {}
    if config.continued and config.source is config.target is None:
        names = presets.card(config.continued)["languages"]
        known = dict(zip(("source", "target"), names, strict=True))
    return parallel_texts.load(**(config.loading | known))


def vocabulary(config: Config, data: ParallelTexts) -> SentencePieces:
    if config.continued:
        return SentencePieces.load(config.part("tokenizer"))
    both = (text for pair in data.train for text in pair)
    return SentencePieces.learned(both, config.vocabulary_size)


def feed(config: Config, data: ParallelTexts, tokens: SentencePieces) -> Feed:
    texts = {split: (data.texts(split, 0), data.texts(split, 1)) for split in SPLITS}
    return Feed(
        Splits(
            **{split: tf.data.Dataset.from_tensor_slices(some) for split, some in texts.items()}
        ),
        prepare_many=partial(sentence_pieces.encoded_pairs, tokens, config.length),
        batch=partial(sentence_pieces.labeled_pairs, tokens, config.fixed_lengths),
        length=sentence_pieces.pair_length,
    )


def build(config: Config, tokens: SentencePieces) -> keras.Model:
    if config.continued:
        return presets.network(config.continued)
    return translators.translator(config.model, tokens.vocabulary_size, **config.encoder_decoder)


def evaluate(config: Config, data: ParallelTexts, signature: Signature, model) -> Translations:
    """Translates test texts: all, or of many a part."""
    some = [data.test[i] for i in translated(len(data.test))]
    sources, references = map(list, zip(*some, strict=True))
    # Texts of similar length together: a batch takes as long as its longest translation.
    order = np.argsort([len(text) for text in sources], kind="stable")
    watch = partial(watched, total=len(order), doing="Translating test texts")
    texts = {"text": [sources[i] for i in order]}
    found = ask(signature, model, texts, config.batch_size, watch)["translation"]
    ours = dict(zip(order, found, strict=True))
    return Translations(sources, references, [ours[i].decode() for i in range(len(order))])


def signatures(config: Config, tokens: SentencePieces, pairs) -> dict[str, Signature]:
    """Returns the signatures; `pairs` are real examples."""
    length, shown = config.length, (config.attention_layer, config.attention_head)
    steps = translators.steps_of(config.model, tokens.end_id, length)
    core = translating(steps, length, tokens.end_id, tokens.pieces, config.beams)
    weights = translators.attention_of(config.model, config.attention, *shown)
    writer = Writer(
        core=core,
        inputs={"text": writing.TEXT},
        read=lambda max_tokens, text: sentence_pieces.sources(tokens, length, text),
        tokens={"source_ids": writing.IDS},
        as_features=None,
        decode=tokens.decode,
        choice=config.choice,
        limit=length,
        examples=sentence_pieces.examples(tokens, length, pairs),
        meanings=translations.MEANINGS,
        text="translation",
        score="score",
        resources=tokens.resources,
    )
    return translations.signatures(
        writer,
        config.length_penalty,
        read_pair=partial(sentence_pieces.to_score, tokens, length),
        scoring=scoring(length),
        attending=attending(core, weights, tokens.begun) if weights else None,
        show=partial(sentence_pieces.attended, tokens),
    )


def report(test: Translations, served: dict[str, Signature], model) -> list[Section]:
    rows = [test.row(i) for i in test.spread]
    drawn = []
    if "attention" in served:
        drawn = attention_maps(ask(served["attention"], model, {"text": [r[0] for r in rows[:5]]}))
    return [
        Table("BLEU by length of the text", ("words", "texts", "BLEU"), test.by_length()),
        Table("Translations of test texts", HEADING, rows),
        Table("Worst translations", HEADING, [test.row(i) for i in test.worst]),
        *attention.maps(drawn),
    ]


if __name__ == "__main__":
    command(main, Config, __doc__)
