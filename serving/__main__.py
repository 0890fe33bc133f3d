"""Verify, query, serve and deploy exported models: `python -m serving --help`."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from serving import predict, serve, verify
from serving.deploy import command as deploy

if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "verify": verify.main,
        "predict": predict.main,
        "serve": serve.main,
        "deploy": deploy.main,
    }
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        arguments = ["serve", *serve.with_values(arguments[1:])]
    sys.exit(
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="python -m serving",
            description=__doc__,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
            use_underscores=True,
        )
    )
