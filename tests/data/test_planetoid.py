"""Planetoid's files, written by this test as Python 2 wrote them, and hostile ones."""

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from data import array_pickles, graphs, planetoid
from data.sources import BadData


def as_python_2(array: np.ndarray) -> bytes:
    """Pickles an array as NumPy did under Python 2, its content as a string of bytes."""
    content = array.tobytes()
    shape = b"".join(b"K" + bytes([side]) for side in array.shape)
    ending = b"T" + len(content).to_bytes(4, "little") + content
    kind = array.dtype.str[1:].encode()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01(" + shape + b"tcnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + ending + b"tb"
    )


def pickled(made: bytes) -> bytes:
    return b"\x80\x02" + made + b"."


def matrix(dense: np.ndarray) -> bytes:
    rows = sparse.csr_matrix(dense)
    items = b"".join(
        b"U" + bytes([len(name)]) + name + as_python_2(part)
        for name, part in {
            b"data": rows.data,
            b"indices": rows.indices.astype("int32"),
            b"indptr": rows.indptr.astype("int32"),
        }.items()
    )
    shape = b"U\x06_shape(" + b"".join(b"K" + bytes([side]) for side in dense.shape) + b"t"
    return b"cscipy.sparse.csr\ncsr_matrix\n)\x81}(" + items + shape + b"ub"


def linked(graph: dict[int, list[int]]) -> bytes:
    items = b"".join(
        b"K" + bytes([node]) + b"](" + b"".join(b"K" + bytes([x]) for x in others) + b"e"
        for node, others in graph.items()
    )
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + items + b"u"


@pytest.fixture
def prefix(tmp_path) -> Path:
    """A graph of 8 nodes: one to train, five to validate or unused, and 7 and 6 to test."""
    features = np.eye(8, 3, dtype="float32") + np.arange(8, dtype="float32")[:, None]
    labels = np.eye(2, dtype="int32")[np.arange(8) % 2]
    parts = {
        "x": matrix(features[:1]),
        "y": as_python_2(labels[:1]),
        "allx": matrix(features[:6]),
        "ally": as_python_2(labels[:6]),
        "tx": matrix(features[[7, 6]]),
        "ty": as_python_2(labels[[7, 6]]),
        "graph": linked({0: [1, 7], 1: [0], 7: [0, 7, 6], 6: [7]}),
    }
    for name, made in parts.items():
        (tmp_path / f"ind.toy.{name}").write_bytes(pickled(made))
    (tmp_path / "ind.toy.test.index").write_text("7\n6\n")
    return tmp_path / "ind.toy"


def test_parts_are_put_into_the_order_of_the_graph(prefix, monkeypatch):
    monkeypatch.setattr(planetoid, "NUM_VALIDATION", 4)
    assert planetoid.prefix_of(str(prefix.parent)) == planetoid.prefix_of(str(prefix)) == prefix
    data = graphs.load(str(prefix), scale="none")
    np.testing.assert_array_equal(data.features, np.eye(8, 3) + np.arange(8)[:, None])
    assert data.classes == ("0", "1")
    np.testing.assert_array_equal(data.labels, np.arange(8) % 2)
    assert data.indices("train").tolist() == [0]
    assert data.indices("validation").tolist() == [1, 2, 3, 4]
    assert data.indices("test").tolist() == [6, 7]
    senders, receivers, _ = data.links
    pairs = {*zip(senders.tolist(), receivers.tolist(), strict=True)}
    assert pairs == {(0, 1), (1, 0), (0, 7), (7, 0), (6, 7), (7, 6)}


def test_a_missing_file_is_named(prefix):
    prefix.with_name("ind.toy.ty").unlink()
    with pytest.raises(BadData, match=r"ind\.toy\.ty: expected the eight files of a graph"):
        graphs.load(str(prefix))


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def deep_lists() -> bytes:
    """Each list has the one before twice: 2^200 items, if they were visited."""
    made = b"]"
    for number in range(200):
        slot = b"q" + bytes([number])
        made += slot + b"](" + b"h" + bytes([number]) + b"h" + bytes([number]) + b"e"
    return made


HUGE = as_python_2(np.zeros(2, "int32")).replace(
    b"(K\x02t", b"(\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10t"
)
HOSTILE = {
    "os.system": pickle.dumps(Call(eval, "1"), 2).replace(b"c__builtin__\neval", b"cos\nsystem"),
    "eval": pickle.dumps(Call(eval, "1"), 2),
    "exec": pickle.dumps(Call(exec, "1"), 2),
    "getattr": pickle.dumps(Call(getattr, 1, "real"), 2),
    "runstring": pickled(b"cnumpy.testing._private.utils\nrunstring\n(U\x011}tR"),
    "run_command": pickled(b"cnumpy.f2py.diagnose\nrun_command\nU\x02ls\x85R"),
    "another module's name": pickled(b"cnumpy\nload\nU\x01a\x85R"),
    "dotted name": pickled(b"cnumpy\nndarray.tofile\nU\x01a\x85R"),
    "subprocess": pickled(b"csubprocess\nPopen\nU\x02ls\x85R"),
    "persistent id": pickled(b"Pname\n"),
    "instance": pickled(b"(ios\nsystem\n"),
    "extension": pickled(b"\x82\x01"),
    "call of a type": pickled(b"cnumpy\nndarray\nK\x01\x85\x85R"),
    "call of a list": pickled(b"c__builtin__\nlist\n(ttR"),
    "objects": pickled(as_python_2(np.zeros(1, "int32")).replace(b"U\x02i4", b"U\x02O8")),
    "2^60 entries": pickled(HUGE),
    "fewer bytes than the shape": pickled(
        as_python_2(np.zeros(2, "int32")).replace(b"(K\x02t", b"(K\xfft")
    ),
    "state of a list": pickled(b"](K\x01tb"),
    "deep lists": pickled(deep_lists()),
    "text": pickled(b"U\x01a"),
    "truncated": pickled(as_python_2(np.zeros(2, "int32")))[:-9],
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_named(tmp_path, name):
    path = tmp_path / "ind.toy.x"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(BadData, match=r"ind\.toy\.x: expected a pickle of an array.*at byte \d+"):
        array_pickles.read(path)


def test_these_pickles_are_real():
    """Otherwise the parser alone might refuse them."""
    for name in ("os.system", "eval", "runstring", "call of a type", "2^60 entries", "objects"):
        assert [*pickletools.genops(HOSTILE[name])][-1][0].name == "STOP"


def test_indices_beyond_the_matrix_are_refused(tmp_path):
    made = matrix(np.eye(3, dtype="float32")).replace(
        b"U\x06_shape(K\x03K\x03t", b"U\x06_shape(K\x03K\x02t"
    )
    (tmp_path / "a").write_bytes(pickled(made))
    with pytest.raises(BadData, match="a: expected a pickle"):
        array_pickles.read(tmp_path / "a")
