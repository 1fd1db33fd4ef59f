"""What runs stops when the host says so, and lets others run. Promise P10.

A test that hangs is ended by its watchdog, with the stacks of all threads.
"""

import faulthandler
import os
import signal
import threading
import time

import pytest

from externref import wasm2c

ENDLESS = {
    "a loop": "(loop (br 0))",
    "a loop that branches back from inside": "(loop $l (block $b (br_if $b (i32.const 0)) (br $l)))",
    "a table of branches": "(loop $l (br_table $l $l (i32.const 0)))",
    "nested loops": "(loop $a (loop $b (br_if $b (i32.const 0)) (br $a)))",
    "recursion as deep as a tree": "(drop (call $tree (i32.const 60)))",
    "tail calls": "(return_call $f)",
    "indirect tail calls": "(return_call_indirect $t (type $v) (i32.const 0))",
    "long operations": "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000)) (br 0))",
    "long copies": "(loop (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3ffffff)) (br 0))",
    "long table operations": "(loop (table.fill $x (i32.const 0) (ref.null extern) (i32.const 5000000)) (br 0))",
    "calls of the host": "(loop (call $host) (br 0))",
}


def source(body):
    return f"""(module (type $v (func)) (import "e" "host" (func $host)) (memory 1024) (table $t 1 funcref)
      (table $x 5000000 externref) (elem (table $t) (i32.const 0) func $f)
      (func $tree (param i32) (result i32) (if (result i32) (local.get 0)
        (then (i32.add (call $tree (i32.sub (local.get 0) (i32.const 1))) (call $tree (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 1))))
      (func $f (export "f") {body}) (func (export "fine") (result i32) (i32.const 1)))"""


@pytest.fixture(autouse=True)
def watchdog():
    faulthandler.dump_traceback_later(100, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(params=ENDLESS)
def endless(request, compile):
    """A function that makes an instance whose f() does not end, in a store with these limits."""
    def make(**limits):
        store = wasm2c.Store(**limits)
        return store, compile(source(ENDLESS[request.param])).instantiate(store, {"e": {"host": lambda: None}}).exports

    return make


def test_timeout(endless):
    _, exports = endless(timeout=0.05)
    for _ in range(2):
        with pytest.raises(wasm2c.Trap, match="^interrupted$"):
            exports.f()
        assert exports.fine() == 1


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-12])
def test_no_time_at_all(compile, timeout):
    exports = compile(source(ENDLESS["a loop"])).instantiate(wasm2c.Store(timeout=timeout), {"e": {"host": lambda: None}}).exports
    with pytest.raises(wasm2c.Trap, match="interrupted"):
        exports.f()


def test_interrupt_from_another_thread(endless):
    store, exports = endless()
    timer = threading.Timer(0.05, store.interrupt)
    timer.start()
    with pytest.raises(wasm2c.Trap, match="^interrupted$"):
        exports.f()
    timer.join()
    assert exports.fine() == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer sends a signal here")
def test_keyboard_interrupt(endless):
    _, exports = endless()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            exports.f()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert exports.fine() == 1


@pytest.mark.parametrize("release_gil", [False, True])
def test_other_threads_go_on(compile, release_gil):
    store = wasm2c.Store()
    exports = compile(source(ENDLESS["a loop"])).instantiate(
        store, {"e": {"host": lambda: None}}, release_gil=release_gil).exports
    turns = []

    def work():
        for _ in range(20):
            turns.append(1)
            time.sleep(0.001)
        store.interrupt()

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(wasm2c.Trap, match="interrupted"):
        exports.f()
    thread.join()
    assert len(turns) == 20


def test_interrupt_stops_nothing_later(endless):
    store, exports = endless(timeout=0.05)
    store.interrupt()
    assert exports.fine() == 1


