"""Fixtures of the tests of externref.wasmtime, which import those they use.

Not a conftest.py: as a module it would hide that of tests/, from which others import.
"""

import gc
from types import SimpleNamespace

import pytest

import externref


@pytest.fixture
def store():
    import wasmtime

    config = wasmtime.Config()
    # What newer versions have on by themselves.
    config.wasm_function_references = config.wasm_gc = config.wasm_exceptions = True
    store = wasmtime.Store(wasmtime.Engine(config))
    yield store
    store.close()


@pytest.fixture
def instantiate(store):
    """instantiate(wat, *imports): the exports bound, as attributes; wasmtime-py's own in `raw`."""
    import wasmtime

    import externref.wasmtime

    def instantiate(wat, *imports, store=store):
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, wat), imports)
        raw = dict(instance.exports(store).items())
        bound = {name: externref.wasmtime.bind(store, item) for name, item in raw.items()}
        return SimpleNamespace(raw=raw, **bound)

    return instantiate


@pytest.fixture
def collect(store):
    """Collects in the store and then in Python: what nothing refers to is gone afterwards."""

    def collect():
        store.gc()
        externref.drain()
        gc.collect()

    return collect


@pytest.fixture
def func_type():
    """func_type("externref i32", "i32"): a wasmtime.FuncType."""
    from wasmtime import FuncType, ValType

    def types(names):
        return [getattr(ValType, name)() for name in names.split()]

    return lambda params="", results="": FuncType(types(params), types(results))
