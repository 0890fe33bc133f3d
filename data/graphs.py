"""Graphs whose nodes have classes, some of them known: user files or a built-in sample."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data import node_tables, planetoid
from data.sources import (
    SPLITS,
    Evaluated,
    Fault,
    Finding,
    empty_splits,
    existing,
    listed,
    reported,
    split_of,
)
from data.splits import ClassSplits, by_class, chosen_by_hash, shares

BUILT_IN = ("digits",)
NEIGHBORS = 8
"""Number of most similar digits that each digit of the sample is linked to."""
LABELS_PER_CLASS = {"digits": 5}
"""Training nodes of each class in the built-in samples; elsewhere `USUAL_LABELS`."""
USUAL_LABELS = 20
"""Training nodes of each class, as in the public splits of Yang et al. (2016)."""
MOST_VALIDATION = 500
"""Number of validation nodes, if there are at least twice as many."""
SCALES = ("columns", "rows", "none")
MOSTLY_ZERO = 0.75
"""Minimum share of zeros among counts that are taken as those of the words of a text."""

DRAWN = "Drawn by --split-seed"
"""Beginning of a remark on splits that the data does not have."""

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Senders, receivers and weights of links, `(links,)` each: int32, int32 and float32."""


@dataclass(frozen=True, kw_only=True)
class Graph(ClassSplits):
    """A graph, and splits of its nodes of known class.

    The splits are datasets of `(index of the node: int32 (), label: int32 ())`.

    Args:
        ids: Name of each node.
        features: float32 `(nodes, channels)`, scaled.
        feature_names: Name of each column of the features.
        links: Both directions of each link if the graph is undirected; no node is linked to itself.
        is_directed: Whether links have one direction.
        labels: Number of the class of each node, -1 if it is not known: int32 `(nodes,)`.
    """

    ids: tuple[str, ...]
    features: np.ndarray
    feature_names: tuple[str, ...]
    links: Triple
    is_directed: bool
    labels: np.ndarray

    def indices(self, split: str) -> np.ndarray:
        """Returns the numbers of the nodes of a split."""
        return np.array([index for index, _ in self.split(split).as_numpy_iterator()], np.int32)

    def __post_init__(self):
        # A checksum of the splits alone would not see other links or features.
        there = [name for name in SPLITS if getattr(self, name) is not None]
        splits = [self.indices(name) for name in there]
        number = hash_of(*self.links, self.features, self.labels, *splits)
        object.__setattr__(self, "checksums", dict.fromkeys(there, number))


def hash_of(*arrays: np.ndarray) -> int:
    """Returns a number that changes with the contents of arrays."""
    number = 0
    for array in arrays:
        number = zlib.crc32(np.ascontiguousarray(array).tobytes(), number)
    return number


def load(
    data: str,
    *,
    labels_per_class: int | None = None,
    scale: str | None = None,
    directed: bool = False,
    weights: bool = False,
    split_seed: int = 0,
    skip_bad: bool = False,
    evaluated: Evaluated | None = None,
    **columns: str | None,
) -> Graph:
    """Loads and checks the graph that `data` names, and splits its nodes of known class.

    Nodes with an empty cell in a column `split` belong to no split; one that is missing is chosen
    by a hash from the training nodes. Without such a column, `labels_per_class` nodes of each class
    are drawn to train, and of the others 500 to validate, or a fifth if there are fewer than 1000;
    the rest is for the test.

    Args:
        data: `digits` (`./digits` for a folder of that name); the path of a folder with a table of
            nodes and one of links, as `data.node_tables` reads them; or of the files of Planetoid,
            as in `data.planetoid`.
        labels_per_class: Training nodes of each class. None: 20, in `digits` 5.
        scale: `columns` standardizes each feature, `rows` divides those of a node by their sum,
            `none` leaves them. None: `rows` if all are counts and at least three quarters are 0, as
            of words in texts, else `columns`; `none` for `digits`.
        directed: Whether links have one direction, from source to target.
        weights: Whether to read the column `weight` of the links.
        split_seed: Decides which nodes are drawn.
        skip_bad: Whether to leave out bad nodes and links instead of raising.
        evaluated: As in `data.splits.dealt`.
        columns: Names of the columns as `data.node_tables.read` takes them.
    """
    findings: list[Finding] = []
    if data == "digits":
        read = _digits()
        scale = scale or "none"
    elif prefix := planetoid.prefix_of(data):
        read = planetoid.read(prefix)
    else:
        existing(
            data,
            "a folder with tables `nodes` and `edges`, or with Planetoid's files",
            BUILT_IN,
            tfds=False,
        )
        read, findings = node_tables.read(Path(data), weights, **columns)
    features, remark = scaled(read.features, scale)
    findings += remark
    links, said = merged(read.links, directed)
    findings += said
    classes, labels = _numbered(read, evaluated, findings)
    splits, said = _divided(
        read.ids,
        read.splits,
        labels,
        classes,
        labels_per_class or LABELS_PER_CLASS.get(data, USUAL_LABELS),
        split_seed,
        evaluated,
    )
    findings += said
    if not features.shape[1]:
        received = "no column but those of names, classes and splits"
        findings.append(
            Fault("the nodes", received, "at least one column of features", skippable=False)
        )
    findings += empty_splits({name: len(rows) for name, rows in splits.items()}, evaluated)
    findings += by_class(
        {
            name: Counter(classes[label] for label in labels[rows])
            for name, rows in splits.items()
            if len(rows)
        }
    )
    return Graph(
        **{
            name: tf.data.Dataset.from_tensor_slices((rows.astype("int32"), labels[rows]))
            for name, rows in splits.items()
            if len(rows)
        },
        classes=tuple(classes),
        ids=tuple(read.ids),
        features=features,
        feature_names=tuple(read.feature_names),
        links=links,
        is_directed=directed,
        labels=labels,
        origins={name: [read.wheres[row] for row in rows] for name, rows in splits.items()},
        **reported(data, findings, skip_bad),
    )


