"""Byte pairs of pretrained networks that write, with operations of TensorFlow (Text) only."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text

from preprocessing.byte_pair_files import BYTES, RULES, BytePairFile
from preprocessing.byte_tokens import PADDING, joined, latest, valid_utf8

MOST_BYTES = 512
"""Maximum number of bytes of a word; a longer one is cut into several. All words are merged
together, in as many steps as the longest one needs, so this bounds the time of a text."""
_NEVER = np.iinfo("int32").max


class PretrainedBytePairs:
    """Encodes texts as the byte pairs of a pretrained network.

    A text is split into words by a rule. The bytes of each word are merged, those two neighbours
    first whose merge was learned first. Special tokens are never in a text: one that is spelled out
    there is encoded letter by letter. A byte without a token is left out, as in the package
    tokenizers.

    Reference:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.2.

    Args:
        file: What the files of the tokenizer say, kept as the attribute `file`. The attribute
            `pieces` has the bytes of each token, and `resources` the table of an exported
            signature.
    """

    def __init__(self, file: BytePairFile):
        self.file = file
        vocabulary = file.vocabulary
        size = 1 + max(file.num_embeddings - 1, *vocabulary.values(), *file.specials.values())
        pieces = [b""] * size
        for token, number in vocabulary.items():
            pieces[number] = bytes(map(BYTES.__getitem__, token))
        self.pieces = tuple(pieces)
        self._letters = np.full(256, PADDING, "int32")
        for character, byte in BYTES.items():
            self._letters[byte] = vocabulary.get(character, PADDING)
        keys = [vocabulary[one] * size + vocabulary[other] for one, other in file.merges]
        made = [vocabulary[one + other] for one, other in file.merges]
        order = np.argsort(np.array(keys, "int64"))
        # With a pair that no text has, so that there is one to look up.
        self._keys = np.append(np.array(keys, "int64")[order], np.int64(size) ** 2)
        self._ranks = np.append(order, _NEVER).astype("int32")
        self._made = np.append(np.array(made, "int64")[order], 0).astype("int32")
        self._whole = _table(self._whole_words())
        self.resources = (self._whole,)
        # In a graph it takes a fifth of the time.
        signature = [tf.TensorSpec((None,), tf.string)]
        self._rows = tf.function(self._ragged, input_signature=signature, autograph=False)

    def save(self, folder: str | Path) -> None:
        """Saves the tokenizer for `byte_pair_files.read`."""
        self.file.save(folder)

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens of the network."""
        return len(self.pieces)

    @property
    def end_id(self) -> int:
        return self.file.specials[self.file.end]

    @property
    def begin_id(self) -> int | None:
        return None if self.file.begin is None else self.file.specials[self.file.begin]

    @property
    def meaning(self) -> str:
        """Says which tokens there are, for clients."""
        begins = "" if self.begin_id is None else f"{self.begin_id} before each text, "
        return (
            f"tokens of the preset, 0 to {self.vocabulary_size - 1}, {begins}{self.end_id} at the "
            "end of a text, -1 in padding"
        )

    def sizes(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of texts `(...)`, int32 `(...)`."""
        counts = self._rows(tf.reshape(texts, [-1])).row_lengths()
        return tf.reshape(tf.cast(counts, tf.int32), tf.shape(texts))

    def encode(self, texts: tf.Tensor, most: tf.Tensor | None = None) -> tf.Tensor:
        """Encodes texts `(n,)` as int32 `(n, tokens)`, -1 in padding, as `Bytes.encode`."""
        return latest(self._rows(texts), most)

    def decode(self, token_ids: tf.Tensor, num_bytes: tf.Tensor | None = None) -> tf.Tensor:
        """Decodes int32 `(n, tokens)`, -1 in padding, as valid UTF-8 `(n,)`, as `Bytes.decode`."""
        return joined(self.pieces, token_ids, num_bytes)

    def _ragged(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Encodes texts `(n,)` as int32 `(n, (tokens))`."""
        texts = valid_utf8(texts)
        # The operation that splits stops at a 0. Both are no letters, so the words are the same.
        rows = tf.RaggedTensor.from_tensor(
            tf.strings.regex_replace(texts, r"\x00", "\x01")[:, None]
        )
        for expression in (*RULES[self.file.rule].first, RULES[self.file.rule].words):
            parts = tensorflow_text.regex_split(rows.values, expression, expression)
            rows = _unfolded(parts, rows)
        rows = _unfolded(_cut(rows.values), rows)
        words = rows.values
        whole = self._whole.lookup(words)
        is_whole = whole != PADDING
        known = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(whole, is_whole), tf.cast(is_whole, tf.int32)
        )
        values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)
        sizes = tf.strings.length(words)
        spelled = tf.repeat(~is_whole, sizes)
        owners = tf.repeat(tf.range(tf.size(words)), sizes)
        values, owners = tf.boolean_mask(values, spelled), tf.boolean_mask(owners, spelled)
        merged = self._merged(values, owners, tf.size(words))
        return _unfolded(tf.concat([known, merged], axis=1), rows)

    def _merged(self, values: tf.Tensor, owners: tf.Tensor, count: tf.Tensor) -> tf.RaggedTensor:
        """Merges the bytes of words, int32 `(count, (tokens))`.

        Args:
            values: Bytes of all words `(bytes,)`.
            owners: Index of the word of each byte, ascending, `(bytes,)`.
            count: Number of words.
        """
        ids = tf.gather(self._letters, values)
        owners = tf.boolean_mask(owners, ids >= 0)
        ids = tf.boolean_mask(ids, ids >= 0)

        def merge(ids, owners, _):
            keys = tf.cast(ids[:-1], tf.int64) * self.vocabulary_size + tf.cast(ids[1:], tf.int64)
            found = tf.searchsorted(self._keys, keys)
            joins = (tf.gather(self._keys, found) == keys) & (owners[:-1] == owners[1:])
            ranks = tf.where(joins, tf.gather(self._ranks, found), _NEVER)
            # Each word merges all its pairs of the lowest rank at once.
            best = tf.math.unsorted_segment_min(ranks, owners[:-1], count)
            joins &= ranks == tf.gather(best, owners[:-1])
            # Of three equal tokens in a row, only the first two.
            begins = joins & ~tf.pad(joins[:-1], [[1, 0]])
            runs = tf.cumsum(tf.cast(begins, tf.int32)) - 1
            numbers = tf.range(tf.size(runs))
            first = tf.pad(tf.boolean_mask(numbers, begins), [[0, 1]])
            joins &= (numbers - tf.gather(first, tf.maximum(runs, 0))) % 2 == 0
            made = tf.pad(tf.gather(self._made, found), [[0, 1]])
            ids = tf.where(tf.pad(joins, [[0, 1]]), made, ids)
            kept = ~tf.pad(joins, [[1, 0]])
            return (
                tf.boolean_mask(ids, kept),
                tf.boolean_mask(owners, kept),
                tf.reduce_any(joins),
            )

        ids, owners, _ = tf.while_loop(
            lambda ids, owners, more: more & (tf.size(ids) > 1),
            merge,
            (ids, owners, True),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([])),
        )
        return tf.RaggedTensor.from_value_rowids(ids, owners, tf.cast(count, owners.dtype))

    def _whole_words(self) -> dict[bytes, int]:
        """Returns the words that are one token, with its number, so that few need merging."""
        words = {self.pieces[number]: number for number in self.file.vocabulary.values()}
        # In words with a 1 there may have been a 0.
        words = {word: number for word, number in words.items() if b"\x01" not in word}
        if RULES[self.file.rule].whole_first:
            return words
        sizes = [len(word) for word in words]
        owners = np.repeat(np.arange(len(words), dtype="int32"), sizes)
        values = np.frombuffer(b"".join(words), "uint8").astype("int32")
        merged = self._merged(tf.constant(values), tf.constant(owners), tf.constant(len(words)))
        single = (merged.row_lengths() == 1).numpy()
        return {
            word: number
            for (word, number), is_one in zip(words.items(), single, strict=True)
            if is_one
        }


def _table(words: Mapping[bytes, int]) -> tf.lookup.StaticHashTable:
    keys = tf.constant([*words], tf.string)
    initializer = tf.lookup.KeyValueTensorInitializer(
        keys, tf.constant([*words.values()], tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, PADDING)


def _cut(words: tf.Tensor) -> tf.RaggedTensor:
    """Cuts words `(n,)` into parts `(n, (parts))` of at most `MOST_BYTES`."""
    counts = tf.maximum(-(-tf.strings.length(words) // MOST_BYTES), 1)
    begins = tf.ragged.range(counts) * MOST_BYTES
    whole = tf.repeat(words, counts)
    parts = tf.strings.substr(whole, begins.values, tf.fill(tf.shape(whole), MOST_BYTES))
    return begins.with_values(parts)


def _unfolded(parts: tf.RaggedTensor, rows: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns rows in which each value is replaced by its parts."""
    splits = tf.gather(parts.row_splits, rows.row_splits)
    return tf.RaggedTensor.from_row_splits(parts.values, splits, validate=False)
