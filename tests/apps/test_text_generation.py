import numpy as np
import pytest
import tensorflow as tf

from apps import text_generation as app
from data import token_rows
from preprocessing.byte_tokens import Bytes
from serving.signature import ask
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import ODD, colors

SMALL = Small(
    write=colors,
    settings={
        "epochs": 2,
        "batch_size": 8,
        "length": 48,
        "model": "gru",
        "units": 64,
        "max_tokens": 8,
        "learning_rate": 0.02,
    },
    beats=("-bits_per_byte", 3),
    sections=["Bytes of the test texts, predicted from those before", "Continuations"],
    odd=[{"prompt": text} for text in ODD],
    bad={
        "max_tokens": 0,
        "temperature": -1.0,
        "top_k": -1,
        "top_p": 1.1,
        "repetition_penalty": 0.0,
    },
    ignored=[
        {"model": "gpt_nano", "layers": 2},
        {"model": "gpt_nano", "units": 100},
        {"preset": "no_run"},
    ],
    files=["tokenizer"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return colors(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["gpt_tiny", "lstm"])
def parts(request):
    config = app.Config(model=request.param, length=24, max_tokens=6, temperature=0.0)
    model = app.build(config, Bytes())
    random = np.random.default_rng(0)
    for weight in model.weights:
        # No greater noise: a text that ends at once shows little.
        weight.assign(np.asarray(weight) + random.normal(0, 0.1, weight.shape))
    return config, model, app.signatures(config, Bytes(), ["The red"] * 4)


def following(model, text: bytes) -> bytes:
    """What the network finds likeliest after a text, with what is before it."""
    ids = np.array([[Bytes.end_id, *text, 0]])  # Keras warns of the softmax over a single token.
    logits = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})["logits"][0, -2]
    return bytes([int(np.argmax(logits))])


def test_text_and_tokens_are_continued_as_the_network_does_it_byte_by_byte(parts):
    config, model, signatures = parts
    prompts = ["The dog", "", "é"]
    expected = []
    for prompt in prompts:
        text = prompt.encode()
        for _ in range(config.max_tokens):
            text += following(model, text)
        expected.append(text[len(prompt.encode()) :])
    answer = ask(signatures["serving_default"], model, {"prompt": prompts})
    assert [t.decode() for t in answer["text"]] == [e.decode("utf-8", "replace") for e in expected]
    rows = [list(prompt.encode()) for prompt in prompts]
    ids = np.array([row + [-1] * (7 - len(row)) for row in rows], "int32")
    choice = {name: [value] * 3 for name, value in config.choice.items()}
    from_tokens = ask(signatures["generate_from_tokens"], model, {"token_ids": ids, **choice})
    assert from_tokens["token_ids"].shape == (3, 23)
    assert [bytes(row[row >= 0].tolist()) for row in from_tokens["token_ids"]] == expected
    np.testing.assert_allclose(from_tokens["log_probability"], answer["log_probability"], rtol=1e-5)


def test_a_long_prompt_is_read_from_its_end(parts):
    config, model, signatures = parts
    long = "x" * 50 + "The red house"
    query = {"prompt": [long, "The red"], **{n: [v] * 2 for n, v in config.choice.items()}}
    answer = ask(signatures["generate"], model, query)
    # 24 positions, 6 of them for the answer; the end token begins each text.
    assert answer["prompt_tokens"].tolist() == [18, 8]
    assert answer["dropped_tokens"].tolist() == [1 + 63 - 18, 0]
    assert answer["tokens"].tolist() == [6, 6]
    assert answer["finish_reason"].tolist() == [b"length"] * 2
    kept = ask(
        signatures["generate_from_tokens"],
        model,
        {
            "token_ids": np.array([list(long.encode())], "int32"),
            **{name: [value] for name, value in config.choice.items()},
        },
    )
    ids = np.array([list(long.encode())[-18:]])
    logits = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})["logits"][0, -1]
    assert kept["token_ids"][0, 0] == np.argmax(logits)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [5, 0]),
        ("max_tokens", [5, 24]),
        ("temperature", [0.0, float("nan")]),
        ("top_k", [0, -1]),
        ("top_p", [1.0, 0.0]),
        ("top_p", [1.0, 1.1]),
        ("repetition_penalty", [1.0, 0.0]),
    ],
)
def test_a_request_out_of_range_is_refused_by_name_and_row(parts, name, values):
    config, _, signatures = parts
    query = {"prompt": ["a", "b"], **{n: [v] * 2 for n, v in config.choice.items()}, name: values}
    inputs = {
        key: tf.constant(query[key], spec.dtype)
        for key, spec in signatures["generate"].inputs.items()
    }
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"`{name}` must be [^\n]*received:'\n1\n"
    ):
        signatures["generate"].prepared(inputs)


def test_the_learning_rate_depends_on_the_network_unless_the_user_chooses_it():
    rates = [app.Config(model=model).rate() for model in ("gpt_nano", "gpt_baby", "gru", "lstm")]
    assert rates == pytest.approx([3e-3, 1e-3, 3e-3, 3e-3])
    assert app.Config(learning_rate=0.5).rate() == 0.5


def test_a_network_is_measured_in_bits_per_byte(data):
    config = app.Config(data=data, model="gru", units=8, length=24)
    rows = token_rows.arrange(app.load(config), Bytes(), 24)
    model = app.build(config, Bytes())
    head = model.get_layer("logits")
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    scores = app.evaluate(rows, Bytes(), model, app.feed(rows).evaluation("test", 8))
    # A uniform network needs log2(257) bits for each byte and for the end of each document.
    tokens = rows.num_bytes["test"] + 8
    expected = np.log2(257) * tokens / rows.num_bytes["test"]
    assert scores["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(257, rel=1e-5)
    assert scores["ngram_bits_per_byte"] < 1
