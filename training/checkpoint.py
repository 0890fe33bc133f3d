"""One file that holds the whole state of a training run and is never half-written."""

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

_ARRAY = "__array__"

SECONDS_BETWEEN = 10.0
"""Minimum time between two checkpoints of a run, except at its end and on a stop."""

LARGEST_SHARE = 0.05
"""Maximum fraction of a run's time that is spent on writing checkpoints."""


class Checkpoint:
    """Saves and restores nested dicts and lists of JSON values and NumPy arrays.

    The state is written to a temporary file beside the target, flushed to the disk and renamed over
    the old one, so that a process killed at any moment leaves either the old state or the new one.

    Args:
        folder: Folder of a run's checkpoints; made when the first state is saved.
        stage: Stage of the run. Its file `state.npz` is in the folder of this name inside `folder`,
            or in `folder` itself for "", a run of one stage.
    """

    def __init__(self, folder: Path, stage: str = ""):
        self.folder = Path(folder)
        self.path = self.folder / stage / "state.npz"

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state with this one."""
        arrays: list[np.ndarray] = []

        def set_aside(leaf):
            if isinstance(leaf, np.ndarray):
                arrays.append(leaf)
                return {_ARRAY: len(arrays) - 1}
            return leaf.item() if isinstance(leaf, np.generic) else leaf

        text = json.dumps(keras.tree.map_structure(set_aside, state))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(".state.npz")
        with temporary.open("wb") as file:
            named = {f"array_{index}": array for index, array in enumerate(arrays)}
            np.savez(file, allow_pickle=False, structure=np.array(text), **named)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        sync_folder(self.path.parent)

    def load(self, arrays: bool = True) -> dict[str, Any] | None:
        """Returns the saved state, or None when there is none.

        Args:
            arrays: Whether to read the arrays, which may be large; else each is None.
        """
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as file:

            def put_back(node):
                if isinstance(node, dict):
                    if _ARRAY in node:
                        return file[f"array_{node[_ARRAY]}"] if arrays else None
                    return {key: put_back(value) for key, value in node.items()}
                return [put_back(value) for value in node] if isinstance(node, list) else node

            return put_back(json.loads(str(file["structure"])))

    def last_good(self) -> str:
        """Returns a sentence that names the saved state and its step, for messages of errors."""
        state = self.load(arrays=False)
        if state is None:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint, {self.path}, is of step {state['step']}."

    def delete(self) -> None:
        """Removes the saved state, and its folders if they are empty then.

        Delete the checkpoints of several stages from the last to the first: a run that is killed
        in between then trains only its last stages again.
        """
        for path in (self.path, self.path.with_name(".state.npz")):
            path.unlink(missing_ok=True)
        for folder in (self.path.parent, self.folder):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


class Pace:
    """Decides when a run writes its next checkpoint.

    A checkpoint is due `SECONDS_BETWEEN` after the last one. If the last one took long to write, it
    is due later, so that writing takes at most `LARGEST_SHARE` of the time.

    Args:
        every: A checkpoint is also due at each multiple of this number of steps; None for no such
            steps.
        clock: Returns the time in seconds.
    """

    def __init__(self, every: int | None, clock: Callable[[], float]):
        self.every = every
        self.clock = clock
        self._last = clock()
        self._seconds = SECONDS_BETWEEN

    def is_due(self, step: int) -> bool:
        """Whether to write a checkpoint after this step."""
        at_step = self.every is not None and step % self.every == 0
        return at_step or self.clock() - self._last >= self._seconds

    def steps_left(self, step: int) -> float:
        """Returns the steps until the next multiple of `every`; infinite if it is None."""
        return math.inf if self.every is None else self.every - step % self.every

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measures the time of writing a checkpoint."""
        start = self.clock()
        yield
        self._last = self.clock()
        self._seconds = max(SECONDS_BETWEEN, (self._last - start) / LARGEST_SHARE)


def save_model(model: keras.Model, path: Path) -> None:
    """Writes a .keras file that replaces the last one only once it is complete.

    Args:
        model: The model to save.
        path: Path of the file.
    """
    temporary = path.with_name(f".{path.name}")
    model.save(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, such as a rename in it, to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_resume(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    *,
    required: bool,
    may_differ: Collection[str] = (),
) -> int:
    """Returns the step that a run of this config continues from, 0 for a new run.

    Args:
        checkpoint: The checkpoint of the run folder.
        config: The settings of the run that is about to start, as JSON values.
        required: Whether it is an error that there is no checkpoint.
        may_differ: Settings that do not change what is trained, such as the folder.

    Raises:
        FileNotFoundError: There is no checkpoint although one is required.
        ValueError: The checkpoint belongs to another config; names the differences.
    """
    state = checkpoint.load(arrays=False)
    if state is None:
        if required:
            raise FileNotFoundError(
                f"No checkpoint to resume from at {checkpoint.path}. Leave out --resume to start a "
                "new run."
            )
        return 0
    saved = state["config"]
    differences = [
        f"  {name}: {saved.get(name)!r} in the checkpoint, {config.get(name)!r} now"
        for name in sorted({*saved, *config} - set(may_differ))
        if saved.get(name) != config.get(name)
    ]
    if differences:
        raise ValueError(
            f"The checkpoint {checkpoint.path} belongs to a run with other settings or data:\n"
            + "\n".join(differences)
            + "\nStart with the same settings to continue it, choose another --out, or delete the "
            f"folder {checkpoint.path.parent} to give that run up."
        )
    return state["step"]
