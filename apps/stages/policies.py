"""Finished networks that write, as the stages of `alignment` read and query them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing.answers import turns_of
from runs.settings import Settings
from serving import graph, versions
from serving.writing import INPUTS, filled

BATCH = 32
"""Answers that are written at the same time."""


class Policy:
    """The newest export of a network that continues texts or replies in dialogues.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path):
        self._loaded = graph.load(versions.newest(run))  # Its functions live as long as this.
        known = self._loaded.signatures
        if "generate" not in known:
            raise ValueError(
                f"{run}: expected a network that writes, of text_generation, dialogue or "
                f"alignment --stage sft. Received: the signatures {', '.join(known)}"
            )
        self._generate = known["generate"]
        self._has_turns = "turns" in self._generate.structured_input_signature[1]
        values = Settings.values_of(run)
        self._choice = {name: values[name] for name in INPUTS}
        self._system = values.get("system", "")

    def answers(self, prompts: Sequence[bytes], seed: int = 0, **choice: Any) -> list[str]:
        """Writes an answer to each prompt, with a seed of its own.

        Args:
            prompts: Turns or transcripts.
            seed: That of the first prompt; the next one has the next.
            choice: How to write, of `serving.writing.INPUTS`. Default: as the settings of the run
                say for `serving_default`.
        """
        found: list[str] = []
        for begin in range(0, len(prompts), BATCH):
            some = tf.constant(prompts[begin : begin + BATCH])
            columns = filled({**self._choice, **choice}, len(some))
            columns["seed"] = tf.range(seed + begin, seed + begin + len(some), dtype=tf.int64)
            columns["stop"] = tf.fill((len(some), 1), "")
            if self._has_turns:
                columns["turns"] = turns_of(some)[0].to_tensor("")
                columns["system"] = tf.fill((len(some),), self._system)
            else:
                columns["prompt"] = some
            outputs = self._generate(**columns)
            texts = outputs["reply" if self._has_turns else "text"]
            found += [text.decode() for text in texts.numpy()]
        return found
