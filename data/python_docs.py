"""The built-in sample of text: the language reference that ships with Python, in `pydoc_data`.

Its 79 topics (465 KB in Python 3.11; other versions differ slightly) are laid out as plain text,
with inline code as "code" in double quotes. Taken are whole sentences of prose, each once, though
some topics repeat parts of others. About 2000 of them remain.

Reference: Python Software Foundation, The Python Language Reference, the source of these topics.
https://docs.python.org/3/reference/
"""

import re
from functools import cache
from pydoc_data.topics import topics

CLASSES = ("data model", "expressions", "statements", "types")

_TOPICS = {
    "data model": (
        "attribute-access callable-types class context-managers customization execmodel "
        "id-classes naming numeric-types objects sequence-types specialattrs specialnames types"
    ),
    "expressions": (
        "atom-identifiers atom-literals attribute-references await binary bitwise booleans calls "
        "comparisons conversions exprlists in lambda lists numbers operator-summary power "
        "shifting slicings subscriptions unary yield"
    ),
    "statements": (
        "assert assignment augassign break compound continue del exceptions global import "
        "nonlocal pass raise return"
    ),
    "types": (
        "bltin-code-objects bltin-ellipsis-object bltin-null-object bltin-type-objects "
        "string-methods truth typesfunctions typesmapping typesmethods typesmodules typesseq "
        "typesseq-mutable"
    ),
}
_CLASS_OF = {topic: name for name, listed in _TOPICS.items() for topic in listed.split()}

_HEADING = re.compile(r"(.+)\n([*=~-])\2+")
_LABELS = re.compile(
    r"^(\*|\d+\.|\[\d+\]|Note:|See also:|(Changed|New|Deprecated) (in|since) version [\d.]+:)\s+"
)
_SENTENCE_END = re.compile(r'(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=["A-Z(])')
_NO_PROSE = re.compile(r'::=|>>>|\+--| \| |==|~~|\*\*\*|""')
_EMPHASIS = re.compile(r'(?<![\w"*])\*(\w[\w -]*)\*(?![\w"*])')
_LITERAL = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"\w+|[^\w\s]")

BLANK = "____"
"""What stands in a question where the answer was."""


@cache
def _paragraphs() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Lists topic, section and sentences of every paragraph; repeated sentences once.

    The longest topics come first, because shorter ones are parts of them.
    """
    seen: set[str] = set()
    paragraphs = []
    for topic in sorted(topics, key=lambda topic: (-len(topics[topic]), topic)):
        section = topic
        for paragraph in re.split(r"\n[ \t]*\n", topics[topic]):
            if heading := _HEADING.fullmatch(paragraph.strip()):
                section = heading[1]
            found = dict.fromkeys(_sentences(paragraph))
            sentences = tuple(sentence for sentence in found if sentence not in seen)
            seen.update(sentences)
            if sentences:
                paragraphs.append((topic, section, sentences))
    return tuple(paragraphs)


def _sentences(paragraph: str) -> list[str]:
    """Cuts a paragraph into sentences; code, tables, headings and fragments are none."""
    text = " ".join(re.sub(r"-\n\s*", "-", paragraph).split())
    text = _EMPHASIS.sub(r"\1", _LABELS.sub("", text))
    return [
        sentence
        for sentence in _SENTENCE_END.split(text)
        if re.fullmatch(r'["A-Z].*[.!?]', sentence)
        and len(sentence.split()) > 5
        and sentence.count('"') % 2 == 0
        and not _NO_PROSE.search(sentence)
    ]


def labeled_sentences() -> list[tuple[str, str]]:
    """Lists sentences, each with the part of the reference, of `CLASSES`, that it comes from."""
    return [
        (sentence, _CLASS_OF[topic])
        for topic, _, sentences in _paragraphs()
        for sentence in sentences
        if topic in _CLASS_OF
    ]


def tagged_sentences() -> list[tuple[list[str], list[str]]]:
    """Lists words and tags of sentences: B-CODE and I-CODE on inline code, O elsewhere.

    A word is a run of letters, digits and underscores, or one other mark. The quote marks that
    tell what is code are taken off.
    """
    return [_tagged(sentence) for _, _, sentences in _paragraphs() for sentence in sentences]


def _tagged(sentence: str) -> tuple[list[str], list[str]]:
    words: list[str] = []
    tags: list[str] = []
    # Every other part stood between quote marks.
    for index, part in enumerate(sentence.split('"')):
        found = _WORD.findall(part)
        first, others = ("B-CODE", "I-CODE") if index % 2 else ("O", "O")
        words += found
        tags += [first if place == 0 else others for place in range(len(found))]
    return words, tags


def cloze_questions() -> list[tuple[str, str, str, int]]:
    """Lists questions: a sentence with a blank for one piece of inline code, as in a cloze test.

    The document is the paragraph, sentence included, so the task is to find the sentence again and
    to take from it what the blank stands for. Every document has at least two sentences and two
    different pieces of code, so that there is a choice.

    Reference: Hermann et al., Teaching Machines to Read and Comprehend, 2015, section 2, where the
        cloze is made of a summary. https://arxiv.org/abs/1506.03340

    Returns: of each its document, question, answer, and where in the document that starts, in
        characters.
    """
    questions = []
    for _, _, sentences in _paragraphs():
        document = " ".join(sentences)
        if len(sentences) < 2 or len(set(_LITERAL.findall(document))) < 2:
            continue
        for sentence in sentences:
            begin = document.index(sentence)
            for literal in dict.fromkeys(_LITERAL.findall(sentence)):
                question = sentence.replace(f'"{literal}"', BLANK)
                start = begin + sentence.index(f'"{literal}"') + 1
                questions.append((document, question, literal, start))
    return questions


def documents() -> dict[str, tuple[str, ...]]:
    """Lists the sentences of each section, by its topic and heading."""
    found: dict[str, tuple[str, ...]] = {}
    for topic, section, sentences in _paragraphs():
        name = f"{topic}/{section}"
        found[name] = found.get(name, ()) + sentences
    return found
