import numpy as np
import pytest
import tensorflow as tf

from preprocessing.byte_tokens import Bytes
from preprocessing.turns import TurnTokens, labeled, labeled_pairs
from tests.preprocessing.hard_texts import HARD, decoded

TOKENS = TurnTokens(Bytes())
SIGNATURE = [
    tf.TensorSpec((None, None), tf.string),
    tf.TensorSpec((None,), tf.string),
    tf.TensorSpec((None,), tf.int32),
]
IN_A_GRAPH = tf.function(TOKENS.prompts, input_signature=SIGNATURE, autograph=False)
END, USER, ASSISTANT, SYSTEM = 256, 257, 258, 259


def said(role: int, text: str) -> list[int]:
    return [role, *text.encode(), END]


def prompt(turns, system="", room=100) -> tuple[list[int], int]:
    """The tokens of a single prompt, and how many it lost."""
    ids, dropped = IN_A_GRAPH(
        tf.constant([turns], tf.string), tf.constant([system]), tf.constant([room])
    )
    return ids.numpy()[0].tolist(), int(dropped[0])


def test_the_last_turn_is_the_users_and_the_speakers_alternate():
    turns = said(USER, "a") + said(ASSISTANT, "bc") + said(USER, "d")
    assert prompt(["a", "bc", "d"]) == ([*turns, ASSISTANT], 0)
    assert prompt(["bc", "d"]) == ([*turns[3:], ASSISTANT], 0)
    assert prompt(["d"], "Be kind.") == ([*said(SYSTEM, "Be kind."), *turns[-3:], ASSISTANT], 0)


def test_empty_turns_are_unused_wherever_they_are():
    expected = prompt(["a", "b"])
    for turns in (["a", "b", ""], ["", "a", "b"], ["a", "", "b", ""]):
        assert prompt(turns) == expected
    for turns in ([], [""], ["", ""]):
        assert prompt(turns) == ([USER, END, ASSISTANT], 0)


def test_the_oldest_turns_are_dropped_whole():
    turns, last = ["1234", "567", "89"], [*said(USER, "89"), ASSISTANT]
    assert prompt(turns, room=16) == (said(USER, "1234") + said(ASSISTANT, "567") + last, 0)
    for room in (15, 10):
        assert prompt(turns, room=room) == (said(ASSISTANT, "567") + last, 6)
    for room in (9, 5):
        assert prompt(turns, room=room) == (last, 11)


def test_a_last_turn_that_is_too_long_loses_its_beginning():
    assert prompt(["123456789"], room=6) == ([*said(USER, "789"), ASSISTANT], 6)
    assert prompt(["a", "123456789"], room=6) == ([*said(USER, "789"), ASSISTANT], 3 + 6)
    for room in (3, 2, 1, 0):
        assert prompt(["123456789"], room=room) == ([USER, END, ASSISTANT], 9)


def test_a_system_text_longer_than_half_of_the_room_loses_its_end():
    ids, dropped = prompt(["ab", "cd"], "123456789", room=14)
    assert ids == [*said(SYSTEM, "12345"), *said(USER, "cd"), ASSISTANT] and dropped == 4 + 4
    assert prompt(["ab"], "1234", room=4) == ([USER, *said(USER, "b")[1:], ASSISTANT], 4 + 1)


def test_special_tokens_that_are_spelled_out_remain_texts():
    for text in ("<|im_end|>", "<assistant>", "[END]", "\0", "258"):
        assert prompt([text]) == ([*said(USER, text), ASSISTANT], 0)


def test_a_prompt_does_not_depend_on_its_batch():
    random = np.random.default_rng(0)
    rows = [["x" * size for size in random.integers(0, 9, 5)] for _ in range(20)]
    systems = ["s" * size for size in random.integers(0, 6, 20)]
    rooms = random.integers(1, 40, 20)
    ids, dropped = TOKENS.prompts(
        tf.constant(rows), tf.constant(systems), tf.constant(rooms, tf.int32)
    )
    alone = [prompt(*one) for one in zip(rows, systems, rooms.tolist(), strict=True)]
    assert [row[row >= 0].tolist() for row in ids.numpy()] == [one for one, _ in alone]
    assert dropped.numpy().tolist() == [lost for _, lost in alone]
    fitting = [max(int(room), 3) for room in rooms]
    assert all(len(one) <= room for (one, _), room in zip(alone, fitting, strict=True))


