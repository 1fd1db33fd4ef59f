"""The types of a WebAssembly module, read from its binary, and the binary under plain names.

wasm2c makes C names of the module's own, escaped and made unique in ways of its own. So that
nothing needs to guess them, `Binary.renamed()` imports item k of module "i" under the name
"k", and exports what the glue needs as "xf0", "xt0", "xm0", "xg0": a letter for the kind and
the index.

Only for modules that wasm-validate accepted: of those nothing is checked again.

Source: WebAssembly Core Specification, "Binary Format".
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from externref._types import FuncType, GlobalType, MemoryType, TableType

T = TypeVar("T")

VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}
GLOBAL_GET = 0x23       # the opcode
CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE = range(11)


class Elements(NamedTuple):
    """An element segment. values: of one of externrefs, the index of the global that each is, None for null."""

    active: bool
    element: str
    values: tuple[int | None, ...]


ExternType = FuncType | TableType | MemoryType | GlobalType


class Import(NamedTuple):
    module: str
    name: str
    type: ExternType


class Export(NamedTuple):
    name: str
    type: ExternType
    number: int         # the index among the items of its kind, imports first


KINDS = (FuncType, TableType, MemoryType, GlobalType)

# Where users find them. In the classes, mypy would no longer see named tuples.
Import.__module__ = Export.__module__ = "externref.wasm2c"


class UnsupportedError(Exception):
    """The module uses a feature that the glue does not know."""


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self) -> int:
        """A LEB128 integer."""
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result
            if shift > 63:      # only in what nobody validates
                raise UnsupportedError("an integer of more than 64 bits")

    def unsigned_at(self, at: int) -> int:
        """A LEB128 integer that begins there."""
        reader = Reader(self.data)
        reader.at = at
        return reader.unsigned()

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size:self.at]

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode("utf-8")

    def value_type(self) -> str:
        code = self.byte()
        try:
            return VALUE_TYPES[code]
        except KeyError:
            raise UnsupportedError(f"value type {code:#x} is not supported") from None

    def limits(self) -> tuple[int, int | None, bool]:
        """Minimum, maximum, and whether indices have 64 bits."""
        flags = self.byte()
        if flags & ~0x05:   # 1: there is a maximum, 4: 64-bit addresses
            raise UnsupportedError("shared memories and custom page sizes are not supported")
        minimum = self.unsigned()
        return minimum, self.unsigned() if flags & 1 else None, bool(flags & 4)

    def table_type(self) -> TableType:
        element = self.value_type()
        minimum, maximum, is64 = self.limits()
        if is64:
            # Its C would let an index of 2**32 pass as 0.
            raise UnsupportedError("64-bit tables are not supported: wasm2c checks the low half of the index only")
        return TableType(element, minimum, maximum)

    def memory_type(self) -> MemoryType:
        return MemoryType(*self.limits())

    def global_type(self) -> GlobalType:
        return GlobalType(self.value_type(), self.byte() == 1)

    def function_type(self) -> FuncType:
        if self.byte() != 0x60:
            raise UnsupportedError("struct and array types are not supported")
        params = tuple(self.value_type() for _ in range(self.unsigned()))
        return FuncType(params, tuple(self.value_type() for _ in range(self.unsigned())))

    def skip_constant(self) -> None:
        """Skips a constant expression up to its end."""
        while (opcode := self.byte()) != 0x0B:
            if opcode in (0x41, 0x42, GLOBAL_GET, 0xD2):    # i32.const, i64.const, global.get, ref.func
                self.unsigned()
            elif opcode == 0xD0:                        # ref.null
                self.byte()
            elif opcode in (0x43, 0x44):                # f32.const, f64.const
                self.bytes(4 if opcode == 0x43 else 8)
            elif opcode == 0xFD:                        # v128.const
                self.unsigned()
                self.bytes(16)
            elif opcode not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):    # add, sub, mul
                raise UnsupportedError(f"opcode {opcode:#x} in a constant expression is not supported")


def unsigned(value: int) -> bytes:
    """An integer in LEB128."""
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def name(text: str) -> bytes:
    return unsigned(len(text)) + text.encode("ascii")


class Binary(NamedTuple):
    """A valid module's binary, and the types of what it has, by index and imports first.

    Of tuples alone: other threads run while the C compiler does, and what was compiled is what is linked.
    """

    sections: tuple[tuple[int, bytes], ...]
    types: tuple[FuncType, ...]
    function_types: tuple[int, ...]
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    tables: tuple[TableType, ...]
    memories: tuple[MemoryType, ...]
    globals: tuple[GlobalType, ...]
    raw_imports: tuple[bytes, ...]      # what follows the names
    elements: tuple[Elements, ...]

    def imported(self, kind: type[ExternType]) -> int:
        """How many items of the kind are imported."""
        return len(imported_types(self.imports, kind))

    def exported_functions(self) -> list[int]:
        """Indices of the exported functions, each once."""
        return sorted({item.number for item in self.exports if isinstance(item.type, FuncType)})

    def renamed(self) -> bytes:
        """The module with its imports and exports under plain names; custom sections are left out."""
        imports = unsigned(len(self.imports)) + b"".join(
            name("i") + name(str(k)) + rest for k, rest in enumerate(self.raw_imports))
        items = [(f"xf{i}", 0, i) for i in self.exported_functions()]
        for letter, kind, all_, imported in (
            ("t", 1, self.tables, self.imported(TableType)),
            ("m", 2, self.memories, self.imported(MemoryType)),
            ("g", 3, self.globals, self.imported(GlobalType)),
        ):
            items += [(f"x{letter}{i}", kind, i) for i in range(imported, len(all_))]
        exports = unsigned(len(items)) + b"".join(
            name(field) + bytes([kind]) + unsigned(i) for field, kind, i in items)
        content = dict(self.sections) | {IMPORT: imports, EXPORT: exports}
        content.pop(CUSTOM, None)
        # The sections' numbers are their order, but for two: 12 is before 10, 13 before 6.
        order = sorted(content, key=lambda number: {12: 9.5, 13: 5.5}.get(number, number))
        return b"\0asm\1\0\0\0" + b"".join(
            bytes([number]) + unsigned(len(content[number])) + content[number] for number in order)


def read_binary(data: bytes) -> Binary:
    """What a valid module has. Raises UnsupportedError."""
    content = tuple(sections(data))
    types = listed(content, TYPE, Reader.function_type)
    found = listed(content, IMPORT, lambda reader: read_import(reader, types))
    imports, raw_imports = tuple(item for item, _ in found), tuple(raw for _, raw in found)
    function_types = (*(Reader(raw[1:]).unsigned() for raw in raw_imports if raw[0] == 0),
                      *listed(content, FUNCTION, Reader.unsigned))
    functions = tuple(types[index] for index in function_types)
    tables = imported_types(imports, TableType) + listed(content, TABLE, read_table)
    memories = imported_types(imports, MemoryType) + listed(content, MEMORY, Reader.memory_type)
    globals_ = imported_types(imports, GlobalType) + listed(content, GLOBAL, read_global)
    exports = listed(content, EXPORT, lambda reader: read_export(reader, (functions, tables, memories, globals_)))
    return Binary(content, types, function_types, imports, exports, tables, memories, globals_, raw_imports,
                  listed(content, ELEMENT, read_elements))


def listed(content: tuple[tuple[int, bytes], ...], number: int, read: Callable[[Reader], T]) -> tuple[T, ...]:
    """What the section of this number lists; nothing if there is none."""
    reader = Reader(dict(content).get(number, b"\0"))
    return tuple(read(reader) for _ in range(reader.unsigned()))


def imported_types(imports: tuple[Import, ...], kind: type[T]) -> tuple[T, ...]:
    return tuple(item.type for item in imports if isinstance(item.type, kind))


def read_import(reader: Reader, types: tuple[FuncType, ...]) -> tuple[Import, bytes]:
    module, field = reader.name(), reader.name()
    start = reader.at
    kind = reader.byte()
    item: ExternType
    if kind == 0:
        item = types[reader.unsigned()]
    elif kind == 1:
        item = reader.table_type()
    elif kind == 2:
        item = reader.memory_type()
    elif kind == 3:
        item = reader.global_type()
    else:
        raise UnsupportedError("importing exception tags is not supported")
    return Import(module, field, item), reader.data[start:reader.at]


def read_table(reader: Reader) -> TableType:
    if reader.data[reader.at] == 0x40:
        raise UnsupportedError("tables with an initial value are not supported")
    return reader.table_type()


def read_global(reader: Reader) -> GlobalType:
    result = reader.global_type()
    reader.skip_constant()
    return result


def read_export(reader: Reader, items: tuple[tuple[ExternType, ...], ...]) -> Export:
    field, kind, index = reader.name(), reader.byte(), reader.unsigned()
    if kind > 3:
        raise UnsupportedError("exporting exception tags is not supported")
    return Export(field, items[kind][index], index)


def read_elements(reader: Reader) -> Elements:
    flags = reader.unsigned()
    element, values = "funcref", []
    if not flags & 1:       # active: the table, unless it is the first, and where to start
        if flags & 2:
            reader.unsigned()
        reader.skip_constant()
    if flags & 3:
        if flags & 4:
            element = reader.value_type()
        else:
            reader.byte()   # function indices
    for _ in range(reader.unsigned()):
        if not flags & 4:
            reader.unsigned()
            continue
        start = reader.at
        reader.skip_constant()
        if element == "externref":
            values.append(reader.unsigned_at(start + 1) if reader.data[start] == GLOBAL_GET else None)
    return Elements(not flags & 1, element, tuple(values))


def sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each section."""
    reader = Reader(data)
    reader.at = 8       # the magic number and the version
    while reader.at < len(data):
        number = reader.byte()
        yield number, reader.bytes(reader.unsigned())
