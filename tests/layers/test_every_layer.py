"""What holds for the whole folder `layers`: registered, exported, documented, checked."""

import ast
import inspect
from pathlib import Path

import keras
import pytest

import layers

LAYERS = Path(layers.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.stem for path in LAYERS.glob("*.py") if path.stem != "__init__")


def public_classes() -> list[tuple[str, str]]:
    """Pairs of module and class, read from the source so that a class not exported is seen."""
    return [
        (module, node.name)
        for module in MODULES
        for node in ast.parse((LAYERS / f"{module}.py").read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize(("module", "name"), public_classes())
def test_layer_is_exported_registered_and_documented(module, name):
    layer = getattr(layers, name)
    assert name in layers.__all__
    assert layer.__module__ == f"layers.{module}"
    assert issubclass(layer, keras.layers.Layer)
    assert keras.saving.get_registered_name(layer) == f"hornbook>{name}"
    parts = ["Reference:", "Input shape:", "Output shape:", "Example:", ">>> "]
    arguments = set(inspect.signature(layer).parameters) - {"kwargs"}
    if arguments:
        parts.append("Args:")
    for part in parts:
        assert part in layer.__doc__, f"the docstring of {name} has no {part}"
    for argument in arguments:
        assert f"{argument}:" in layer.__doc__, f"the docstring of {name} is silent on {argument}"


@pytest.mark.parametrize(("module", "name"), public_classes())
def test_layer_goes_through_check_layer(module, name):
    source = (TESTS / f"test_{module}.py").read_text()
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_layer"
    ]
    assert calls, f"tests/layers/test_{module}.py never calls check_layer"
    assert name in source, f"tests/layers/test_{module}.py does not name {name}"


def test_all_names_only_layers():
    assert set(layers.__all__) == {name for _, name in public_classes()}
    assert list(layers.__all__) == sorted(layers.__all__)
