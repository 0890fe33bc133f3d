from dataclasses import replace
from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import translation as app
from data.parallel_texts import Pair, ParallelTexts
from models.generation import Steps
from models.writing import translating
from preprocessing.sentence_pieces import SentencePieces
from serving.signature import Network, ask
from serving.writing import GREEDY, filled, stop_bytes
from tests.apps.every_app import Small

SIZES = {"a big": "ein großes", "a small": "ein kleines", "the new": "das neue"}
COLORS = {"red": "rote", "green": "grüne", "blue": "blaue", "old": "alte"}
THINGS = {"house": "Haus", "book": "Buch", "wheel": "Rad", "picture": "Bild", "dress": "Kleid"}
ODD = ["", "x" * 3000, "nul \0", "\u05e9\u05dc\u05d5\u05dd", "</s> a <unk>", b"\xff red"]


PAIRS = [
    tuple(zip(*parts, strict=True))
    for parts in product(*(d.items() for d in (SIZES, COLORS, THINGS)))
]
"""All combinations: words in English, words in German."""


def write(folder: Path) -> str:
    """Writes two files of one name."""
    for side, language in enumerate(("en", "de")):
        lines = (" ".join(map(str, pair[side])) for pair in 4 * PAIRS)
        (folder / f"things.{language}").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "things")


SMALL = Small(
    write=write,
    settings={
        "source": "en",
        "epochs": 8,
        "batch_size": 8,
        "length": 12,
        "max_tokens": 8,
        "vocabulary_size": 330,
        "model": "transformer_tiny",
        "learning_rate": 0.01,
    },
    beats=("bleu", 15.0),
    sections=[
        "BLEU by length of the text",
        "Translations of test texts",
        "Worst translations",
        *(f"Attention in test text {number}" for number in range(1, 6)),
    ],
    few=("new.tsv", "en\tde\none thing\tein Ding\n"),
    odd=[{"text": text} for text in ODD],
    bad={
        "max_tokens": 0,
        "beams": 0,
        "length_penalty": -0.1,
        "attention_layer": -1,
        "attention_head": -1,
    },
    free=["source", "target", "norm_first"],
    ignored=[
        {"model": "transformer_tiny", "cell": "lstm"},
        {"model": "transformer_tiny", "units": 128},
        {"model": "transformer_tiny", "attention": "luong"},
        {"model": "transformer_tiny", "luong_score": "dot"},
        {"norm_first": True},
        {"luong_score": "dot"},
        {"model": "transformer_tiny", "attention_layer": 6},
        {"model": "transformer_small", "attention_head": 4},
        {"attention_head": 1},
        {"preset": "no_run"},
    ],
    files=["tokenizer", "measures.json"],
)


@pytest.fixture(
    scope="module", params=["seq2seq", pytest.param("transformer_tiny", marks=pytest.mark.slow)]
)
def parts(request):
    keras.utils.set_random_seed(0)  # Regardless of what ran before.
    own = {"units": 16, "attention": "luong"} if request.param == "seq2seq" else {}
    own |= {"length": 12, "max_tokens": 8, "vocabulary_size": 320, "beams": 1}
    config = app.Config(model=request.param, **own)
    rows = [(" ".join(map(str, en)), " ".join(map(str, de))) for en, de in PAIRS]
    tokens = SentencePieces.learned([text for pair in rows for text in pair], 320)
    model, random = app.build(config, tokens), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.1, weight.shape))
    return config, tokens, model, app.signatures(config, tokens, rows[:4])


def choices(*max_tokens: int) -> dict:
    """How `generate` is to choose, always the likeliest piece."""
    columns: dict = {name: [value] * len(max_tokens) for name, value in GREEDY.items()}
    return {**columns, "max_tokens": list(max_tokens)}


