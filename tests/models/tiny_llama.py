"""A tiny Llama with random weights in the layout of Hugging Face."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LLAMA = {
    "model_type": "llama",
    "vocab_size": 11,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "rms_norm_eps": 1e-2,
    "rope_theta": 1000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}


def write_llama(folder: Path, **changes) -> dict[str, np.ndarray]:
    """Writes a network, with other settings than those of `LLAMA`; returns its weights."""
    random = np.random.default_rng(0)
    config = {**LLAMA, **changes}
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], 16),
        f"{layer}.input_layernorm.weight": (16,),
        f"{layer}.post_attention_layernorm.weight": (16,),
        f"{layer}.self_attn.q_proj.weight": (16, 16),
        f"{layer}.self_attn.k_proj.weight": (8, 16),
        f"{layer}.self_attn.v_proj.weight": (8, 16),
        f"{layer}.self_attn.o_proj.weight": (16, 16),
        f"{layer}.mlp.gate_proj.weight": (24, 16),
        f"{layer}.mlp.up_proj.weight": (24, 16),
        f"{layer}.mlp.down_proj.weight": (16, 24),
        "model.norm.weight": (16,),
    }
    weights = {
        name: random.normal(0, 0.4, shape).astype("float32") for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return weights
