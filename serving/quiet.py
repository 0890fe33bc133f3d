"""Keeps the log lines that TensorFlow writes while it is imported off the screen."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Until the end of the `with` nothing reaches stderr, not even from C++.

    After an error all of it does. Use it only around imports: other threads are silent meanwhile.
    With the environment variable HORNBOOK_VERBOSE it has no effect.
    """
    if os.environ.get("HORNBOOK_VERBOSE"):
        yield
        return
    # TensorFlow reads it when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
