"""Schemes of tags: how tags mark spans of words, recognized and converted to BIO."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

REMARKS = {
    "BIO": "Tags: BIO (IOB2).",
    "IOB1": "Tags: IOB1, converted to BIO.",
    "BIOES": "Tags: BIOES (or BILOU), converted to BIO.",
    "spans": "Tags: types without B- and I-; neighbors with one type became a span in BIO.",
    "words": "Tags: one per word, such as parts of speech; each word became a span, B-...",
}
"""The remark on each scheme."""
_MARKED = re.compile(r"[BIELMSUW]-.")
_BIO = {"E": "I", "L": "I", "M": "I", "S": "B", "U": "B", "W": "B"}
"""BIO's letter for the end or middle of a span, and for a span of one word."""


def recognized(sentences: Iterable[Sequence[str]]) -> str:
    """Returns the scheme of tags, one of `REMARKS`, by the form of most spans.

    BIO (IOB2) begins each span with B-. IOB1 does so only after a span of the same type. BIOES and
    BILOU mark the last word of a span with E- or L-, and a span of one word with S- or U-. Tags
    without letters before them are types of spans if O is the most frequent, else tags of words.

    Reference:
        Ratinov & Roth, Design Challenges and Misconceptions in Named Entity Recognition, 2009,
        section 3.2, compares the schemes. https://aclanthology.org/W09-1119

    Example:
        >>> recognized([["I-PER", "I-PER", "O"]]), recognized([["DET", "NOUN"]])
        ('IOB1', 'words')
    """
    counts: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for tags in sentences:
        before = "O"
        for tag in tags:
            marked = bool(_MARKED.match(tag))
            counts[tag[0] if marked else "O" if tag == "O" else "plain"] += 1
            if marked and before[2:] != tag[2:]:
                first[tag[0]] += 1
            before = tag
    if counts["plain"] > sum(counts[letter] for letter in ("B", "I", *_BIO)):
        outside = Counter(tag for tags in sentences for tag in tags).most_common(1)[0][0] == "O"
        return "spans" if outside else "words"
    ends = sum(counts[letter] for letter in "ELSUW")
    if 2 * ends > sum(counts[letter] for letter in "BSUW"):
        return "BIOES"
    return "IOB1" if first["I"] > first["B"] else "BIO"


def converted(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """Converts the tags of a sentence to BIO; tags that do not fit the scheme do not change.

    Args:
        tags: The tags.
        scheme: What `recognized` returned.

    Example:
        >>> converted(["S-city", "O", "B-name", "E-name"], "BIOES")
        ('B-city', 'O', 'B-name', 'I-name')
    """
    if scheme == "words":
        return tuple(f"B-{tag}" for tag in tags)
    if scheme == "BIOES":
        return tuple(
            f"{_BIO.get(tag[0], tag[0])}{tag[1:]}" if _MARKED.match(tag) else tag for tag in tags
        )
    if scheme == "spans":
        tags = [tag if tag == "O" else f"I-{tag}" for tag in tags]
    if scheme == "BIO":
        return tuple(tags)
    begun = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        begun.append(f"B-{tag[2:]}" if begins else tag)
    return tuple(begun)
