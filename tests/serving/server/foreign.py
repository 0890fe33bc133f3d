"""SavedModels as others write them, of TensorFlow 1 and 2."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.server.servable import Servable

v1 = tf.compat.v1

TYPES = {
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "float": tf.float32,
    "double": tf.float64,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
}


def load(path: Path, name: str = "m", version: int = 1) -> Servable:
    return Servable(name, version, path, v1.ConfigProto())


def signature(inputs: dict, outputs: dict, method: str):
    def infos(tensors):
        return {name: v1.saved_model.build_tensor_info(t) for name, t in tensors.items()}

    return v1.saved_model.build_signature_def(
        infos(inputs), infos(outputs), f"tensorflow/serving/{method}"
    )


def write_half_plus_two(path: Path) -> Path:
    """TensorFlow 1: a graph with variables, parsed examples and a table with a legacy init op."""
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        features = {"x": v1.FixedLenFeature([1], tf.float32)}
        x = tf.identity(v1.parse_example(examples, features)["x"], name="x")
        a, b = v1.Variable(0.5, name="a"), v1.Variable(2.0, name="b")
        y, y3 = a * x + b, a * x + 3.0
        pair = tf.concat([y, y3], 1)
        table = v1.lookup.StaticHashTable(
            v1.lookup.KeyValueTensorInitializer(
                tf.constant([0, 1], tf.int64), tf.constant(["zero", "one"])
            ),
            "many",
        )
        names = table.lookup(tf.cast(tf.concat([x, x + 1], 1), tf.int64))
        one, two = {"inputs": examples}, {"inputs": tf.identity(examples)}
        signatures = {
            "serving_default": signature({"x": x}, {"y": y}, "predict"),
            "two_inputs": signature({"x": x, "e": examples}, {"y": y}, "predict"),
            "vector": signature({"x": x}, {"y": tf.reshape(y, [-1]), "s": tf.size(x)}, "predict"),
            "regress": signature(one, {"outputs": y}, "regress"),
            "regress_three": signature(one, {"outputs": y3}, "regress"),
            "regress_wide": signature(one, {"outputs": pair}, "regress"),
            "regress_one": signature(one, {"outputs": y[:1]}, "regress"),
            "regress_double": signature(one, {"outputs": tf.cast(y, tf.float64)}, "regress"),
            "regress_elsewhere": signature(two, {"outputs": y}, "regress"),
            "no_outputs": signature(one, {"y": y}, "regress"),
            "classify": signature(one, {"classes": names, "scores": pair}, "classify"),
            "scores": signature(one, {"scores": pair}, "classify"),
            "classes": signature(one, {"classes": names}, "classify"),
            "flat": signature(one, {"scores": tf.reshape(y, [-1])}, "classify"),
            "uneven": signature(one, {"classes": names, "scores": y}, "classify"),
            "numbers": signature(one, {"classes": tf.cast(pair, tf.int64)}, "classify"),
            "one_row": signature(one, {"scores": pair[:1]}, "classify"),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, legacy_init_op=v1.tables_initializer()
        )
        builder.save()
    return path


class Types(tf.Module):
    """Every type in and out, a scalar output, strings in and out, inputs with defaults."""

    def __init__(self):
        super().__init__()
        specs = [tf.TensorSpec(None, dtype, name=name) for name, dtype in TYPES.items()]
        self.serve = tf.function(self._serve, input_signature=specs)

    def _serve(self, *tensors):
        return {f"{name}_out": tensor for name, tensor in zip(TYPES, tensors, strict=True)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def constants(self, x):
        return {"number": tf.constant(3.0), "text": tf.constant("t"), "x_out": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def number(self, x):
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="s")])
    def strings(self, s):
        return {"s_bytes": s, "s": s}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.int32, name="n"),
            tf.TensorSpec([None], tf.string, name="s"),
        ]
    )
    def several(self, x, n, s):
        return {"x_out": x * 2, "n_out": n + 1, "s_out": s}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def twice(self, x):
        return {"y": x * 2}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float16, name="h")])
    def half(self, h):
        return {"h_out": h, "total": tf.cast(tf.reshape(h, [-1]), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="i")])
    def integers(self, i):
        return {"i_out": i}


def write_types(path: Path) -> Path:
    """TensorFlow 2: a module, with a default for one input of `several`."""
    module = Types()
    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": module.twice,
            "types": module.serve,
            "constants": module.constants,
            "number": module.number,
            "strings": module.strings,
            "several": module.several,
            "defaults": module.several,
            "half": module.half,
            "integers": module.integers,
        },
    )
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definition = saved.meta_graphs[0].signature_def["defaults"]
    definition.defaults["n"].CopyFrom(tf.make_tensor_proto(np.array([41], np.int32)))
    file.write_bytes(saved.SerializeToString())
    return path


def example(x: float) -> tf.train.Example:
    made = tf.train.Example()
    made.features.feature["x"].float_list.value.append(x)
    return made
