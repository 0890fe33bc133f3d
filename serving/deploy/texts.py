"""Manifests as text, and folders of files that appear at once."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HEADER = "# Written by `hornbook deploy`; --overwrite replaces it.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeated values in full, to be readable."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def yaml_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Returns plain data as YAML, in its own order.

    Example:
        >>> print(yaml_text([{"b": 1, "a": "one\\n"}]), end="")
        b: 1
        a: |
          one
    """
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def write(out: Path, files: Mapping[str, str], overwrite: bool) -> None:
    """Writes files to a new folder, which is complete as soon as it is visible.

    The files of an earlier run are replaced one by one, so that a server that has mounted the
    folder sees the new ones.

    Args:
        out: The folder: not there, empty, or with `overwrite` one that this function wrote.
        files: Texts by name.
        overwrite: Whether to replace existing files.

    Raises:
        ValueError: There are files that must not be replaced.
    """
    _require_free(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".deploy-", dir=out.parent) as temporary:
        written = Path(temporary) / "new"
        written.mkdir()
        for name, text in files.items():
            (written / name).write_text(HEADER + text, encoding="utf-8")
        old = set(out.iterdir()) if out.is_dir() else set()
        if not old:
            written.rename(out)
            return
        for name in files:
            (written / name).replace(out / name)
        for path in old - {out / name for name in files}:
            path.unlink()


def _require_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder. Received: {out}, which is a file")
    found = sorted(out.iterdir()) if out.is_dir() else []
    if found and not overwrite:
        raise ValueError(
            f"`--out` must be new or empty. Received: {out}, which holds {found[0].name}; "
            "--overwrite replaces it"
        )
    others = [path.name for path in found if not _is_ours(path)]
    if others:
        raise ValueError(
            f"`--overwrite` replaces what an earlier run wrote. Received: {out}, which also holds "
            f"{', '.join(others[:10])}; move that or choose another folder"
        )


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER.encode()
