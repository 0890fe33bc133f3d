from collections.abc import Sequence
from dataclasses import replace

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from apps import text_generation as app
from data import token_rows, worked_examples
from data.plain_text import PlainTexts
from metrics import byte_models, language_models
from models import transformers
from preprocessing.byte_pair_files import read
from preprocessing.byte_tokens import Bytes
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import turn_tokens
from serving import graph, writing
from serving.card import XLA_FLAG
from serving.export import export
from serving.signature import ask
from serving.verify import verify
from serving.warmup import read_records
from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import ODD, colors
from tests.models.tiny_llama import write_llama
from tests.preprocessing.pretrained_pairs import write_tokenizer

SMALL = Small(
    write=colors,
    settings={
        "epochs": 2,
        "batch_size": 8,
        "length": 48,
        "model": "gru",
        "vocabulary": "pieces",
        "vocabulary_size": 320,
        "units": 64,
        "max_tokens": 8,
        "learning_rate": 0.02,
    },
    beats=("-bits_per_byte", 3),
    sections=["Variety of the continuations", "Continuations"],
    few=("new.txt", "The house that he had seen was a red house again."),
    odd=[{"prompt": text} for text in ODD],
    bad={
        "vocabulary": "no_such_tokens",
        "max_tokens": 0,
        "beams": 0,
        "temperature": -1.0,
        "top_k": -1,
        "top_p": 1.1,
        "repetition_penalty": 0.0,
        "lora_rank": -1,
        "shots": "examples.tsv",
        "text_column": "question",
        "label_column": "answer",
        "num_shots": -1,
        "template": "{label}: {text}",
    },
    ignored=[
        {"model": "gpt_nano", "layers": 2},
        {"model": "gpt_nano", "units": 100},
        {"preset": "no_run"},
        {"vocabulary": "characters", "vocabulary_size": 500},
        {"lora_rank": 4},
        {"num_shots": 4},
        {"template": "{text}: {label};"},
    ],
    files=["tokenizer"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return colors(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["gpt_tiny", pytest.param("lstm", marks=pytest.mark.slow)])
def parts(request):
    keras.utils.set_random_seed(0)  # Regardless of what ran before.
    config = app.Config(model=request.param, length=24, max_tokens=6, temperature=0.0)
    model = app.build(config, Bytes())
    random = np.random.default_rng(0)
    for weight in model.weights:
        # No greater noise: a text that ends at once shows little.
        weight.assign(np.asarray(weight) + random.normal(0, 0.1, weight.shape))
    return config, model, app.signatures(config, Bytes(), ["The red"] * 4)


def choices(config, count: int) -> dict:
    """How `generate` is to choose, as `serving_default` does."""
    columns: dict = {name: [value] * count for name, value in config.choice.items()}
    return {**columns, "stop": [[""]] * count}


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


def test_a_text_ends_before_its_own_stop_string_with_its_own_limit(parts):
    config, model, signatures = parts
    query = {"prompt": ["The dog"] * 4, **choices(config, 4), "max_tokens": [6, 6, 3, 6]}
    whole = ask(signatures["generate"], model, query)
    assert whole["tokens"].tolist() == [6, 6, 3, 6]
    ids = ask(
        signatures["generate_from_tokens"],
        model,
        {
            "token_ids": np.array([list(b"The dog")], "int32"),
            **{name: [value] for name, value in config.choice.items()},
        },
    )["token_ids"][0]
    # Bytes below 128 that were not written before make a stop string of one letter.
    written = bytes(ids[:6].tolist())
    place = next(i for i in range(6) if written[i] < 128 and written.index(written[i]) == i)
    query["stop"] = [[""], [chr(written[place])], [""], ["never"]]
    found = ask(signatures["generate"], model, query)
    kept = written[:place].decode("utf-8", "replace")
    assert found["text"][1].decode() == kept
    assert found["tokens"].tolist() == [6, place + 1, 3, 6]
    assert found["finish_reason"].tolist() == [b"length", b"stop", b"length", b"length"]
    assert found["text"][[0, 2, 3]].tolist() == whole["text"][[0, 2, 3]].tolist()


def log_probability(model, text: Sequence[int], first: int) -> float:
    """Sum over the bytes of a text from the first on, given those before, read at once."""
    ids = np.array([[Bytes.end_id, *text, 0]])  # As in `following`.
    logits = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})["logits"][0]
    logs = np.asarray(tf.nn.log_softmax(logits))
    return sum(logs[i, text[i]] for i in range(first, len(text)))


