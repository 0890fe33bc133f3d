import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text

from preprocessing.word_pieces import WordPieces
from preprocessing.words import words_with_offsets
from tests.preprocessing.hard_texts import HARD, TEXTS, vocabulary


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_pieces_of_words_are_those_of_kerashub(lowercase, strip_accents):
    tokenizer = keras_hub.models.BertTokenizer(
        vocabulary(), lowercase=lowercase, strip_accents=strip_accents
    )
    pieces = WordPieces(tokenizer)
    words, _, _ = words_with_offsets(tf.constant(TEXTS))
    answer = pieces.pieces(words)
    assert answer.ragged_rank == 2
    expected = tokenizer(TEXTS)  # Outside of a graph KerasHub does this in plain Python.
    assert answer.merge_dims(1, 2).to_list() == [list(ids) for ids in expected]
    assert pieces.ids(tf.constant(TEXTS)).to_list() == [list(ids) for ids in expected]


@pytest.mark.slow
def test_a_hugging_face_preset_reads_as_tensorflow_text_does(minilm):
    pieces = WordPieces.from_preset(minilm)
    assert pieces.vocabulary_size == 30522
    reference = tensorflow_text.BertTokenizer(
        str(minilm / "vocab.txt"), lower_case=True, token_out_type=tf.int32
    )
    # Unlike it KerasHub splits at the joiner of emojis and puts Korean letters together again.
    texts = [text.replace("안녕하세요", "") for text in TEXTS if "👩" not in text]
    expected = reference.tokenize(tf.constant(texts)).merge_dims(1, 2)
    assert pieces.ids(tf.constant(texts)).to_list() == expected.to_list()
    features = pieces.encode(tf.constant([["Café"]]), 5)
    assert features["token_ids"].numpy().tolist() == [[101, 7668, 102, 0, 0]]


def longest_first(first: list, second: list, room: int) -> tuple[list, list]:
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_pairs_are_packed_and_cut_as_in_bert(tiny):
    pairs = [("a b c d e", "f g"), ("a", "b c d e f g h"), ("a b c d e", "e f g h a"), ("", "")]
    for length in range(4, 14):
        features = tiny.encode(tf.constant(pairs), length)
        for row, texts in enumerate(pairs):
            ids = [tiny.tokenizer(text).tolist() if text else [] for text in texts]
            first, second = longest_first(*ids, length - 3)
            tokens = [2, *first, 3, *second, 3]
            padding = [0] * (length - len(tokens))
            assert features["token_ids"][row].numpy().tolist() == tokens + padding
            kinds = [0] * (len(first) + 2) + [1] * (len(second) + 1)
            assert features["segment_ids"][row].numpy().tolist() == kinds + padding
            mask = [1] * len(tokens) + padding
            assert features["padding_mask"][row].numpy().tolist() == mask
    assert all(feature.dtype == tf.int32 for feature in features.values())


def test_rows_may_be_as_long_as_the_longest_only(tiny):
    texts = tf.constant([["a b"], ["a b c d"]])
    assert tiny.encode(texts, 100, fixed=False)["token_ids"].shape == (2, 6)
    assert tiny.encode(texts, 5, fixed=False)["token_ids"].shape == (2, 5)


def test_no_texts_give_no_rows(tiny):
    assert tiny.encode(tf.zeros((0, 2), tf.string), 9)["token_ids"].shape == (0, 9)
    features, positions = tiny.encode_words(tf.ragged.constant([[], []], tf.string, 1), 9)
    assert features["token_ids"].shape == (2, 9) and positions["first_piece"].shape == (2, 0)
    features, _ = tiny.windows(tf.constant([""]), tf.constant([""]), 9, 0, question_length=4)
    assert features["token_ids"].numpy().tolist() == [[2, 3, 3, 0, 0, 0, 0, 0, 0]]


def test_any_text_is_answered_in_a_data_set_of_any_batch(uncased):
    data = tf.data.Dataset.from_tensor_slices(HARD).batch(3)
    data = data.map(lambda texts: uncased.encode(tf.stack([texts, texts], 1), 32))
    assert data.element_spec["token_ids"].shape.as_list() == [None, 32]
    batches = list(data.as_numpy_iterator())
    assert [len(batch["token_ids"]) for batch in batches] == [3, 3, 1]
    assert all((batch["token_ids"][:, 0] == uncased.start_id).all() for batch in batches)


@pytest.mark.parametrize("texts", [["a"], [["a", "b", "c"]]])
def test_texts_of_another_shape_are_refused(tiny, texts):
    with pytest.raises(ValueError, match="`texts` must be of shape"):
        tiny.encode(tf.constant(texts), 8)


