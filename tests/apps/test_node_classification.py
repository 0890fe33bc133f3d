from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from apps import node_classification as app
from serving.signature import ask
from tests.apps.every_app import Small


def circles(folder: Path) -> str:
    """Writes two circles of 60 nodes, their classes, with few links between them."""
    random = np.random.default_rng(0)
    nodes = ["id,label,height,color"]
    edges = ["source,target"]
    for number in range(120):
        kind = number // 60
        height = kind + random.normal()
        color = ("red", "blue")[kind if random.random() < 0.7 else 1 - kind]
        nodes.append(f"n{number},{('left', 'right')[kind]},{height:.3f},{color}")
        for step in (1, 2, 3):
            edges.append(f"n{number},n{60 * kind + (number + step) % 60}")
    edges += ["n0,n60", "n30,n90"]
    (folder / "nodes.csv").write_text("\n".join(nodes))
    (folder / "edges.csv").write_text("\n".join(edges))
    return str(folder)


def few(folder: Path) -> str:
    (folder / "nodes.csv").write_text("id,label,height,color\na,left,0.1,red\nb,,0.2,blue\n")
    (folder / "edges.csv").write_text("source,target\na,b\n")
    return str(folder)


SMALL = Small(
    write=circles,
    settings={"epochs": 30, "labels_per_class": 10, "units": 8, "batch_size": 2},
    beats=("accuracy", 0.8),
    sections=[
        *("Scores by class", "Confusion matrix", "Most frequent errors", "Calibration"),
        "ROC and precision-recall curve",
        "Thresholds, with &#x27;right&#x27; as the positive class",
        *("Worst mistakes", "Correct predictions", "Training nodes"),
    ],
    few=few,
    odd=[{"node_ids": b"n119"}, {"node_ids": b"n0"}],
    ignored=[{"model": "mlp", "directed": True}, {"model": "mlp", "weights": True}],
    bad={
        "labels_per_class": 0,
        "split_seed": -1,
        "scale": "no_such_scale",
        "preset": "no_such_preset",
    },
    free=("directed", "weights", "id_column", "label_column", "source_column", "target_column"),
)


@pytest.fixture(scope="module")
def digits() -> tuple[app.Config, app.graphs.Graph]:
    config = app.Config()
    return config, app.load(config)


def test_a_network_learns_from_a_few_steps_and_answers(digits):
    config, data = digits
    model = app.build(config, data)
    fed = app.feed(data)
    model.compile("adam", app.keras.losses.CategoricalCrossentropy(from_logits=True))
    batches = fed.training(batch_size=50, seed=0, epochs=25)
    losses = [float(model.train_on_batch(nodes, labels)) for nodes, labels in batches]
    assert losses[-1] < losses[0]
    signature = app.signatures(data, model)["serving_default"]
    answer = ask(signature, model, {"node_ids": np.array([b"0", b"1796"], object)})
    assert answer["classes"].shape == (2, 5)


def test_the_graph_is_no_part_of_the_number_of_parameters(digits):
    config, data = digits
    assert app.build(config, data).count_params() == 64 * 16 + 16 * 10


def test_an_unknown_id_is_named_with_its_row(digits):
    config, data = digits
    model = app.build(config, data)
    signature = app.signatures(data, model)["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"names of nodes.*\[1\].*1797"):
        ask(signature, model, {"node_ids": np.array([b"0", b"1797"], object)})


def test_answers_are_those_of_the_live_network(digits):
    config, data = digits
    model = app.build(config, data)
    nodes = np.array([5, 900, 1796], np.int32)
    answer = ask(app.signatures(data, model)["from_indices"], model, {"indices": nodes})
    live = app.keras.ops.convert_to_numpy(model(nodes))
    np.testing.assert_allclose(answer["logits"], live, atol=1e-5)
