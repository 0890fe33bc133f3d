"""Names in the graph for users' names, such as columns of a table."""

import re
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Mapping

# TensorFlow generates the others, and `serving.verify` refuses them.
RESERVED = re.compile(r"self|(args|output)_\d+|unknown(_\d+)?")
_VALID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def served(names: Iterable[str]) -> dict[str, str]:
    """Returns the served name for each name of an input.

    Names of ASCII letters, digits and underscores that begin with a letter do not change. In other
    names letters lose their accents, all other characters become underscores, and names that do
    not begin with a letter get the prefix "x_". A checksum of the user's name is added if letters
    or digits are lost, and to all names but one that would be equal except for their case, which
    TensorFlow ignores.

    Raises:
        ValueError: Two names are the same text in different encodings.

    Example:
        >>> served(["age", "Größe (cm)"])
        {'age': 'age', 'Größe (cm)': 'Grosse_cm'}
        >>> served(["age?", "age"])
        {'age?': 'age_41aa2000', 'age': 'age'}
    """
    names = list(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_plain(name).lower(), []).append(name)
    found = {}
    for group in groups.values():
        first, *others = sorted(group, key=lambda name: (_plain(name) != name, name))
        found[first] = _checked(first) if _loses(first) else _plain(first)
        found.update((name, _checked(name)) for name in others)
    if len({_composed(name) for name in names}) < len(names):
        raise ValueError(f"Inputs must have names that look different. Received: {names}")
    return {name: found[name] for name in names}


def meant(names: Collection[str], inputs: Mapping[str, str | None]) -> dict[str, str]:
    """Returns the name that means each input: the user's, or the served one.

    Args:
        names: What a client or the header of a table has; others are left out.
        inputs: By served name the user's, or None if it is not known: then the served name counts,
            or else every name that `served` might have turned into it.

    Raises:
        ValueError: Two names mean the same input.
    """
    if set(names) <= inputs.keys():
        return {name: name for name in names}
    turned = {
        name: _checked(name) if _checked(name) in inputs or _loses(name) else _plain(name)
        for name in names
    }
    found: dict[str, str] = {}
    for name, title in inputs.items():
        if title is None:
            fitting = [name] if name in names else [one for one in names if turned[one] == name]
        else:
            fitting = [given for given in names if _composed(given) == _composed(title)]
            fitting = fitting or [given for given in names if given == name]
        if len(fitting) > 1:
            raise ValueError(
                f"One name must mean the input `{name}`. Received: {', '.join(map(repr, fitting))}"
            )
        found.update((name, given) for given in fitting)
    return found


def _plain(name: str) -> str:
    if _is_free(name):
        return name
    letters = "".join(map(_ascii, unicodedata.normalize("NFKD", name)))
    plain = re.sub("[^A-Za-z0-9]+", "_", letters).strip("_")
    return plain if _is_free(plain) else f"x_{plain}".rstrip("_")


def _loses(name: str) -> bool:
    """Whether a letter or digit of a name has no counterpart in the plain one, or it has none."""
    letters = [one for one in unicodedata.normalize("NFKD", name) if one.isalnum()]
    return not letters or "_" in map(_ascii, letters)


def _is_free(name: str) -> bool:
    return bool(_VALID.fullmatch(name)) and not RESERVED.fullmatch(name)


def _ascii(letter: str) -> str:
    if unicodedata.combining(letter):
        return ""
    folded = letter.casefold()
    return letter if letter.isascii() else folded if folded.isascii() else "_"


def _checked(name: str) -> str:
    return f"{_plain(name)}_{zlib.crc32(_composed(name).encode()):08x}"


def _composed(name: str) -> str:
    """Normalizes the Unicode encoding of the characters."""
    return unicodedata.normalize("NFC", name)
