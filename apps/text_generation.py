"""Train a network that continues texts.

It reads and writes bytes, and so every text. The built-in sample, the Python reference, is too
small and only shows how a run goes: in 3 minutes on a CPU core 2.12 bits per byte, 5-grams 1.86.

Example:

    hornbook text_generation --data documents/ --model gpt_baby
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data import plain_text, token_rows
from data.feed import Feed
from data.token_rows import TokenRows
from metrics import language_models
from metrics.language_models import bits_per_byte
from metrics.ngrams import witten_bell
from models import generation, gpt, recurrent, writing
from preprocessing.byte_tokens import Bytes, as_features, labeled
from runs import presets
from runs.command import command
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import AUTO, Auto, Settings
from runs.text_settings import RECURRENT_RATE
from serving.signature import Signature, ask, tensors

MODELS = (*recurrent.NAMES, *gpt.NAMES[1:])
NGRAM = 5
"""Bytes of the n-grams that the network is compared with."""
PROMPT = 40
"""Characters of the prompts in the report and in the warm-up."""
TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)
"""Temperatures of the report."""
MEANINGS = {
    **writing.MEANINGS,
    "prompt": "the beginning of a text, in UTF-8; of a long one the end is read",
    "text": "what follows it, without the prompt",
    "token_ids": f"bytes, 0 to 255, {Bytes.end_id} at the end of a text, -1 in padding",
    "logits": language_models.LOGITS["logits"],
}
"""Meanings of all inputs and outputs."""
PREDICTORS = {"the network": "", f"the {NGRAM - 1} bytes before, counted": "ngram_"}
"""What the report compares, and what the names of its scores begin with."""


@dataclass(frozen=True)
class Config(Settings):
    EPOCHS = 5
    BATCH_SIZE = 8
    NETWORK = (*Settings.NETWORK, "length", "layers", "units", "dropout")
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a text file, or a folder of .txt files, optionally
    with train, dev and test in their names or below folders of these names. Blank lines, or titles
    as in WikiText, separate documents."""
    model: str = "gru"
    """The network; `--model help` lists them."""
    epochs: Auto[int] = AUTO
    out: Path = Path("saved_models/text_generation")
    preset: str = "none"
    """Folder of a finished run of this app, to train further. `none` begins with random weights."""
    length: int = 128
    """Number of bytes of a row, and of prompt and answer together."""
    layers: int = 1
    """Number of recurrent layers."""
    units: int = 256
    """Features of a byte and of a recurrent state."""
    dropout: float = 0.1
    """Share of features that training drops, in [0, 1)."""
    max_tokens: Auto[int] = AUTO
    """Maximum number of bytes that `serving_default` writes. Default: 64, or half of the length."""
    temperature: float = 0.8
    """Divides the logits in `serving_default`; 0 always takes the likeliest byte."""
    top_k: int = 0
    """Number of likeliest bytes that `serving_default` chooses from; 0: all."""
    top_p: float = 1.0
    """`serving_default` takes the fewest likeliest bytes that have this probability together."""
    repetition_penalty: float = 1.0
    """Divides positive logits of bytes that are there already, multiplies negative ones; 1: off."""

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(MODELS, "model")
        self.require_least(2, "length")
        self.require_least(1, "layers", "units", "max_tokens")
        self.require_least(0, "temperature", "top_k")
        self.require_share("dropout")
        self.require_only(recurrent.NAMES, "layers", "units")
        if self.preset != "none" and not self.source:
            self._refuse("preset", "the folder of a finished run, or none")
        if self.max_tokens >= self.length:
            self._refuse("max_tokens", f"below the length, {self.length}")
        if not 0 < self.top_p <= 1:
            self._refuse("top_p", "above 0 and at most 1")
        if not 0 < self.repetition_penalty < float("inf"):
            self._refuse("repetition_penalty", "above 0")

    @property
    def usual(self) -> dict[str, Any]:
        usual = super().usual | {"max_tokens": min(64, self.length // 2)}
        # A Transformer with random weights stalls if its first steps are large.
        return usual if self.model in recurrent.NAMES else usual | {"warmup_epochs": 0.3}

    def rate(self, factor: float | None = None) -> float:
        factor = factor or (0.1 if self.source else 1.0)
        is_gpt = self.model not in recurrent.NAMES
        return super().rate(factor * (gpt.rate(self.model) if is_gpt else RECURRENT_RATE))

    @property
    def choice(self) -> dict[str, float]:
        """How `serving_default` chooses."""
        return {name: getattr(self, name) for name in writing.INPUTS}


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    texts, tokens = counted(run, load(config), "documents"), Bytes()
    rows = counted(run, token_rows.arrange(texts, tokens, config.length), "rows")
    fed = feed(rows)
    trained = train(
        run, partial(build, config, tokens), fed, loss={"logits": language_models.cross_entropy()}
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    recurrent.without_cudnn(trained.model)
    scores = evaluate(rows, tokens, trained.model, fed.evaluation("test", config.batch_size))
    warmup, prompts = beginnings(texts.validation), beginnings(texts.test)
    served = signatures(config, tokens, warmup)
    return finish(
        run,
        trained,
        task="text generation",
        signatures=served,
        warmup={"prompt": warmup},
        example=Example(f"the beginning of a test text: {prompts[0]}", {"prompt": prompts[0]}),
        scores=scores,
        num_test=len(rows.test),
        examples="rows",
        facts={"vocabulary": tokens.vocabulary_size, "test bytes": rows.num_bytes["test"]},
        warnings=language_models.beaten(scores, PREDICTORS, "bits_per_byte"),
        report=report(config, prompts[:3], served["generate"], trained.model, scores),
        tokens=tokens,
    )


def load(config: Config) -> plain_text.PlainTexts:
    return plain_text.load(config.data, skip_bad=config.skip_bad)


def feed(rows: TokenRows) -> Feed:
    return Feed(rows, batch=labeled)


def build(config: Config, tokens: Bytes) -> keras.Model:
    if config.source:
        return presets.network(config.source)
    family, _, size = config.model.partition("_")
    if family == "gpt":
        backbone = gpt.gpt_backbone(size, tokens.vocabulary_size, config.length, config.dropout)
        return gpt.gpt_language_model(backbone)
    return recurrent.recurrent_language_model(
        tokens.vocabulary_size, config.model, config.units, config.layers, config.dropout
    )


def evaluate(rows: TokenRows, tokens: Bytes, model, batches) -> dict[str, float]:
    """Scores the network, and n-grams of bytes as a baseline."""
    guesses = language_models.evaluate(model, batches)["logits"]
    counted, predicted, num_bytes = rows.streams["train"], rows.streams["test"], rows.num_bytes
    ngrams = witten_bell(counted, predicted, tokens.vocabulary_size, NGRAM)
    return {
        "bits_per_byte": bits_per_byte(guesses.losses, num_bytes["test"]),
        **guesses.scores,
        "ngram_bits_per_byte": bits_per_byte(ngrams, num_bytes["test"]),
    }


def beginnings(documents: tuple[plain_text.Document, ...]) -> list[str]:
    return [line[:PROMPT] for line in plain_text.sample_lines(documents)[:8]]


def signatures(config: Config, tokens: Bytes, prompts: list[str]) -> dict[str, Signature]:
    steps = gpt.gpt_steps if config.model.startswith("gpt") else recurrent.recurrent_steps
    core = generation.continuing(steps, config.length, tokens.end_id)
    ids = {"token_ids": tf.TensorSpec((None, None), tf.int32)}
    choice = {name: part.numpy() for name, part in writing.filled(config.choice, 4).items()}
    examples = {"token_ids": tokens.encode(tf.constant(prompts[:4])).numpy()}
    return {
        "serving_default": Signature(
            inputs={"prompt": tf.TensorSpec((None,), tf.string)},
            preprocess=lambda prompt: {
                "token_ids": tokens.encode(prompt),
                **writing.filled(config.choice, tf.size(prompt)),
            },
            core=core,
            postprocess=lambda written: writing.as_text(written, tokens.decode),
            meanings=MEANINGS,
            ties={"text": "log_probability"},
        ),
        "generate": Signature(
            inputs={"prompt": tf.TensorSpec((None,), tf.string), **writing.INPUTS},
            preprocess=lambda prompt, **choice: {
                "token_ids": tokens.encode(prompt),
                **writing.checked(choice, config.length),
            },
            core=core,
            postprocess=lambda written: writing.explained(written, tokens.decode),
            meanings=MEANINGS,
            examples={"prompt": np.array(prompts[:4], object), **choice},
            ties=dict.fromkeys(("text", "finish_reason", "tokens"), "log_probability"),
        ),
        "generate_from_tokens": Signature(
            inputs={**ids, **writing.INPUTS},
            preprocess=lambda token_ids, **choice: {
                "token_ids": token_ids,
                **writing.checked(choice, config.length),
            },
            core=core,
            postprocess=writing.as_tokens,
            meanings=MEANINGS,
            examples={**examples, **choice},
            ties={"token_ids": "log_probability"},
        ),
        "from_tokens": tensors(ids, MEANINGS, examples=examples, preprocess=as_features),
    }


def report(config, prompts, signature: Signature, model, scores: dict[str, float]) -> list[Section]:
    pairs = [(prompt, temperature) for prompt in prompts for temperature in TEMPERATURES]
    columns = {name: [value] * len(pairs) for name, value in config.choice.items()}
    columns |= {"prompt": [one for one, _ in pairs], "temperature": [one for _, one in pairs]}
    texts = ask(signature, model, columns)["text"]
    rows = [(one, f"{t:g}", text.decode()) for (one, t), text in zip(pairs, texts, strict=True)]
    compared = language_models.comparison(scores, PREDICTORS, ("bits_per_byte",))
    return [
        Table("Bytes of the test texts, predicted from those before", *compared),
        Table("Continuations", ("beginning of a test text", "temperature", "continued"), rows),
    ]


if __name__ == "__main__":
    command(main, Config, __doc__)
