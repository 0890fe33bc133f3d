"""Text as numbers, by operations of TensorFlow and TensorFlow Text alone.

So the same functions run in tf.data, eagerly and in an exported graph. Texts are strings in UTF-8;
n is the number of examples, and (words) or (pieces) is a ragged dimension.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import keras
import tensorflow as tf

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Spaces and controls of one, two and three bytes; tab, line feed and carriage return stay.
_CONTROLS = {
    r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]": " ",
    r"[\x{80}-\x{A0}]": "  ",
    r"[\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]": "   ",
}

# Where BERT splits: at spaces and controls, which it drops, and around each punctuation mark and
# each Chinese character, which it keeps as words.
_MARKS = (
    r"!-/:-@\[-`{-~\p{P}\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}"
    r"\x{20000}-\x{2A6DF}\x{2A700}-\x{2CEAF}\x{2F800}-\x{2FA1F}"
)
_KEPT = f"[{_MARKS}]"
_SPLIT = rf"[\s\p{{Cc}}\p{{Cf}}{_MARKS}]"


def cleaned(texts: Any) -> Any:
    """Makes texts valid UTF-8 without control characters; valid texts keep their length in bytes.

    Invalid bytes become U+FFFD as in Python's `decode("utf-8", "replace")`. Control characters but
    tab, line feed and carriage return, and spaces other than the common one, become spaces.

    Args:
        texts: Strings, of any shape, ragged or not.

    Example:
        >>> cleaned(tf.constant(["a\\x00b", b"\\xff"])).numpy().tolist()
        [b'a b', b'\\xef\\xbf\\xbd']
    """
    texts = _mended(texts)
    for pattern, spaces in _CONTROLS.items():
        texts = tf.strings.regex_replace(texts, pattern, spaces)
    return texts


def _mended(texts: Any) -> Any:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def words_with_offsets(texts: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
    """Splits texts into words, punctuation marks and Chinese characters, as BERT does.

    Reference:
        Devlin et al., BERT, 2019, whose code calls it basic tokenization.
        https://arxiv.org/abs/1810.04805

    Args:
        texts: Strings `(n,)`.

    Returns:
        Words `(n, (words))`, cleaned but neither lowered nor without accents, and the offsets in
        bytes of the original text at which each begins and ends, int64 `(n, (words))`.

    Example:
        >>> words, begins, ends = words_with_offsets(tf.constant(["Don't, è!"]))
        >>> words.to_list()[0][:3], begins.to_list(), ends.to_list()
        ([b'Don', b"'", b't'], [[0, 3, 4, 5, 7, 9]], [[3, 4, 5, 6, 9, 10]])
    """
    import tensorflow_text  # Takes a second to load, and images do not need it.

    clean = cleaned(texts)
    words, begins, ends = tensorflow_text.regex_split_with_offsets(clean, _SPLIT, _KEPT)
    offsets = tf.concat([begins.values, ends.values], 0)
    rows = tf.tile(words.value_rowids(), [2])
    # Only mended texts have another length.
    same = tf.reduce_all(tf.strings.length(clean) == tf.strings.length(texts))
    moved = tf.cond(same, lambda: offsets, lambda: _original_offsets(texts, rows, offsets))
    begin, end = tf.split(moved, 2)
    return words, words.with_values(begin), words.with_values(end)


def character_offsets(texts: tf.Tensor, offsets: Any) -> Any:
    """Turns offsets in bytes into offsets in characters (code points).

    Args:
        texts: Strings `(n,)`; an invalid byte counts as the U+FFFD that replaces it.
        offsets: In bytes, int64: `(n, (any))` ragged or `(n, ...)` dense.

    Returns:
        How many characters of the text begin before each offset, in the shape of `offsets`.

    Example:
        >>> character_offsets(tf.constant(["è!"]), tf.constant([[0, 2, 3]])).numpy().tolist()
        [[0, 1, 2]]
    """
    if isinstance(offsets, tf.RaggedTensor):
        found = _characters_before(texts, offsets.value_rowids(), offsets.values)
        return offsets.with_values(found)
    flat = tf.reshape(tf.cast(offsets, tf.int64), [-1])
    count = tf.size(texts, tf.int64)
    rows = tf.repeat(tf.range(count), tf.size(flat, tf.int64) // tf.maximum(count, 1))
    return tf.reshape(_characters_before(texts, rows, flat), tf.shape(offsets))


def _characters_before(texts: tf.Tensor, rows: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Counts the characters of text `rows[i]` that begin before byte `offsets[i]`."""
    starts = _character_starts(texts)
    # All texts laid end to end, a byte apart, so that one search finds every offset.
    bases = tf.cumsum(tf.cast(tf.strings.length(texts), tf.int64) + 1, exclusive=True)
    line = starts.values + tf.gather(bases, starts.value_rowids())
    found = tf.searchsorted(line, offsets + tf.gather(bases, rows), out_type=tf.int64)
    return found - tf.gather(starts.row_starts(), rows)


