import itertools
import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from models.decoders import PretrainedDecoder, decoder_steps, pretrained_decoder
from models.generation import Choice, generate
from models.lora import without_adapters
from tests.models.tiny_llama import LLAMA, write_llama

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], "int32")
INPUTS = {
    "token_ids": TOKENS,
    "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], "int32"),
}


def llama_logits(weights, tokens):
    """The logits of one text, written out from the paper of Llama."""
    layer = {
        name.removeprefix("model.layers.0."): value.T
        for name, value in weights.items()
        if ".layers." in name
    }

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + LLAMA["rms_norm_eps"]) * scale

    def rotated(x):  # (tokens, heads, 4)
        angles = np.arange(len(x))[:, None, None] * 1000.0 ** -np.array([0, 0.5])
        first, second = x[..., :2], x[..., 2:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    x = weights["model.embed_tokens.weight"][tokens]
    y = norm(x, layer["input_layernorm.weight"])
    query, key, value = (
        (y @ layer[f"self_attn.{name}_proj.weight"]).reshape(len(x), -1, 4) for name in "qkv"
    )
    query, key = rotated(query), rotated(key)
    heads = []
    for head in range(4):
        scores = query[:, head] @ key[:, head // 2].T / 2
        scores = np.exp(np.where(np.tri(len(x), dtype=bool), scores, -np.inf))
        heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, head // 2])
    x = x + np.concatenate(heads, -1) @ layer["self_attn.o_proj.weight"]
    y = norm(x, layer["post_attention_layernorm.weight"])
    gate = y @ layer["mlp.gate_proj.weight"]
    y = gate / (1 + np.exp(-gate)) * (y @ layer["mlp.up_proj.weight"])
    x = x + y @ layer["mlp.down_proj.weight"]
    return norm(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T


def test_a_llama_in_hugging_faces_layout_computes_what_the_paper_says(tmp_path):
    weights = write_llama(tmp_path)
    logits = pretrained_decoder(tmp_path, length=20)(INPUTS)["logits"].numpy()
    for row, count in enumerate((5, 3)):
        expected = llama_logits(weights, TOKENS[row, :count])
        np.testing.assert_allclose(logits[row, :count], expected, atol=1e-4)


def test_a_gpt2_in_kerashubs_layout_keeps_its_logits(tmp_path):
    saved = keras_hub.models.GPT2Backbone(11, 2, 2, 16, 64, max_sequence_length=12)
    saved.save_to_preset(tmp_path)
    expected = saved.token_embedding(saved(INPUTS), reverse=True)
    logits = pretrained_decoder(tmp_path, length=12)(INPUTS)["logits"]
    real = INPUTS["padding_mask"] > 0
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)
    with pytest.raises(ValueError, match=r"`length` must be at most 12, .* Received: length=13"):
        pretrained_decoder(tmp_path, length=13)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_texts_that_share_a_row_are_read_as_if_each_were_alone(kind, tmp_path):
    if kind == "llama":
        write_llama(tmp_path)
    else:
        gpt2 = keras_hub.models.GPT2Backbone(11, 2, 2, 16, 64, max_sequence_length=12)
        gpt2.save_to_preset(tmp_path)
    model = pretrained_decoder(tmp_path, length=8)
    texts = [[3, 1, 4], [9], [2, 6, 5]]
    row = np.array([[*itertools.chain(*texts), 0]], "int32")
    together = model({"token_ids": row, "padding_mask": np.array([[1, 1, 1, 2, 3, 3, 3, 0]])})
    begin = 0
    for text in texts:
        ids = np.array([[*text, 0]], "int32")
        alone = model({"token_ids": ids, "padding_mask": np.array([[1] * len(text) + [0]])})
        found = together["logits"][0, begin : begin + len(text)]
        np.testing.assert_allclose(found, alone["logits"][0, :-1], atol=2e-6)
        begin += len(text)


def test_rotations_of_llama_3_are_read_from_both_forms_of_the_file(tmp_path):
    rope = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    write_llama(tmp_path, rope_scaling=rope)
    old = pretrained_decoder(tmp_path)
    write_llama(tmp_path, rope_parameters={**rope, "rope_theta": 1000.0})
    new = pretrained_decoder(tmp_path)
    write_llama(tmp_path)
    plain = pretrained_decoder(tmp_path)
    np.testing.assert_allclose(old(INPUTS)["logits"], new(INPUTS)["logits"], atol=1e-6)
    assert np.abs(old(INPUTS)["logits"] - plain(INPUTS)["logits"]).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "opt"}, "expected one of gpt2, llama, .* Received: opt"),
        ({"hidden_act": "gelu"}, '`hidden_act` must be "silu", .* Received: "gelu"'),
        ({"attention_bias": True}, "`attention_bias` must be false, .* Received: true"),
        ({"head_dim": 8}, "`head_dim` must be hidden_size / num_attention_heads, 4. Received: 8"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "must be default or llama3. Received: yarn"),
        ({"max_position_embeddings": 4}, "`length` must be at most 4, .* Received: length=5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_kerashub_would_ignore_is_refused_by_name(changes, message, tmp_path):
    write_llama(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        pretrained_decoder(tmp_path, length=5)


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path):
    write_llama(tmp_path)
    with pytest.raises(ValueError, match=r"an embedding for each of 12 tokens. Received: 11"):
        pretrained_decoder(tmp_path, vocabulary_size=12)


def test_a_setting_that_is_missing_or_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Received: no config.json in it"):
        pretrained_decoder(tmp_path)
    config = {name: value for name, value in LLAMA.items() if name != "tie_word_embeddings"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"expected `tie_word_embeddings`. Received: none"):
        pretrained_decoder(tmp_path)


@pytest.fixture(params=["gpt2", "llama"])
def decoder(request):
    if request.param == "gpt2":
        return PretrainedDecoder(
            keras_hub.models.GPT2Backbone(11, 2, 2, 16, 64, dropout=0, max_sequence_length=12)
        )
    return PretrainedDecoder(keras_hub.models.Llama3Backbone(11, 2, 4, 16, 24, 2))


def test_new_adapters_change_no_logits_and_are_all_that_trains(decoder):
    expected = decoder(INPUTS)["logits"].numpy()
    decoder.enable_lora(3)
    np.testing.assert_array_equal(decoder(INPUTS)["logits"], expected)
    names = {variable.path.split("/", 2)[2] for variable in decoder.trainable_variables}
    kernels = {f"{part}/lora_kernel_{side}" for part in ("query", "value") for side in ("a", "b")}
    assert names == kernels


def test_merged_adapters_give_the_logits_of_the_trained_network(decoder):
    assert decoder.finished() is decoder
    before = decoder(INPUTS)["logits"].numpy()
    decoder.enable_lora(3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    decoder.compile(keras.optimizers.SGD(1.0), loss={"logits": loss}, run_eagerly=True)
    for _ in range(3):
        decoder.train_on_batch(INPUTS, {"logits": np.roll(TOKENS, -1, 1)})
    trained = decoder(INPUTS)["logits"].numpy()
    merged = decoder.finished()
    assert np.abs(trained - before).max() > 1e-3
    np.testing.assert_allclose(merged(INPUTS)["logits"], trained, atol=1e-5)
    assert not any("lora" in variable.path for variable in merged.variables)
    with without_adapters(decoder):
        np.testing.assert_array_equal(decoder(INPUTS)["logits"], before)
    np.testing.assert_array_equal(decoder(INPUTS)["logits"], trained)
    first, _ = decoder_steps(decoder, 12).start(tf.constant(TOKENS[:1]), 1)
    np.testing.assert_allclose(first, trained[:1, -1], atol=1e-5)


@pytest.mark.slow
def test_weights_are_read_and_adapters_merged_before_the_first_token(decoder):
    decoder.enable_lora(3)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def write(prompt):
        ones = tf.ones((tf.shape(prompt)[0],))
        whole = tf.cast(ones, tf.int32)
        choice = Choice(4 * whole, ones, 0 * whole, ones, ones, tf.cast(ones, tf.int64))
        steps = decoder_steps(decoder, 12)
        return generate(steps, prompt, prompt, choice, limit=4, end_id=0).token_ids

    graph = write.get_concrete_function().graph.as_graph_def()
    bodies = [one for one in graph.library.function if "while_body" in one.signature.name]
    inside = {node.op for body in bodies for node in body.node_def}
    assert "MatMul" in inside and "ReadVariableOp" not in inside
    assert "ReadVariableOp" in {node.op for node in graph.node}
