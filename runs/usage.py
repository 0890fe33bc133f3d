"""Commands for the report of a run: how to use its export and how to repeat it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, TimeoutExpired, run
from typing import Any
from urllib.parse import quote

import tensorflow as tf

from runs.settings import Settings
from serving.signature import Signature

MOST_LETTERS = 500
"""Maximum number of letters of a text in a command."""
CHECKOUT = Path(__file__).resolve().parents[1]


def snippets(
    model: Path,
    signature: Signature,
    inputs: Mapping[str, str | bytes | Sequence[str]],
    file: Path,
) -> list[tuple[str, str]]:
    """Returns ways to query an export, each with its title, for one real example.

    Args:
        model: Folder with the versions of the model, as `hornbook serve` finds it in its parent.
        signature: The signature `serving_default`.
        inputs: The example, text, several texts or the bytes of a file by name of the input.
        file: The file that holds the example.
    """
    served = {
        signature.served[name]: _value(value, signature.inputs[name])
        for name, value in inputs.items()
    }
    # The name of the folder is the model's, and the path of the current folder has none.
    model = model if model.name not in ("", "..") else model.resolve()
    folder, parent, path = (shlex.quote(str(one)) for one in (model, model.parent, file))
    return [
        ("On the command line", f"hornbook predict {folder} {path}"),
        ("From a server", f"hornbook serve {parent}\n\n{_curl(model.name, served, path)}"),
        ("In Python, from that server or from the folder", _python(model, served, file)),
    ]


def _value(value: str | bytes | Sequence[str], spec: tf.TensorSpec) -> Any:
    """Returns texts, a number in place of its text, or None for the content of a file."""
    if isinstance(value, bytes):
        return None
    if not isinstance(value, str):
        return [text[:MOST_LETTERS] for text in value]
    return value[:MOST_LETTERS] if spec.dtype == tf.string else json.loads(value)


def _curl(model: str, served: Mapping[str, Any], path: str) -> str:
    url = f"http://localhost:8501/v1/models/{quote(model)}:predict"
    texts = {name: {"b64": "\0"} if value is None else value for name, value in served.items()}
    # JSON never contains a zero byte.
    parts = json.dumps({"instances": [texts]}, ensure_ascii=False).split("\\u0000")
    if len(parts) == 1:
        return f"curl -s {shlex.quote(url)} \\\n    -d {shlex.quote(parts[0])}"
    content = f"\"$(base64 < {path} | tr -d '\\n')\""
    body = content.join(shlex.quote(part) for part in parts)
    return f"printf %s {body} |\n    curl -s {shlex.quote(url)} -d @-"


def _python(model: Path, served: Mapping[str, Any], file: Path) -> str:
    def quoted(text: Any) -> str:
        return json.dumps(text, ensure_ascii=False)

    content = f"Path({quoted(str(file))}).read_bytes()"
    shown = {name: content if value is None else quoted(value) for name, value in served.items()}
    values = (f"{quoted(name)}: [{value}]" for name, value in shown.items())
    lines = [
        *(["from pathlib import Path", ""] if None in served.values() else []),
        "from serving.client import Client",
        "",
        f"inputs = {{{', '.join(values)}}}",
        f'with Client("grpc://localhost:8500") as client:  # or Client({quoted(str(model))})',
        f"    answer = client.predict({quoted(model.name)}, inputs)",
        "for name, values in answer.items():",
        "    print(name, values)",
    ]
    return "\n".join(lines)


def command_line(app: str, config: Settings) -> str:
    """Returns the command that repeats a run, with the options that differ from their defaults.

    Args:
        app: Name of the app.
        config: Its settings.
    """
    words = ["hornbook", app]
    # Without it the command would run the default stage.
    stage = {"stage": config.stage} if hasattr(config, "stage") else {}
    for name, value in (stage | config.changed).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        several = isinstance(value, tuple)
        texts = [str(one) for one in (value if several else (value,))]
        # What looks like an option belongs to this one.
        if not several and texts[0].startswith("-"):
            words.append(f"--{option}={texts[0]}")
        else:
            words += [f"--{option}", *texts]
    return shlex.join(words)


def commits() -> dict[str, str]:
    """Returns the git commits of the current folder and of Hornbook, by a description.

    Folders without a commit are left out.
    """
    found: dict[str, str] = {}
    for folder in (Path.cwd(), CHECKOUT):
        top, _, commit = _git(folder, "rev-parse", "--show-toplevel", "HEAD").rpartition("\n")
        is_ours = Path(top) == CHECKOUT
        # A package that is installed in the folder of another project is no checkout.
        if commit and (is_ours or folder != CHECKOUT):
            changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
            what = "Hornbook" if is_ours else "the current folder"
            found[f"git commit of {what}"] = f"{commit}{', with changes' if changed else ''}"
    return found


def _git(folder: Path, *arguments: str) -> str:
    """Returns what git prints about a folder; nothing if it fails or is not installed."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = run(command, stdout=PIPE, stderr=DEVNULL, text=True, check=False, timeout=10)
    except (OSError, TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
