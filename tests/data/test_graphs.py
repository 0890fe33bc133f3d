import gzip
from pathlib import Path

import numpy as np
import pytest

from data import graphs
from data.node_tables import features_of
from data.sources import BadData, Evaluated

NODES = (
    "id,label,size,color,split\n007,cat,1,red,train\n7,dog,3,,test\nx,,5,red,\nv,dog,3,red,val\n"
)
MORE = "w,cat,0,red,train\n"
EDGES = "source,target,weight\n007,7,2\n7,007,3\nx,x,1\n7,x,0.5\n"


def written(folder: Path, nodes: str = NODES, edges: str = EDGES) -> str:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text(edges)
    return str(folder)


def dense(links: graphs.Triple, nodes: int) -> np.ndarray:
    matrix = np.zeros((nodes, nodes))
    senders, receivers, weights = links
    matrix[receivers, senders] = weights
    return matrix


def test_digits_are_linked_to_the_most_similar_ones():
    data = graphs.load("digits")
    assert len(data.ids) == 1797 and len(data.links[0]) == 2 * 9928
    assert (len(data.train), len(data.validation), len(data.test)) == (50, 500, 1247)
    labels = data.labels[data.indices("train")]
    np.testing.assert_array_equal(np.bincount(labels), [5] * 10)
    assert not set(data.indices("train")) & set(data.indices("test"))
    senders, receivers, _ = data.links
    same = np.mean(data.labels[senders] == data.labels[receivers])
    assert same > 0.95


def test_tables_are_read_with_their_types(tmp_path):
    data = graphs.load(written(tmp_path), scale="none")
    assert data.ids == ("007", "7", "x", "v") and data.classes == ("cat", "dog")
    assert data.feature_names == ("size", "color=", "color=red")
    np.testing.assert_array_equal(data.features, [[1, 0, 1], [3, 1, 0], [5, 0, 1], [3, 0, 1]])
    np.testing.assert_array_equal(data.labels, [0, 1, -1, 1])
    np.testing.assert_array_equal(dense(data.links, 3), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1, 1, 1]
    said = " ".join(data.remarks)
    assert "1 links of a node to itself were left out" in said
    assert "'weight' of the links is not read without --weights" in said


def test_weights_and_directions_are_kept_if_asked_for(tmp_path):
    folder = written(tmp_path)
    weighted = graphs.load(folder, weights=True)
    np.testing.assert_allclose(dense(weighted.links, 3), [[0, 3, 0], [3, 0, 0.5], [0, 0.5, 0]])
    directed = graphs.load(folder, weights=True, directed=True)
    np.testing.assert_allclose(dense(directed.links, 3), [[0, 3, 0], [2, 0, 0], [0, 0.5, 0]])


@pytest.mark.parametrize("directed", [False, True])
def test_normalized_adjacency_is_that_of_the_formula(directed):
    random = np.random.default_rng(0)
    matrix = np.triu(random.random((5, 5)) * (random.random((5, 5)) < 0.6), 1)
    matrix = matrix if directed else matrix + matrix.T
    receivers, senders = matrix.nonzero()
    links = senders.astype("int32"), receivers.astype("int32"), matrix[receivers, senders]
    looped = matrix + np.eye(5)
    degrees = looped.sum(axis=1)
    wanted = looped / degrees[:, None]
    if not directed:
        wanted = looped / np.sqrt(degrees[:, None] * degrees)
    found = dense(graphs.normalized_adjacency(links, 5, directed), 5)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_other_labels_or_splits_have_another_checksum(tmp_path):
    found = set()
    for change in ("", ""), ("cat", "dog"), ("train", "test"):
        data = graphs.load(written(tmp_path, NODES + MORE.replace(*change)))
        found.add(data.checksums["train"])
    assert len(found) == 3


def test_whole_numbers_are_no_counts_of_words():
    ages = np.array([[18, 20_000, 0], [80, 90_000, 1]], np.float32)
    scaled, (said,) = graphs.scaled(ages, None)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)
    assert "standardized" in said


