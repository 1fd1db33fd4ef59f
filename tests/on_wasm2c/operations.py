"""Operations of a store, and all that one may change: for files that have something go wrong in the middle of each."""

import gc
import sys

import pytest

import externref
from externref import VMExternRef, wasm2c
from externref.wasm2c import GlobalType, MemoryType, TableType
from on_both import operations as on_both
from on_both.operations import ITEMS, MANY, grew, same

PAGES, ELEMENTS = 8, 200        # that the store allows

MODULE = f"""(module
  (import "env" "call" (func $call (param externref i32) (result externref)))
  (import "env" "pair" (func $pair (param externref) (result externref funcref)))
  {ITEMS}
  (memory $m (export "m") 1 4) (memory $wide (export "wide") i64 1 4)
  (func $id (export "id") (param externref) (result externref) (local.get 0))
  (func (export "fill") (param i32 externref i32) (table.fill $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32) (memory.grow $m (local.get 0)))
  (func (export "grow_wide") (param i64) (result i64) (memory.grow $wide (local.get 0)))
  (func $trap (export "trap") (param externref) (result externref) unreachable))"""

# Instances of it are made in full, and have all of it for themselves.
PARTS = """(module
  (import "env" "call" (func $call (param externref i32) (result externref)))
  (import "env" "id" (func $id (param externref) (result externref)))
  (import "env" "value" (global $value externref)) (import "env" "m" (memory 1))
  %s
  (table (export "a") 3 externref) (table 5 %s) (table $given 2 externref)
  (memory $b (export "b") 1) (memory i64 1) (memory 0 2)
  (global (export "c") (mut externref) (ref.null extern))
  (elem (table $given) (i32.const 0) externref (global.get 0))
  (func $start (i32.store8 (i32.const 0) (i32.const 1)) (drop (call $id (call $call (global.get $value) (i32.const 1)))))
  (start $start)
  (func (export "given") (result externref) (table.get $given (i32.const 0)))
  %s)"""
TABLE, TAKE = '(import "env" "t" (table $shared 1 externref))', '(func (export "take") (param funcref))'
EXTERNREFS, FUNCREFS, BOTH = (TABLE, "externref", ""), ("", "funcref", TAKE), (TABLE, "funcref", TAKE)


class World:
    """A store with an instance, and everything of them that an operation may change."""

    def __init__(self, compile):
        self.store = store = wasm2c.Store(memory_limit=PAGES << 16, table_limit=ELEMENTS)
        self.parts = {text: compile(PARTS % text) for text in (EXTERNREFS, FUNCREFS, BOTH)}
        self.module = compile(MODULE)
        self.object = object()
        self.ref = VMExternRef(self.object)
        imports = {"call": lambda ref, number: ref, "pair": lambda ref: (ref, self.e["pass"])}
        self.instance = self.module.instantiate(store, {"env": imports})
        self.e = self.instance.exports
        self.e.t[0] = self.e.g.value = self.object
        self.imports = {"env": {**imports, "id": self.e.id, "value": self.object, "t": self.e.t, "m": self.e.m}}
        self.stayed = 0     # other instances that live as long as the store
        self.e.f[0] = self.e["pass"]

    def has_started(self):
        """Whether a start function ran since this was asked."""
        started = self.e.m.read(0, 1)
        self.e.m.write(b"\0")
        return started == b"\1"

    def state(self):
        """What must be as before. Collects."""
        self.store.gc()
        gc.collect()
        externref.drain()
        e = self.e
        return (externref.stats(), len(self.store.activations), sys.getrefcount(self.object), self.ref.strong_count,
                list(map(id, e.t)), id(e.g.value), e.f[0].type, e.f[1], len(e.f), len(e.m), len(e.wide), e.m.read(), e.wide.read())

    def check_limits(self):
        """The rest of what the store allows can be had, all of it and no more."""
        gc.collect()    # of exports, which lead to each other
        pages = PAGES - (len(self.e.m) + len(self.e.wide) >> 16) - 2 * self.stayed
        elements = ELEMENTS - len(self.e.t) - len(self.e.f) - 10 * self.stayed
        memory = wasm2c.Memory(self.store, MemoryType(pages, pages))
        table = wasm2c.Table(self.store, TableType("externref", elements))
        with pytest.raises(MemoryError, match="memory_limit"):
            wasm2c.Memory(self.store, MemoryType(1, 1))
        with pytest.raises(MemoryError, match="table_limit"):
            wasm2c.Table(self.store, TableType("externref", 1))
        assert (len(memory), len(table)) == (pages << 16, elements)

    def leave_room(self, count):
        """In the chunk, for so many references. They go in so that nothing collects."""
        if len(self.store.activations) == 0:
            self.e.t[7] = object()
        while self.store.activations.bump_capacity_remaining() != count:
            self.e.t[7] = object()
        self.e.t[7] = None

    def make(self, text):
        exports = self.parts[text].instantiate(self.store, self.imports).exports
        if text is not EXTERNREFS:      # it stays
            self.stayed += 1
        assert exports.given() is self.object and len(exports.a) == 3
        return True

    def new_store(self):
        with wasm2c.Store(memory_limit=PAGES << 16) as store:
            exports = self.module.instantiate(store, self.imports).exports
            return exports.id(self.object) is self.object and len(store.activations) == 1


