"""Verify, query, serve and deploy exported models."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from serving import predict, serve, verify
from serving.deploy import command as deploy

COMMANDS: dict[str, Callable[..., Any]] = {
    "verify": verify.main,
    "predict": predict.main,
    "serve": serve.main,
    "deploy": deploy.main,
}


def main(arguments: Sequence[str], program: str = "python -m serving") -> int:
    """Runs one of the commands.

    Args:
        arguments: The command and its arguments.
        program: The part of the command line before the arguments, for the help.
    """
    if arguments[:1] == ["serve"]:
        arguments = ["serve", *serve.with_values(arguments[1:])]
    return tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog=program,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
        use_underscores=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
