"""References in the store: who keeps them, when they are dropped, exactly how many there are. Promises P1, P2.

Source: the externref tests of wasmtime's tests/all/gc.rs and of wasmtime-py's tests/test_refs.py.
"""

import gc
import threading
import weakref

import pytest
import wasmtime

import externref
import externref.wasmtime as ew

# --- gc.rs


def test_collecting_with_references_in_frames(instantiate, store, func_type, counted):
    collections = []

    def gc_now():
        store.gc()
        externref.drain()
        collections.append(counted.dropped())

    collector = ew.func(store, func_type(), gc_now)
    module = instantiate("""(module (import "" "" (func $gc))
        (func $f (export "f") (param i32 externref) (result externref)
            (if (result externref) (i32.eqz (local.get 0))
                (then (call $gc) (local.get 1))
                (else (call $f (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))))""", collector)
    value = counted()
    assert module.f(5, value) is value
    del value
    store.gc()
    externref.drain()
    assert counted.dropped() == 1
    assert module.f(5, counted()) is not None
    assert collections == [0, 1]    # never one that a frame still had


def test_wasm_dropping_references(instantiate, collect, counted):
    module = instantiate('(module (func (export "drop") (param externref)))')
    for _ in range(4096):
        module.drop(counted())
    collect()
    assert counted.dropped() == 4096
    assert externref.stats().live_blocks == 0


def test_many_live_references(instantiate, store, func_type, collect, counted):
    seen = []
    live = 1024
    make = ew.func(store, func_type("", "externref"), counted)
    observe = ew.func(store, func_type("externref"), lambda ref: seen.append((id(ref), counted.dropped())))
    module = instantiate(f"""(module (import "" "" (func $make (result externref)))
        (import "" "" (func $observe (param externref)))
        (func (export "f") {"(call $make)" * live} {"(call $observe)" * live}))""", make, observe)
    module.f()
    assert len(seen) == live and len({address for address, _ in seen[:10]}) == 10
    collect()
    assert counted.dropped() == live


def test_dropped_by_table_set(instantiate, store, collect, counted):
    module = instantiate("""(module (table $t 1 externref)
        (func (export "set") (param externref) (table.set $t (i32.const 0) (local.get 0))))""")
    module.set(counted())
    collect()
    assert counted.dropped() == 0
    module.set(counted())
    collect()
    assert counted.dropped() == 1
    module.set(None)
    collect()
    assert counted.dropped() == 2


@pytest.mark.parametrize("place", ["(global (mut externref) (ref.null extern))", "(table 1 externref)"])
def test_dropped_with_the_store(instantiate, counted, place):
    store_it = "(global.set 0 (local.get 0))" if "global" in place else "(table.set 0 (i32.const 0) (local.get 0))"
    with wasmtime.Store() as store:
        instantiate(f'(module {place} (func (export "f") (param externref) {store_it}))', store=store).f(counted())
        store.gc()
        externref.drain()
        assert counted.dropped() == 0
    externref.drain()
    assert counted.dropped() == 1


def test_no_collection_between_arguments(instantiate, store, func_type, counted):
    # Each of 60,000 references is alone on its way: a collection between the making of two of a
    # triple would show, and there are collections.
    wrong = []

    def take(*values):
        if [value.name for value in values] != ["a", "b", "c"]:
            wrong.append(values)

    def give():
        values = counted(), counted(), counted()
        values[0].name, values[1].name, values[2].name = "abc"
        return values

    module = instantiate("""(module
        (import "" "" (func $give (result externref externref externref)))
        (import "" "" (func $take (param externref externref externref)))
        (func (export "f") (param i32)
            (loop (call $give) (call $take)
                (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))""",
        ew.func(store, func_type("", "externref externref externref"), give),
        ew.func(store, func_type("externref externref externref"), take))
    module.f(20_000)
    assert not wrong
    externref.drain()
    assert 0 < counted.dropped() < 60_000


