"""Ctrl-C and SIGTERM as a request that a loop reads between two steps."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C or SIGTERM came; a second one stops at once.

    Only the main thread gets signals; in other threads the function always returns False.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def request(number, frame):
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        # Not through `sys.stderr`, because the signal may have interrupted it.
        os.write(2, b"\nStopping after these steps; once more stops at once.\n")

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
