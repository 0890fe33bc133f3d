"""The tokenizer of a network that writes: of its preset or run, or learned from texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from preprocessing.byte_pair_files import read
from preprocessing.byte_pairs import PretrainedBytePairs
from preprocessing.byte_tokens import Bytes, Tokens
from preprocessing.piece_models import FILE
from preprocessing.text_pieces import TextPieces


def of_run(folder: str | Path) -> Tokens:
    """Reads the tokenizer that the run of a network that writes has saved into a folder."""
    if not any(Path(folder).iterdir()):
        return Bytes()
    if (Path(folder) / FILE).is_file():
        return TextPieces.load(folder)
    return PretrainedBytePairs(read(folder))


def tokenizer(
    folder: str | Path | None = None,
    kind: Literal["bytes", "characters", "pieces"] = "bytes",
    size: int = 0,
    texts: Iterable[str] = (),
) -> Tokens:
    """Returns the tokenizer of a network that writes.

    Args:
        folder: A preset, as in `byte_pair_files.read`, or the folder that the tokenizer of a
            finished run wrote. None: it is new.
        kind: The tokens; with a preset `bytes`, as byte pairs are pairs of these.
        size: Maximum number of pieces that are learned.
        texts: The training texts, which are read only if a vocabulary is learned.
    """
    if kind == "bytes":
        return Bytes() if folder is None else PretrainedBytePairs(read(folder))
    if folder is not None:
        return TextPieces.load(folder)
    return TextPieces.learned(texts, kind, size)
