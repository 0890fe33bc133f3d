"""Classify the nodes of a graph, of which some have a known class.

Reaches 0.939 test accuracy on handwritten digits, each linked to the most similar ones, from five
known digits of each class.

Example:

    hornbook node_classification --data path/to/folder
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from data import graphs
from data.feed import Feed
from data.sources import listed
from metrics import baselines, classification
from models import node_classifiers
from runs import presets
from runs.classified import classified, tabled
from runs.command import command
from runs.report import Section, Table
from runs.run import Example, counted, finish, start, train
from runs.settings import Data, Settings, Training
from serving.signature import Signature, within
from training.optimizers import OptimizerName, Schedule


@dataclass(frozen=True)
class Config(Settings):
    EPOCHS = 200
    NETWORK = (*Settings.NETWORK, "layers", "units", "dropout")
    data: str = "digits"
    """`digits` (built in), a folder with two tables, `nodes` (id, label and features) and `edges`
    (source, target), or the files of Planetoid, such as `folder/ind.cora`."""
    model: str = "gcn"
    out: Path = Path("saved_models/node_classification")
    optimizer: Training[OptimizerName] = "adam"
    """Optimizer, as in all apps; the default is the paper's."""
    learning_rate: Training[float | None] = 0.01
    """Peak learning rate."""
    schedule: Training[Schedule] = "constant"
    """Course of the learning rate after the warm-up."""
    labels_per_class: Data[int | None] = None
    """Nodes of each class to train on, if no column `split` says it. Default: 20, in `digits` 5."""
    split_seed: Data[int] = 0
    """Decides which nodes are drawn, if no column `split` says it."""
    scale: Data[Literal["columns", "rows", "none"] | None] = None
    """`columns` standardizes each feature, `rows` divides the features of a node by their sum.
    Default: rows if all are counts and most of them 0, as of words in texts, else columns."""
    directed: Data[bool] = False
    """Links have one direction, from source to target."""
    weights: Data[bool] = False
    """Read the column `weight` of the links."""
    id_column: Data[str | None] = None
    """Column of the name of a node. Default: id."""
    label_column: Data[str | None] = None
    """Column of the class. Default: label."""
    source_column: Data[str | None] = None
    """Column of the node at which a link begins. Default: source."""
    target_column: Data[str | None] = None
    """Column of the node at which a link ends. Default: target."""
    layers: int = 2
    """Layers of the network: nodes at most so many links away matter."""
    units: int = 16
    """Features of a node after each layer but the last."""
    dropout: Training[float] = 0.5
    """Dropout before each layer, in [0, 1)."""

    def __post_init__(self):
        super().__post_init__()
        self.require_one_of(node_classifiers.NAMES, "model")
        self.require_least(1, "labels_per_class", "layers", "units")
        self.require_least(0, "split_seed")
        self.require_share("dropout")
        self.require_preset()
        self.require_only(("gcn",), "directed", "weights")

    @property
    def usual(self) -> dict[str, Any]:
        return super().usual | {"batch_size": None}  # All nodes.


