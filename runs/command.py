"""What every app's command line does around `main`: read the config, end with one clear line."""

import errno
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
import tyro

from callbacks.policy_guard import PolicyLost
from runs.help import help_text
from runs.settings import Checked, Listing, Settings
from training.loop import Interrupted, NotFinite

EVALUATE = (
    "Evaluate the network of {run} on other data, without training. Options that may differ from "
    "those of the run:"
)
REPEAT = (
    "--config FILE repeats a run: FILE is the config.json in its folder. Other options override it."
)


def read(
    config_class: type[Any],
    description: str | None,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
    run: Path | None = None,
) -> Any:
    """Reads a config from the command line, or ends the process with help or an error.

    `--config FILE` repeats a run: FILE gives the settings, and other options override them.

    Args:
        config_class: Frozen dataclass with a docstring below each field.
        description: The app's docstring, shown by `--help`.
        arguments: What to read. None: the arguments of this process.
        program: What the arguments follow, as the help shows it. None: as the process was started.
        run: Folder of a finished run, for settings that evaluate it. None: to train.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config_class = _of_stage(config_class, arguments, run)
        if run:
            names = [
                name for name in config_class.evaluation() if name not in ("preset", "accumulate")
            ]
            changed = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            description = f"{EVALUATE.format(run=run)} {changed}."
            config_class = config_class.evaluated()
            data = _taken([*arguments], "--data")
            options = {"default": config_class.evaluation_draft(run, data)}
        else:
            description = f"{description}\n\n{REPEAT}"
            options = _defaults(config_class, arguments)
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    if {"-h", "--help"} & {*arguments}:
        print(help_text(config_class, description, program, **options))
        sys.exit(0)
    try:
        return tyro.cli(
            config_class, description=description, args=arguments, prog=program, **options
        )
    except Listing as listing:
        print(listing)
        sys.exit(0)


def _of_stage(config_class: type[Any], arguments: Sequence[str], run: Path | None) -> type[Any]:
    """Returns the settings of the stage that the arguments, their `--config` or a run are of."""
    if not issubclass(config_class, Settings):
        return config_class
    if file := run or _taken([*arguments], "--config"):
        return config_class.of_run(file)
    return config_class.of_stage(_taken([*arguments], "--stage"))


def _defaults(config_class: type[Any], arguments: list[str]) -> dict[str, Any]:
    """Returns what the options of a run begin with; takes `--config` out of the arguments."""
    if file := _taken(arguments, "--config"):
        return {"default": config_class.draft(config_class.stored(file))}
    preset = _taken([*arguments], "--preset")
    if preset and (Path(preset) / "model.keras").is_file():
        values = {**config_class.network_of(preset), "preset": preset}
        return {"default": config_class.draft(values)}
    return {}


def _taken(arguments: list[str], option: str) -> str | None:
    """Takes an option and its value out of the arguments, and returns the value."""
    for index, argument in enumerate(arguments):
        name, is_joined, value = argument.partition("=")
        if name != option:
            continue
        if not is_joined and index + 1 == len(arguments):
            raise ValueError(f"`{option}` needs a value. Received: none")
        taken = arguments[index : index + (1 if is_joined else 2)]
        del arguments[index : index + len(taken)]
        return value if is_joined else taken[1]
    return None


def run(main: Callable[[Any], dict[str, float]], config: Any) -> None:
    """Runs `main` and turns errors into one message.

    Exit status: 0 after a finished run or a check of the data; 1 after an error in data, settings
    or training; 130 after Ctrl-C or SIGTERM, with the checkpoint written.

    Args:
        main: From the config to the scores.
        config: The settings.
    """
    try:
        with _owned(config):
            main(config)
    except Checked as done:
        print(done)
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print(
            "\nStopped at once. The same command resumes from the last checkpoint, if any.",
            file=sys.stderr,
        )
        sys.exit(130)
    except (ValueError, OSError, NotFinite, PolicyLost, tf.errors.OpError) as error:
        if os.environ.get("HORNBOOK_TRACEBACK"):
            raise
        print(f"\nError: {_in_words(error, config)}", file=sys.stderr)
        print("(HORNBOOK_TRACEBACK=1 shows where it comes from.)", file=sys.stderr)
        sys.exit(1)


def _in_words(error: Exception, config: Any) -> str:
    """Says what happened; TensorFlow's own words only where nothing better is known."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return (
            f"The disk of {config.out} is full. Free some space; the same command resumes from the "
            "last checkpoint, if any."
        )
    if not isinstance(error, tf.errors.OpError):
        return text
    # Without the names of operations in the graph.
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", "", error.message).strip().split("\n")[0]
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return (
            f"Not enough memory for a step ({text}). Try a smaller --batch-size, with --accumulate "
            "for updates of the same size."
        )
    if isinstance(error, tf.errors.NotFoundError):
        return f"A file that the run needs is gone: {text}"
    return f"TensorFlow stopped the run: {text}"


@contextmanager
def _owned(config: Settings) -> Iterator[None]:
    """Keeps other runs out of a run's folder until the end of the `with`, or of the process."""
    # Several workers share the folder. A file in its place is an error of the run itself.
    if config.strategy == "multi_worker" or config.out.is_file():
        yield
        return
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / ".run"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another run is writing to {config.out}. Wait for its end, or choose another "
                "--out."
            ) from None
        try:
            yield
        finally:
            if [*config.out.iterdir()] == [path]:  # Nothing else was written.
                shutil.rmtree(config.out)


def command(main: Callable[[Any], dict[str, float]], config_class: type, description: str) -> None:
    """Does both for a script: `read`, then `run`."""
    run(main, read(config_class, description))
