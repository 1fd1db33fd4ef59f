"""Four threads with a store each, and in one store; without a GIL they do run at once. Promises P1, P2, P5, P11."""

# ruff: noqa: B023      insist() calls at once

import gc
import inspect
import random
import threading

import pytest

import externref
from externref import VMExternRef, wasm2c
from externref.wasm2c import GlobalType, MemoryType, TableType, Trap
from support import Payload, at_once

THREADS = 4
ROUNDS = 200

pytestmark = pytest.mark.usefixtures("quick_switches")

PROGRAM = """(module
  (import "env" "host" (func $host (param externref i32) (result externref)))
  (table $t (export "t") 4 externref) (table $f (export "f") 2 funcref)
  (global $g (export "g") (mut externref) (ref.null extern))
  (memory (export "m") 1 100)
  (elem declare func $id)
  (func $id (export "id") (param $anything externref) (result externref) (local.get 0))
  (func (export "call") (param externref i32) (result externref) (call $host (local.get 0) (local.get 1)))
  (func (export "keep") (param externref externref) (result externref externref)
    (table.set $t (i32.const 3) (local.get 0)) (global.set $g (local.get 1))
    (table.get $t (i32.const 3)) (global.get $g))
  (func (export "own") (result funcref) (ref.func $id))
  (func (export "spin") (param i32) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $deep (export "boom") (param i32) (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))))
    unreachable))"""

IN_USE = "the store is in use by another thread", "the store cannot be used by a finalizer or a signal handler"


def instantiate(compile, store, host=lambda ref, number: ref, **options):
    return compile(PROGRAM).instantiate(store, {"env": {"host": host}}, **options).exports


def insist(operation):
    """Repeats it for as long as another thread has the store; what it returns."""
    while True:
        try:
            return operation()
        except RuntimeError as error:
            if not str(error).startswith(IN_USE):
                raise


def use(e, make):
    """Every way in and out, once; each gives what it was given, or what another thread has put there."""
    a = make()
    assert insist(lambda: e.id(a)) is a
    assert insist(lambda: e.id.refs(a)).value is a
    assert insist(lambda: e.call(a, 1)) is a
    insist(lambda: e.keep(a, a))
    insist(lambda: e.t.fill(0, a, 2))
    insist(lambda: e.t.__setitem__(2, VMExternRef(a)))
    insist(lambda: setattr(e.g, "value", a))
    for got in (insist(lambda: e.t[1]), insist(lambda: e.t.ref(2)).value, insist(lambda: e.g.value)):
        assert isinstance(got, Payload)
    assert insist(lambda: e.own()).type == e.id.type
    insist(lambda: e.f.__setitem__(0, e.id))
    insist(lambda: e.f[0])
    insist(lambda: e.m.write(b"abcd", 8))
    assert insist(lambda: e.m.read(8, 12)) == b"abcd"
    with pytest.raises(Trap, match="Unreachable") as trapped:
        insist(lambda: e.boom(3))
    assert trapped.value.frames


