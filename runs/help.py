"""The help of an app's command line: its options in groups, those most often needed first."""

import argparse
from typing import Any

import tyro

from runs.settings import GROUPS, Settings


def help_text(
    config_class: type[Settings], description: str, program: str | None, default: Any = None
) -> str:
    """Describes the options of a command line.

    Args:
        config_class: Frozen dataclass with a docstring below each field. A field is in the group
            that its type names, or in that of a class above; else it is about the network.
        description: What the command does.
        program: What the options follow. None: as the process was started.
        default: Values that the options have if they are left out. None: those of the class.
    """
    options = {"default": default} if default is not None else {}
    parser = tyro.extras.get_parser(config_class, **options)
    shown = argparse.ArgumentParser(
        program,
        "%(prog)s [OPTIONS]",
        description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    groups = {name: shown.add_argument_group(title) for name, title in GROUPS.items()}
    for action in parser._actions[1:]:  # The first is --help.
        name = max(action.option_strings, key=len).removeprefix("--").removeprefix("no-")
        text = " ".join((action.help or "").split()).replace(" (default: None)", "")
        metavar = str(action.metavar or "").replace("{None}|", "").replace("{None,", "{")
        flag: dict[str, Any] = {"metavar": metavar} if metavar else {"action": "store_true"}
        groups[config_class.group_of(name.replace("-", "_"))].add_argument(
            *action.option_strings, help=text, **flag
        )
    return shown.format_help()
