"""Traps, exhaustion of the stack, nested calls, signals. Promise P10."""

import functools
import inspect
import os
import pickle
import signal
import subprocess
import sys

import pytest

from externref import wasm2c
from externref._signature import signature

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
        assert caught.value.reason == reason
        assert str(caught.value).startswith(f"{reason}, in ")
        assert exports.fine() == 1


NAMED = """(module (import "e" "f" (func $f)) (memory 1)
  (func $add (param $left i32) (param $right i32) (param i32) (result i32) (i32.load (local.get 2)))
  (func $outer (export "outer") (param $how i32) (param $class i64) (param i32) (result i32 f64)
    (call $middle (local.get 0)) (f64.const 1))
  (func $middle (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then unreachable))
    (if (i32.eq (local.get 0) (i32.const 1)) (then (call $f)))
    (i32.add (call $add (i32.const 1) (i32.const 2) (local.get 0)) (i32.const 1)))
  (func (export "nameless") (result i32) (call $add (i32.const 0) (i32.const 0) (i32.const 65536)))
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0) (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
      (else unreachable)))
  (func $jump (export "jump") (param i32) (return_call $land (local.get 0)))
  (func $land (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
  (func (export "add") (param i32 i32 i32) (result i32) (call $add (local.get 0) (local.get 1) (local.get 2)))
  (export "$add" (func $add)))"""


def frames_of(function, *args):
    with pytest.raises(wasm2c.Trap) as caught:
        function(*args)
    assert caught.value.args == (str(caught.value),)
    return str(caught.value), caught.value.frames


@pytest.fixture
def named(run):
    return run(NAMED, {"e": {"f": lambda: None}})


def test_a_trap_names_the_function(named):
    text, frames = frames_of(named.outer, 0, 0, 0)
    assert text == "Unreachable instruction executed, in 'middle'"
    assert frames == (wasm2c.Frame("middle", 3), wasm2c.Frame("outer", 2))
    text, frames = frames_of(named.jump, 0)
    assert text == "Integer divide by zero, in 'land'" and frames[0] == ("land", 7)


def test_a_trap_in_a_function_without_a_name(named):
    text, frames = frames_of(named.nameless)
    assert frames[-1] == (None, 4)      # an access does not know whose it is, if the compiler put it elsewhere
    assert text.endswith(", in 'add'" if len(frames) == 2 else ", in function 4")
    assert str(wasm2c.Frame(None, 4)) == "function 4"


def test_a_trap_names_the_innermost_functions(named):
    text, frames = frames_of(named.deep, 1000)
    assert text == "Unreachable instruction executed, in 'deep'"
    assert 20 < len(frames) <= 32 and set(frames) == {("deep", 5)}
    text, frames = frames_of(named.deep, -1)
    assert text == "Call stack exhausted, in 'deep'" and set(frames) == {("deep", 5)}


def test_a_trap_names_functions_since_python(run):
    def inner():
        text, frames = frames_of(exports.outer, 0, 0, 0)
        assert frames == (("middle", 3), ("outer", 2))
        raise KeyError(text)

    exports = run(NAMED, {"e": {"f": inner}})
    with pytest.raises(KeyError, match="in 'middle'"):
        exports.outer(1, 0, 0)


def test_a_trap_across_modules(compile, store):
    first = compile('(module (func $low (export "low") unreachable))').instantiate(store)
    second = compile('(module (import "a" "low" (func $there)) (func $high (export "high") (call $there)))').instantiate(
        store, {"a": first})
    text, frames = frames_of(second.exports.high)
    assert text.endswith("in 'low'") and [frame.name for frame in frames] == ["low", "high"]


def test_a_trap_when_an_instance_is_made(compile, store):
    with pytest.raises(wasm2c.Trap, match="Unreachable instruction executed, in 'begin'"):
        compile("(module (start $begin) (func $begin unreachable))").instantiate(store)


def test_a_trap_is_copied_with_all_it_says(named):
    with pytest.raises(wasm2c.Trap) as caught:
        named.deep(0)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) and copied.frames == (("deep", 5),) and copied.reason == caught.value.reason
    assert (wasm2c.Trap("mine").frames, wasm2c.Trap().reason) == ((), "")


