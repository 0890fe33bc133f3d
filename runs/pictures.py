"""Pictures of a report, drawn with Matplotlib."""

import io
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

NOT_DRAWN = ("examples_per_second", "kept_epoch")
"""What callbacks log that is no metric of a network."""
LARGEST_PNG = 500_000
"""Maximum size in bytes of a PNG file; larger figures, those of photographs, are JPEG files."""
CAPTION_WIDTH = 24
"""Number of letters that fit above a picture in a grid."""


def learning_curves(
    history: Mapping[str, Sequence[float]],
    rates: Mapping[int, float] | None = None,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draws each metric over the epochs, training and validation in one panel.

    Args:
        history: Values of each metric after each epoch, by its name, NaN where it was not
            measured; those of `NOT_DRAWN` are left out.
        rates: Learning rates by the number of the step, for one more panel.
        baselines: Horizontal lines in the panel of a metric: by its name, the values of simpler
            predictors on the test examples by their description.
    """
    known = [name.removeprefix("val_") for name in history if name not in NOT_DRAWN]
    names = list(dict.fromkeys(known))
    number = len(names) + bool(rates)
    columns = min(3, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[number:]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        most = 2  # With a single epoch the axis would show fractions of it.
        for prefix, label, color in (("", "training", 0), ("val_", "validation", 1)):
            values = history.get(f"{prefix}{name}", ())
            most = max(most, len(values))
            if len(values):
                axes.plot(*_measured(values), marker=".", label=label, color=f"C{color}")
        for color, (what, value) in enumerate((baselines or {}).get(name, {}).items(), start=2):
            label = f"{_plain(shortened(what))} (test)"
            axes.axhline(value, color=f"C{color}", linestyle="--", label=label)
        axes.set(xlabel="epoch", title=name, xlim=(0.8, most + 0.2))
        axes.legend()
    if rates:
        panels[len(names)].plot(list(rates), list(rates.values()))
        panels[len(names)].set(xlabel="step", title="learning rate")
    for axes in panels[:number]:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    return figure


def compared_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure | None:
    """Draws each metric over the epochs, all runs in one panel.

    Validation is drawn as a line. Training, where there is validation, is dotted.

    Args:
        histories: For each run, by its name, the values of each metric after each epoch.
    """
    names = list(dict.fromkeys(name for history in histories.values() for name in history))
    names = [name for name in names if f"val_{name}" in names] or names
    if not names:
        return None
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6.5 * columns, 3.6 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        for number, (run, history) in enumerate(histories.items()):
            color = f"C{number % 10}"
            both = name in history and f"val_{name}" in history
            for metric, style, label in (
                (name, ":" if both else "-", "" if both else run),
                (f"val_{name}", "-", run),
            ):
                if metric in history:
                    axes.plot(
                        *_measured(history[metric]),
                        style,
                        color=color,
                        marker=".",
                        label=_plain(label) or "_",
                    )
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _measured(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epochs, from 1, in which a metric was measured, and its values."""
    epochs = np.flatnonzero(~np.isnan(values))
    return epochs + 1, np.asarray(values)[epochs]


def confusion_matrix(evaluation: Any, classes: Sequence[str], most: int = 20) -> Figure:
    """Draws how often each class was predicted for each true class.

    Args:
        evaluation: Has the true `labels` and the `predictions`, class numbers `(n,)` each.
        classes: Name of each class.
        most: Maximum number of classes drawn. If there are more, those with the most errors.
    """
    labels, predictions = evaluation.labels, evaluation.predictions
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, predictions), 1)
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    shown = np.sort(np.argsort(-errors, kind="stable")[:most])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    counts, shares = counts[np.ix_(shown, shown)], shares[np.ix_(shown, shown)]
    size = 2.5 + 0.42 * len(shown)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_plain(shortened(classes[index])) for index in shown]
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    title = None
    if len(classes) > most:
        outside = (errors.sum() // 2) - (counts.sum() - np.trace(counts))
        title = f"the {most} classes with the most errors; {outside:,} errors are outside"
    axes.set(xlabel="predicted", ylabel="true", title=title)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def threshold_curves(evaluation: Any, positive: str) -> Figure:
    """Draws the ROC curve of two classes, and precision over recall.

    Args:
        evaluation: Has `roc` (false positive rates, recalls, area), `precision_recall` (recalls,
            precisions, average precision) and the true `labels`, 1 for positive.
        positive: Name of the positive class.
    """
    false_positives, found, area = evaluation.roc
    recall, precision, average = evaluation.precision_recall
    share = evaluation.labels.mean()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    roc, curve = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color="gray", linestyle=":", label="by chance")
    roc.plot(false_positives, found, label="this network")
    roc.set(xlabel="false positive rate", ylabel=f"recall of {_plain(shortened(positive))}")
    roc.set_title(f"ROC curve, area {area:.3f}", fontsize=10)
    curve.plot([0, 1], [share, share], color="gray", linestyle=":", label="by chance")
    curve.plot(recall, precision, drawstyle="steps-pre", label="this network")
    curve.set(xlabel=f"recall of {_plain(shortened(positive))}", ylabel="precision")
    curve.set_title(f"Precision and recall, average precision {average:.3f}", fontsize=10)
    for axes in (roc, curve):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def reliability_curve(evaluation: Any) -> Figure:
    """Draws how often predictions of each confidence are correct.

    The expected calibration error is the mean distance between confidence and accuracy, weighted by
    the number of examples.

    Args:
        evaluation: Has `calibration`: mean confidence, accuracy and number of examples `(bins,)`.
    """
    confidence, accuracy, counts = evaluation.calibration
    error = np.average(np.abs(confidence - accuracy), weights=counts)
    figure = Figure(figsize=(4.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="as often as predicted")
    axes.plot(confidence, accuracy, label="this network")
    axes.scatter(confidence, accuracy, s=10 + 190 * counts / counts.sum())
    # With two classes, the predicted one has a probability of at least one half.
    lowest = min(confidence.min(), 0.9) - 0.02
    axes.set(xlabel="confidence", ylabel="fraction that is correct")
    axes.set(xlim=(lowest, 1.02), ylim=(min(lowest, accuracy.min() - 0.02), 1.02))
    axes.set_title(f"expected calibration error {error:.3f}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def rewards_over_divergence(
    history: Mapping[str, Sequence[float]],
    points: Mapping[str, tuple[float, Mapping[str, float]]],
) -> Figure:
    """Draws rewards over the square root of the KL divergence from the policy before training.

    Where the reward that is trained for rises on and another falls, the policy exploits it.

    Reference:
        Gao et al., Scaling Laws for Reward Model Overoptimization, 2023, for the square root.
        https://arxiv.org/abs/2210.10760

    Args:
        history: Values of `kl` and `reward` after each epoch, in training, and if there are some of
            `val_` and a judge's name in validation.
        points: For each policy, its divergence in nats and its mean rewards, by name of the judge.
    """
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    roots = np.sqrt(np.maximum(history.get("kl", []), 0))
    axes.plot(roots, history.get("reward", []), marker=".", color="gray", label="in training")
    for number, judge in enumerate(next(iter(points.values()))[1]):
        if f"val_{judge}" in history:
            label = f"in validation, by the {_plain(judge)}"
            axes.plot(roots, history[f"val_{judge}"], ":", color=f"C{number}", label=label)
        for marker, (policy, (kl, rewards)) in zip("osD^v", points.items(), strict=False):
            label = f"{_plain(policy)}, by the {_plain(judge)}"
            axes.plot(max(kl, 0) ** 0.5, rewards[judge], marker, color=f"C{number}", label=label)
    axes.set(xlabel="square root of the KL divergence, nats", ylabel="mean reward")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def image_grid(
    pictures: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str], columns: int = 6
) -> Figure | None:
    """Draws pictures in rows, each below its caption; returns None if there are none.

    Args:
        pictures: Arrays `(height, width, 1 or 3)`, uint8 or floats in [0, 1].
        captions: One text for each picture; its lines are shortened.
        columns: Pictures in a row.
    """
    if not len(pictures):
        return None
    rows = -(-len(pictures) // columns)
    most_lines = max(caption.count("\n") + 1 for caption in captions)
    size = (1.7 * columns, (1.7 + 0.18 * most_lines) * rows)
    figure = Figure(figsize=size, layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, caption in zip(figure.axes, pictures, captions, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        lines = [shortened(line, CAPTION_WIDTH) for line in caption.splitlines()]
        axes.set_title(_plain("\n".join(lines)), fontsize=8)
    return figure


def boxes_on_images(
    images: Sequence[np.ndarray],
    truths: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    captions: Sequence[str],
    thresholds: Sequence[float],
) -> Figure | None:
    """Draws found objects on images, each class in its color, the true ones dashed and white.

    Args:
        images: Arrays `(height, width, 3)`, uint8.
        truths: For each image `boxes` `(m, 4)`, in its pixels.
        found: For each image `boxes` `(n, 4)`, `classes` and `scores` `(n,)`, and perhaps `masks`,
            bool `(n, height, width)`, whose outlines are drawn.
        classes: Names of the classes.
        captions: One line for each image.
        thresholds: Objects with a lower score than that of their class are not drawn.
    """
    if not len(images):
        return None
    columns = 3
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, truth, one, caption in zip(
        figure.axes, images, truths, found, captions, strict=False
    ):
        axes.imshow(image)
        axes.set_title(_plain(shortened(caption, 40)), fontsize=8)
        for xmin, ymin, xmax, ymax in truth["boxes"]:
            axes.add_patch(
                Rectangle(
                    (xmin - 0.5, ymin - 0.5),
                    *(xmax - xmin, ymax - ymin),
                    fill=False,
                    color="white",
                    linestyle="--",
                    linewidth=1,
                )
            )
        shown = np.flatnonzero(one["scores"] >= np.asarray(thresholds)[one["classes"]])
        for i in shown:
            xmin, ymin, xmax, ymax = one["boxes"][i]
            color = f"C{int(one['classes'][i]) % 10}"
            if "masks" in one:
                axes.contour(one["masks"][i], [0.5], colors=[color], linewidths=1)
            axes.add_patch(
                Rectangle(
                    (xmin - 0.5, ymin - 0.5),
                    *(xmax - xmin, ymax - ymin),
                    fill=False,
                    color=color,
                    linewidth=1.5,
                )
            )
            name = f"{classes[int(one['classes'][i])]} {one['scores'][i]:.2f}"
            axes.text(xmin, ymin - 1, _plain(name), color=color, fontsize=6)
    return figure


def fit_of_anchors(ious: np.ndarray, positives: Sequence[float], strides: Sequence[int]) -> Figure:
    """Draws how well anchors fit the training boxes, and how many of each level are positive.

    Args:
        ious: The IoU of each box with its best anchor.
        positives: Number of positive anchors of a box, by level.
        strides: Pixels of an image per pixel of each level.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    best, levels = figure.subplots(1, 2)
    best.hist(ious, bins=20, range=(0, 1))
    best.set(xlabel="IoU of a training box with its best anchor", ylabel="training boxes")
    levels.bar(range(len(strides)), positives)
    levels.set_xticks(range(len(strides)), [f"stride {stride}" for stride in strides])
    levels.set(ylabel="positive anchors per training box")
    for axes in (best, levels):
        axes.grid(alpha=0.3)
    return figure


def precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], most: int = 10
) -> Figure | None:
    """Draws the precision at each recall, a curve for each class; returns None if there are none.

    Args:
        curves: Recall and precision by name of the class.
        most: Maximum number of classes drawn: the first ones.
    """
    if not curves:
        return None
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    for name, (recall, precision) in list(curves.items())[:most]:
        axes.plot(recall, precision, label=_plain(shortened(name)))
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], most: int = 64
) -> Figure:
    """Draws weights, such as attention weights; larger ones are darker.

    Args:
        values: Weights in [0, 1], `(rows, columns)`.
        rows: Name of each row, such as the word that attends.
        columns: Name of each column, such as the word attended to.
        most: Maximum number of rows, and of columns, drawn: the first ones.
    """
    values, rows, columns = values[:most, :most], rows[:most], columns[:most]
    size = (1.5 + 0.3 * len(columns), 1.3 + 0.3 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="Blues", vmin=0, vmax=max(values.max(), 1e-6), aspect="auto")
    axes.set_xticks(range(len(columns)), [_plain(name) for name in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
    return figure


def attention_maps(answers: Mapping[str, np.ndarray]) -> list[Figure]:
    """Draws which pieces of a text were attended to for each piece of its translation.

    Args:
        answers: `attention` `(n, pieces of translation, pieces of text)`, and `translation_pieces`
            and `source_pieces`, bytes padded with nothing.
    """
    figures = []
    for number, weights in enumerate(answers["attention"]):
        rows, columns = (
            [piece.decode() for piece in answers[name][number] if piece]
            for name in ("translation_pieces", "source_pieces")
        )
        if rows:
            figures.append(heat_map(weights[: len(rows), : len(columns)], rows, columns))
    return figures


def as_picture(figure: Figure) -> tuple[str, bytes]:
    """Returns a figure as the content of a PNG file, or of a JPEG file if that is much smaller.

    Returns:
        The format, as in the type of the content, and the content.
    """
    content = as_png(figure)
    if len(content) <= LARGEST_PNG:
        return "png", content
    return "jpeg", _drawn(figure, "jpeg", pil_kwargs={"quality": 85})


def as_png(figure: Figure) -> bytes:
    """Returns a figure as the content of a PNG file."""
    return _drawn(figure, "png")


def _drawn(figure: Figure, kind: str, **options: Any) -> bytes:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(picture, format=kind, dpi=110, **options)
    return picture.getvalue()


def shortened(text: str, most: int = 32) -> str:
    """Leaves out the middle of a long text, because its beginning and end are more informative.

    Args:
        text: A line.
        most: Maximum width in letters; Chinese, Japanese and Korean characters count twice.

    Example:
        >>> shortened("photos/2024/summer/cat_17.jpg", 16)
        'photos/…t_17.jpg'
    """
    if _width(text) <= most:
        return text
    begin, end = text, text
    while _width(begin) > (most - 1) // 2:
        begin = begin[:-1]
    while _width(end) > most - 1 - _width(begin):
        end = end[1:]
    return f"{begin}…{end}"


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _plain(text: str) -> str:
    """Escapes dollar signs, which begin formulas in Matplotlib."""
    return text.replace("$", r"\$")