def test_texts_are_scored_as_the_network_predicts_them(parts):
    _, model, signatures = parts
    prompts, texts = ["The ", "", "x", ""], ["red dog", "é", "", ""]
    found = ask(signatures["score"], model, {"prompt": prompts, "text": texts})
    for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        expected = log_probability(model, (prompt + text).encode(), len(prompt.encode()))
        assert found["log_probability"][row] == pytest.approx(expected, rel=1e-4)
    assert found["tokens"].tolist() == found["bytes"].tolist() == [7, 2, 0, 0]


def test_beams_are_sorted_by_their_scores_which_follow_from_the_network(parts):
    _, model, signatures = parts
    query = {"prompt": ["The ", "x"], "max_tokens": [5, 2], "length_penalty": [0.0, 1.0]}
    found = ask(signatures["beams"], model, query)
    assert found["texts"].shape == found["scores"].shape == (2, 4)
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    for row, prompt in enumerate(query["prompt"]):
        for text, score in zip(found["texts"][row], found["scores"][row], strict=True):
            if len(text) == query["max_tokens"][row] and text.isascii():
                whole = prompt.encode() + text
                penalty = ((5 + len(text)) / 6) ** query["length_penalty"][row]
                expected = log_probability(model, whole, len(prompt)) / penalty
                assert score == pytest.approx(expected, rel=1e-4)


def test_a_long_prompt_is_read_from_its_end(parts):
    config, model, signatures = parts
    long = "x" * 50 + "The red house"
    query = {"prompt": [long, "The red"], **choices(config, 2)}
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
    query = {"prompt": ["a", "b"], **choices(config, 2), name: values}
    inputs = {
        key: tf.constant(query[key], spec.dtype)
        for key, spec in signatures["generate"].inputs.items()
    }
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"`{name}` must be [^\n]*received:'\n1\n"
    ):
        signatures["generate"].prepared(inputs)


def test_the_loss_of_a_row_is_that_of_each_of_its_texts_alone():
    keras.utils.set_random_seed(0)
    config = app.Config(model="gpt_tiny", length=64)
    model, documents = app.build(config, Bytes()), (("red",), ("", "dog é"), ("",), ("The house",))
    rows = token_rows.arrange(PlainTexts(train=documents, validation=(), test=()), Bytes(), 64)
    ((features, labels, weights),) = app.feed(Bytes(), rows).evaluation("train", 8)
    loss = language_models.cross_entropy()
    found = loss(labels["logits"], model(features)["logits"], weights["logits"])
    texts = ["\n".join(one).encode() for one in documents]
    alone = [-log_probability(model, [*text, Bytes.end_id], 0) for text in texts]
    assert float(found) == pytest.approx(sum(alone) / np.sum(weights["logits"]), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "usual"), [("gpt_nano", 3e-3), ("gpt_tiny", 2.4e-2), ("gru", 3e-3)]
)
def test_the_learning_rate_depends_on_the_network_unless_the_user_chooses_it(name, usual):
    def peak(**settings):
        config = app.Config(model=name, length=16, **settings)
        return config.rates(transformers.width).peak(app.build(config, Bytes()))

    assert peak() == pytest.approx(usual)  # The smallest GPT has 16 features in tests.
    assert peak(learning_rate=0.5) == 0.5


