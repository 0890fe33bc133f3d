import keras
import numpy as np
import pytest
import tensorflow as tf

from layers.boxes import iou
from metrics.average_precision import MeanAveragePrecision
from models import imagenet
from models.detectors import detector
from models.faster_rcnn import mean_over, smooth_l1, uniform
from models.mask_rcnn import seen_masks
from models.region_heads import box_head, region_proposals
from models.trunks import FEATURES, load_dense, trunk
from runs.presets import with_first_of
from tests.models.blueprint import blueprint, count

WEIGHTS_OF_AN_OUTPUT = 1024 + 1
"""Weights of an output of the head, with its bias."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs", "of_background"),
    [
        # torchvision also moves the box of the background, and draws its mask.
        ("faster_rcnn_fpn", 41_808_406, 4 * WEIGHTS_OF_AN_OUTPUT),
        ("mask_rcnn", 44_454_513, 4 * WEIGHTS_OF_AN_OUTPUT + 256 + 1),
    ],
)
def test_parameters_are_those_of_torchvision_less_what_it_does_with_background(
    name, theirs, of_background
):
    model = blueprint(
        lambda: detector(name, trunk("resnet50", (320, 320, 3), norm="batch"), 90),
    )
    assert count(model.trainable_weights) == theirs - of_background


@pytest.mark.parametrize(
    ("name", "trunk_weights", "width", "head_weights"),
    [
        # All of VGG-16 but fc8 (4096 x 1000), and of ResNet-50 but the logits (2048 x 1000).
        ("vgg16", 138_357_544 - 4_097_000, 512, 4097),
        ("resnet50", 25_557_032 - 2_049_000, 512, 2049),
        ("resnet18", 11_689_512 - 513_000, 256, 513),
    ],
)
def test_without_pyramid_the_parameters_are_those_of_classifier_proposals_and_outputs(
    name, trunk_weights, width, head_weights
):
    norm = "none" if name == "vgg16" else "batch"
    model = blueprint(
        lambda: detector("faster_rcnn", trunk(name, (320, 320, 3), norm=norm), 20),
    )
    channels = model.features.output_shape[-1]
    nine_anchors = (width + 1) * 9 * 5
    proposals = 9 * channels * width + width + nine_anchors
    outputs = head_weights * (21 + 4 * 20)
    assert count(model.trainable_weights) == trunk_weights + proposals + outputs
    assert model.features.output_shape[1:3] == (20, 20)


def test_the_dense_layers_of_vgg_come_from_imagenet(monkeypatch):
    units, side = 8, 4
    images = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 8, 8, name="block5_conv3")(images))
    for name in ("fc1", "fc2"):
        x = keras.layers.Dense(units, "relu", name=name)(x)
    source = keras.Model(images, x)
    monkeypatch.setattr(imagenet, "download", lambda name, include_top: source)
    head = box_head(side, 2, 3, units)
    load_dense(head, "vgg16")
    features = source.get_layer("block5_conv3").output
    expected = keras.Model(images, [features, x])(np.ones((1, 32, 32, 3)))
    fc7 = keras.Model(head.input, head.get_layer("fc7").output)
    np.testing.assert_allclose(fc7(expected[0]), expected[1], rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "efficientnet_lite0", "vgg16"])
def test_features_of_a_trunk_have_strides_of_4_to_32(name):
    model = blueprint(lambda: trunk(name, (64, 96, 3)))
    sides = [tuple(map(int, features.shape[1:3])) for features in model.outputs]
    assert sides == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_every_trunk_is_a_network_of_image_classification():
    from models.image_classifiers import MODELS

    assert set(FEATURES) <= set(MODELS)


def tiny_trunk(side: int = 64, channels: int = 8) -> keras.Model:
    images = x = keras.Input((side, side, 3))
    features = []
    for number in range(4):
        x = keras.layers.Conv2D(channels, 3, 4 if number == 0 else 2, "same", activation="relu")(x)
        features.append(x)
    return keras.Model(images, features)


def tiny(name: str = "mask_rcnn", classes: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    return detector(
        name,
        tiny_trunk(),
        classes,
        levels=(2, 3),
        anchor_sizes=((16,), (24,), (40,)),
        pyramid_channels=8,
        head_units=16,
        regions=16,
        max_detections=12,
    )


def without_pyramid() -> keras.Model:
    keras.utils.set_random_seed(0)
    return detector(
        "faster_rcnn",
        tiny_trunk(),
        2,
        anchor_sizes=((16, 24, 40),),
        region_size=6,
        regions=16,
        max_detections=12,
    )


BOTH = [tiny, pytest.param(without_pyramid, marks=pytest.mark.slow)]


def batch(kinds=((1, 2, 0), (1, 3, 0))):
    random = np.random.default_rng(0)
    boxes = np.array(
        [
            [[4, 4, 24, 20], [30, 30, 60, 58], [0, 0, 0, 0]],
            [[10, 20, 40, 44], [40, 0, 64, 30], [0, 0, 0, 0]],
        ],
        "float32",
    )
    inputs = {
        "pixels": tf.constant(random.uniform(size=(2, 64, 64, 3)).astype("float32")),
        "true_size": tf.constant([[64, 64], [64, 48]]),
        "seeds": tf.constant([[1, 2], [3, 4]]),
    }
    objects = {
        "boxes": tf.constant(boxes),
        "classes": tf.constant([[0, 1, 0], [1, 0, 0]]),
        "kind": tf.constant(kinds),
        "masks": tf.constant(random.integers(0, 2, (2, 3, 112, 112), np.uint8)),
    }
    return inputs, objects


def decided(made: keras.Model) -> keras.Model:
    """Moves scores from the threshold and from each other, so that rounding decides nothing."""
    for layer in ("objectness", "moves"):
        kernel = made.proposals.get_layer(layer).kernel
        kernel.assign(kernel * 30)
    kernel = made.head.get_layer("classes").kernel
    kernel.assign(kernel * 30)
    return made


@pytest.fixture(scope="module", params=[tiny, without_pyramid])
def model(request) -> keras.Model:
    return decided(request.param())


@pytest.mark.slow
@pytest.mark.parametrize("model", BOTH, indirect=True)
def test_what_xla_compiles_answers_as_the_kernels_of_the_cpu(model):
    inputs, _ = batch()
    fast = tf.function(model.detect)(inputs)
    compiled = tf.function(lambda given: model.detect(given, compilable=True), jit_compile=True)
    answers = compiled(inputs)
    assert int(fast["num_detections"][0]) > 3
    for name, values in fast.items():
        np.testing.assert_allclose(answers[name], values, rtol=1e-4, atol=1e-4)


def test_detections_are_inside_the_image_sorted_and_do_not_overlap(model):
    inputs, _ = batch()
    found = {name: value.numpy() for name, value in model.detect(inputs).items()}
    for i, (height, width) in enumerate(inputs["true_size"].numpy()):
        number = found["num_detections"][i]
        boxes, scores = found["boxes"][i, :number], found["scores"][i, :number]
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert (np.diff(scores) <= 0).all() and (scores > 0.05).all()
        same = found["class_ids"][i, :number, None] == found["class_ids"][i, None, :number]
        overlaps = np.asarray(iou(boxes, boxes)) * same
        assert (overlaps - np.eye(number) <= 0.5 + 1e-6).all()
        rest = [found[name][i, number:] for name in ("boxes", "scores", "masks") if name in found]
        assert not any(values.any() for values in rest)


def test_each_image_may_have_its_own_thresholds(model):
    inputs, _ = batch()
    found = {name: value.numpy() for name, value in model.detect(inputs).items()}
    usual = {"score_threshold": tf.constant([0.05] * 2), "iou_threshold": tf.constant([0.5] * 2)}
    for name, values in model.detect({**inputs, **usual}).items():
        np.testing.assert_allclose(values, found[name], atol=1e-5)
    least = (found["scores"][1, 0] + found["scores"][1, 1]) / 2
    chosen = {"score_threshold": [0.05, least], "iou_threshold": [1.0, 0.5]}
    others = model.detect({**inputs, **{name: tf.constant(two) for name, two in chosen.items()}})
    assert int(others["num_detections"][1]) == 1
    # Nothing is suppressed in the first image, whose rows have the best scores.
    gain = others["scores"][0].numpy() - found["scores"][0]
    assert gain.min() >= -1e-6 and gain.max() > 1e-4


def test_proposals_are_inside_the_image_and_overlap_by_at_most_their_limit(model):
    inputs, _ = batch()
    found = model.detect(inputs, proposals=True)
    for i, (height, width) in enumerate(inputs["true_size"].numpy()):
        boxes = found["proposals"][i].numpy()
        number = np.sum(boxes.any(axis=1))
        assert 10 < number <= model.proposed and not boxes[number:].any()
        boxes = boxes[:number]
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
    np.testing.assert_array_equal(found["scores"], model.detect(inputs)["scores"])


def test_a_saved_network_answers_alike(model, tmp_path):
    inputs, _ = batch()
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for name, values in model.detect(inputs).items():
        np.testing.assert_allclose(restored.detect(inputs)[name], values, atol=1e-5)


def test_known_classes_keep_their_weights_when_others_are_added():
    model = tiny()
    wider = with_first_of(model.with_classes(5), model)
    assert wider.num_classes == 5
    inputs, objects = batch()
    maps = model._maps(inputs, training=False)
    for mine, other in zip(maps, wider._maps(inputs, training=False), strict=True):
        np.testing.assert_array_equal(mine, other)
    for head in ("head", "masks"):
        known, more = (m._read(getattr(m, head), maps, objects["boxes"]) for m in (model, wider))
        if head == "masks":
            np.testing.assert_allclose(more[0][..., :2], known[0], atol=1e-6)
            assert more[0].shape[-1] == 5
        else:  # Logits, with that of the background, and moves.
            np.testing.assert_allclose(more[0][..., :3], known[0], atol=1e-6)
            np.testing.assert_allclose(more[1][:, :, :2], known[1], atol=1e-6)
            assert more[0].shape[-1] == 6 and more[1].shape[2:] == (5, 4)


@pytest.mark.slow
def test_images_without_objects_train_as_background():
    model = tiny()
    inputs, objects = batch(kinds=((0, 0, 0), (0, 3, 0)))

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            losses = model.losses_of(inputs, objects)
            total = tf.add_n([value for name, value in losses.items() if name.endswith("loss")])
        weights = model.trainable_variables
        return losses, tape.gradient(total, weights, unconnected_gradients="zero")

    losses, found = gradients()
    assert all(np.isfinite(value) for value in losses.values())
    by_name = {
        weight.path: float(tf.reduce_max(tf.abs(gradient)))
        for weight, gradient in zip(model.trainable_variables, found, strict=True)
    }
    trained = {path for path, size in by_name.items() if size > 0}
    assert any("objectness" in path for path in trained)
    assert any("classes/" in path for path in trained)
    for path in by_name.keys() - trained:
        assert any(part in path for part in ("moves", "mask")), path
    assert not any("moves" in path or "mask" in path for path in trained)
    assert float(losses["box_loss"]) == float(losses["proposal_box_loss"]) == 0
    assert float(losses["mask_loss"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("build", BOTH)
def test_the_loss_of_a_batch_falls(build):
    model = build()
    model.compile(keras.optimizers.Adam(3e-3))
    step = tf.function(model.train_step)
    losses = []
    for _ in range(60):
        step(batch())
        losses.append(float(model.logged["loss"].result()))
        model.logged["loss"].reset_state()
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


def test_the_seed_decides_the_first_weights():
    kernels = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        layer = region_proposals(3, 4, 2).get_layer("rpn")
        kernels.append(keras.ops.convert_to_numpy(layer.kernel))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_fpn", "mask_rcnn"])
def test_every_network_learns_a_batch_by_heart(name):
    keras.utils.set_random_seed(0)
    pyramid = {"levels": (2, 3), "pyramid_channels": 32, "head_units": 64}
    model = detector(
        name,
        tiny_trunk(channels=32),
        2,
        anchor_sizes=((16, 24, 40),) if name == "faster_rcnn" else ((16,), (24,), (40,)),
        region_size=6,
        regions=64,
        **({} if name == "faster_rcnn" else pyramid),
    )
    model.compile(keras.optimizers.Adam(3e-3), weighted_metrics=[MeanAveragePrecision(2, iou)])
    inputs, objects = batch(kinds=((1, 1, 0), (1, 1, 0)))
    inputs["true_size"] = tf.constant([[64, 64], [64, 64]])
    pixels = inputs["pixels"].numpy() / 4
    for image in range(2):
        for row in range(2):
            xmin, ymin, xmax, ymax = objects["boxes"][image, row].numpy().astype(int)
            pixels[image, ymin:ymax, xmin:xmax, objects["classes"][image, row]] += 0.7
    inputs["pixels"] = tf.constant(pixels)
    step, test = tf.function(model.train_step), tf.function(model.test_step)
    for _ in range(200):
        step((inputs, objects))
    assert float(test((inputs, objects))["map50"]) == pytest.approx(1.0)


def test_validation_logs_its_own_metrics_alone():
    model = tiny()
    model.compile(weighted_metrics=[MeanAveragePrecision(2, iou)])
    logs = model.test_step(batch())
    assert set(logs) == {"map50"} and 0 <= float(logs["map50"]) <= 1


def test_smooth_l1_by_hand():
    errors = np.array([[0.0, 0.05, -1.0]])
    assert float(smooth_l1(errors, 0.1)[0]) == pytest.approx(0.5 * 0.05**2 / 0.1 + 1 - 0.05)


def test_a_mean_over_what_is_counted():
    values = tf.constant([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    chosen = tf.constant([[True, False, True], [False, False, False]])
    counted = tf.constant([[True, True, True], [True, False, False]])
    assert float(mean_over(values, chosen, counted)) == 5 / 4
    nothing = tf.zeros((2, 3), bool)
    assert float(mean_over(values, nothing, nothing)) == 0


def test_the_numbers_of_an_image_depend_on_its_seed_alone():
    seeds = tf.constant([[1, 2], [3, 4], [1, 2]])
    numbers = uniform(seeds, 0, 1000).numpy()
    np.testing.assert_array_equal(numbers[0], numbers[2])
    np.testing.assert_array_equal(numbers[1], uniform(seeds[1:2], 0, 1000)[0])
    assert np.abs(numbers[0] - uniform(seeds, 1, 1000)[0]).max() > 0.5
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.02


def test_a_region_shows_its_part_of_a_mask():
    mask = np.zeros((1, 1, 112, 112), np.uint8)
    mask[0, 0, :56] = 1  # The upper half of an object from (10, 20) to (30, 60).
    regions = {
        "targets": tf.constant([[[10.0, 20, 30, 60]] * 2]),
        "matched": tf.constant([[0, 0]]),
        "boxes": tf.constant([[[10.0, 20, 30, 60], [0, 30, 20, 50]]]),
    }
    seen = seen_masks(tf.constant(mask), regions, 28).numpy()[0]
    assert seen[0, :14].all() and not seen[0, 14:].any()
    # Its left half is beside the object, and its lower half below the middle.
    assert seen[1, :13, 15:].all() and not seen[1, 15:].any() and not seen[1, :, :13].any()
