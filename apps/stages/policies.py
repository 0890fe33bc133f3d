"""Finished networks that write, as the stages of `alignment` read and query them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from metrics.classification import MAX_ANSWERS
from preprocessing.answers import turns_of
from runs import presets
from runs.settings import Settings
from serving import graph, versions
from serving.writing import INPUTS, filled

LIMITS = (
    "not tested for truth, safety or offense: it may repeat, or reward, what offends in the texts "
    "of the data"
)
"""What the model cards say of these networks."""
AS_TRAINED = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
"""How PPO writes, by name of the input of `serving.writing`."""
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
        wanted: Name of that class; a reward model does not use it.
    """

    def __init__(self, run: Path, wanted: str = ""):
        version = versions.newest(run)
        self._loaded = graph.load(version)  # Its functions live as long as this.
        self._rate = self._loaded.signatures["serving_default"]
        inputs = [*self._rate.structured_input_signature[1]]
        self.is_classifier = len(inputs) == 1 and "classes" in self._rate.structured_outputs
        if not self.is_classifier and {"prompt", "response"} != {*inputs}:
            raise ValueError(
                f"{run}: expected a run of alignment --stage reward, or of text_classification of "
                f"single texts. Received: one that reads {', '.join(inputs)}"
            )
        (self._input, *_), self._class = inputs, wanted
        # Number of weights: a version stores each in 4 bytes.
        self.size = sum(path.stat().st_size for path in version.glob("variables/*")) // 4
        known = presets.card(run)["classes"] if self.is_classifier else ()
        if self.is_classifier and (wanted not in known or len(known) > MAX_ANSWERS):
            raise ValueError(
                f"`reward_class` must be one of at most {MAX_ANSWERS} classes of {run}: "
                f"{', '.join(known)}. Received: {wanted!r}"
            )

    def __call__(self, prompts: tf.Tensor, answers: tf.Tensor) -> tf.Tensor:
        """Rates answers `(n,)`, float32 `(n,)`; higher is better."""
        if not self.is_classifier:
            return self._rate(prompt=prompts, response=answers)["reward"]
        found = self._rate(**{self._input: answers})
        is_wanted = found["classes"] == self._class
        of_wanted = tf.reduce_sum(tf.where(is_wanted, found["scores"], 0.0), axis=1)
        of_others = tf.reduce_max(tf.where(is_wanted, 0.0, found["scores"]), axis=1)
        return tf.math.log(of_wanted + LEAST) - tf.math.log(of_others + LEAST)


def require_runs(config: Any) -> None:
    """Raises `FileNotFoundError` if a run is gone that a policy is trained or evaluated with.

    Args:
        config: Settings of the stage ppo.
    """
    runs = {"preset": config.reference, "reward": config.reward, "judge": config.judge}
    for name, run in runs.items():
        if str(run) != "none" and not (Path(run) / "model.keras").is_file():
            of = f"`{name}` of {config.continued}" if config.EVALUATES else f"`{name}`"
            raise FileNotFoundError(
                f"{run}: expected the finished run that is the {of}. Received: no model.keras in "
                "it. Fix: if the folder has been moved, move it back."
            )


def judges_of(config: Any) -> dict[str, Judge]:
    """Loads what rates the answers of a policy, and says if one reads less than the policy.

    Args:
        config: Settings of the stage ppo.
    """
    folders = {"reward": config.reward, "judge": config.judge}
    folders = {name: Path(folder) for name, folder in folders.items() if folder != "none"}
    judges = {name: Judge(folder, config.reward_class) for name, folder in folders.items()}
    if config.reward_class and not any(one.is_classifier for one in judges.values()):
        raise ValueError(
            "`reward_class` is for runs of text_classification. "
            f"Received: reward_class={config.reward_class!r} with {config.reward}"
        )
    for folder in folders.values():
        most = Settings.values_of(folder)["length"]
        if most < config.length:
            print(f"{folder} reads at most {most} tokens, the policy {config.length}.", flush=True)
    return judges


def require_readable(config: Any, rater: Path) -> None:
    """Raises `ValueError` if a reward model cannot read what the policy of a config writes."""
    policy, values = config.continued, Settings.values_of(rater)
    first, second = (
        {path.name: path.read_bytes() for path in (run / "tokenizer").glob("*")}
        for run in (policy, rater)
    )
    is_rater = values.get("stage") == "reward" and not values["model"].startswith("bert")
    if not is_rater or first != second or values["length"] < config.length:
        raise ValueError(
            "`value` must be 'head' unless the reward model has the tokens and the length of the "
            f"policy. Received: value='own' with {rater} and {policy}. Fix: pass --value head, or "
            f"train the reward model with --preset {policy}."
        )
