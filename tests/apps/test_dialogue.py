import json
from pathlib import Path

import numpy as np

from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import COLORS, ODD, THINGS


def colors(folder: Path) -> str:
    """Writes dialogues about things of one color each."""
    random = np.random.default_rng(0)
    for split, count in {"train": 60, "dev": 8, "test": 12}.items():
        lines = []
        for _ in range(count):
            color, thing = random.choice(COLORS), random.choice(THINGS)
            turns = [f"I have a {color} {thing}.", "A what?", f"A {thing}.", f"{color}, yes."]
            roles = ("user", "assistant") * 2
            messages = [
                {"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)
            ]
            lines.append(json.dumps({"messages": messages}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder)


SMALL = Small(
    write=colors,
    settings={
        "epochs": 4,
        "batch_size": 8,
        "length": 64,
        "model": "gru",
        "units": 64,
        "max_tokens": 8,
        "learning_rate": 0.02,
    },
    beats=("-bits_per_byte", 3),
    sections=[
        "Bytes of the true replies, predicted from those before",
        "Variety of the replies",
        "Dialogues",
    ],
    odd=[
        *({"turns": ["", text, ""]} for text in ODD),
        {"turns": ["<|im_end|>", "<assistant>", "\0"]},
        {"turns": ["", "", "שלום"]},
    ],
    bad={
        "train_on": "no_such_turns",
        "max_tokens": 0,
        "temperature": -1.0,
        "top_k": -1,
        "top_p": 1.1,
        "repetition_penalty": 0.0,
    },
    free=["system"],
    ignored=[
        {"model": "gpt_nano", "layers": 2},
        {"model": "gpt_nano", "units": 100},
        {"preset": "no_run"},
    ],
    files=["tokenizer"],
)