def test_names_that_are_broken(compile, store):
    binary = (b"\0asm\1\0\0\0" b"\1\4\1\x60\0\0" b"\3\2\1\0" b"\7\5\1\1f\0\0" b"\x0a\5\1\3\0\0\x0b")
    for names in (b"", b"\1", b"\1\x7f", b"\1\5\1\0\xff", b"\1\4\1\0\1\xff", b"\1\5\xff\xff\xff\xff\x7f", b"\x63\1x",
                  b"\2\6\1\0\1\0\x70a"):
        section = b"\4name" + names
        f = compile(binary + bytes([0, len(section)]) + section, cache=False).instantiate(store).exports.f
        assert frames_of(f) == ("Unreachable instruction executed, in function 0", ((None, 0),))
        assert str(inspect.signature(f)) == "() -> None"
    endless = b"\4name\1" + b"\xff" * 3_000_000
    f = compile(binary + b"\0\xc6\x8d\xb7\1" + endless, cache=False).instantiate(store).exports.f
    assert frames_of(f)[1] == ((None, 0),)
    section = b"\4name" + b"\1\x88\4\1\0\x84\4" + b"\n" * 516
    f = compile(binary + b"\0\x90\4" + section, cache=False).instantiate(store).exports.f
    assert frames_of(f)[0] == f"Unreachable instruction executed, in {chr(10) * 200!r}"


# --- What inspect and functools ask

def test_signatures(named):
    assert str(inspect.signature(named["$add"])) == "(left: int, right: int, a2: int, /) -> int"
    assert str(inspect.signature(named.add)) == "(a0: int, a1: int, a2: int, /) -> int"
    assert str(inspect.signature(named.outer)) == "(how: int, a1: int, a2: int, /) -> tuple[int, float]"
    assert str(inspect.signature(named.jump)) == "(a0: int, /) -> None"
    twice = signature(wasm2c.FuncType(("i32", "f32"), ()), {0: "same", 1: "same", 7: "other"})
    assert str(twice) == "(a0: int, a1: float, /) -> None"


def test_a_parameter_that_is_called_as_one_without_a_name(run):
    exports = run('(module (func (export "f") (param i32) (param $a0 externref) (param v128) (result externref) (local.get 1)))')
    assert str(inspect.signature(exports.f)) == "(a_0: int, a0: Any, a_2: bytes, /) -> Any"


def test_a_func_has_a_name(named):
    assert named.outer.__name__ == named.outer.name == "outer" and named["$add"].__name__ == "$add"

    @functools.wraps(named.outer)
    def wrapped():
        pass

    assert wrapped.__name__ == "outer" and wrapped.__wrapped__ is named.outer


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
    assert seen == ["Unreachable instruction executed, in function 0"]


def test_a_keyboard_interrupt_ends_a_loop_that_calls_the_host(references):
    def call(ref, number):
        if number == 1_000_000_000 - 1000:
            signal.raise_signal(signal.SIGINT)

    exports = references(call)
    with pytest.raises(KeyboardInterrupt):
        exports.loop(1_000_000_000)
    assert exports.id(1) == 1


# --- The stack that is left for the host

RECURSE = """(module (import "e" "h" (func $h))
  (func $f (export "f") (param i32)
    (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else (call $h)))))"""

