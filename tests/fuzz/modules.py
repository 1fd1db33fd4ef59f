"""Bytes given to wasm2c.compile() as a module: what `.ci/fuzz modules` runs.

What is no valid module is a CompileError, and so is what the package does not support. Of what is accepted, wasmtime's own reading
of the imports and exports must agree, and the module under plain names must be valid again. One in RUN_ONE_IN is compiled to the end
and run: in a store with limits nothing ends but by an exception that the docs name.
"""

import contextlib
import tempfile
import zlib
from pathlib import Path

import wasmtime

from externref import wasm2c
from externref.wasm2c import CompileError, FuncType, GlobalType, LinkError, MemoryType, TableType, Trap, compiler, tools
from externref.wasm2c.binary import sections, unsigned

RUN_ONE_IN = 100
FLAGS = [flag for flag in compiler.FLAGS if flag != "-O2"] + ["-O0", "-DINTERRUPTIBLE=1"]
HEADER = b"\0asm\1\0\0\0"
LIMITED = {"timeout": 0.5, "memory_limit": 1 << 24, "table_limit": 10_000}


def make_engine():
    config = wasmtime.Config()
    for feature in ("threads", "relaxed_simd", "exceptions", "gc", "function_references"):
        with contextlib.suppress(AttributeError, wasmtime.WasmtimeError):
            setattr(config, f"wasm_{feature}", False)
    for feature in ("tail_call", "multi_memory", "memory64", "simd", "bulk_memory", "reference_types", "multi_value"):
        with contextlib.suppress(AttributeError):
            setattr(config, f"wasm_{feature}", True)
    return wasmtime.Engine(config)


ENGINE = make_engine()


class Accepted(Exception):
    """Raised in place of building it."""


def accept(source, folder):
    """What compile() would build of the source, a Binary, or None. Asserts that the refusal is one that it names."""
    accepted = []

    def build(binary, *_):
        accepted.append(binary)
        raise Accepted

    before, compiler.build = compiler.build, build
    try:
        compiler.compile_in(folder, source, False, tools.Tools(), FLAGS)
    except (Accepted, CompileError, compiler.UnsupportedError):
        return accepted[0] if accepted else None
    finally:
        compiler.build = before
    raise AssertionError("compiled without being built")


def name_of(type_):
    return {"anyref": "externref"}.get(str(type_), str(type_))     # as wasmtime-py calls it


def described(type_):
    """A type as both have it: strings and numbers."""
    if isinstance(type_, wasmtime.FuncType | FuncType):
        return "func", [name_of(t) for t in type_.params], [name_of(t) for t in type_.results]
    if isinstance(type_, wasmtime.GlobalType):
        return "global", name_of(type_.content), type_.mutable
    if isinstance(type_, GlobalType):
        return "global", type_.value, type_.mutable
    if isinstance(type_, wasmtime.TableType):
        return "table", name_of(type_.element), type_.limits.min, type_.limits.max
    if isinstance(type_, TableType):
        return "table", type_.element, type_.minimum, type_.maximum
    if isinstance(type_, wasmtime.MemoryType):
        return "memory", type_.limits.min, type_.limits.max, type_.is_64
    return "memory", type_.minimum, type_.maximum, type_.is64


def check_types(binary, theirs):
    assert [(i.module, i.name, described(i.type)) for i in binary.imports] == \
        [(i.module, i.name, described(i.type)) for i in theirs.imports]
    assert [(e.name, described(e.type)) for e in binary.exports] == [(e.name, described(e.type)) for e in theirs.exports]


def value_of(type_):
    return {"f32": 0.5, "f64": 0.5, "v128": bytes(16), "externref": "text", "funcref": None}.get(type_, 1)


def import_of(store, type_):
    if isinstance(type_, FuncType):
        results = tuple(value_of(t) for t in type_.results)
        return lambda *_: results[0] if len(results) == 1 else results or None
    if isinstance(type_, TableType):
        return wasm2c.Table(store, type_)
    if isinstance(type_, MemoryType):
        return wasm2c.Memory(store, type_)
    return wasm2c.Global(store, type_, value_of(type_.value))


def execute(source):
    """Compiles it to the end, and calls what it exports."""
    before, compiler.FLAGS = compiler.FLAGS, FLAGS[:-1]
    try:
        module = wasm2c.compile(source, cache=False)
    except CompileError:
        return
    finally:
        compiler.FLAGS = before
    with wasm2c.Store(**LIMITED) as store, contextlib.suppress(Trap, LinkError, MemoryError):
        imports = {}
        for item in module.imports:
            imports.setdefault(item.module, {})[item.name] = import_of(store, item.type)
        exports = module.instantiate(store, imports).exports
        for item in module.exports:
            if isinstance(item.type, FuncType):
                with contextlib.suppress(Trap, MemoryError):
                    exports[item.name](*[value_of(t) for t in item.type.params])
                store.gc()


def run(data):
    source = bytes(data)
    theirs = None
    with contextlib.suppress(wasmtime.WasmtimeError):
        theirs = wasmtime.Module(ENGINE, source) if source.startswith(HEADER) else None
    if theirs is None and zlib.crc32(source) % 16:
        return      # another process for each of these would take most of the time
    with tempfile.TemporaryDirectory(prefix="externref-fuzz-") as name:
        folder = Path(name)
        binary = accept(source, folder)
        if binary is None:
            return
        if theirs is not None and "v128" not in str((binary.imports, binary.exports)):     # at which its C API aborts
            check_types(binary, theirs)
        assert accept(binary.renamed(), folder) is not None
    if zlib.crc32(source) % RUN_ONE_IN == 0:
        execute(source)


def mutate(data, max_size, seed, change):
    """Changes the content of a section, and says its new size; `change` is the fuzzer's own mutation of bytes."""
    if not data.startswith(HEADER) or seed % 8 == 0:
        return change(data, max_size)
    try:
        parts = list(sections(bytes(data)))
        k = seed // 8 % len(parts)
        number, content = parts[k]
    except (IndexError, ZeroDivisionError, compiler.UnsupportedError):
        return change(data, max_size)
    parts[k] = number, bytes(change(content, max(1, max_size - len(data) + len(content))))
    changed = HEADER + b"".join(bytes([number]) + unsigned(len(content)) + content for number, content in parts)
    return changed[:max_size]
