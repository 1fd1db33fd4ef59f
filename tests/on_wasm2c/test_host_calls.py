"""Whatever happens at a host call, this store and others can go on, on this thread and on others. Promises P1, P5.

A program with nested host calls runs once for each of them, and something happens there.
"""

import gc
import os
import threading

import pytest

from externref import MovedError, VMExternRef, wasm2c
from externref.wasm2c import TableType, Trap
from support import NO_GIL

LIMIT = 2000        # elements
PROGRAM = """(module
  (import "env" "host" (func $host (param externref i32) (result externref)))
  (table $t (export "t") 2 externref) (table $grown (export "grown") 0 externref)
  (global $trap (export "trap") (mut i32) (i32.const 0)) (global $depth (export "depth") (mut i32) (i32.const 0))
  (func $check (if (global.get $trap) (then (global.set $trap (i32.const 0)) unreachable)))
  (func $step (param externref i32) (result externref)
    (call $check)
    (call $host (local.get 0) (local.get 1))
    (if (i32.lt_s (table.grow $grown (ref.null extern) (i32.const 1)) (i32.const 0)) (then unreachable))
    (call $check))
  (func (export "go") (param externref i32) (result externref externref)
    (call $step (local.get 0) (local.get 1)) (call $step (local.get 0) (local.get 1)))
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "boom") unreachable)
  (func $down (export "down") (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $down)
    (global.set $depth (i32.add (global.get $depth) (i32.const 0)))))"""


class Side:
    """A store, an instance of the program, and what its host calls do: nested ones, and one thing at one of them."""

    def __init__(self, module, release_gil):
        self.release_gil = release_gil
        self.module = module
        self.store = wasm2c.Store(table_limit=LIMIT)
        self.e = self.instantiate()
        self.object = object()
        self.calls = 0
        self.what = None
        self.at = 0

    def instantiate(self):
        return self.module.instantiate(self.store, {"env": {"host": self.host}}, release_gil=bool(self.release_gil)).exports

    def host(self, ref, level):
        self.calls += 1
        if self.release_gil == "by turns":
            self.e.go.release_gil = self.calls % 2 == 0
        result = ref
        if self.calls == self.at:
            result = self.what(self)
        if level:
            assert all(map(self.is_expected, self.e.go(self.object, level - 1)))
        return result

    def go(self, at=0, what=None):
        """Runs it; the number of host calls."""
        self.calls, self.at, self.what = 0, at, what
        assert all(map(self.is_expected, self.e.go(self.object, 2)))
        return self.calls

    def is_expected(self, result):
        return result is self.object or (self.at and isinstance(result, Finalizer))

    def down(self):
        """How deep the stack is."""
        before = self.e.depth.value
        with pytest.raises(Trap, match="Call stack exhausted"):
            self.e.down()
        return self.e.depth.value - before

    def check(self):
        assert self.go() == 2 + 4 + 8
        assert self.e.id(self.object) is self.object
        for _ in range(3):      # finalizers may put more in
            gc.collect()
            self.e.t[0] = self.e.t[1] = None
            self.store.gc()
        assert len(self.store.activations) == 0

    def check_limit(self):
        gc.collect()    # of instances, whose exports lead to each other
        table = wasm2c.Table(self.store, TableType("externref", LIMIT - 2 - len(self.e.grown)))
        with pytest.raises(MemoryError):
            wasm2c.Table(self.store, TableType("externref", 1))
        del table


class Finalizer:
    """An object that does something when it is dropped; what it raises is the test's."""

    raised = []
    made = dropped = 0

    def __init__(self, do):
        self.do = do
        Finalizer.made += 1

    def __del__(self):
        Finalizer.dropped += 1
        try:
            self.do()
        except BaseException as error:
            self.raised.append(error)


def on_thread(function):
    """Runs it there; what it raised, or None."""
    raised = []

    def work():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def refused(function, match, error=RuntimeError):
    with pytest.raises(error, match=match):
        function()


def switch_threads():
    with open(os.devnull):
        pass


class Stop(Exception):
    pass


def stop(side):
    raise Stop


def trap_afterwards(side):
    side.e.trap.value = 1
    return side.object


def trap_inside(side):
    side.e.boom()


