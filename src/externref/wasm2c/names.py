"""What a module calls its functions and their parameters, for messages and for inspect.signature().

Source: WebAssembly Core Specification, "Name Section". Nobody validates it, so one that is broken has no names.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from externref.wasm2c.binary import CUSTOM, Reader, UnsupportedError

T = TypeVar("T")

FUNCTION_NAMES, LOCAL_NAMES = 1, 2      # subsections
LONGEST = 200                           # characters of a name that a message has


class Frame(NamedTuple):
    """A function that ran when code trapped: its name in the module's name section, None if it has none, and its
    number, the index among the module's functions, imports first."""

    name: str | None
    number: int

    def __str__(self) -> str:
        return f"function {self.number}" if self.name is None else repr(self.name[:LONGEST])


Frame.__module__ = "externref.wasm2c"


class Names:
    """The names in a module: functions by index, and locals by index of each of them."""

    def __init__(self, sections: Iterable[tuple[int, bytes]]) -> None:
        self.functions: dict[int, str] = {}
        self.locals: dict[int, dict[int, str]] = {}
        for number, content in sections:
            reader = Reader(content)
            try:
                if number == CUSTOM and reader.name() == "name":
                    self.read(reader)
            except (IndexError, UnicodeDecodeError, UnsupportedError):      # it is broken from there on
                pass

    def read(self, reader: Reader) -> None:
        while reader.at < len(reader.data):
            kind = reader.byte()
            part = Reader(reader.bytes(reader.unsigned()))
            if kind == FUNCTION_NAMES:
                self.functions = read_map(part, Reader.name)
            elif kind == LOCAL_NAMES:
                self.locals = read_map(part, lambda part: read_map(part, Reader.name))


def read_map(reader: Reader, read: Callable[[Reader], T]) -> dict[int, T]:
    result = {}
    for _ in range(reader.unsigned()):
        index = reader.unsigned()
        result[index] = read(reader)
    return result
