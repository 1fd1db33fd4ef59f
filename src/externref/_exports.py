"""Exports: what an instance exports, by name, in every runtime."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Guarded:
    """A method of Exports; no attribute if something is exported under its name."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __get__(self, exports: "Exports | None", owner: type) -> Any:
        if exports is None:
            return self.method
        if self.method.__name__ in exports._items:
            raise AttributeError    # Python asks __getattr__ next, which says why
        return self.method.__get__(exports, owner)


def guarded(method: F) -> F:
    return cast(F, Guarded(method))


class Exports(Mapping[str, Any]):
    """What an instance exports, by name: a mapping, and as attributes.

    exports["f"] is the export, whatever its name, and raises KeyError if there is none. exports.f
    is the same for most names, and raises AttributeError if there is none. For these it is not:

    - `get`, `items` and `values` are the mapping's methods, and AttributeError if something is
      exported under that name, so that neither is taken for the other: exports["get"] is the export.
    - `keys` is always the mapping's method, since dict(exports) and f(**exports) call it.
    - Names that begin and end with two underscores are Python's own, such as `__len__` and `__deepcopy__`.
    """

    __module__ = "externref.wasm2c"     # externref.wasmtime has a class of its own
    __slots__ = ("__weakref__", "_items")

    def __init__(self, items: dict[str, Any]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @guarded
    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._items else default

    @guarded
    def items(self) -> ItemsView[str, Any]:
        return ItemsView(self)

    @guarded
    def values(self) -> ValuesView[Any]:
        return ValuesView(self)

    def __eq__(self, other: object) -> bool:
        # The mapping's own would ask for the attribute `items`.
        if isinstance(other, Exports):
            return self._items == other._items
        return self._items == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __getattr__(self, name: str) -> Any:
        if name == "_items" or (name.startswith("__") and name.endswith("__")):
            # Of one that is being copied: not there yet; what Python asks for, and no guest is to answer.
            raise AttributeError(name)
        if hasattr(Exports, name):
            raise AttributeError(f"{name!r} is an export and a method of the mapping: use exports[{name!r}]")
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the instance exports nothing named {name!r}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._items})

    def __repr__(self) -> str:
        return f"<exports {', '.join(map(repr, self._items))}>"
