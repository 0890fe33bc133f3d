"""Check and ask exported models: `python -m serving --help`."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from serving import predict, verify

if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"verify": verify.main, "predict": predict.main}
    sys.exit(
        tyro.extras.subcommand_cli_from_dict(
            commands, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)
        )
    )