def test_only_what_fits_of_the_turns_is_encoded():
    encoded = []

    class Watched(Bytes):
        def encode(self, texts, most=None):
            encoded.append(super().encode(texts, most))
            return encoded[-1]

    turns = ["a", "b" * 100_000] * 500 + ["c", "d" * 5000]
    arguments = (tf.constant([turns, ["é"] * 1002]), tf.constant(["", ""]), tf.constant([30, 29]))
    ids, lost = TurnTokens(Watched()).prompts(*arguments)
    assert sum(part.numpy().size for part in encoded) < 30 * 30
    assert ids[0].numpy().tolist() == [ASSISTANT - 1, *b"d" * 27, END, ASSISTANT]
    whole = 500 * (3 + 100_002) + 3 + 5002
    assert lost.numpy().tolist() == [whole - 29, (1002 - 7) * 4]


def test_datasets_and_exported_graphs_make_the_same_prompts(tmp_path):
    turns = tf.constant([["", "a", "bc"], *(["", "", text] for text in HARD)])
    system, room = tf.fill((len(turns),), "Be kind."), tf.fill((len(turns),), 50)
    expected = [part.numpy() for part in TOKENS.prompts(turns, system, room)]
    (batch,) = tf.data.Dataset.from_tensors((turns, system, room)).map(TOKENS.prompts)
    module = tf.Module()
    module.prompts = tf.function(
        lambda turns, system, room: dict(
            zip(("ids", "dropped"), TOKENS.prompts(turns, system, room), strict=True)
        ),
        input_signature=SIGNATURE,
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path)).prompts(turns, system, room)
    for got in (batch, (loaded["ids"], loaded["dropped"])):
        for part, wanted in zip(got, expected, strict=True):
            np.testing.assert_array_equal(part, wanted)


def test_no_rows_give_no_prompts():
    none = tf.constant([], tf.string)
    ids, dropped = TOKENS.prompts(tf.reshape(none, (0, 3)), none, tf.constant([], tf.int32))
    assert ids.shape[0] == 0 and dropped.shape == (0,)


def test_replies_survive_letter_for_letter_without_roles():
    ids = TOKENS.tokens.encode(tf.constant(HARD))
    assert [one.decode() for one in TOKENS.decode(ids).numpy()] == [decoded(one) for one in HARD]
    strange = tf.constant([[104, USER, 105, SYSTEM, -1]])
    assert TOKENS.decode(strange).numpy().tolist() == [b"hi"]


def test_only_targets_have_a_weight_and_padding_is_removed():
    rows = tf.constant([[9, 1, 2, -1, -1], [9, 3, 4, 5, -1]])
    targets = tf.constant([[0, 0, 1, 0, 0], [0, 1, 0, 1, 0]]) > 0
    texts = tf.constant([[1, 1, 1, 0, 0], [1, 1, 2, 2, 0]])
    features, labels, weights = labeled(rows, targets, texts)
    assert features["token_ids"].numpy().tolist() == [[9, 1, 2], [9, 3, 4]]
    assert features["padding_mask"].numpy().tolist() == [[1, 1, 1], [1, 1, 2]]
    assert labels["logits"].numpy().tolist() == [[1, 2, 0], [3, 4, 5]]
    assert weights["logits"].numpy().tolist() == [[0, 1, 0], [1, 0, 1]]
    assert labeled(rows, targets, texts, trim=False)[1]["logits"].shape == (2, 4)


def test_the_meaning_names_the_tokens_of_the_roles():
    assert TOKENS.vocabulary_size == 260 and TOKENS.end_id == END
    with pytest.raises(ValueError):
        TOKENS.role_id("doctor")
    for role, number in {"user": USER, "assistant": ASSISTANT, "system": SYSTEM}.items():
        assert TOKENS.role_id(role) == number and f"{number} {role}" in TOKENS.meaning


def test_each_token_of_a_reply_is_predicted_from_those_before_it():
    pairs = {
        "source_ids": tf.constant([[5, 6, 7, -1], [8, -1, -1, -1]]),
        "target_ids": tf.constant([[258, 1, 256, -1], [2, 3, -1, -1]]),
    }
    marks = tf.constant([[False, True, True, False], [False, True, False, False]])
    features, labels, weights = labeled_pairs(pairs, marks)
    assert features["source_ids"].numpy().tolist() == [[5, 6, 7], [8, -1, -1]]
    assert features["target_ids"].numpy().tolist() == [[258, 1], [2, 3]]
    assert labels["logits"].numpy().tolist() == [[1, 256], [3, 0]]
    assert weights["logits"].numpy().tolist() == [[1, 1], [1, 0]]
    features, *_ = labeled_pairs(pairs, marks, trim=False)
    assert features["source_ids"].shape == (2, 4) and features["target_ids"].shape == (2, 3)
