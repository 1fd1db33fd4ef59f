"""Exports: what an instance exports, by name."""

from collections.abc import Iterator, Mapping
from typing import Any


class Exports(Mapping[str, Any]):
    """What an instance exports, by name: a mapping, and as attributes."""

    __module__ = "externref.wasm2c"
    __slots__ = ("_items",)

    def __init__(self, items: dict[str, Any]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getattr__(self, name: str) -> Any:
        if name == "_items":    # of one that is being copied: not there yet
            raise AttributeError(name)
        try:
            return self._items[name]
        except KeyError:
            raise AttributeError(f"the instance exports nothing named {name!r}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._items]

    def __repr__(self) -> str:
        return f"<exports {', '.join(map(repr, self._items))}>"
