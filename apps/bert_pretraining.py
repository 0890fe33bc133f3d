"""Pretrain BERT on plain text.

The run writes a preset, which the other text apps train further. The built-in sample, the Python
reference, is too small and only shows how a run goes: in 2 minutes on 2 CPU cores hidden word
pieces reach a test perplexity of 209; their frequencies give 286, the piece before gives 105.

Example:

    hornbook bert_pretraining --data documents/ --model bert_mini
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from data import plain_text, sentence_pairs
from data.feed import Feed
from data.sentence_pairs import SentencePairs
from metrics import language_models, ngrams
from models import bert, transformers
from preprocessing import hidden_words, tokens
from preprocessing.tokens import WordPieces
from runs import presets
from runs.command import command
from runs.presets import with_weights_of
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.text_settings import PretrainingSettings, TextSettings
from serving.signature import Prepared, Signature, ask, tensors

OUTPUTS = ("masked_words", "next_sentence")
PREDICTORS = {
    "BERT, from both sides": "masked_",
    "the piece before, as BERT sees it": "bigram_",
    "the frequencies of the pieces": "unigram_",
}
"""Predictors that the report compares, and the prefixes of their scores."""


@dataclass(frozen=True)
class Config(PretrainingSettings, TextSettings):
    NETWORK = (*TextSettings.NETWORK, "vocabulary", "lowercase")
    model: str = "bert_tiny"
    """The network; `--model help` lists them. `bert` needs `--preset`."""
    out: Path = Path("saved_models/bert_pretraining")
    preset: str = "none"
    """Pretrained network to train further: a name that KerasHub knows, a folder in its or Hugging
    Face's layout, or the folder of a finished run of this app. `none` begins with random
    weights."""
    vocabulary: str = "none"
    """File with one word piece per line, such as vocab.txt of BERT. `none` learns the word pieces
    from the training texts, unless there is a preset."""
    lowercase: bool = True
    """Convert texts to lower case. A preset keeps its own choice."""
    length: int = 128
    """Number of tokens per row; longer texts are truncated. It is also the maximum `--length` of
    the other apps with the preset that this run writes."""
    dropout: float = 0.1
    """Dropout rate, in [0, 1). A preset keeps its own."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(bert.NAMES)
        self.require_only(bert.NAMES[1:], "vocabulary", "lowercase")
        if self.vocabulary != "none" and self.vocabulary_size != Config.vocabulary_size:
            raise ValueError(
                "`vocabulary_size` must be left out when `vocabulary` is a file. Received: "
                f"vocabulary={self.vocabulary!r}, vocabulary_size={self.vocabulary_size}"
            )


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    texts = counted(run, load(config), "documents")
    pieces = tokenizer(config, texts)
    rows = counted(run, sentence_pairs.arrange(texts, pieces, config.length, config.seed), "rows")
    counts = ngrams.Ngrams.counted(*ngrams.with_previous(rows.documents), pieces.vocabulary_size)
    fed = feed(config, rows)
    trained = train(
        run,
        partial(build, config, pieces, counts),
        fed,
        loss={name: language_models.cross_entropy() for name in OUTPUTS},
        weighted_metrics=lambda: {
            name: [keras.metrics.SparseCategoricalAccuracy("accuracy")] for name in OUTPUTS
        },
        rates=config.rates(transformers.width, transformers.depths),
        monitor="val_masked_words_loss",  # The next sentence overfits far earlier.
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    scores = run.compared(evaluate(config, fed, rows, counts, trained.model), PREDICTORS)
    gaps = partial(sentence_pairs.with_gaps, pieces, length=config.length, seed=config.seed)
    served = signatures(config, rows)
    return finish(
        run,
        trained,
        task="BERT pretraining",
        signatures=served,
        warmup={"text": [text for text, _ in gaps(texts.validation)[:8]]},
        example=example(gaps(texts.test)),
        scores=scores,
        num_test=len(rows.test),
        examples="rows",
        facts={"vocabulary": pieces.vocabulary_size, "training rows": len(rows.train)},
        warnings=language_models.beaten(scores, PREDICTORS, "perplexity"),
        report=report(gaps(texts.test), served["serving_default"], trained.model, scores),
        tokens=pieces,
        preset=partial(save, config, pieces, trained.model),
    )


def load(config: Config) -> plain_text.PlainTexts:
    return plain_text.load(**config.loading)


def tokenizer(config: Config, texts: plain_text.PlainTexts) -> WordPieces:
    if config.preset != "none":
        return WordPieces.from_preset(config.part("tokenizer"))
    if config.vocabulary != "none":
        return WordPieces.of(sentence_pairs.read_vocabulary(config.vocabulary), config.lowercase)
    lines = [line for document in texts.train for line in document]
    print(f"Learning at most {config.vocabulary_size:,} word pieces from {len(lines):,} lines")
    return WordPieces.learned(lines, config.vocabulary_size, config.lowercase)


def feed(config: Config, rows: SentencePairs) -> Feed:
    hider = hidden_words.WordHider(rows.pieces)
    return Feed(
        rows,
        vary=lambda features, continues, seed: hidden_words.labeled(
            hider, tokens.trimmed(features, unless=config.fixed_lengths), continues, seed
        ),
        length=tokens.lengths,
    )


def build(config: Config, pieces: WordPieces, counts: ngrams.Ngrams) -> keras.Model:
    if config.continued:
        return presets.network(config.continued)
    model = bert.bert_pretraining(bert.encoder(pieces.vocabulary_size, **config.transformer))
    return language_models.with_prior_bias(model, "masked_words", "output_bias", counts.unigram)


def evaluate(config: Config, fed: Feed, rows: SentencePairs, counts, model) -> dict[str, float]:
    """Scores the network, and the frequencies of pieces and of pairs of pieces as baselines."""
    validation, test = (fed.evaluation(s, config.batch_size) for s in ("validation", "test"))
    predicted = language_models.evaluate(model, test)
    hidden = language_models.masked_contexts(test, rows.pieces.mask_id)
    pairs = counts.tuned(*language_models.masked_contexts(validation, rows.pieces.mask_id))
    return {
        **predicted["masked_words"].named("masked_"),
        "next_sentence_accuracy": predicted["next_sentence"].scores["accuracy"],
        **counts.guess(*hidden).named("unigram_"),
        **pairs.guess(*hidden).named("bigram_"),
        "bigram_weight": pairs.weight,
    }


def signatures(config: Config, rows: SentencePairs) -> dict[str, Signature]:
    pieces, encode = rows.pieces, hidden_words.encode_gaps
    features, *_ = next(iter(rows.validation.batch(4)))
    return {
        "serving_default": Signature(
            inputs={"text": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda text: Prepared(*encode(pieces, text, config.length)),
            postprocess=language_models.fill_gaps(pieces.tokenizer.vocabulary),
            meanings={
                "text": f"the text, in UTF-8, with {hidden_words.MASK} in place of hidden words",
                **language_models.GAP_MEANINGS,
            },
            resources=pieces.resources,
            ties={"words": "scores"},
        ),
        "from_tokens": tensors(
            {name: tf.TensorSpec((None, *f.shape[1:]), f.dtype) for name, f in features.items()},
            meanings={**hidden_words.MEANINGS, **language_models.LOGITS},
            examples={name: feature.numpy() for name, feature in features.items()},
        ),
    }


def report(gaps, signature: Signature, model, scores: dict[str, float]) -> list[Section]:
    answers = ask(signature, model, {"text": [text for text, _ in gaps]})
    predicted = map(language_models.listed, answers["words"][:, 0], answers["scores"][:, 0])
    compared = language_models.comparison(scores, PREDICTORS, ("accuracy", "perplexity"))
    rows = [(*gap, words) for gap, words in zip(gaps, predicted, strict=True)]
    return [
        Table("Hidden word pieces of the test texts", *compared),
        Table("Predictions for gaps", ("test text", "hidden word", "predicted"), rows),
    ]


def example(gaps: list[tuple[str, str]]) -> Example:
    text, word = gaps[0]
    return Example(f"a test text, hidden word {word!r}: {text}", {"text": text})


def save(config: Config, pieces: WordPieces, model: keras.Model, folder: Path) -> None:
    new = bert.encoder(pieces.vocabulary_size, **config.transformer)
    bert.save_bert(with_weights_of(model, new), pieces.tokenizer, folder)


if __name__ == "__main__":
    command(main, Config, __doc__)
