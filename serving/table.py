"""Plain text tables for the terminal."""

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lays out rows in left-aligned columns under their headers; shows line breaks as `\\n`.

    Example:
        >>> print(table(["file", "class"], [["a.png", "cat"], ["b.png", "two" + chr(10) + "cats"]]))
        file   class
        a.png  cat
        b.png  two\\ncats
    """
    lines = [[r"\n".join(cell.splitlines()) for cell in line] for line in (headers, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
