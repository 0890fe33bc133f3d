"""A real pretrained decoder, with 30 layers and 9 query heads that share 3 heads of keys."""

import json

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from apps import text_generation as app
from data import worked_examples
from models.decoders import decoder_steps, pretrained_decoder
from preprocessing.tokenizers import tokenizer
from preprocessing.turns import turn_tokens
from serving.signature import ask

pytestmark = pytest.mark.slow
PROMPTS = ["The capital of France is", "Water boils at 100 degrees, and"]


@pytest.fixture(scope="module")
def model(smollm2):
    return pretrained_decoder(str(smollm2), length=64)


def test_texts_have_the_tokens_of_the_package_tokenizers(smollm2, shared_data):
    tokens = tokenizer(smollm2)
    theirs = tokenizers.Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    lines = (shared_data / "wikitext2" / "test.txt").read_text(encoding="utf-8").split("\n")[:2000]
    rows = tokens.encode(tf.constant(lines)).numpy()
    expected = [one.ids for one in theirs.encode_batch(lines)]
    assert [row[row >= 0].tolist() for row in rows] == expected


def test_logits_are_those_of_kerashub_with_and_without_a_cache(smollm2, model):
    tokens = tokenizer(smollm2)
    ids = tokens.encode(tf.constant(PROMPTS))
    lengths = np.sum(ids >= 0, axis=1)
    epsilon = json.loads((smollm2 / "config.json").read_text())["rms_norm_eps"]
    backbone = keras_hub.models.Llama3Backbone.from_preset(str(smollm2), layer_norm_epsilon=epsilon)
    features = {"token_ids": tf.maximum(ids, 0), "padding_mask": tf.cast(ids >= 0, tf.int32)}
    theirs = backbone.token_embedding(backbone(features), reverse=True).numpy()
    whole = model(features)["logits"].numpy()
    real = ids.numpy() >= 0
    np.testing.assert_allclose(whole[real], theirs[real], atol=1e-4)
    steps = decoder_steps(model, 64)
    at_once, _ = steps.start(ids, 1)
    logits, state = steps.start(ids[:, :1], 64)
    singly = [logits]
    for column in range(1, ids.shape[1]):
        logits, state = steps.step(state, tf.maximum(ids[:, column], 0))
        singly.append(logits)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(at_once[row], theirs[row, length - 1], atol=1e-4)
        np.testing.assert_allclose(singly[length - 1][row], at_once[row], atol=1e-4)


def test_greedy_text_is_what_kerashubs_logits_say(smollm2, model):
    config = app.Config(model="gpt", preset=str(smollm2), length=32, max_tokens=6, temperature=0.0)
    tokens = tokenizer(**config.tokenizer)
    signature = app.signatures(config, tokens, PROMPTS)["serving_default"]
    answers = ask(signature, model, {"prompt": PROMPTS})["text"]
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = tokens.encode(tf.constant([prompt])).numpy()[0].tolist()
        begin = len(ids)
        while len(ids) < begin + 6 and ids[-1] != tokens.end_id:
            row = np.array([ids])
            logits = model({"token_ids": row, "padding_mask": np.ones_like(row)})["logits"]
            ids.append(int(np.argmax(logits[0, -1])))
        assert answer == tokens.decode(tf.constant([ids[begin:]])).numpy()[0]
    assert answers[0].startswith(b" Paris")


def test_its_chat_template_is_known(smollm2):
    tokens = turn_tokens(tokenizer(smollm2), str(smollm2))
    ids, _ = tokens.prompts(tf.constant([["Hi"]]), tf.constant([""]), tf.constant([100]))
    theirs = tokenizers.Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    rendered = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert ids.numpy()[0].tolist() == theirs.encode(rendered).ids


def test_worked_examples_show_it_how_to_tell_good_reviews_from_bad_ones(
    smollm2, model, shared_data, tmp_path
):
    words = {"0": "negative", "1": "positive"}
    for name, file, count in (("shots", "train", 6920), ("dev", "dev", 40)):
        lines = (shared_data / "sst2" / f"{file}.tsv").read_text("utf-8").strip().split("\n")
        rows = [line.split("\t") for line in lines[:: max(1, len(lines) // count)][:count]]
        table = ["text\tlabel", *(f"{text}\t{words[label]}" for text, label in rows)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(table), "utf-8")
    config = app.Config(
        data=str(tmp_path / "dev.tsv"),
        model="gpt",
        preset=str(smollm2),
        shots=str(tmp_path / "shots.tsv"),
        num_shots=8,
        template=r"Review: {text}\nSentiment: {label}\n",
        length=1024,
    )
    tokens = tokenizer(**config.tokenizer)
    data = worked_examples.load(**config.loading, shots=config.shots)
    _, prompts, _ = worked_examples.prompts(data, tokens, **config.prompting)
    found = app.answer(config, data, tokens, {8: prompts[8]}, model)[8]
    assert found.scores["accuracy"] >= 0.7
    theirs = tokenizers.Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    (first,), (second,) = (theirs.encode(f" {word}").ids for word in words.values())
    for number in (0, 20):
        ids = theirs.encode(prompts[8].written(data.tested[number].text)).ids
        row = np.array([ids])
        logits = model({"token_ids": row, "padding_mask": np.ones_like(row)})["logits"][0, -1]
        both = tf.nn.softmax([logits[first], logits[second]]).numpy()
        np.testing.assert_allclose(found.probabilities[number], both, atol=1e-4)
