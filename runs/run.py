"""A run of an app, from its settings to the files that it leaves."""

import csv
import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import keras
import numpy as np
import tensorflow as tf

from callbacks import BestWeights, EarlyStopping, Progress, TensorBoardLogs, Throughput
from callbacks.tensorboard import write_images
from data.feed import Feed
from data.sources import listed
from data.splits import Splits
from runs.doubts import doubts
from runs.pictures import as_png
from runs.presets import card, write_preset
from runs.report import (
    Code,
    Picture,
    Report,
    Section,
    Table,
    in_words,
    keep_report,
    write_report,
    write_text,
)
from runs.settings import Checked, Rates, Settings
from runs.usage import command_line, commits, snippets
from serving.export import export
from serving.signature import Signature
from training import setup
from training.checkpoint import Checkpoint, check_resume, save_model
from training.loop import fit, validation_logs
from training.optimizers import learning_rate_schedule, optimizer

FEW = 1000
"""Number of training examples below which a run prints `Settings.advice`."""
NOT_TRAINED = ("out", "resume", "checkpoint_every", "check", "tensorboard")
"""Settings that may change when a run is resumed."""

Data = TypeVar("Data", bound=Splits)
Losses: TypeAlias = "keras.losses.Loss | dict[str, keras.losses.Loss] | None"
Metrics: TypeAlias = "list[keras.metrics.Metric] | dict[str, list[keras.metrics.Metric]]"


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Args:
        model: The network as it is evaluated and exported, free of any strategy.
        history: Values of each metric after each epoch, by its name.
        checkpoint: The state of the training; deleted once the export is written.
        choice: Says which epoch's weights the model has.
        rates: Learning rates by the number of the step, from 0; empty for models that have
            several optimizers.
    """

    model: keras.Model
    history: dict[str, list[float]]
    checkpoint: Checkpoint
    choice: str
    rates: dict[int, float]


@dataclass(frozen=True)
class Run:
    """A run that has started.

    Args:
        config: The settings.
        strategy: Models are made in its scope.
        begin: Start of the run, in seconds of `time.perf_counter`.
        stages: The finished trainings, by name of the stage.
        facts: Facts about the run for the report and the model card.
    """

    config: Settings
    strategy: tf.distribute.Strategy
    begin: float
    stages: dict[str, Trained] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """Whether a finished run is evaluated on other data than its own."""
        return self.config.is_foreign

    def compared(
        self, scores: Mapping[str, float], predictors: Mapping[str, str]
    ) -> dict[str, float]:
        """Returns scores without those that cannot be compared with the network's.

        A run on other data counts on the examples that it then predicts, so simpler predictors
        are left out.

        Args:
            scores: Scores by name.
            predictors: Prefix of the scores of each predictor, by its description; the first is the
                network.
        """
        simpler = tuple([*predictors.values()][1:]) if self.is_foreign else ()
        return {name: score for name, score in scores.items() if not name.startswith(simpler)}


class Example(NamedTuple):
    """One query for the finished export.

    Args:
        what: Describes the example, such as "a test image, true class 4".
        inputs: Text, several texts or the bytes of a file for each input of `serving_default`, by
            its name.
        suffix: Suffix of that file, such as `.png`.
    """

    what: str
    inputs: Mapping[str, str | bytes | Sequence[str]]
    suffix: str = ""


def start(config: Settings) -> Run:
    """Seeds everything, sets the precision and connects the devices; must be called first."""
    begin = time.perf_counter()
    if config.out.exists() and not config.out.is_dir():
        raise ValueError(f"`out` must be a folder. Received: out={config.out}, a file")
    strategy = "none" if config.EVALUATES else config.strategy
    strategy = setup.start(config.seed, config.precision, strategy)
    facts = commits()
    if config.reset:
        facts["not used"] = config.reset
        print(config.reset, flush=True)
    return Run(config, strategy, begin, facts=facts)


def counted(run: Run, data: Data, what: str) -> Data:
    """Prints the numbers of examples and the remarks on them, and adds both to the report.

    If the network comes from a finished run, classes keep the numbers that they have there. If it
    is evaluated on other data, all splits are the examples to evaluate: nothing is learned from
    them, but vocabularies, samples and sizes are taken from one split or another.

    Args:
        run: What `start` returned.
        data: What a loader returned.
        what: Name of an example in the plural.
    """
    config, remarks = run.config, [*data.remarks]
    if config.continued and data.LABELS and not run.is_foreign:
        data, remark = _known_first(config, data, card(config.continued)["classes"])
        remarks.append(remark)
    seen: Splits = data
    if config.EVALUATES:
        if "evaluated" not in run.facts:  # Later stages make their data from that of the first.
            run.facts["evaluated"] = f"{config.continued} on {config.data}"
            if run.is_foreign:
                data = replace(data, train=data.test, validation=data.test)
                if config.source_of(config.data) in config.sources[:-1]:
                    remarks.append(
                        "A run before this one was trained on this data: the network has seen "
                        "examples that are evaluated now."
                    )
            else:
                remarks.append("The network was trained on this data: its test split is evaluated.")
        seen = Splits(test=data.test, skipped=data.skipped)
    if not config.EVALUATES and len(data.train) < FEW and config.advice:
        remarks.append(f"There are few {what} to train on. {config.advice}")
    if remarks:
        run.facts["remarks"] = " ".join(remarks)
    run.facts[what] = seen.counted(what)
    print(run.facts[what], *remarks, sep="\n", flush=True)
    return data


def _known_first(config: Settings, data: Data, known: Sequence[str]) -> tuple[Data, str]:
    """Numbers classes as in a finished run, and returns a remark on those that differ."""
    there = getattr(data, data.LABELS)
    new = [name for name in there if name not in known]
    if new and config.EVALUATES:
        raise ValueError(
            f"`data` must have classes that the network of {config.continued} knows: "
            f"{listed(known)}. Received: {config.data}, which by now also has {listed(new)}. Fix: "
            f"leave these out, or train the network further with --preset {config.continued}."
        )
    changes = {
        "New classes": new,
        "Known classes without examples": [name for name in known if name not in there],
    }
    said = [f"{kind}: {listed(names)}." for kind, names in changes.items() if names]
    remark = " ".join([f"The network of {config.continued} knows {len(known)} classes.", *said])
    return data.renumbered(known), remark


def train(
    run: Run,
    make_model: Callable[[], keras.Model],
    feed: Feed,
    *,
    loss: Losses = None,
    metrics: Callable[[], Metrics] = list,
    weighted_metrics: Callable[[], Metrics] = list,
    loss_weights: dict[str, float] | None = None,
    rates: Rates | None = None,
    monitor: str | tuple[str, ...] = "val_loss",
    evaluate_every: int = 1,
    callbacks: Callable[[Checkpoint], Sequence[keras.callbacks.Callback]] = lambda _: (),
    stage: str = "",
) -> Trained | None:
    """Builds, compiles and trains a network as the settings say, or resumes an interrupted run.

    Args:
        run: What `start` returned.
        make_model: Builds the network.
        feed: The examples.
        loss: The loss, or a dict of one loss per output.
        metrics: Makes the metrics of each epoch, or a dict of them per output. It is called in the
            scope of the strategy, so that the metrics cover the global batch.
        weighted_metrics: Makes metrics that, unlike the others, use the weights of the labels.
        loss_weights: Factor of the loss of each output. Default: 1.
        rates: The learning rates. Default: that of the settings for all layers.
        monitor: Validation metric that decides on the best epoch, unless the settings name one.
            Several names: their mean.
        evaluate_every: Epochs from one validation to the next; the last epoch always has one.
        callbacks: From the checkpoint of the run to further callbacks.
        stage: Name of the stage, in runs that train several networks in sequence.

    Returns:
        The finished training, or None in a process that does not write files.

    Raises:
        Checked: If the settings ask for a check of the data alone.
    """
    config = run.config
    if config.check:
        raise Checked("The data is checked. Leave out --check to train.")
    if stage in run.stages:
        raise ValueError(f"Each stage must have a name of its own. Received twice: {stage!r}")
    checkpoint = Checkpoint(config.out / "checkpoint", stage)
    if not config.EVALUATES:
        identity = config.saved | _identity(feed)
        step = check_resume(
            checkpoint,
            identity,
            required=config.resume and not run.stages,
            may_differ=NOT_TRAINED,
        )
    if config.EVALUATES or not config.epochs:
        made = make_model()
        # It needs no copy, for which a pretrained network would be read again.
        model = _exported(run, made, lambda: made)
        choice = f"those of {config.continued}" if config.EVALUATES else "not trained"
        run.stages[stage] = Trained(model, {}, checkpoint, choice, {})
        return run.stages[stage] if setup.is_chief(run.strategy) else None
    if stage:
        # A resumed run skips the stages that are finished, and what they draw.
        keras.utils.set_random_seed((config.seed + zlib.crc32(stage.encode())) % 2**31)
    steps_per_epoch = feed.steps_per_epoch(config.batch_size)
    if step and setup.is_chief(run.strategy):
        total = steps_per_epoch * config.epochs
        print(f"Resuming the run in {config.out} after step {step} of {total}.", flush=True)
        run.facts["resumed"] = f"after step {step} of {total}; the wall time is since then"
    validation = feed.evaluation("validation", config.batch_size)
    with run.strategy.scope():
        model = make_model()
        watched = metrics(), weighted_metrics()
        model.compile(
            optimizer=configured_optimizer(config, steps_per_epoch, rates, model),
            loss=loss,
            loss_weights=loss_weights,
            metrics=watched[0] or None,
            weighted_metrics=watched[1] or None,
            jit_compile=False,  # `fit` compiles the training step itself.
        )
        peak = rates.peak(model) if rates else config.rate()
        run.facts["training"] = _plan(config, peak)
    if setup.is_chief(run.strategy) and step < steps_per_epoch * config.epochs:
        print(f"Training {run.facts['training']}", flush=True)
    if config.monitor:
        monitor = config.monitor
        known = validation_logs(model, validation) if validation else []
        if monitor not in known:
            raise ValueError(
                f"`monitor` must be one of {', '.join(known) or 'none, without a validation set'}. "
                f"Received: monitor={monitor!r}"
            )
    best = None
    if validation and config.keep == "best":
        # Weighted metrics count predictions, and a row has many of them; a model with a training
        # step of its own has metrics that may be no proportions.
        rows = feed.count("validation") if watched[0] and not watched[1] else None
        best = BestWeights(monitor, num_examples=rows)
    history = fit(
        model,
        lambda start_step: feed.training(
            batch_size=config.batch_size,
            seed=config.seed,
            epochs=config.epochs,
            start_step=start_step,
        ),
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        jit_compile=config.jit_compile,
        validation=validation,
        validate_every=evaluate_every,
        callbacks=[
            *_callbacks(run, feed, monitor if validation else None, best, evaluate_every),
            *_logs(run, checkpoint, stage),
            *callbacks(checkpoint),
        ],
        checkpoint=checkpoint,
        checkpoint_every=config.checkpoint_every,
        config=identity,
    )
    several = getattr(model, "optimizers", None)
    drawn = {} if several else _rates(config, steps_per_epoch, peak, _epochs(history))
    exported = _exported(run, model, make_model)
    run.stages[stage] = Trained(exported, history, checkpoint, _choice(best, history), drawn)
    return run.stages[stage] if setup.is_chief(run.strategy) else None


def _exported(run: Run, model: keras.Model, make_model: Callable[[], keras.Model]) -> keras.Model:
    """Returns the network without its strategy; unchanged in a process that writes no files."""
    if not setup.is_chief(run.strategy):
        return model
    # Some networks are trained with parts that are not exported, such as auxiliary heads.
    finished = getattr(model, "finished", None)
    if finished and getattr(model, "optimizers", None) and not setup.is_distributed(model):
        free = finished()  # Several networks are not built twice.
        free.jit_compile = False
        return free
    model = setup.undistributed(model, make_model)
    finished = getattr(model, "finished", None)
    return finished() if finished else model


def _plan(config: Settings, peak: float) -> str:
    """Says in words how a network is trained, whether the user or the network chose it."""
    network = f"{config.model} of {config.continued}" if config.continued else config.model
    parts = f" x {config.accumulate}" if config.accumulate > 1 else ""
    return (
        f"{network}, epochs: {config.epochs}, batch size {config.batch_size or 'all'}{parts}, "
        f"{config.optimizer}, learning rate {peak:.3g}, {config.schedule}, warm-up "
        f"{config.warmup_epochs:g} epochs, weight decay {config.weight_decay:g}, {config.precision}"
    )


def _choice(best: BestWeights | None, history: dict[str, list[float]]) -> str:
    """Says which epoch's weights a network ends with, and how the last epoch compares."""
    epochs = _epochs(history)
    if best is None or best.kept_epoch is None:
        return f"epoch {epochs}, the last"
    names = " and ".join(best.monitor.names)
    if len(best.monitor.names) > 1:
        names = f"the mean of {names}"
    if best.kept_epoch == best.best_epoch:
        text = f"epoch {best.best_epoch + 1}, the best by {names} ({best.best:.4g})"
    else:
        text = (
            f"epoch {best.kept_epoch + 1}, the latest within one standard error ({best.kept:.4g}) "
            f"of epoch {best.best_epoch + 1}, the best by {names} ({best.best:.4g})"
        )
    if best.kept_epoch == best.last_epoch:
        return text if epochs > best.kept_epoch + 1 else f"{text}; it is the last"
    return f"{text}; the last, {best.last_epoch + 1}, had {best.last:.4g}"


