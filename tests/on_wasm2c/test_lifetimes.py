"""Who keeps what alive, and until when: roots, collections, lifetimes, cycles. Promises P1, P2."""

import gc
import weakref

import pytest

import externref
from externref import VMExternRef, VMExternRefActivationsTable, wasm2c
from support import Calling

MILLION = 1_000_000
CLOSED = """(module (table (export "t") 2 externref) (global (export "g") (mut externref) (ref.null extern))
  (memory (export "m") 1) (func (export "id") (param externref) (result externref) (local.get 0)))"""


class Thing:
    pass


def test_a_reference_that_went_in_is_dropped_by_a_collection(references, store, make_payload):
    exports, dropped = references(), []
    exports.drop(make_payload(dropped))
    exports.id(make_payload(dropped))
    assert dropped == []
    assert store.gc() == 2 and len(dropped) == 2 and store.gc() == 0


def test_the_collector_is_told_of_what_a_stores_table_has(references, store):
    exports, thing, lent = references(), Thing(), Thing()
    ref = VMExternRef(lent)
    ref.as_raw()
    exports.save(0, thing)
    exports.save(1, ref)
    for _ in range(2):
        assert [type(owner) for owner in gc.get_referrers(thing)].count(VMExternRefActivationsTable) == 1
        # What compiled code may have is nobody's that the collector can see.
        assert VMExternRefActivationsTable not in [type(owner) for owner in gc.get_referrers(lent)]
        for _ in range(600):        # more than the table's chunk has room for: it is emptied into the set
            exports.drop(exports)


@pytest.mark.parametrize("keep, forget", [
    (lambda e, x: e.save(0, x), lambda e: e.save(0, None)),
    (lambda e, x: e.t.__setitem__(0, x), lambda e: e.t.__setitem__(0, None)),
    (lambda e, x: e.fill(0, x, 1), lambda e: e.init(0, 0, 2)),
    (lambda e, x: e.grow(x, 1), lambda e: e.t.fill(0, None, len(e.t))),
    (lambda e, x: (e.save(0, x), e.copy(0, 0, 1), e.save(0, None)), lambda e: e.copy(0, 1, 1)),
    (lambda e, x: e.t.grow(1, x), lambda e: e.fill(0, None, 9)),
    (lambda e, x: e.global_set(x), lambda e: e.global_set(None)),
    (lambda e, x: setattr(e.g, "value", x), lambda e: setattr(e.g, "value", None)),
    (lambda e, x: e.hide(x), lambda e: e.hide(None)),       # neither exported
    (lambda e, x: e.u.fill(3, x, 2), lambda e: e.u.fill(0, None, 8)),
], ids="table.set t[0]= table.fill table.grow table.copy t.grow global.set g.value hidden t.fill".split())
def test_what_a_table_or_global_holds_lives_until_overwritten_and_swept(references, store, keep, forget):
    exports, thing = references(), Thing()
    weak = weakref.ref(thing)
    keep(exports, thing)
    del thing
    for _ in range(3):
        store.gc()
        assert weak() is not None
    forget(exports)
    assert weak() is not None
    assert store.gc() == 1
    assert weak() is None


def test_collections_are_exact_when_no_frame_is_active(references, store, make_payload):
    exports, dropped = references(), []
    for i in range(2000):
        exports.save(i % 8, make_payload(dropped, i))
    store.gc()
    assert sorted(dropped) == list(range(1992))


def test_active_frames_keep_what_they_hold(references, store, make_payload):
    dropped = []

    def call(ref, number):
        for i in range(number):
            exports.id(make_payload(dropped, i))
        store.gc()
        store.gc()
        assert None not in dropped
        return ref

    exports = references(call)
    for _ in range(20):
        held = make_payload(dropped)
        weak = weakref.ref(held)
        dropped.clear()
        back = exports.hold(held, make_payload(dropped), 1000)
        assert back[0] is held and None not in dropped
        assert len(dropped) >= 900      # the scan of the stack is conservative, not blind
        del back, held
        store.gc()
        assert weak() is None and dropped.count(None) == 2


