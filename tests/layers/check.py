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
    output_dtype: str | None = None,
) -> None:
    """Asks of a layer everything that all layers must do.

    Args:
        layer_class: The class, registered as `hornbook>Name`.
        config: Arguments to make the layer with, without `name`, `dtype` and `data_format`.
        input_shape: Shape of the input with the batch dimension, or a list of shapes.
        output_shape: Shape of the output (channels last where the layer has channels). With
            as many axes as the input it is transposed for "channels_first", else the same.
        weights: How many trainable weights the layer has.
        inputs: NumPy input (or list of inputs), or None for seeded normal numbers.
        tolerance: Largest difference between two ways of running, as a share of the largest output.
        output_dtype: Type of the output under mixed precision. None: that of the computation.
    """
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    if inputs is None:
        random = np.random.default_rng(0)
        inputs = [np.float32(random.normal(size=shape)) for shape in shapes]
    inputs = inputs if isinstance(inputs, list) else [inputs]

    layer = layer_class(**config)
    _check_config(layer, config)
    expected = _run(layer, inputs)
    assert layer.get_config() == layer_class(**{**config, "name": layer.name}).get_config(), (
        "`build` changed the config"
    )
    assert len(layer.trainable_weights) == weights
    assert expected.shape == tuple(output_shape)
    _check_symbolic(layer, inputs, output_shape)
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


def _check_symbolic(layer, inputs, output_shape) -> None:
    shapes = [x.shape for x in inputs]
    computed = layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
    assert tuple(computed) == tuple(output_shape)
    assert _model(layer, inputs).output_shape[1:] == tuple(output_shape[1:])


def _check_compiled(layer, inputs, tolerance) -> None:
    """Eager, compiled and (TensorFlow) XLA give the same numbers from the same state.

    XLA draws other random numbers from the same seed, so there a random answer is only finite.
    """
    state = [(variable, ops.convert_to_numpy(variable)) for variable in layer.variables]
    for training in (False, True) if _has_training(layer) else (None,):
        eager = _run(layer, inputs, training=training)
        assert np.isfinite(eager).all()
        random = not np.array_equal(_run(layer, inputs, training=training), eager)
        for compiled, xla in _compilers(layer, training):
            for variable, value in state:
                variable.assign(value)
            answer = _numpy(compiled(_tensors(inputs)))
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

    def loss(output):
        # Small numbers, so that sums of 16-bit gradients stay in range.
        direction = np.random.default_rng(1).normal(size=tuple(output.shape)) / 8
        return ops.sum(ops.cast(output, "float32") * ops.cast(direction, "float32"))

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

        tensors = [tensor.clone().requires_grad_() for tensor in tensors]
        value = loss(layer(_one(tensors), **call))
        flat = torch.autograd.grad(value, [*trainable, *tensors], materialize_grads=True)
        found = flat[: len(trainable)], flat[len(trainable) :]
    return [_numpy(g) for g in found[0]], [_numpy(g) for g in found[1]]


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
        _close(_numpy(restored(_one(_tensors(inputs)), training=False)), expected, tolerance)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            model.export(folder + "/1", verbose=False)
            served = tf.saved_model.load(folder + "/1")
            _close(_numpy(served.serve(_one(_tensors(inputs)))), expected, tolerance)


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
    symbolic = [keras.Input(x.shape[1:], dtype=str(x.dtype)) for x in inputs]
    return keras.Model(_one(symbolic), layer(_one(symbolic)))


def _run(layer, inputs, training: bool | None = False, dtype: str = "float32") -> np.ndarray:
    call = {"training": training} if _has_training(layer) else {}
    output = layer(_one(_tensors(inputs)), **call)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    return _numpy(output)


def _has_training(layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _tensors(inputs) -> list:
    return [ops.convert_to_tensor(x) for x in inputs]


def _one(inputs):
    return inputs[0] if len(inputs) == 1 else inputs


def _numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(ops.convert_to_tensor(tensor), "float32"))


def _close(answer, expected, tolerance: float) -> None:
    assert answer.shape == expected.shape
    np.testing.assert_allclose(answer, expected, rtol=0, atol=tolerance * np.abs(expected).max())
