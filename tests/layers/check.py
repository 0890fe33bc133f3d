"""What must hold for every layer, on every backend of Keras: `check_layer`."""

import copy
import inspect
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()
# Largest error against float32, as a share of the largest output: a few roundings of 8 and 11 bits.
MIXED_TOLERANCE = {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3}


def normal(*shape: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    """Draws float32 normal numbers of variance 1, the same for the same seed."""
    return (mean + np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def check_layer(
    layer_class,
    config: dict,
    input_shape,
    output_shape,
    *,
    weights: int = 0,
    inputs=None,
    tolerance: float = 1e-5,
    output_dtype: str | dict[str, str] | None = None,
) -> None:
    """Asks of a layer everything that all layers must do.

    Args:
        layer_class: The class, registered as `hornbook>Name`.
        config: Arguments to make the layer with, without `name`, `dtype` and `data_format`.
        input_shape: Shape of the input with the batch dimension, or a list of shapes; None if
            `inputs` has them.
        output_shape: Shape of the output (channels last where the layer has channels), or a dict
            of shapes. With as many axes as the input it is transposed for "channels_first", else
            the same.
        weights: How many trainable weights the layer has.
        inputs: NumPy input (or list of inputs and lists of them), or None for seeded normal
            numbers.
        tolerance: Largest difference between two ways of running, as a share of the largest output.
        output_dtype: Type of the output under mixed precision, or a dict of types. None: that of
            the computation.
    """
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    if inputs is None:
        random = np.random.default_rng(0)
        inputs = [np.float32(random.normal(size=shape)) for shape in shapes]
    inputs = inputs if isinstance(inputs, list) else [inputs]

    layer = layer_class(**config)
    _check_config(layer, config)
    expected = _run(layer, inputs, dtype=output_dtype or "float32")
    assert layer.get_config() == layer_class(**{**config, "name": layer.name}).get_config(), (
        "`build` changed the config"
    )
    assert len(layer.trainable_weights) == weights
    assert keras.tree.map_structure(np.shape, expected) == output_shape
    _check_symbolic(layer, inputs, expected)
    weights_before_training = layer.get_weights()
    _check_compiled(layer, inputs, tolerance)
    _check_gradients(layer, inputs)
    # Training calls move what a layer keeps of the batches, such as a moving mean.
    layer.set_weights(weights_before_training)
    for policy, mixed_tolerance in MIXED_TOLERANCE.items():
        mixed = _twin(layer, inputs, dtype=policy)
        assert all(weight.dtype == "float32" for weight in mixed.trainable_weights)
        dtype = output_dtype or mixed.compute_dtype
        _close(_run(mixed, inputs, dtype=dtype), expected, mixed_tolerance)
        _check_gradients(mixed, inputs)
    _check_saving(layer, inputs, expected, tolerance)
    if "data_format" in inspect.signature(layer_class).parameters or "data_format" in config:
        _check_channels_first(layer, inputs, expected, tolerance)


def _check_config(layer, config) -> None:
    kind = type(layer)
    assert keras.saving.get_registered_name(kind) == f"hornbook>{kind.__name__}"
    saved = layer.get_config()
    arguments = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    assert set(arguments) <= set(saved), f"not in the config: {set(arguments) - set(saved)}"
    assert set(config) <= set(saved)
    assert kind.from_config(copy.deepcopy(saved)).get_config() == saved
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert restored.get_config() == saved


def _check_symbolic(layer, inputs, expected) -> None:
    shapes = keras.tree.map_structure(np.shape, _one(inputs))
    output_shape = keras.tree.map_structure(np.shape, expected)
    assert keras.tree.flatten(layer.compute_output_shape(shapes)) == keras.tree.flatten(
        output_shape
    )
    symbolic = keras.tree.flatten(_model(layer, inputs).output)
    numbers = keras.tree.flatten(expected)
    assert [x.shape[1:] for x in symbolic] == [x.shape[1:] for x in numbers]


def _check_compiled(layer, inputs, tolerance) -> None:
    """Eager, compiled and (TensorFlow) XLA give the same numbers from the same state.

    XLA draws other random numbers from the same seed, so there a random answer is only finite.
    """
    state = [(variable, ops.convert_to_numpy(variable)) for variable in layer.variables]
    for training in (False, True) if _has_training(layer) else (None,):
        eager = _numbers(_call(layer, inputs, training=training))
        assert all(np.isfinite(x).all() for x in keras.tree.flatten(eager))
        random = not _equal(_numbers(_call(layer, inputs, training=training)), eager)
        for compiled, xla in _compilers(layer, training):
            for variable, value in state:
                variable.assign(value)
            answer = _numbers(compiled(_tensors(inputs)))
            if random and xla:
                assert np.isfinite(answer).all() and answer.shape == eager.shape
            else:
                _close(answer, eager, tolerance)


def _compilers(layer, training):
    call = {} if training is None else {"training": training}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        for jit_compile in (False, True):
            compiled = tf.function(lambda x: layer(_one(x), **call), jit_compile=jit_compile)
            yield compiled, jit_compile
    if BACKEND == "jax":
        import jax

        def stateless(tensors):
            trainable = [v.value for v in layer.trainable_variables]
            other = [v.value for v in layer.non_trainable_variables]
            return layer.stateless_call(trainable, other, _one(tensors), **call)[0]

        yield jax.jit(stateless), False


def _check_gradients(layer, inputs) -> None:
    """Every weight learns, and nothing that reaches the input is infinite or not a number."""
    weight_gradients, input_gradients = gradients(layer, inputs, training=True)
    for weight, gradient in zip(layer.trainable_weights, weight_gradients, strict=True):
        assert np.isfinite(gradient).all(), f"{weight.path} has a gradient that is not finite"
        assert np.any(gradient != 0), f"{weight.path} has no gradient"
    for gradient in input_gradients:
        assert np.isfinite(gradient).all(), "the input has a gradient that is not finite"


def gradients(layer, inputs, training=None) -> tuple[list, list]:
    """Gradients of a fixed random projection of a layer's output, as NumPy arrays.

    Returns: those to the trainable weights and those to the inputs.
    """
    call = {"training": training} if _has_training(layer) else {}
    inputs = inputs if isinstance(inputs, list) else [inputs]

    def loss(outputs):
        value = 0.0
        for output in keras.tree.flatten(outputs):
            # Small numbers, so that sums of 16-bit gradients stay in range.
            direction = np.random.default_rng(1).normal(size=tuple(output.shape)) / 8
            value += ops.sum(ops.cast(output, "float32") * ops.cast(direction, "float32"))
        return value

    tensors = _tensors(inputs)
    if not layer.built:
        layer(_one(tensors))
    trainable = [v.value for v in layer.trainable_variables]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = loss(layer(_one(tensors), **call))
        found = tape.gradient(value, (trainable, tensors), unconnected_gradients="zero")
    elif BACKEND == "jax":
        import jax

        other = [v.value for v in layer.non_trainable_variables]

        def stateless(trainable, tensors):
            return loss(layer.stateless_call(trainable, other, _one(tensors), **call)[0])

        found = jax.jit(jax.grad(stateless, argnums=(0, 1)))(trainable, tensors)
    else:
        import torch

        tensors = keras.tree.map_structure(lambda x: x.clone().requires_grad_(), tensors)
        # Zero times the inputs: an output that does not depend on them has a gradient of zeros.
        leaves = [*trainable, *keras.tree.flatten(tensors)]
        value = loss(layer(_one(tensors), **call)) + 0 * sum(x.sum() for x in leaves)
        flat = torch.autograd.grad(value, leaves)
        found = flat[: len(trainable)], flat[len(trainable) :]
    return [_numpy(g) for g in found[0]], [_numpy(g) for g in keras.tree.flatten(found[1])]


def gradient_penalty(layer, x) -> np.ndarray:
    """Gradient of |d sum(y^3) / dx|^2 to x: the second derivatives of a layer's output y."""

    def cubes(x):
        return ops.sum(layer(x) ** 3)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = cubes(x)
            penalty = tf.reduce_sum(inner.gradient(value, x) ** 2)
        return _numpy(outer.gradient(penalty, x))
    if BACKEND == "jax":
        import jax

        penalty = jax.jit(jax.grad(lambda x: ops.sum(jax.grad(cubes)(x) ** 2)))
        return _numpy(penalty(ops.convert_to_tensor(x)))
    import torch

    tensor = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad(cubes(tensor), tensor, create_graph=True)
    return _numpy(torch.autograd.grad((slope**2).sum(), tensor)[0])


def assert_close(found, wanted, rtol: float = 1e-7, atol: float = 0) -> None:
    """NumPy's `assert_allclose` for tensors of any backend and dtype."""
    np.testing.assert_allclose(_numpy(found), _numpy(wanted), rtol, atol)


def _check_saving(layer, inputs, expected, tolerance) -> None:
    model = _model(layer, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        restored = keras.models.load_model(path)
        _close(_numbers(restored(_one(_tensors(inputs)), training=False)), expected, tolerance)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            model.export(folder + "/1", verbose=False)
            served = tf.saved_model.load(folder + "/1")
            _close(_numbers(served.serve(_one(_tensors(inputs)))), expected, tolerance)


def _check_channels_first(layer, inputs, expected, tolerance) -> None:
    transposed = [np.moveaxis(x, -1, 1) for x in inputs]
    first = _twin(layer, transposed, data_format="channels_first")
    answer = _run(first, transposed)
    assert tuple(first.compute_output_shape(transposed[0].shape)) == answer.shape
    if answer.ndim == inputs[0].ndim:
        answer = np.moveaxis(answer, 1, -1)
    _close(answer, expected, tolerance)
    for gradient in gradients(first, transposed)[1]:
        assert np.isfinite(gradient).all()


def _twin(layer, inputs, **changes):
    """The same layer, or wrapper of a layer, with the same weights and other arguments."""
    config = {**layer.get_config(), **changes}
    if isinstance(layer, keras.layers.Wrapper):
        config["layer"]["config"].update(changes)
    twin = type(layer).from_config(config)
    twin(_one(_tensors(inputs)))
    twin.set_weights(layer.get_weights())
    return twin


def _model(layer, inputs) -> keras.Model:
    symbolic = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=str(x.dtype)), _one(inputs)
    )
    return keras.Model(symbolic, layer(symbolic))


def _run(layer, inputs, training: bool | None = False, dtype: str | dict[str, str] = "float32"):
    """Calls a layer; returns its output, or dict of outputs, in NumPy, of the given type."""
    outputs = _call(layer, inputs, training)
    types = keras.tree.map_structure(lambda x: keras.backend.standardize_dtype(x.dtype), outputs)
    assert types == dtype
    return _numbers(outputs)


def _call(layer, inputs, training: bool | None):
    call = {"training": training} if _has_training(layer) else {}
    return layer(_one(_tensors(inputs)), **call)


def _has_training(layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _tensors(inputs) -> list:
    return keras.tree.map_structure(ops.convert_to_tensor, inputs)


def _one(inputs):
    return inputs[0] if len(inputs) == 1 else inputs


def _numbers(outputs):
    return keras.tree.map_structure(_numpy, outputs)


def _numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(ops.convert_to_tensor(tensor), "float32"))


def _equal(answer, expected) -> bool:
    pairs = zip(keras.tree.flatten(answer), keras.tree.flatten(expected), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def _close(answer, expected, tolerance: float) -> None:
    keras.tree.assert_same_structure(answer, expected)
    pairs = zip(keras.tree.flatten(answer), keras.tree.flatten(expected), strict=True)
    for one, other in pairs:
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())
