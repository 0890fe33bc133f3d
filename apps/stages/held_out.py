"""Good answers that a policy was not trained on, and how well it still predicts them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from apps import dialogue
from data import demonstrations
from data.dialogues import Dialogues
from metrics import language_models
from preprocessing.turns import TurnTokens
from runs import reading
from runs.run import Run

MOST = 400
"""Maximum number of dialogues."""


def held_out(run: Run) -> Dialogues | None:
    """Returns some demonstrations whose answers the network before was not trained on."""
    config: Any = run.config
    if not config.held_out:
        reading.said(run, "held-out answers", "No perplexity is measured: no demonstrations.")
        return None
    # The run that was trained on it has named its faults.
    data = demonstrations.load(config.held_out, skip_bad=True)
    some = data.test[:: -(-len(data.test) // MOST)]  # Evenly over all sets.
    said = f"Perplexity is measured on {len(some):,} dialogues of {Path(config.held_out).name}."
    reading.said(run, "held-out answers", said)
    return replace(data, train=some[:1], validation=some[:1], test=some)


def perplexities(
    config: Any,
    tokens: TurnTokens,
    answers: Dialogues | None,
    networks: tuple[keras.Model, keras.Model],
) -> dict[str, float]:
    """Returns the perplexity per token of held-out answers after the training and before."""
    if answers is None:
        return {}
    fed = dialogue.feed(config, dialogue.arrange(config, answers, tokens))
    batches = fed.evaluation("test", config.batch_size)
    before, after = (
        language_models.evaluate(network, batches)["logits"].scores["perplexity"]
        for network in networks
    )
    return {"perplexity": after, "perplexity_before": before}
