"""Exports: what an instance of wasmtime-py's exports, bound, by name."""

from typing import Any

from externref import _exports


class Unbound:
    """In place of an export that cannot be bound."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Exports(_exports.Exports):
    __doc__ = f"""{_exports.Exports.__doc__}
    What cannot be bound raises TypeError, which says why, when it is asked for.
    """

    __module__ = "externref.wasmtime"
    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        item = super().__getitem__(name)
        if isinstance(item, Unbound):
            raise TypeError(f"the export {name!r} cannot be bound: {item.reason}")
        return item
