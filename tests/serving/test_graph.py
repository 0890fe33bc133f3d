"""What is inside a SavedModel is read from its file."""

import pytest
import tensorflow as tf

from serving import graph


def saved(folder, function, *specs):
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


TEXTS = tf.TensorSpec((None,), tf.string, name="texts")


def test_operations_hold_those_of_functions_but_not_the_functions(tmp_path):
    def doubled(texts):
        return {"y": tf.map_fn(lambda text: text + text, texts)}

    names = graph.operations(graph.read(saved(tmp_path, doubled, TEXTS)))
    assert "StringJoin" in names or "AddV2" in names
    assert not [name for name in names if name.startswith("__inference")]
    assert graph.unservable(names) == []


def test_operations_of_tensorflow_text_load_and_others_are_named(tmp_path):
    import tensorflow_text as text

    def folded(texts):
        return {"y": text.case_fold_utf8(texts)}

    version = saved(tmp_path, folded, TEXTS)
    names = graph.operations(graph.read(version))
    assert "CaseFoldUTF8" in names
    assert graph.unservable([*names, "PyFunc", "MyOwnOp"]) == ["PyFunc", "MyOwnOp"]
    answer = graph.load(version).signatures["serving_default"](texts=tf.constant(["AB"]))
    assert answer["y"].numpy().tolist() == [b"ab"]


def test_absolute_paths_are_found_among_scalars_only(tmp_path):
    def reading(texts):
        words = tf.constant(["/usr/share/words", "a"])
        return {"y": tf.gather(words, [0]), "z": tf.strings.join([texts, "/home/me/a.txt"])}

    version = saved(tmp_path, reading, TEXTS)
    assert graph.absolute_paths(graph.read(version)) == ["/home/me/a.txt"]


def test_a_damaged_graph_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold saved_model\.pb"):
        graph.read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x01")
    with pytest.raises(ValueError, match="is damaged"):
        graph.read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="no graph tagged `serve`"):
        graph.read(tmp_path)