def test_a_store_each(compile):
    dropped = []

    def work():
        with wasm2c.Store() as store:
            e = instantiate(compile, store)
            for i in range(ROUNDS // 2):
                use(e, lambda: Payload(dropped))
                if i % 10 == 0:
                    store.gc()
                    assert len(store.activations) <= 5

    at_once(*[work] * THREADS)
    gc.collect()
    externref.drain()
    assert len(dropped) == THREADS * ROUNDS // 2


@pytest.mark.parametrize("release_gil", [False, True])
def test_one_store(compile, release_gil):
    dropped = []

    def host(ref, number):
        for _ in range(random.randrange(30)):
            pass
        return ref

    store = wasm2c.Store()
    e = instantiate(compile, store, host, release_gil=release_gil)

    def work():
        for i in range(ROUNDS // 4):
            use(e, lambda: Payload(dropped))
            if i % 10 == 0:
                insist(store.gc)

    def look():
        for _ in range(ROUNDS):
            assert 0 <= len(store.activations) < 10_000
            assert store.activations.collections >= 0

    at_once(*[work] * THREADS, look)
    store.close()
    gc.collect()
    externref.drain()
    assert len(dropped) == THREADS * (ROUNDS // 4)


def test_a_store_is_closed_while_it_is_used(compile):
    dropped = []
    for _ in range(ROUNDS // 4):
        store = wasm2c.Store()
        e = instantiate(compile, store)

        def work(e=e):
            try:
                while True:
                    use(e, lambda: Payload(dropped))
            except ValueError as error:
                assert str(error) == "the store is already closed"

        def close(store=store):
            for _ in range(random.randrange(2000)):
                pass
            insist(store.close)

        at_once(*[work] * (THREADS - 2), close, close)
        assert store.closed
    del e, store, work, close
    gc.collect()
    externref.drain()


def test_instances_come_and_go(compile):
    """In one store, with funcrefs of theirs in a table, and traps that ask for the functions of all."""
    store = wasm2c.Store()
    first = instantiate(compile, store)

    def put(e):
        insist(lambda: first.f.__setitem__(1, e.id))
        insist(lambda: e.t.__setitem__(0, Payload()))

    def make():
        for _ in range(ROUNDS // 4):
            put(insist(lambda: instantiate(compile, store)))

    def ask():
        a = object()
        for _ in range(ROUNDS):
            function = insist(lambda: first.f[1])
            assert function is None or insist(lambda: function(a)) is a
            with pytest.raises(Trap) as trapped:
                insist(lambda: first.boom(2))
            assert trapped.value.frames

    insist(lambda: first.f.__setitem__(1, None))
    at_once(make, make, ask, ask)
    store.close()


def test_tables_memories_and_globals_come_and_go():
    """What the host makes, on several threads, while others have the store collect."""
    store = wasm2c.Store()
    dropped = []

    def make():
        for i in range(ROUNDS):
            table = insist(lambda: wasm2c.Table(store, TableType("externref", 3, 200), None))
            insist(lambda: table.fill(0, Payload(dropped), 3))
            insist(lambda: table.grow(2, None))
            value = insist(lambda: wasm2c.Global(store, GlobalType("externref", True), table))
            memory = insist(lambda: wasm2c.Memory(store, MemoryType(1, 2)))
            insist(lambda: memory.grow(1))
            assert len(insist(lambda: table[:])) == 5 and insist(lambda: value.value) is table
            if i % 3 == 0:
                insist(lambda: setattr(value, "value", None))

    def collect():
        for _ in range(ROUNDS):
            insist(store.gc)

    at_once(make, make, make, collect)
    gc.collect()
    store.gc()
    gc.collect()
    store.gc()
    assert len(dropped) == 3 * ROUNDS and len(store.activations) == 0
    store.close()


def test_a_memory_and_a_table_grow_while_they_are_read(compile):
    store = wasm2c.Store()
    memory = wasm2c.Memory(store, MemoryType(1, 200))
    memory64 = wasm2c.Memory(store, MemoryType(1, 200, True))
    table = wasm2c.Table(store, TableType("externref", 1, 10_000), 7)

    def grow():
        for _ in range(90):
            insist(lambda: memory.grow(1))
            insist(lambda: memory64.grow(1))
            insist(lambda: table.grow(10, 7))

    def read():
        for _ in range(ROUNDS):
            for one in (memory, memory64):
                size = insist(lambda: len(one))
                assert insist(lambda: one.read(size - 4)) >= b"\0\0\0\0"
                insist(lambda: one.write(b"\1", size - 1))
                assert insist(lambda: one.type.minimum) >= size >> 16
            size = insist(lambda: len(table))
            assert insist(lambda: table[size - 1]) == 7

    at_once(grow, grow, read, read)
    assert len(memory) == len(memory64) == 181 << 16 and len(table) == 1801
    store.close()


def test_one_thread_runs_and_the_others_are_told(compile):
    """Also while compiled code has let the GIL go; and interrupt() stops it from there."""
    store = wasm2c.Store()
    inside = threading.Event()
    e = instantiate(compile, store, lambda ref, number: inside.set() or e.spin(0) or ref, release_gil=True)

    def run():
        with pytest.raises(Trap, match="interrupted"):
            e.call(None, 0)

    def others():
        inside.wait()
        for operation in (lambda: e.id(1), store.gc, store.close, lambda: e.t[0], lambda: e.g.value, lambda: len(e.m)):
            with pytest.raises(RuntimeError, match="|".join(IN_USE)):
                operation()
        store.interrupt()

    at_once(run, others)
    store.close()


def test_names_are_read_by_several_threads_at_once(compile):
    for _ in range(10):
        e = instantiate(lambda text: wasm2c.compile(text), wasm2c.Store())      # a module that nobody has asked
        signatures = at_once(*[lambda e=e: str(inspect.signature(e.id))] * THREADS)
        assert signatures == ["(anything: Any, /) -> Any"] * THREADS


@pytest.mark.parametrize("run_its_functions", [False, True])
def test_an_instance_that_has_no_memory_is_seen_whole_or_empty(compile, run_its_functions):
    """One table is had, the memory is not: then nobody may read what is given back, and run the functions in it."""
    store = wasm2c.Store(memory_limit=1 << 20)
    functions = wasm2c.Table(store, TableType("funcref", 1))
    module = compile("""(module (import "e" "f" (table $f 1 funcref)) (table $t 300000 400000 externref) (memory 2000)
      (elem (table $f) (i32.const 0) func $get)
      (func $get (param i32) (result externref)
        (drop (table.grow $t (ref.null extern) (i32.const 100)))
        (table.fill $t (i32.const 0) (ref.null extern) (i32.const 300000))
        (table.get $t (local.get 0))))""")
    done = threading.Event()

    def make():
        for _ in range(ROUNDS // 4):
            with pytest.raises(MemoryError):
                insist(lambda: module.instantiate(store, {"e": {"f": functions}}))
        done.set()

    def look():
        while not done.is_set():
            if not run_its_functions:
                insist(store.gc)
            elif (function := insist(lambda: functions[0])) is not None:
                with pytest.raises(Trap):
                    insist(lambda: function(1))

    at_once(make, look)
    store.close()
