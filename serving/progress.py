"""Progress of a long prediction."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from serving.answering import Outcome
from serving.examples import Example


class Progress:
    """Prints the number of answered inputs once per second on a terminal, else once per minute.

    Args:
        terminal: Where to print.
        clock: Returns the time in seconds.
    """

    def __init__(self, terminal: TextIO, clock: Callable[[], float] = time.monotonic):
        self.done = self.failures = 0
        self._terminal, self._clock = terminal, clock
        self._live = terminal.isatty()
        self._seconds = 1.0 if self._live else 60.0
        self._begin = self._told = clock()
        self._first_failure = ""

    def count(self, example: Example, outcome: Outcome) -> None:
        self.done += 1
        if isinstance(outcome, str):
            self.failures += 1
            self._first_failure = self._first_failure or f"{example.name}: {outcome}"
        if self._clock() - self._told >= self._seconds:
            self._told = self._clock()
            self._tell(self._line, "\r" if self._live else "\n")

    def end(self, path: Path) -> None:
        """Prints the path of the file, and the first error."""
        self._tell(f"{path}: {self._line}", "\n")
        if self.failures:
            more = " (the column `error` has the others)" if self.failures > 1 else ""
            self._tell(f"{self._first_failure}{more}", "\n")

    @property
    def _line(self) -> str:
        rate = self.done / max(self._clock() - self._begin, 1e-9)
        inputs = f"{self.done:,} input{'' if self.done == 1 else 's'}"
        errors = f"{self.failures:,} error{'' if self.failures == 1 else 's'}"
        return f"{inputs}, {rate:,.1f}/s, {errors}"

    def _tell(self, line: str, end: str) -> None:
        clear = "\x1b[K" if self._live else ""
        print(f"{line}{clear}", end=end, file=self._terminal, flush=True)
