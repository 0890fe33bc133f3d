"""Train networks on your data, then query, check, serve and deploy them."""

import ast
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUNS = ("evaluate", "compare")
VERBOSE = "--verbose"
SERVING = ("predict", "verify", "serve", "deploy")
EVALUATE = """usage: hornbook evaluate RUN [--data NEW] [OPTIONS]

Evaluate the network of a finished run on new labeled data, without training.

RUN is the folder of the run, such as saved_models/image_classification. Without --data its own test
examples are evaluated. NEW may be a single example: if it has a test split, only that is evaluated,
else its validation split, else all of it. Options about the data of RUN, such as --group, do not
apply to NEW unless they are given again. The scores and the report are written below
RUN/evaluations. `hornbook evaluate RUN --help` shows all options.
"""


def descriptions() -> dict[str, str]:
    """Returns the first line of each app's docstring by the app's name."""
    apps = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem[0] != "_")
    docstrings = {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in apps}
    return {name: (text or "").partition("\n")[0] for name, text in docstrings.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command `hornbook`: an app or one of the commands for exported models."""
    name, *rest = arguments or sys.argv[1:] or ["apps"]
    if VERBOSE in rest:
        rest.remove(VERBOSE)
        os.environ["HORNBOOK_VERBOSE"] = "1"
    try:
        return _run(name, rest)
    except KeyboardInterrupt:
        print("\nStopped before anything was written.", file=sys.stderr)
        return 130


def _run(name: str, rest: Sequence[str]) -> int:
    if name in ("apps", "-h", "--help"):
        print(_overview(names_only=name == "apps"))
    elif name in descriptions():
        _run_app(name, rest)
    elif name == "evaluate":
        return _evaluate(rest)
    elif name == "compare":
        return _compare(rest)
    elif name in SERVING:
        # The servers' own modules import TensorFlow no earlier than they need it.
        from serving.__main__ import main as serve

        return serve([name, *rest], "hornbook")
    else:
        near = difflib.get_close_matches(name, [*descriptions(), *RUNS, *SERVING], 1)
        did_you_mean = f" Did you mean {near[0]}?" if near else ""
        print(f"There is no command {name!r}.{did_you_mean}\n\n{_overview()}", file=sys.stderr)
        return 2
    return 0


def _overview(names_only: bool = False) -> str:
    lines = [f"  {name:24}{description}" for name, description in descriptions().items()]
    if names_only:
        return "\n".join(lines)
    return "\n".join(
        [
            __doc__,
            "\nApps (hornbook APP --help shows the options):\n",
            *lines,
            "\nCommands for finished runs (hornbook COMMAND --help):\n",
            f"  {', '.join(RUNS)}",
            "\nCommands for exported models (hornbook COMMAND --help):\n",
            f"  {', '.join(SERVING)}",
            f"\n{VERBOSE} after any of them shows TensorFlow's log lines.",
        ]
    )


def _evaluate(arguments: Sequence[str]) -> int:
    from runs.stand_ins import stand_ins

    if not arguments or arguments[0].startswith("-"):
        is_help = arguments[:1] in (["-h"], ["--help"])
        print(EVALUATE, file=sys.stdout if is_help else sys.stderr)
        return 0 if is_help else 2
    run = Path(arguments[0])
    try:
        with stand_ins():
            name = importlib.import_module("runs.presets").app_of(run)
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    _run_app(name, arguments[1:], run)
    return 0


def _compare(arguments: Sequence[str]) -> int:
    from runs.stand_ins import stand_ins
    from serving.quiet import quiet

    with stand_ins():
        importlib.import_module("runs.compare").read(arguments)
    with quiet():
        compare = importlib.import_module("runs.compare")
    return compare.main(arguments)


def _run_app(name: str, arguments: Sequence[str], run: Path | None = None) -> None:
    from runs.stand_ins import stand_ins
    from serving.quiet import quiet

    # Help and errors in the options come before TensorFlow is imported, which takes seconds.
    with stand_ins():
        _read(name, arguments, run)
    with quiet():
        app = importlib.import_module(f"apps.{name}")
    config = _read(name, arguments, run)
    importlib.import_module("runs.command").run(app.main, config)


def _read(name: str, arguments: Sequence[str], run: Path | None = None) -> Any:
    app = importlib.import_module(f"apps.{name}")
    read = importlib.import_module("runs.command").read
    program = f"hornbook evaluate {run}" if run else f"hornbook {name}"
    return read(app.Config, app.__doc__, arguments, program, run)


if __name__ == "__main__":
    sys.exit(main())