def test_too_little_room_is_refused(tiny):
    with pytest.raises(ValueError, match="`length` must be above 3"):
        tiny.encode(tf.constant([["a", "b"]]), 3)
    with pytest.raises(ValueError, match="`stride` must be at least 0"):
        tiny.encode_words(tf.ragged.constant([["a"]]), 6, stride=4)
    with pytest.raises(ValueError, match="`stride` must be at least 0"):
        tiny.windows(tf.constant(["a"]), tf.constant(["b"]), 16, stride=4, question_length=9)


def test_every_word_is_read_once_at_its_first_piece(tiny):
    sentences = [["a", "bcb", "d"], [], ["abc"] * 40, ["\x00", "\u0301", "e"]]
    words = tf.ragged.constant(sentences)
    for length, stride, fixed in ((10, None, True), (10, 0, True), (5, 1, False), (300, 8, False)):
        features, positions = tiny.encode_words(words, length, stride, fixed)
        first = positions["first_piece"].numpy()
        assert first.shape == (4, 40)
        width = features["token_ids"].shape[1]
        flat = features["token_ids"].numpy().ravel()
        for row, sentence in enumerate(sentences):
            assert (first[row, len(sentence) :] == -1).all()
            for word, place in zip(sentence, first[row], strict=False):
                ids = tiny.ids(tf.constant([word])).to_list()[0] or [tiny.unknown_id]
                assert flat[place] == ids[0]
                assert positions["example"].numpy()[place // width] == row
        assert len({*first[first >= 0]}) == 46
        assert set(positions["example"].numpy()) == {0, 1, 2, 3}


def test_a_word_is_read_in_the_row_that_shows_most_around_it(tiny):
    words = tf.constant([["a", "b", "c", "d", "e", "f", "g", "h"] * 4])
    words = tf.RaggedTensor.from_tensor(words)
    features, positions = tiny.encode_words(words, 10, stride=4)
    assert features["token_ids"].shape == (7, 10)
    for word, place in enumerate(positions["first_piece"].numpy()[0]):
        row, column = divmod(int(place), 10)
        begins = [4 * r for r in range(7) if 4 * r <= word < 4 * r + 8]
        sides = {b: min(word - b, b + 7 - word) for b in begins}
        assert (row, column) == (row, 1 + word - 4 * row)
        edge = word < 4 or word >= 28
        assert edge or sides[4 * row] == max(sides.values())


def test_rows_of_a_long_document_overlap_and_know_their_bytes(tiny):
    questions = tf.constant(["a b", "h"])
    document = "é a b c d, e f g h a b c"
    documents = tf.constant([document, "d e"])
    features, positions = tiny.windows(questions, documents, 11, stride=2, question_length=4)
    ids = features["token_ids"].numpy()
    # [CLS] a b [SEP] leaves 6 of 13 pieces, each row begins 4 later; [CLS] h [SEP] leaves 7.
    assert positions["example"].numpy().tolist() == [0, 0, 0, 1]
    begins, ends = positions["begins"].numpy(), positions["ends"].numpy()
    raw = document.encode()
    seen = []
    for row in range(3):
        assert ids[row, :4].tolist() == [2, 5, 6, 3]
        inside = begins[row] >= 0
        assert (features["segment_ids"].numpy()[row][inside] == 1).all()
        bounds = begins[row][inside], ends[row][inside]
        seen.append([raw[b:e].decode() for b, e in zip(*bounds, strict=True)])
    assert seen[0] == ["é", "a", "b", "c", "d", ","]
    assert seen[1] == ["d", ",", "e", "f", "g", "h"]
    assert seen[2] == ["g", "h", "a", "b", "c"]
    mask = features["answer_mask"].numpy()
    assert (mask[:, 0] == 1).all() and ((begins >= 0)[:, 1:] == mask[:, 1:]).all()
    assert ids[3].tolist() == [2, 12, 3, 8, 9, 3, 0, 0, 0, 0, 0]


def test_a_share_of_the_tokens_becomes_unknown_and_never_a_special_one(tiny):
    texts = tf.constant([["a b c d e f g h " * 40, "a"]] * 20)
    features = tiny.encode(texts, 300, both_orders=True)
    hidden = tiny.with_unknown(features, 0.3, [5, 1])
    before, after = features["token_ids"].numpy(), hidden["token_ids"].numpy()
    changed = before != after
    assert (after[changed] == tiny.unknown_id).all() and (before[changed] > 4).all()
    assert abs(changed[before > 4].mean() - 0.3) < 0.02
    np.testing.assert_array_equal(tiny.with_unknown(features, 0.3, [5, 1])["token_ids"], after)
    assert (tiny.with_unknown(features, 0.3, [5, 2])["token_ids"].numpy() != after).any()
    assert hidden["segment_ids"] is features["segment_ids"]
