"""Traps, exhaustion of the stack, nested calls, signals. Promise P10."""

import signal
import sys

import pytest

from externref import wasm2c

TRAPS = """(module
  (type $i (func (result i32)))
  (table $t 2 externref) (table $f 2 funcref) (memory 1)
  (func (export "unreachable") unreachable)
  (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "trunc") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "table") (result externref) (table.get $t (i32.const 2)))
  (func (export "load") (result i32) (i32.load (i32.const 65533)))
  (func (export "indirect") (result i32) (call_indirect $f (type $i) (i32.const 0)))
  (func $recurse (export "recurse") (call $recurse))
  (func (export "fine") (result i32) (i32.const 1))
)"""


@pytest.mark.parametrize("name, args, reason", [
    ("unreachable", (), "Unreachable instruction executed"),
    ("div", (1, 0), "Integer divide by zero"),
    ("div", (-2**31, -1), "Integer overflow on divide or truncation"),
    ("trunc", (float("nan"),), "Conversion from NaN to integer"),
    ("trunc", (1e20,), "Integer overflow on divide or truncation"),
    ("table", (), "Out-of-bounds access in linear memory or a table"),
    ("load", (), "Out-of-bounds access in linear memory or a table"),
    ("indirect", (), "Invalid call_indirect or return_call_indirect"),
    ("recurse", (), "Call stack exhausted"),
])
def test_a_trap_has_the_runtimes_name_and_the_instance_stays_usable(run, name, args, reason):
    exports = run(TRAPS)
    for _ in range(3):
        with pytest.raises(wasm2c.Trap) as caught:
            exports[name](*args)
        assert str(caught.value) == reason
        assert exports.fine() == 1


def test_the_runtime_installs_no_signal_handler(run):
    before = signal.getsignal(signal.SIGSEGV)
    run(TRAPS)
    assert signal.getsignal(signal.SIGSEGV) is before


def nest(exports, depth):
    return exports.hold(depth, depth, depth)[1]


def test_a_thousand_nested_calls(references):
    # CPython 3.12 has a limit of its own for Python called from C.
    depth = 300 if sys.version_info[:2] == (3, 12) else 1000

    def call(ref, number):
        return number if number == 0 else nest(exports, number - 1)

    exports = references(call)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * depth)
    try:
        assert nest(exports, depth) == 0
    finally:
        sys.setrecursionlimit(limit)


def test_nesting_without_end_is_a_clean_error(references):
    exports = references(lambda ref, number: nest(exports, number))
    limit = sys.getrecursionlimit()
    try:
        for limit_here in (limit, 10**7):
            sys.setrecursionlimit(limit_here)
            with pytest.raises((RecursionError, wasm2c.Trap)):
                nest(exports, 1)
    finally:
        sys.setrecursionlimit(limit)
    assert exports.id(3) == 3


def test_recursion_below_nested_calls_is_a_clean_trap(run):
    depth = []

    def call():
        depth.append(1)
        if len(depth) < 50:
            exports.again()
        else:
            exports.recurse()

    exports = run("""(module (import "e" "call" (func $call))
      (func (export "again") (call $call)) (func $r (export "recurse") (call $r)))""", {"e": {"call": call}})
    with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
        exports.again()
    assert len(depth) == 50


def test_exhaustion_on_a_thread_with_a_small_stack(run, run_in_threads):
    exports = run(TRAPS)
    caught = []

    def work():
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.recurse()
        caught.append(exports.fine())

    run_in_threads(work, 1, 256 * 1024)
    assert caught == [1]


def test_an_inner_trap_is_caught_between(references, run):
    broken = run(TRAPS)
    seen = []

    def call(ref, number):
        try:
            broken.unreachable()
        except wasm2c.Trap as trap:
            seen.append(str(trap))
        return ref

    exports = references(call)
    a = object()
    assert exports.hold(a, a, 1) == (a, a)
    assert seen == ["Unreachable instruction executed"]


def test_a_keyboard_interrupt_ends_a_loop_that_calls_the_host(references):
    def call(ref, number):
        if number == 1_000_000_000 - 1000:
            signal.raise_signal(signal.SIGINT)

    exports = references(call)
    with pytest.raises(KeyboardInterrupt):
        exports.loop(1_000_000_000)
    assert exports.id(1) == 1
