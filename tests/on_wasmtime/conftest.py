"""Fixtures of the tests of externref.wasmtime: a store, modules bound, objects counted."""

import gc
import re
from types import SimpleNamespace

import pytest

import externref
from support import NO_GIL


class Module(pytest.Module):
    """A file of this folder: skipped, not imported, without the runtime."""

    def collect(self):
        pytest.importorskip("externref.wasmtime", exc_type=ImportError)
        return super().collect()


def pytest_pycollect_makemodule(module_path, parent):
    return Module.from_parent(parent, path=module_path)


# Without a GIL, what a program that had a second thread still has at its end goes after wasmtime-py's modules do, and
# wasmtime-py says so: a program that uses nothing of ours prints these, too.
AT_EXIT = re.compile(r"""Exception ignored in: <function Managed.__del__ at \w+>
Traceback \(most recent call last\):
(  File ".*_managed.py", line .*
)+  File ".*", line .*, in _delete
AttributeError: 'NoneType' object has no attribute '\w+_delete'
""")


@pytest.fixture
def said_by_others(said_by_others):
    return AT_EXIT if NO_GIL else said_by_others


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


@pytest.fixture
def relay(instantiate, store, func_type):
    """relay(params, results, callable): the bound export of a function that calls the host's."""

    import externref.wasmtime as ew

    def relay(params, results, callable, host=None):
        host = host or ew.func(store, func_type(params, results), callable)
        gets = "".join(f"local.get {i} " for i in range(len(params.split())))
        return instantiate(f"""(module (import "" "" (func $host (param {params}) (result {results})))
            (func (export "call") (param {params}) (result {results}) {gets} call $host))""", host).call

    return relay


USABLE = """(module
    (import "" "host" (func $host))
    (table (export "t") 2 externref)
    (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) local.get 0)
    (func (export "callback") call $host)
    (func (export "spin") (param i32)
        (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""


@pytest.fixture
def usable(instantiate, func_type):
    """usable(store): a module with an export of every kind; `callback` calls what its `host` is set to."""
    import externref.wasmtime as ew

    def usable(store):
        module = instantiate(USABLE, ew.func(store, func_type(), lambda: module.host()), store=store)
        return module

    return usable


@pytest.fixture
def module(usable, store):
    return usable(store)
