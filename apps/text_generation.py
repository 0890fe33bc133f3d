"""Train a network that continues texts, or show worked examples to a pretrained one.

It reads and writes bytes, characters, pieces or the byte pairs of a preset, and so every text. The
built-in sample, the Python reference, is too small and only shows how a run goes: in 4 minutes on 2
CPU cores 1.78 bits per byte, 5-grams 1.86.

Example:

    hornbook text_generation --data documents/ --model gpt --preset smollm2/ --lora-rank 8
    hornbook text_generation --data reviews/ --model gpt --preset smollm2/ --shots some.csv
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data import plain_text, text, token_rows, worked_examples
from data.feed import Feed
from data.token_rows import TokenRows
from data.worked_examples import WorkedExamples
from metrics import answers, baselines, byte_models, classification, language_models, replies
from models import recurrent, text_writers, transformers
from models.writing import answering, continuing, scoring
from preprocessing.byte_tokens import Bytes, Tokens, as_features, labeled, to_score
from preprocessing.prompts import Prompts
from preprocessing.tokenizers import tokenizer
from runs import presets, reading, writing_speed
from runs.classified import classified, tabled
from runs.command import command
from runs.report import Code, Section, Table
from runs.run import Example, Run, counted, finish, start, train
from runs.text_settings import FewShotSettings
from serving import continuations, writing
from serving.signature import Signature, ask
from serving.writing import Writer

PROMPT = 40
"""Characters of the prompts in the report and in the warm-up."""
TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)
"""Temperatures of the report."""


@dataclass(frozen=True)
class Config(FewShotSettings):
    EPOCHS = 10
    BATCH_SIZE = 8
    data: str = "python_docs"
    """`python_docs` (built in), `tfds:NAME`, a .txt file, which is one text with all its
    characters, a .jsonl file with a text per line in the field `text`, or a folder of such files,
    optionally with train, dev and test in their names or below folders of these names. With
    `shots`, texts with their answers, as text_classification reads texts with their classes."""
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
    if config.shots:
        return show_examples(config, run)
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
    trained.history.update(byte_models.in_bits(trained.history, validation, rows))
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


def show_examples(config: Config, run: Run) -> dict[str, float]:
    """Evaluates and exports a network that reads worked examples; returns its scores."""
    data = worked_examples.load(**config.loading, shots=str(config.shots))
    data = counted(run, data, "examples")
    tokens = tokenizer(**config.tokenizer)
    count, prompts, said = worked_examples.prompts(data, tokens, **config.prompting)
    reading.said(run, "worked examples", said)
    trained = train(run, partial(build, config, tokens), Feed(data))
    if trained is None:  # Another process evaluates and writes.
        return {}
    found = answer(config, data, tokens, prompts, trained.model)
    texts, classes = [one.text for one in data.tested], data.scored
    some, test, chosen = texts[:: -(-len(texts) // 8)], found[count], prompts[count]
    return finish(
        run,
        trained,
        task="text generation",
        signatures=signatures(config, tokens, some, chosen, classes),
        warmup={"prompt": some},
        example=Example(f"a test text: {some[-1][:PROMPT]}", {"prompt": some[-1]}),
        scores=answers.by_shots(found, count),
        num_test=len(texts),
        examples="texts",
        facts={"vocabulary": tokens.vocabulary_size, **({"classes": classes} if classes else {})},
        baselines=partial(baselines.of_texts, data) if classes else None,
        report=[
            Table("Scores by number of worked examples", *answers.compared(found)),
            Code("What the network reads", [("", chosen.written(some[-1]))]),
            *(
                classified(test, data, tabled("text", text.shown))
                if isinstance(test, classification.Evaluation)
                else [Table("Answers", *test.table(texts))]
            ),
        ],
        tokens=tokens,
    )


def answer(
    config: Config, data: WorkedExamples, tokens: Tokens, prompts: dict[int, Prompts], model
) -> dict[int, answers.Answers | classification.Evaluation]:
    """Evaluates the answers after each number of worked examples."""
    texts, true, _ = zip(*data.tested, strict=True)
    name, found = "classes" if data.scored else "serving_default", {}
    for count, those in prompts.items():
        signature = signatures(config, tokens, texts, those, data.scored)[name]
        outputs = ask(signature, model, {"prompt": texts}, config.batch_size)
        found[count] = answers.evaluate(outputs, true, data.scored)
    return found


def load(config: Config) -> plain_text.PlainTexts:
    return plain_text.load(**config.loading, whole=True)


def feed(tokens: Tokens, rows: TokenRows) -> Feed:
    return Feed(rows, batch=partial(labeled, tokens))


def build(config: Config, tokens: Tokens) -> keras.Model:
    if config.continued:
        return presets.network(config.continued, lora_rank=config.new_adapters)
    return text_writers.text_writer(config.model, tokens.vocabulary_size, **config.text_writer)


def beginnings(documents: tuple[plain_text.Document, ...]) -> list[str]:
    return [line[:PROMPT] for line in plain_text.sample_lines(documents)[:8]]


def signatures(
    config: Config,
    tokens: Tokens,
    some: Sequence[str],
    prompts: Prompts | None = None,
    classes: Sequence[str] = (),
) -> dict[str, Signature]:
    prompts = prompts or Prompts(tokens)
    context, begun = config.length - len(prompts.prefix), bool(prompts.prefix)
    steps = text_writers.steps_of(config.model, config.length, prompts.prefix)
    meanings = {
        **continuations.MEANINGS,
        **(continuations.ANSWERS if config.shots else {}),
        **classification.MEANINGS,
        "token_ids": tokens.meaning,
        "logits": language_models.LOGITS["logits"],
    }
    texts, loop = np.array(some[:4], object), config.loop(context)
    writer = Writer(
        core=continuing(steps, context, tokens, config.beams, **loop, begun=begun),
        inputs={"prompt": writing.TEXT},
        read=lambda max_tokens, prompt: ({"token_ids": prompts.encode(prompt)}, {}),
        tokens={"token_ids": writing.IDS},
        as_features=as_features,
        decode=prompts.decode,
        choice=config.choice,
        **loop,
        examples={"prompt": texts, "token_ids": prompts.encode(tf.constant(texts)).numpy()},
        meanings=meanings,
        stop=prompts.stop,
        resources=tokens.resources,
    )
    read_pair, score = partial(to_score, tokens), scoring(config.length)
    if config.shots:
        read_pair = partial(prompts.to_score, context - 1)
        score = answering(steps, context, tokens, begun)
    return continuations.signatures(
        writer,
        read_pair=read_pair,
        scoring=score,
        choosing=(partial(prompts.with_answers, classes), classification.best_classes(classes))
        if classes
        else None,
    )


def report(run: Run, prompts: list[str], signature: Signature, model) -> list[Section]:
    pairs = [(prompt, temperature) for prompt in prompts for temperature in TEMPERATURES]
    columns = dict(zip(("prompt", "temperature"), zip(*pairs, strict=True), strict=True))
    texts = writing_speed.written(run, signature, model, columns, len(TEMPERATURES))["text"]
    rows = [(one, f"{t:g}", text.decode()) for (one, t), text in zip(pairs, texts, strict=True)]
    groups = {f"{t:g}": [text for _, one, text in rows if one == f"{t:g}"] for t in TEMPERATURES}
    return [
        Table("Variety of the continuations", *replies.varieties("temperature", groups)),
        Table("Continuations", ("beginning of a test text", "temperature", "continued"), rows),
    ]


if __name__ == "__main__":
    command(main, Config, __doc__)
