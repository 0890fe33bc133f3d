from itertools import product
from pathlib import Path

from tests.apps.every_app import Small

SIZES = {"a big": "ein großes", "a small": "ein kleines", "the new": "das neue"}
COLORS = {"red": "rote", "green": "grüne", "blue": "blaue", "old": "alte"}
THINGS = {"house": "Haus", "book": "Buch", "wheel": "Rad", "picture": "Bild", "dress": "Kleid"}
ODD = ["", "x" * 3000, "nul \0", "\u05e9\u05dc\u05d5\u05dd", "</s> a <unk>", b"\xff red"]


def write(folder: Path) -> str:
    """Writes all combinations of the words above, in two files."""
    rows = [
        [*zip(*parts, strict=True)]
        for parts in product(*(d.items() for d in (SIZES, COLORS, THINGS)))
    ]
    for side, language in enumerate(("en", "de")):
        lines = (" ".join(row[side]) for row in 4 * rows)
        (folder / f"things.{language}").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "things")


SMALL = Small(
    write=write,
    settings={
        "source_language": "en",
        "epochs": 3,
        "batch_size": 8,
        "length": 12,
        "max_tokens": 8,
        "vocabulary_size": 330,
        "model": "seq2seq",
        "units": 32,
        "learning_rate": 0.02,
    },
    beats=("chrf", 40.0),
    sections=[
        "BLEU by length of the text",
        "Translations of test texts",
        "Worst translations",
        *(f"Attention in test text {number}" for number in range(1, 6)),
    ],
    odd=[{"text": text} for text in ODD],
    bad={
        "max_tokens": 0,
        "cell": "no_such_cell",
        "attention": "no_such_attention",
        "luong_score": "no_such_score",
        "attention_layer": -1,
        "attention_head": -1,
    },
    free=["source_language", "target_language", "norm_first"],
    ignored=[
        {"model": "transformer_tiny", "cell": "lstm"},
        {"model": "transformer_tiny", "units": 128},
        {"model": "transformer_tiny", "attention": "luong"},
        {"model": "transformer_tiny", "luong_score": "dot"},
        {"norm_first": True},
        {"luong_score": "dot"},
        {"model": "transformer_tiny", "attention_layer": 4},
        {"model": "transformer_small", "attention_head": 4},
        {"attention_head": 1},
        {"preset": "no_run"},
    ],
    files=["tokenizer"],
)
