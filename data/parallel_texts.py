"""Texts and their translations: user files, TensorFlow Datasets or a built-in sample."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data import number_words
from data.sources import (
    BadData,
    Evaluated,
    Fault,
    Finding,
    by_split,
    empty_splits,
    existing,
    is_hidden,
    not_read,
    reported,
    split_named,
    splits_to_read,
    tfds_builder,
    tfds_remarks,
    tfds_splits,
)
from data.splits import Splits, dealt, shared
from data.tables import columns_read, json_values, rows_of_cells
from data.text_files import given_by, not_utf8, read_text, split_files

BUILT_IN = ("number_words",)
SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
EXPECTED = (
    "two files of one name with the languages as endings (train.en and train.de), a .tsv, .csv or "
    ".jsonl file, a folder of such files"
)
NO_NAMES = ("source", "target")
"""Names of the languages of a table without a header."""
LONGEST = 9
"""How many times as long as its translation a text may be, in characters."""
FREE = 20
"""Number of characters that a text may have regardless of how short its translation is."""

_LANGUAGE = re.compile(r"[a-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
_NAMES = {*NO_NAMES, "src", "tgt", "trg"}
_DOCUMENTS = {"txt", "md", "rst", "log"}
"""Endings that look like languages; files of one name with no others are not translations."""


class Pair(NamedTuple):
    """A text and its translation."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class ParallelTexts(Splits):
    """Texts with their translations; each split is a tuple of `Pair`.

    Args:
        languages: Of the source and of the target.
    """

    languages: tuple[str, str]

    def texts(self, split: str, side: int) -> list[str]:
        """Returns the sources (side 0) or the targets (side 1) of a split."""
        return [pair[side] for pair in self.split(split)]


class _Row(NamedTuple):
    """An example as it is read: where, its split (empty if unknown), its texts by language."""

    where: str
    split: str
    texts: Mapping[str, Any]


def load(
    data: str,
    source: str | None = None,
    target: str | None = None,
    *,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
) -> ParallelTexts:
    """Loads, checks and splits the pairs of texts that `data` names.

    Two files have one name and the languages as endings, such as train.en and train.de, or
    train.en.gz and train.de.gz; a line of the one is the translation of the same line of the
    other. `data` is one of them, their name without the ending, or a folder with them, in which
    names may contain train, dev or test (or others of `SPLIT_NAMES`). A table has a column for each
    language. A .jsonl or .json file has a field for each language, or an object `translation` with
    such fields. If the data has no splits, a hash of the source decides, so that equal sources stay
    together.

    Args:
        data: `number_words` (built in; `./number_words` for a folder of that name), `tfds:NAME` for
            a dataset with translations, or the path of a file or folder.
        source: Language of the texts. None: the first one that is there.
        target: Language of the translations. None: the one that is left.
        skip_bad: Whether to skip and count bad pairs instead of raising.
        evaluated: As in `data.splits.dealt`.

    Example:
        >>> texts = load("number_words")
        >>> texts.languages, texts.train[0]
        (('de', 'en'), Pair(source='null', target='zero'))
    """
    chosen = (source, target, skip_bad, evaluated)
    if data == "number_words":
        rows = [_Row("", "", texts) for texts in number_words.pairs()]
        return _divided(data, rows, [], ("de", "en"), *chosen)
    if data.startswith("tfds:"):
        rows, findings, languages = _from_tfds(data.removeprefix("tfds:"), evaluated)
        return _divided(data, rows, findings, languages, *chosen)
    path, wanted = Path(data), [one for one in (source, target) if one]
    if _by_language(path) or _by_name(path) or (path.is_dir() and not _tables(path)):
        rows, findings, languages = _from_lines(data, path, wanted, evaluated)
        return _divided(data, rows, findings, languages, *chosen)
    files, findings = split_files(existing(data, EXPECTED, BUILT_IN), set(SUFFIXES), evaluated)
    if not files:
        expected = "names with train, dev and test"
        fix = "pass one of them as --data, or rename them"
        names = ", ".join(file.name for file in _tables(path))
        raise BadData(data, [Fault(path.name, f"only {names}", expected, fix, skippable=False)])
    rows, columns = [], list[str]()
    for split, file in files.items():
        read, wrong, named = _from_table(data, file, split, wanted)
        rows += read
        findings += wrong
        columns += named
    known = list(dict.fromkeys(columns))
    return _divided(data, rows, findings, known, *chosen)