def test_interrupt_reaches_through_host_functions(compile):
    # The host catches the inner one; the outer code does not go on for that.
    caught = []

    def host():
        try:
            exports.f() if not caught else None
        except wasm2c.Trap as trap:
            caught.append(str(trap))

    store = wasm2c.Store(timeout=0.05)
    module = compile('(module (import "e" "host" (func $host)) (func (export "g") (call $host) (loop (br 0)))'
                     ' (func (export "f") (loop (br 0))))')
    exports = module.instantiate(store, {"e": {"host": host}}).exports
    with pytest.raises(wasm2c.Trap, match="interrupted"):
        exports.g()
    assert caught == ["interrupted"]


def test_time_in_host_functions_counts(compile):
    store = wasm2c.Store(timeout=0.02)
    exports = compile('(module (import "e" "host" (func $host)) (func (export "f") (call $host)))').instantiate(
        store, {"e": {"host": lambda: time.sleep(0.05)}}).exports
    with pytest.raises(wasm2c.Trap, match="interrupted"):
        exports.f()


def test_start_function(compile):
    endless = compile("(module (func $f (loop (br 0))) (start $f))")
    with wasm2c.Store(timeout=0.02) as store, pytest.raises(wasm2c.Trap, match="interrupted"):
        endless.instantiate(store)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer sends a signal here")
def test_a_signal_handler_cannot_use_the_store_that_it_interrupts(compile):
    # Compiled code has addresses of its memory in registers.
    store, other = wasm2c.Store(timeout=5), wasm2c.Store()
    module = compile('(module (memory (export "m") i64 1 100) (func (export "f") (loop (i64.store (i64.const 8) (i64.const 1)) (br 0)))'
                     ' (func (export "fine") (result i32) (i32.const 1)) (func (export "trap") unreachable))')
    exports, others = module.instantiate(store).exports, module.instantiate(other).exports
    errors = []

    def handler(*_):
        for use in (lambda: exports.m.grow(1), exports.fine, store.gc, lambda: len(exports.m)):
            try:
                use()
            except RuntimeError as error:
                errors.append(str(error))
        assert others.fine() == 1       # of another store it may
        with pytest.raises(wasm2c.Trap):
            others.trap()
        store.interrupt()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(wasm2c.Trap, match="interrupted"):
            exports.f()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert errors == ["the store cannot be used by a finalizer or a signal handler that runs in the middle of its work"] * 4
    assert exports.fine() == 1 and exports.m.grow(1) == 1