def main(config: Config) -> dict[str, float]:
    """Trains, evaluates and exports; returns the scores on the test nodes."""
    run = start(config)
    data = counted(run, load(config), "nodes")
    fed = feed(data)
    trained = train(
        run,
        partial(build, config, data),
        fed,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=lambda: [keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    if trained is None:  # Another process evaluates and writes.
        return {}
    test = classification.evaluate(trained.model, fed.evaluation("test", config.batch_size))
    return finish(
        run,
        trained,
        task="node classification",
        signatures=signatures(data, trained.model),
        warmup={"node_ids": [data.ids[node] for node, _ in data.first("test", 8)]},
        example=example(data),
        scores=test.scores,
        num_test=len(data.test),
        examples="nodes",
        facts={
            "classes": data.classes,
            "nodes": len(data.ids),
            "features": list(data.feature_names),
            "directed": data.is_directed,
        },
        report=report(data, test),
        baselines=partial(baselines.of_nodes, data),
        warnings=test.warnings(data.classes),
    )


def load(config: Config) -> graphs.Graph:
    data = graphs.load(**config.loading)
    if not config.continued:
        return data
    then = presets.card(config.continued)
    if then["features"] != list(data.feature_names):
        raise ValueError(
            f"`data` must have the features of {config.continued}: {listed(then['features'])}. "
            f"Received: {listed(data.feature_names)}"
        )
    drawn = any(remark.startswith(graphs.DRAWN) for remark in data.remarks)
    if (
        drawn
        and then["nodes"] != len(data.ids)
        and str(config.source_of(config.data)) in config.sources_of(config.continued)
    ):
        raise ValueError(
            f"`data` must have a column split: {config.continued} knew {then['nodes']:,} of its "
            f"{len(data.ids):,} nodes, and nodes that it learned from could now be in the test."
        )
    return data


def feed(data: graphs.Graph) -> Feed:
    return Feed(data, batch=lambda nodes, labels: (nodes, tf.one_hot(labels, len(data.classes))))


def build(config: Config, data: graphs.Graph) -> keras.Model:
    if config.continued:
        network = presets.network(config.continued).network
        if network.widths[-1] != len(data.classes):
            raise ValueError(
                f"`data` must have the {network.widths[-1]} classes of {config.continued}. "
                f"Received: {listed(data.classes)}. Fix: train a new network."
            )
    else:
        network = node_classifiers.graph_network(
            config.model,
            len(data.classes),
            layers=config.layers,
            units=config.units,
            dropout=config.dropout,
        )
    adjacency = graphs.normalized_adjacency(data.links, len(data.ids), data.is_directed)
    return node_classifiers.of_graph(network, data.features, adjacency)


def signatures(data: graphs.Graph, model: keras.Model) -> dict[str, Signature]:
    # The answers for all nodes are stored: a request costs no pass over the graph.
    logits = tf.constant(model(tf.range(len(data.ids))))
    known = tf.lookup.KeyValueTensorInitializer(list(data.ids), tf.range(len(data.ids)))
    numbers = tf.lookup.StaticHashTable(known, -1)

    def number(node_ids):
        expected = "names of nodes of the graph", lambda ids: numbers.lookup(ids) >= 0
        return numbers.lookup(within({"node_ids": node_ids}, {"node_ids": expected})["node_ids"])

    def stored(network, nodes):
        return tf.gather(logits, tf.clip_by_value(nodes, 0, len(data.ids) - 1))

    return {
        "serving_default": Signature(
            inputs={"node_ids": tf.TensorSpec((None,), tf.string)},
            preprocess=number,
            core=stored,
            postprocess=classification.best_classes(data.classes),
            meanings={
                "node_ids": "names of nodes of the graph that the network was trained on",
                **classification.MEANINGS,
            },
            resources=(numbers,),
            ties=classification.TIES,
        ),
        "from_indices": Signature(
            inputs={"indices": tf.TensorSpec((None,), tf.int32)},
            preprocess=lambda indices: indices,
            core=stored,
            postprocess=lambda logits: {"logits": logits},
            meanings={
                "indices": "numbers of nodes, from 0; others count as the nearest",
                "logits": classification.LOGITS,
            },
        ),
    }


def report(data: graphs.Graph, test: classification.Evaluation) -> list[Section]:
    some = data.of_each_class("train", 12)
    seen = [(graphs.shown(data, node), data.classes[label]) for node, label in some]
    return [
        *classified(test, data, tabled("node", partial(graphs.shown, data))),
        Table("Training nodes", ("node", "class"), seen),
    ]


def example(data: graphs.Graph) -> Example:
    ((node, label),) = data.first("test", 1)
    return Example(f"a test node, true class {data.classes[label]}", {"node_ids": data.ids[node]})


if __name__ == "__main__":
    command(main, Config, __doc__)
