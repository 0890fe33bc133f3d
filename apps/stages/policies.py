"""Finished networks that write, as the stages of `alignment` read and query them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from preprocessing.answers import turns_of
from runs.settings import Settings
from serving import graph, versions
from serving.writing import INPUTS, filled

LEAST = 1e-6
"""Probability that classes have at least in a reward, because its logarithm is finite then."""
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


class Judge:
    """The newest export of a network that rates answers, which reads texts as a client sends them.

    Args:
        run: Folder of a run of alignment --stage reward, or of text_classification: the reward is
            then the logarithm of the probability of a class less that of the likeliest other.
        wanted: Name of that class; "" for a reward model.
    """

    def __init__(self, run: Path, wanted: str = ""):
        self._loaded = graph.load(versions.newest(run))  # Its functions live as long as this.
        self._rate = self._loaded.signatures["serving_default"]
        inputs = [*self._rate.structured_input_signature[1]]
        self._is_model = {"prompt", "response"} == {*inputs}
        if not self._is_model and (
            len(inputs) > 1 or "classes" not in self._rate.structured_outputs
        ):
            raise ValueError(
                f"{run}: expected a run of alignment --stage reward, or of text_classification of "
                f"single texts. Received: one that reads {', '.join(inputs)}"
            )
        (self._input, *_), self._class = inputs, wanted
        if self._is_model == bool(wanted):
            expected = "left out for a reward model" if wanted else "the class that is wanted"
            raise ValueError(f"`reward_class` must be {expected}. Received: {wanted!r} for {run}")

    def __call__(self, prompts: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        """Rates answers `(n,)`, float32 `(n,)`; higher is better."""
        if self._is_model:
            return self._rate(prompt=prompts, response=answers)["reward"]
        found = self._rate(**{self._input: answers})
        is_wanted = found["classes"] == self._class
        of_wanted = tf.reduce_sum(tf.where(is_wanted, found["scores"], 0.0), axis=1)
        of_others = tf.reduce_max(tf.where(is_wanted, 0.0, found["scores"]), axis=1)
        return tf.math.log(of_wanted + LEAST) - tf.math.log(of_others + LEAST)


def require_same_tokens(policy: Path, rater: Path) -> None:
    """Raises `ValueError` if two runs have other tokenizers."""
    first, second = (
        {path.name: path.read_bytes() for path in (run / "tokenizer").glob("*")}
        for run in (policy, rater)
    )
    if first != second or not (rater / "model.keras").is_file():
        raise ValueError(
            f"`value` must be 'head' where reward model and policy have other tokens. Received: "
            f"value='own' with {rater} and {policy}. Fix: pass --value head, or train the reward "
            f"model with --preset {policy}."
        )
