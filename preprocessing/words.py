"""Words of texts and their offsets, with operations of TensorFlow and TensorFlow Text only."""

from typing import Any

import tensorflow as tf

# Spaces and control characters of one, two and three bytes, but not tab, line feed and carriage
# return.
_CONTROLS = {
    r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]": " ",
    r"[\x{80}-\x{A0}]": "  ",
    r"[\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]": "   ",
}

# BERT splits at spaces and control characters, which it drops, and around each punctuation mark and
# each Chinese character, which it keeps as words.
_MARKS = (
    r"!-/:-@\[-`{-~\p{P}\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}"
    r"\x{20000}-\x{2A6DF}\x{2A700}-\x{2CEAF}\x{2F800}-\x{2FA1F}"
)
KEPT = f"[{_MARKS}]"
SPLIT = rf"[\s\p{{Cc}}\p{{Cf}}{_MARKS}]"


def cleaned(texts: Any) -> Any:
    """Makes texts valid UTF-8 without control characters; valid texts keep their length in bytes.

    Invalid bytes become U+FFFD as in Python's `decode("utf-8", "replace")`. Control characters
    become spaces, except tab, line feed and carriage return. So do all other kinds of spaces.

    Args:
        texts: Strings, of any shape, ragged or not.

    Example:
        >>> cleaned(tf.constant(["a\\x00b", b"\\xff"])).numpy().tolist()
        [b'a b', b'\\xef\\xbf\\xbd']
    """
    texts = _valid_utf8(texts)
    for pattern, spaces in _CONTROLS.items():
        texts = tf.strings.regex_replace(texts, pattern, spaces)
    return texts


def _valid_utf8(texts: Any) -> Any:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def words_with_offsets(texts: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
    """Splits texts into words, punctuation marks and Chinese characters, as BERT does.

    Reference:
        Devlin et al., BERT, 2019, whose code calls it basic tokenization.
        https://arxiv.org/abs/1810.04805

    Args:
        texts: Strings `(n,)`.

    Returns:
        Words `(n, (words))`, cleaned, but with their case and accents; and the offsets in bytes at
        which each word begins and ends in the original text, two tensors int64 `(n, (words))`.

    Example:
        >>> words, begins, ends = words_with_offsets(tf.constant(["Don't, è!"]))
        >>> words.to_list()[0][:3], begins.to_list(), ends.to_list()
        ([b'Don', b"'", b't'], [[0, 3, 4, 5, 7, 9]], [[3, 4, 5, 6, 9, 10]])
    """
    return _words_with_offsets(texts)


# This graph is built once, not again in each graph that reads texts.
@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
def _words_with_offsets(texts: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
    import tensorflow_text  # Takes a second to load, and images do not need it.

    clean = cleaned(texts)
    words, begins, ends = tensorflow_text.regex_split_with_offsets(clean, SPLIT, KEPT)
    offsets = tf.concat([begins.values, ends.values], 0)
    rows = tf.tile(words.value_rowids(), [2])
    # Only texts with invalid bytes change their length.
    same = tf.reduce_all(tf.strings.length(clean) == tf.strings.length(texts))
    moved = tf.cond(same, lambda: offsets, lambda: _original_offsets(texts, rows, offsets))
    begin, end = tf.split(moved, 2)
    return words, words.with_values(begin), words.with_values(end)


def character_offsets(texts: tf.Tensor, offsets: Any) -> Any:
    """Converts offsets in bytes to offsets in characters (code points).

    Args:
        texts: Strings `(n,)`; an invalid byte counts as the U+FFFD that replaces it.
        offsets: Offsets in bytes, int64: `(n, (any))` ragged or `(n, ...)` dense.

    Returns:
        Number of characters of the text that begin before each offset, in the shape of `offsets`.

    Example:
        >>> character_offsets(tf.constant(["è!"]), tf.constant([[0, 2, 3]])).numpy().tolist()
        [[0, 1, 2]]
    """
    if isinstance(offsets, tf.RaggedTensor):
        counts = _characters_before(texts, offsets.value_rowids(), offsets.values)
        return offsets.with_values(counts)
    flat = tf.reshape(tf.cast(offsets, tf.int64), [-1])
    count = tf.size(texts, tf.int64)
    rows = tf.repeat(tf.range(count), tf.size(flat, tf.int64) // tf.maximum(count, 1))
    return tf.reshape(_characters_before(texts, rows, flat), tf.shape(offsets))


def _characters_before(texts: tf.Tensor, rows: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Counts the characters of text `rows[i]` that begin before byte `offsets[i]`."""
    starts = _character_starts(texts)
    # All texts are laid end to end, one byte apart, so that a single search finds every offset.
    bases = tf.cumsum(tf.cast(tf.strings.length(texts), tf.int64) + 1, exclusive=True)
    line = starts.values + tf.gather(bases, starts.value_rowids())
    indices = tf.searchsorted(line, offsets + tf.gather(bases, rows), out_type=tf.int64)
    return indices - tf.gather(starts.row_starts(), rows)


def _character_starts(texts: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="replace")[1]


def _original_offsets(texts: tf.Tensor, rows: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Maps offsets in valid UTF-8 to the original texts, which have as many characters."""
    characters = _characters_before(_valid_utf8(texts), rows, offsets)
    # One more character at the end, for offsets at the end.
    starts = _character_starts(tf.strings.join([texts, "."]))
    return tf.gather(starts.values, tf.gather(starts.row_starts(), rows) + characters)
