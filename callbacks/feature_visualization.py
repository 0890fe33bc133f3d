"""Pictures of what the units of a convolutional layer respond to."""

from collections.abc import Collection, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.deconvolution import Deconvolution

INCHES = 0.9  # of one picture in the grid


class FeatureVisualization(keras.callbacks.Callback):
    """Draws the strongest activations of a layer's units, projected down to pixels.

    For each chosen unit (channel) it takes the probe images in which the unit's strongest
    activation is largest, sets all other activations to 0 and projects that one down through
    the network (`callbacks.deconvolution`). Each row of the grid is a unit: on the left the
    projections, each scaled to its own largest value around middle grey, on the right the images
    they came from. A unit that fires on fewer images gets a shorter row.

    Reference:
        Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 2.1
        and figure 2. https://arxiv.org/abs/1311.2901

    Args:
        images: Probe images `(examples, height, width, channels)` in [0, 1], 1 or 3 channels.
        layer: Name of a layer with feature maps, at the end of a chain of layers that
            `Deconvolution` knows.
        folder: Where the PNG files go; made if it is not there.
        units: Channels to draw, from 0; None draws the 8 with the strongest activations.
        epochs: Epochs to draw at the end of, counted from 0 as callbacks do; None draws each.
        images_per_unit: Strongest images of each unit; 9 in the paper.

    Attributes:
        paths: The files of this run, `<layer>-epoch-<epoch>.png`.
    """

    def __init__(
        self,
        images,
        layer: str,
        folder: Path | str,
        *,
        units: Sequence[int] | None = None,
        epochs: Collection[int] | None = None,
        images_per_unit: int = 9,
    ):
        super().__init__()
        self.images = np.asarray(images, "float32")
        if self.images.ndim != 4 or self.images.shape[-1] not in (1, 3):
            raise ValueError(
                "`images` must have shape (examples, height, width, 1 or 3). "
                f"Received: shape {self.images.shape}"
            )
        if images_per_unit < 1:
            raise ValueError(f"`images_per_unit` must be at least 1. Received: {images_per_unit=}")
        self.layer = layer
        self.folder = Path(folder)
        self.units = units
        self.epochs = epochs
        self.images_per_unit = images_per_unit

    def on_train_begin(self, logs=None) -> None:
        self.paths: list[Path] = []
        self._deconvolution = Deconvolution(self.model, self.layer)
        channels = self.model.get_layer(self.layer).output.shape[-1]
        if self.units is not None and not all(0 <= unit < channels for unit in self.units):
            raise ValueError(
                f"`units` must be in [0, {channels}) for layer {self.layer!r}. "
                f"Received: units={list(self.units)}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if self.epochs is not None and epoch not in self.epochs:
            return
        activations = self._deconvolution.activations(self.images).numpy()
        units = strongest_units(activations, 8) if self.units is None else self.units
        rows = [(unit, *self._project(activations, unit)) for unit in units]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.layer}-epoch-{epoch:03d}.png"
        title = f"{self.layer}, epoch {epoch}: strongest activations and their images"
        draw_grid(rows, self.images_per_unit, title, path)
        self.paths.append(path)

    def _project(self, activations, unit):
        """Projections and images of the unit's strongest activations, strongest first."""
        peaks = activations[..., unit].max(axis=(1, 2))  # (examples,)
        order = np.argsort(-peaks, kind="stable")[: self.images_per_unit]
        order = order[peaks[order] > 0]
        if not len(order):
            return self.images[:0], self.images[:0]
        features = only_strongest(activations[order], unit)
        images = tf.constant(self.images[order])
        return self._deconvolution.project(images, features).numpy(), self.images[order]


def strongest_units(activations: np.ndarray, count: int) -> list[int]:
    """Returns the channels with the largest activations, strongest first."""
    return np.argsort(-activations.max(axis=(0, 1, 2)), kind="stable")[:count].tolist()


def only_strongest(activations: np.ndarray, unit: int) -> np.ndarray:
    """Sets all activations to 0 but each example's strongest of the unit.

    Args:
        activations: `(examples, rows, columns, channels)`.
        unit: The channel.

    Returns:
        An array of the same shape.
    """
    examples, _, columns, _ = activations.shape
    offsets = activations[..., unit].reshape(examples, -1).argmax(axis=1)
    index = (np.arange(examples), offsets // columns, offsets % columns, unit)
    kept = np.zeros_like(activations)
    kept[index] = activations[index]
    return kept


def draw_grid(rows, images_per_unit: int, title: str, path: Path) -> None:
    """Writes a PNG with a row for each `(unit, projections, images)`.

    Args:
        rows: Units with their arrays `(at most images_per_unit, height, width, channels)`.
        images_per_unit: Pictures on each side of the grid.
        title: Line above the grid.
        path: The file.
    """
    columns = 2 * images_per_unit
    figure = Figure(figsize=(INCHES * (columns + 1), INCHES * len(rows) + 0.6), layout="tight")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for row, (unit, projections, images) in zip(axes, rows, strict=True):
        row[0].set_ylabel(f"unit {unit}", rotation=0, ha="right", va="center")
        for axis, projection in zip(row, projections, strict=False):
            largest = np.abs(projection).max() or 1.0
            _show(axis, 0.5 + 0.5 * projection / largest)
        for axis, image in zip(row[images_per_unit:], images, strict=False):
            _show(axis, image)
    figure.savefig(path, dpi=100)


def _show(axis, picture):
    if picture.shape[-1] == 1:
        axis.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axis.imshow(np.clip(picture, 0, 1))