def test_collections_while_several_references_are_in_flight(instantiate, collect, counted):
    module = instantiate("""(module (func (export "f") (param externref externref externref)
        (result externref externref externref) local.get 2 local.get 0 local.get 1))""")
    for _ in range(2000):
        a, b, c = counted(), counted(), counted()
        assert module.f(a, b, c) == (c, a, b)
    del a, b, c
    # wasmtime has collected by itself, in the middle of this: the test means something.
    externref.drain()
    assert 0 < counted.dropped() < 6000
    collect()
    assert counted.dropped() == 6000


# --- test_refs.py


def test_an_int_and_a_float_through_a_host_function(instantiate, store, func_type):
    identity = ew.func(store, func_type("externref", "externref"), lambda value: value)
    bound = ew.bind(store, identity)
    assert bound(5) == 5 and bound(5.7) == 5.7


def test_dropped_by_a_global(store, collect, counted):
    item = wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.externref(), True), None)
    bound = ew.bind(store, item)
    bound.value = counted()
    collect()
    assert counted.dropped() == 0
    bound.value = None
    collect()
    assert counted.dropped() == 1


# --- Counts

HOLDER = """(module
    (table (export "t") 8 externref)
    (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) local.get 0)
    (func (export "twice") (param externref) (result externref externref) local.get 0 local.get 0)
    (func (export "same") (param externref externref) (result externref externref) local.get 0 local.get 1))"""


def test_exact_counts(instantiate, collect):
    module = instantiate(HOLDER)
    ref = externref.VMExternRef(object())
    module.id(ref)
    collect()
    assert ref.strong_count == 1
    module.t[0] = ref
    assert ref.strong_count == 2
    module.t.fill(0, ref, 8)        # one reference of wasmtime's in eight places: one count
    collect()
    assert ref.strong_count == 2
    module.g.value = ref
    assert ref.strong_count == 3
    results = module.twice.refs(ref)
    collect()
    assert ref.strong_count == 3 + 2 and all(result == ref for result in results)
    del results
    module.same(ref, ref)           # passed twice: two counts, both given back
    collect()
    assert ref.strong_count == 3
    module.g.value = None
    module.t.fill(0, None, 8)
    collect()
    assert ref.strong_count == 1


def test_results_as_references_keep_the_object_after_the_store(instantiate, counted):
    with wasmtime.Store() as store:
        ref = instantiate(HOLDER, store=store).id.refs(counted())
    externref.drain()
    assert counted.dropped() == 0 and ref.strong_count == 1
    ref.drop()
    assert counted.dropped() == 1


def test_a_full_heap_is_collected_and_tried_again(instantiate, counted):
    with wasmtime.Store() as store:
        store.set_limits(memory_size=4 * 65536)
        module = instantiate('(module (table (export "t") 100000 externref))', store=store)
        with pytest.raises(wasmtime.WasmtimeError, match="failed to create an externref value"):
            for index in range(100_000):
                module.t[index] = counted()
        # The one that failed was consumed twice and is gone, all the others are there.
        externref.drain()
        gc.collect()
        assert externref.stats().live_blocks == index and counted.dropped() == 1
        module.t.fill(0, None, 1000)
        module.t[0] = value = counted()
        assert module.t[0] is value


