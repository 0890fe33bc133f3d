import json

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from preprocessing import byte_pairs
from preprocessing.byte_pair_files import RULES, read
from preprocessing.byte_pairs import PretrainedBytePairs
from tests.preprocessing.hard_texts import HARD, TEXTS, decoded
from tests.preprocessing.pretrained_pairs import LEARNED_FROM, write_tokenizer

PARTS = [
    *" \t\n\r\x0b\x85\u00a0\u2003\u30000'sStTdDlLmvreE!.,-1234٣½aß漢😀\u017f\u200d\u0301\x00\x01",
    *("  ", "\n\n", " '", "'s", "'LL", " a", "the", " quick", "aaaaa", "<|im_end|>"),
]


@pytest.fixture(params=RULES)
def both(request, tmp_path):
    theirs = write_tokenizer(tmp_path, request.param)
    theirs.encode_special_tokens = True  # As text.
    return PretrainedBytePairs(read(tmp_path)), theirs


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"vocab_size": 400}))
    return PretrainedBytePairs(read(folder))


def rows(ids) -> list[list[int]]:
    return [row[row >= 0].tolist() for row in np.asarray(ids)]


def test_tokens_are_those_of_the_package_tokenizers(both):
    ours, theirs = both
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(PARTS, random.integers(0, 12))) for _ in range(1000)]
    texts += [*TEXTS, *HARD, *LEARNED_FROM]
    expected = [one.ids for one in theirs.encode_batch([decoded(text) for text in texts])]
    ids = ours.encode(tf.constant(texts))
    assert rows(ids) == expected
    assert ours.sizes(tf.constant(texts)).numpy().tolist() == [len(one) for one in expected]
    got = [one.decode() for one in ours.decode(ids).numpy()]
    assert got == [decoded(text) for text in texts]


def test_a_special_token_that_is_spelled_out_stays_text(tokens):
    (ids,) = rows(tokens.encode(tf.constant(["a<|im_end|>b"])))
    assert tokens.end_id == 2 and not {0, 1, 2} & {*ids} and len(ids) > 8
    assert tokens.decode(tf.constant([[2, *ids, 0]])).numpy().tolist() == [b"a<|im_end|>b"]


def test_the_last_tokens_are_kept_if_there_may_be_no_more(tokens):
    texts = tf.constant(["the quick brown fox", "words", ""])
    every = rows(tokens.encode(texts))
    kept = rows(tokens.encode(texts, tf.constant([2, 0, 5])))
    assert kept == [every[0][-2:], [], []]


def test_datasets_and_exported_graphs_encode_as_eagerly(tmp_path):
    write_tokenizer(tmp_path, "llama3")
    tokens = PretrainedBytePairs(read(tmp_path))
    texts = ["the quick 1234\n\n", "", "words"]
    expected = tokens.encode(tf.constant(texts)).numpy()
    (batch,) = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(tokens.encode)
    np.testing.assert_array_equal(batch, expected)
    module = tf.Module()
    module.resources = tokens.resources
    module.encode = tf.function(
        tokens.encode, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False
    )
    tf.saved_model.save(module, tmp_path / "export")
    loaded = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_array_equal(loaded.encode(tf.constant(texts)), expected)
    assert loaded.encode(tf.constant([], tf.string)).shape == (0, 0)


def test_a_very_long_word_is_merged_in_parts(tmp_path, monkeypatch):
    theirs = write_tokenizer(tmp_path)
    monkeypatch.setattr(byte_pairs, "MOST_BYTES", 8)
    tokens = PretrainedBytePairs(read(tmp_path))
    (ids,) = rows(tokens.encode(tf.constant(["quick" * 4])))
    parts = ["quickqui", "ckquickq", "uick"]
    assert ids == [i for part in parts for i in theirs.encode(part).ids]


def test_a_byte_without_a_token_is_left_out(tmp_path):
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    file = json.loads(path.read_text())
    del file["model"]["vocab"]["Z"]
    path.write_text(json.dumps(file))
    tokens = PretrainedBytePairs(read(tmp_path))
    assert tokens.decode(tokens.encode(tf.constant(["xZy"]))).numpy().tolist() == [b"xy"]


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_tokenizer_is_read_as_it_was(rule, tmp_path):
    write_tokenizer(tmp_path, rule, "<|im_start|>", chat_template="{{ x }}")
    file = read(tmp_path)
    assert (file.rule, file.begin, file.end) == (rule, "<|im_start|>", "<|im_end|>")
    PretrainedBytePairs(file).save(tmp_path / "saved")
    assert read(tmp_path / "saved") == file


def test_more_embeddings_than_tokens_have_no_text(tokens):
    assert tokens.vocabulary_size == 400
    assert tokens.decode(tf.constant([[399, 3 + ord("a") - 33, -1]])).numpy()[0] == b"a"


def test_kerashubs_layout_and_gpt2s_old_one_are_read(tmp_path):
    write_tokenizer(tmp_path)
    file = read(tmp_path)
    vocabulary = {**file.vocabulary, "<|endoftext|>": 0}
    merges = [" ".join(pair) for pair in file.merges]
    theirs = keras_hub.models.GPT2Tokenizer(vocabulary, merges)
    theirs.save_to_preset(tmp_path / "keras_hub")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "old" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (tmp_path / "keras_hub" / "chat_template.jinja").write_text("{{ x }}")
    config = {"chat_template": [{"name": "default", "template": "{{ x }}"}]}
    (tmp_path / "old" / "tokenizer_config.json").write_text(json.dumps(config))
    for folder in ("keras_hub", "old"):
        found = read(tmp_path / folder)
        assert found.chat_template == "{{ x }}"
        assert (found.end, found.begin, found.rule) == ("<|endoftext|>", None, "gpt2")
        assert found.vocabulary == file.vocabulary and list(found.merges) == file.merges


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("normalizer",), {"type": "NFC"}, "`normalizer` must be null. Received: NFC"),
        (
            ("pre_tokenizer",),
            {"type": "Metaspace"},
            'rule of GPT-2, the same with single digits, or that of Llama 3. .*"Metaspace"',
        ),
        (("pre_tokenizer", "add_prefix_space"), True, "`pre_tokenizer` must be the rule of GPT-2"),
        (("model", "type"), "Unigram", '`type` must be "BPE". Received: Unigram'),
        (("model", "byte_fallback"), True, "`byte_fallback` must be false. Received: True"),
        (("model", "ignore_merges"), True, "`ignore_merges` must be false. Received: True"),
        (("model", "vocab", "▁a"), 999, "`vocab` must be tokens of bytes. Received: ▁a"),
        (("added_tokens", 0, "special"), False, "must be special tokens. Received: <.endoftext"),
        (
            ("post_processor",),
            {"type": "BertProcessing"},
            "`post_processor` must be at most a token before the text",
        ),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_would_give_other_tokens_is_refused_by_name(place, value, message, tmp_path):
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    file = json.loads(path.read_text())
    part = file
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(file))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_several_chat_templates_without_a_default_are_refused(tmp_path):
    write_tokenizer(tmp_path, chat_template=[{"name": "rag", "template": "{{ x }}"}])
    with pytest.raises(ValueError, match=r"`chat_template` must be .* a default.*Received: .'rag'"):
        read(tmp_path)


def test_a_folder_without_a_tokenizer_or_an_end_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected a tokenizer.json, or GPT-2's vocab.json"
    ):
        read(tmp_path)
    write_tokenizer(tmp_path, eos_token="</s>")
    with pytest.raises(ValueError, match=r"`eos_token` must be one of <.endoftext.*Received: </s>"):
        read(tmp_path)
