import keras_hub
import pytest
import tensorflow as tf

from preprocessing.tokens import SPECIAL_TOKENS, WordPieces


def test_a_learned_vocabulary_writes_its_texts_and_is_saved(tmp_path):
    texts = ["Lions and tigers", "lions or bears", "tigers, bears! é"] * 20
    pieces = WordPieces.learned(texts, 60)
    again = WordPieces.learned(tf.data.Dataset.from_tensor_slices(texts).batch(7), 60)
    assert pieces.tokenizer.get_vocabulary() == again.tokenizer.get_vocabulary()
    assert 20 < pieces.vocabulary_size <= 60
    assert [pieces.id_to_token(i) for i in range(5)] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert (pieces.pad_id, pieces.unknown_id, pieces.start_id) == (0, 1, 2)
    assert (pieces.end_id, pieces.mask_id) == (3, 4)
    ids = pieces.ids(tf.constant(texts[:3]))
    assert pieces.unknown_id not in ids.values
    assert pieces.tokenizer.detokenize(ids[1].numpy()) == "lions or bears"
    pieces.save(tmp_path)
    loaded = WordPieces.from_preset(tmp_path)
    assert loaded.ids(tf.constant(texts[:3])).to_list() == ids.to_list()
    keras_hub.models.BertBackbone(60, 1, 1, 8, 8).save_to_preset(tmp_path)
    assert WordPieces.from_preset(tmp_path).ids(tf.constant(texts[:3])).to_list() == ids.to_list()


def test_more_than_a_thousand_letters_are_learned_where_there_is_room():
    texts = ["".join(chr(0x4E00 + number) for number in range(1200)) + " lions lions"] * 3
    pieces = WordPieces.learned(texts, 2500)
    assert pieces.unknown_id not in pieces.ids(tf.constant(texts[:1])).values
    assert "lions" in pieces.tokenizer.vocabulary and "##\u4e00" not in pieces.tokenizer.vocabulary


def test_whole_words_are_those_that_occur_twice_the_most_frequent_first():
    texts = ["Red cat", "red dog", "the cat ran", "cat"]
    words = WordPieces.learned(texts, 30, kind="words")
    assert words.vocabulary == [*SPECIAL_TOKENS, "cat", "red"]
    assert words.ids(tf.constant(["the red cats", "Cat!"])).to_list() == [[1, 6, 1], [5, 1]]
    assert WordPieces.learned(texts, 6, kind="words").vocabulary[5:] == ["cat"]


@pytest.mark.parametrize(
    ("least", "size", "kind"), [(9, 7, "pieces"), (8, 7, "words"), (8, 6, "pieces")]
)
def test_the_texts_decide_between_words_and_pieces(least, size, kind, monkeypatch):
    monkeypatch.setattr("preprocessing.vocabulary.LEAST_WORDS", least)
    texts = ["Red cat", "red dog", "the cat ran", "cat"]
    chosen = WordPieces.learned(texts, size, kind="auto").vocabulary
    assert chosen == WordPieces.learned(texts, size, kind=kind).vocabulary


@pytest.mark.parametrize(("known", "ids"), [([], [5, 6]), (["é"], [5, 1])])
def test_accents_go_with_capitals_unless_the_pieces_have_some(known, ids):
    pieces = WordPieces.of([*SPECIAL_TOKENS, "cafe", "muller", *known])
    assert pieces.ids(tf.constant(["Cafe Müller"])).to_list() == [ids]
    cased = WordPieces.of([*SPECIAL_TOKENS, "cafe", "muller"], lowercase=False)
    assert cased.ids(tf.constant(["cafe müller"])).to_list() == [[5, 1]]


def test_a_small_vocabulary_keeps_letters_and_cased_text_its_capitals():
    texts = ["Abcd abcd bcda " * 20]
    assert WordPieces.learned(texts, 14).vocabulary_size <= 14
    cased = WordPieces.learned(texts, 40, lowercase=False)
    assert any("A" in token for token in cased.tokenizer.get_vocabulary())


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [(["a"], 5, "`size` must be above 5"), (["  "], 30, "`texts` must hold at least one word")],
)
def test_a_vocabulary_of_nothing_is_refused(texts, size, message):
    with pytest.raises(ValueError, match=message):
        WordPieces.learned(texts, size)
