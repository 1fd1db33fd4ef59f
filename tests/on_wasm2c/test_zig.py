"""Zig's C compiler, of the package ziglang, where there is no other."""

import importlib.util
import os
import sys

import pytest

from externref import wasm2c
from externref.wasm2c import cache, limits, tools

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")

TEXT = """(module (func $f (import "e" "f") (param i32)) (func (export "divide") (param i32 i32) (result i32)
  (call $f (local.get 0)) (i32.div_s (i32.shl (local.get 0) (i32.const 33)) (local.get 1))))"""


@pytest.fixture(autouse=True)
def no_other_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CFLAGS", raising=False)
    monkeypatch.setenv("PATH", os.devnull)


def test_it_is_taken_where_there_is_no_other(monkeypatch, tmp_path):
    assert tools.find_compiler() == [sys.executable, "-m", "ziglang", "cc"]
    (tmp_path / "gcc").write_text("#!/bin/sh\n")
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find_compiler() == [str(tmp_path / "gcc")]
    monkeypatch.setenv("CC", "no-such-compiler")
    assert tools.find_compiler() == []


@pytest.mark.parametrize("flags", ["", "-O0"])      # without optimization it would look for what C does not define
@pytest.mark.parametrize("count", [1, 3])
def test_modules_run(monkeypatch, store, flags, count):
    monkeypatch.setenv("CFLAGS", flags)
    monkeypatch.setattr(wasm2c.compiler, "pieces_of", lambda binary: count)
    seen = []
    divide = wasm2c.compile(TEXT, cache=False).instantiate(store, {"e": {"f": seen.append}}).exports.divide
    assert divide(-14, 4) == -7 and seen == [-14]
    for values, message in (((1, 0), "divide by zero"), ((2**30, -1), "overflow")):
        with pytest.raises(wasm2c.Trap, match=message):
            divide(*values)


def test_modules_are_kept(monkeypatch, store, tmp_path):
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path))
    wasm2c.compile(TEXT)
    monkeypatch.setattr(wasm2c.compiler, "build", None)     # cannot be called
    wasm2c.compile(TEXT).instantiate(store, {"e": {"f": print}})
    assert len(list(cache.open_folder().iterdir())) == 1


def test_the_code_is_not_for_this_processor_alone():
    assert "-mcpu=baseline" in tools.own_flags(tools.find_compiler()) and tools.own_flags(["/usr/bin/gcc"]) == []


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes frames of its own")
def test_a_large_frame_is_named(monkeypatch):
    monkeypatch.setattr(limits, "FRAME_LIMIT", 8192)    # the real one takes minutes
    push = "(f64.sqrt (local.get 0)) (local.set 0 (f64.add (local.get 0) (f64.const 1)))" * 700
    text = (f'(module (func $f (import "e" "f")) (memory 4) (func $deep (param f64) (i32.const 0) {push} (call $f) '
            f"{'f64.mul ' * 699} f64.store))")
    for _ in range(2):      # Zig has a cache of its own, and what it has there says nothing of frames
        with pytest.raises(wasm2c.CompileError, match=r"function 1 \('deep'\): its stack frame has \d{5} bytes"):
            wasm2c.compile(text, cache=False)