def normalized_adjacency(links: Triple, nodes: int, directed: bool = False) -> Triple:
    """Links each node to itself, and normalizes: the adjacency of a graph convolution.

    Computes `D^-1/2 (A + I) D^-1/2`, where D has the sums of the rows of `A + I`; for a directed
    graph `D^-1 (A + I)`.

    Reference:
        Kipf & Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017,
        section 2.2. https://arxiv.org/abs/1609.02907

    Args:
        links: Without links of a node to itself.
        nodes: Number of nodes.
        directed: Whether links have one direction.

    Returns:
        Links sorted by receiver, then by sender.
    """
    every = np.arange(nodes, dtype=np.int32)
    senders, receivers = (np.concatenate([ends, every]) for ends in links[:2])
    weights = np.concatenate([links[2], np.ones(nodes, np.float32)])
    degrees = np.bincount(receivers, weights, minlength=nodes)
    if directed:
        weights = weights / degrees[receivers]
    else:
        weights = weights / np.sqrt(degrees[receivers] * degrees[senders])
    order = np.lexsort((senders, receivers))
    return senders[order], receivers[order], weights[order].astype(np.float32)


def merged(links: Triple, directed: bool) -> tuple[Triple, list[Finding]]:
    """Returns each link once, and in an undirected graph in both directions.

    The weight of a link that is there several times is the largest one. Links of a node to itself
    are left out, and a remark says so.
    """
    senders, receivers, weights = links
    is_loop = senders == receivers
    loops = int(is_loop.sum())
    senders, receivers, weights = (part[~is_loop] for part in links)
    given = len(senders)
    if not directed:
        ends = np.concatenate([senders, receivers]), np.concatenate([receivers, senders])
        (senders, receivers), weights = ends, np.tile(weights, 2)
    order = np.lexsort((weights, senders, receivers))
    pairs = np.stack([receivers, senders], axis=1)[order]
    is_last = np.ones(len(pairs), bool)
    is_last[:-1] = (pairs[1:] != pairs[:-1]).any(axis=1)
    chosen = order[is_last]
    found = (senders[chosen], receivers[chosen], weights[chosen])
    different = len(chosen) if directed else len(chosen) // 2
    remarks: list[Finding] = []
    if loops:
        remarks.append(f"{loops:,} links of a node to itself were left out.")
    if different < given:
        both = "" if directed else " or in both directions"
        remarks.append(f"Links that are listed more than once{both} count once.")
    kind = "directed" if directed else "undirected"
    remarks.append(f"{different:,} {kind} links.")
    return found, remarks


