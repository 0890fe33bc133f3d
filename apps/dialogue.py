"""Train a network that replies in a dialogue.

It reads and writes bytes, characters, pieces or the byte pairs of a preset. The built-in sample,
questions about the Python reference, is too small and only shows how a run goes.

Example:

    hornbook dialogue --data dialogues.jsonl --model gpt --preset smollm2/ --lora-rank 8
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from data import dialogue_rows, dialogues
from data.dialogue_rows import DialogueRows
from data.dialogues import Dialogues
from data.feed import Feed
from metrics import byte_models, language_models
from metrics.replies import Replies
from models import recurrent, text_writers, transformers, translators
from models.writing import continuing
from preprocessing import turns
from preprocessing.byte_tokens import Bytes, as_features
from preprocessing.sentence_pieces import pair_length
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import TurnTokens, turn_tokens
from runs import presets, reading, writing_speed
from runs.command import command
from runs.report import Section, Table
from runs.run import Example, Run, counted, finish, start, train
from runs.settings import Training
from runs.text_settings import SEQ2SEQ, Seq2SeqSettings, WritingSettings
from serving import writing
from serving.signature import Signature
from serving.writing import Writer

WRITTEN = 200
"""Maximum number of test replies that the network writes itself; all are measured in bits."""
SHOWN = 10
"""Number of dialogues in the report."""
MEANINGS = {
    **writing.MEANINGS,
    "turns": 'the turns in UTF-8, the oldest first; the last one is answered; "" is unused',
    "system": 'what the network is to know or to be, in UTF-8; "": nothing',
    "reply": "the reply to the last turn",
    "source_ids": "what `generate_from_tokens` reads, with the token that begins a dialogue",
    "target_ids": "the token of the assistant's role and those of the reply, -1 in padding",
    "logits": language_models.LOGITS["logits"],
}
"""Meanings of all inputs and outputs but the tokens."""


@dataclass(frozen=True)
class Config(WritingSettings, Seq2SeqSettings):
    EPOCHS = 10
    BATCH_SIZE = 8
    NETWORK = (*WritingSettings.NETWORK, *Seq2SeqSettings.NETWORK)
    data: str = "python_docs"
    """`python_docs` (built in), or a file or folder of dialogues: .jsonl or .json with `messages`,
    `conversations` or `turns`; .txt with `__eou__` between turns or with a turn per line."""
    model: str = "gru"
    out: Path = Path("saved_models/dialogue")
    length: int = 256
    """Maximum number of tokens of system text, past turns and reply together. The oldest
    turns are dropped."""
    system: str = ""
    """System text of `serving_default`, and of dialogues that have none of their own. At most half
    of the length beside `max_tokens`; longer ones in the data lose their end."""
    train_on: Training[Literal["replies", "all"]] = "replies"
    """Turns that training predicts: the assistant's, or all, for seq2seq without the first."""

    def __post_init__(self):
        super().__post_init__()
        self.require_network((SEQ2SEQ, *text_writers.NAMES))
        self.require_seq2seq()
        self.require_least(dialogue_rows.LEAST_LENGTH, "length")
        size = len(self.system.encode())
        if size > self.most_system:
            raise ValueError(
                f"`system` must have at most {self.most_system} bytes, half of what length="
                f"{self.length} leaves beside max_tokens={self.max_tokens}. Received: {size} "
                "bytes. Fix: shorten it, or pass a larger --length or a smaller --max-tokens."
            )

    @property
    def most_system(self) -> int:
        """Maximum number of bytes of a system text, in training and in the export."""
        # Half of what is between the first end token and a reply of `serving_default`.
        return max((self.length - 1 - self.max_tokens) // 2 - 2, 0)


def main(config: Config, load=dialogues.load, task="dialogue") -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test replies.

    `load` reads the dialogues, from the settings about the data; `task` is the name of the app.
    """
    run = start(config)
    data = counted(run, load(**config.loading), "dialogues")
    texts = (one.content for one in data.split("train"))
    tokens = turn_tokens(tokenizer(**config.tokenizer, texts=texts), config.preset)
    rows = arrange(config, data, tokens)
    fed = feed(config, rows)
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
    warmup = dialogues.padded([past for past, *_ in data.answered("validation", 8)])
    served = signatures(config, tokens, warmup)
    test = data.answered("test", WRITTEN)
    written = write(run, test, served["generate"], trained.model)
    validation, batches = (fed.evaluation(s, config.batch_size) for s in ("validation", "test"))
    trained.history.update(byte_models.in_bits(trained.history, validation, rows))
    num_test = sum(len(one.replies) for one in data.test)
    rated = "BLEU, distinct and repeated n-grams, mean words and commonest share"
    reading.part(run, "replies", len(test), num_test, rated)
    return finish(
        run,
        trained,
        task=task,
        signatures=served,
        warmup={"turns": warmup},
        example=Example("a test dialogue", {"turns": test[0][0]}),
        scores=byte_models.evaluate(trained.model, batches, rows) | written.scores,
        num_test=num_test,
        examples="replies",
        facts={
            "vocabulary": tokens.vocabulary_size,
            "test bytes": rows.num_bytes["test"],
            "signature of bleu": written.signature,
            **writing_speed.trained_tokens(trained, tokens_per_row),
        },
        baselines=partial(
            byte_models.baselines, rows, TurnTokens(Bytes()).vocabulary_size, rows.replies["test"]
        ),
        report=report(test, written),
        tokens=tokens.tokens,
    )


def arrange(config: Config, data: Dialogues, tokens: TurnTokens) -> DialogueRows:
    return dialogue_rows.arrange(
        data,
        tokens,
        config.length,
        system=config.system,
        most_system=config.most_system,
        every_turn=config.train_on == "all",
        packed=config.model not in recurrent.NAMES,
        paired=config.is_seq2seq,
    )


def feed(config: Config, rows: DialogueRows) -> Feed:
    batch = turns.labeled_pairs if config.is_seq2seq else turns.labeled
    length = partial(pair_length, step=16) if config.is_seq2seq else turns.lengths
    return Feed(rows, batch=partial(batch, trim=not config.fixed_lengths), length=length)


def build(config: Config, tokens: TurnTokens) -> keras.Model:
    if config.continued:
        return presets.network(config.continued, lora_rank=config.new_adapters)
    if config.is_seq2seq:
        return translators.translator(SEQ2SEQ, tokens.vocabulary_size, **config.encoder_decoder)
    return text_writers.text_writer(config.model, tokens.vocabulary_size, **config.text_writer)


def signatures(config: Config, tokens: TurnTokens, past: np.ndarray) -> dict[str, Signature]:
    def read(max_tokens, turns, system):
        room = config.length - 1 - max_tokens  # The end token comes first.
        token_ids, dropped = tokens.prompts(turns, system, room, config.most_system)
        return {"token_ids": token_ids}, {"dropped_tokens": dropped}

    some = past[:4]
    encoded, _ = read(config.max_tokens, tf.constant(some), tf.fill((len(some),), config.system))
    examples = {"turns": some, "token_ids": encoded["token_ids"].numpy()}
    if config.is_seq2seq:
        steps = translators.steps_of(SEQ2SEQ, tokens.role_id("assistant"), config.length)
        examples |= tokens.pair(encoded["token_ids"], some[:, 0])
    else:
        steps = text_writers.steps_of(config.model, config.length)
    return Writer(
        core=continuing(steps, config.length, tokens, **config.loop(config.length)),
        inputs={"turns": tf.TensorSpec((None, None), tf.string)},
        read=read,
        tokens={"token_ids": writing.IDS},
        as_features=None if config.is_seq2seq else as_features,
        decode=tokens.decode,
        choice=config.choice,
        **config.loop(config.length),
        examples=examples,
        meanings={**MEANINGS, "token_ids": tokens.meaning},
        text="reply",
        optional={"system": config.system},
        resources=tokens.resources,
    ).signatures()


def write(run: Run, some, signature: Signature, model: keras.Model) -> Replies:
    """Lets the network write replies of `Dialogues.answered`, each with a seed of its own."""
    config: Any = run.config
    columns = {
        "turns": [past for past, *_ in some],
        "system": [system or config.system for _, system, _ in some],
        "seed": range(config.seed, config.seed + len(some)),
    }
    written = writing_speed.written(run, signature, model, columns)["reply"]
    return Replies([reply.decode() for reply in written], [true for *_, true in some])


def report(some, written: Replies) -> list[Section]:
    picked = sorted({number * len(some) // SHOWN for number in range(SHOWN)})
    rows = [(dialogues.as_lines(some[i][0]), written.written[i], written.true[i]) for i in picked]
    return [
        Table("Variety of the replies", *written.table()),
        Table("Dialogues", ("turns", "the network's reply", "the true reply"), rows),
    ]


if __name__ == "__main__":
    command(main, Config, __doc__)