def test_what_frames_no_longer_hold_is_collected_within_the_call(references, store, make_payload):
    dropped, most = [], 0

    def call(ref, number):
        nonlocal most
        most = max(most, externref.stats().live_blocks)
        return make_payload(dropped, number)

    references(call).loop(20_000)
    assert most < 3000 and store.activations.collections >= 10
    store.gc()
    assert len(dropped) == 20_000


def test_a_million_fresh_objects_from_an_import_stay_bounded(references, store):
    most = 0

    def call(ref, number):
        nonlocal most
        if number % 1000 == 0:
            most = max(most, externref.stats().live_blocks)
        return object()

    references(call).loop(MILLION)
    assert most < 3000, most


def test_a_million_objects_through_a_table_and_back(references, store):
    exports = references()
    save, load = exports.save, exports.load
    for i in range(MILLION):
        thing = [i]
        save(i & 7, thing)
        assert load(i & 7) is thing
    assert externref.stats().live_blocks < 3000
    exports.t.fill(0, None, 8)
    store.gc()
    assert externref.stats().live_blocks == 0


def test_a_hundred_thousand_collections(references, store):
    exports = references()
    exports.t.fill(0, object(), 8)
    for _ in range(100_000):
        exports.drop(1)
        store.gc()
    assert len(store.activations) == 1 and store.activations.collections >= 100_000


def test_automatic_collections_are_amortised(run, store):
    exports = run('(module (table (export "t") 100000 externref) (func (export "f") (param externref)))')
    for i in range(100_000):
        exports.t[i] = [i]
    before = store.activations.collections
    for _ in range(100_000):
        exports.f([])
    assert store.activations.collections - before <= 3


def test_references_moved_in_at_a_full_chunk_are_all_safe(references, store, make_payload):
    """wasmtime CVE-2021-39216: inserting the second collected the first."""
    exports, dropped = references(), []
    for remaining in (1, 2, 3, 4):
        for _ in range(20):
            while store.activations.bump_capacity_remaining() != remaining:
                exports.id(0)
            things = [make_payload(dropped, i) for i in range(3)]
            assert list(exports.three(*things)) == things
            assert dropped == []
            del things
            store.gc()
            dropped.clear()


@pytest.mark.parametrize("count", [2, 3])
def test_several_results_at_a_full_chunk_are_all_safe(run, store, make_payload, count):
    """The same of a host function's results, which only the store has by then."""
    dropped = []

    def give(number):
        return tuple(make_payload(dropped, (number, i)) for i in range(count))

    types = "externref " * count
    exports = run(f"""(module (import "e" "give" (func $give (param i32) (result {types})))
      (func (export "give") (param i32) (result {types}) (call $give (local.get 0)))
      (func (export "null") (param externref)))""", {"e": {"give": give}})
    for number in range(1000):
        if number < 80:
            while store.activations.bump_capacity_remaining() != 1 + number % 4:
                exports.null(0)
        given = exports.give(number)
        assert [payload.name for payload in given] == [(number, i) for i in range(count)]
        assert not any(name[0] == number for name in dropped)
    del given
    store.gc()
    assert len(dropped) == 1000 * count


def test_a_thousand_calls_with_three_references(references, store, make_payload):
    exports, dropped = references(), []
    for n in range(1000):
        things = [make_payload(dropped, (n, i)) for i in range(3)]
        assert list(exports.three(*things)) == things
        assert [ref.value for ref in exports.three.refs(*things)] == things
        assert (n, 0) not in dropped and (n, 1) not in dropped and (n, 2) not in dropped
    del things
    store.gc()
    assert len(dropped) == 3000


def test_the_same_reference_many_times(references, store):
    """wasmtime #13037: a set swallowed the second count."""
    exports, ref = references(), VMExternRef(Thing())
    weak = weakref.ref(ref.value)
    for _ in range(5000):
        assert exports.swap(ref, ref) == (ref.value, ref.value)
    exports.t.fill(0, ref, 8)
    store.gc()
    assert ref.strong_count == 2        # ours, and the table's one
    exports.t.fill(0, None, 8)
    store.gc()
    assert ref.strong_count == 1
    ref.drop()
    assert weak() is None


