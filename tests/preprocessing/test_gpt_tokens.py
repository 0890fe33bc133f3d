import keras_hub
import pytest
import tensorflow as tf

from preprocessing.gpt_tokens import BytePairs, encode_gpt
from serving import graph


def test_gpt_takes_texts_and_pairs_in_one_or_both_orders(tiny):
    features = encode_gpt(tiny, tf.constant([["a b"], ["c"]]), 6)
    assert features["token_ids"].numpy().tolist() == [[[2, 5, 6, 4, 0, 0]], [[2, 7, 4, 0, 0, 0]]]
    assert features["padding_mask"].numpy().tolist() == [[[1, 1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0, 0]]]
    assert features["extract"].numpy().tolist() == [[3], [2]]
    pair = encode_gpt(tiny, tf.constant([["a b", "c"]]), 10, both_orders=True, fixed=False)
    assert pair["token_ids"].numpy().tolist() == [[[2, 5, 6, 3, 7, 4], [2, 7, 3, 5, 6, 4]]]
    assert pair["extract"].numpy().tolist() == [[5, 5]]
    with pytest.raises(ValueError, match="must be pairs"):
        encode_gpt(tiny, tf.constant([["a"]]), 10, both_orders=True)


def gpt2_tokenizer():
    known = {"<|endoftext|>": 0, "a": 1, "Ġ": 2, "q": 3, "u": 4, "Ġq": 5, "Ġqu": 6}
    return keras_hub.models.GPT2Tokenizer(vocabulary=known, merges=["Ġ q", "Ġq u"])


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return BytePairs(gpt2_tokenizer())


@pytest.mark.slow
def test_byte_pairs_are_kerashubs(pairs):
    texts = tf.constant(["", "a qu quq", "<|endoftext|> qua<|endoftext|>", "uqa  a", "a a qu"])
    strings = tf.TensorSpec((None,), tf.string)
    reference = tf.function(gpt2_tokenizer().tokenize, input_signature=[strings], autograph=False)
    for some in (texts, texts[:1], texts[2:], texts):
        assert pairs.ids(some).to_list() == reference(some).to_list()


@pytest.mark.slow
def test_gpt2_gets_two_tokens_more(pairs):
    assert pairs.vocabulary_size == 9
    features = encode_gpt(pairs, tf.constant([["a qu", "a"]]), 8)
    assert features["token_ids"].numpy().tolist() == [[[0, 1, 6, 7, 1, 8, 0, 0]]]
    assert features["extract"].numpy().tolist() == [[5]]


@pytest.mark.slow
def test_byte_pairs_are_saved_in_graphs(pairs, tmp_path):
    module = tf.Module()
    module.tokenizer = pairs.tokenizer
    module.encode = tf.function(
        lambda texts: encode_gpt(pairs, texts, 8),
        input_signature=[tf.TensorSpec((None, 2), tf.string)],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path))
    operations = graph.operations(graph.read(tmp_path))
    assert not graph.unservable(operations)
    # No word is kept.
    assert "LookupTableFindV2" in operations
    assert not any("MutableHashTable" in name or "Insert" in name for name in operations)
    for encode in (module.encode, graph.load(tmp_path).encode):
        features = encode(tf.constant([["a qu", "a"]]))
        assert features["token_ids"].numpy().tolist() == [[[0, 1, 6, 7, 1, 8, 0, 0]]]
        assert features["extract"].numpy().tolist() == [[5]]


@pytest.mark.slow
def test_byte_pairs_are_saved_for_another_run(pairs, tmp_path):
    pairs.save(tmp_path / "tokenizer")
    again = BytePairs.from_preset(tmp_path / "tokenizer")
    texts = tf.constant(["quick q", ""])
    assert again.ids(texts).to_list() == pairs.ids(texts).to_list()
    assert again.extract_id == pairs.extract_id
