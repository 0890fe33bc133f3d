"""Weights of keras.applications, trained on ImageNet, in the networks of this folder.

The mapping: a network here and its counterpart in keras.applications are the same graph, so
walked from the output back to the images they meet their layers with weights in the same order,
and each layer takes the weights of the one at its place in the other walk, with four rules.

- A convolution's bias in front of a batch normalization, which ours have not, is subtracted from
  the moving mean: normalizing `x + bias` by `mean` is normalizing `x` by `mean - bias`.
- The difference of two epsilons is added to the moving variance; a scale that is not learned is 1.
- A head that is a 1 x 1 convolution becomes a dense layer.
- Networks here take RGB images in [0, 1]. A `Rescaling` in front of them makes the numbers that
  `preprocess_input` makes, and where that swaps red and blue, the first kernel swaps them instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import keras
import numpy as np
from keras import tree

from models.inception_resnet_v2 import inception_resnet_v2
from models.inception_v3 import inception_v3
from models.mobilenet import mobilenet
from models.resnet import resnet
from models.vgg import vgg

NUM_CLASSES = 1000
"""Classes of ImageNet's classification challenge."""


@dataclass(frozen=True)
class Preset:
    """A network here and its counterpart in keras.applications."""

    build: Callable[..., keras.Model]
    """Ours, from `input_shape` and `num_classes`."""
    application: Callable[..., keras.Model]
    """The same in keras.applications."""
    mode: Literal["caffe", "tf"]
    """Preprocessing: `caffe`: BGR in [0, 255] less the mean pixel; `tf`: RGB in [-1, 1]."""
    size: int
    """Height and width that it was trained with, in pixels."""
    file: str
    """Its weights below `URL`, without the ending."""
    no_top: str = "_notop"
    """Ending of the weights without head."""

    def url(self, include_top: bool) -> str:
        """Where keras.applications downloads the weights from."""
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
) -> keras.Model:
    """Builds a network whose trunk has been trained on ImageNet.

    The head has been trained too if there are 1000 classes (and, for VGG, images of 224 x 224
    pixels, as its head sees the whole grid of features); otherwise it is new. The weights are
    downloaded once, into the cache of Keras.

    Args:
        name: A key of `PRESETS`.
        input_shape: Height, width and channels (3) of an image, of any size that the network
            takes.
        num_classes: How many classes; at least 1. 1000 are those of ImageNet, in its order.
        trainable: Whether training changes the trunk. If not, it changes the last layer (and what
            else is new), and the batch normalization of the trunk uses its moving statistics.

    Returns:
        A model from RGB images `(batch, height, width, 3)` in [0, 1] to logits
        `(batch, num_classes)`.

    Raises:
        ConnectionError: If the weights are neither in the cache nor to be had from the network.
    """
    if name not in PRESETS:
        raise ValueError(f"`name` must be one of {', '.join(PRESETS)}. Received: name={name!r}")
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(
            "`input_shape` must be (height, width, 3): the weights are of color images. "
            f"Received: input_shape={tuple(input_shape)}"
        )
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
    """Returns the model of keras.applications with its weights, or says how to get them."""
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
            f"The ImageNet weights of {name} could not be loaded ({error}). They were looked for "
            f"in the cache of Keras and then at {url}. Without a network, fetch that file "
            f"elsewhere and save it as ~/.keras/models/{url.rsplit('/', 1)[1]}, or set KERAS_HOME "
            "to a folder that has it in its `models`."
        ) from error


def with_preprocessing(model: keras.Model, mode: Literal["caffe", "tf"]) -> keras.Model:
    """Returns a new copy of a network that scales its images as keras.applications do."""
    stage = keras.layers.Rescaling(
        # Red, green, blue. In float32, as 16 bits would round pixels in [0, 255].
        scale=255.0 if mode == "caffe" else 2.0,
        offset=[-123.68, -116.779, -103.939] if mode == "caffe" else -1.0,
        dtype="float32",
        name="preprocessing",
    )
    images = model.input.name

    def call(layer, inputs, **kwargs):
        is_first = isinstance(inputs, keras.KerasTensor) and inputs.name == images
        return layer(stage(inputs) if is_first else inputs, **kwargs)

    return keras.models.clone_model(model, call_function=call)


def transfer(
    source: keras.Model, target: keras.Model, mode: Literal["caffe", "tf"]
) -> list[keras.layers.Layer]:
    """Copies the weights of a model of keras.applications into the same network here.

    Args:
        source: The model of keras.applications, with or without its head.
        target: The network here, behind `with_preprocessing`.
        mode: The preprocessing that `source` expects.

    Returns:
        The layers of `target` that have got their weights, the last one first.
    """
    givers, takers = weighted_layers(source), weighted_layers(target)
    # A source without head gives nothing to what is met before its own last layer.
    takers = takers[len(takers) - len(givers) :]
    first = next(layer for layer in source.layers if layer.weights)
    # What normalizes a convolution's output is met just before the convolution.
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
    """Drops the axes of length 1 that a head made of a 1 x 1 convolution has."""
    shape = tuple(weight.shape)
    if tuple(n for n in value.shape if n > 1) != tuple(n for n in shape if n > 1):
        raise ValueError(
            f"`source` must be the same network as `target`. Received: {giver.name} with "
            f"{weight.name} {value.shape}, and {taker.name} with {shape}"
        )
    return value.reshape(shape)


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists the layers with weights as a walk from the output to the images first meets them.

    Where branches meet, the walk takes them in the order in which they are concatenated or added.
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
