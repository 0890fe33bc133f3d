import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from preprocessing.byte_pairs import PretrainedBytePairs
from preprocessing.byte_tokens import Bytes
from preprocessing.text_pieces import TextPieces
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import TurnTokens
from tests.preprocessing.hard_texts import HARD, TEXTS, decoded
from tests.preprocessing.pretrained_pairs import write_tokenizer

LEARNED = [f"the {color} house\n    number {i} é" for i in range(40) for color in ("red", "blue")]
LEARNED += ["<unk> </s> <0x41> \u2581"] * 40
TURNS = ("user", "assistant", "user", "assistant")
EXACT = [
    *("two  spaces\tand\n\nlines ", "   lead", "\u2581 \u2581x", "\0", "\r\n", "e\u0301 \ufb01"),
    *("</s><unk><0x41>", "\U0001f469\u200d\U0001f469", " ", *TEXTS, *HARD),
]


@pytest.fixture(scope="module", params=["pieces", "characters"])
def learned(request):
    return TextPieces.learned(LEARNED, request.param, 320)


def test_every_text_survives_letter_for_letter(learned):
    got = learned.decode(learned.encode(tf.constant(EXACT))).numpy()
    assert [one.decode() for one in got] == [decoded(text) for text in EXACT]
    # Of two texts that follow each other, too: the second has no space of its own.
    parts = learned.encode(tf.constant(["the red ", "house"])).numpy()
    whole = [[number for row in parts for number in row if number >= 0]]
    assert learned.decode(tf.constant(whole)).numpy().tolist() == [b"the red house"]


def test_pieces_are_those_of_sentencepiece_itself(learned):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=learned.model)
    texts = [*LEARNED[:3], *map(decoded, EXACT)]
    ours = learned.ids(tf.constant(texts)).to_list()
    assert ours == [theirs.encode(text) for text in texts]
    assert learned.vocabulary_size == theirs.get_piece_size() == len(learned.pieces)


def test_the_vocabulary_has_frequent_pieces_or_all_characters():
    pieces = TextPieces.learned(LEARNED, "pieces", 320)
    assert pieces.vocabulary_size == 320
    assert {b" house", b"    "} <= set(pieces.pieces)
    characters = TextPieces.learned(LEARNED, "characters", 260)
    # Nothing is learned from special tokens that are spelled out.
    in_texts = set("".join(LEARNED[:80])) - {"\n"}
    assert {p.decode() for p in characters.pieces[258:]} == in_texts
    sizes = characters.sizes(tf.constant([["é é", ""], ["\n", "\U0001f600"]]))
    assert sizes.numpy().tolist() == [[3, 0], [1, 4]]


def test_only_the_last_tokens_are_kept(learned):
    ids = learned.encode(tf.constant(["the red house", "é", ""])).numpy()
    kept = learned.encode(tf.constant(["the red house", "é", ""]), tf.constant([2, 5, 1])).numpy()
    whole = ids[0][ids[0] >= 0]
    assert kept[0].tolist() == whole[-2:].tolist()
    assert learned.decode(tf.constant(kept)).numpy()[1].decode() == "é"
    assert kept[2].max() == -1


def test_bytes_are_cut_and_a_token_without_bytes_stands_for_nothing(learned):
    ids = learned.encode(tf.constant(["red é"]))
    ended = tf.concat([ids, [[learned.end_id]]], axis=1)
    assert learned.decode(ended).numpy()[0].decode() == "red é"
    assert learned.decode(ids, tf.constant([2])).numpy().tolist() == [b"re"]
    assert learned.decode(ids, tf.constant([5])).numpy()[0].decode() == "red \ufffd"
    assert learned.begin_id == learned.end_id and learned.pieces[learned.end_id] == b""


def test_the_same_in_a_pipeline_in_a_graph_and_from_a_file(learned, tmp_path):
    texts = tf.constant(EXACT)
    expected = learned.encode(texts).numpy()
    graph = tf.function(learned.encode, autograph=False)
    (rows,) = tf.data.Dataset.from_tensor_slices(texts).batch(99).map(learned.encode)
    learned.save(tmp_path / "tokenizer")
    again = tokenizer(tmp_path / "tokenizer", "pieces")
    for found in (graph(texts), rows, again.encode(texts)):
        np.testing.assert_array_equal(found, expected)


def test_texts_of_one_long_line_are_learned_from():
    pieces = TextPieces.learned(["the red house " * 100_000], "pieces", 300)
    assert b" house" in pieces.pieces


def test_a_preset_has_its_own_tokenizer_and_bytes_need_none(tmp_path):
    write_tokenizer(tmp_path)
    assert isinstance(tokenizer(tmp_path), PretrainedBytePairs)
    assert isinstance(tokenizer(), Bytes)
    assert isinstance(tokenizer(None, "pieces", 300, iter(LEARNED)), TextPieces)


def test_turns_of_pieces_have_tokens_for_their_roles(learned):
    tokens = TurnTokens(learned)
    ids, lost = tokens.prompts(
        tf.constant([["the  red", "é", " house"]]), tf.constant([""]), tf.constant([60])
    )
    begins = np.flatnonzero(ids[0] >= learned.vocabulary_size)
    assert ids.numpy()[0, begins].tolist() == [tokens.role_id(r) for r in TURNS]
    assert tokens.decode(ids).numpy()[0].decode() == "the  redé house" and lost.numpy() == [0]