def _epochs(history: dict[str, list[float]]) -> int:
    return max((len(values) for values in history.values()), default=0)


def _identity(feed: Feed) -> dict[str, int]:
    """Describes the data that training reads, so that a resumed run knows whether it changed."""
    splits = ["train"] if feed.data.validation is None else ["train", "validation"]
    counts = {f"rows of {split}": feed.count(split) for split in splits}
    return counts | {f"checksum of {split}": feed.checksum(split) for split in splits}


def configured_optimizer(
    config: Settings,
    steps_per_epoch: int,
    rates: Rates | None = None,
    model: keras.Model | None = None,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer that the settings describe.

    Models with a dict `optimizers` of their own make them with it.

    Args:
        config: The settings.
        steps_per_epoch: Batches of an epoch.
        rates: As in `train`.
        model: The network that it is to train, which `rates` need.
    """
    peak = rates.peak(model) if rates else config.rate()
    scale = rates.scale(model) if rates and rates.scale else None
    rate = _learning_rate(config, steps_per_epoch, peak)
    return optimizer(
        config.optimizer,
        rate,
        config.weight_decay,
        config.clip_norm,
        scale,
        accumulate=config.accumulate,
        average=config.average,
    )


def _learning_rate(
    config: Settings, steps_per_epoch: int, peak: float
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate, from the number of an update if it changes."""
    steps = steps_per_epoch * config.epochs
    if steps < config.accumulate:
        raise ValueError(
            f"`accumulate` must be at most {steps}, the steps of the run. "
            f"Received: accumulate={config.accumulate}"
        )
    updates = steps // config.accumulate
    return learning_rate_schedule(
        peak,
        config.schedule,
        min(round(config.warmup_epochs * steps_per_epoch / config.accumulate), updates - 1),
        updates,
    )


def _rates(config: Settings, steps_per_epoch: int, peak: float, epochs: int) -> dict[int, float]:
    """Returns the learning rate at no more than 60 of the steps of some epochs."""
    rate = _learning_rate(config, steps_per_epoch, peak)
    updates = steps_per_epoch * epochs // config.accumulate
    shown = np.unique(np.linspace(0, max(updates - 1, 0), 60, dtype=int)).tolist()
    rates = (rate(update) if callable(rate) else rate for update in shown)
    return {
        update * config.accumulate: float(value) for update, value in zip(shown, rates, strict=True)
    }


def _callbacks(
    run: Run,
    feed: Feed,
    monitor: str | tuple[str, ...] | None,
    best: BestWeights | None,
    evaluate_every: int,
) -> list[keras.callbacks.Callback]:
    config = run.config
    # A set that is smaller than a batch is the batch.
    made: list[keras.callbacks.Callback] = [
        Throughput(min(config.batch_size or feed.count(), feed.count()))
    ]
    if best:
        made.append(best)
    if config.patience:
        if monitor is None:
            raise ValueError("`patience` needs a validation set. Received: none")
        made.append(
            EarlyStopping(
                monitor, patience=config.patience, restore_best_weights=False, every=evaluate_every
            )
        )
    # Every worker has it, since all restore the same checkpoint, but only one has a screen.
    made.append(Progress(monitor, None if setup.is_chief(run.strategy) else io.StringIO()))
    return made


def _logs(run: Run, checkpoint: Checkpoint, stage: str) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that write logs for TensorBoard, if the settings require them."""
    if not run.config.tensorboard or not setup.is_chief(run.strategy):
        return []
    state = checkpoint.load(arrays=False)
    history = state["history"] if state else {}
    return [TensorBoardLogs(run.config.out / "tensorboard" / stage, history)]


def finish(
    run: Run,
    trained: Trained,
    *,
    task: str,
    signatures: Mapping[str, Signature],
    warmup: Mapping[str, Any],
    example: Example,
    scores: Mapping[str, float],
    num_test: int,
    examples: str,
    facts: Mapping[str, Any],
    report: Sequence[Section],
    baselines: Callable[[], Mapping[str, tuple[str, float]]] | None = None,
    warnings: Sequence[str] = (),
    tokens: Any = None,
    preset: Callable[[Path], None] | None = None,
) -> dict[str, float]:
    """Exports the network, writes the files of the run and queries the export once.

    Args:
        run: What `start` returned.
        trained: What `train` returned.
        task: Name of the task.
        signatures: How the export is queried.
        warmup: Real examples for `serving_default`, a sequence for each input.
        example: A query for the export.
        scores: As in `runs.report.Report`; the first is the headline.
        num_test: Number of test examples.
        examples: Name of an example in the plural.
        facts: Further facts for the model card and the report, such as the classes.
        report: Sections of the report. Like facts, they are left out of an evaluation if their
            titles begin with the word "training".
        baselines: Makes those of `runs.report.Report` from training examples, so it is not called
            if the run is on other data; `majority` always gives the most frequent answer.
        warnings: Reasons to doubt the scores that only the app knows, before those of
            `runs.doubts`.
        tokens: The tokenizer of the network; its `save` writes its files into a folder.
        preset: Writes a pretrained network for other apps into a folder.

    Returns:
        The scores.
    """
    config, model = run.config, trained.model
    facts = {**run.facts, **facts}
    if config.EVALUATES:
        facts = {name: fact for name, fact in facts.items() if not _of_training(name)}
        report = [section for section in report if not _of_training(section.title)]
    simpler = baselines() if baselines and not run.is_foreign else {}
    written = Report(
        title=f"{task[:1].upper()}{task[1:]}: {config.model} on {config.data}",
        config=config.saved | {"sources": config.sources},
        changed={name: config.saved[name] for name in config.changed},
        scores=scores,
        measured=f"{num_test:,} test {examples}",
        histories={name: stage.history for name, stage in run.stages.items()},
        rates={name: stage.rates for name, stage in run.stages.items()},
        sections=report,
        baselines=simpler,
    )
    doubted = (*warnings, *doubts(written, num_test, examples))
    on_test, on_validation = _divided(scores)

    def write(*further: Section) -> Path:
        shown = _facts(run, trained, {**facts, **on_validation})
        sections = [*report, *further]
        complete = replace(written, facts=shown, warnings=doubted, sections=sections)
        return write_report(config.out, complete)

    def say(*lines: str) -> None:
        for warning in doubted:
            print(f"Warning: {warning}")
        if on_validation:
            print(_in_words(on_validation).capitalize())
        print(f"Test {_in_words(on_test)} on {num_test:,} {examples}")
        if simpler:
            known = {name: score for name, (_, score) in simpler.items()}
            print(f"Baselines: {written.headline.replace('_', ' ')} of {_in_words(known)}")
        print(*lines, sep="\n", flush=True)

    if config.EVALUATES:
        _require_inputs_of_the_network(config, signatures["serving_default"])
        say(f"Report {write()}")
        return written.all_scores
    described = {
        "task": task,
        "model": config.model,
        "data": config.data,
        **facts,
        "scores": written.all_scores,
        "num_test": num_test,
        "config": config.saved,
        **{
            section.title: [dict(zip(section.heading, row, strict=True)) for row in section.rows]
            for section in report
            if isinstance(section, Table) and section.in_card
        },
    }
    lines = []
    if preset:
        lines.append(f"Preset {write_preset(config.out / 'preset', preset)}")
    columns = {name: _array(column) for name, column in warmup.items()}
    version = export(config.out, model, signatures, columns, described)
    save_model(model, config.out / "model.keras")
    if tokens:
        write_preset(config.out / "tokenizer", tokens.save)
    path = write(_usage(config, task, signatures["serving_default"], example))
    for name in ("model_card.md", "model_card.json"):
        text = (version / "assets.extra" / name).read_text(encoding="utf-8")
        write_text(config.out / name, text)
    # The next run into the folder replaces its files, but not the copies beside its versions.
    keep_report(config.out, config.out / "reports" / f"version_{version.name}")
    if config.tensorboard:
        lines.append(f"Logs   {_logged(config.out / 'tensorboard', report)}")
    for stage in reversed(run.stages.values()):
        stage.checkpoint.delete()
    lines += [f"Model  {version}", f"Report {path}"]
    lines.append(f"Next   hornbook predict {version.parent} FILE...")
    lines.append(f"       hornbook serve {version.parent.parent}")
    answered = query_export(version, example)
    print(f"Evaluated and exported: {trained.choice}")
    say(*lines)
    if not answered:
        raise ValueError(
            f"{version} did not answer {example.what}; the messages above say why. Everything else "
            f"is written. To check the export: hornbook verify {version}"
        )
    return written.all_scores


def _of_training(name: str) -> bool:
    return name.lower().startswith("training")


def _require_inputs_of_the_network(config: Settings, signature: Signature) -> None:
    """Raises `ValueError` if the data has other inputs than those that the network was made for."""
    if config.continued is None:
        return
    inputs = card(config.continued)["signatures"]["serving_default"]["inputs"]
    if {one["title"] for one in inputs} != set(signature.inputs):
        raise ValueError(
            f"`data` must have the inputs that the network of {config.continued} reads: "
            f"{', '.join(one['title'] for one in inputs)}. Received: {config.data} with "
            f"{', '.join(signature.inputs)}. Fix: name the columns."
        )


def _usage(config: Settings, task: str, signature: Signature, example: Example) -> Code:
    """Shows how to query the export and how to repeat the run."""
    usage = snippets(config.out, signature, example.inputs, example_file(config.out, example))
    repeat = command_line(task.lower().replace(" ", "_"), config)
    return Code("Use this model", [*usage, ("Repeat this run", repeat)])


def _logged(folder: Path, report: Sequence[Section]) -> Path:
    """Writes the pictures of a report into the logs for TensorBoard."""
    drawn = {one.title: one.figure for one in report if isinstance(one, Picture) and one.figure}
    write_images(folder / "report", {title: as_png(figure) for title, figure in drawn.items()})
    return folder


def _divided(scores: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the scores on the test examples, and those on the validation examples."""
    others = {name: value for name, value in scores.items() if name.startswith("validation_")}
    return {name: value for name, value in scores.items() if name not in others}, others


def _in_words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in in_words(scores).items())


