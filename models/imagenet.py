"""Weights of keras.applications, trained on ImageNet, in the networks of this folder.

A network here and its counterpart in keras.applications have the same graph. A walk from the output
back to the images visits their layers with weights in the same order, so each layer takes the
weights of its counterpart. There are four rules:

- Our convolutions have no bias before batch normalization. A bias there is subtracted from the
  moving mean: normalizing `x + bias` by `mean` equals normalizing `x` by `mean - bias`.
- The difference of two epsilons is added to the moving variance. A scale that is not learned is 1.
- A head that is a 1 x 1 convolution becomes a dense layer.
- Networks here take RGB images in [0, 1]. A `Rescaling` layer before them does what
  `preprocess_input` does. If that swaps red and blue, the first kernel is swapped instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import tree

from models import timm_weights
from models.efficientnet_lite import efficientnet_lite
from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v3 import inception_v3
from models.mobilenet import mobilenet
from models.resnet import resnet
from models.vgg import vgg

Mode = Literal["caffe", "tf", "lite", "torch"]
"""Preprocessing: `caffe`: BGR in [0, 255] less the mean pixel; `tf`: RGB in [-1, 1]; `lite`: RGB in
[0, 255], less 127 and divided by 128; `torch`: RGB in [0, 1], less the mean and divided by the
standard deviation of each channel."""
NUM_CLASSES = 1000
"""Classes of ImageNet's classification challenge."""


@dataclass(frozen=True)
class Preset:
    """A network here and its counterpart in keras.applications."""

    build: Callable[..., keras.Model]
    """Builds the network here from `input_shape` and `num_classes`."""
    application: Callable[..., keras.Model]
    """Builds its counterpart in keras.applications."""
    mode: Mode
    size: int
    """Height and width of the training images, in pixels."""
    file: str
    """File of the weights below `URL`, without its suffix."""
    no_top: str = "_notop"
    """End of the file name of the weights without head."""

    def url(self, include_top: bool) -> str:
        """Returns the address from which keras.applications downloads the weights."""
        return f"{URL}/{self.file}{'' if include_top else self.no_top}.h5"


URL = "https://storage.googleapis.com/tensorflow/keras-applications"
_KERNELS = "weights_tf_dim_ordering_tf_kernels"

PRESETS = {
    "vgg16": Preset(
        partial(vgg, depth=16),
        keras.applications.VGG16,
        "caffe",
        224,
        f"vgg16/vgg16_{_KERNELS}",
    ),
    "vgg19": Preset(
        partial(vgg, depth=19),
        keras.applications.VGG19,
        "caffe",
        224,
        f"vgg19/vgg19_{_KERNELS}",
    ),
    "resnet50": Preset(
        partial(resnet, depth=50, stride_in="1x1"),
        keras.applications.ResNet50,
        "caffe",
        224,
        f"resnet/resnet50_{_KERNELS}",
    ),
    "resnet101": Preset(
        partial(resnet, depth=101, stride_in="1x1"),
        keras.applications.ResNet101,
        "caffe",
        224,
        f"resnet/resnet101_{_KERNELS}",
    ),
    "resnet152": Preset(
        partial(resnet, depth=152, stride_in="1x1"),
        keras.applications.ResNet152,
        "caffe",
        224,
        f"resnet/resnet152_{_KERNELS}",
    ),
    "inception_v3": Preset(
        inception_v3,
        keras.applications.InceptionV3,
        "tf",
        299,
        f"inception_v3/inception_v3_{_KERNELS}",
    ),
    "inception_resnet_v2": Preset(
        inception_resnet_v2,
        keras.applications.InceptionResNetV2,
        "tf",
        299,
        f"inception_resnet_v2/inception_resnet_v2_{_KERNELS}",
    ),
    "mobilenet": Preset(
        mobilenet,
        keras.applications.MobileNet,
        "tf",
        224,
        "mobilenet/mobilenet_1_0_224_tf",
        no_top="_no_top",
    ),
}