def test_a_finalizer_that_uses_the_store(references, store):
    """A __del__ that makes references, collects, and touches the slot that it left."""
    exports, log = references(), []

    class Busy:
        def __del__(self):
            store.gc()
            log.append(exports.t[0])
            exports.t[1] = exports.id([1])
            store.gc()

    exports.t[0] = Busy()
    exports.t[0] = "new"
    assert log == []
    store.gc()
    assert log == ["new"] and exports.t[1] == [1]


def test_a_finalizer_that_fills_the_chunk_during_a_collection(references, store):
    exports = references()

    class Busy:
        def __del__(self):
            for _ in range(600):
                exports.id(0)

    for _ in range(1200):
        exports.drop(Busy())
    a, b = object(), object()
    assert exports.swap(a, b) == (b, a)
    store.gc()


def test_an_argument_whose_conversion_collects(run, store, make_payload):
    """All arguments are converted before the first reference is in the table."""
    dropped = []
    f = run("""(module (func (export "f") (param externref i32 externref) (result externref externref)
      (local.get 0) (local.get 2)))""").f

    a, b = f(make_payload(dropped, "a"), Calling(store.gc), make_payload(dropped, "b"))
    assert (a.name, b.name, dropped) == ("a", "b", [])


def test_dropping_an_instance_releases_what_it_held(compile, store, make_payload):
    dropped = []
    exports = compile(CLOSED).instantiate(store).exports
    exports.t[0] = make_payload(dropped)
    t = exports.t
    del exports
    gc.collect()
    assert t[0] is not None     # an export keeps its instance
    del t
    gc.collect()
    assert dropped == [None]


def test_an_importing_instance_keeps_the_exporting_one(compile, store, make_payload):
    dropped = []
    provider = compile('(module (table (export "t") 2 externref))').instantiate(store)
    user = compile("""(module (import "p" "t" (table 2 externref))
      (func (export "f") (param i32) (result externref) (table.get 0 (local.get 0))))""").instantiate(store, {"p": provider})
    provider.exports.t[1] = make_payload(dropped)
    del provider
    gc.collect()
    store.gc()
    assert user.exports.f(1) is not None and dropped == []
    del user
    gc.collect()
    assert dropped == [None]


def test_a_funcref_keeps_its_instance(compile, store):
    holder = compile("""(module (table (export "t") 1 funcref) (type $t (func (result i32)))
      (func (export "call") (result i32) (call_indirect (type $t) (i32.const 0))))""").instantiate(store).exports
    exports = compile('(module (memory 1) (func (export "f") (result i32) (memory.size)))').instantiate(store).exports
    holder.t[0] = exports.f
    del exports
    gc.collect()
    assert holder["call"]() == 1


def test_a_cycle_through_a_table_is_collected_with_its_store(compile):
    store = wasm2c.Store()
    exports = compile(CLOSED).instantiate(store).exports
    thing = Thing()
    thing.way_back = exports, store
    exports.t[0] = thing
    weak = weakref.ref(thing), weakref.ref(store)
    del thing, exports
    gc.collect()
    assert weak[0]() is not None        # the store is in use
    del store
    gc.collect()
    assert [ref() for ref in weak] == [None, None]


def test_a_cycle_through_an_imported_function_is_collected(compile):
    store, holder = wasm2c.Store(), Thing()
    holder.exports = compile('(module (import "e" "f" (func)) (export "f" (func 0)))').instantiate(
        store, {"e": {"f": lambda: holder}}).exports  # noqa: F821  deleted below
    holder.exports.f()
    weak = weakref.ref(holder), weakref.ref(store)
    del holder, store
    gc.collect()
    assert [ref() for ref in weak] == [None, None]


def test_gc_with_every_allocation(references, store, make_payload):
    exports, dropped = references(), []
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for i in range(300):
            thing = make_payload(dropped, i)
            exports.t[i % 8] = [thing]
            assert exports.swap(thing, [thing]) == ([thing], thing)
            assert exports.three.refs(thing, None, thing)[2].value is thing
            store.gc()
    finally:
        gc.set_threshold(*threshold)
    assert i not in dropped


