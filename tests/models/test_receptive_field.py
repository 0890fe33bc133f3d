import keras
import numpy as np
import pytest
import tensorflow as tf

import layers
from models.alexnet import alexnet
from models.cifar_resnet import cifar_resnet
from models.inception_v3 import inception_v3
from models.mobilenet import mobilenet
from models.receptive_field import ReceptiveField, receptive_field, receptive_field_table
from models.resnet import resnet
from models.vgg import vgg
from tests.models.blueprint import blueprint

KL = keras.layers


def convolution(*args, **kwargs):
    """A convolution whose every weight counts."""
    kernel = keras.initializers.RandomUniform(0.5, 1.0)
    return KL.Conv2D(1, *args, kernel_initializer=kernel, **kwargs)


def sequence(*steps, side=(23, 26)):
    return keras.Sequential([keras.Input((*side, 1)), *steps])


def branches():
    images = keras.Input((24, 21, 1))
    x = convolution(3, padding="same")(images)
    left = convolution((1, 5), strides=2, padding="same")(x)
    right = KL.AveragePooling2D(3, 2, padding="same")(x)
    x = KL.Concatenate()([left, right])
    shortcut = x
    x = convolution(3, dilation_rate=2, padding="same")(x)
    x = KL.Conv2D(2, 1, kernel_initializer="ones")(x)
    return keras.Model(images, KL.ReLU()(KL.Add()([x, shortcut])[:, 1::2, ::2] + 1.0))


def nested():
    trunk = sequence(convolution(3, strides=2), convolution(2), side=(20, 20))
    images = keras.Input((24, 24, 1))
    x = KL.ZeroPadding2D(((0, 1), (2, 0)))(images)
    return keras.Model(images, trunk(convolution((6, 7))(x)))


DEPTHWISE = {"depthwise_initializer": "ones"}
MODELS = {
    "convolutions": lambda: sequence(convolution(3), convolution((5, 2), strides=(2, 1))),
    "same": lambda: sequence(
        convolution(4, strides=2, padding="same"), convolution(3, strides=2, padding="same")
    ),
    "dilation": lambda: sequence(convolution(3, dilation_rate=(2, 3), padding="same")),
    "depthwise and separable": lambda: sequence(
        KL.DepthwiseConv2D(3, 2, "same", **DEPTHWISE),
        KL.SeparableConv2D(2, 3, pointwise_initializer="ones", **DEPTHWISE),
    ),
    "padding": lambda: sequence(
        KL.ZeroPadding2D(((3, 1), (0, 2))), convolution(5, strides=3), KL.Cropping2D(1)
    ),
    "max pooling": lambda: sequence(KL.MaxPooling2D(3, 2), KL.MaxPooling2D(2, 2, "same")),
    "our pooling": lambda: sequence(
        layers.LpPooling2D(3, 2, padding="same"),
        layers.MixedPooling2D(3, 1),
        layers.StochasticPooling2D(2),
    ),
    "drop connect": lambda: sequence(layers.DropConnect(convolution(3), 0.5)),
    "branches": branches,
    "nested": nested,
}


def support(model, unit: tuple[int, int]) -> tuple[list[int], list[int]]:
    """First and last row, first and last column, of the pixels that reach a unit's gradient."""
    # Many images, since each maximum hands its gradient to one pixel only.
    images = tf.constant(np.random.default_rng(0).random((64, *model.input_shape[1:]), "float32"))
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = tf.reduce_sum(model(images)[:, unit[0], unit[1]])
    reached = np.abs(tape.gradient(value, images)).sum(axis=(0, 3)) > 0
    rows, columns = np.flatnonzero(reached.any(axis=1)), np.flatnonzero(reached.any(axis=0))
    return [rows[0], rows[-1]], [columns[0], columns[-1]]


