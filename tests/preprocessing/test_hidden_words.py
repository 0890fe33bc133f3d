import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.hidden_words import WordHider, encode_gaps, hidden_once
from preprocessing.tokens import SPECIAL_TOKENS, WordPieces


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    """Knows a full stop and a question mark, ids 5 and 6, and the words w0 to w159."""
    vocabulary = [*SPECIAL_TOKENS, ".", "?", *(f"w{word}" for word in range(160))]
    return WordPieces(keras_hub.models.BertTokenizer(vocabulary))


def many_rows(pieces, rows=400, length=40) -> dict[str, np.ndarray]:
    """Rows of 30 words and special tokens, the last of which are unknown pieces."""
    random = np.random.default_rng(0)
    ids = np.zeros((rows, length), "int32")
    ids[:, 1:31] = random.integers(7, 167, (rows, 30))
    ids[:, 0], ids[:, 15], ids[:, 31], ids[:, 32:34] = 2, 3, 3, 1
    kinds = np.zeros_like(ids)
    return {"token_ids": ids, "segment_ids": kinds, "padding_mask": (ids > 0).astype("int32")}


def test_words_are_hidden_in_the_published_shares_and_nothing_else(pieces):
    features = many_rows(pieces)
    hidden, true, weights = WordHider(pieces).hide(features, (1, 2))
    ids, positions = features["token_ids"], hidden["mask_positions"].numpy()
    assert positions.shape == true.shape == weights.shape == (400, 6)  # 15 % of 40
    # 15 % of 29 words, rounded.
    np.testing.assert_array_equal(weights, np.tile([1, 1, 1, 1, 0, 0], (400, 1)))
    real = weights.numpy() == 1
    assert not positions[~real].any() and not true.numpy()[~real].any()
    rows = np.arange(400)[:, None]
    assert all(len(set(row)) == 4 for row in positions[:, :4].tolist())
    np.testing.assert_array_equal(true.numpy()[real], ids[rows, positions][real])
    assert (true.numpy()[real] >= 5).all()
    assert set(positions[real].tolist()) == {*range(1, 15), *range(16, 31)}
    now = hidden["token_ids"].numpy()
    unchosen = np.ones_like(ids, bool)
    unchosen[rows, positions] = False
    np.testing.assert_array_equal(now[unchosen], ids[unchosen])
    np.testing.assert_array_equal(now[:, 0], ids[:, 0])
    put = now[rows, positions][real]
    masked, kept = put == pieces.mask_id, put == true.numpy()[real]
    assert masked.mean() == pytest.approx(0.8, abs=0.03)
    assert kept.mean() == pytest.approx(0.1, abs=0.03)
    drawn = put[~masked & ~kept]
    assert len(drawn) / len(put) == pytest.approx(0.1, abs=0.03)
    assert (drawn >= 5).all() and len(set(drawn.tolist())) > 80


def test_a_seed_decides_on_the_hidden_words_in_a_graph_too(pieces):
    hider, features = WordHider(pieces), many_rows(pieces, 5)
    in_graph = tf.function(hider.hide)
    one, true, _ = hider.hide(features, tf.constant([3, 4]))
    same, true_again, _ = in_graph(features, tf.constant([3, 4]))
    other, _, _ = in_graph(features, tf.constant([3, 5]))
    np.testing.assert_array_equal(one["token_ids"], same["token_ids"])
    np.testing.assert_array_equal(true, true_again)
    assert (one["mask_positions"].numpy() != other["mask_positions"].numpy()).any()


def test_rows_of_few_words_hide_at_least_one_and_of_none_nothing(pieces):
    ids = np.array([[2, 9, 3, 0, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0], [2] + [9] * 6 + [3]])
    features = {"token_ids": ids.astype("int32"), "padding_mask": (ids > 0).astype("int32")}
    hidden, true, weights = WordHider(pieces).hide(features, (0, 0))
    assert weights.numpy().tolist() == [[1], [0], [1]]
    assert true.numpy().tolist() == [[9], [0], [9]]
    assert hidden["mask_positions"].numpy()[:2].tolist() == [[1], [0]]
    np.testing.assert_array_equal(hidden["token_ids"][1], ids[1])


def test_the_batches_of_a_data_set_keep_their_shape(pieces):
    rows = tf.data.Dataset.from_tensor_slices(many_rows(pieces, 8)).batch(4, drop_remainder=True)
    hidden = rows.map(lambda features: WordHider(pieces).hide(features, (0, 1)))
    features, true, weights = hidden.element_spec
    assert features["mask_positions"].shape == true.shape == weights.shape == (4, 6)
    assert features["token_ids"].shape == (4, 40)


def test_rows_to_measure_by_hide_the_same_words_each_time(pieces):
    continues = np.arange(8, dtype="int32") % 2
    rows = tf.data.Dataset.from_tensor_slices((many_rows(pieces, 8), continues))
    batches = [hidden_once(pieces, rows, seed).batch(8) for seed in (1, 1, 2)]
    one, same, other = (next(batch.as_numpy_iterator()) for batch in batches)
    tf.nest.map_structure(np.testing.assert_array_equal, one, same)
    features, labels, weights = one
    assert (features["mask_positions"] != other[0]["mask_positions"]).any()
    # Each row has its own.
    assert len({tuple(row) for row in features["mask_positions"].tolist()}) > 4
    np.testing.assert_array_equal(labels["next_sentence"], continues)
    np.testing.assert_array_equal(weights["next_sentence"], np.ones(8))
    assert labels["masked_words"].shape == weights["masked_words"].shape == (8, 6)


def test_gaps_of_texts_are_found_wherever_they_stand(pieces):
    texts = ["[MASK] w1 [MASK]", "w2", "", "w3[MASK]w4 w5 w6 w7 [MASK]"]
    features, is_gap = encode_gaps(pieces, tf.constant(texts), 7)
    # 2 is [CLS], 3 is [SEP], 4 is [MASK], w1 is 8; of the last text the end is cut off.
    assert features["token_ids"].numpy().tolist() == [
        [2, 4, 8, 4, 3, 0, 0],
        [2, 9, 3, 0, 0, 0, 0],
        [2, 3, 0, 0, 0, 0, 0],
        [2, 10, 4, 11, 12, 13, 3],
    ]
    np.testing.assert_array_equal(features["padding_mask"], features["token_ids"].numpy() > 0)
    assert not features["segment_ids"].numpy().any()
    assert features["mask_positions"].numpy().tolist() == [[1, 3], [0, 0], [0, 0], [2, 0]]
    assert is_gap.numpy().tolist() == [[True, True], [False] * 2, [False] * 2, [True, False]]


def test_texts_without_gaps_have_a_place_for_one(pieces):
    features, is_gap = encode_gaps(pieces, tf.constant(["w1", ""]), 7)
    assert features["mask_positions"].numpy().tolist() == [[0], [0]]
    assert not is_gap.numpy().any()