def trap(world):
    try:
        world.e.trap(world.object)
    except wasm2c.Trap as failure:
        return same(str(failure), "Unreachable instruction executed, in 'trap'")


# What is done beside what is on both.
OPERATIONS = on_both.OPERATIONS | {
    "gc": lambda w: w.store.gc() is not None,
    "fill": lambda w: w.e.fill(0, w.object, 1) is None,
    "Table": lambda w: same(list(wasm2c.Table(w.store, TableType("externref", 3), w.object)), [w.object] * 3),
    "Table of funcref": lambda w: same(len(wasm2c.Table(w.store, TableType("funcref", 3, 5), w.e["pass"])), 3),
    "Memory": lambda w: same(len(wasm2c.Memory(w.store, MemoryType(2, 3))), 2 << 16),
    "Memory of 64 bits": lambda w: same(len(wasm2c.Memory(w.store, MemoryType(2, is64=True))), 2 << 16),
    "Global": lambda w: same(wasm2c.Global(w.store, GlobalType("externref"), w.object).value, w.object),
    "Global of v128": lambda w: same(wasm2c.Global(w.store, GlobalType("v128", True), b"x" * 16).value, b"x" * 16),
    "read": lambda w: same(w.e.m.read(0, 99), bytes(99)),
    "write": lambda w: same(w.e.wide.write(bytes(99), 5), 99),
    "buffer": lambda w: same(memoryview(w.e.m)[0], 0),
    "instance": lambda w: w.make(EXTERNREFS),
    "instance with funcrefs": lambda w: w.make(FUNCREFS),
    "instance with both": lambda w: w.make(BOTH),
    "memory.grow of 64 bits": lambda w: grew(-1, w.e.grow_wide, 2),
    "wide.grow": lambda w: grew("ValueError", w.e.wide.grow, 2),
    "store": World.new_store,
    "trap": trap,
    "call that collects": lambda w: same(w.e.id(w.object), w.object),
    "many that collect": lambda w: same(w.e.many(*[w.object] * MANY), (w.object,) * MANY),
    "host's result that collects": lambda w: same(w.e.host(w.object, 2**20), w.object),
    "call that fills the chunk": lambda w: same(w.e.id(w.object), w.object),
    "fill that fills the chunk": lambda w: w.e.fill(0, w.object, 1) is None,
    "instance that fills the chunk": lambda w: w.make(EXTERNREFS),
}

# What is done before.
PREPARE = {
    "call that collects": lambda w: w.leave_room(0),
    "many that collect": lambda w: w.leave_room(MANY - 1),
    "host's result that collects": lambda w: w.leave_room(1),
    "call that fills the chunk": lambda w: w.leave_room(1),
    "fill that fills the chunk": lambda w: w.leave_room(1),
    "instance that fills the chunk": lambda w: w.leave_room(3),
}

# Their instances can be used through a funcref, for all that is known.
STAY = ["instance with funcrefs", "instance with both"]