def scaled(features: np.ndarray, scale: str | None) -> tuple[np.ndarray, list[Finding]]:
    """Scales features `(nodes, channels)` as `load` says, and returns a remark on it."""
    if scale not in (None, *SCALES):
        raise ValueError(f"`scale` must be one of {', '.join(SCALES)}. Received: scale={scale!r}")
    are_counts = bool(((features >= 0) & (features == np.round(features))).all())
    zeros = features.size - np.count_nonzero(features)
    are_words = are_counts and zeros >= MOSTLY_ZERO * features.size
    chosen = scale or ("rows" if are_words else "columns")
    if chosen == "none" or not features.size:
        return features, []
    if chosen == "rows":
        if (features < 0).any():
            raise ValueError("`scale` must be columns or none with negative features.")
        sums = features.sum(axis=1, keepdims=True)
        said = "The features of each node were divided by their sum."
        return features / np.where(sums == 0, 1, sums), [said]
    deviations = features.std(axis=0)
    said = "Each feature was standardized: mean 0, standard deviation 1."
    standardized = (features - features.mean(axis=0)) / np.where(deviations == 0, 1, deviations)
    return standardized.astype(np.float32), [said]


def _numbered(
    read: node_tables.Nodes, evaluated: Evaluated | None, findings: list[Finding]
) -> tuple[Sequence[str], np.ndarray]:
    """Returns the names of the classes, and the number of the class of each node."""
    names = sorted({label for label in read.classes if label})
    if evaluated:
        where = zip(read.classes, read.wheres, strict=True)
        findings += evaluated.unknown((label, place) for label, place in where if label)
        names = list(evaluated.labels)
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers.get(label, -1) for label in read.classes], np.int32)


def _divided(
    ids: Sequence[str],
    given: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    each: int,
    seed: int,
    evaluated: Evaluated | None,
) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """Returns the numbers of the nodes of each split."""
    known = np.flatnonzero(labels >= 0)
    named = np.array(given)
    if evaluated:
        rows = known[named[known] == "test"] if (named[known] == "test").any() else known
        kind = "those of the test split" if len(rows) < len(known) else "all examples"
        return {"test": rows}, [f"Evaluated: {kind}."]
    if named.any():
        missing = shares({*given})
        taken = [
            split_of(ids[int(row)], **missing) if named[row] == "train" else named[row]
            for row in known
        ]
        splits = {name: known[np.array(taken) == name] for name in SPLITS}
        return splits, chosen_by_hash({*given})
    random = np.random.default_rng(seed)
    order = random.permutation(known)
    drawn = [order[labels[order] == label][:each] for label in range(len(classes))]
    train = np.concatenate([order[:0], *drawn])
    rest = order[~np.isin(order, train)]
    if len(rest) < 5:
        received = f"{len(known):,} nodes of known class"
        expected = f"more than {each} of each class to train, and 5 others"
        fix = "lower --labels-per-class"
        return {"train": train}, [Fault("the nodes", received, expected, fix, skippable=False)]
    held_out = min(MOST_VALIDATION, len(rest) // 2) if len(rest) >= 1000 else len(rest) // 5
    remarks: list[Finding] = [
        f"{DRAWN}: {each} nodes of each class to train, {held_out} to validate; the "
        "others are for the test."
    ]
    few = [name for i, name in enumerate(classes) if (labels[train] == i).sum() < each]
    if few:
        remarks.append(f"Classes with fewer than {each} nodes: {listed(few)}.")
    splits = {"train": train, "validation": rest[:held_out], "test": rest[held_out:]}
    return {name: np.sort(rows) for name, rows in splits.items()}, remarks


def _digits() -> node_tables.Nodes:
    """Reads scikit-learn's digits, each linked to the most similar ones."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    pixels, labels = load_digits(return_X_y=True)
    features = (pixels / 16).astype(np.float32)
    nearest = kneighbors_graph(features, NEIGHBORS).tocoo()
    weights = np.ones(nearest.nnz, np.float32)
    count = len(labels)
    return node_tables.Nodes(
        ids=[str(number) for number in range(count)],
        classes=[str(label) for label in labels],
        splits=[""] * count,
        features=features,
        feature_names=[f"pixel {row},{column}" for row in range(8) for column in range(8)],
        links=(nearest.col.astype(np.int32), nearest.row.astype(np.int32), weights),
        wheres=[""] * count,
    )


def neighbors_of(graph: Graph, node: int) -> list[str]:
    """Returns the names of the nodes that a node receives from."""
    senders, receivers, _ = graph.links
    return [graph.ids[sender] for sender in senders[receivers == node]]


def shown(graph: Graph, features: Any) -> str:
    """Describes a node for a report: its name and some of its neighbors."""
    return f"{graph.ids[int(features)]}, linked to {listed(neighbors_of(graph, int(features)))}"
