"""Networks that are looked at only, and those for which `make test` has no time."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import keras
import pytest


def blueprint(build: Callable[..., keras.Model], *given: Any, **choices: Any) -> keras.Model:
    """Builds a network without values for its weights: a second for what would take a gigabyte."""
    with keras.StatelessScope(initialize_variables=False):
        return build(*given, **choices)


def with_slow(names: Iterable[Any], slow: Collection[Any]) -> list[Any]:
    """Returns the parameters of a test, those in `slow` marked so."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


def count(weights: Iterable[keras.Variable]) -> int:
    """Counts the numbers in weights."""
    return sum(math.prod(weight.shape) for weight in weights)