def trap_inside_and_go_on(side):
    with pytest.raises(Trap, match="Unreachable"):
        side.e.boom()
    return side.object


def overflow_and_go_on(side):
    side.down()
    return side.object


def trap_in_another_store(side):
    side.other.e.boom()


def trap_in_another_store_and_afterwards(side):
    with pytest.raises(Trap, match="Unreachable"):
        side.other.e.boom()
    return trap_afterwards(side)


def stop_in_another_store_and_go_on(side):
    with pytest.raises(Stop):
        side.other.go(5, stop)
    return side.object


def trap_in_another_store_of_another_thread(side):
    assert isinstance(on_thread(side.other.e.boom), Trap)
    assert isinstance(on_thread(side.e.boom), RuntimeError)     # in use
    return side.object


def interrupt(side):
    side.store.interrupt()
    return side.object


def give_what_is_none(side):
    spent = VMExternRef(side.object)
    spent.drop()
    return spent


def drop_an_instance(side):
    """Of this store and of the other, with what only their tables held."""
    for one in (side, side.other):
        exports = one.instantiate()
        exports.t[0] = Finalizer(lambda: side.e.id(side.object))
        exports.t[1] = Finalizer(side.other.store.gc)
        del exports
    return side.object


def half_an_instance(side):
    """For which there are not enough elements left, in a store and then in the other."""
    for one in (side, side.other):
        table = wasm2c.Table(one.store, TableType("externref", LIMIT - 3 - len(one.e.grown)))
        with pytest.raises(MemoryError):
            one.instantiate()
        del table
    return side.object


def finalizer(do):
    """Gives compiled code objects that do this when they are dropped: now, and by the result."""
    def what(side):
        side.e.t[0] = Finalizer(lambda: do(side))
        side.e.t[0] = None
        side.store.gc()
        return Finalizer(lambda: do(side))
    return what


ACTIONS = {
    stop: Stop,
    trap_afterwards: Trap,
    trap_inside: Trap,
    trap_inside_and_go_on: None,
    overflow_and_go_on: None,
    trap_in_another_store: Trap,
    trap_in_another_store_and_afterwards: Trap,
    stop_in_another_store_and_go_on: None,
    trap_in_another_store_of_another_thread: None,
    interrupt: Trap,
    give_what_is_none: MovedError,
    drop_an_instance: None,
    half_an_instance: None,
}
FINALIZERS = {
    "gc": lambda side: side.store.gc(),
    "call": lambda side: side.e.id(side.object),
    "trap": trap_inside_and_go_on,
    "other store": lambda side: side.other.check(),
    "other store traps": lambda side: refused(side.other.e.boom, "Unreachable", Trap),
    "write": lambda side: side.e.t.fill(0, side.object, 2),
    "instance": drop_an_instance,
    "close": lambda side: refused(side.store.close, "in use") if side.active else None,
    "switch": lambda side: switch_threads(),
    "thread": lambda side: on_thread(side.other.e.boom),
}
ALL = {**{what.__name__: (what, raises) for what, raises in ACTIONS.items()},
       **{f"finalizer: {name}": (finalizer(do), None) for name, do in FINALIZERS.items()}}


@pytest.mark.parametrize("release_gil", [False, True, "by turns"])
@pytest.mark.parametrize("name", ALL)
def test_something_happens_at_each_host_call(compile, name, release_gil):
    what, raises = ALL[name]
    module = compile(PROGRAM)
    side, other = Side(module, release_gil), Side(module, release_gil)
    side.other, other.other = other, side
    depth, other_depth = side.down(), other.down()
    for at in range(1, 2 + 4 + 8 + 1):
        side.active = True
        if raises is None:
            side.go(at, what)
        else:
            with pytest.raises(raises):
                side.go(at, what)
        side.active = False
        for one in (side, other):
            if NO_GIL:
                one.check()     # here, where CPython runs finalizers of what was made here, which use the store, too
            else:
                assert on_thread(one.check) is None
            one.check()
    assert abs(side.down() - depth) < depth // 10 and abs(other.down() - other_depth) < depth // 10
    for one in (side, other):
        one.check_limit()
        one.store.close()
    assert Finalizer.raised == [] and Finalizer.dropped == Finalizer.made