def _divided(
    data: str,
    rows: Sequence[_Row],
    findings: Sequence[Finding],
    known: Sequence[str],
    source: str | None,
    target: str | None,
    skip_bad: bool,
    evaluated: Evaluated | None,
) -> ParallelTexts:
    """Chooses the languages, checks each pair and splits them."""
    if evaluated and tuple(known) == NO_NAMES:
        source, target = NO_NAMES  # The languages of the network, in its order.
    languages = _chosen(data, known, source, target)
    examples, faults = [], []
    read = splits_to_read((row.split for row in rows), evaluated)
    for row in rows:
        texts = [row.texts.get(language) for language in languages]
        texts = [text.strip() if isinstance(text, str) else text for text in texts]
        if fault := _wrong(row.where, texts, languages):
            faults += [fault] if row.split in read else []
        else:
            pair = Pair(*map(str, texts))
            examples.append((row.split, pair.source, (row.where, pair)))
    splits, remarks = dealt(examples, evaluated)
    kept = {split: tuple(pair for _, pair in some) for split, some in splits.items()}
    others = [language for language in known if language not in languages]
    left = f" Not read: {', '.join(others)}." if others else ""
    remarks.append(f"Translates from {languages[0]} to {languages[1]}.{left}")
    remarks += _repeated(kept.get("train", ()))
    contents = {split: {one.source: one.source for one in some} for split, some in kept.items()}
    remarks += shared(contents, "source texts")
    empty = empty_splits({split: len(some) for split, some in kept.items()}, evaluated)
    said = reported(data, [*findings, *remarks, *faults, *empty], skip_bad)
    origins = {split: [where for where, _ in some] for split, some in splits.items()}
    return ParallelTexts(**said | kept, languages=languages, origins=origins)


def _chosen(
    data: str, known: Sequence[str], source: str | None, target: str | None
) -> tuple[str, str]:
    """Returns the languages of source and target; raises `BadData` if they are not there."""

    def bad(received: str, expected: str, fix: str) -> BadData:
        where = data.rstrip("/").rpartition("/")[2]
        return BadData(data, [Fault(where, received, expected, fix, skippable=False)])

    for option, name in (("--source", source), ("--target", target)):
        if name not in (None, *known):
            expected = f"the language {name}, as {option} says"
            there = ", ".join(known) or "none"
            raise bad(f"the languages {there}", expected, f"pass one of them as {option}")
    if len(known) < 2:
        received = f"only the language {known[0]}" if known else "no languages"
        raise bad(received, "texts in two languages", f"provide {EXPECTED}")
    if source and source == target:
        raise bad(f"{source} twice", "two languages", "pass others")
    if len(known) > 2 and not (source and target):
        received, fix = f"the languages {', '.join(known)}", "--source, --target"
        raise bad(received, "two languages", f"choose two of them with {fix}")
    left = [name for name in known if name not in (source, target)]
    source = source or left.pop(0)
    return source, target or left[0]


def _wrong(where: str, pair: Sequence[Any], languages: Sequence[str]) -> Fault | None:
    """Returns the first fault of a pair, or None."""
    for text, language in zip(pair, languages, strict=True):
        if not isinstance(text, str) or not text:
            received = f"{text!r:.40} as text" if text else "an empty text"
            return Fault(where, f"{received} in {language}", "some text in both languages")
        if fault := not_utf8(text, where):
            return fault
    shown = " and ".join(f"{text:.40}{'...' if len(text) > 40 else ''}" for text in pair)
    if pair[0] == pair[1]:
        fix = f"translate it, or choose other languages than {' and '.join(languages)}"
        return Fault(where, f"{pair[0]!r:.60} twice", "a text and its translation", fix)
    short, long = sorted(map(len, pair))
    if long > max(LONGEST * short, FREE):
        received = f"texts of {len(pair[0])} and {len(pair[1])} characters, {shown}"
        expected = f"lengths that differ by a factor of at most {LONGEST}"
        return Fault(where, received, expected, "check that the lines belong together")
    return None


def _repeated(pairs: Sequence[Pair]) -> list[Finding]:
    count = len(pairs) - len({pair.source for pair in pairs})
    if not count:
        return []
    are = "source text of train is a copy" if count == 1 else "source texts of train are copies"
    return [f"{count:,} {are} of earlier ones."]


# Two files of one name.


def _language_of(path: Path) -> tuple[str, str]:
    """Returns the name without the language, and the language; "" if the name has none.

    Example:
        >>> _language_of(Path("test_2016.en.gz")), _language_of(Path("notes.txt.gz"))
        (('test_2016', 'en'), ('notes', 'txt'))
    """
    name, dot, language = path.name.removesuffix(".gz").rpartition(".")
    is_language = dot and not is_hidden(path.name) and _LANGUAGE.fullmatch(language)
    return (name, language) if is_language else (path.name, "")


def _by_language(path: Path) -> dict[str, Path]:
    """Returns the files that belong to one of them, or to their common name, by language."""
    if path.suffix.lower() in SUFFIXES or path.is_dir() or not path.parent.is_dir():
        return {}
    name = _language_of(path)[0] if path.is_file() else path.name
    files = {
        _language_of(file)[1]: file
        for file in sorted(path.parent.iterdir())
        if file.is_file() and _language_of(file)[0] == name and file.suffix not in SUFFIXES
    }
    return {language: file for language, file in files.items() if language}