def test_a_network_is_measured_in_bits_per_byte(data):
    config = app.Config(data=data, model="gru", units=8, length=24)
    texts = app.load(config)
    rows = token_rows.arrange(texts, Bytes(), 24)
    model = app.build(config, Bytes())
    head = model.get_layer("logits")
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    batches = app.feed(Bytes(), rows).evaluation("test", 8)
    scores = byte_models.evaluate(model, batches, rows)
    # A uniform network needs log2(257) bits for each byte and for the end of each document.
    tokens = rows.num_bytes["test"] + len(texts.test)
    expected = np.log2(257) * tokens / rows.num_bytes["test"]
    assert scores["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(257, rel=1e-5)
    words = [word for document in texts.test for line in document for word in line.split()]
    assert scores["word_perplexity"] == pytest.approx(257 ** (tokens / len(words)), rel=1e-4)
    _, bits = byte_models.baselines(rows, Bytes().vocabulary_size)["ngram"]
    assert bits < 1


@pytest.fixture(scope="module")
def preset(tmp_path_factory) -> str:
    """A Llama that reads byte pairs, and nothing before a text."""
    folder = tmp_path_factory.mktemp("preset")
    write_llama(folder, vocab_size=330, max_position_embeddings=64)
    write_tokenizer(folder)
    return str(folder)


def test_a_preset_continues_as_its_network_finds_likeliest(preset):
    config = app.Config(model="gpt", preset=preset, length=24, max_tokens=6, temperature=0.0)
    tokens = tokenizer(**config.tokenizer)
    model = app.build(config, tokens)
    signatures = app.signatures(config, tokens, ["The red"] * 4)
    prompts = ["The quick brown fox", "", "é<|im_end|>"]
    answer = ask(signatures["serving_default"], model, {"prompt": prompts})
    for row, prompt in enumerate(prompts):
        (ids,) = tokens.encode(tf.constant([prompt])).numpy().tolist()
        begin = len(ids) or 1
        ids = ids or [tokens.end_id]
        while len(ids) < begin + 6 and (len(ids) == begin or ids[-1] != tokens.end_id):
            padded = np.array([[*ids, 0]])
            logits = model({"token_ids": padded, "padding_mask": padded * 0 + 1})["logits"][0]
            ids.append(int(np.argmax(logits[-2])))
        expected = tokens.decode(tf.constant([ids[begin:]])).numpy()[0]
        assert answer["text"][row] == expected
    text = "The quick brown fox"
    query = {"prompt": ["The", ""], "text": [" quick brown fox", text]}
    found = ask(signatures["score"], model, query)
    ids = [tokens.end_id, *tokens.encode(tf.constant([text])).numpy()[0]]
    first = int(tokens.sizes(tf.constant("The")))
    logits = model({"token_ids": np.array([ids]), "padding_mask": np.ones((1, len(ids)))})["logits"]
    logs = np.asarray(tf.nn.log_softmax(logits))[0, np.arange(len(ids) - 1), ids[1:]]
    assert found["log_probability"][1] == pytest.approx(logs.sum(), rel=1e-4)
    # The first prompt begins with its own first token, which the end token does not precede.
    shifted = ids[1:]
    logits = model({"token_ids": np.array([shifted]), "padding_mask": np.ones((1, len(shifted)))})
    logs = np.asarray(tf.nn.log_softmax(logits["logits"]))[0]
    total = sum(logs[i, shifted[i + 1]] for i in range(first - 1, len(shifted) - 1))
    assert found["log_probability"][0] == pytest.approx(total, rel=1e-4)


def test_the_name_of_a_preset_stands_for_the_files_that_kerashub_has_of_it(tmp_path, monkeypatch):
    write_tokenizer(tmp_path, specials=["<|endoftext|>"])
    file = read(tmp_path)
    vocabulary = {**file.vocabulary, **file.specials}
    cache = tmp_path / "cache"
    keras_hub.models.GPT2Tokenizer(vocabulary, [*map(" ".join, file.merges)]).save_to_preset(cache)
    backbone = keras_hub.models.GPT2Backbone(330, 1, 2, 16, 32, max_sequence_length=24)
    backbone.save_to_preset(cache)
    fetched = []

    def get_file(preset, path):
        assert preset == "gpt2_base_en"
        fetched.append(path)
        if not (cache / path).exists():
            raise FileNotFoundError(path)
        return str(cache / path)

    monkeypatch.setattr("keras_hub.src.utils.preset_utils.get_file", get_file)
    config = app.Config(model="gpt", preset="gpt2_base_en", length=24)
    tokens = tokenizer(**config.tokenizer)
    assert "model.weights.h5" not in fetched
    assert tokens.file.vocabulary == file.vocabulary and tokens.vocabulary_size == 330
    assert turn_tokens(tokens, config.preset).tail == (tokens.end_id,)
    model = app.build(config, tokens)
    embeddings = model.get_layer("token_embedding").embeddings
    np.testing.assert_array_equal(embeddings, backbone.token_embedding.embeddings)


def test_a_preset_that_is_unknown_or_cannot_be_downloaded_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"gpt2_base: expected a folder .* gpt2_base_en, .*llama3"):
        tokenizer(**app.Config(model="gpt", preset="gpt2_base").tokenizer)

    def get_file(preset, path):
        raise ConnectionError("no network")

    monkeypatch.setattr("keras_hub.src.utils.preset_utils.get_file", get_file)
    with pytest.raises(OSError, match=r"gpt2_base_en: expected its files .*no network. Fix: run"):
        tokenizer(**app.Config(model="gpt", preset="gpt2_base_en").tokenizer)


