"""Find objects in images: a box, a class and a score for each.

Example:

    hornbook object_detection --data path/to/voc --backbone mobilenet --preset imagenet
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data import object_masks, objects
from data.anchor_sizes import Sizes, chosen_anchors
from data.feed import Feed
from data.images import suffix
from layers import boxes
from metrics.average_precision import MeanAveragePrecision
from metrics.detections import Evaluation
from models.detectors import BOXES, RATIOS, detector, strides_of
from models.trunks import FEATURES, trunk
from preprocessing import objects as pixels
from preprocessing.images import decoded, with_channels
from runs import pictures, presets
from runs.command import command
from runs.object_settings import ObjectSettings
from runs.report import Picture, Section, Table
from runs.run import Example, counted, finish, start, train
from serving.signature import Prepared, Signature, ask

Ratios = tuple[float, ...]


@dataclass(frozen=True)
class Config(ObjectSettings):
    data: str = "digits"
    """`digits` (built in), `tfds:NAME`, or a folder in the format of VOC, COCO, YOLO or CSV."""
    model: str = "faster_rcnn_fpn"
    out: Path = Path("saved_models/object_detection")

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(BOXES, "model")
        self.require_one_of(FEATURES, "backbone")


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test images."""
    run = start(config)
    data, anchors = with_anchors(config, load(config))
    data = counted(run, data, "images")
    fed = feed(config, data)
    trained = train(
        run,
        partial(build, config, data, anchors),
        fed,
        metrics=lambda: [MeanAveragePrecision(len(data.classes), boxes.iou)],
        monitor="val_map50",
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    test = evaluated(trained.model, data)
    return finish(
        run,
        trained,
        task="object detection",
        signatures=signatures(data),
        warmup={"image_bytes": [image for image, _ in data.first("validation", 4)]},
        example=example(data),
        scores=test.scores,
        num_test=len(data.test),
        examples="images",
        facts=facts(data, trained.model),
        report=report(data, test),
    )


def load(config: ObjectSettings, masks: bool = False) -> objects.Objects:
    return objects.load(**config.loading, masks=masks, image_size=config.image_size)


def with_anchors(
    config: ObjectSettings, data: objects.Objects
) -> tuple[objects.Objects, tuple[Sizes, Ratios]]:
    """Returns the data with remarks on the anchors, and these: sizes of each level, and ratios."""
    strides = strides_of(config.levels)
    if config.anchors:
        return data, (tuple((float(size),) for size in config.anchors), RATIOS)
    published = [(8.0 * stride,) for stride in strides]
    sizes, ratios, remarks = chosen_anchors(
        data.train_boxes, published, RATIOS, strides, data.image_size
    )
    return replace(data, remarks=(*data.remarks, *remarks)), (sizes, ratios)


def feed(config: ObjectSettings, data: objects.Objects) -> Feed:
    augment = pixels.augmentation(config.augment, config.vertical_flip)

    def vary(images, objects, seed):
        images, objects = augment(images, objects, seed)
        count = tf.shape(images["scale"])[0]
        # What a network samples in an image depends on the step and on its place in the batch.
        seeds = tf.random.split(tf.random.fold_in(seed, 1), count)
        return {**images, "seeds": seeds}, objects

    return Feed(
        data,
        prepare=partial(pixels.prepared, image_size=data.image_size),
        batch=lambda images, objects: (pixels.with_floats(images), objects),
        vary=vary,
    )


def build(
    config: ObjectSettings, data: objects.Objects, anchors: tuple[Sizes, Ratios]
) -> keras.Model:
    if config.continued:
        return presets.network(config.continued)
    features = trunk(
        config.backbone,
        (*data.image_size, 3),
        preset=config.preset,
        freeze_stages=config.freeze_stages,
    )
    return detector(
        config.model,
        features,
        len(data.classes),
        levels=config.levels,
        anchor_sizes=anchors[0],
        anchor_ratios=anchors[1],
        max_detections=config.max_detections or data.max_detections,
        norm="none" if config.preset != "none" else "group",
        **config.widths(data.image_size),
    )


def signatures(data: objects.Objects) -> dict[str, Signature]:
    names = tf.constant([*data.classes, ""])

    def prepare(image_bytes):
        images = pixels.fitted_batch(image_bytes, data.image_size)
        context = {name: images[name] for name in ("scale", "upright_size")}
        return Prepared({name: images[name] for name in INPUTS}, context)

    def answer(found, context):
        count = found["num_detections"]
        is_found = tf.range(tf.shape(found["scores"])[1])[None] < count[:, None]
        classes = tf.where(is_found, found["class_ids"], len(data.classes))
        found_boxes = pixels.in_upright_image(found["boxes"], context["scale"])
        answered = {
            "boxes": found_boxes,
            "classes": tf.gather(names, classes),
            "class_ids": found["class_ids"],
            "scores": found["scores"],
            "num_detections": count,
        }
        if data.has_masks:
            sizes = context["upright_size"]
            files = pixels.as_files(found["masks"], found_boxes, sizes, count, boxes.paste_masks)
            answered["mask_bytes"] = files
        return answered

    def whole(images):
        sizes = tf.tile([data.image_size], (tf.shape(images)[0], 1))
        return {"pixels": images, "true_size": sizes}

    return {
        "serving_default": Signature(
            inputs={"image_bytes": tf.TensorSpec((None,), tf.string)},
            preprocess=prepare,
            postprocess=answer,
            meanings={
                "image_bytes": "JPEG, PNG, BMP, GIF or WebP files of any size, turned as EXIF says",
                **MEANINGS,
                **(MASK_FILES if data.has_masks else {}),
            },
            ties={name: "scores" for name in (*RANKED, *(MASK_FILES if data.has_masks else ()))},
        ),
        "from_pixels": Signature(
            inputs={"images": tf.TensorSpec((None, *data.image_size, 3), tf.float32)},
            preprocess=whole,
            core=lambda network, images: network.model.detect(images, compilable=True),
            postprocess=lambda found: found,
            meanings={
                "images": "pixels in [0, 1], resized",
                **{name: meaning for name, meaning in MEANINGS.items() if name != "classes"},
                "boxes": "xmin, ymin, xmax, ymax in these pixels; 0 beyond num_detections",
                **(MASKS if data.has_masks else {}),
            },
            ties={
                name: "scores"
                for name in ("boxes", "class_ids", *(MASKS if data.has_masks else ()))
            },
        ),
    }


MASK_FILES = {
    "mask_bytes": "mask of each object: a PNG file of the size of the upright image, 255 inside"
}
MASKS = {"masks": "probability of each of 28 x 28 cells of a box to be in the object"}
RANKED = ("boxes", "classes", "class_ids")
"""What is sorted by scores."""
INPUTS = ("pixels", "true_size")
"""What a network reads."""
MEANINGS = {
    "boxes": "xmin, ymin, xmax, ymax in pixels of the upright image; 0 beyond num_detections",
    "classes": 'name of the class of each object, the best first; "" beyond num_detections',
    "class_ids": "number of the class",
    "scores": "probability of the class, in [0, 1]",
    "num_detections": "number of objects found",
}


def evaluated(model: keras.Model, data: objects.Objects) -> Evaluation:
    """Queries the network about the test images, as it will be served."""
    examples = [*data.test.as_numpy_iterator()]
    images = np.array([image for image, _ in examples], object)
    answers = ask(signatures(data)["serving_default"], model, {"image_bytes": images}, 8)
    return Evaluation(
        truths=[_true(image, one) for image, one in examples],
        found=[_found(answers, i) for i in range(len(examples))],
        classes=data.classes,
        most=answers["scores"].shape[1],
    )


def _true(image: bytes, one: Mapping[str, np.ndarray]) -> dict[str, Any]:
    there = one["kind"] > 0
    true: dict[str, Any] = {name: one[name][there] for name in ("boxes", "classes", "kind")}
    if "masks" in one:
        height, width, _ = decoded(image).shape
        true["masks"] = [
            object_masks.encoded(object_masks.pasted(mask, box, height, width))
            for mask, box in zip(one["masks"][there], true["boxes"], strict=True)
        ]
    return true


def _found(answers: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    count = answers["num_detections"][row]
    names = {"boxes": "boxes", "classes": "class_ids", "scores": "scores"}
    found: dict[str, Any] = {name: answers[column][row, :count] for name, column in names.items()}
    if "mask_bytes" in answers:
        found["masks"] = [
            object_masks.encoded(tf.io.decode_png(file)[..., 0].numpy() > 0)
            for file in answers["mask_bytes"][row, :count]
        ]
    return found


def facts(data: objects.Objects, model: keras.Model) -> dict[str, Any]:
    return {
        "classes": data.classes,
        "input": " x ".join(map(str, (*data.image_size, 3))),
        "objects found": f"at most {model.max_detections} per image",
    }


def report(data: objects.Objects, test: Evaluation) -> list[Section]:
    quality = test.f1_of_images()
    worst = [int(i) for i in np.argsort(quality, kind="stable")[:6]]
    others = np.random.default_rng(0).permutation(len(quality))[:6].tolist()

    def shown(title: str, indices: list[int]) -> Section:
        examples = data.picked("test", indices)
        images = [with_channels(decoded(image), 3).numpy() for image, _ in examples]
        truths = [test.truths[i] for i in indices]
        found = [with_masks(test.found[i]) for i in indices]
        names = [data.origin("test", i) for i in indices]
        return Picture(title, pictures.boxes_on_images(images, truths, found, data.classes, names))

    return [
        Table("Scores by class", *test.by_class()),
        Picture("Precision and recall", pictures.precision_recall(test.curves())),
        shown("Test images with the objects found, the true ones dashed", others),
        shown("The worst test images", worst),
    ]


def with_masks(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns found objects with their masks as arrays, if there are some."""
    masks = found.get("masks")
    return dict(found) if not masks else {**found, "masks": object_masks.all_decoded(masks)}


def example(data: objects.Objects) -> Example:
    ((image, one),) = data.first("test", 1)
    count = int(np.sum(one["kind"] > 0))
    return Example(f"a test image with {count} objects", {"image_bytes": image}, suffix(image))


if __name__ == "__main__":
    command(main, Config, __doc__)