RUN_AT_THE_END = """
import sys, threading
from externref import wasm2c
def by_map(n): return n and list(map(by_map, [n - 1]))[0]
def by_key(n): return n and sorted([n - 1], key=by_key)[0]
module = wasm2c.compile(sys.argv[1])
def work(host=lambda: None):
    store = wasm2c.Store()
    idle = module.instantiate(store, {"e": {"h": lambda: None}}).exports
    busy = module.instantiate(store, {"e": {"h": host}}).exports
    low, high = 0, 10_000_000       # how deep the host is still called
    while high - low > 1:
        middle = (low + high) // 2
        try:
            idle.f(middle)
            low = middle
        except wasm2c.Trap as trap:
            assert trap.reason == "Call stack exhausted"
            high = middle
    busy.f(low - 100)       # from here the interpreter may call with a larger frame than in the loop
    print(low > 1000)
"""


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer's frames are larger")
@pytest.mark.parametrize("host", ["by_map(450)", "by_key(150)", "by_key(300)", "repr([[[[[1]]]]])"])
def test_a_host_function_has_stack_for_python(run_python, host):
    assert run_python(RUN_AT_THE_END + f"work(lambda: {host})", RECURSE) == "True\n"


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer's frames are larger")
@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_a_host_function_on_a_small_stack(run_python, size):
    run_python(RUN_AT_THE_END + f"""
threading.stack_size({size} * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""", RECURSE)


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer's frames are larger")
def test_a_wide_call_of_the_host_on_a_small_stack(run_python, unoptimized):
    count = 300
    types = "funcref " * count
    run_python("""
import sys, threading
from externref import wasm2c
module = wasm2c.compile(sys.argv[1])
nulls = (None,) * int(sys.argv[2])
def work():
    f = module.instantiate(wasm2c.Store(), {"e": {"h": lambda *args: nulls}}).exports.f
    for depth in range(0, 6000, 20):
        try:
            f(depth)
        except wasm2c.Trap:
            return
threading.stack_size(512 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""", f"""(module (type $t (func (param {types}) (result {types}))) (import "e" "h" (func $h (type $t)))
  (func $f (export "f") (param i32)
    (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else (call $g (ref.null func)))))
  (func $g (param funcref) {"(local.get 0)" * count} (call $h) {"(drop)" * count}))""", count)


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes frames of its own, and takes minutes")
def test_a_host_function_that_takes_too_much_is_refused(unoptimized):
    types = "funcref " * 1000
    wasm2c.compile(f"(module (func (export \"f\") (param {types})))", cache=False)
    with pytest.raises(wasm2c.CompileError, match=r"its stack frame has \d{5} bytes, at most 24576 are supported"):
        wasm2c.compile(f'(module (import "e" "h" (func (param {types}))))', cache=False)


@pytest.mark.parametrize("text", [
    '(module (import "e" "h" (func $h)) (export "f" (func $h)))',
    '(module (import "e" "h" (func $h)) (table (export "t") 1 funcref) (elem (i32.const 0) $h) (func (export "f") (call $h)))',
    '(module (import "e" "h" (func $h)) (func (export "f") (call $h)))',
    '(module (import "e" "h" (func $h)) (func (export "f") (return_call $h)))',
], ids=range(4))
def test_recursion_through_the_host_has_an_end(run_python, text):
    """Also where no function of the module's is between, which would look at the stack."""
    assert run_python("""
import sys
from externref import wasm2c
sys.setrecursionlimit(10**6)    # or Python's own error is first
def host():
    (exports.t[0] if "t" in exports else exports.f)()
exports = wasm2c.compile(sys.argv[1]).instantiate(wasm2c.Store(), {"e": {"h": host}}).exports
for _ in range(2):
    try:
        exports.f()
    except (wasm2c.Trap, RecursionError) as error:
        print(type(error).__name__ in ("Trap", "RecursionError"))
""", text) == "True\nTrue\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="of POSIX")
def test_recursion_on_a_stack_without_a_limit_has_an_end():
    result = subprocess.run(["sh", "-c", 'ulimit -s unlimited; ulimit -v 3000000; exec "$0" -c "$1"', sys.executable, """
from externref import wasm2c
f = wasm2c.compile('(module (func $f (export "f") (call $f)))').instantiate(wasm2c.Store()).exports.f
try:
    f()
except wasm2c.Trap as trap:
    print(trap)
"""], capture_output=True, text=True)
    if "ulimit" in result.stderr or "ASAN_OPTIONS" in os.environ:
        pytest.skip("the limits cannot be set here")
    assert (result.returncode, result.stdout) == (0, "Call stack exhausted, in 'f'\n"), result