def test_an_instance_without_memory_for_its_table_is_safe(compile, little_memory):
    """wasmtime CVE-2022-23636: a half-built instance dropped what it did not have."""
    huge = compile('(module (table $a 1 externref) (table $b 0xfffffffe funcref) (table $c 1 externref) (memory 1))')
    store = wasm2c.Store(table_limit=None)
    for _ in range(3):
        with pytest.raises(MemoryError, match="no memory for a WebAssembly table"):
            huge.instantiate(store)
    store.gc()


def test_the_table_of_a_store_is_the_stores_own(references, store):
    # Its roots are known to the store alone: from Python nothing can be dropped that compiled code uses.
    exports = references()
    exports.t[0] = thing = [1]
    table, ref = store.activations, VMExternRef(1)
    for use in (table.gc, table.sweep, lambda: table.insert_precise_stack_root(0), lambda: table.address,
                lambda: table.try_insert(ref), lambda: table.insert_with_gc(ref), lambda: table.insert_without_gc(ref)):
        with pytest.raises(RuntimeError, match="a store's own"):
            use()
    assert exports.t[0] is thing and not ref.moved and len(table) == 1


def test_a_collection_while_several_results_are_made(references, store):
    exports = references()
    gc.callbacks.append(collect := lambda phase, info: store.gc())
    threshold = gc.get_threshold()
    try:
        for _ in range(50):
            lists = [[] for _ in range(200)]    # so that a list is allocated, not reused
            gc.set_threshold(1)
            first, second = [1], [2]
            assert exports.swap(first, second) == (second, first)
            gc.set_threshold(*threshold)
            del lists
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collect)


def test_a_long_chain_of_instances_is_freed(compile):
    module = compile('(module (import "e" "r" (global externref)))')
    instance = None
    for _ in range(60_000):
        instance = module.instantiate(wasm2c.Store(), {"e": {"r": instance}})
    del instance


def test_nobody_takes_from_the_store_what_its_tables_call(compile, store):
    module = compile("""(module (table (export "t") 2 funcref) (func $f (result i32) (i32.const 5)) (elem (i32.const 0) $f))""")
    function = module.instantiate(store).exports.t[0]
    for thing in gc.get_referents(store):
        for empty in ("clear", "pop"):
            assert not hasattr(thing, empty)
    del function
    gc.collect()


def test_what_makes_a_func_cannot_be_found(compile, store):
    # 3.11 collects where memory is allocated, between the arguments and the check of them.
    table = compile('(module (table (export "t") 2 funcref) (func $f) (elem (i32.const 0) $f))').instantiate(store).exports.t
    found = []

    def look(phase, info):
        found.extend(thing[0] for thing in gc.get_objects() if type(thing) is tuple and len(thing) == 1)

    thresholds = gc.get_threshold()
    gc.callbacks.append(look)
    try:
        for threshold in range(1, 12):
            gc.collect()
            gc.set_threshold(threshold)
            function = table[0]
            gc.set_threshold(*thresholds)
    finally:
        gc.callbacks.remove(look)
        gc.set_threshold(*thresholds)
    for thing in found:
        with pytest.raises(TypeError):
            type(function)(thing)


def test_an_instance_for_which_there_was_no_memory_does_not_count(compile):
    module = compile("""(module (table 3 funcref) (memory 2) (memory 2) (func $f (export "f") (param funcref))
      (elem (i32.const 0) $f))""")
    with wasm2c.Store(memory_limit=3 << 16, table_limit=3) as store:
        for _ in range(3):
            with pytest.raises(MemoryError):
                module.instantiate(store)
        assert len(wasm2c.Memory(store, wasm2c.MemoryType(3))) == 3 << 16


def test_an_instance_for_which_there_was_no_memory_may_be_in_a_table(compile):
    module = compile("""(module (import "env" "t" (table 1 funcref)) (type $t (func (result i32)))
      (memory 2) (memory 2) (func $f (result i32) (i32.load (i32.const 0))) (elem (i32.const 0) $f))""")
    with wasm2c.Store(memory_limit=3 << 16) as store:
        table = wasm2c.Table(store, wasm2c.TableType("funcref", 1))
        with pytest.raises(MemoryError):
            module.instantiate(store, {"env": {"t": table}})
        gc.collect()
        assert len(wasm2c.Memory(store, wasm2c.MemoryType(3))) == 3 << 16
        with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
            table[0]()


