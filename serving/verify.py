"""Checks an exported version in a separate process, without Hornbook's networks."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serving.table import table
from serving.versions import newest

# Batch sizes at which the core of every export is compiled, and to which servers pad batches with
# the files of `serving.deploy`. Not in `serving.checks`, which imports TensorFlow.
XLA_BATCH_SIZES = (1, 8, 32)


@dataclass(frozen=True)
class Check:
    """A check, whether it passed, and its details."""

    check: str
    passed: bool
    detail: str


def verify(folder: Path) -> list[Check]:
    """Checks the newest version in `folder`, or the version that it is, and returns the results.

    `serving.checks` says what is checked.
    """
    try:
        version = newest(folder).resolve()
    except FileNotFoundError as error:
        return [Check("version", False, str(error))]
    child = subprocess.run(
        [sys.executable, "-m", "serving.checks", str(version)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
    )
    results = [Check(**json.loads(line)) for line in child.stdout.splitlines()]
    if child.returncode != 0:
        said = child.stderr.strip().splitlines()[-1:] or ["nothing"]
        detail = f"the checking process ended with status {child.returncode}, saying: {said[0]}"
        results.append(Check("process", False, detail))
    return [Check("version", True, str(version)), *results]


def main(
    folder: tyro.conf.Positional[Path],
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Check an export: signatures, operations, parity, batch sizes, XLA.

    Args:
        folder: Folder of versions (the newest is checked) or one version.
        as_json: Print a JSON list instead of a table.
    """
    results = verify(folder)
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        words = {True: "ok", False: "FAILED"}
        rows = [[result.check, words[result.passed], result.detail] for result in results]
        print(table(["check", "result", "detail"], rows))
    return 0 if all(result.passed for result in results) else 1
