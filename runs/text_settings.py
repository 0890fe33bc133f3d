"""What the apps that read texts let a user choose besides the settings of all apps."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from runs.settings import Settings
from training.optimizers import layerwise_scale


@dataclass(frozen=True)
class TextSettings(Settings):
    """For apps that read texts with networks that may be pretrained."""

    preset: str = "none"
    """Pretrained network: a name that KerasHub knows, or a folder in its or Hugging Face's layout.
    `none` begins with random weights and a vocabulary learned from the training texts."""
    vocabulary_size: int = 8000
    """Most pieces of words in a vocabulary that is learned."""
    length: int = 128
    """Most tokens of a row."""
    dropout: float = 0.3
    """Share of features that training drops in recurrent networks, in heads on ELMo and in networks
    with random weights. Pretrained ones keep their own, BERT in Hugging Face's layout 0.1, as do
    heads on BERT and GPT."""
    layer_decay: float = 1.0
    """What the learning rate of each Transformer layer is multiplied by for the one below."""

    def require_network(
        self, models: Collection[str], pretrained: Collection[str], transformers: Collection[str]
    ) -> None:
        """Raises `ValueError` unless the network is known and the other settings go with it.

        Args:
            models: All networks of the app.
            pretrained: Those of a preset.
            transformers: Those that `layer_decay` is for.
        """
        if self.model not in models:
            raise ValueError(
                f"`model` must be one of {', '.join(models)}. Received: model={self.model!r}"
            )
        if (self.model in pretrained) != (self.preset != "none"):
            raise ValueError(
                f"`preset` must be given with model {' or '.join(pretrained)}, and else not. "
                f"Received: model={self.model!r}, preset={self.preset!r}"
            )
        self.require_only(transformers, "layer_decay")

    def scale(
        self, depths: Callable[[keras.Model], Mapping[str, int]]
    ) -> Callable[[keras.Model], Callable[[str], float]] | None:
        """Returns the learning rates by layer as `train` takes them.

        Args:
            depths: From a network to the depth of each of its variables, as `models.bert.depths`.
        """
        if self.layer_decay == 1.0:
            return None
        return lambda model: layerwise_scale(depths(model), self.layer_decay)

    def card(
        self, task: str, scores: Mapping[str, float], num_test: int, **more: Any
    ) -> dict[str, Any]:
        """Returns what the model card of an export says, with `more` entries."""
        return {
            "task": task,
            "model": self.model,
            "data": self.data,
            **more,
            "scores": scores,
            "num_test": num_test,
            "config": self.saved,
        }


@dataclass(frozen=True)
class ClassifierSettings(TextSettings):
    """For apps that classify texts or words, with recurrent networks and ELMo, too."""

    preset: str = "none"
    """Pretrained network: a name that KerasHub knows, or a folder in its or Hugging Face's layout;
    of ELMo the folder `preset` that the app language_pretraining wrote. `none` begins with random
    weights and a vocabulary learned from the training texts."""
    bidirectional: bool = True
    """Whether recurrent networks read in both directions."""
    layers: int = 1
    """Recurrent layers."""
    units: int = 128
    """Features of a recurrent state, of each direction."""
    layer_normalization: bool = False
    """Normalise inside the recurrent cells."""
    freeze: bool | None = None
    """Whether ELMo stays as it is, under a head that is trained, or is trained, too; None keeps a
    pretrained one as it is. With random weights True shows what pretraining brings."""

    def require_heeded(self, cells: Collection[str], elmo: Collection[str]) -> None:
        """Raises `ValueError` if a setting is given that is for other networks.

        Args:
            cells: The recurrent networks.
            elmo: Those on ELMo.
        """
        self.require_only(cells, "bidirectional", "layers", "layer_normalization")
        self.require_only((*cells, *elmo), "units")
        self.require_only(elmo, "freeze")

    @property
    def recurrent(self) -> dict[str, Any]:
        """What the recurrent networks are built with."""
        return {
            "cell": self.model,
            "units": self.units,
            "layers": self.layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "layer_normalization": self.layer_normalization,
        }

    @property
    def elmo(self) -> dict[str, Any]:
        """What the heads on ELMo are built with."""
        freeze = self.preset != "none" if self.freeze is None else self.freeze
        return {"trainable": not freeze, "units": self.units, "dropout": self.dropout}
