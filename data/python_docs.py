"""The built-in sample of text: the language reference that ships with Python, in `pydoc_data`.

Its 79 topics (465 KB in Python 3.11; other versions differ slightly) are plain text, with inline
code in double quotes. The sample consists of whole sentences of prose, about 2000 of them. Some
topics repeat parts of others, but each sentence is taken only once.

Reference: Python Software Foundation, The Python Language Reference, the source of these topics.
https://docs.python.org/3/reference/
"""

import re
from functools import cache
from pydoc_data.topics import topics
from random import Random

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
"""Replaces the answer in a question."""
MOST_ANSWERS = 4
"""Maximum number of answers in a dialogue."""


@cache
def _paragraphs() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Lists the topic, section and sentences of every paragraph, each sentence only once.

    The longest topics come first, because shorter ones repeat parts of them.
    """
    seen: set[str] = set()
    paragraphs = []
    for topic in sorted(topics, key=lambda topic: (-len(topics[topic]), topic)):
        section = topic
        for paragraph in re.split(r"\n[ \t]*\n", topics[topic]):
            if heading := _HEADING.fullmatch(paragraph.strip()):
                section = heading[1]
            different = dict.fromkeys(_sentences(paragraph))
            sentences = tuple(sentence for sentence in different if sentence not in seen)
            seen.update(sentences)
            if sentences:
                paragraphs.append((topic, section, sentences))
    return tuple(paragraphs)


def _sentences(paragraph: str) -> list[str]:
    """Cuts a paragraph into sentences; leaves out code, tables, headings and fragments."""
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
    """Lists sentences, each with the part of the reference (one of `CLASSES`) it comes from."""
    return [
        (sentence, _CLASS_OF[topic])
        for topic, _, sentences in _paragraphs()
        for sentence in sentences
        if topic in _CLASS_OF
    ]


def tagged_sentences() -> list[tuple[list[str], list[str]]]:
    """Lists the words and tags of sentences: B-CODE and I-CODE on inline code, O elsewhere.

    A word is a run of letters, digits and underscores, or a single other character. The quotes that
    mark code are removed.
    """
    return [_tagged(sentence) for _, _, sentences in _paragraphs() for sentence in sentences]


def _tagged(sentence: str) -> tuple[list[str], list[str]]:
    words: list[str] = []
    tags: list[str] = []
    # Every other part was between quotes.
    for index, part in enumerate(sentence.split('"')):
        in_part = _WORD.findall(part)
        first, others = ("B-CODE", "I-CODE") if index % 2 else ("O", "O")
        words += in_part
        tags += [others if position else first for position in range(len(in_part))]
    return words, tags


def cloze_questions() -> list[tuple[str, str, str, int]]:
    """Lists cloze questions: sentences with a blank in place of some inline code.

    The document is the paragraph, sentence included. The task is to find the sentence in it, and
    the code that the blank replaces. Every document has at least two sentences and two different
    pieces of code, so that there is a choice.

    Reference: Hermann et al., Teaching Machines to Read and Comprehend, 2015, section 2, which
        makes the cloze from a summary. https://arxiv.org/abs/1506.03340

    Returns:
        For each question, the document, the question, the answer, and the start of the answer in
        the document, in characters.
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
    """Returns the sentences of each section, by its topic and heading."""
    sections: dict[str, tuple[str, ...]] = {}
    for topic, section, sentences in _paragraphs():
        name = f"{topic}/{section}"
        sections[name] = sections.get(name, ()) + sentences
    return sections


def dialogues() -> list[tuple[str, ...]]:
    """Lists dialogues about the sections of the reference, one for each section.

    The user asks what the reference says about the section, and then for more. The assistant
    answers with the first sentences of the section, one each time, at most `MOST_ANSWERS`.
    """
    listed = []
    for name, sentences in documents().items():
        subject = name.partition("/")[2].replace("*", "")
        turns = []
        for number, sentence in enumerate(sentences[:MOST_ANSWERS]):
            question = f"What does the reference say about {subject}?"
            turns += [question if number == 0 else "Tell me more.", sentence]
        listed.append(tuple(turns))
    return listed


def preferences() -> list[tuple[tuple[str, ...], str, str]]:
    """Lists prompts with two answers: a sentence of the reference, and its words shuffled.

    The prompts are the turns before each answer in `dialogues`. Both answers are equally long, so
    that their length says nothing.
    """
    random, listed = Random(0), []
    for turns in dialogues():
        for number in range(1, len(turns), 2):
            words = turns[number].split()
            shuffled = random.sample(words, len(words))
            listed.append((turns[:number], turns[number], " ".join(shuffled)))
    return listed
