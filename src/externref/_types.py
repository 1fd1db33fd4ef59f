"""The types of WebAssembly's functions, tables, memories and globals, as the items of both runtimes have them."""

from typing import NamedTuple


class FuncType(NamedTuple):
    """A function's type: names such as "i32" and "externref"."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class TableType(NamedTuple):
    """A table's type; sizes in elements, maximum None if there is none."""

    element: str
    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"table of {self.minimum} to {'any' if self.maximum is None else self.maximum} {self.element}"


class MemoryType(NamedTuple):
    """A linear memory's type; sizes in pages, maximum None if there is none; whether addresses have 64 bits."""

    minimum: int
    maximum: int | None = None
    is64: bool = False

    def __str__(self) -> str:
        return (f"{'64-bit ' if self.is64 else ''}memory of {self.minimum} to "
                f"{'any' if self.maximum is None else self.maximum} pages")


class GlobalType(NamedTuple):
    """A global's type."""

    value: str
    mutable: bool = False

    def __str__(self) -> str:
        return f"{'mutable' if self.mutable else 'immutable'} global of {self.value}"


# Where users find them. In the classes, mypy would no longer see named tuples.
for public in (FuncType, TableType, MemoryType, GlobalType):
    public.__module__ = "externref.wasm2c"
