"""Word pieces, BERT's tokens, with operations of TensorFlow and TensorFlow Text only."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from preprocessing.vocabulary import learned_vocabulary
from preprocessing.windows import parts, positions_of_words, require_room, segments, slices, windows
from preprocessing.words import cleaned, words_with_offsets


class WordPieces:
    """Splits texts into BERT's word pieces and encodes them for networks.

    Features are dictionaries with the names that KerasHub's networks expect: `token_ids`,
    `segment_ids` (0, but 1 in a second text) and `padding_mask` (1, but 0 in padding), all int32.

    Reference:
        Wu et al., Google's Neural Machine Translation System, 2016, section 4.1.
        https://arxiv.org/abs/1609.08144
        Devlin et al., BERT, 2019. https://arxiv.org/abs/1810.04805

    Args:
        tokenizer: A `keras_hub.models.BertTokenizer`, kept as the attribute `tokenizer`. The
            attribute `resources` contains it, for an exported signature.

    Example:
        >>> pieces = WordPieces.learned(["one two", "two three"], 30)
        >>> features = pieces.encode(tf.constant([["two"], ["one three"]]), length=8)
        >>> features["token_ids"].shape.as_list(), pieces.id_to_token(pieces.start_id)
        ([2, 8], '[CLS]')
    """

    specials = (2, 3)
    """Number of special tokens of a single text, and of a pair."""

    def __init__(self, tokenizer: Any):
        tokenizer.build(None)
        self.tokenizer = tokenizer
        self.resources = (tokenizer,)
        self.vocabulary_size = tokenizer.vocabulary_size()
        self.pad_id = tokenizer.pad_token_id
        self.unknown_id = tokenizer.token_to_id("[UNK]")
        self.start_id = tokenizer.cls_token_id
        self.end_id = tokenizer.sep_token_id
        self.mask_id = tokenizer.mask_token_id
        # GPT needs three tokens that occur in no text: start, delimiter and extract.
        self.delimiter_id = self.end_id
        self.extract_id = self.mask_id
        self._tokenize = as_graph(tokenizer)

    @classmethod
    def learned(
        cls,
        texts: Iterable[str] | tf.data.Dataset,
        size: int,
        lowercase: bool = True,
        kind: str = "pieces",
    ) -> "WordPieces":
        """Learns the vocabulary from texts; keeps accents if the texts have any.

        Args:
            texts: Strings, or a dataset of strings, each a text or a batch of texts.
            size: Maximum size of the vocabulary, the five special tokens included.
            lowercase: Whether to convert texts to lower case.
            kind: `pieces`, `words` or `auto`, as of `learned_vocabulary`.
        """
        return cls.of(learned_vocabulary(texts, size, lowercase, kind), lowercase)

    @classmethod
    def of(cls, vocabulary: Sequence[str], lowercase: bool = True) -> "WordPieces":
        """Creates a tokenizer from a list of pieces.

        If `lowercase`, accents are removed, too, as in BERT's own code, unless the list has pieces
        with accents.

        Args:
            vocabulary: The pieces, including the five special tokens.
            lowercase: Whether to convert texts to lower case.
        """
        import keras_hub

        strip = lowercase and not any(map(_has_accents, vocabulary))
        tokenizer = keras_hub.models.BertTokenizer(
            vocabulary, lowercase=lowercase, strip_accents=strip
        )
        return cls(tokenizer)

    @classmethod
    def from_preset(cls, preset: str | Path) -> "WordPieces":
        """Reads the vocabulary of a pretrained network.

        Args:
            preset: Name of a KerasHub preset, a folder in KerasHub's or Hugging Face's layout, or
                a folder that `save` wrote.
        """
        import keras_hub

        folder = Path(preset)
        tokenizer = lone_tokenizer(folder)
        if tokenizer is None:
            tokenizer = keras_hub.models.BertTokenizer.from_preset(str(preset))
        if not isinstance(tokenizer, keras_hub.models.BertTokenizer):
            raise ValueError(
                "`preset` must be a BERT preset, with word pieces. "
                f"Received: preset={str(preset)!r}, with {type(tokenizer).__name__}"
            )
        if (folder / "tokenizer_config.json").exists():
            # Hugging Face's layout. By default lower case also removes accents there. KerasHub
            # ignores this, so that words with accents would be unknown to uncased networks.
            config = json.loads((folder / "tokenizer_config.json").read_text())
            strip = config.get("strip_accents")
            tokenizer.strip_accents = tokenizer.lowercase if strip is None else strip
        return cls(tokenizer)

    @staticmethod
    def are_in(folder: str | Path) -> bool:
        """Whether `save` wrote a folder."""
        path = Path(folder) / "tokenizer.json"
        return (
            path.is_file()
            and not path.with_name("config.json").exists()
            and json.loads(path.read_text())["class_name"] == "BertTokenizer"
        )

    def save(self, folder: str | Path) -> None:
        """Saves the tokenizer for `from_preset`; with a saved backbone, it is a KerasHub preset."""
        self.tokenizer.save_to_preset(str(folder))

    def with_unknown(
        self, features: dict[str, tf.Tensor], share: float, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Replaces a random fraction of the tokens with `[UNK]` in training, except special ones.

        So a network learns not to depend on any single word, and to read unknown words.

        Reference:
            Iyyer et al., Deep Unordered Composition Rivals Syntactic Methods for Text
            Classification, 2015, section 4. https://aclanthology.org/P15-1162

        Args:
            features: With `token_ids`, of any shape.
            share: In [0, 1).
            seed: int32 `(2,)`; the same seed replaces the same tokens.
        """
        ids = features["token_ids"]
        special = [self.pad_id, self.start_id, self.end_id, self.mask_id]
        drawn = tf.random.stateless_uniform(tf.shape(ids), seed) < share
        kept = ~drawn | tf.reduce_any(ids[..., None] == special, axis=-1)
        return {**features, "token_ids": tf.where(kept, ids, self.unknown_id)}

    @property
    def vocabulary(self) -> list[str]:
        """The pieces by their number."""
        return self.tokenizer.get_vocabulary()

    def id_to_token(self, token_id: int) -> str:
        """Returns a piece of the vocabulary; `##` marks pieces that continue a word."""
        return self.tokenizer.id_to_token(token_id)

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of texts `(n,)`, int32 `(n, (pieces))`."""
        return self._tokenize(cleaned(texts))

    def pieces(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of each word.

        Args:
            words: Strings `(n, (words))`.

        Returns:
            int32 `(n, (words), (pieces))`. A word of only control characters or accents may have
            no pieces.
        """
        return words.with_values(self.ids(words.values))

    def encode(
        self, texts: tf.Tensor, length: int, fixed: bool = True, both_orders: bool = False
    ) -> dict[str, tf.Tensor]:
        """Encodes texts as `[CLS] text [SEP]`, pairs as `[CLS] first [SEP] second [SEP]`.

        Long texts are truncated; in a pair, the longer text first, as in BERT.

        Args:
            texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
            length: Tokens per row, special tokens included.
            fixed: Whether all rows have `length` tokens, as XLA requires. If False, rows are as
                long as the longest one of the batch.
            both_orders: Whether to encode pairs in both orders.

        Returns:
            Features `(n, length)`, or `(n, 2, length)` in both orders.
        """
        if both_orders and texts.shape[1] != 2:
            raise ValueError(
                "`texts` must be pairs `(n, 2)` to be read in both orders. "
                f"Received: texts of shape {tuple(texts.shape)}"
            )
        if both_orders:
            orders = [self.encode(texts[:, ::step], length, fixed) for step in (1, -1)]
            return {name: tf.stack([order[name] for order in orders], 1) for name in orders[0]}
        cut = segments(texts, self.ids, length, self.specials)
        return self.packed(cut, length if fixed else None)

    def encode_words(
        self, words: tf.RaggedTensor, length: int, stride: int | None = None, fixed: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes the words of sentences for tagging, in as many rows as each sentence needs.

        The tag of a word is predicted at its first piece, in the row with the most context on both
        sides of it. A word without pieces becomes `[UNK]`.

        Args:
            words: Strings `(n, (words))`.
            length: Tokens per row, special tokens included.
            stride: Pieces that consecutive rows of a sentence share. None: half of a row.
            fixed: As in `encode`.

        Returns:
            Features `(rows, length)`, at least one row per sentence, and positions: `example`, the
            index of the sentence of each row, int64 `(rows,)`; and `first_piece`, int64
            `(n, words)`, the index of each word's first piece among the `rows * length` tokens, -1
            after the last word of a sentence. `at_first_pieces` and `labels_at_first_pieces` take
            `first_piece`.
        """
        size = length - 2
        stride = size // 2 if stride is None else stride
        require_room(length, size - stride, stride)
        pieces = self._known(self.ids(words.values))  # (all words, (pieces))
        line = words.with_values(pieces).merge_dims(1, 2)  # (n, (pieces))
        rows = windows(line.row_lengths(), size, size - stride)
        features = self.packed([parts(line, rows)], length if fixed else None)
        width = tf.shape(features["token_ids"], tf.int64)[1]
        return features, positions_of_words(words, pieces.row_lengths(), rows, width)

    def windows(
        self,
        questions: tf.Tensor,
        documents: tf.Tensor,
        length: int,
        stride: int,
        question_length: int = 64,
        fixed: bool = True,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes questions about documents, in as many rows as each document needs.

        A row is `[CLS] question [SEP] part of the document [SEP]`.

        Reference:
            Devlin et al., BERT, 2019, section 4.2 and the code for SQuAD.
            https://arxiv.org/abs/1810.04805

        Args:
            questions: Strings `(n,)`.
            documents: Strings `(n,)`.
            length: Tokens per row, special tokens included.
            stride: Pieces of the document that consecutive rows share; at least 0, and below
                `length - question_length - 3`.
            question_length: Maximum number of pieces of a question; longer ones are truncated.
            fixed: As in `encode`.

        Returns:
            Features `(rows, length)`, at least one row per question, and offsets. The features
            include `answer_mask`: 1 at the tokens of the document and at `[CLS]`, which means
            no answer in this row. The offsets are `example`, the index of the question of each row,
            int64 `(rows,)`; and `begins` and `ends`, int64 `(rows, length)`, the offsets in bytes
            at which the word of each token begins and ends in the document, -1 at other tokens.
        """
        require_room(length, length - 3 - question_length - stride, stride)
        question_ids = self.ids(questions)
        question_lengths = tf.minimum(question_ids.row_lengths(), question_length)
        words, begins, ends = words_with_offsets(documents)
        pieces = self.pieces(words)
        counts = pieces.values.row_lengths()
        line = pieces.merge_dims(1, 2)  # (n, (pieces))
        size = length - 3 - question_lengths
        rows = windows(line.row_lengths(), size, size - stride)
        # Rows of positions in `[CLS] [SEP] questions documents` are joined once for all columns.
        of_questions = question_ids.with_values(2 + tf.range(tf.size(question_ids.values)))
        before = 2 + tf.size(question_ids.values)
        of_documents = line.with_values(before + tf.range(tf.size(line.values)))
        first = slices(of_questions, rows.example, 0, tf.gather(question_lengths, rows.example))
        positions, segment_ids = _combined([first, parts(of_documents, rows)], 0, 1)
        ids = tf.concat([[self.start_id, self.end_id], question_ids.values, line.values], 0)
        width = length if fixed else None
        features = self._padded(tf.gather(ids, positions), segment_ids, width)
        outside = tf.fill([before], tf.constant(-1, tf.int64))

        def by_token(offsets_of_words: tf.RaggedTensor) -> tf.Tensor:
            values = tf.concat([outside, tf.repeat(offsets_of_words.values, counts)], 0)
            return tf.gather(values, positions).to_tensor(-1, shape=(None, width))

        offsets = {"example": rows.example, "begins": by_token(begins), "ends": by_token(ends)}
        inside = tf.cast(offsets["begins"] >= 0, tf.int32)
        features["answer_mask"] = tf.concat([tf.ones_like(inside[:, :1]), inside[:, 1:]], 1)
        return features, offsets

    def _known(self, pieces: tf.RaggedTensor) -> tf.RaggedTensor:
        """Replaces words without pieces with the unknown piece."""
        missing = tf.cast(pieces.row_lengths() == 0, tf.int64)
        unknown = tf.fill([tf.reduce_sum(missing)], self.unknown_id)
        return tf.concat([pieces, tf.RaggedTensor.from_row_lengths(unknown, missing)], 1)

    def packed(self, segments: list, width: int | None) -> dict[str, tf.Tensor]:
        """Joins segments `(rows, (pieces))` with special tokens and pads the rows to a width."""
        token_ids, segment_ids = _combined(segments, self.start_id, self.end_id)
        return self._padded(token_ids, segment_ids, width)

    def _padded(
        self, token_ids: tf.RaggedTensor, segment_ids: tf.RaggedTensor, width: int | None
    ) -> dict[str, tf.Tensor]:
        shape = (None, width)
        return {
            "token_ids": token_ids.to_tensor(self.pad_id, shape=shape),
            "segment_ids": segment_ids.to_tensor(0, shape=shape),
            "padding_mask": tf.ones_like(token_ids).to_tensor(0, shape=shape),
        }


def _combined(segments: list, start_id: int, end_id: int) -> tuple:
    import tensorflow_text

    return tensorflow_text.combine_segments(segments, start_id, end_id)


def lone_tokenizer(folder: str | Path) -> Any:
    """Reads a tokenizer that was saved without a network, which KerasHub cannot read.

    Returns:
        A tokenizer of KerasHub; None if there is no folder with only a tokenizer.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file() or path.with_name("config.json").exists():
        return None
    tokenizer = keras.saving.deserialize_keras_object(json.loads(path.read_text()))
    tokenizer.load_assets(str(path.with_name("assets") / "tokenizer"))
    return tokenizer


def as_graph(tokenizer: Any) -> Any:
    """Returns a graph function from strings `(n,)` to ids `(n, (pieces))`.

    KerasHub's tokenizers use TensorFlow only in a graph; elsewhere they run in plain Python.
    """
    specs = [tf.TensorSpec((None,), tf.string)]
    return tf.function(tokenizer.tokenize, input_signature=specs, autograph=False)


def _has_accents(piece: str) -> bool:
    return any(unicodedata.category(part) == "Mn" for part in unicodedata.normalize("NFD", piece))
