import numpy as np
import pytest
import tensorflow as tf

from preprocessing.answers import AnswerReader, PromptReader, answer_reader, turns_of
from preprocessing.byte_tokens import Bytes
from preprocessing.turns import TurnTokens
from preprocessing.word_pieces import WordPieces

END, USER, ASSISTANT = 256, 257, 258
TALK = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: Who?"


def rows(reader, prompts, answers, fixed=False):
    features = reader.encode(tf.constant(prompts), tf.constant(answers), fixed)
    ids, mask = (features[name].numpy() for name in ("token_ids", "padding_mask"))
    return [row[:count].tolist() for row, count in zip(ids, mask.sum(1), strict=True)]


@pytest.fixture(scope="module")
def of_bytes() -> AnswerReader:
    return AnswerReader(TurnTokens(Bytes()), 24)


@pytest.fixture(scope="module")
def of_pieces() -> AnswerReader:
    letters = "abcdefghijklmnopqrstuvwxyz?:"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "human", "assistant"]
    return AnswerReader(WordPieces.of(vocabulary), 12)


def names(reader, prompts, answers):
    return [" ".join(map(reader.tokens.id_to_token, row)) for row in rows(reader, prompts, answers)]


def test_a_lone_turn_is_that_of_a_transcript(of_bytes, of_pieces):
    alone, transcript = ["Who?"], ["\n\nHuman: Who? "]
    for reader in (of_bytes, of_pieces):
        assert rows(reader, alone, ["Me"]) == rows(reader, transcript, ["Me"])


def test_turns_have_the_tokens_of_their_roles(of_bytes):
    expected = [
        *(END, USER, *b"Hi", END, ASSISTANT, *b"Ho", END, USER, *b"Who?", END),
        *(ASSISTANT, *b"Me", END),
    ]
    assert rows(of_bytes, [TALK], [" Me "]) == [expected]


def test_word_pieces_read_the_transcript_and_the_answer(of_pieces):
    row = "[CLS] human : a assistant : b human : c [SEP] d [SEP]"
    talk = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"
    assert names(AnswerReader(of_pieces.tokens, 13), [talk], ["d"]) == [row]


def test_a_long_row_loses_its_oldest_turns_and_never_the_end_of_the_answer(of_bytes):
    reader = AnswerReader(of_bytes.tokens, 20)
    whole, cut, alone = rows(reader, [TALK] * 3, ["answer", "x" * 12, "y" * 30 + "z"])
    turns = [ASSISTANT, *b"Ho", END, USER, *b"Who?", END]
    assert whole == [END, *turns, ASSISTANT, *b"answer", END]
    assert cut == [END, USER, *b"ho?", END, ASSISTANT, *b"x" * 12, END]
    assert alone == [END, USER, END, ASSISTANT, *b"y" * 14, *b"z", END]


def test_a_long_prompt_loses_its_oldest_turns_and_is_counted_whole(of_bytes):
    reader, prompts = PromptReader(of_bytes.tokens, 9), tf.constant([TALK, "Hi"])
    last, hi = (tf.constant([USER, *text, END, ASSISTANT]) for text in (b"Who?", b"Hi"))
    ids = reader.encode(prompts)
    np.testing.assert_array_equal(ids[0, :7], last)
    np.testing.assert_array_equal(ids[1, :5], hi)
    np.testing.assert_array_equal(reader.sizes(prompts), [4 + 4 + 7, 5])


def test_word_pieces_lose_the_oldest(of_pieces):
    talk = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"
    row = "[CLS] a assistant : b human : c [SEP] d e [SEP]"
    assert names(of_pieces, [talk], ["d e"]) == [row]
    assert names(of_pieces, ["a"], ["b " * 20 + "c"]) == [f"[CLS] [SEP] {'b ' * 8}c [SEP]"]


def test_padding_to_the_full_length_and_batches_change_no_row(of_bytes, of_pieces):
    prompts, answers = [TALK, "", "a"], ["b", "", "c" * 40]
    for reader in (of_bytes, of_pieces):
        alone = [rows(reader, [p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
        assert rows(reader, prompts, answers) == alone == rows(reader, prompts, answers, True)
        fixed = reader.encode(tf.constant(prompts), tf.constant(answers), True)
        assert {tuple(value.shape) for value in fixed.values()} == {(3, reader.length)}


def test_several_answers_of_a_prompt_are_encoded_in_tf_data_as_eagerly(of_bytes, of_pieces):
    prompts, answers = ["Hi", TALK], [["a", "b", ""], ["c", "d", "e"]]
    for reader in (of_bytes, of_pieces):
        data = tf.data.Dataset.from_tensor_slices((prompts, answers)).batch(2)
        labeled = tf.autograph.experimental.do_not_convert(reader.labeled)
        ((features, there),) = data.map(labeled)
        assert there.numpy().tolist() == [[1, 1, 0], [1, 1, 1]]
        expected = reader.encode(tf.repeat(prompts, 3), tf.reshape(answers, [-1]), True)
        for name, value in features.items():
            assert value.shape == (2, 3, reader.length)
            np.testing.assert_array_equal(tf.reshape(value, (6, -1)), expected[name])


def test_odd_texts_are_turns():
    odd = ["", "\n\nHuman:", "a\n\nAssistant:\n\nHuman: b", b"\xff\n\nAssistant: \xfe", " \n"]
    texts, roles = turns_of(tf.constant(odd))
    assert texts.to_list() == [[], [], [b"a\n\nb"], [b"\xff", b"\xfe"], []]
    assert roles.to_list() == [[], [], [0], [0, 1], []]
    assert turns_of(tf.constant([], tf.string))[0].shape[0] == 0


def test_transcripts_are_read_as_the_loader_writes_them(of_bytes, of_pieces):
    talk = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"
    same = [talk, talk.strip(), f" {talk}\n\nAssistant:", talk.replace(": ", ":  ")]
    for reader in (of_bytes, of_pieces):
        expected = rows(reader, [talk], ["d"])
        assert rows(reader, same, ["d"] * 4) == expected * 4
    joined = ["\n\nHuman: a\n\nHuman: c", "\n\nHuman: a\n\nAssistant:\n\nHuman: c"]
    assert rows(of_bytes, joined, ["d"] * 2) == rows(of_bytes, ["a\n\nc"], ["d"]) * 2


def test_vocabularies_are_learned_or_read(tmp_path):
    texts = ["one two three"] * 20
    for family in ("bert", "gpt"):
        settings = {"length": 16, "vocabulary_size": 300}
        learned = answer_reader(family, texts, preset="none", **settings)
        tokens = getattr(learned.tokens, "tokens", learned.tokens)
        tokens.save(tmp_path / family)
        again = answer_reader(family, [], preset=str(tmp_path / family), **settings)
        assert rows(learned, ["one"], ["two"]) == rows(again, ["one"], ["two"])
