"""Speed of writing texts in Hornbook and with `generate` of Hugging Face's transformers on PyTorch.

GPTs with random weights, equal on both sides, continue prompts of 32 tokens by 128, greedily, in
float32. Hornbook's side is an exported signature that is loaded and called with texts, with and
without `--compile-export`. The other side gets and returns tokens. Nothing is timed before all have
written the same tokens. Runs alternate between the sides. What is printed is the median rate of
each, the median of the ratios of neighboring runs, and how much longer 4 beams take than greedy
choice.

Example:

    OMP_WAIT_POLICY=passive python -m benchmarks.writing_speed
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch
import transformers
import tyro

from models.decoders import decoder_steps
from models.gpt import GPT_SIZES, GPTSize, gpt_backbone, gpt_language_model
from models.writing import continuing
from preprocessing.byte_tokens import as_features
from serving import writing
from serving.saving import write_graph
from serving.table import table
from serving.writing import Writer

VOCABULARY, PROMPT, WRITTEN, BEAMS = 8192, 32, 128, 4
CONTEXT = PROMPT + WRITTEN
SIZES = {"4 x 128": GPTSize(4, 128, 4), "6 x 384": GPTSize(6, 384, 6)}
"""Layers and features."""
TOKENS = SimpleNamespace(begin_id=0, end_id=0, pieces=[b"a"] * VOCABULARY)
OURS, COMPILED, SEARCH, THEIRS = "Hornbook", "--compile-export", "4 beams", "transformers"

Write = Callable[[], np.ndarray]
"""Writes once and returns the tokens `(n, WRITTEN)`."""


@dataclass(frozen=True)
class Config:
    sizes: tuple[str, ...] = tuple(SIZES)
    """Networks to measure."""
    batch_sizes: tuple[int, ...] = (1, 16)
    """Texts that are written at the same time."""
    rounds: int = 7
    """Interleaved runs of each."""


def network(size: str) -> keras.Model:
    """A GPT whose end token, 0, is never the likeliest, as its embedding is 0."""
    keras.utils.set_random_seed(0)
    GPT_SIZES[size] = SIZES[size]
    model = gpt_language_model(gpt_backbone(size, VOCABULARY, CONTEXT, 0.0))
    embeddings = model.get_layer("token_embedding").embeddings
    embeddings.assign(np.asarray(embeddings) * (np.arange(VOCABULARY) > 0)[:, None])
    return model


def encode(prompt: tf.Tensor) -> tf.Tensor:
    """A token for each byte."""
    return tf.cast(tf.io.decode_raw(prompt, tf.uint8), tf.int32) + 1


def decode(token_ids: tf.Tensor, _: tf.Tensor | None) -> tf.Tensor:
    """A number for each token, as `numbers` reads them."""
    return tf.strings.reduce_join(tf.strings.as_string(token_ids), axis=1, separator=" ")


def numbers(texts: tf.Tensor) -> np.ndarray:
    return np.array([text.split() for text in texts.numpy()], int)


def ours(model: keras.Model, prompts: list[str], way: str, folder: Path) -> Write:
    """Exports and loads the signature that writes."""
    loop: dict[str, Any] = {"limit": WRITTEN}
    if way == COMPILED:
        loop["sizes"] = writing.compiled_sizes(CONTEXT)
    choice = {"length_penalty": 0.0} if way == SEARCH else writing.GREEDY
    writer = Writer(
        core=continuing(decoder_steps, CONTEXT, TOKENS, BEAMS, **loop),
        inputs={"prompt": writing.TEXT},
        read=lambda max_tokens, prompt: ({"token_ids": encode(prompt)}, {}),
        tokens={"token_ids": writing.IDS},
        as_features=as_features,
        decode=decode,
        choice={"max_tokens": WRITTEN, **choice},
        **loop,
        examples={"prompt": np.array(prompts, object), "token_ids": encode(prompts).numpy()},
        meanings={
            **writing.MEANINGS,
            "prompt": "a prompt",
            "text": "token ids",
            "token_ids": "ids",
        },
    )
    signatures = {"serving_default": writer.signatures()["serving_default"]}
    write_graph(folder / way, model, signatures)
    loaded = tf.saved_model.load(str(folder / way))
    inputs = tf.constant(prompts)
    return lambda: numbers(loaded.signatures["serving_default"](prompt=inputs)["text"])


def torch_gpt(model: keras.Model, size: GPTSize, vocabulary_size: int, context: int) -> Any:
    """The same network, with the same weights, in transformers; without dropout."""
    layers, width, heads = size
    config = transformers.GPT2Config(
        vocab_size=vocabulary_size,
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    made = transformers.GPT2LMHeadModel(config).eval()
    names = {
        "self_attention/attention_output": "attn.c_proj",
        "self_attention_layer_norm": "ln_1",
        "feedforward_layer_norm": "ln_2",
        "feedforward_intermediate_dense": "mlp.c_fc",
        "feedforward_output_dense": "mlp.c_proj",
    }
    kinds = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    state = {
        "transformer.wte.weight": model.get_layer("token_embedding").embeddings,
        "transformer.wpe.weight": model.get_layer("position_embedding").position_embeddings,
    }
    state["lm_head.weight"] = state["transformer.wte.weight"]
    for weight in model.get_layer("layer_norm").weights:
        state[f"transformer.ln_f.{kinds[weight.name]}"] = weight
    for number in range(layers):
        layer, prefix = model.get_layer(f"transformer_layer_{number}"), f"transformer.h.{number}"
        weights = {w.path.partition(f"{layer.name}/")[2]: np.asarray(w) for w in layer.weights}
        for kind in ("kernel", "bias"):
            parts = (weights[f"self_attention/{name}/{kind}"] for name in ("query", "key", "value"))
            shape = (width, width) if kind == "kernel" else (width,)
            joined = np.concatenate([part.reshape(shape) for part in parts], axis=-1)
            state[f"{prefix}.attn.c_attn.{kinds[kind]}"] = joined
        for path, name in names.items():
            for kind in ("kernel", "bias", "gamma", "beta"):
                if f"{path}/{kind}" in weights:
                    weight = weights[f"{path}/{kind}"]
                    weight = weight.reshape(-1, weight.shape[-1]) if kind == "kernel" else weight
                    state[f"{prefix}.{name}.{kinds[kind]}"] = weight
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in state.items()}
    made.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return made


def theirs(model: keras.Model, size: str, prompts: list[str]) -> Write:
    """The same network in PyTorch."""
    made = torch_gpt(model, SIZES[size], VOCABULARY, CONTEXT)
    ids = torch.tensor(np.pad(encode(prompts).numpy(), [(0, 0), (1, 0)])).long()
    settings = {"min_new_tokens": WRITTEN, "max_new_tokens": WRITTEN, "do_sample": False}

    def write():
        with torch.inference_mode():
            mask = torch.ones_like(ids)
            return made.generate(ids, attention_mask=mask, **settings)[:, PROMPT:].numpy()

    return write


def measured(config: Config, size: str, batch_size: int) -> list[str]:
    """Measures a network with a batch; returns a row of the table."""
    random, model = np.random.default_rng(0), network(size)
    prompts = ["".join(map(chr, row)) for row in random.integers(97, 123, (batch_size, PROMPT - 1))]
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Write] = {
            way: ours(model, prompts, way, Path(folder)) for way in (OURS, COMPILED, SEARCH)
        }
        ways[THEIRS] = theirs(model, size, prompts)
        expected = ways[THEIRS]()
        for way in (OURS, COMPILED):
            np.testing.assert_array_equal(ways[way](), expected)
        ways[SEARCH]()
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(config.rounds):
            for way, write in ways.items():
                begin = time.perf_counter()
                write()
                seconds[way].append(time.perf_counter() - begin)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    medians = (statistics.median(seconds[way]) for way in (OURS, COMPILED, THEIRS))
    return [
        size,
        str(batch_size),
        *(f"{batch_size * WRITTEN / median:,.0f}" for median in medians),
        f"{ratio(THEIRS, OURS):.2f}",
        f"{ratio(THEIRS, COMPILED):.2f}",
        f"{ratio(SEARCH, OURS):.2f}",
    ]


def main(config: Config) -> None:
    heading = ["network", "texts", *(f"{way}, tokens/s" for way in (OURS, COMPILED, THEIRS))]
    heading += ["ratio", "ratio, compiled", "beams, times the greedy time"]
    found = [measured(config, size, count) for size in config.sizes for count in config.batch_sizes]
    print(table(heading, found))


if __name__ == "__main__":
    main(tyro.cli(Config))