def test_scales():
    features = np.array([[1, 3], [0, 0], [3, 3]], np.float32)
    rows, _ = graphs.scaled(features, "rows")
    np.testing.assert_allclose(rows, [[0.25, 0.75], [0, 0], [0.5, 0.5]])
    columns, _ = graphs.scaled(features - 0.5, None)
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(columns.std(axis=0), 1, atol=1e-6)
    with pytest.raises(ValueError, match="columns or none with negative features"):
        graphs.scaled(-features, "rows")


def test_a_packed_table_with_other_names_is_read(tmp_path):
    text = "paper\ttopic\tx\n1\ta\t1\n2\tb\t2\n3\ta\t3\n"
    (tmp_path / "nodes.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "edges.csv").write_text("from,to\n1,2\n2,3\n")
    columns = {"id_column": "paper", "label_column": "topic", "source_column": "from"}
    evaluated = Evaluated(("a", "b"))
    data = graphs.load(str(tmp_path), **columns, target_column="to", evaluated=evaluated)
    assert data.classes == ("a", "b") and len(data.test) == 3 and data.train is None


def test_rare_values_share_a_feature():
    cells = [f"{n}" for n in range(101)] + [f"word {n}" for n in range(101)]
    features, names, _ = features_of([("word", cells)], [""] * len(cells))
    assert len(names) == 101 and names[-1] == "word=other"
    np.testing.assert_array_equal(features.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        (NODES + "7,cat,1,red,\n", EDGES, r"nodes.csv line 6: expected an id that no node before"),
        (NODES, EDGES + "7,8,1\n", r"edges.csv line 6: expected the id of a node.*Received: '8'"),
        (NODES, "source,target\n", "edges.csv: expected at least one link"),
        (NODES, "a,b\n", "edges.csv line 1: expected a header with the columns source, target"),
        ("id,label\n1,a,b\n", EDGES, "nodes.csv line 2: expected 2 cells"),
        (NODES.replace(",train", ",tran"), EDGES, "nodes.csv line 2: expected the name of a split"),
    ],
)
def test_faults_are_named(tmp_path, nodes, edges, message):
    with pytest.raises(BadData, match=message):
        graphs.load(written(tmp_path, nodes, edges))


def test_too_many_labels_per_class_are_named(tmp_path):
    nodes = "id,label,x\n" + "".join(f"{n},{'ab'[n % 2]},{n}\n" for n in range(40))
    folder = written(tmp_path, nodes, "source,target\n1,2\n")
    with pytest.raises(BadData, match="lower --labels-per-class"):
        graphs.load(folder)
    assert len(graphs.load(folder, labels_per_class=5).test) == 24


def test_nodes_without_features_are_refused(tmp_path):
    with pytest.raises(BadData, match="at least one column of features"):
        graphs.load(written(tmp_path, "id,label\n1,a\n2,b\n", "source,target\n1,2\n"))


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "", "much"])
def test_bad_weights_are_named(tmp_path, weight):
    edges = f"source,target,weight\n7,007,{weight}\n"
    with pytest.raises(BadData, match=r"edges\.csv line 2: expected a weight above 0"):
        graphs.load(written(tmp_path, edges=edges), weights=True)


def test_text_in_a_column_of_numbers_is_named(tmp_path):
    rows = [f"{n},a,{n}" for n in range(20)] + ["20,b,tall"]
    nodes = "\n".join(["id,label,height", *rows])
    with pytest.raises(BadData, match="line 22: expected a finite number in column 'height'"):
        graphs.load(written(tmp_path, nodes, "source,target\n1,2\n"))


def test_a_folder_without_tables_is_refused(tmp_path):
    (tmp_path / "nodes.txt").write_text("")
    with pytest.raises(BadData, match=r"expected one file nodes with a suffix.*nodes.txt"):
        graphs.load(str(tmp_path))