@pytest.mark.parametrize("failures, attempts", [(0, ["new"]), (1, ["new", "gc", "new"]), (2, ["new", "gc", "new"])])
def test_what_is_done_when_the_library_has_no_room(run_python, failures, attempts):
    # wasmtime collects by itself before it gives up, so that a second attempt is hardly ever seen to help: here
    # the library is given a function that fails as often as it is told, and consumes as the real one does.
    assert run_python(f"""
import ctypes
import wasmtime
from wasmtime import _ffi as ffi
failures, done = {failures}, []
real = ffi.dll.wasmtime_externref_new
finalizer = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

@ctypes.CFUNCTYPE(ctypes.c_bool, *[ctypes.c_void_p] * 4)
def new(context, data, finalize, out):
    global failures
    done.append("new")
    if failures:
        failures -= 1
        finalizer(finalize)(data)
        return False
    return real(ctypes.cast(context, real.argtypes[0]), data, ctypes.cast(finalize, real.argtypes[2]),
                ctypes.cast(out, real.argtypes[3]))

@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def gc(context):
    done.append("gc")

class Library:
    wasmtime_externref_new, wasmtime_context_gc = new, gc
    def __getattr__(self, name, dll=ffi.dll):
        return getattr(dll, name)

ffi.dll = Library()
import externref, externref.wasmtime as ew
store = wasmtime.Store()
table = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(
    store.engine, '(module (table (export "t") 1 externref))'), []).exports(store)["t"])
value = object()
try:
    table[0] = value
    assert table[0] is value
except wasmtime.WasmtimeError as full:
    assert {failures} == 2 and "failed to create an externref value" in str(full)
    assert table[0] is None
assert done == {attempts}, done
externref.drain()
assert externref.stats().live_blocks == ({failures} < 2)
store.close()
externref.drain()
print(externref.stats().live_blocks)
""") == "0\n"


def test_an_engine_without_a_heap_raises_and_consumes(instantiate, func_type, counted):
    config = wasmtime.Config()
    config.gc_support = False
    config.wasm_gc = False
    config.wasm_function_references = False
    with wasmtime.Store(wasmtime.Engine(config)) as store:
        function = ew.bind(store, wasmtime.Func(store, func_type("externref"), lambda value: None))
        assert function(None) is None
        with pytest.raises(wasmtime.WasmtimeError, match="failed to create an externref value"):
            function(counted())
        externref.drain()
        assert counted.dropped() == 1


# --- Finalizers


def test_dropped_on_a_foreign_thread(instantiate, counted):
    # The store is deleted by ctypes, without the GIL, on a thread that is not the main one.
    store = wasmtime.Store()
    module = instantiate(HOLDER, store=store)
    threads = []

    class Noting:
        def __del__(self, thread=threads.append, get_ident=threading.get_ident):
            thread(get_ident())

    for index in range(8):
        module.t[index] = Noting()
    worker = threading.Thread(target=store.close)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
    externref.drain()
    assert len(threads) == 8


def test_a_finalizer_may_use_the_store(instantiate, collect):
    # Run inside the store's collector this would abort the process.
    module = instantiate(HOLDER)
    revived = []

    class Reviving:
        def __del__(self):
            module.t[0] = self
            revived.append(module.id(self))

    module.id(Reviving())
    collect()
    assert len(revived) == 1 and module.t[0] is revived[0]
    module.t[0] = None
    revived.clear()
    collect()


def test_a_cycle_through_the_store_lives_as_long_as_the_store(instantiate):
    store = wasmtime.Store()
    module = instantiate(HOLDER, store=store)

    class Node:
        pass

    node = Node()
    module.t[0] = node
    alive = weakref.ref(node)
    node.module = module
    del node, module
    gc.collect()
    assert alive() is not None
    store.close()
    externref.drain()
    gc.collect()
    assert alive() is None


def test_an_argument_that_collects_when_it_dies_leaves_the_result():
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    ref = wasmtime.ValType.externref()

    class Argument:
        def __del__(self):
            store.gc()
            externref.drain()
            for i in range(3):
                ident([i])

    def host(argument):
        del argument
        hold.value = None       # the store gives it up: it dies with the arguments
        store.gc()
        externref.drain()
        return result

    function = externref.wasmtime.func(store, wasmtime.FuncType([ref], [ref]), host)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, """(module (import "e" "f" (func $f (param externref) (result externref)))
      (global $g (export "g") (mut externref) (ref.null extern))
      (func (export "go") (result externref) (call $f (global.get $g)))
      (func (export "id") (param externref) (result externref) (local.get 0)))"""), [function]).exports(store)
    go, ident, hold = (externref.wasmtime.bind(store, instance[name]) for name in ("go", "id", "g"))
    hold.value = Argument()
    result = ["result"]
    assert go() is result
    store.close()


