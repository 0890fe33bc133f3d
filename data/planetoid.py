"""Citation graphs in the eight files of Planetoid: Cora, Citeseer and Pubmed with public splits."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from data import array_pickles
from data.node_tables import Nodes
from data.sources import BadData, Fault

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
NUM_VALIDATION = 500
"""Nodes of the validation split, those after the training nodes."""


def prefix_of(data: str) -> Path | None:
    """Returns the beginning of the names of the files, such as `folder/ind.cora`.

    Args:
        data: That beginning, or a folder with the files of one graph. Anything else: None.
    """
    path = Path(data)
    if path.is_dir():
        found = sorted(path.glob("ind.*.graph"))
        return found[0].with_suffix("") if len(found) == 1 else None
    return path if Path(f"{path}.graph").is_file() else None


def read(prefix: Path) -> Nodes:
    """Reads a graph, whose splits are those of the files.

    Nodes that have no row, as some of Citeseer, get features of 0 and no class.

    Reference:
        Yang, Cohen & Salakhutdinov, Revisiting Semi-Supervised Learning with Graph Embeddings,
        2016. https://arxiv.org/abs/1603.08861

    Args:
        prefix: From `prefix_of`.
    """
    files = {part: prefix.with_name(f"{prefix.name}.{part}") for part in PARTS}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        fault = Fault(missing[0], "no such file", "the eight files of a graph", skippable=False)
        raise BadData(str(prefix), [fault])
    parts = {part: array_pickles.read(files[part]) for part in PARTS[:-1]}
    try:
        order = np.array([int(line) for line in files["test.index"].read_text().split()])
        return _joined(parts, order, files["graph"].name)
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        expected = "files of one graph, of matching sizes"
        fault = Fault(prefix.name, str(error)[:200], expected, skippable=False)
        raise BadData(str(prefix), [fault]) from error


def _joined(parts: dict[str, Any], order: np.ndarray, name: str) -> Nodes:
    """Puts the nodes of all parts into the order of the graph."""
    known, channels = parts["allx"].shape
    nodes = max(known + parts["tx"].shape[0], int(order.max()) + 1)
    features = np.zeros((nodes, channels), np.float32)
    classes = np.zeros((nodes, parts["ally"].shape[1]), np.int64)
    for rows, inputs, labels in (
        (np.arange(known), parts["allx"], parts["ally"]),
        (order, parts["tx"], parts["ty"]),
    ):
        features[rows] = inputs.toarray() if sparse.issparse(inputs) else inputs
        classes[rows] = labels
    splits = [""] * nodes
    count = parts["y"].shape[0]
    for split, chosen in {
        "train": range(count),
        "validation": range(count, count + NUM_VALIDATION),
        "test": order,
    }.items():
        for node in chosen:
            splits[node] = split
    graph = parts["graph"]
    senders = [node for node, others in graph.items() for _ in others]
    receivers = [other for others in graph.values() for other in others]
    if max(senders + receivers, default=0) >= nodes:
        raise ValueError(f"a link of node {max(senders + receivers)} in {name}, of {nodes} nodes")
    return Nodes(
        ids=[str(node) for node in range(nodes)],
        classes=[str(row.argmax()) if row.any() else "" for row in classes],
        splits=splits,
        features=features,
        feature_names=[str(channel) for channel in range(channels)],
        links=(
            np.array(senders, np.int32),
            np.array(receivers, np.int32),
            np.ones(len(senders), np.float32),
        ),
        wheres=[""] * nodes,
    )
