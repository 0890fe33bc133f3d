"""Lists every app with what it does, without importing any: `python -m apps`."""

import ast
from pathlib import Path


def descriptions() -> dict[str, str]:
    """Returns the first line of each app's docstring by the app's name."""
    apps = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem[0] != "_")
    docstrings = {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in apps}
    return {name: (text or "").partition("\n")[0] for name, text in docstrings.items()}


if __name__ == "__main__":
    print("Run one with `python -m apps.NAME --help`:\n")
    for name, description in descriptions().items():
        print(f"  {name:24}{description}")
