"""Vocabularies of pieces that are learned from texts, with operations of TensorFlow Text."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf

FILE = "sentencepiece.model"
SPACE = "\u2581"
"""Stands for a space in pieces."""
MOST_LINES = 1_000_000
"""Number of lines, the first, that a vocabulary is learned from."""
MOST_CHARACTERS = 100_000
"""Maximum number of characters of a line; of a longer one the parts are learned from."""


@dataclass(frozen=True)
class PieceModel:
    """Splits texts into pieces; characters that are in no piece are spelled in bytes.

    Special tokens that are spelled out in a text, such as `</s>`, remain text.

    Reference:
        Sennrich, Haddow & Birch, Neural Machine Translation of Rare Words with Subword Units, 2016,
        section 3.2. https://arxiv.org/abs/1508.07909
        Kudo & Richardson, SentencePiece, 2018. https://arxiv.org/abs/1808.06226

    Args:
        model: Content of a file that SentencePiece wrote, with the end token 1.
    """

    end_id: ClassVar[int] = 1
    model: bytes

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote."""
        return cls((Path(folder) / FILE).read_bytes())

    def save(self, folder: str | Path) -> None:
        """Writes the vocabulary into a new folder, as a file of SentencePiece."""
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / FILE).write_bytes(self.model)

    @property
    def tokenizer(self) -> Any:
        """The operations of TensorFlow Text; the same object as long as it works."""
        import tensorflow_text

        kept = self.__dict__
        with tf.init_scope():  # The first to need it may be a graph.
            try:
                kept["_tokenizer"].vocab_size()
            # Keras' clear_session destroys what the operations use.
            except (KeyError, tf.errors.NotFoundError):
                made = tensorflow_text.SentencepieceTokenizer(self.model, out_type=tf.int32)
                kept["_tokenizer"] = made
        return kept["_tokenizer"]

    @property
    def resources(self) -> tuple[Any, ...]:
        """What an exported signature must hold."""
        return (self.tokenizer,)

    @cached_property
    def vocabulary_size(self) -> int:
        """Number of pieces, the special tokens included."""
        return int(self.tokenizer.vocab_size())

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the pieces of texts `(n,)`, int32 `(n, (pieces))`, without an end token."""
        return self.tokenizer.tokenize(texts)

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of each piece in a text; the special tokens have none."""
        with tf.init_scope():  # The first to need them may be a graph.
            names = self.tokenizer.id_to_string(tf.range(self.vocabulary_size)).numpy()
        return tuple(_bytes_of(name.decode()) for name in names)


def trained(texts: Iterable[str], size: int, **options: Any) -> bytes:
    """Learns a vocabulary by joining the most frequent pairs of pieces again and again.

    Args:
        texts: At least one that is not empty.
        size: Maximum number of pieces: two special tokens, 256 bytes, letters, longer pieces.
        options: Further options of SentencePiece's trainer.

    Returns:
        The content of a file of SentencePiece.
    """
    import sentencepiece

    written = io.BytesIO()
    parts = f"[^\n]{{1,{MOST_CHARACTERS}}}"  # A line feed would end a text.
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(part for text in texts for part in re.findall(parts, text)),
            model_writer=written,
            vocab_size=size,
            hard_vocab_limit=False,
            byte_fallback=True,
            input_sentence_size=MOST_LINES,
            shuffle_input_sentence=False,
            max_sentence_length=2**20,
            unk_id=0,
            eos_id=PieceModel.end_id,
            bos_id=-1,
            pad_id=-1,
            minloglevel=2,
            **{"model_type": "bpe", **options},
        )
    except RuntimeError as error:
        least = re.search(r"required_chars.*?(\d+) vs (\d+)|>= (\d+)", str(error))
        known = f"at least {max(int(n) for n in least.groups() if n)}" if least else "larger"
        raise ValueError(
            f"`vocabulary_size` must be {known} for the letters of these texts. "
            f"Received: vocabulary_size={size}"
        ) from error
    return written.getvalue()


def _bytes_of(piece: str) -> bytes:
    """Returns what a piece of SentencePiece stands for.

    Example:
        >>> [_bytes_of(piece) for piece in ("\u2581the", "<0xC3>", "</s>")]
        [b' the', b'\xc3', b'']
    """
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return b"" if piece in ("<unk>", "</s>") else piece.replace(SPACE, " ").encode()
