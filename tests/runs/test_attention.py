from types import SimpleNamespace

import numpy as np

from runs import attention

READER = SimpleNamespace(
    first_row=lambda text: ({"numbers": np.array([[len(word) for word in text]])}, text),
    weighted=lambda text, names, weights: list(zip(names, weights.tolist(), strict=True)),
)
"""Reads lists of words; the feature of a word is its length."""


def test_words_are_shaded_by_their_weights():
    (section,) = attention.of_words([["a", "bcd"]], READER, lambda row: row["numbers"] / 4)
    assert section.title == "Attention in test texts"
    assert section.texts == [[("a", 0.25), ("bcd", 0.75)]]


def test_each_text_has_a_map_of_the_weights_between_its_tokens():
    def weights(row):
        return np.eye(row["numbers"].size)

    sections = attention.between_tokens([["a", "bcd"], ["e"]], READER, weights)
    assert [one.title for one in sections] == [f"Attention in test text {n}" for n in (1, 2)]
    image = sections[0].figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), np.eye(2))