def pretrained(
    name: str,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = NUM_CLASSES,
    trainable: bool = True,
    file: str | Path | None = None,
) -> keras.Model:
    """Builds a network with a backbone that was trained on ImageNet.

    The head is pretrained, too, if there are 1000 classes; for VGG also only with images of
    224 x 224 pixels, because its head sees the whole grid of features. Otherwise the head is new.
    The weights are downloaded once, to the cache of Keras.

    Args:
        name: A key of `PRESETS`.
        input_shape: Height, width and channels (3) of an image; any size that the network accepts.
        num_classes: Number of classes; at least 1. 1000 are those of ImageNet, in its order.
        trainable: Whether to train the backbone. If not, only the last layer (and other new layers)
            are trained, and the batch normalization of the backbone uses its moving statistics.
        file: A safetensors file with the weights by timm's names, for a network of
            `models.timm_weights.NETWORKS`. None: those of keras.applications.

    Returns:
        A model from RGB images `(batch, height, width, 3)` in [0, 1] to logits
        `(batch, num_classes)`.

    Raises:
        ConnectionError: If the weights are not in the cache and cannot be downloaded.
    """
    known = PRESETS if file is None else timm_weights.NETWORKS
    if name not in known:
        raise ValueError(f"`name` must be one of {', '.join(known)}. Received: name={name!r}")
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(
            "`input_shape` must be (height, width, 3), because the weights are for color images. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    if file is not None:
        network = efficientnet_lite(input_shape, num_classes, size=int(name[-1]))
        model = with_preprocessing(network, "lite")
        loaded = timm_weights.load_timm(model, file)
    else:
        preset = PRESETS[name]
        model = with_preprocessing(
            preset.build(input_shape=input_shape, num_classes=num_classes), preset.mode
        )
        whole_grid = name.startswith("vgg") and tuple(input_shape[:2]) != (preset.size, preset.size)
        source = download(name, include_top=num_classes == NUM_CLASSES and not whole_grid)
        loaded = transfer(source, model, preset.mode)
    if not trainable:
        last = weighted_layers(model)[0]
        for layer in loaded:
            layer.trainable = layer is last
    return model


def download(name: str, include_top: bool) -> keras.Model:
    """Returns the model of keras.applications with its weights; an error says how to get them."""
    preset = PRESETS[name]
    try:
        return preset.application(
            include_top=include_top,
            weights="imagenet",
            input_shape=(preset.size, preset.size, 3),
        )
    except Exception as error:  # Keras raises a plain Exception when a download fails.
        url = preset.url(include_top)
        raise ConnectionError(
            f"Expected the ImageNet weights of {name} in the cache of Keras or at {url}. "
            f"Received: {error}. Fix: download that file on another computer and save it as "
            f"~/.keras/models/{url.rsplit('/', 1)[1]}, or set KERAS_HOME to a folder whose "
            "sub-folder `models` contains it."
        ) from error


def with_preprocessing(model: keras.Model, mode: Mode) -> keras.Model:
    """Returns a copy of a network that first scales its images as the weights expect."""
    # Red, green, blue.
    scale, offset = {
        "caffe": (255.0, [-123.68, -116.779, -103.939]),
        "tf": (2.0, -1.0),
        "lite": (255 / 128, -127 / 128),
        "torch": (
            [1 / 0.229, 1 / 0.224, 1 / 0.225],
            [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        ),
    }[mode]
    # In float32, because 16 bits would round pixels in [0, 255].
    stage = keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")
    images = model.input.name

    def call(layer, inputs, **kwargs):
        is_first = isinstance(inputs, keras.KerasTensor) and inputs.name == images
        return layer(stage(inputs) if is_first else inputs, **kwargs)

    return keras.models.clone_model(model, call_function=call)


def transfer(source: keras.Model, target: keras.Model, mode: Mode) -> list[keras.layers.Layer]:
    """Copies the weights of a model of keras.applications into the same network here.

    Args:
        source: The model of keras.applications, with or without its head.
        target: The network here, from `with_preprocessing`.
        mode: The preprocessing that `source` expects.

    Returns:
        The layers of `target` that received weights, the last one first.
    """
    givers, takers = weighted_layers(source), weighted_layers(target)
    # A source without a head has no weights for the layers after its own last layer.
    takers = takers[len(takers) - len(givers) :]
    first = next(layer for layer in source.layers if layer.weights)
    # The walk visits the normalization of a convolution just before the convolution.
    normalizations = [takers[0], *takers[:-1]]
    for giver, taker, normalization in zip(givers, takers, normalizations, strict=True):
        values = {weight.name: keras.ops.convert_to_numpy(weight) for weight in giver.weights}
        if "moving_mean" in values:
            values.setdefault("gamma", np.ones_like(values["beta"]))
            values["moving_variance"] = values["moving_variance"] + giver.epsilon - taker.epsilon
        elif "bias" in values and not taker.use_bias:
            normalization.moving_mean.assign(normalization.moving_mean - values["bias"])
        if giver is first and mode == "caffe":
            values["kernel"] = values["kernel"][:, :, ::-1]
        for weight in taker.weights:
            weight.assign(_fitting(values[weight.name], weight, giver, taker))
    return takers


def _fitting(value: np.ndarray, weight, giver, taker) -> np.ndarray:
    """Removes the axes of length 1 in the kernel of a head that is a 1 x 1 convolution."""
    shape = tuple(weight.shape)
    if tuple(n for n in value.shape if n > 1) != tuple(n for n in shape if n > 1):
        raise ValueError(
            f"`source` must be the same network as `target`. Received: {giver.name} with "
            f"{weight.name} {value.shape}, and {taker.name} with {shape}"
        )
    return value.reshape(shape)


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists the layers with weights in the order of a walk from the output to the images.

    Where branches meet, the walk follows them in the order in which they are concatenated or added.
    """
    makers = {id(tensor): layer for layer in model.layers for tensor in tree.flatten(layer.output)}
    met: dict[str, keras.layers.Layer] = {}
    ahead = list(model.outputs)
    while ahead:
        layer = makers[id(ahead.pop())]
        if layer.name not in met:
            met[layer.name] = layer
            ahead.extend(reversed(tree.flatten(layer.input)))
    return [layer for layer in met.values() if layer.weights]