def test_a_finalizer_that_passes_a_funcref_while_another_is_passed(compile, store):
    module = compile('(module (func (export "f")))')
    take = compile('(module (func (export "take") (param funcref)))').instantiate(store).exports.take
    for _ in range(30):
        take(module.instantiate(store).exports.f)
    instances = []

    def pass_one():
        instance = module.instantiate(store)
        take(instance.exports.f)
        instances.append(weakref.ref(instance))

    class Cycle:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            pass_one()

    thresholds = gc.get_threshold()
    gc.collect()
    try:
        gc.set_threshold(1)
        for _ in range(10):
            gc.disable()
            Cycle()
            f = module.instantiate(store).exports.f
            gc.enable()
            take(f)     # it collects where it makes something
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    del f
    gc.collect()
    assert len(instances) == 10 and None not in [instance() for instance in instances]


# --- What finalizers see that run while the collector clears a store

LATE = """
import gc, sys, weakref
from externref import wasm2c

kept = []

class Box:
    def __init__(self, thing): self.thing = thing

class New:
    def __init__(self, function): self.function = function
    def __del__(self):
        box = kept[-1]()
        if box is None and (sys.version_info >= (3, 14) or not getattr(sys, "_is_gil_enabled", lambda: True)()):
            ran.append(1)   # it clears those that finalizers make too: nothing is left to reach the garbage by
        else:
            self.function(box.thing)

class Late:
    # Garbage. When the collector has begun to clear it and the rest, function(thing) runs: a finalizer makes a weak
    # reference, after those that there were are cleared, and puts a new object, which is not of the garbage, into a
    # list that is.
    def __init__(self, function, thing):
        self.holder = []
        self.function = function
        self.box = Box(thing)
        self.me = self
    def __del__(self):
        kept.append(weakref.ref(self.box))
        self.holder.append(New(self.function))

ran = []

def closed(use):
    try:
        use()
    except ValueError as error:
        assert str(error) == "the store is already closed"
    ran.append(1)
"""


@pytest.mark.parametrize("use", [
    "t[0]", "list(t)", "t.ref(1)", "t.grow(1)", "g.value", "f('new')", "call()", "m.read()",
    "module.instantiate(store, imports)", "store.gc()"])
def test_a_finalizer_with_a_part_of_a_store_that_is_collected(run_python, use):
    assert run_python(LATE + f"""
module = wasm2c.compile('''(module (import "e" "h" (func $h (param i32 i64 f64) (result i32)))
  (table (export "t") 4 externref) (table (export "u") 4 funcref) (global (export "g") (mut externref) (ref.null extern))
  (memory (export "m") 1)
  (func (export "f") (param externref) (result externref) (local.get 0))
  (func (export "call") (result i32) (call $h (i32.const 1) (i64.const 2) (f64.const 3))))''')
gc.disable()
def run(parts):
    fill = [bytes(24) for _ in range(1000)]
    t, g, f, call, m, store = parts
    closed(lambda: {use})
imports = {{"e": {{"h": lambda *args: 1}}}}
def make():
    store = wasm2c.Store()
    namespace = {{}}
    def host(*args): return namespace and 1
    instance = namespace["instance"] = module.instantiate(store, {{"e": {{"h": host}}}})
    t = instance.exports.t
    t[0] = ["first", instance]
    t[1] = "x" * 500
    t[2] = instance.exports.g.value = object()
    exports = instance.exports
    parts = t, exports.g, exports.f, exports.call, exports.m, store
    t[3] = Late(run, parts)
    namespace["late"] = Late(run, parts)
make()
gc.collect()
gc.collect()
print(len(ran) > 0)
""") == "True\n"


def test_a_store_that_is_let_go_is_freed_whatever_it_pins(compile):
    def go(kind):
        store = wasm2c.Store()
        instance = compile(f'(module (memory 1) (table (export "t") 4 {kind}) (func (export "f")))').instantiate(store)
        if kind == "externref":
            instance.exports.t[0] = instance
        return weakref.ref(instance), weakref.ref(store)

    for kind in ("funcref", "externref"):
        refs = [go(kind) for _ in range(20)]
        gc.collect()
        gc.collect()
        assert not any(ref() for pair in refs for ref in pair)