def test_a_text_and_its_pieces_are_translated_as_the_network_does_it(parts):
    config, tokens, model, signatures = parts
    texts = ["the new red house", "", "a small book"]
    answer = ask(signatures["serving_default"], model, {"text": texts})
    choice = choices(8, 8, 8)
    explained = ask(signatures["generate"], model, {"text": texts, **choice, "stop": [[""]] * 3})
    assert explained["translation"].tolist() == answer["translation"].tolist()
    ids = tokens.encode(tf.constant(texts), config.length)
    query = {"source_ids": ids.numpy(), **choice}
    written = ask(signatures["generate_from_tokens"], model, query)
    found = tokens.decode(tf.constant(written["token_ids"])).numpy()
    assert found.tolist() == answer["translation"].tolist()
    counts = (written["token_ids"] >= 0).sum(1)
    assert explained["tokens"].tolist() == counts.tolist()
    for name in ("log_probability", "score"):
        other = explained if name == "log_probability" else answer
        np.testing.assert_allclose(other[name], written["log_probability"], rtol=1e-5)


def test_a_long_text_is_read_from_its_beginning(parts):
    _, tokens, model, signatures = parts
    long = "the new red house and " * 9
    choice = {**choices(8, 5), "stop": [[""]] * 2}
    found = ask(signatures["generate"], model, {"text": [long, "red"], **choice})
    whole = tokens.sizes(tf.constant([long, "red"])).numpy()
    assert found["prompt_tokens"].tolist() == [12, whole[1]]
    assert found["dropped_tokens"].tolist() == [whole[0] - 12, 0]
    again = ask(signatures["generate"], model, {"text": [long + "x", "red"], **choice})
    assert again["translation"].tolist() == found["translation"].tolist()


def test_a_stop_string_that_begins_with_a_space_ends_no_translation_before_its_first_word(parts):
    _, tokens, model, _ = parts
    source = tokens.encode(tf.constant(["red"]))
    words = tokens.encode(tf.constant(["das neue das"]))[0]
    word = tokens.pieces[words[0]].decode()
    assert word.startswith(" ")
    # A network that writes these words.
    steps = Steps(
        lambda source, room: (tf.one_hot(words[:1], tokens.vocabulary_size, 9.0), 1),
        lambda state, _: (tf.one_hot(words[state][None], tokens.vocabulary_size, 9.0), state + 1),
    )
    core = translating(lambda model: steps, 12, tokens.end_id, tokens.pieces)
    features = {**filled({**GREEDY, "max_tokens": 11}, 1), "source_ids": source}
    found = core(Network(model), {**features, "stop": stop_bytes(tf.constant([[word]]))})
    text = tokens.decode(found["token_ids"], found["num_bytes"]).numpy()[0].decode()
    assert text and text == "das neue das"[: "das neue das".index(word)]


def test_the_best_of_the_beams_is_the_translation(parts):
    config, tokens, model, _ = parts
    texts = ["the new red house", "", "a small book"]
    rows = [(" ".join(map(str, en)), " ".join(map(str, de))) for en, de in PAIRS]
    searching = replace(config, beams=3, length_penalty=0.0)
    signatures = app.signatures(searching, tokens, rows[:4])
    default = ask(signatures["serving_default"], model, {"text": texts})
    query = {"text": texts, "max_tokens": [8] * 3}
    found = ask(signatures["beams"], model, {**query, "length_penalty": [0.0] * 3})
    assert found["texts"].shape == (3, 3)
    assert default["translation"].tolist() == found["texts"][:, 0].tolist()
    np.testing.assert_allclose(default["score"], found["scores"][:, 0], rtol=1e-5)
    long = ask(signatures["beams"], model, {**query, "length_penalty": [2.0] * 3})
    assert (long["scores"][:, 0] >= found["scores"][:, 0]).all()
    shown = ask(signatures["attention"], model, {"text": texts})
    assert shown["translation"].tolist() == default["translation"].tolist()


def test_the_score_is_that_of_the_networks_own_translation(parts):
    _, tokens, model, signatures = parts
    texts = ["the new red house", "a small book"]
    answer = ask(signatures["serving_default"], model, {"text": texts})
    ids = [tokens.encode(tf.constant([text])).numpy()[0] for text in texts]
    # The pieces of a decoded text may be others: those of real words are compared.
    pair = {"text": texts, "translation": ["das neue rote Haus", "ein kleines Buch"]}
    found = ask(signatures["score"], model, pair)
    assert found["bytes"].tolist() == [18, 16]
    for row, (source, translation) in enumerate(zip(ids, pair["translation"], strict=True)):
        target = tokens.encode(tf.constant([translation])).numpy()
        begun = tokens.begun(tf.constant(target)).numpy()
        logits = model({"source_ids": source[None], "target_ids": begun})["logits"][0]
        logs = tf.gather(tf.nn.log_softmax(logits), target[0], batch_dims=1)
        assert found["log_probability"][row] == pytest.approx(float(tf.reduce_sum(logs)), rel=1e-5)
        assert found["tokens"][row] == target.shape[1]
    assert answer["score"].shape == (2,)


