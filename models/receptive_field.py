"""Receptive fields: the pixels of the image that a unit of each layer depends on."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

import layers

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
POOLINGS = (
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    layers.LpPooling2D,
    layers.MixedPooling2D,
    layers.StochasticPooling2D,
)
WHOLE_IMAGE = (
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    layers.SpectralPooling2D,
)
MERGES = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Concatenate,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
PIXEL_BY_PIXEL = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GroupNormalization,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Softmax,
    keras.layers.SpatialDropout2D,
    layers.GroupNormalization,
    layers.LocalResponseNormalization,
)


class ReceptiveField(NamedTuple):
    """The receptive field of a layer; pairs are height and width, in pixels of the image.

    Args:
        name: Name of the layer.
        size: Pixels that a unit sees, including those beyond the border of the image.
        stride: Step from the field of one unit to the next; 0 if every unit sees the whole image.
        center: Center of the first unit's field. (0, 0) is the center of the first pixel; values
            below 0 are in the padding.
    """

    name: str
    size: tuple[int, int]
    stride: tuple[int, int]
    center: tuple[float, float]


class _Span(NamedTuple):
    """Along one axis, unit i sees `size` pixels from `start + i * stride` on."""

    start: int
    size: int
    stride: int


_Spans = tuple[_Span, _Span]


def receptive_field(model: keras.Model) -> list[ReceptiveField]:
    """Computes the receptive field of every layer of a convolutional model.

    A window has k pixels at dilation d, strides s and p pixels of padding before the image. It
    turns a field with `size`, `stride` and `start` into one with `size + (k - 1) d stride`,
    `s stride` and `start - p stride`. Where branches meet, a unit sees all pixels from the first to
    the last one of any branch. The statistics of group and layer normalization over all positions
    are ignored.

    Reference:
        Araujo, Norris & Sim, Computing Receptive Fields of Convolutional Neural Networks, 2019,
        eq. 2, 5 and 6. https://distill.pub/2019/computing-receptive-fields

    Args:
        model: A functional or sequential model of images with known height and width, which uses
            each layer once. Supported are convolutions, pooling, padding, branches that are added
            or concatenated, and layers that process pixels separately. Layers after flattening or
            global pooling see the whole image.

    Returns:
        One row per layer, in the order of computation. A layer of a nested model has the name
        `model/layer`.
    """
    model = keras.Model(model.inputs, model.outputs)
    data_format = _data_format(model)
    spans = {id(tensor): (_Span(0, 1, 1), _Span(0, 1, 1)) for tensor in model.inputs}
    sides = _sides(model.inputs[0], data_format)
    if None in sides:
        raise ValueError(
            f"`model` must have inputs of known height and width. Received: {model.input_shape}"
        )
    whole = (_Span(0, sides[0], 0), _Span(0, sides[1], 0))
    return _walk(model, spans, whole, data_format)


def receptive_field_table(rows: Iterable[ReceptiveField]) -> str:
    """Formats the rows of `receptive_field` as a text table, one line per layer.

    Height and width are shown separately only if they differ.
    """

    def cell(pair) -> str:
        return " x ".join(f"{value:g}" for value in (pair[:1] if pair[0] == pair[1] else pair))

    heads = ("layer", "size", "stride", "center of the first unit")
    lines = [heads, *((r.name, cell(r.size), cell(r.stride), cell(r.center)) for r in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def _walk(model, spans: dict[int, _Spans], whole: _Spans, data_format: str, prefix: str = ""):
    """Returns the rows of the layers, and adds the spans of all tensors to `spans`."""
    rows = []
    for operation in model.operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        inputs, outputs = keras.tree.flatten(operation.input), keras.tree.flatten(operation.output)
        seen = [spans[id(tensor)] for tensor in inputs]
        if isinstance(operation, keras.Model):
            inner = keras.Model(operation.inputs, operation.outputs)
            spans.update(zip(map(id, inner.inputs), seen, strict=True))
            rows += _walk(inner, spans, whole, data_format, f"{prefix}{operation.name}/")
            for outside, inside in zip(outputs, inner.outputs, strict=True):
                spans[id(outside)] = spans[id(inside)]
            continue
        after = _after(operation, inputs, outputs, seen, whole, data_format)
        spans.update((id(tensor), after) for tensor in outputs)
        if isinstance(operation, keras.layers.Layer):
            rows.append(_row(prefix + operation.name, after))
    return rows


def _row(name: str, spans: _Spans) -> ReceptiveField:
    height, width = spans
    return ReceptiveField(
        name,
        (height.size, width.size),
        (height.stride, width.stride),
        (height.start + (height.size - 1) / 2, width.start + (width.size - 1) / 2),
    )


def _after(operation, inputs, outputs, seen: list[_Spans], whole: _Spans, data_format) -> _Spans:
    """Returns the spans after an operation, given those before it."""
    layer = operation.layer if isinstance(operation, keras.layers.Wrapper) else operation
    before = _sides(inputs[0], data_format)
    moves = _sides(outputs[0], data_format) not in [_sides(each, data_format) for each in inputs]
    if isinstance(layer, CONVOLUTIONS):
        return _slid(seen[0], before, layer.kernel_size, layer)
    if isinstance(layer, POOLINGS):
        return _slid(seen[0], before, layer.pool_size, layer)
    if isinstance(layer, keras.layers.ZeroPadding2D):
        (top, _), (left, _) = layer.padding
        return _shifted(seen[0][0], -top), _shifted(seen[0][1], -left)
    if isinstance(layer, WHOLE_IMAGE):
        return whole if moves else seen[0]
    if isinstance(layer, PIXEL_BY_PIXEL):
        return seen[0]
    if all(span.stride == 0 for spans in seen for span in spans):
        return whole
    is_function = not isinstance(layer, keras.layers.Layer)  # of keras.ops
    if not moves and (is_function or isinstance(layer, MERGES)):
        return _union(seen, 0, layer.name), _union(seen, 1, layer.name)
    if len(seen) == 1 and (is_function or isinstance(layer, keras.layers.Cropping2D)):
        return _picked(seen[0], inputs[0], outputs[0], data_format)
    raise ValueError(
        "`model` must consist of layers that process pixels separately and of "
        f"{', '.join(kind.__name__ for kind in (*CONVOLUTIONS, *POOLINGS))}. "
        f"Received: layer {layer.name!r} of type {type(layer).__name__}"
    )


def _slid(spans: _Spans, sides, windows, layer: Any) -> _Spans:
    """Returns the spans after a convolution or pooling of images with these sides."""
    dilation = layer.dilation_rate if isinstance(layer, CONVOLUTIONS) else (1, 1)
    after = []
    for axis, span in enumerate(spans):
        stride, reach = layer.strides[axis], (windows[axis] - 1) * dilation[axis]
        padding = 0
        if layer.padding == "same":
            padding = max((sides[axis] - 1) // stride * stride + reach + 1 - sides[axis], 0) // 2
        span = _shifted(span, -padding)
        after.append(_Span(span.start, span.size + reach * span.stride, span.stride * stride))
    return after[0], after[1]


def _shifted(span: _Span, pixels: int) -> _Span:
    return span._replace(start=span.start + pixels * span.stride)


def _union(seen: list[_Spans], axis: int, name: str) -> _Span:
    """Returns the span of several branches that meet, along one axis."""
    spans = [each[axis] for each in seen]
    if any(span.stride == 0 for span in spans):
        return next(span for span in spans if span.stride == 0)
    if len({span.stride for span in spans}) > 1:
        raise ValueError(
            "Branches must have the same stride where they meet. Received: "
            f"strides {[span.stride for span in spans]} at layer {name!r}"
        )
    start = min(span.start for span in spans)
    end = max(span.start + span.size for span in spans)
    return _Span(start, end - start, spans[0].stride)


def _picked(spans: _Spans, before, after, data_format: str) -> _Spans:
    """Returns the spans after an operation that only selects pixels, such as a slice with steps.

    Applies it to an image with the index of each row, then to one with the index of each column.
    """
    pick = keras.Model(before, after)
    picked_spans = []
    for axis, span in enumerate(spans):
        image_axis = axis + (1 if data_format == "channels_last" else 2)
        numbers = np.arange(before.shape[image_axis], dtype="float32")
        shape = [1, 1, 1, 1]
        shape[image_axis] = -1
        image = np.broadcast_to(numbers.reshape(shape), (1, *before.shape[1:]))
        picked = keras.ops.convert_to_numpy(keras.ops.max(pick(image), axis=_others(image_axis)))
        step = int(picked[1] - picked[0]) if len(picked) > 1 else 1
        if not np.array_equal(picked, picked[0] + step * np.arange(len(picked))):
            raise ValueError(
                "`model` must change the size of images by convolution, pooling, padding or "
                f"evenly spaced slices. Received: an operation that makes {after.name}"
            )
        shifted = _shifted(span, int(picked[0]))
        picked_spans.append(shifted._replace(stride=step * span.stride))
    return picked_spans[0], picked_spans[1]


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(4) if other != axis)


def _data_format(model: keras.Model) -> str:
    windows = (layer for layer in model.layers if isinstance(layer, (*CONVOLUTIONS, *POOLINGS)))
    first = next(windows, None)
    return keras.config.image_data_format() if first is None else first.data_format


def _sides(tensor, data_format: str) -> tuple:
    return tuple(tensor.shape[1:3] if data_format == "channels_last" else tensor.shape[2:4])