def test_a_preset_needs_its_model_and_a_rank_of_lora_a_preset(preset, data):
    with pytest.raises(ValueError, match="`preset` must be given with model gpt, and only then"):
        app.Config(model="gpt")
    with pytest.raises(ValueError, match="`dropout` is for the models rnn"):
        app.Config(model="gpt", preset=preset, dropout=0.3)
    with pytest.raises(ValueError, match="`vocabulary` is for the models rnn"):
        app.Config(model="gpt", preset=preset, vocabulary="pieces")
    config = app.Config(model="gpt", preset=preset, lora_rank=2, length=24, epochs=0)
    model = app.build(config, tokenizer(**config.tokenizer))
    assert all("lora" in v.path for v in model.trainable_variables)
    assert config.rates(transformers.width).peak(model) == pytest.approx(0.3 * 1e-3 * 384 / 16)


GOOD, BAD = ("fine", "great", "lovely", "superb"), ("awful", "dull", "poor", "weak")
KINDS = ((GOOD, "good"), (BAD, "bad"))
TEMPLATE = r"Review: {text}\nSentiment: {label}\n\n"


def reviews(count: int) -> list[tuple[str, str]]:
    """Texts and answers, which depend on the words."""
    random = np.random.default_rng(count)
    kinds = [(" ".join(random.choice(words, 3)), answer) for words, answer in KINDS for _ in "ab"]
    return (kinds * count)[:count]


@pytest.fixture(scope="module")
def few_shots(tmp_path_factory) -> app.Config:
    """Settings of a Llama with random weights that reads 3 of 6 worked examples."""
    folder = tmp_path_factory.mktemp("few_shots")
    write_llama(folder, vocab_size=330, max_position_embeddings=512)
    write_tokenizer(folder)
    for name, count in (("examples", 6), ("reviews", 10)):
        lines = ["text\tlabel", *("\t".join(row) for row in reviews(count))]
        (folder / f"{name}.tsv").write_text("\n".join(lines))
    return app.Config(
        data=str(folder / "reviews.tsv"),
        model="gpt",
        preset=str(folder),
        shots=str(folder / "examples.tsv"),
        num_shots=3,
        template=TEMPLATE,
        length=256,
        max_tokens=6,
        out=folder / "run",
    )


@pytest.fixture(scope="module")
def shown(few_shots):
    """The tokenizer, prompts with 3 worked examples, the network and its signatures."""
    examples = worked_examples.load(**few_shots.loading, shots=few_shots.shots)
    tokens = tokenizer(**few_shots.tokenizer)
    _, prompts, _ = worked_examples.prompts(examples, tokens, **few_shots.prompting)
    served = app.signatures(few_shots, tokens, ["lovely"], prompts[3], examples.scored)
    return tokens, prompts[3], app.build(few_shots, tokens), served


