import json
from pathlib import Path

import numpy as np

from tests.apps.every_app import Small
from tests.apps.test_bert_pretraining import COLORS, ODD, THINGS


def colors(folder: Path) -> str:
    """Writes answers about things of one color each; the better one names the color."""
    random = np.random.default_rng(0)
    for split, count in {"train": 64, "dev": 8, "test": 12}.items():
        lines = []
        for _ in range(count):
            color, thing = random.choice(COLORS), random.choice(THINGS)
            prompt = f"\n\nHuman: I have a {thing}.\n\nAssistant: A what?\n\nHuman: A {color} one."
            answers = f"Oh, {color}.", "I do not know."
            chosen, rejected = (f"{prompt}\n\nAssistant: {answer}" for answer in answers)
            lines.append(json.dumps({"chosen": chosen, "rejected": rejected}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder)


SMALL = Small(
    write=colors,
    settings={
        "model": "bert_tiny",
        "epochs": 3,
        "batch_size": 8,
        "length": 48,
        "vocabulary_size": 300,
        "learning_rate": 0.02,
        "normalize": True,
    },
    beats=("accuracy", 0.9),
    sections=["Calibration", "Accuracy by difference of the rewards", "Worst mistakes"],
    few=("new.jsonl", '{"prompt": "A red car.", "chosen": "Oh, red.", "rejected": "What?"}'),
    odd=[
        *({"prompt": text, "response": text} for text in ODD),
        {"prompt": "", "response": "\n\nHuman: a\n\nAssistant: b"},
        {"prompt": "\n\nAssistant:\n\nHuman:", "response": "[SEP] <|im_end|>"},
    ],
    bad={"stage": "sft"},
    free=["normalize"],
    ignored=[
        {"preset": "no_run"},
        {"model": "bert", "preset": "folder", "dropout": 0.5},
        {"model": "bert", "preset": "folder", "vocabulary_size": 500},
    ],
    files=["tokenizer"],
)