def test_nothing_pins_less_than_was_asked(compile, store):
    """A finalizer pins an instance while another is pinned."""
    table = compile("""(module (type $r (func (result i32))) (table (export "t") 4 funcref)
      (func (export "call") (param i32) (result i32) (call_indirect (type $r) (local.get 0))))""")
    plain = compile('(module (func (export "f") (result i32) (i32.const 5)))')
    hold = [table.instantiate(store) for _ in range(25)]    # so that the tuple of them is no small one
    t, call = hold[0].exports.t, hold[0].exports.call

    class Pins:
        def __init__(self, function):
            self.me, self.function = self, function

        def __del__(self):
            t[1] = self.function

    threshold = gc.get_threshold()
    gc.disable()
    try:
        first, second = plain.instantiate(store), plain.instantiate(store)
        gc.collect()
        Pins(second.exports.f)
        function = first.exports.f
        gc.set_threshold(1)
        gc.enable()
        t[0] = function
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    gc.collect()
    if t[1] is None:
        t[1] = second.exports.f
    kept = weakref.ref(first), weakref.ref(second)
    del first, second, function
    gc.collect()
    assert kept[0]() is not None and kept[1]() is not None and call(0) == call(1) == 5


def test_a_store_runs_that_the_collector_is_about_to_clear(run_python):
    """A finalizer has made a weak reference to a function, and another thread calls it. Not with all CPythons: some
    clear it."""
    assert run_python("""
import gc, threading, weakref
from externref import VMExternRef, VMExternRefActivationsTable, wasm2c
gc.disable()
functions, dropped, taken = [], [], []
go, inside, cleared = threading.Event(), threading.Event(), threading.Event()
module = wasm2c.compile('''(module (import "e" "wait" (func $wait)) (table (export "t") 4 externref)
  (func (export "get_late") (result externref) (local $r externref)
    (local.set $r (table.get 0 (i32.const 0))) (call $wait) (local.get $r)))''')

class Value:
    whole = True
    def __del__(self): dropped.append(1)

class Slow:
    def __del__(self):
        go.set()
        inside.wait(0.05)

class Part:
    def __init__(self):
        self.slow = VMExternRef(Slow())
        self.slow.as_raw()      # lent: the collector does not look into it, so the finalizer runs as Part is cleared
    def __del__(self):
        functions.append(weakref.ref(self.exports.get_late))

def wait():
    inside.set()
    cleared.wait(0.05)

def call():
    go.wait()
    for function in [reference() for reference in functions]:
        if function is not None:
            try:
                taken.append(function().whole)
            except ValueError:
                pass            # it is closed
            break

for _ in range(10):
    for event in (go, inside, cleared):
        event.clear()
    functions.clear()
    thread = threading.Thread(target=call)
    thread.start()
    part = Part()       # before the store, and so cleared before it
    part.exports = exports = module.instantiate(wasm2c.Store(), {"e": {"wait": wait}}).exports
    exports.t[0], exports.t[1] = Value(), part
    del exports, part
    gc.collect()
    cleared.set()
    go.set()
    thread.join()
    taken.clear()
gc.collect()
print(len(dropped))
""") == "10\n"


def test_an_instance_that_a_finalizer_saves_is_whole(run_python):
    """Its functions as values, and its names in a trap: the collector has cleared weak references before."""
    assert run_python("""
import gc
from externref import wasm2c
module = wasm2c.compile('''(module (table (export "t") 2 funcref) (table (export "x") 1 externref)
  (elem (i32.const 0) func $id)
  (func $id (param externref) (result externref) (local.get 0))
  (func (export "own") (result funcref) (ref.func $id))
  (func $boom (export "boom") unreachable))''')
saved = []
class Saver:
    def __del__(self):
        print(self.e.own()(5))
        saved.append(self.e)
saver = Saver()
saver.e = module.instantiate(wasm2c.Store()).exports
saver.e.x[0] = saver
del saver
gc.collect()
print(saved[0].t[0](6), saved[0].own()(7))
try:
    saved[0].boom()
except wasm2c.Trap as trap:
    print(*trap.frames)
""") == "5\n6 7\n'boom'\n"
