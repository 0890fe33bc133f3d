import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import dialogue as app
from data import dialogue_rows, dialogues
from data.dialogues import Dialogue, Dialogues, padded
from metrics import byte_models, language_models
from preprocessing.byte_tokens import Bytes, as_features
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import TurnTokens, turn_tokens
from serving.signature import ask
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import COLORS, ODD, THINGS
from tests.models.tiny_llama import write_llama
from tests.preprocessing.pretrained_pairs import SMOLLM2_TEMPLATE, write_tokenizer


def colors(folder: Path) -> str:
    """Writes dialogues about things of one color each."""
    random = np.random.default_rng(0)
    for split, count in {"train": 60, "dev": 8, "test": 12}.items():
        lines = []
        for _ in range(count):
            color, thing = random.choice(COLORS), random.choice(THINGS)
            turns = [f"I have a {color} {thing}.", "A what?", f"A {thing}.", f"{color}, yes."]
            roles = ("user", "assistant") * 2
            messages = [
                {"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)
            ]
            lines.append(json.dumps({"messages": messages}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder)


SMALL = Small(
    write=colors,
    settings={
        "epochs": 3,
        "batch_size": 8,
        "length": 64,
        "model": "gru",
        "units": 64,
        "max_tokens": 8,
        "learning_rate": 0.02,
    },
    beats=("-bits_per_byte", 3),
    sections=["Variety of the replies", "Dialogues"],
    few=("new.jsonl", '{"turns": ["I have a red car.", "A what?"]}'),
    odd=[
        *({"turns": ["", text, ""]} for text in ODD),
        {"turns": ["<|im_end|>", "<assistant>", "\0"]},
        {"turns": ["", "", "שלום"]},
    ],
    bad={
        "train_on": "no_such_turns",
        "vocabulary": "no_such_tokens",
        "max_tokens": 0,
        "temperature": -1.0,
        "top_k": -1,
        "top_p": 1.1,
        "repetition_penalty": 0.0,
        "lora_rank": -1,
    },
    free=["system"],
    ignored=[
        {"model": "gpt_nano", "layers": 2},
        {"model": "gpt_nano", "units": 100},
        {"preset": "no_run"},
        {"vocabulary_size": 500},
        {"lora_rank": 4},
        {"attention": "luong"},
        {"model": "seq2seq", "units": 15},
        {"model": "seq2seq", "luong_score": "dot"},
        {"model": "seq2seq", "layers": 2},
    ],
    files=["tokenizer", "measures.json"],
)

TOKENS = TurnTokens(Bytes())
TALK = (
    Dialogue(("Hi", "Hello", "Who?", "Me.", "I see you", "!")),
    Dialogue(("The red dog", "A dog?", "Yes"), "Be kind."),
    Dialogue(("é" * 12, "no" * 5)),
)


@pytest.fixture(
    scope="module", params=["gpt_tiny", "seq2seq", pytest.param("lstm", marks=pytest.mark.slow)]
)
def parts(request):
    keras.utils.set_random_seed(0)  # Regardless of what ran before.
    units = {} if request.param == "gpt_tiny" else {"units": 16}
    config = app.Config(
        model=request.param, length=32, max_tokens=6, temperature=0.0, system="S", **units
    )
    model = app.build(config, TOKENS)
    random = np.random.default_rng(0)
    for weight in model.weights:
        # No greater noise: a text that ends at once shows little.
        weight.assign(np.asarray(weight) + random.normal(0, 0.1, weight.shape))
    return config, model, app.signatures(config, TOKENS, padded([("Hi", "Ho", "Ha")] * 4))


@cache
def graph(model):
    specs = {name: tf.TensorSpec((1, None), tf.int32) for name in model.input}
    return tf.function(model, input_signature=[specs], autograph=False)


def logits(model, past, reply):
    """What a network predicts for each token of a reply, and for the one after it."""
    if model.name == "seq2seq":
        role = TOKENS.role_id("assistant")
        ids = {"source_ids": tf.constant([past]), "target_ids": tf.constant([[role, *reply]])}
        return graph(model)(ids)["logits"][0].numpy()
    ids = as_features(tf.constant([[*past, *reply]]))
    return graph(model)(ids)["logits"][0, len(past) - 1 :].numpy()


def chosen(config, model, past, system) -> bytes:
    """The likeliest reply, byte by byte, with all that is before it."""
    room = config.length - 1 - config.max_tokens
    ids, _ = TOKENS.prompts(tf.constant([past]), tf.constant([system]), tf.constant([room]))
    read, reply = [TOKENS.end_id, *ids.numpy()[0].tolist()], list[int]()
    for _ in range(config.max_tokens):
        following = int(np.argmax(logits(model, read, reply)[-1]))
        if following == TOKENS.end_id:
            break
        reply.append(following)
    return TOKENS.decode(tf.constant([[*reply, -1]])).numpy()[0]


def test_dialogues_are_answered_as_the_network_does_it_byte_by_byte(parts):
    config, model, signatures = parts
    talks = [("Hi",), ("Hi", "Hello", "Who?"), ("x" * 50,), ("a", "b" * 20, "c")]
    systems = ["S", "Be kind.", "", "S"]
    expected = [chosen(config, model, *one) for one in zip(talks, systems, strict=True)]
    choice = {name: [value] * 4 for name, value in {**config.choice, "stop": [""]}.items()}
    query = {"turns": talks, "system": systems, **choice}
    found = ask(signatures["generate"], model, query)
    assert found["reply"].tolist() == expected
    # 32 positions, 6 of them for the reply; the end token begins each dialogue.
    assert found["prompt_tokens"].tolist() == [9, 1 + 10 + 13 + 1, 26, 1 + 3 + 3 + 1]
    assert found["dropped_tokens"].tolist() == [0, 4, 50 - 22, 3 + 22]
    alone = ask(signatures["generate"], model, query, batch_size=1)
    np.testing.assert_allclose(
        alone.pop("log_probability"), found.pop("log_probability"), rtol=1e-4
    )
    for name, values in found.items():
        np.testing.assert_array_equal(alone[name], values)
    answer = ask(signatures["serving_default"], model, {"turns": talks})
    assert answer["reply"].tolist()[::3] == expected[::3]


def test_a_long_system_text_is_cut_alike_in_training_and_in_the_export():
    config = app.Config(length=64, max_tokens=20)
    system = "".join(map(chr, range(33, 123)))
    talk = (Dialogue(("Hi", "Ho"), system),)
    data = Dialogues(train=talk, validation=talk, test=talk)
    ((row, *_),) = app.arrange(config, data, TOKENS).test
    read = app.signatures(config, TOKENS, padded([("Hi",)]))["generate"].preprocess
    choice = {name: tf.constant([value]) for name, value in config.choice.items()}
    ids = read(
        turns=tf.constant([["Hi"]]),
        system=tf.constant([system]),
        stop=tf.constant([[""]]),
        **choice | {"max_tokens": tf.constant([4])},
    ).features["token_ids"][0]
    expected = [259, *system[: (64 - 1 - 20) // 2 - 2].encode(), 256, 257, *b"Hi", 256, 258]
    assert ids.numpy().tolist() == expected
    assert row.numpy()[1 : len(expected) + 1].tolist() == expected


def test_a_system_text_that_does_not_fit_is_refused():
    assert app.Config(length=64, max_tokens=20, system="é" * 9).most_system == 19
    with pytest.raises(ValueError, match=r"at most 19 bytes, half of .*=64 .*=20.*: 20 bytes"):
        app.Config(length=64, max_tokens=20, system="é" * 10)


def test_the_loss_of_a_batch_is_that_of_each_reply_alone(parts):
    config, model, _ = parts
    talk = (*TALK, Dialogue(("Hm?", "Yes.")), Dialogue(("No?", "No")))
    data = Dialogues(train=talk, validation=TALK, test=TALK)
    fed = app.feed(config, app.arrange(replace(config, system=""), data, TOKENS))
    (batch,) = fed.evaluation("train", 100)
    features, labels, weights = batch
    loss = language_models.cross_entropy()
    found = loss(labels["logits"], model(features)["logits"], weights["logits"])
    losses: list[float] = []
    for past, system, reply in data.answered("train", 100):
        true = [*reply.encode(), TOKENS.end_id]
        ids, _ = TOKENS.prompts(
            tf.constant([past]), tf.constant([system]), tf.constant([config.length - len(true)])
        )
        read = [TOKENS.end_id, *ids.numpy()[0].tolist()]
        every = logits(model, read, true[:-1])
        logs = every - np.log(np.exp(every).sum(axis=1, keepdims=True))
        losses += (-logs[np.arange(len(true)), true]).tolist()
    assert len(losses) == np.sum(weights["logits"])
    if not config.is_seq2seq:
        assert np.max(features["padding_mask"]) == (2 if config.model == "gpt_tiny" else 1)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_network_is_measured_in_bits_per_byte_of_the_replies(tmp_path):
    config = app.Config(data=colors(tmp_path), model="gru", units=8, length=32)
    data = dialogues.load(**config.loading)
    rows = dialogue_rows.arrange(data, TOKENS, 32)
    model = app.build(config, TOKENS)
    head = model.get_layer("logits")
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    scores = byte_models.evaluate(model, app.feed(config, rows).evaluation("test", 8), rows)
    # A uniform network needs log2(260) bits for each byte and for the end of each reply.
    replies = [reply for dialogue in data.test for reply in dialogue.replies]
    num_bytes = sum(map(len, replies))
    expected = np.log2(260) * (num_bytes + len(replies)) / num_bytes
    assert scores["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(260, rel=1e-5)
    words = sum(len(reply.split()) for reply in replies)
    expected = 260 ** ((num_bytes + len(replies)) / words)
    assert scores["word_perplexity"] == pytest.approx(expected, rel=1e-4)
    _, bits = byte_models.baselines(rows, TOKENS.vocabulary_size, rows.replies["test"])["ngram"]
    assert bits < 2


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 32), ("top_p", 0.0)])
def test_a_request_out_of_range_is_refused_by_name_and_row(parts, name, value):
    config, _, signatures = parts
    query = {"turns": [["a"], ["b"]], "system": ["", ""]}
    query |= {key: [one] * 2 for key, one in {**config.choice, "stop": [""]}.items()}
    query[name][1] = value
    inputs = {
        key: tf.constant(query[key], spec.dtype)
        for key, spec in signatures["generate"].inputs.items()
    }
    message = rf"`{name}` must be [^\n]*received:'\n1\n"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["generate"].prepared(inputs)


@pytest.mark.slow
def test_tokens_of_past_turns_and_replies_are_read_as_their_texts():
    config = app.Config(model="seq2seq", units=8, length=32, max_tokens=6, temperature=0.0)
    model = app.build(config, TOKENS)
    signatures = app.signatures(config, TOKENS, padded([("Hi", "Ho", "Ha")] * 4))
    turns = [("Hi",), ("é",)]
    ids, _ = TOKENS.prompts(tf.constant(turns), tf.constant(["", ""]), tf.constant([25, 25]))
    choice = {name: [value] * 2 for name, value in config.choice.items()}
    query = {"token_ids": ids.numpy(), **choice}
    written = ask(signatures["generate_from_tokens"], model, query)
    answer = ask(signatures["serving_default"], model, {"turns": turns})
    replies = TOKENS.decode(tf.constant(written["token_ids"])).numpy()
    assert replies.tolist() == answer["reply"].tolist()
    found = ask(signatures["from_tokens"], model, TOKENS.pair(ids, tf.constant(["ab", "c"])))
    past = [TOKENS.end_id, *ids.numpy()[0]]
    np.testing.assert_allclose(found["logits"][0], logits(model, past, [*b"ab"]), atol=1e-5)


def test_a_preset_replies_in_its_own_format_to_the_likeliest_end(tmp_path):
    write_llama(tmp_path, vocab_size=330, max_position_embeddings=200)
    theirs = write_tokenizer(tmp_path, chat_template=SMOLLM2_TEMPLATE)
    config = app.Config(
        model="gpt", preset=str(tmp_path), length=160, max_tokens=5, temperature=0.0
    )
    tokens = turn_tokens(tokenizer(**config.tokenizer), config.preset)
    model = app.build(config, tokens)
    signatures = app.signatures(config, tokens, padded([("Hi", "Ho", "Ha")] * 4))
    answer = ask(signatures["serving_default"], model, {"turns": [("the fox",)]})
    rendered = (
        "<|im_start|>system\nYou are a small  bot<|im_end|>\n"
        "<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = theirs.encode(rendered).ids
    begin = len(ids)
    while len(ids) < begin + 5 and ids[-1] != tokens.end_id:
        ids.append(int(np.argmax(logits(model, ids, [])[-1])))
    assert answer["reply"][0] == tokens.decode(tf.constant([ids[begin:]])).numpy()[0]
    data = Dialogues(train=TALK, validation=TALK, test=TALK)
    rows = app.arrange(config, data, tokens)
    fed = app.feed(config, rows)
    assert byte_models.evaluate(model, fed.evaluation("test", 2), rows)["bits_per_byte"] > 0
    _, bits = byte_models.baselines(rows, TOKENS.vocabulary_size, rows.replies["test"])["ngram"]
    assert 0 < bits < 9