def _array(column: Any) -> np.ndarray:
    values = list(column)
    # NumPy's strings would lose zero bytes at the end.
    return np.array(values, object if isinstance(values[0], str | bytes) else None)


def _facts(run: Run, trained: Trained, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Describes the network and the run for the report."""
    speeds, epochs = trained.history.get("examples_per_second", []), _epochs(trained.history)
    shown = {name: _shortened(value) for name, value in facts.items()}
    return {
        "parameters": f"{trained.model.count_params():,}",
        **shown,
        **({"epochs": f"{epochs} of {run.config.epochs}"} if epochs else {}),
        "weights": trained.choice,
        "wall time": f"{time.perf_counter() - run.begin:.0f} s",
        **({"training examples per second": f"{np.median(speeds):.1f}"} if speeds else {}),
    }


def _shortened(value: Any) -> str:
    """Formats a number with commas, and a long list by its length and first items."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value)
    first = ", ".join(map(str, value[:10]))
    return f"{len(value)}: {first}{', ...' if len(value) > 10 else ''}"


def example_file(folder: Path, example: Example) -> Path:
    """Returns the path of the file in a folder that holds an example."""
    values = example.inputs.values()
    if any(isinstance(value, bytes) for value in values):
        return folder / f"example{example.suffix}"
    # A cell of a .csv file holds one text.
    is_table = all(isinstance(value, str) for value in values)
    return folder / ("example.csv" if is_table else "example.jsonl")


def query_export(version: Path, example: Example) -> bool:
    """Queries an export about one example in a new process, which prints the answer.

    Args:
        version: Folder of the export; the query is written to a file beside it.
        example: The query.

    Returns:
        Whether there was an answer.
    """
    path = example_file(version.parent, example)
    value = next(iter(example.inputs.values()))
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif path.suffix == ".jsonl":
        path.write_text(json.dumps(dict(example.inputs), ensure_ascii=False) + "\n", "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([example.inputs, example.inputs.values()])
    print(f"The answer of {version} to {example.what}:", flush=True)
    command = [sys.executable, "-P", "-m", "serving", "predict", str(version), str(path)]
    path_of_ours = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path_of_ours))}
    return subprocess.run(command, env=environment, check=False).returncode == 0
