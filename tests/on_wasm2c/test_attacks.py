"""What broke out, and does not any more: hostile modules, and Python code that looks for what is half made. P2, P10, P11.

A break ends the process or is seen in what the test asserts.
"""

import _thread
import contextlib
import faulthandler
import functools
import gc
import os
import signal
import sys
import threading

import pytest

from externref import wasm2c
from externref.wasm2c import GlobalType, MemoryType, TableType
from externref.wasm2c.binary import read_binary
from support import LET_GO, LET_GO_AT_ALLOCATIONS, LET_GO_IN_THE_DRAIN, Calling, Payload


@pytest.fixture(autouse=True)
def watchdog():
    faulthandler.dump_traceback_later(100, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def multiplied(kind, calling):
    """A number of the kind that calls it when it is multiplied."""
    return type("Number", (kind,), {"__mul__": lambda self, other: calling.__index__()})(1)


# --- Types that say something else each time they are asked

class Equal(str):
    """A value type that is equal to every other."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


@pytest.mark.parametrize("taken_for", ["externref", "i64", "funcref", "v128"])
def test_a_global_is_of_the_type_that_its_value_was_read_as(compile, store, taken_for):
    cell = wasm2c.Global(store, GlobalType(Equal("externref"), True), 7)
    assert cell.type == GlobalType("i32", True) and type(cell.type.value) is str and cell.value == 7
    module = compile(f'(module (import "h" "g" (global (mut {taken_for}))) (func (export "get") (result {taken_for}) global.get 0))')
    with pytest.raises(wasm2c.LinkError, match="mutable global of i32"):
        module.instantiate(store, {"h": {"g": cell}})


def test_a_tables_type_is_asked_once(compile, store):
    asked = []

    class Changing(TableType):
        @property
        def element(self):
            asked.append(1)
            return "externref" if len(asked) == 1 else "funcref"

        def _replace(self, **changes):
            return self

    table = wasm2c.Table(store, Changing("externref", 8))
    assert len(asked) == 1 and type(table.type) is TableType and table.type == TableType("externref", 8)
    module = compile('(module (import "h" "t" (table 8 funcref)) (elem (i32.const 7) func $f) (func $f))')
    with pytest.raises(wasm2c.LinkError, match="table of 8 to any externref"):
        module.instantiate(store, {"h": {"t": table}})


def test_a_memorys_type_is_asked_once(store):
    class Changing:
        asked = 0

        def __bool__(self):
            self.asked += 1
            return self.asked == 1

    memory = wasm2c.Memory(store, MemoryType(0, 2**20, Changing()))
    assert memory.type == MemoryType(0, 2**20, True)
    with pytest.raises(BufferError):
        memoryview(memory)
    with pytest.raises(ValueError, match="0 to 65536"):
        wasm2c.Memory(store, MemoryType(0, 2**20, type("Never", (Changing,), {"asked": 1})()))


def test_linking_asks_no_public_class(compile, store, monkeypatch):
    given = compile('(module (func (export "f") (param i64) (result i64) local.get 0))').instantiate(store).exports
    module = compile("""(module (import "a" "f" (func (param i64) (result externref)))
        (func (export "go") (param i64) (result externref) (call 0 (local.get 0))))""")
    for kind in (wasm2c.FuncType, TableType, MemoryType, GlobalType):
        monkeypatch.setattr(kind, "__ne__", lambda self, other: False)
        monkeypatch.setattr(kind, "__eq__", lambda self, other: True)
    monkeypatch.setattr(wasm2c.Import, "type", wasm2c.FuncType(("i64",), ("i64",)))
    monkeypatch.setattr(wasm2c.FuncType, "results", ("externref",))
    with pytest.raises(wasm2c.LinkError):
        module.instantiate(store, {"a": given})


# --- What is half made

USES = (len, repr, bytes, list, lambda it: it[0], lambda it: it.__setitem__(0, 0), lambda it: it.fill(0, 0, 0),
        lambda it: it.grow(1), lambda it: it.value, lambda it: setattr(it, "value", 1), lambda it: it.type, lambda it: it.ref,
        lambda it: it.read(), lambda it: it.write(b"x"), lambda it: it.gc(), lambda it: it.close(), lambda it: it.exports)


@pytest.mark.parametrize("make", [
    lambda store, number: wasm2c.Table(store, TableType("externref", number)),
    lambda store, number: wasm2c.Table(store, TableType("externref", 1, number), "value"),
    lambda store, number: wasm2c.Memory(store, MemoryType(number)),
    lambda store, number: wasm2c.Global(store, GlobalType("i32"), number),
    lambda store, number: wasm2c.Store(timeout=multiplied(float, number)),
    lambda store, number: wasm2c.Store(memory_limit=multiplied(int, number)),
])
def test_nobody_finds_what_is_half_made(store, make):
    kinds = (wasm2c.Table, wasm2c.Memory, wasm2c.Global, wasm2c.Store, wasm2c.Instance)
    found = []

    def look():
        for thing in gc.get_objects():
            if type(thing) in kinds and thing is not store:
                found.append(type(thing))
                for use in USES:
                    with contextlib.suppress(Exception):
                        use(thing)

    before = [thing for thing in gc.get_objects() if type(thing) in kinds and thing is not store]
    assert not before
    asked = []
    made = make(store, Calling(lambda: (asked.append(1), look())))
    assert asked and not found and gc.is_tracked(made)


def test_nobody_finds_an_instances_lists(compile, store):
    def function():
        called.append(1)

    def look():
        for thing in gc.get_objects():
            if type(thing) is list and any(item is function or type(item).__name__ in ("HostFunc", "Memory") for item in thing):
                if thing is not kept:
                    found.append(len(thing))
                    thing.clear()

    class Group(dict):
        def __missing__(self, name):
            look()
            return Calling(look)

    called, found, kept = [], [], [function]
    module = compile("""(module (import "h" "f" (func)) (import "h" "m" (memory 1)) (import "h" "g" (global i32))
        (import "h" "i" (global i32)) (func (export "go") (result i32) (call 0) (i32.load (i32.const 0))))""")
    memory = wasm2c.Memory(store, MemoryType(1))
    exports = module.instantiate(store, {"h": Group(f=function, m=memory)}).exports
    assert exports.go() == 0 and called and not found
    del memory
    gc.collect()
    assert exports.go() == 0


@pytest.mark.parametrize("threshold", range(1, 40))
def test_nobody_changes_a_modules_types_while_it_is_loaded(compile, store, threshold):
    text = """(module (func (export "a") (param i64) (result i32) i32.const 0)
        (func (export "f") (param externref) (result externref) local.get 0)
        (func (export "p") (param i64) (result externref i32) unreachable))"""
    compile(text)       # in the cache

    def shuffle(phase, info):
        for thing in gc.get_objects():
            if type(thing) is list and len(thing) > 1 and type(thing[0]).__name__ in ("Signature", "Port", "ItemType"):
                thing.reverse()
                changed.append(1)

    changed = []
    before = gc.get_threshold()
    gc.callbacks.append(shuffle)
    try:
        gc.set_threshold(threshold)
        module = wasm2c.compile(text)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(shuffle)
    assert not changed
    exports = module.instantiate(store).exports
    assert exports.f(store) is store and exports.a(1) == 0


def test_what_is_pinned_is_found_nowhere_else(compile, store):
    """unpin() makes a tuple anew."""
    module = compile('(module (memory 60000) (func $f (export "f")) (table (export "t") 1 funcref) (elem (i32.const 0) $f))')
    with wasm2c.Store(memory_limit=1) as store:
        for _ in range(3):
            with pytest.raises(MemoryError):
                module.instantiate(store)
    assert store.closed


# --- References that end in the middle

def test_a_function_that_is_let_go_in_its_call(compile, store):
    def host():
        bound.__setstate__((print, (), {}, {}))
        gc.collect()
        [bytes(200) for _ in range(100)]
        return 7

    module = compile("""(module (import "h" "f" (func $h (result i32))) (func $g (result i32) (call $h))
        (elem declare func $g) (func (export "get") (result funcref) (ref.func $g)))""")
    exports = module.instantiate(store, {"h": {"f": host}}).exports
    bound = functools.partial(exports["get"]())
    assert bound() == 7


# What makes the callable, with a table t, a memory m and a mutable global g of i32, of a store s.
LETTING_GO = {
    "element": "partial(getitem, t, Number(0))",
    "ref": "partial(t.ref, Number(0))",
    "set element": "partial(setitem, t, Number(0), ['x'])",
    "fill": "partial(t.fill, Number(0), ['x'], 1)",
    "table.grow": "partial(t.grow, Number(0), ['x'])",
    "value": "partial(setattr, g, 'value', Number(0))",
    "byte": "partial(getitem, m, Number(0))",
    "bytes": "partial(getitem, m, slice(Number(0), 1))",
    "set byte": "partial(setitem, m, Number(0), int('1000') // 10)",
    "set bytes": "partial(setitem, m, slice(Number(0), 4), bytes(4))",
    "read": "partial(m.read, Number(0))",
    "write": "partial(m.write, bytes(4), Number(0))",
    "memory.grow": "partial(m.grow, Number(0))",
    "gc": "left_by(t) or s.gc",
    "close": "left_by(t) or s.close",
}


@pytest.mark.parametrize("use", LETTING_GO)
def test_an_item_that_its_caller_lets_go_in_the_call(run_python, use):
    run_python(LET_GO + f"""
from operator import getitem, setitem
from externref.wasm2c import Global, GlobalType, Memory, MemoryType, Store, Table, TableType
class Finalizer:
    def __del__(self):
        tables.clear()
        end()
tables = []
def left_by(t):
    "What the table had, a collection drops. Without the table that would be now."
    for i in range(5): t[i] = Finalizer()
    t.fill(0, None, 5)
    tables.append(t)
def make():
    s = Store()
    t, m, g = Table(s, TableType("externref", 5)), Memory(s, MemoryType(1)), Global(s, GlobalType("i32", True), 0)
    return {LETTING_GO[use]}
assert let_go(make) == "over"
""", env={"PYTHONMALLOC": "debug"})


WATCHED = """(module (import "" "host" (func $host)) (func (export "f") (param externref)) (func (export "go") call $host))"""


def test_an_argument_that_its_caller_lets_go_in_the_call(run_python):
    """CPython 3.11 calls a weak reference's callback with what it does not own. A collection runs before the call."""
    run_python("""
import sys, weakref
from externref import wasm2c
class Thing: pass
class Finalizer:
    def __del__(self): watchers.clear()
def host():
    for _ in range(3):
        thing = Thing()
        watchers.append(weakref.ref(thing, f))
        f(Finalizer())
        while store.activations.bump_capacity_remaining():
            f([])
        del thing
        assert watchers == []
watchers, store = [], wasm2c.Store()
f, go = wasm2c.compile(sys.argv[1]).instantiate(store, {"": {"host": host}}).exports.values()
go()
""", WATCHED, env={"PYTHONMALLOC": "debug"})


def test_arguments_that_their_caller_lets_go_in_the_call(run_python):
    run_python(LET_GO + """
import sys
from externref import wasm2c
kept = wasm2c.compile(sys.argv[1]).instantiate(wasm2c.Store()).exports.f
assert let_go(lambda: partial(kept, Number(0), int("1" * 15), ["x"])) == "over"
""", '(module (func (export "f") (param i32 i64 externref)))', env={"PYTHONMALLOC": "debug"})


def test_a_collection_while_a_traps_functions_are_named(compile):
    """It takes instances out of the ring that is being walked."""
    tables = compile('(module (table (export "t") 1 externref) (global (export "g") (mut externref) (ref.null extern)))')
    failing = compile('(module (func (export "f") unreachable))')
    with wasm2c.Store() as store:
        function = failing.instantiate(store).exports.f
        before = gc.get_threshold()
        try:
            for _ in range(50):
                gc.disable()
                for _ in range(3):
                    cycle = {"instance": tables.instantiate(store)}
                    cycle["cycle"] = cycle
                del cycle
                gc.set_threshold(1)
                gc.enable()
                with pytest.raises(wasm2c.Trap, match="function 0"):
                    function()
        finally:
            gc.set_threshold(*before)
            gc.enable()


def test_an_instance_that_is_being_deallocated_is_not_given_out(compile):
    tables = compile("""(module (table (export "t") 1 funcref) (func (export "f") (result externref funcref)
        (ref.null extern) (table.get 0 (i32.const 0))))""")
    functions = compile('(module (import "c" "t" (table 1 funcref)) (elem (i32.const 0) $x) (func $x))')
    got = []

    def attempt(depth):
        store = wasm2c.Store()
        instance = tables.instantiate(store)
        functions.instantiate(store, {"c": instance})
        function = instance.exports.f

        def close(phase, info):
            if phase == "start" and not store.closed:
                store.close()

        class Last:
            def __del__(self):
                before = gc.get_threshold()
                gc.set_threshold(1)
                gc.callbacks.append(close)
                kept = [[] for _ in range(100)]
                gc.enable()
                try:
                    got.append(function())
                except RuntimeError as error:
                    got.append(str(error))
                finally:
                    gc.disable()
                    gc.callbacks.remove(close)
                    gc.set_threshold(*before)
                del kept

        nested = Last()
        for _ in range(depth):
            nested = (nested,)
        gc.collect()
        del nested

    gc.disable()
    try:
        for depth in range(30, 60):
            attempt(depth)
    finally:
        gc.enable()
    assert len(got) == 30
    for result in got:
        assert isinstance(result, str) or result[1].instance.exports is not None


# --- Greenlets, without a word of the module's

ACROSS = """(module (import "h" "f" (func $h)) (import "h" "new" (func $new (result externref)))
    (func (export "go") (result externref) (local externref) (local.set 0 (call $new)) (call $h) (local.get 0)))"""


@pytest.mark.parametrize("lie", ["no module", "one that knows of none", "run by the greenlet itself"])
def test_greenlets_are_known_whatever_their_module_says(compile, store, monkeypatch, lie):
    if "ASAN_OPTIONS" in os.environ:
        pytest.skip("AddressSanitizer does not know stacks that are moved")
    greenlet = pytest.importorskip("greenlet")
    main = greenlet.getcurrent()
    other = type(sys)("greenlet")
    other.getcurrent = lambda: None
    monkeypatch.setitem(sys.modules, "greenlet", None if lie == "no module" else other)
    exports = compile(ACROSS).instantiate(store, {"h": {"f": lambda: main.switch(), "new": lambda: Payload([], "kept")}}).exports
    child = greenlet.greenlet(exports.go if lie.startswith("run") else lambda: exports.go())
    child.switch()

    def use(depth):     # below the frames that the other one had
        if depth:
            return list(map(use, [depth - 1]))
        with pytest.raises(RuntimeError, match="another greenlet"):
            store.gc()

    use(0)
    use(60)
    greenlet.greenlet(use).switch(60)
    with pytest.raises(RuntimeError, match="another greenlet"):
        greenlet.greenlet(store.gc).switch()
    assert child.switch().name == "kept"


def test_a_call_that_no_python_code_makes_may_use_the_store(compile, store):
    def use():
        used.append(store.gc())
        return exports.id("x")

    module = compile("""(module (import "h" "f" (func $h (result externref))) (func (export "go") (result externref) (call $h))
        (func (export "id") (param externref) (result externref) (local.get 0)))""")
    exports = module.instantiate(store, {"h": {"f": use}}).exports
    used, done = [], threading.Event()
    exports_ = module.instantiate(store, {"h": {"f": lambda: (use(), done.set())}}).exports
    _thread.start_new_thread(exports_.go, ())
    assert done.wait(30) and used


# --- Values where compiled code expects them

@pytest.mark.parametrize("mutable", [True, False])
def test_v128_globals_of_the_hosts(compile, store, mutable):
    """Compiled code reads and writes them by instructions that take multiples of 16 alone."""
    kind = "(mut v128)" if mutable else "v128"
    module = compile(f"""(module (import "h" "g" (global $g {kind}))
      {'(func (export "set") (param v128) (global.set $g (local.get 0)))' if mutable else ""}
      (func (export "get") (result v128) (i32x4.add (global.get $g) (global.get $g))))""")
    cells = [wasm2c.Global(store, GlobalType("v128", mutable), bytes([n] * 16)) for n in range(8)]
    for n, cell in enumerate(cells):
        exports = module.instantiate(store, {"h": {"g": cell}}).exports
        assert exports["get"]() == bytes([2 * n] * 16)
        if mutable:
            exports.set(bytes(range(16)))
            assert cell.value == bytes(range(16))


def test_a_value_types_name_is_a_name(store):
    class Anything(Equal):
        def __hash__(self):
            return hash("i64")

    assert wasm2c.Table(store, TableType(Anything("x"), 1)).type.element in ("externref", "funcref")


def test_the_library_is_in_nobodys_sight(compile):
    compile("(module)")
    assert not [thing for thing in gc.get_objects() if type(thing).__name__ == "CDLL" and "externref_wasm2c_module" in vars(thing)]


# --- Small stacks

@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer's frames are larger")
@pytest.mark.parametrize("size", [32, 64])
def test_what_carries_many_values_on_a_small_stack(compile, run_in_threads, size):
    """It comes before the first function that looks how much stack there is."""
    types = "funcref " * 300
    exports = compile(f"""(module (func (export "f") (param {types}) (result {types})
      {" ".join(f"(local.get {i})" for i in range(300))}))""").instantiate(wasm2c.Store()).exports

    def attempt():
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.f(*[None] * 300)

    run_in_threads(attempt, 1, size * 1024)


# --- Time

WARM = """(module
  (func $nop) (table 1 funcref) (elem (i32.const 0) $nop) {memory}
  (func (export "go") (param $warm i32) (local i32 i64) (local $i i32)
    (loop $w (call_indirect (i32.const 0))
      (br_if $w (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $warm))))
    (local.set 1 (i32.const 0))
    (loop $l {body} (br $l))))"""
LOAD = "(i32.load (i32.and (i32.add (i32.mul {} (i32.const 1664525)) (local.get 1)) (i32.const 0xffffffc)))"
CHAIN = functools.reduce(lambda address, _: LOAD.format(address), range(14), "(local.get 0)")
SLOW = {
    "a chain of loads": ("(memory 4096)", f"(local.set 0 {CHAIN}) (local.set 1 (i32.add (local.get 1) (i32.const 68)))"),
    "loads": ("(memory 4096)", f"(local.set 0 {LOAD.format(LOAD.format('(local.get 0)'))}) "
                               "(local.set 1 (i32.add (local.get 1) (i32.const 68)))"),
    "memories that cannot grow": ("(memory i64 1)", "(drop (memory.grow (i64.const 0x600000000)))" * 8),
    "memories that move": ("(memory i64 1000)", "(drop (memory.grow (i64.const 1)))"),
    "tables that move": ("(table $t 100000 externref)", "(drop (table.grow $t (ref.null extern) (i32.const 1)))"),
    "divisions": ("", "(local.set 2 (i64.div_u (i64.const 0x7fffffffffffffff) (i64.add (local.get 2) (i64.const 3))))" * 3),
}


@pytest.mark.parametrize("slow", SLOW)
def test_what_was_cheap_does_not_put_off_the_end(compile, slow):
    """It was up to 40 seconds late; the watchdog comes after 100, for ten times that in all."""
    memory, body = SLOW[slow]
    go = compile(WARM.format(memory=memory, body=body)).instantiate(wasm2c.Store(timeout=0.2, memory_limit=1 << 29)).exports.go
    for _ in range(10):
        with pytest.raises(wasm2c.Trap, match="interrupted"):
            go(6_000_000)


def leb(number):
    result = bytearray()
    while number >= 0x80:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


def name(text):
    return leb(len(text)) + text.encode()


def test_element_segments_are_read_in_time_by_their_size():
    """Not by its square, in which a million would take an hour."""
    imported = section(2, leb(1) + name("h") + name("g") + b"\x03\x6f\x00")
    segment = section(9, leb(1) + b"\x05\x6f" + leb(10**6) + b"\x23\x00\x0b" * 10**6)
    binary = read_binary(b"\0asm\1\0\0\0" + imported + segment)
    assert len(binary.elements[0].values) == 10**6


# --- Room

def test_memories_leave_the_process_its_address_space(compile):
    """One without a maximum takes 4 GiB of it, however small it is."""
    if "ASAN_OPTIONS" in os.environ:
        pytest.skip("AddressSanitizer has no such address space left")
    module = compile("(module " + "(memory 0)" * 100 + ")")
    stores, counts = [], []
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stores.append(stack.enter_context(wasm2c.Store(memory_limit=1 << 20)))
            instances = []
            with pytest.raises(MemoryError):
                while len(instances) < 2000:
                    instances.append(module.instantiate(stores[-1]))
            counts.append(len(instances))
            stack.callback(instances.clear)
            if counts[-1] < 10:
                break
        assert counts[0] == 10 and sum(counts) <= 82    # 4 TiB of a store's, 32 of all
        assert len(bytearray(1 << 26)) == 1 << 26
    gc.collect()
    with wasm2c.Store() as store:
        assert module.instantiate(store) is not None       # given back


# --- Signals where there is little stack

DEEP = """(module (func $r (export "r") (param $depth i32) (param $turns i32) (result i32) (local $i i32)
  (if (result i32) (local.get $depth)
    (then (i32.add (i32.const 1) (call $r (i32.sub (local.get $depth) (i32.const 1)) (local.get $turns))))
    (else (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $turns))))
      (i32.const 0)))))"""
ENDLESS = 0xffffffff


@pytest.fixture
def deepest(compile):
    """How often DEEP can call itself, and leave less stack than a host function needs."""
    function = compile(DEEP).instantiate(wasm2c.Store()).exports.r
    low, high = 0, 10**7
    while high - low > 100:
        middle = (low + high) // 2
        try:
            function(middle, 0)
        except wasm2c.Trap:
            high = middle
        else:
            low = middle
    return low * 19 // 20


needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers")


@needs_timers
def test_handlers_that_recurse_run_where_there_is_stack(compile, deepest):
    nested = []
    for _ in range(100_000):
        nested = [nested]
    ran = []

    def handler(number, frame):
        with contextlib.suppress(RecursionError):
            repr(nested)
        ran.append(number)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with wasm2c.Store(timeout=0.3) as store:
            function = compile(DEEP).instantiate(store).exports.r
            for depth in [deepest * k // 12 for k in range(13)]:
                signal.setitimer(signal.ITIMER_REAL, 0.02, 0.01)
                with pytest.raises(wasm2c.Trap, match="interrupted"):
                    function(depth, ENDLESS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        while nested:
            nested = nested.pop()
    assert ran


@needs_timers
def test_ctrl_c_where_there_is_little_stack(compile, deepest):
    ended = []
    before = signal.signal(signal.SIGINT, lambda number, frame: ended.append(number))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    try:
        with wasm2c.Store() as store:
            function = compile(DEEP).instantiate(store).exports.r
            timer.start()
            with pytest.raises(wasm2c.Trap, match="interrupted"):
                function(deepest, ENDLESS)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert ended == [signal.SIGINT]


# --- At the end

COMPILES = """
import atexit
from externref import wasm2c

def go():
    try:
        wasm2c.compile("(module)", cache=False)
        print("compiled")
    except wasm2c.CompileError as error:
        print("CompileError")

atexit.register(go)
"""


def test_compiling_when_the_interpreter_ends(run_python):
    assert run_python(COMPILES).strip() in ("compiled", "CompileError")


# --- Arguments that go in a drain, or in a collection

def test_arguments_that_go_in_the_drain(run_python):
    run_python(LET_GO_IN_THE_DRAIN + """
import sys
from externref import wasm2c
f = wasm2c.compile(sys.argv[1]).instantiate(wasm2c.Store()).exports.f
assert let_go_in_the_drain(partial(f, ["first"], ["second"], ["third"])) == (["second"], ["third"])
""", """(module (func (export "f") (param externref externref externref) (result externref externref)
    (local.get 1) (local.get 2)))""", env={"PYTHONMALLOC": "debug"})


def test_what_goes_at_an_allocation(run_python):
    run_python(LET_GO_AT_ALLOCATIONS + """
import sys
from functools import partial
from externref.wasm2c import Memory, MemoryType, Store, Table, TableType, compile
for items in let_go_at_allocations(lambda: Table(Store(), TableType("externref", 5)).__iter__):
    assert list(items) == [None] * 5
for items in let_go_at_allocations(lambda: Memory(Store(), MemoryType(1)).__iter__):
    assert next(items) == 0
for table in let_go_at_allocations(lambda: partial(Table, Store(), TableType("externref", 1, 2), ["value"])):
    assert table[0] == ["value"]
store, other = Store(), compile('(module (func (export "g")))')
f = compile(sys.argv[1]).instantiate(store).exports.f
for result in let_go_at_allocations(lambda: partial(f, other.instantiate(store).exports.g, ["x"])):
    assert result == ["x"]
""", '(module (func (export "f") (param funcref externref) (result externref) (local.get 1)))',
               env={"PYTHONMALLOC": "debug"})


def test_an_argument_that_goes_on_a_thread_without_a_frame(run_python):
    """CPython 3.11 calls a weak reference's callback with what it does not own."""
    run_python("""
import _thread, gc, sys, time, weakref
from externref import wasm2c
exports = wasm2c.compile(sys.argv[1]).instantiate(wasm2c.Store()).exports
f, t = exports.f, exports.t
class Thing: pass
class Cycle:
    def __del__(self):
        watchers.clear()
        keep.append([[k] for k in range(100)])
watchers = []
start, sleep, threshold = _thread.start_new_thread, time.sleep, gc.set_threshold
for n in range(1, 16):
    threshold(0)
    t[0] = None
    gc.collect()
    things = [Thing()]
    watchers.append(weakref.ref(things[0], f))
    clear = things.clear
    cycle = Cycle()
    cycle.itself = cycle
    del cycle
    keep = [[[] for k in range(200)], [(k,) for k in range(2001)]]      # no list or tuple is free
    threshold(gc.get_count()[0] + n - 5)
    start(clear, ())
    sleep(0.05)
    threshold(0)
    assert type(t[0]) in (weakref.ref, type(None))
    watchers.clear()
""", """(module (table (export "t") 1 externref)
    (func (export "f") (param externref) (table.set 0 (i32.const 0) (local.get 0))))""", env={"PYTHONMALLOC": "debug"})
