"""Train a network that continues texts.

It reads and writes bytes, characters, pieces or the byte pairs of a preset, and so every text. The
built-in sample, the Python reference, is too small and only shows how a run goes: in 4 minutes on 2
CPU cores 1.78 bits per byte, 5-grams 1.86.

Example:

    hornbook text_generation --data documents/ --model gpt --preset smollm2/ --lora-rank 8
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
from metrics import byte_models, language_models, replies
from models import recurrent, text_writers, transformers
from models.writing import continuing, scoring
from preprocessing.byte_tokens import Bytes, Tokens, as_features, labeled, to_score
from preprocessing.tokenizers import tokenizer
from runs import presets, reading, writing_speed
from runs.command import command
from runs.report import Section, Table
from runs.run import Example, Run, counted, finish, start, train
from runs.text_settings import WritingSettings
from serving import writing
from serving.signature import Prepared, Signature, tensors
from serving.writing import Writer

PROMPT = 40
"""Characters of the prompts in the report and in the warm-up."""
TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)
"""Temperatures of the report."""
MEANINGS = {
    **writing.MEANINGS,
    "prompt": "the beginning of a text, in UTF-8; of a long one the end is read",
    "text": "what follows it, without the prompt",
    "bytes": "number of bytes of the text in UTF-8",
    "logits": language_models.LOGITS["logits"],
}
"""Meanings of all inputs and outputs but the tokens."""


@dataclass(frozen=True)
class Config(WritingSettings):
    EPOCHS = 10
    BATCH_SIZE = 8
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a .txt file, which is one text with all its
    characters, a .jsonl file with a text per line in the field `text`, or a folder of such files,
    optionally with train, dev and test in their names or below folders of these names."""
    model: str = "gru"
    out: Path = Path("saved_models/text_generation")
    beams: int = 4
    """Number of texts that the signature `beams` searches for at the same time."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network(text_writers.NAMES)
        self.require_least(1, "beams")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test texts."""
    run = start(config)
    texts = counted(run, load(config), "documents")
    tokens = tokenizer(**config.tokenizer, texts=map("\n".join, texts.split("train")))
    rows = counted(run, token_rows.arrange(texts, tokens, config.length), "rows")
    fed = feed(tokens, rows)
    epoch = fed.training(batch_size=config.batch_size, seed=config.seed, epochs=1)
    tokens_per_row = reading.padding(run, epoch)
    trained = train(
        run,
        partial(build, config, tokens),
        fed,
        loss={"logits": language_models.cross_entropy()},
        rates=config.rates(transformers.width),
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    recurrent.without_cudnn(trained.model)
    validation, test = (fed.evaluation(s, config.batch_size) for s in ("validation", "test"))
    bits = byte_models.in_bits(trained.history, validation, rows.num_bytes["validation"])
    trained.history.update(bits)
    warmup, prompts = beginnings(texts.validation), beginnings(texts.test)
    served = signatures(config, tokens, warmup)
    return finish(
        run,
        trained,
        task="text generation",
        signatures=served,
        warmup={"prompt": warmup},
        example=Example(f"the beginning of a test text: {prompts[0]}", {"prompt": prompts[0]}),
        scores=byte_models.evaluate(trained.model, test, rows),
        num_test=len(rows.test),
        examples="rows",
        facts={
            "vocabulary": tokens.vocabulary_size,
            "test bytes": rows.num_bytes["test"],
            **writing_speed.trained_tokens(trained, tokens_per_row),
        },
        baselines=partial(byte_models.baselines, rows, Bytes.vocabulary_size),
        report=report(run, prompts[:3], served["generate"], trained.model),
        tokens=tokens,
    )


def load(config: Config) -> plain_text.PlainTexts:
    return plain_text.load(**config.loading, whole=True)


def feed(tokens: Tokens, rows: TokenRows) -> Feed:
    return Feed(rows, batch=partial(labeled, tokens))


def build(config: Config, tokens: Tokens) -> keras.Model:
    if config.continued:
        return presets.network(config.continued)
    return text_writers.text_writer(config.model, tokens.vocabulary_size, **config.text_writer)


def beginnings(documents: tuple[plain_text.Document, ...]) -> list[str]:
    return [line[:PROMPT] for line in plain_text.sample_lines(documents)[:8]]


def signatures(config: Config, tokens: Tokens, prompts: list[str]) -> dict[str, Signature]:
    steps = text_writers.steps_of(config.model, config.length)
    meanings = {**MEANINGS, "token_ids": tokens.meaning}
    ids = {"token_ids": tf.TensorSpec((None, None), tf.int32)}
    texts = np.array(prompts[:4], object)
    writer = Writer(
        core=continuing(steps, config.length, tokens, config.beams, **config.loop),
        inputs={"prompt": writing.TEXT},
        read=lambda max_tokens, prompt: ({"token_ids": tokens.encode(prompt)}, {}),
        tokens=ids,
        decode=tokens.decode,
        choice=config.choice,
        **config.loop,
        examples={"prompt": texts, "token_ids": tokens.encode(tf.constant(texts)).numpy()},
        meanings=meanings,
        resources=tokens.resources,
    )
    return {
        **writer.signatures(length_penalty=1.0),
        "score": Signature(
            inputs={"prompt": writing.TEXT, "text": writing.TEXT},
            preprocess=lambda **texts: Prepared(*to_score(tokens, **texts)),
            core=scoring(config.length),
            postprocess=lambda found, counts: {"log_probability": found, **counts},
            meanings=meanings,
            examples={"prompt": texts, "text": texts[::-1]},
            resources=tokens.resources,
        ),
        "from_tokens": tensors(
            ids,
            meanings,
            examples={"token_ids": writer.examples["token_ids"]},
            preprocess=as_features,
        ),
    }


def report(run: Run, prompts: list[str], signature: Signature, model) -> list[Section]:
    pairs = [(prompt, temperature) for prompt in prompts for temperature in TEMPERATURES]
    config: Any = run.config
    columns: dict[str, Any] = {name: [v] * len(pairs) for name, v in config.choice.items()}
    columns["stop"] = [[""]] * len(pairs)
    columns |= {"prompt": [one for one, _ in pairs], "temperature": [one for _, one in pairs]}
    texts = writing_speed.written(run, signature, model, columns, len(TEMPERATURES))["text"]
    rows = [(one, f"{t:g}", text.decode()) for (one, t), text in zip(pairs, texts, strict=True)]
    groups = {f"{t:g}": [text for _, one, text in rows if one == f"{t:g}"] for t in TEMPERATURES}
    return [
        Table("Variety of the continuations", *replies.varieties("temperature", groups)),
        Table("Continuations", ("beginning of a test text", "temperature", "continued"), rows),
    ]


if __name__ == "__main__":
    command(main, Config, __doc__)
