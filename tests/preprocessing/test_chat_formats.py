import numpy as np
import pytest
import tensorflow as tf

from data.dialogue_rows import arrange
from data.dialogues import Dialogue, Dialogues
from preprocessing.byte_pair_files import read
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import TurnTokens, turn_tokens
from tests.preprocessing.pretrained_pairs import (
    LLAMA3_SPECIALS,
    LLAMA3_TEMPLATE,
    SMOLLM2_TEMPLATE,
    write_tokenizer,
)

ROLES = ("user", "assistant")


def chatml(system, turns) -> str:
    system = system or "You are a small  bot"
    said = zip(("system", *ROLES * len(turns)), (system, *turns), strict=False)
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)


def llama3(system, turns) -> str:
    said = [(role, text) for role, text in zip(ROLES * len(turns), turns, strict=False)]
    said = [("system", system), *said] if system else said
    head = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    return "<|begin_of_text|>" + "".join(head.format(role, text.strip()) for role, text in said)


def plain(system, turns) -> str:
    said = [(role, text) for role, text in zip(ROLES * len(turns), turns, strict=False)]
    said = [("system", system), *said] if system else said
    return "<|im_end|>" + "".join(f"{role}:\n{text}<|im_end|>" for role, text in said)


FORMATS = {
    "chatml": (chatml, "<|im_start|>assistant\n", {"chat_template": SMOLLM2_TEMPLATE}),
    "llama3": (
        llama3,
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        {"chat_template": LLAMA3_TEMPLATE, "specials": LLAMA3_SPECIALS, "rule": "llama3"},
    ),
    "plain": (plain, "assistant:\n", {}),
}


@pytest.fixture(scope="module", params=FORMATS)
def chat(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    render, reply, settings = FORMATS[request.param]
    theirs = write_tokenizer(folder, **settings)
    return turn_tokens(tokenizer(folder), str(folder)), theirs, render, reply


def prompt(tokens: TurnTokens, system, turns, room=500) -> tuple[list[int], int]:
    ids, lost = tokens.prompts(
        tf.constant([turns]), tf.constant([system]), tf.constant([room], tf.int32)
    )
    begin = [] if tokens.begin_id is None else [tokens.begin_id]
    return [*begin, *ids.numpy()[0].tolist()], int(lost[0])


@pytest.mark.parametrize("system", ["", "Be kind, the quick fox's."])
@pytest.mark.parametrize(
    "turns",
    [["the quick brown"], ["  a\n", "\n\nb  c ", "\u2003fox\t"], ["x", "y", "z", "\n", "1 22"]],
    ids=len,
)
def test_prompts_are_what_the_template_renders(chat, system, turns):
    tokens, theirs, render, reply = chat
    turns = turns if len(turns) % 2 else turns[:-1]
    expected = theirs.encode(render(system, turns) + reply).ids
    assert prompt(tokens, system, turns) == (expected, 0)


def test_rows_of_training_are_what_the_template_renders_and_replies_are_predicted(chat):
    tokens, theirs, render, _ = chat
    talk = Dialogue(("the fox", " a 12", "\nwords", "b"), "kind")
    rows = arrange(Dialogues(train=(talk,), validation=(talk,), test=(talk,)), tokens, 150)
    ((row, marks, _),) = rows.train.as_numpy_iterator()
    assert row[row >= 0].tolist() == theirs.encode(render("kind", talk.turns)).ids
    (text,) = tokens.decode(tf.constant([row[marks]])).numpy()
    assert text.decode() == (" a 12b" if render is not llama3 else "a 12b")
    assert np.sum(row[marks] == tokens.end_id) == 2 and row[marks][-1] == tokens.end_id
    assert rows.num_bytes["train"] == 6 and rows.streams["train"].max() < 260


def test_a_special_token_that_is_spelled_out_ends_no_turn(chat):
    tokens, theirs, *_ = chat
    end = theirs.id_to_token(tokens.end_id)
    plain, _ = prompt(tokens, "s", ["x"])
    ids, _ = prompt(tokens, "s", [f"{end} x"])
    assert ids.count(tokens.end_id) == plain.count(tokens.end_id) and len(ids) > len(plain) + 8


def test_a_turn_that_is_too_long_loses_its_beginning_but_not_its_role(chat):
    tokens, *_ = chat

    def shown(room, text):
        ids, lost = prompt(tokens, "", [text], room)
        return len(ids), lost, tokens.decode(tf.constant([ids])).numpy()[0].decode()

    (size, _, whole), (_, _, empty) = shown(1000, "q" * 60), shown(1000, "")
    begin = tokens.begin_id is not None
    short, lost, text = shown(size - begin - 20, "q" * 60)
    assert (short, lost) == (size - 20, 20)
    assert whole.count("q") == 60 and text.replace("q", "") == empty
    *_, text = shown(0, "q" * 60)
    assert text == empty.removeprefix("system\nYou are a small  bot\n")


def test_a_format_that_is_unknown_or_lacks_its_tokens_is_refused(tmp_path):
    write_tokenizer(tmp_path, chat_template="[INST] {{ message }} [/INST]")
    with pytest.raises(ValueError, match=r"`chat_template` must be ChatML.*INST.*Fix: add a"):
        turn_tokens(tokenizer(tmp_path), str(tmp_path))
    without = SMOLLM2_TEMPLATE.replace("'\n' +", "")
    write_tokenizer(tmp_path, chat_template=without)
    with pytest.raises(ValueError, match="`chat_template` must be ChatML"):
        turn_tokens(tokenizer(tmp_path), str(tmp_path))
    write_tokenizer(tmp_path, chat_template=LLAMA3_TEMPLATE)
    with pytest.raises(ValueError, match=r"expected the special token <.start_header_id.>"):
        turn_tokens(tokenizer(tmp_path), str(tmp_path))
    assert read(tmp_path).chat_template == LLAMA3_TEMPLATE


def test_a_llama_3_without_a_template_is_refused_and_with_an_empty_one_begins_as_it_does(tmp_path):
    begin = LLAMA3_SPECIALS[0]
    write_tokenizer(tmp_path, "llama3", begin, LLAMA3_SPECIALS)
    with pytest.raises(ValueError, match=r"expected a chat template, as <.eot_id.> is among"):
        turn_tokens(tokenizer(tmp_path), str(tmp_path))
    (tmp_path / "chat_template.jinja").touch()
    tokens = turn_tokens(tokenizer(tmp_path), str(tmp_path))
    assert (tokens.begin_id, tokens.end_id) == (0, LLAMA3_SPECIALS.index("<|eot_id|>"))