def _by_name(path: Path) -> dict[str, dict[str, Path]]:
    """Returns the files by language of each name that has several languages in a folder."""
    if not path.is_dir():
        return {}
    every = [_language_of(file) for file in sorted(path.iterdir())]
    names = dict.fromkeys(name for name, language in every if language)
    found = {name: _by_language(path / name) for name in names}
    return {
        name: files
        for name, files in found.items()
        if len(files) > 1 and not _DOCUMENTS.issuperset(files)
    }


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    files = [file for file in sorted(path.iterdir()) if not is_hidden(file.name)]
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _from_lines(
    data: str, path: Path, wanted: Sequence[str], evaluated: Evaluated | None
) -> tuple[list[_Row], list[Finding], list[str]]:
    """Reads files with the languages as endings: rows, findings, languages."""
    groups, findings = _groups(path, evaluated)
    if not groups:
        names = [entry.name for entry in sorted(path.iterdir()) if not is_hidden(entry.name)]
        received = f"only {', '.join(names[:10])}" if names else "an empty folder"
        raise BadData(data, [Fault(path.name, received, EXPECTED, skippable=False)])
    everywhere = [name for name in groups[0][1] if all(name in files for _, files in groups)]
    alone = [file for _, files in groups for name, file in files.items() if name not in everywhere]
    findings += not_read(alone)
    rows = []
    for split, files in groups:
        # Of many languages, such as those of a parliament, only two are read.
        chosen = [name for name in files if name in wanted] if len(wanted) == 2 else [*files]
        read = {name: _lines(files[name]) for name in chosen if name in everywhere}
        if len(read) != 2:
            rows.append(_Row("", split, {}))
            continue
        (first, second), names = read.values(), [files[name].name for name in read]
        if len(first) != len(second):
            findings.append(_shifted(names, first, second))
            continue
        rows += [
            _Row(f"{names[0]} line {number}", split, dict(zip(read, texts, strict=True)))
            for number, texts in enumerate(zip(first, second, strict=True), 1)
        ]
    return rows, findings, everywhere


def _groups(
    path: Path, evaluated: Evaluated | None
) -> tuple[list[tuple[str, dict[str, Path]]], list[Finding]]:
    """Finds the files by language, of each split or of one name, which is in no split."""
    if not path.is_dir():
        return [("", _by_language(path))], []
    every = [file for file in sorted(path.iterdir()) if not is_hidden(file.name)]
    of_names = _by_name(path)
    stems = by_split(str(path), map(Path, of_names), word=True)
    read = splits_to_read(stems, evaluated)
    stems = {split: stem for split, stem in stems.items() if split in read}
    if "train" not in stems and len(of_names) == 1 and not (evaluated and stems):
        stems = {"": Path(next(iter(of_names)))}
    used = {file for stem in stems.values() for file in of_names[stem.name].values()}
    remarks: list[Finding] = [] if "" in stems or not stems else [given_by(stems)]
    remarks += not_read([file for file in every if file not in used])
    if stems and "train" not in stems and "" not in stems and not evaluated:
        received = f"only {', '.join(stem.name for stem in stems.values())}"
        expected = "files with train in their names"
        raise BadData(str(path), [Fault(path.name, received, expected, skippable=False)])
    return [(split, of_names[stem.name]) for split, stem in stems.items()], remarks


def _lines(path: Path) -> list[str]:
    # Another mark, such as a carriage return inside a line, would shift all lines after it.
    lines = re.split("\r?\n", read_text(path, newline=""))
    return lines[:-1] if not lines[-1].strip() else lines


