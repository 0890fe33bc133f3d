"""Networks that are looked at only."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras


def blueprint(build: Callable[..., keras.Model], *given: Any, **choices: Any) -> keras.Model:
    """Builds a network without values for its weights: a second for what would take a gigabyte."""
    with keras.StatelessScope(initialize_variables=False):
        return build(*given, **choices)


def count(weights: Iterable[keras.Variable]) -> int:
    """Counts the numbers in weights."""
    return sum(math.prod(weight.shape) for weight in weights)
