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
    # If nothing else is named, the run that was trained on it has named its faults.
    skip_bad = config.skip_bad or not config.demonstrations
    data = demonstrations.load(config.held_out, skip_bad=skip_bad)
    some = data.test[:: -(-len(data.test) // MOST)]  # Evenly over all sets.
    said = f"Perplexity is measured on {len(some):,} dialogues of {Path(config.held_out).name}."
    if data.skipped:
        said += f" Bad ones left out: {data.skipped:,}."
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
    # As many rows as a network reads at once in training: logits take megabytes each.
    batches = fed.evaluation("test", max(1, config.batch_size // config.minibatches))
    before, after = (
        language_models.evaluate(network, batches)["logits"].scores["perplexity"]
        for network in networks
    )
    return {"perplexity": after, "perplexity_before": before}