def test_a_store_closed_again_by_a_finalizer_that_closing_runs():
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, '(module (global (export "g") (mut externref) (ref.null extern)))')

    class Closes:
        def __init__(self, store):
            self.store = store

        def __del__(self):
            self.store.close()

    for _ in range(20):
        store = wasmtime.Store(engine)
        hold = externref.wasmtime.bind(store, wasmtime.Instance(store, module, []).exports(store)["g"])
        hold.value = Closes(store)
        store.close()
        externref.drain()


def test_callers_that_let_go_in_the_middle(run_python):
    """An iterator that is exhausted in the call that it makes lets go of what it calls, and of the arguments."""
    run_python("""
import functools, gc, operator, wasmtime
from unittest.mock import ANY
import externref.wasmtime as ew

store = wasmtime.Store()
exports = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module
    (table (export "t") 2 externref) (table (export "empty") 0 externref) (table (export "funcs") 3 funcref)
    (global (export "g") (mut i32) (i32.const 0)) (memory (export "m") 1) (memory (export "none") 0)
    (func $f (export "f") (param i32)) (elem (table 2) (i32.const 0) func $f $f $f))'''), []).exports(store)

def bound(name):    # by who gets it alone
    return ew.bind(store, exports[name])

def step():
    try:
        print(next(iterator, None), flush=True)
    except SystemError as error:    # CPython 3.11.2 compares with the sentinel that it has let go
        print(error, flush=True)

class Ending:
    def __init__(self, number):
        self.number, self.first = number, True

    def __index__(self):
        if self.first:
            self.first = False
            next(iterator, None)
        return self.number

for make in (
    lambda: functools.partial(bound("t").fill, Ending(0), object(), Ending(1)),
    lambda: functools.partial(bound("t").grow, Ending(0), object()),
    lambda: functools.partial(bound("t").ref, Ending(0)),
    lambda: functools.partial(operator.getitem, bound("t"), Ending(0)),
    lambda: functools.partial(operator.setitem, bound("t"), Ending(0), object()),
    lambda: functools.partial(setattr, bound("g"), "value", Ending(0)),
    lambda: functools.partial(bound("m").grow, Ending(0)),
    lambda: functools.partial(bound("m").read, Ending(0), Ending(1)),
    lambda: functools.partial(bound("m").write, bytearray(b"x"), Ending(0)),
    lambda: functools.partial(operator.getitem, bound("m"), Ending(0)),
    lambda: functools.partial(operator.setitem, bound("m"), Ending(0), Ending(1)),
    lambda: functools.partial(operator.getitem, bound("t"), slice(Ending(0), Ending(2))),
    lambda: functools.partial(operator.setitem, bound("t"), slice(Ending(0), Ending(2)), [object(), object()]),
    lambda: functools.partial(operator.getitem, bound("m"), slice(Ending(0), Ending(4))),
    lambda: functools.partial(operator.setitem, bound("m"), slice(Ending(0), Ending(4)), bytearray(4)),
    lambda: functools.partial(bound("f"), Ending(0)),
    lambda: functools.partial(bound("f").refs, Ending(0)),
    lambda: functools.partial(type(bound("f")).__call__, bound("f"), Ending(0)),
):
    iterator = iter(make(), ANY)
    step()

class InACollection:
    def __del__(self):
        list(iterator)

for make in (
    lambda: iter(bound("empty")), lambda: iter(bound("funcs")), lambda: reversed(bound("funcs")),
    lambda: iter(bound("none")), lambda: reversed(bound("none")),
    *(lambda name=name: iter(functools.partial(repr, bound(name)), ANY) for name in ("t", "m", "g", "f")),
    lambda: iter(functools.partial(getattr, bound("f"), "wasmtime_func"), ANY),
):
    list(make())
    for allocations in range(12):
        gc.disable()
        gc.set_threshold(100_000)
        gc.collect()
        iterator = make()
        cycle = InACollection()
        cycle.itself = cycle
        del cycle
        gc.set_threshold(gc.get_count()[0] + allocations)
        gc.enable()
        step()
""", env={"PYTHONMALLOC": "debug"})
