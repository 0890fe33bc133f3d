"""Documents, messages, comments and names do not use old words that have a plainer one."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PER = "batch|byte|class|epoch|file|layer|line|model|rank|request|row|run|second|seed|step"
OLD = {
    "told|asked": "says, shows; requested, queried",
    "sure|surest": "confident, most confident",
    "mends?|heeds?": "fix; use",
    "places": "positions, locations",
    "likewise|alike": "in the same way; equal, similar",
    "whatever": "any, regardless of",
    "besides": "in addition to, further",
    "by hand": "manually, handwritten, computed",
    "(go|goes|going|went) on": "continues",
    "hand(s|ed|ing)? over": "passes",
    "takes up|taken up|taken for|took for": "reads, loads; read as, predicted",
    "(stand|stands|stood|standing) (in|beside)": "is in, replaces",
    "(lie|lies|lay|lying) (in|within|beside)": "is in",
    "(make|makes|made) (out|up)": "finds; generates",
    "the published|as published": "as in the paper",
    "the way of a run": "the course of a run",
    "highest step size": "peak learning rate",
    f"(bytes|examples|features|images|minutes|once|photographs|pixels|texts|tokens) an? ({PER})": (
        "per"
    ),
    "(is|are) no (array|http|images?|inputs?|json|message|text|utf-8|words?)": "is not",
    "not one of its flags": "(Hornbook only)",
}
"""Patterns of old words in any case, and what to write instead; a space is any white space."""
GOOD = ["people and places", "places and persons"]
"""Patterns of good uses."""
EXCEPT = {"tests/test_english.py"}
"""Files that may use old words: this one, and the record of measurements."""


def sources() -> list[str]:
    command = ["git", "ls-files", "*.py", "*.md", "*.html"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({*found.stdout.splitlines()} - EXCEPT)


def old_words(text: str) -> list[tuple[int, str, str]]:
    """Returns the line of each old word, the word, and what to write instead."""

    def matches(patterns):
        for pattern in patterns:
            spaced = rf"\b({pattern})\b".replace(" ", r"[\s#]+")
            yield from ((pattern, match) for match in re.finditer(spaced, text, re.IGNORECASE))

    good = [match.span() for _, match in matches(GOOD)]
    return [
        (text.count("\n", 0, match.start()) + 1, match[0], OLD[pattern])
        for pattern, match in matches(OLD)
        if not any(start <= match.start() < end for start, end in good)
    ]


def test_old_words_are_found_at_the_line_where_they_begin():
    text = "names of people and\nplaces\n# What stands\n# in two places"
    assert [(line, word) for line, word, _ in old_words(text)] == [
        (4, "places"),
        (3, "stands\n# in"),
    ]


@pytest.mark.parametrize("path", sources())
def test_no_old_words(path):
    found = old_words((ROOT / path).read_text(encoding="utf-8"))
    listed = [f"{path}:{line}: {word!r}; write: {instead}" for line, word, instead in found]
    assert not found, "\n".join(listed)