def _shifted(names: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Fault:
    """Returns the fault of files with unequal numbers of lines, with the first pair that differs.

    It is assumed that the missing lines are together. The cut is where the lengths of all pairs
    fit best, those after it counted from the ends of the files.
    """
    total = min(len(first), len(second))
    expected = sum(map(len, second[-total:])) / max(1, sum(map(len, first[-total:])))

    def misfit(one: str, other: str) -> float:
        return abs(math.log((len(one) * expected + 1) / (len(other) + 1)))

    before = [misfit(one, other) for one, other in zip(first, second, strict=False)]
    after = [misfit(a, b) for a, b in zip(first[-total:], second[-total:], strict=True)]
    cost = sum(after)
    best, cut = cost, 0
    for index in range(total):
        cost += before[index] - after[index]
        if cost < best:
            best, cut = cost, index + 1
    pair = " beside ".join(
        repr(lines[cut])[:60] if cut < len(lines) else "no line" for lines in (first, second)
    )
    return Fault(
        " and ".join(names),
        f"{len(first):,} and {len(second):,} lines; line {cut + 1:,} looks like the first that is "
        f"shifted, {pair}",
        "files with equal numbers of lines",
        "add or remove lines, so that each is the translation of the same line of the other file",
        skippable=False,
    )


# Tables and TensorFlow Datasets.


def _from_table(
    data: str, path: Path, split: str, wanted: Sequence[str]
) -> tuple[list[_Row], list[Finding], list[str]]:
    """Reads a .csv, .tsv, .jsonl or .json file: rows, findings, languages."""
    if path.suffix.lower() in (".jsonl", ".json"):
        located, findings = _objects(path)
    else:
        located, findings = _cells(data, path, wanted)
    faults = [finding for finding in findings if isinstance(finding, Fault)]
    if faults and not located:
        raise BadData(data, faults)
    names = list(dict.fromkeys(name for _, texts in located for name in texts))
    column = next((name for name in names if name.lower() == "split"), None)
    languages = [name for name in names if _is_language(name, wanted) and name != column]
    others = [name for name in names if name not in (*languages, column)]
    if len(languages) < 2:
        received = f"the columns {', '.join(names)}" if names else "no pairs"
        expected = "a column for each of two languages, such as en and de"
        fix = "name the columns, or pass --source and --target"
        raise BadData(data, [Fault(path.name, received, expected, fix, skippable=False)])
    if others:
        read = {name: name for name in (*languages, column) if name}
        findings += columns_read(read, others)
    rows = []
    for where, texts in located:
        named = split or split_named(str(texts.get(column)) if column else "")
        if column and not named:
            received = f"the split {texts.get(column)!r}"
            findings.append(Fault(where, received, "train, validation or test"))
            continue
        rows.append(_Row(where, named, {name: texts.get(name) for name in languages}))
    return rows, findings, languages


def _is_language(name: str, wanted: Sequence[str]) -> bool:
    return name in wanted or name.lower() in _NAMES or bool(_LANGUAGE.fullmatch(name))


def _objects(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[Finding]]:
    """Reads JSON objects; what is in their field `translation` replaces that field."""
    expected = 'an object such as {"translation": {"en": "a text", "de": "ein Text"}}'
    values, findings = json_values(path, expected)
    objects = []
    for where, value in values:
        inner = value.get("translation") if isinstance(value, dict) else None
        if not isinstance(value, dict) or ("translation" in value and not isinstance(inner, dict)):
            findings.append(Fault(where, f"{value!r:.80}", expected))
        elif inner is None:
            objects.append((where, value))
        else:
            split = {name: text for name, text in value.items() if name.lower() == "split"}
            objects.append((where, {**inner, **split}))
    return objects, findings


def _cells(
    data: str, path: Path, wanted: Sequence[str]
) -> tuple[list[tuple[str, dict[str, Any]]], list[Finding]]:
    """Reads a table; without a header its first two columns are source and target."""
    lines, findings = rows_of_cells(data, path)
    if not lines:
        return [], findings
    names = [cell.strip() for cell in lines[0][1]]
    headed = sum(_is_language(name, wanted) for name in names) >= 2
    if not headed:
        names = [*NO_NAMES, *(f"column {number}" for number in range(3, len(names) + 1))]
        findings.append(f"{path.name} has no header with languages: its first columns are read.")
    rows = []
    for where, cells in lines[headed:]:
        if len(cells) == len(names):
            rows.append((where, dict(zip(names, cells, strict=True))))
        else:
            received = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
            findings.append(Fault(where, received, f"{len(names)} fields ({', '.join(names)})"))
    return rows, findings


def _from_tfds(
    name: str, evaluated: Evaluated | None
) -> tuple[list[_Row], list[Finding], list[str]]:
    """Reads a dataset whose texts are a feature for each language: rows, findings, languages."""
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    features = builder.info.features
    inner = features
    if "translation" in features:
        inner = features["translation"]
    languages = [
        key for key in inner if isinstance(inner[key], tfds.features.Text) and _is_language(key, ())
    ]
    keys = builder.info.supervised_keys
    if keys and set(keys) <= set(languages):
        languages.sort(key=lambda key: (*keys, key).index(key))
    if len(languages) < 2:
        received = f"the features {', '.join(sorted(features))}"
        expected = "a feature with texts for each of two languages, such as en and de"
        raise BadData(f"tfds:{name}", [Fault(f"tfds:{name}", received, expected, skippable=False)])
    rows = [
        _Row(f"tfds:{name} {split} row {number}", split, _decoded(row))
        for split, examples in tfds_splits(builder, evaluated=evaluated).items()
        for number, row in enumerate(examples.as_numpy_iterator())
    ]
    return rows, tfds_remarks(builder, evaluated=evaluated), languages


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    texts: Iterable[tuple[str, Any]] = row.get("translation", row).items()
    return {name: text.decode() for name, text in texts if isinstance(text, bytes)}