def eagerly(signature, model, **columns):
    """The answer without a graph, which would take seconds to build."""
    given = {
        name: tf.constant(columns[name], spec.dtype) for name, spec in signature.inputs.items()
    }
    answer = signature.answer(signature.compute(model), given)
    return {name: value.numpy() for name, value in answer.items()}


@pytest.mark.parametrize(
    "name",
    ["generate", "classes", *(pytest.param(n, marks=pytest.mark.slow) for n in ("beams", "score"))],
)
def test_answers_after_worked_examples_are_those_to_the_prompt_written_as_one_text(
    few_shots, shown, name
):
    tokens, prompts, model, served = shown
    whole = app.Config(model="gpt", preset=few_shots.preset, length=256, max_tokens=6)
    plain = app.signatures(whole, tokens, ["lovely"])
    texts = ["lovely", "a much longer review", "", "é"]
    written = [prompts.written(text) for text in texts]
    assert written[0].endswith("\n\nReview: lovely\nSentiment:") and written[0].count("\n\n") == 3
    if name == "classes":
        ours = eagerly(served[name], model, prompt=texts)
        both = {"prompt": written * 2, "text": [" bad"] * 4 + [" good"] * 4}
        theirs = eagerly(plain["score"], model, **both)["log_probability"]
        np.testing.assert_allclose(ours["log_probabilities"], theirs.reshape(2, 4).T, rtol=1e-5)
        likeliest = np.array([b"bad", b"good"])[np.argmax(theirs.reshape(2, 4), axis=0)]
        np.testing.assert_array_equal(ours["classes"][:, 0], likeliest)
        return
    columns = {**choices(few_shots, 4), "stop": [["\n\n"]] * 4, "text": ["bad"] * 4}
    columns["length_penalty"] = [0.5] * 4
    ours = eagerly(served[name], model, **columns, prompt=texts)
    theirs = eagerly(plain[name], model, **{**columns, "text": [" bad"] * 4}, prompt=written)
    for output in ({*ours} & {"log_probability", "scores"}) or ours:
        np.testing.assert_allclose(ours[output], theirs[output], rtol=1e-4)
    if name == "generate":
        assert [text.strip() for text in theirs["text"]] == ours["text"].tolist()
        assert (ours["prompt_tokens"] + len(prompts.prefix) == theirs["prompt_tokens"]).all()
        default = eagerly(served["serving_default"], model, prompt=texts)
        np.testing.assert_array_equal(default["text"], ours["text"])


def test_answers_end_at_the_template_and_at_the_strings_of_the_client(shown):
    *_, served = shown
    features, _ = served["serving_default"].prepared({"prompt": tf.constant(["x", "y"])})
    expected = writing.stop_bytes(tf.constant([["\n\n"]] * 2))
    np.testing.assert_array_equal(features["stop"], expected)
    both = writing.checked_stop(tf.constant([["a"] * 8]), "\n\n")
    expected = writing.stop_bytes(tf.constant([["a"] * 8 + ["\n\n"]]))
    np.testing.assert_array_equal(both, expected)


