"""Imports our modules in a moment, without the libraries that take seconds to load."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

OURS = (
    *("apps", "callbacks", "data", "layers", "metrics", "models", "preprocessing", "runs"),
    *("serving", "training"),
)
REAL = {*sys.stdlib_module_names, "tyro", "docstring_parser", "typeguard", "typing_extensions"}
"""Packages that the command line is read with, and those that they need."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """Until the end of the `with`, imports of libraries return stand-ins for them.

    Modules that are imported meanwhile can be read: settings, names of networks, docstrings. They
    cannot compute, and are forgotten at the end. Where Keras is there already nothing changes: it
    would register the layers of two modules under one name.
    """
    if "keras" in sys.modules:
        yield
        return
    before, finder = dict(sys.modules), _Finder()
    for name in before:
        if name.partition(".")[0] in OURS:
            del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _StandIn) or name.partition(".")[0] in OURS:
                del sys.modules[name]
        sys.modules.update(before)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in (*OURS, *REAL):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


class _StandIn(ModuleType):
    """A module, and anything that could be found in one: a class, a function, a type."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __or__

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return ()
