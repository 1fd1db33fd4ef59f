"""Limits of what the C compiler is given, and of the frames that it makes.

The C that wasm2c writes looks at the stack on entry to each function, once: no frame may be larger
than FRAME_LIMIT, or the frame of the function that is let in could reach over the stack's end. A
compiler says how large its frames are (-fstack-usage), and that is looked at when it ran. The other
limits are there before, for what would only make it run long.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from externref.wasm2c.binary import CODE, Binary, FuncType, Reader, UnsupportedError
from externref.wasm2c.names import Names

FRAME_LIMIT = 128 * 1024
HOST_FRAME_LIMIT = 24 * 1024    # of each of the two between a function and the host, which do not look at the stack
LOCALS_LIMIT = 64 * 1024    # bytes of a function's parameters and locals
# As the JavaScript API has them.
FUNCTION_LIMIT = 1_000_000
BODY_LIMIT = 7_654_321      # bytes
VALUES_LIMIT = 1_000        # parameters, and results, of a function type

# wasm2c has a buffer of so many bytes for the parameters or the results of a tail call, and does not check it.
TAIL_CALL_BUFFER = 1024


def size_of(value: str) -> int:
    """Bytes that a local of this type may take in a frame."""
    return {"v128": 16, "funcref": 32}.get(value, 8)


def sizes_of(type_: FuncType) -> tuple[int, int]:
    """Bytes of the parameters, and of the results."""
    return sum(map(size_of, type_.params)), sum(map(size_of, type_.results))


def check_limits(binary: Binary) -> None:
    """Raises UnsupportedError if the module is over a limit that can be seen before it is compiled."""
    if len(binary.function_types) > FUNCTION_LIMIT:
        raise UnsupportedError(f"{len(binary.function_types)} functions, at most {FUNCTION_LIMIT} are supported")
    for k, type_ in enumerate(binary.types):
        for values, what in ((type_.params, "parameters"), (type_.results, "results")):
            if len(values) > VALUES_LIMIT:
                raise UnsupportedError(f"function type {k}: {len(values)} {what}, "
                                       f"at most {VALUES_LIMIT} are supported")
    params = [sizes_of(type_)[0] for type_ in binary.types]
    for index, (length, local_bytes) in enumerate(bodies(binary), binary.imported(FuncType)):
        if length > BODY_LIMIT:
            raise UnsupportedError(f"{describe(binary, index)}: its body has {length} bytes, "
                                   f"at most {BODY_LIMIT} are supported")
        total = params[binary.function_types[index]] + local_bytes
        if total > LOCALS_LIMIT:
            raise UnsupportedError(f"{describe(binary, index)}: its parameters and locals take {total} bytes, "
                                   f"at most {LOCALS_LIMIT} are supported")


def bodies(binary: Binary) -> Iterator[tuple[int, int]]:
    """For each function that is not imported: the bytes of its body, and those that its locals take."""
    reader = Reader(dict(binary.sections).get(CODE, b"\0"))
    for _ in range(reader.unsigned()):
        length = reader.unsigned()
        end = reader.at + length
        local_bytes = 0
        for _ in range(reader.unsigned()):
            count = reader.unsigned()
            local_bytes += count * size_of(reader.value_type())
        yield length, local_bytes
        reader.at = end


def fit_tail_calls(binary: Binary) -> bool:
    """Whether wasm2c's buffer is large enough for a tail call of any type of the module."""
    return all(max(sizes_of(type_)) <= TAIL_CALL_BUFFER for type_ in binary.types)


def check_frames(binary: Binary, usage: Path) -> None:
    """Raises UnsupportedError if a frame is too large, by the file that the compiler wrote."""
    for line in usage.read_text(errors="replace").splitlines():
        # gcc: "module.c:900:5:w2c_m_f0	32080	static", clang: without the column.
        place, size, kind = line.rsplit("\t", 2)     # the place begins with a path
        name = place.rpartition(":")[2]
        limit = HOST_FRAME_LIMIT if re.match(r"(host|w2c_i)_\d+", name) else FRAME_LIMIT
        if kind == "dynamic":       # as clang's AddressSanitizer makes them
            raise UnsupportedError(f"{describe_c(binary, name)}: its stack frame has no fixed size; look at $CFLAGS")
        if int(size) > limit:
            raise UnsupportedError(f"{describe_c(binary, name)}: its stack frame has {size} bytes, "
                                   f"at most {limit} are supported")


def describe_c(binary: Binary, name: str) -> str:
    """The WebAssembly function that a function of the C is, for messages."""
    found = re.match(r"(?:wasm_tailcall_)?w2c_m_x?f(\d+)", name)
    if found:
        return describe(binary, int(found[1]))
    found = re.match(r"(?:call|host)_(\d+)", name)
    if found:
        return f"function type {found[1]}"
    found = re.match(r"w2c_i_(\d+)", name)
    return "import {0.module}.{0.name}".format(binary.imports[int(found[1])]) if found else f"the C function {name}"


def describe(binary: Binary, index: int) -> str:
    """A function's index, and a name that it has."""
    exported = (item.name for item in binary.exports if isinstance(item.type, FuncType) and item.number == index)
    name = Names(binary.sections).functions.get(index) or next(exported, None)
    return f"function {index}" + (f" ({name!r})" if name is not None else "")