@pytest.mark.parametrize("is_free", [False, True])
def test_scores_are_those_after_each_number_of_examples(
    few_shots, shown, monkeypatch, tmp_path, is_free
):
    config = few_shots
    if is_free:
        lines = ["text,label", *(f"{one},{one} {number}" for number, one in enumerate(GOOD))]
        (tmp_path / "free.csv").write_text("\n".join(lines))
        config = replace(config, data=str(tmp_path / "free.csv"))
    given: dict = {}
    tokens, _, model, _ = shown
    monkeypatch.setattr(worked_examples, "COUNTS", (0,))
    monkeypatch.setattr(app, "tokenizer", lambda **_: tokens)
    monkeypatch.setattr(app, "build", lambda *_: model)
    monkeypatch.setattr(app, "ask", lambda one, model, columns, _: eagerly(one, model, **columns))
    monkeypatch.setattr(app, "finish", lambda run, trained, **parts: given.update(parts) or {})
    app.main(config)
    name = "exact_match" if is_free else "accuracy"
    numbers = [key for key in given["scores"] if key.endswith(f"shot_{name}")]
    assert numbers == [f"{count}_shot_{name}" for count in (0, 3)]
    assert next(iter(given["scores"])) == name
    assert given["scores"][name] == given["scores"][f"3_shot_{name}"]
    assert given["num_test"] == (4 if is_free else 10)
    table, prompt, *others = given["report"]
    assert [row[0] for row in table.rows] == [0, 3]
    assert prompt.texts[0][1].count("Review: ") == 4
    titles = [one.title for one in others]
    assert titles == ["Answers"] if is_free else titles[0] == "Scores by class"
    assert ("classes" in given["signatures"]) == ("classes" in given["facts"]) == (not is_free)
    if is_free:
        found = eagerly(given["signatures"]["serving_default"], model, prompt=GOOD)["text"]
        assert {row[:2] for row in others[0].rows} == {
            (one, text.decode()) for one, text in zip(GOOD, found, strict=True)
        }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "none", "model": "gpt_nano"}, "`preset` must be a pretrained network or"),
        ({"epochs": 1}, "`epochs` must be 0 with `shots`"),
        ({"template": "{label}: {text}"}, "`template` must be {text}, further text, {label}"),
        ({"template": "{text}: {label}"}, "`template` must be {text}, further text, {label}"),
        ({"template": "{text}{label}\n"}, "`template` must be {text}, further text, {label}"),
        ({"template": r"{text}\n{label}\n"}, "`template` must be other before {label} than behind"),
        ({"template": "{text}: {label}" + "-" * 257}, "`template` must be at most 256 bytes long"),
        ({"data": "python_docs"}, "`data` must be texts with answers"),
    ],
)
def test_settings_of_worked_examples_are_refused_by_name(few_shots, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(few_shots, **changes)


def test_worked_examples_that_do_not_fit_are_refused_or_left_out(few_shots):
    sizes, every = [50, 30, 30, 30, 30, 30], replace(few_shots, num_shots=None)
    assert few_shots.fitting_shots(sizes, 1000) == (3, 6)
    assert every.fitting_shots(sizes, 1000) == (6, 6)
    assert every.fitting_shots(sizes, 110) == (3, 3)
    with pytest.raises(ValueError, match="`num_shots` must be at most 6, the examples in"):
        replace(few_shots, num_shots=7).fitting_shots(sizes, 1000)
    # The prompt and its answer have the other 256 - 109 tokens.
    with pytest.raises(ValueError, match="`length` must be at least 257 for num_shots=3") as error:
        few_shots.fitting_shots(sizes, 109)
    assert "room for 2 worked examples" in str(error.value)
    with pytest.raises(ValueError, match="at least 307 for num_shots=1"):
        every.fitting_shots(sizes, -1)


@pytest.mark.slow  # A whole run, and evaluations of it.
def test_a_run_with_worked_examples_is_exported_and_evaluated_again(few_shots, tmp_path):
    scores = app.main(few_shots)
    again = app.main(app.Config.evaluating(few_shots.out))
    assert again == scores
    (tmp_path / "new.csv").write_text("text,label\nfine lovely,good\ndull,bad\n")
    new = app.main(app.Config.evaluating(few_shots.out, data=str(tmp_path / "new.csv")))
    assert new.keys() <= scores.keys()
    assert new["accuracy"] in (0, 0.5, 1)


@pytest.mark.slow  # The loop is compiled.
def test_a_compiled_export_reads_worked_examples_once_for_each_size(few_shots, shown):
    tokens, prompts, model, served = shown
    compiled = app.signatures(replace(few_shots, compile_export=True), tokens, ["a"], prompts)
    texts = ["lovely", "a much longer review", ""]
    query = {"prompt": texts, **choices(few_shots, 3), "stop": [["a", "bc"], ["", ""], ["e", ""]]}
    expected, found = (ask(some["generate"], model, query) for some in (served, compiled))
    np.testing.assert_array_equal(found["text"], expected["text"])
    np.testing.assert_allclose(found["log_probability"], expected["log_probability"], rtol=1e-4)


@pytest.mark.parametrize("kind", ["bytes", "pieces", "worked examples"])
def test_beam_search_of_a_compiled_export_is_warmed_up_at_each_size(kind, few_shots, shown):
    config = app.Config(length=130, compile_export=True)
    texts = ["The red house, café and dog", "A blue dog"] * 20
    if kind == "worked examples":  # These begin a text, and the template is around each prompt.
        tokens, prompts, *_ = shown
        context, begins = 256 - len(prompts.prefix), 0
        made = app.signatures(replace(few_shots, compile_export=True), tokens, texts[:4], prompts)
    else:
        context, begins = 130, 1
        made = app.signatures(config, tokenizer(kind=kind, size=300, texts=texts), texts[:4])
    sizes, found = writing.compiled_sizes(context), []
    for request in made["beams"].warmup:
        given = {key: tf.constant(one) for key, one in request.items()}
        ids = made["beams"].prepared(given).features["token_ids"]
        read = begins + tf.reduce_max(tf.reduce_sum(tf.cast(ids >= 0, tf.int32), axis=1))
        width = next((size for size in sizes["prompt"] if size >= read), sizes["prompt"][-1])
        found.append((len(request["prompt"]), width))
    assert found == [(rows, width) for width in sizes["prompt"] for rows in sizes["rows"]]


@pytest.mark.slow  # Each size is compiled several times.
def test_a_compiled_export_writes_the_same_and_is_compiled_once_per_size(
    parts, tmp_path, monkeypatch
):
    config, model, signatures = parts
    monkeypatch.setattr(writing, "XLA_BATCH_SIZES", (2,))
    compiled = replace(config, compile_export=True)
    made = app.signatures(compiled, Bytes(), ["The red", "A", "The blue", ""])
    prompts = ["The dog", "", "A much longer prompt than the context"]
    query = {"prompt": prompts, **choices(config, 3), "stop": [["o", "xyz"], ["", ""], ["", "a"]]}
    query |= {"temperature": [0.0, 1.0, 1.0], "top_p": [1.0, 0.9, 1.0], "seed": [1, 2, 3]}
    search = {"prompt": prompts, "max_tokens": [6, 1, 5], "length_penalty": [0.0, 1.0, 0.6]}
    every = {"serving_default": {"prompt": prompts}, "generate": query, "beams": search}
    for name, columns in every.items():
        expected, found = (ask(some[name], model, columns) for some in (signatures, made))
        for key, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(found[key], value, rtol=1e-4)
            else:
                np.testing.assert_array_equal(found[key], value)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`max_tokens` must be in 1 to 6"):
        ask(made["generate"], model, {**query, "max_tokens": [7] * 3})
    warmup = {"prompt": np.array(prompts, object)}
    version = export(tmp_path / "m", model, made, warmup, {"task": "text generation"})
    meta_graph = graph.read(version)
    assert graph.is_compiled(meta_graph)
    nodes = [n for f in meta_graph.graph_def.library.function for n in f.node_def]
    called = {n.attr["f"].func.name for n in nodes if "_XlaMustCompile" in n.attr}
    assert len(called) == 2, "signatures do not share what is compiled: a loop and a search"
    records = [one for one in read_records(version) if one.signature == "generate_from_tokens"]
    assert (2, 22) in {record.inputs["token_ids"].shape for record in records}
    (*_, longest) = (one.inputs for one in read_records(version) if one.signature == "beams")
    assert all(len(prompt) > 24 for prompt in longest["prompt"]) and len(longest["prompt"]) == 2
    assert XLA_FLAG in (version / "assets.extra" / "model_card.md").read_text()
    assert [check.detail for check in verify(version) if not check.passed] == []