def _character_starts(texts: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="replace")[1]


def _original_offsets(texts: tf.Tensor, rows: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Moves offsets from mended to original texts, which have the same number of characters."""
    characters = _characters_before(_mended(texts), rows, offsets)
    # With a character more at the end, for offsets at the end.
    starts = _character_starts(tf.strings.join([texts, "."]))
    return tf.gather(starts.values, tf.gather(starts.row_starts(), rows) + characters)


class WordPieces:
    """Splits texts into the pieces of words that BERT knows, in the forms that networks take.

    Dictionaries of features are named as KerasHub's networks want them: `token_ids`, `segment_ids`
    (0, and 1 in a second text) and `padding_mask` (1, and 0 in padding), all int32.

    Reference:
        Wu et al., Google's Neural Machine Translation System, 2016, section 4.1.
        https://arxiv.org/abs/1609.08144
        Devlin et al., BERT, 2019. https://arxiv.org/abs/1810.04805

    Args:
        tokenizer: A `keras_hub.models.BertTokenizer`, kept as the attribute `tokenizer`: name it
            among the resources of an exported signature.

    Example:
        >>> pieces = WordPieces.learned(["one two", "two three"], 30)
        >>> features = pieces.encode(tf.constant([["two"], ["one three"]]), length=8)
        >>> features["token_ids"].shape.as_list(), pieces.id_to_token(pieces.start_id)
        ([2, 8], '[CLS]')
    """

    def __init__(self, tokenizer: Any):
        tokenizer.build(None)
        self.tokenizer = tokenizer
        self.vocabulary_size = tokenizer.vocabulary_size()
        self.pad_id = tokenizer.pad_token_id
        self.unknown_id = tokenizer.token_to_id("[UNK]")
        self.start_id = tokenizer.cls_token_id
        self.end_id = tokenizer.sep_token_id
        self.mask_id = tokenizer.mask_token_id
        # What GPT wants: three tokens that no text holds.
        self.delimiter_id = self.end_id
        self.extract_id = self.mask_id
        self._tokenize = _as_graph(tokenizer)

    @classmethod
    def learned(
        cls, texts: Iterable[str] | tf.data.Dataset, size: int, lowercase: bool = True
    ) -> "WordPieces":
        """Learns the vocabulary from texts; accents stay.

        Args:
            texts: Strings, or a data set of strings, each a text or a batch of texts.
            size: Most pieces in the vocabulary, the five special tokens included.
            lowercase: Whether capitals count as small letters.
        """
        import keras_hub

        if size <= len(SPECIAL_TOKENS):
            raise ValueError(
                f"`size` must be above {len(SPECIAL_TOKENS)}, the number of special tokens. "
                f"Received: size={size}"
            )
        vocabulary = _learned_vocabulary(_count_words(texts, lowercase), size)
        return cls(keras_hub.models.BertTokenizer(vocabulary, lowercase=lowercase))

    @classmethod
    def from_preset(cls, preset: str | Path) -> "WordPieces":
        """Reads the vocabulary of a pretrained network.

        Args:
            preset: Name of a KerasHub preset, a folder in KerasHub's or Hugging Face's layout, or
                a folder that `save` wrote.
        """
        import keras_hub

        folder = Path(preset)
        if (folder / "tokenizer.json").exists() and not (folder / "config.json").exists():
            # Of a tokenizer alone, which KerasHub does not read without a network beside it.
            config = json.loads((folder / "tokenizer.json").read_text())
            tokenizer = keras.saving.deserialize_keras_object(config)
            tokenizer.load_assets(str(folder / "assets" / "tokenizer"))
        else:
            tokenizer = keras_hub.models.BertTokenizer.from_preset(str(preset))
        if not isinstance(tokenizer, keras_hub.models.BertTokenizer):
            raise ValueError(
                "`preset` must be one of a BERT, with word pieces. "
                f"Received: preset={str(preset)!r}, with {type(tokenizer).__name__}"
            )
        if (folder / "tokenizer_config.json").exists():
            # Hugging Face's layout. Unless it says otherwise, accents go where capitals go, which
            # KerasHub overlooks: with it a word with an accent is unknown to uncased networks.
            config = json.loads((folder / "tokenizer_config.json").read_text())
            strip = config.get("strip_accents")
            tokenizer.strip_accents = tokenizer.lowercase if strip is None else strip
        return cls(tokenizer)

    def save(self, folder: str | Path) -> None:
        """Writes what `from_preset` reads; beside a saved backbone, a preset of KerasHub."""
        self.tokenizer.save_to_preset(str(folder))

    def id_to_token(self, token_id: int) -> str:
        """Returns a piece of the vocabulary; `##` marks one that goes on with a word."""
        return self.tokenizer.id_to_token(token_id)

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of texts `(n,)`, int32 `(n, (pieces))`."""
        return self._tokenize(cleaned(texts))

    def pieces(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of each word.

        Args:
            words: Strings `(n, (words))`.

        Returns:
            int32 `(n, (words), (pieces))`; a word of controls or accents alone may have none.
        """
        return words.with_values(self.ids(words.values))

    def encode(self, texts: tf.Tensor, length: int, fixed: bool = True) -> dict[str, tf.Tensor]:
        """Encodes texts as `[CLS] text [SEP]`, pairs as `[CLS] first [SEP] second [SEP]`.

        What is too long is cut at its end, of a pair always the longer text, as in BERT.

        Args:
            texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
            length: Tokens of a row, special tokens included.
            fixed: Whether all rows have `length` tokens, as XLA wants, or as many as the longest
                of this batch has.

        Returns:
            Features `(n, length)`.
        """
        return self._packed(_segments(self, texts, length), length if fixed else None)

    def encode_words(
        self, words: tf.RaggedTensor, length: int, stride: int | None = None, fixed: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes words that are to be tagged, in as many rows as each sentence needs.

        A word is read at its first piece, in the row that has most context on both sides of it.
        A word without pieces becomes `[UNK]`.

        Args:
            words: Strings `(n, (words))`.
            length: Tokens of a row, special tokens included.
            stride: Pieces that neighbouring rows of a sentence share, or None for half a row.
            fixed: As in `encode`.

        Returns:
            Features `(rows, length)`, at least a row a sentence, and the places: `example`, the
            sentence of each row, int64 `(rows,)`; and `first_piece`, int64 `(n, words)`, the index
            of each word among the `rows * length` tokens, -1 beyond a sentence's words.
            `at_first_pieces` and `labels_at_first_pieces` use it.
        """
        size = length - 2
        stride = size // 2 if stride is None else stride
        _require_room(length, size - stride, stride)
        pieces = self._known(self.ids(words.values))  # (all words, (pieces))
        line = words.with_values(pieces).merge_dims(1, 2)  # (n, (pieces))
        rows = _windows(line.row_lengths(), size, size - stride)
        features = self._packed([_parts(line, rows)], length if fixed else None)
        sentence = words.value_rowids()
        begins = tf.cumsum(pieces.row_lengths(), exclusive=True)
        begins -= tf.gather(line.row_starts(), sentence)  # (all words,), in pieces of the sentence
        width = tf.shape(features["token_ids"], tf.int64)[1]
        first_piece = words.with_values(_indices_of_first_pieces(begins, sentence, rows, width))
        return features, {"example": rows.example, "first_piece": first_piece.to_tensor(-1)}

    def windows(
        self,
        questions: tf.Tensor,
        documents: tf.Tensor,
        length: int,
        stride: int,
        question_length: int = 64,
        fixed: bool = True,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes questions on documents, in as many rows as each document needs.

        A row is `[CLS] question [SEP] part of the document [SEP]`.

        Reference:
            Devlin et al., BERT, 2019, section 4.2 and the code for SQuAD.
            https://arxiv.org/abs/1810.04805

        Args:
            questions: Strings `(n,)`.
            documents: Strings `(n,)`.
            length: Tokens of a row, special tokens included.
            stride: Pieces of the document that neighbouring rows share; at least 0, and below
                `length - question_length - 3`.
            question_length: Most pieces of a question; the rest is cut off.
            fixed: As in `encode`.

        Returns:
            Features `(rows, length)`, at least a row a question, with `answer_mask` beside the
            usual ones: 1 at the document's tokens and at `[CLS]`, which stands for no answer in
            this row. And the places: `example`, the question of each row, int64 `(rows,)`;
            `begins` and `ends`, int64 `(rows, length)`, the bytes of the document at which each
            token's word begins and ends, -1 at tokens outside of the document.
        """
        _require_room(length, length - 3 - question_length - stride, stride)
        asked = self.ids(questions)
        asked_lengths = tf.minimum(asked.row_lengths(), question_length)
        words, begins, ends = words_with_offsets(documents)
        pieces = self.pieces(words)
        counts = pieces.values.row_lengths()
        line = pieces.merge_dims(1, 2)  # (n, (pieces))
        size = length - 3 - asked_lengths
        rows = _windows(line.row_lengths(), size, size - stride)
        asked = _slices(asked, rows.example, 0, tf.gather(asked_lengths, rows.example))
        width = length if fixed else None
        features = self._packed([asked, _parts(line, rows)], width)
        outside = asked.with_values(tf.fill(tf.shape(asked.values), tf.constant(-1, tf.int64)))

        def placed(offsets: tf.RaggedTensor) -> tf.Tensor:
            of_pieces = line.with_values(tf.repeat(offsets.values, counts))
            combined, _ = _combined([outside, _parts(of_pieces, rows)], -1, -1)
            return combined.to_tensor(-1, shape=(None, width))

        places = {"example": rows.example, "begins": placed(begins), "ends": placed(ends)}
        inside = tf.cast(places["begins"] >= 0, tf.int32)
        features["answer_mask"] = tf.concat([tf.ones_like(inside[:, :1]), inside[:, 1:]], 1)
        return features, places

    def _known(self, pieces: tf.RaggedTensor) -> tf.RaggedTensor:
        """Gives words without pieces the unknown piece."""
        missing = tf.cast(pieces.row_lengths() == 0, tf.int64)
        unknown = tf.fill([tf.reduce_sum(missing)], self.unknown_id)
        return tf.concat([pieces, tf.RaggedTensor.from_row_lengths(unknown, missing)], 1)

    def _packed(self, segments: list, width: int | None) -> dict[str, tf.Tensor]:
        """Puts the special tokens between segments `(rows, (pieces))` and pads."""
        token_ids, segment_ids = _combined(segments, self.start_id, self.end_id)
        shape = (None, width)
        return {
            "token_ids": token_ids.to_tensor(self.pad_id, shape=shape),
            "segment_ids": segment_ids.to_tensor(0, shape=shape),
            "padding_mask": tf.ones_like(token_ids).to_tensor(0, shape=shape),
        }


class BytePairs:
    """Splits texts into the byte pairs of a pretrained GPT-2, with two tokens for tasks added.

    Reference:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.2.

    Args:
        tokenizer: A `keras_hub.models.GPT2Tokenizer`, kept as the attribute `tokenizer`: name it
            among the resources of an exported signature.
    """

    def __init__(self, tokenizer: Any):
        tokenizer.build(None)
        self.tokenizer = tokenizer
        known = tokenizer.vocabulary_size()
        self.vocabulary_size = known + 2
        self.pad_id = tokenizer.pad_token_id
        self.start_id = tokenizer.start_token_id
        self.delimiter_id = known
        self.extract_id = known + 1
        self._tokenize = _as_graph(tokenizer)

    @classmethod
    def from_preset(cls, preset: str | Path) -> "BytePairs":
        """Reads the vocabulary of a preset of KerasHub, or of a folder in a layout it reads."""
        import keras_hub

        return cls(keras_hub.models.GPT2Tokenizer.from_preset(str(preset)))

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the byte pairs of texts `(n,)`, int32 `(n, (pieces))`."""
        return self._tokenize(cleaned(texts))


def encode_gpt(
    tokens: WordPieces | BytePairs,
    texts: tf.Tensor,
    length: int,
    symmetric: bool = False,
    fixed: bool = True,
) -> dict[str, tf.Tensor]:
    """Encodes texts, or pairs of texts, as GPT-1 takes tasks.

    A text becomes `start text extract`, a pair `start first delimiter second extract`; a pair
    without an order, as of paraphrases, both orders. With `WordPieces` the three tokens are
    `[CLS]`, `[SEP]` and `[MASK]`.

    Reference:
        Radford et al., Improving Language Understanding by Generative Pre-Training, 2018,
        section 3.3 and figure 1.

    Args:
        tokens: What splits the texts.
        texts: Strings `(n, 1)` or, for pairs, `(n, 2)`.
        length: Tokens of a row, special tokens included; of a pair the longer text is cut.
        symmetric: Whether a pair is given in both orders.
        fixed: As in `WordPieces.encode`.

    Returns:
        int32 `token_ids` and `padding_mask` `(n, orders, length)`, and `extract`, the index of the
        extract token, `(n, orders)`; orders is 2 if `symmetric` and else 1.
    """
    segments = _segments(tokens, texts, length)
    if symmetric and len(segments) == 1:
        raise ValueError(
            "`texts` must be pairs `(n, 2)` if `symmetric`. "
            f"Received: texts of shape {tuple(texts.shape)}"
        )
    orders = [segments, segments[::-1]] if symmetric else [segments]
    rows = [_joined(tokens, order) for order in orders]
    shape = (None, length if fixed else None)
    padded = [row.to_tensor(tokens.pad_id, shape=shape) for row in rows]
    masks = [tf.ones_like(row).to_tensor(0, shape=shape) for row in rows]
    return {
        "token_ids": tf.stack(padded, 1),
        "padding_mask": tf.stack(masks, 1),
        "extract": tf.stack([tf.cast(row.row_lengths(), tf.int32) - 1 for row in rows], 1),
    }


def _joined(tokens: WordPieces | BytePairs, segments: list) -> tf.RaggedTensor:
    parts = []
    for number, segment in enumerate(segments):
        mark = tokens.delimiter_id if number else tokens.start_id
        parts += [tf.fill((segment.nrows(), 1), mark), segment]
    return tf.concat([*parts, tf.fill((segments[0].nrows(), 1), tokens.extract_id)], 1)


def lengths(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Counts the tokens of each example, of the longest row where it has several; int32 `(n,)`."""
    counts = tf.reduce_sum(features["padding_mask"], axis=-1)
    return tf.reduce_max(tf.reshape(counts, (tf.shape(counts)[0], -1)), axis=1)


def trimmed(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Cuts off the columns that hold only padding in this batch.

    Example:
        >>> ids = tf.constant([[7, 8, 0, 0], [9, 0, 0, 0]])
        >>> features = {"token_ids": ids, "padding_mask": tf.sign(ids), "extract": ids[:, 0]}
        >>> {name: value.shape.as_list() for name, value in trimmed(features).items()}
        {'token_ids': [2, 2], 'padding_mask': [2, 2], 'extract': [2]}
    """
    longest, rank = tf.reduce_max(lengths(features)), features["padding_mask"].shape.rank
    return {
        name: value[..., :longest] if value.shape.rank == rank else value
        for name, value in features.items()
    }


def at_first_pieces(outputs: tf.Tensor, first_piece: tf.Tensor) -> tf.Tensor:
    """Reads what a network says of each word at the word's first piece.

    Args:
        outputs: `(rows, length, channels)`.
        first_piece: `(n, words)` from `WordPieces.encode_words`.

    Returns:
        `(n, words, channels)`; what stands beyond a sentence's words means nothing.
    """
    flat = tf.reshape(outputs, (-1, tf.shape(outputs)[-1]))
    return tf.gather(flat, tf.maximum(first_piece, 0))


def labels_at_first_pieces(
    labels: tf.Tensor, first_piece: tf.Tensor, token_ids: tf.Tensor
) -> tf.Tensor:
    """Lays the labels of words on the words' first pieces, to train on.

    Args:
        labels: Integers `(n, words)`, padded with anything.
        first_piece: `(n, words)` from `WordPieces.encode_words`.
        token_ids: `(rows, length)` from the same.

    Returns:
        int32 `(rows, length)`: each word's label once, -1 at all other tokens.
    """
    real = first_piece >= 0
    places = tf.boolean_mask(first_piece, real)[:, None]
    labels = tf.cast(tf.boolean_mask(labels, real), tf.int32)
    nothing = tf.fill([tf.size(token_ids)], -1)
    return tf.reshape(tf.tensor_scatter_nd_update(nothing, places, labels), tf.shape(token_ids))


def labels_of_spans(
    places: dict[str, tf.Tensor], begins: tf.Tensor, ends: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the first and the last token of each answer in each row, to train on.

    Args:
        places: From `WordPieces.windows`.
        begins: Byte of the document at which each answer begins, int64 `(n,)`; -1 without answer.
        ends: Byte behind each answer, int64 `(n,)`.

    Returns:
        Two int32 tensors `(rows,)`; 0, which is `[CLS]`, where a row does not hold all of it.
    """
    begin = tf.gather(begins, places["example"])[:, None]
    end = tf.gather(ends, places["example"])[:, None]
    # Outside of the document both are -1, so that neither holds.
    first = (places["begins"] <= begin) & (begin < places["ends"])
    last = (places["begins"] < end) & (end <= places["ends"])
    whole = tf.reduce_any(first, 1) & tf.reduce_any(last, 1)
    final = tf.shape(last)[1] - 1
    firsts = tf.argmax(tf.cast(first, tf.int32), 1, tf.int32)
    lasts = final - tf.argmax(tf.cast(tf.reverse(last, [1]), tf.int32), 1, tf.int32)
    return tf.where(whole, firsts, 0), tf.where(whole, lasts, 0)


@dataclass(frozen=True)
class Characters:
    """Spells words in bytes, as ELMo reads them.

    A word is a begin mark, its bytes, an end mark and padding; a sentence has a word more at its
    beginning and one at its end. Ids are the byte plus 1, then 257 and 258 for the two ends of a
    sentence, 259 and 260 for those of a word, 261 for padding in a word; 0 pads the sentence.

    Reference:
        Peters et al., Deep Contextualized Word Representations, 2018, and its code.
        https://arxiv.org/abs/1802.05365

    Args:
        word_length: Ids of a word; at least 3. What a word has more is cut off.

    Example:
        >>> words = tf.ragged.constant([["hi"], []])
        >>> ids = Characters(word_length=5).encode_words(words)
        >>> ids.shape.as_list(), ids[0, 1].numpy().tolist()
        ([2, 3, 5], [259, 105, 106, 260, 261])
    """

    word_length: int = 50
    vocabulary_size: ClassVar[int] = 262

    def __post_init__(self):
        if self.word_length < 3:
            raise ValueError(
                f"`word_length` must be at least 3. Received: word_length={self.word_length}"
            )

    def encode_words(self, words: tf.RaggedTensor) -> tf.Tensor:
        """Spells sentences.

        Args:
            words: Strings `(n, (words))`.

        Returns:
            int32 `(n, words + 2, word_length)`, with the longest sentence's number of words.
        """
        room = self.word_length - 2
        flat = words.values
        letters = tf.cast(tf.io.decode_raw(flat, tf.uint8, fixed_length=room), tf.int32) + 1
        spelled = words.with_values(self._marked(letters, tf.strings.length(flat)))
        edges = tf.constant([[257], [258]])
        edges = self._marked(tf.pad(edges, [[0, 0], [0, room - 1]]), tf.constant([1, 1]))
        begin, end = (
            tf.tile(edge[None, None], (words.nrows(), 1, 1)) for edge in (edges[0], edges[1])
        )
        return tf.concat([begin, spelled, end], 1).to_tensor()

    def _marked(self, letters: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Puts the marks around letters `(words, word_length - 2)` and pads behind them."""
        places = tf.range(self.word_length)[None]
        end = tf.minimum(lengths, self.word_length - 2)[:, None] + 1
        letters = tf.pad(letters, [[0, 0], [1, 1]])
        marked = tf.where(places == 0, 259, tf.where(places < end, letters, 261))
        return tf.where(places == end, 260, marked)


def _count_words(texts: Iterable[str] | tf.data.Dataset, lowercase: bool) -> Counter[str]:
    """Counts words as KerasHub's tokenizer sees them."""
    import tensorflow_text

    counts: Counter[bytes] = Counter()
    for batch in _batches(texts):
        words = tensorflow_text.regex_split(cleaned(batch), _SPLIT, _KEPT).values
        if lowercase:
            words = tensorflow_text.case_fold_utf8(words)
        counts.update(words.numpy().tolist())
    if not counts:
        raise ValueError("`texts` must hold at least one word. Received none.")
    return Counter({word.decode(): count for word, count in counts.items()})


def _batches(texts: Iterable[str] | tf.data.Dataset) -> Iterator[tf.Tensor]:
    if isinstance(texts, tf.data.Dataset):
        yield from texts.batch(1024) if texts.element_spec.shape.rank == 0 else texts
    else:
        rest = iter(texts)
        while batch := list(islice(rest, 1024)):
            yield tf.constant(batch)


def _learned_vocabulary(counts: Counter[str], size: int) -> list[str]:
    """Learns at most `size` pieces: special tokens, letters, then the commonest."""
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    # A piece must be this common. With as few as the last of the `size` commonest words, these
    # alone would fill the vocabulary; where it need be 16 times that, the surplus is cut below.
    least = max(2, counts.most_common(size)[-1][1])
    pieces = learner.learn(
        counts,
        size,
        [*SPECIAL_TOKENS],
        lower_thresh=least,
        upper_thresh=max(64, 16 * least),
        num_iterations=2,
    )
    # Letters stay, so that hardly a word is unknown.
    surplus = max(0, len(pieces) - size)
    long = [p for p in pieces[len(SPECIAL_TOKENS) :] if len(p.removeprefix("##")) > 1]
    dropped = set(long[max(0, len(long) - surplus) :])
    return [piece for piece in pieces if piece not in dropped][:size]


def _as_graph(tokenizer: Any) -> Any:
    """Makes a function from strings `(n,)` to ids `(n, (pieces))`.

    KerasHub's tokenizers use TensorFlow in a graph only; outside of one they run in plain Python.
    """
    specs = [tf.TensorSpec((None,), tf.string)]
    return tf.function(tokenizer.tokenize, input_signature=specs, autograph=False)


def _segments(tokens: WordPieces | BytePairs, texts: tf.Tensor, length: int) -> list:
    """Splits texts `(n, k)` into k segments of pieces that fit with k + 1 special tokens."""
    if texts.shape.rank != 2 or texts.shape[1] not in (1, 2):
        raise ValueError(
            "`texts` must be of shape (n, 1) or, for pairs, (n, 2). "
            f"Received: texts of shape {texts.shape}"
        )
    count = texts.shape[1]
    if length <= count + 1:
        raise ValueError(
            f"`length` must be above {count + 1}, the number of special tokens. "
            f"Received: length={length}"
        )
    segments = [tokens.ids(texts[:, number]) for number in range(count)]
    room = length - count - 1
    lengths = [segment.row_lengths() for segment in segments]
    if count == 1:
        return [_firsts(segments[0], tf.minimum(lengths[0], room))]
    # Taking one by one from the end of the longer text, from the second if both are as long.
    first = tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))
    return [_firsts(segments[0], first), _firsts(segments[1], tf.minimum(lengths[1], room - first))]


def _slices(line: tf.RaggedTensor, rows: Any, begins: Any, ends: Any) -> tf.RaggedTensor:
    """Takes the pieces from `begins[i]` to `ends[i]` of row `rows[i]` of `(n, (pieces))`.

    As slicing and gathering ragged tensors do, with far fewer operations in the graph.
    """
    starts = tf.gather(line.row_starts(), rows)
    places = tf.ragged.range(starts + begins, starts + ends)
    return places.with_values(tf.gather(line.values, places.values))


def _firsts(line: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    return _slices(line, tf.range(line.nrows()), 0, counts)


def _combined(segments: list, start_id: int, end_id: int) -> tuple:
    import tensorflow_text

    return tensorflow_text.combine_segments(segments, start_id, end_id)


def _require_room(length: int, step: int, stride: int) -> None:
    if length < 3 or stride < 0 or step < 1:
        raise ValueError(
            "`stride` must be at least 0 and leave at least a piece to each row that its neighbour "
            f"has not. Received: stride={stride}, length={length}"
        )


@dataclass(frozen=True)
class _Windows:
    """Which pieces of which example each row holds.

    Args:
        example: `(rows,)`.
        begins: First piece of each row `(rows,)`.
        ends: The piece behind its last `(rows,)`.
        counts: Rows of each example `(n,)`.
        size: Most pieces of a row.
        step: Pieces from one row to the next.
    """

    example: tf.Tensor
    begins: tf.Tensor
    ends: tf.Tensor
    counts: tf.Tensor
    size: tf.Tensor
    step: tf.Tensor


def _windows(lengths: tf.Tensor, size: Any, step: Any) -> _Windows:
    """Cuts examples of so many pieces `(n,)` into rows; `size` and `step` are numbers or `(n,)`."""
    size = tf.broadcast_to(tf.cast(size, tf.int64), tf.shape(lengths))
    step = tf.broadcast_to(tf.cast(step, tf.int64), tf.shape(lengths))
    counts = 1 - tf.minimum(size - lengths, 0) // step  # // rounds down, so this rounds up
    example = tf.repeat(tf.range(tf.size(lengths, tf.int64)), counts)
    begins = tf.ragged.range(counts).values * tf.gather(step, example)
    ends = tf.minimum(begins + tf.gather(size, example), tf.gather(lengths, example))
    return _Windows(example, begins, ends, counts, size, step)


def _parts(line: tf.RaggedTensor, rows: _Windows) -> tf.RaggedTensor:
    return _slices(line, rows.example, rows.begins, rows.ends)


def _indices_of_first_pieces(
    begins: tf.Tensor, sentence: tf.Tensor, rows: _Windows, width: tf.Tensor
) -> tf.Tensor:
    """Finds words `(all words,)` among `rows * width` tokens, in the row that shows most around."""
    size, step, counts, first_row = (
        tf.gather(values, sentence)
        for values in (rows.size, rows.step, rows.counts, tf.cumsum(rows.counts, exclusive=True))
    )
    # The row whose middle is nearest: round((begin - (size - 1) / 2) / step).
    row = (2 * begins - size + 1 + step) // (2 * step)
    row = tf.minimum(tf.maximum(row, 0), counts - 1)
    return (first_row + row) * width + 1 + begins - row * step
