import numpy as np
import pytest
import tensorflow as tf

from preprocessing.byte_tokens import Bytes
from preprocessing.prompts import Prompts
from preprocessing.tokenizers import tokenizer
from tests.models.blueprint import with_slow
from tests.preprocessing.pretrained_pairs import RULES, write_tokenizer

TEMPLATE = "Review: {text}\nSentiment: {label}\n\n"
SHOTS = [("the quick  fox's", "good"), ("123 words {label} ", "not so good"), ("é", "bad")]
WHOLE = (
    "Review: the quick  fox's\nSentiment: good\n\nReview: 123 words {label} \nSentiment: not so "
    "good\n\nReview: é\nSentiment: bad\n\nReview: brown\nSentiment:"
)


@pytest.fixture(scope="module", params=with_slow(RULES, {"gpt2_digits"}))
def pairs(request, tmp_path_factory):
    """A tokenizer of byte pairs, and that of the package tokenizers."""
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs = write_tokenizer(folder, request.param)
    return tokenizer(folder), theirs


def test_examples_and_prompt_have_the_tokens_of_the_whole_text(pairs):
    tokens, theirs = pairs
    prompts = Prompts(tokens, TEMPLATE, SHOTS)
    ids = [*prompts.prefix, *prompts.encode(tf.constant(["brown"])).numpy()[0]]
    assert ids == theirs.encode(WHOLE).ids
    answers = prompts.encode_answers(tf.constant(["not so good", "bad"])).numpy()
    for row, answer in zip(answers, ("not so good", "bad"), strict=True):
        assert [*ids, *row[row >= 0]] == theirs.encode(f"{WHOLE} {answer}").ids
    assert prompts.written("brown") == WHOLE
    assert sum(prompts.sizes) == len(prompts.prefix)


def test_a_text_begins_before_the_first_example_or_else_with_the_prompt():
    prompts = Prompts(Bytes(), TEMPLATE, SHOTS)
    assert prompts.prefix[0] == Bytes.begin_id and Bytes.begin_id not in prompts.prefix[1:]
    assert prompts.sizes[0] == 1 + len("Review: the quick  fox's\nSentiment: good")
    none = Prompts(Bytes(), TEMPLATE)
    assert none.prefix == () and none.sizes == []
    ids = none.encode(tf.constant(["brown"])).numpy()[0]
    assert bytes(ids.tolist()) == b"Review: brown\nSentiment:"


def test_without_a_template_texts_are_encoded_and_decoded_as_they_are():
    texts = tf.constant([" a\n", "", "b "])
    ids = Prompts(Bytes()).encode(texts)
    np.testing.assert_array_equal(ids, Bytes().encode(texts))
    assert Prompts(Bytes()).decode(ids).numpy().tolist() == texts.numpy().tolist()


def test_an_answer_ends_where_the_text_after_it_begins():
    prompts = Prompts(Bytes(), TEMPLATE, SHOTS)
    written = [" good\n\nReview: x\n\n", "", " so\ngood ", "\n\n", "bad\n"]
    ids = Bytes().encode(tf.constant(written))
    expected = [b"good", b"", b"so\ngood", b"", b"bad"]
    assert prompts.decode(ids).numpy().tolist() == expected
    assert prompts.decode(ids[:0]).shape == (0,)


def test_prompts_are_the_same_in_a_pipeline_and_in_a_graph():
    prompts = Prompts(Bytes(), TEMPLATE, SHOTS)
    texts = ["fine", "", "a\nb"]
    expected = prompts.encode(tf.constant(texts)).numpy()
    (piped,) = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(prompts.encode)
    graph = tf.function(prompts.encode, input_signature=[tf.TensorSpec((None,), tf.string)])
    np.testing.assert_array_equal(piped, expected)
    np.testing.assert_array_equal(graph(tf.constant(texts)), expected)


def test_each_prompt_has_all_answers_and_empty_ones_have_a_column():
    prompts = Prompts(Bytes(), "{text}={label};")
    found = prompts.with_answers(["yes", "no"], tf.constant(["1", "22"]))
    rows = [[*b"yes"], [*b"no", -1]]
    assert found["answer_ids"].numpy().tolist() == [rows, rows]
    features, counts = prompts.to_score(3, tf.constant(["1"]), tf.constant([""]))
    assert features["answer_ids"].numpy().tolist() == [[[-1]]]
    assert [counts[name].numpy().tolist() for name in ("tokens", "bytes")] == [[0], [0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="`text` must have at most 3 tokens"):
        prompts.to_score(3, tf.constant(["1", "1"]), tf.constant(["yes", "none"]))