def test_a_translation_of_20_000_characters_is_read_in_windows_of_the_length(parts):
    config, tokens, _, _ = parts
    table = np.random.default_rng(0).normal(0, 1, (tokens.vocabulary_size,) * 2).astype("float32")
    long, most = "das neue rote Haus " * 1053, 128
    (translation,) = tokens.encode(tf.constant([long])).numpy()
    read = []

    def network(features, training):
        assert features["target_ids"].shape[1] <= most
        read.append(tf.reduce_sum(tf.cast(features["source_ids"] >= 0, tf.int32), 1).numpy())
        return {"logits": tf.gather(tf.constant(table), tf.maximum(features["target_ids"], 0))}

    score = app.signatures(replace(config, length=most), tokens, [("a", "b")])["score"]
    texts = {"text": tf.constant(["red", "red"]), "translation": tf.constant([long, "Rad"])}
    features, counts = score.prepared(texts)
    assert counts["tokens"].numpy()[0] == len(translation) > 9 * most
    found = score.postprocess(score.core(Network(network), features), counts)
    logs = tf.nn.log_softmax(table).numpy()
    for row, ids in enumerate((translation, tokens.encode(tf.constant(["Rad"])).numpy()[0])):
        expected = logs[np.append(tokens.end_id, ids[:-1]), ids].sum()
        assert found["log_probability"][row].numpy() == pytest.approx(expected, rel=1e-4)
    assert len(read) == 1 + -(-(len(translation) - most) // (most // 2))
    assert np.ptp(read) == 0


def test_each_piece_of_a_translation_has_its_attention(parts):
    _, _, model, signatures = parts
    found = ask(signatures["attention"], model, {"text": ["the new red house", ""]})
    pieces, sources = found["translation_pieces"], found["source_pieces"]
    assert found["attention"].shape == (2, pieces.shape[1], sources.shape[1])
    np.testing.assert_allclose(found["attention"].sum(-1), pieces != b"", atol=1e-5)
    assert sources[1].tolist() == [b"</s>"] + [b""] * (sources.shape[1] - 1)
    assert not found["attention"][1, :, 1:].any()


def test_of_many_test_texts_an_even_part_is_translated(monkeypatch):
    monkeypatch.setattr("metrics.translations.MOST_TRANSLATED", 4)

    def ask(signature, model, columns, *_):
        return {"translation": [text.upper().encode() for text in columns["text"]]}

    monkeypatch.setattr(app, "ask", ask)
    pairs = tuple(Pair(letter * (9 - i), letter) for i, letter in enumerate("abcdefghi"))
    data = ParallelTexts(train=(), validation=(), test=pairs, languages=("en", "de"))
    found = app.evaluate(app.Config(), data, None, None)
    assert found.references == ["a", "c", "e", "g"] and found.sources[1] == "c" * 7
    assert found.translations == [source.upper() for source in found.sources]


def test_a_request_out_of_range_is_refused(parts):
    _, _, _, signatures = parts
    columns = {"text": ["a"], **choices(13), "stop": [[""]]}
    specs = signatures["generate"].inputs
    inputs = {name: tf.constant(columns[name], spec.dtype) for name, spec in specs.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`max_tokens` must be in 1 to 12"):
        signatures["generate"].prepared(inputs)


def test_padding_is_a_small_share_of_the_batches(tmp_path, capsys):
    config = app.Config(data="number_words", batch_size=64)
    data = app.load(config)
    fed = app.feed(config, data, SentencePieces.learned(["x"] * 9, 300))
    real = total = 0
    for features, *_ in fed.training(batch_size=64, seed=0, epochs=1).take(20):
        real += sum(np.count_nonzero(ids >= 0) for ids in features.values())
        total += sum(ids.numpy().size for ids in features.values())
    assert 1 - real / total < 0.15