@pytest.mark.parametrize("name", MODELS)
def test_field_is_the_support_of_the_gradient(name):
    model = MODELS[name]()
    row = receptive_field(model)[-1]
    counts = model.output_shape[1:3]
    middle = (counts[0] // 2, counts[1] // 2)
    for unit in [(0, 0), middle, (counts[0] - 1, counts[1] - 1)]:
        for axis, (first_reached, last_reached) in enumerate(support(model, unit)):
            center = row.center[axis] + unit[axis] * row.stride[axis]
            first, last = center - (row.size[axis] - 1) / 2, center + (row.size[axis] - 1) / 2
            # A field may begin or end in the padding, the middle unit's does not.
            assert first <= first_reached <= last_reached <= last
            if unit == middle:
                assert [first, last] == [first_reached, last_reached]


# Araujo, Norris & Sim (2019), table of popular networks; ResNet-50 with the stride in the 3 x 3
# convolution by the same sum: 11 + 8 * 3 + 8 + 16 * 3 + 16 + 32 * 5 + 32 + 64 * 2.
@pytest.mark.parametrize(
    ("build", "layer", "size", "stride"),
    [
        (lambda: alexnet((67, 67, 3), 2), "pool5", 195, 32),
        (lambda: vgg((32, 32, 3), 2, depth=16), "pool5", 212, 32),
        (lambda: resnet((32, 32, 3), 2, depth=50, stride_in="1x1"), "conv5_block3", 483, 32),
        (lambda: resnet((32, 32, 3), 2, depth=50, stride_in="3x3"), "conv5_block3", 427, 32),
        (lambda: mobilenet((32, 32, 3), 2), "conv14_pointwise_relu", 315, 32),
        (lambda: inception_v3((96, 96, 3), 2), "mixed10", 1311, 32),
    ],
    ids=["AlexNet", "VGG-16", "ResNet-50", "ResNet-50 3x3", "MobileNet", "Inception v3"],
)
def test_published_figures(build, layer, size, stride):
    row = next(row for row in receptive_field(blueprint(build)) if row.name == layer)
    assert (row.size, row.stride) == ((size, size), (stride, stride))


def test_one_value_by_hand():
    # 3 pixels, then 3 windows at steps of 2: 3 + 2 * 2 = 7, from -1 - 2 to 3.
    rows = receptive_field(
        sequence(
            convolution(3, strides=2, padding="same", name="a"),
            KL.ReLU(name="b"),
            convolution(3, padding="same", name="c"),
            side=(9, 9),
        )
    )
    assert rows == [
        ReceptiveField("a", (3, 3), (2, 2), (0, 0)),
        ReceptiveField("b", (3, 3), (2, 2), (0, 0)),
        ReceptiveField("c", (7, 7), (2, 2), (0, 0)),
    ]


def test_head_and_spectral_pooling_see_the_whole_image():
    model = sequence(
        convolution(3),
        layers.SpectralPooling2D(2, name="spectral"),
        KL.Flatten(),
        KL.Dense(3, name="logits"),
        side=(10, 14),
    )
    rows = {row.name: row for row in receptive_field(model)}
    for name in ("spectral", "logits"):
        assert rows[name] == ReceptiveField(name, (10, 14), (0, 0), (4.5, 6.5))


def test_table_tells_height_and_width_apart_where_they_differ():
    table = receptive_field_table(
        [
            ReceptiveField("a", (3, 3), (1, 1), (1, 1)),
            ReceptiveField("bc", (1, 7), (2, 2), (0, 3.5)),
        ]
    )
    assert table.splitlines() == [
        "layer   size  stride  center of the first unit",
        "a          3       1                         1",
        "bc     1 x 7       2                   0 x 3.5",
    ]


def test_shortcut_by_slicing_stays_aligned():
    row = receptive_field(cifar_resnet(depth=20))[-3]
    assert (row.name, row.size, row.stride) == ("conv4_block3", (81, 81), (4, 4))


def test_channels_first_gives_the_same():
    keras.config.set_image_data_format("channels_first")
    images = keras.Input((1, 23, 26))
    x = KL.Conv2D(2, (3, 1), 2, "same")(images)
    rows = receptive_field(keras.Model(images, layers.LpPooling2D(2)(x)))
    assert [row.size for row in rows] == [(3, 1), (5, 3)]


def test_unknown_layer_sizes_and_strides_are_refused():
    with pytest.raises(ValueError, match="Received: layer 'up' of type UpSampling2D"):
        receptive_field(sequence(KL.UpSampling2D(name="up")))
    with pytest.raises(ValueError, match="known height and width"):
        receptive_field(sequence(convolution(3), side=(None, 8)))
    images = keras.Input((8, 8, 1))
    pooled = KL.MaxPooling2D(2)(images)
    uneven = KL.Add()([pooled, KL.ZeroPadding2D(2)(KL.MaxPooling2D(2, 2)(pooled))[:, :4, :4]])
    with pytest.raises(ValueError, match="same stride where they meet"):
        receptive_field(keras.Model(images, uneven))
