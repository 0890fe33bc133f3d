"""The folder that TensorFlow Serving watches: numbered versions that appear when complete."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def numbered(base: Path) -> dict[int, Path]:
    """Returns the version folders of `base` by number, in ascending order."""
    found = {int(path.name): path for path in base.iterdir() if _is_number(path.name)}
    return {number: found[number] for number in sorted(found) if found[number].is_dir()}


def newest(folder: Path) -> Path:
    """Returns the version that `folder` names: itself, if it is one, or its newest."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`folder` must be a folder of versions or one version. Received: folder={folder}, "
            "which is not there"
        )
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = numbered(folder)
    if not versions:
        raise FileNotFoundError(
            "`folder` must hold numbered versions (1, 2, ...) or be one (hold saved_model.pb). "
            f"Received: folder={folder}, which holds neither"
        )
    return versions[max(versions)]


@contextlib.contextmanager
def workplace(base: Path) -> Iterator[Path]:
    """Yields a path for a new version: a hidden folder among the versions of `base`.

    It is on the same file system, so that `publish` is one rename, and is always removed
    afterwards. Folders that killed runs left behind are removed first. Those of living runs stay:
    they hold a lock on the file `alive` in them.
    """
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base / ".lock"):
        _remove_abandoned(base)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=base))
        alive = _open_locked(folder / "alive")
    try:
        yield folder / "version"
    finally:
        # Under the lock, so that nobody who looks for abandoned folders meets half of this one.
        with _locked(base / ".lock"):
            shutil.rmtree(folder, ignore_errors=True)
            os.close(alive)


def publish(written: Path, base: Path) -> Path:
    """Moves a finished version to the next number of `base` and returns its new path.

    Everything is on the disk before the name appears, and the name is on the disk on return, so
    that not even a power cut leaves half a version.
    """
    for path in (written, *written.rglob("*")):
        flush(path)
    with _locked(base / ".lock"):
        version = base / str(max(numbered(base), default=0) + 1)
        written.rename(version)
        flush(base)
    return version


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(".export-*"):
        try:
            os.close(_open_locked(folder / "alive", wait=False))
        except BlockingIOError:
            continue
        shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _open_locked(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(path: Path, wait: bool = True) -> int:
    """Opens and locks a file until it is closed or the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def flush(path: Path) -> None:
    """Brings a file, or a folder's entries such as a rename in it, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