def test_two_stores_run_at_the_same_time(compile, tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    module = compile("""(module (import "e" "wait" (func $wait (result i32)))
      (global $g (export "g") (mut i32) (i32.const 0))
      (func (export "f") (loop $l (global.set $g (i32.add (global.get $g) (i32.const 1))) (br_if $l (call $wait)))))""")
    # Each turns until the other has: with one at a time, neither would.
    turned = [0, 0]

    def work(n):
        def wait():
            turned[n] += 1
            return min(turned) < 100

        with wasm2c.Store(timeout=60) as store:
            module.instantiate(store, {"e": {"wait": wait}}, release_gil=True).exports.f()

    threads = [threading.Thread(target=work, args=[n]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(turned) >= 100


def test_traps_and_exceptions_without_the_gil(compile, run_in_threads):
    module = compile("""(module (import "e" "host" (func $host (param externref) (result externref)))
      (func (export "call") (param externref) (result externref) (call $host (local.get 0)))
      (func (export "trap") unreachable) (memory 1)
      (func (export "deep") (call 3)))""")

    def host(ref):
        if ref == "raise":
            raise KeyError("mine")
        with open(os.devnull):
            return ref

    def work():
        with wasm2c.Store() as store:
            exports = module.instantiate(store, {"e": {"host": host}}, release_gil=True).exports
            for i in range(300):
                thing = [i]
                assert exports.call(thing) is thing
                with pytest.raises(KeyError, match="mine"):
                    exports.call("raise")
                with pytest.raises(wasm2c.Trap, match="Unreachable"):
                    exports.trap()
                if i % 100 == 0:
                    store.gc()

    run_in_threads(work, 4)


@pytest.mark.parametrize("release_gil", [False, True])
def test_threads_with_a_store_each_and_results_whose_release_switches_threads(compile, run_in_threads, release_gil):
    module = compile("""(module (import "e" "open" (func $open (result externref)))
      (func (export "f") (drop (call $open)) (drop (call $open)) unreachable))""")

    class Switches:
        def __del__(self):
            time.sleep(0)

    def work():
        for _ in range(200):
            with wasm2c.Store() as store:
                exports = module.instantiate(store, {"e": {"open": Switches}}, release_gil=release_gil).exports
                for _ in range(3):
                    with pytest.raises(wasm2c.Trap, match="Unreachable"):
                        exports.f()

    run_in_threads(work, 2)


@pytest.mark.parametrize("count", [10, 2000])
def test_a_loop_with_a_long_body(compile, count):
    """Its turns are few, and weigh much."""
    body = "(local.set 0 (i64.div_u (i64.const -3) (i64.or (local.get 0) (i64.const 1))))" * count
    text = f'(module (global $g (mut i64) (i64.const 0)) (func (export "f") (param i64) (loop {body} (global.set $g (local.get 0)) (br 0))))'
    with wasm2c.Store(timeout=0.1) as store:
        f = compile(text).instantiate(store).exports.f
        start = time.monotonic()
        with pytest.raises(wasm2c.Trap, match="^interrupted$"):
            f(7)
        assert time.monotonic() - start < 20


def test_a_long_function_weighs_more_than_a_short_one(compile):
    body = "(local.set 0 (i64.div_u (i64.const -3) (i64.or (local.get 0) (i64.const 1))))" * 3000
    text = f'''(module (func $long (param i64) (result i64) {body} (local.get 0))
      (func $tree (export "f") (param i32 i64) (result i64)
        (if (result i64) (local.get 0) (then
            (i64.add (call $tree (i32.sub (local.get 0) (i32.const 1)) (local.get 1))
                     (call $tree (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))
          (else (call $long (local.get 1))))))'''
    with wasm2c.Store(timeout=0.1) as store:
        f = compile(text).instantiate(store).exports.f
        start = time.monotonic()
        with pytest.raises(wasm2c.Trap, match="^interrupted$"):
            f(30, 7)
        assert time.monotonic() - start < 20


def test_a_host_function_that_runs_no_python(run_python):
    """Written in C, it looks at no signal, and lets no other thread run."""
    run_python("""
import functools, signal, threading, time
from externref import wasm2c
store = wasm2c.Store()
text = '(module (import "e" "h" (func $h (result externref))) (func (export "f") (loop (drop (call $h)) (br 0))))'
host = functools.partial(sorted, list(range(50_000)))
f = wasm2c.compile(text).instantiate(store, {"e": {"h": host}}).exports.f
def interrupt():
    time.sleep(0.5)
    store.interrupt()
threading.Thread(target=interrupt).start()
start = time.monotonic()
try:
    f()
except wasm2c.Trap as trap:
    assert str(trap) == "interrupted"
signal.signal(signal.SIGALRM, lambda *args: 1 / 0)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    f()
except ZeroDivisionError:
    pass
assert time.monotonic() - start < 30
""")


@pytest.mark.parametrize("timeout", [9.3e9, 1e18, 1e300, 10**400])
def test_a_timeout_of_centuries(compile, timeout):
    with wasm2c.Store(timeout=timeout) as store:
        assert compile('(module (func (export "f") (result i32) (i32.const 5)))').instantiate(store).exports.f() == 5


@pytest.mark.parametrize("what", ["m.grow(1)", "t.grow(1)", "t.fill(0, [], 1)", "m.write(b'x')", "other()"])
def test_a_host_function_of_a_call_without_the_gil_uses_the_store(run_python, what):
    run_python(f"""
import faulthandler
from externref import wasm2c
faulthandler.dump_traceback_later(30, exit=True)
text = '''(module (import "e" "h" (func $h)) (memory (export "m") 1) (table (export "t") 1 externref)
  (func (export "f") (call $h)) (func (export "other") (drop (memory.grow (i32.const 1)))))'''
host = lambda: exports.{what}
exports = wasm2c.compile(text).instantiate(wasm2c.Store(), {{"e": {{"h": host}}}}, release_gil=True).exports
for _ in range(3):
    exports.f()
""")
