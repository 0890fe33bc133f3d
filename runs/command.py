"""What every app's command line does around `main`: read the config, end with one clear line."""

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from training.loop import Interrupted, NotFinite


def command(main: Callable[[Any], dict[str, float]], config_class: type, description: str) -> None:
    """Reads the config from the command line, runs `main` and turns errors into one message.

    Exit status: 0 after a finished run; 1 after an error in data, settings or training; 130 after
    Ctrl-C or SIGTERM, with the checkpoint written.

    Args:
        main: From the config to the scores.
        config_class: Frozen dataclass with a docstring below each field.
        description: The app's docstring, shown by `--help`.
    """
    config: Any = tyro.cli(config_class, description=description)
    try:
        main(config)
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print(
            "\nStopped at once. The same command resumes from the last checkpoint, if any.",
            file=sys.stderr,
        )
        sys.exit(130)
    except (ValueError, OSError, NotFinite) as error:
        if os.environ.get("HORNBOOK_TRACEBACK"):
            raise
        print(f"\nError: {error}", file=sys.stderr)
        print("(HORNBOOK_TRACEBACK=1 shows where it comes from.)", file=sys.stderr)
        sys.exit(1)
