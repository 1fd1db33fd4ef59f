"""Threads: one at a time in a store, and each with its own traps. Promise P5."""

import contextlib
import threading

import pytest

from externref import wasm2c
from support import NO_GIL


def test_another_thread_is_refused_while_a_call_is_active(references, store):
    errors = []

    def attempt():
        for act in (lambda: exports.id(1), store.gc, store.close, lambda: exports.t[0], lambda: exports.g.value,
                    lambda: exports.t.grow(1), lambda: references()):
            try:
                act()
            except RuntimeError as error:
                errors.append(str(error))

    def call(ref, number):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return ref

    exports = references(call)
    a = object()
    assert exports.hold(a, a, 0) == (a, a)
    assert errors == ["the store is in use by another thread"] * 7


def test_threads_take_turns(references):
    exports = references()
    errors = []
    turn = threading.Lock() if NO_GIL else contextlib.nullcontext()     # the GIL has them take turns at such short calls

    def work():
        for _ in range(2000):
            a = object()
            with turn:
                if exports.id(a) is not a:
                    errors.append("another object came back")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_two_stores_on_two_threads_trap_apart(compile):
    """Each thread leaves its own innermost call, though they switch inside imported functions."""
    text = """(module (import "e" "f" (func $f)) (func (export "go") (param i32)
      (loop $again (call $f) (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if $again (local.get 0)))
      unreachable))"""
    caught = []

    def work():
        with wasm2c.Store() as store:
            go = compile(text).instantiate(store, {"e": {"f": lambda: ready.wait(0.0001)}}).exports.go
            for _ in range(5):
                with pytest.raises(wasm2c.Trap, match="Unreachable"):
                    go(20)
                caught.append(1)

    ready = threading.Event()       # never set: each wait lets another thread run
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caught) == 15


def test_a_result_whose_finalizer_lets_another_thread_enter(compile):
    # What runs is put back when the last Python object is gone.
    module = compile('(module (import "e" "f" (func $f (result i32))) (func (export "go") (drop (call $f)) unreachable))')
    inside, go_on, traps = threading.Event(), threading.Event(), []

    def run(function):
        with pytest.raises(wasm2c.Trap, match="Unreachable"):
            module.instantiate(wasm2c.Store(), {"e": {"f": function}}).exports.go()
        traps.append(1)

    def wait():
        inside.set()
        go_on.wait(10)
        return 1

    class Result:
        def __index__(self):
            return 1

        def __del__(self):
            other.start()
            inside.wait(10)

    other = threading.Thread(target=run, args=[wait])
    run(Result)
    go_on.set()
    other.join()
    assert len(traps) == 2
