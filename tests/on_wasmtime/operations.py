"""Operations of a store of wasmtime's, and all that one may change: for files that have things go wrong in each."""

import gc
import operator
import sys

import wasmtime
from wasmtime import FuncType, Trap, ValType

import externref
import externref.wasmtime as ew
from externref import VMExternRef
from on_both import operations as on_both
from on_both.operations import ITEMS, same

MODULE = f"""(module
  (import "" "call" (func $call (param externref i32) (result externref)))
  (import "" "pair" (func $pair (param externref) (result externref funcref)))
  (import "" "look" (func $look (param externref) (result externref)))
  (import "" "fail" (func $fail (param externref)))
  {ITEMS}
  (memory (export "m") 1 4)
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "look") (param externref) (result externref) (call $look (local.get 0)))
  (func (export "fail") (param externref) (call $fail (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "trap") (param externref) unreachable))"""


def types(params, results):
    return FuncType([getattr(ValType, name)() for name in params.split()], [getattr(ValType, name)() for name in results.split()])


class World:
    """A store with an instance, and everything of them that an operation may change."""

    def __init__(self):
        config = wasmtime.Config()
        config.wasm_function_references = config.wasm_gc = True
        config.epoch_interruption = True
        self.engine = wasmtime.Engine(config)
        self.store = wasmtime.Store(self.engine)
        self.store.set_epoch_deadline(1)
        self.module = wasmtime.Module(self.engine, MODULE)
        self.object = object()
        self.ref = VMExternRef(self.object)
        self.row = self.object, None
        self.items = wasmtime.Instance(self.store, self.module, self.imports(self.store)).exports(self.store)
        self.e = ew.bind(self.store, self.items)
        self.e.t[0] = self.e.g.value = self.object
        self.e.f[0] = self.e["pass"]

    def imports(self, store):
        return [ew.func(store, types("externref i32", "externref"), lambda ref, number: ref),
                ew.func(store, types("externref", "externref funcref"), self.pair),
                ew.func(store, types("externref", "externref"), self.look, access_caller=True),
                ew.func(store, types("externref", ""), self.fail)]

    def pair(self, ref):
        return ref, self.e["pass"]

    def look(self, caller, ref):
        caller.m.write(b"x")
        return caller.t[0] if ref is self.object else ref

    def fail(self, ref):
        raise KeyError(ref)

    def state(self):
        """What must be as before. Collects."""
        self.e.id(None)     # forgets what ended a call
        self.store.gc()
        gc.collect()
        externref.drain()
        e = self.e
        return (externref.stats(), sys.getrefcount(self.object), self.ref.strong_count, list(map(id, e.t)), id(e.g.value),
                e.f[0].type, e.f[1], len(e.f), len(e.m))

    def new_store(self):
        with wasmtime.Store(self.engine) as store:
            store.set_epoch_deadline(1)
            exports = ew.bind(store, wasmtime.Instance(store, self.module, self.imports(store)).exports(store))
            exports.t[0] = exports.g.value = self.object
            return exports.id(self.object) is self.object

    def new_interruptible_store(self):
        config = wasmtime.Config()
        config.epoch_interruption = True
        with wasmtime.Store(wasmtime.Engine(config)) as store:
            ew.interruptible(store, timeout=100)
            host = ew.func(store, types("externref", "externref"), lambda ref: ref)
            return ew.bind(store, host)(self.object) is self.object


def raises(error, function, *args):
    try:
        function(*args)
    except error:
        return True


# What is done beside what is on both.
OPERATIONS = on_both.OPERATIONS | {
    "call of a reference": lambda w: same(w.e.id(w.ref), w.object),
    "caller": lambda w: same(w.e.look(w.object), w.object),
    "host's exception": lambda w: raises(KeyError, w.e.fail, w.object),
    "trap": lambda w: raises(Trap, w.e.trap, w.object),
    "argument that does not fit": lambda w: raises(OverflowError, w.e.host, w.object, 2**40),
    "gc": lambda w: w.store.gc() is None,
    "t[i:j] = x": lambda w: operator.setitem(w.e.t, slice(0, 2), iter(w.row)) is None,
    "t[i:j]": lambda w: same(tuple(w.e.t[:2]), w.row),
    "f[i] = x": lambda w: operator.setitem(w.e.f, 0, w.e["pass"]) is None,
    "g.value": lambda w: same(w.e.g.value, w.object),
    "read": lambda w: same(len(w.e.m.read(0, 99)), 99),
    "write": lambda w: same(w.e.m.write(bytes(99), 5), 99),
    "types": lambda w: None not in [w.e.t.type, w.e.f.type, w.e.g.type, w.e.m.type, w.e.id.type],
    "bind": lambda w: same(ew.bind(w.store, w.items["id"])(w.object), w.object),
    "bind exports": lambda w: same(ew.bind(w.store, w.items).id(w.object), w.object),
    "store": World.new_store,
    "interruptible store": World.new_interruptible_store,
    "wasmtime-py's call": lambda w: same(w.items["id"](w.store, w.object), w.object),
}

# Its code loses what it was about to give, as any Python code does.
THEIRS = ["wasmtime-py's call"]
