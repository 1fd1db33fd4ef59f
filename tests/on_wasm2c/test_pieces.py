"""Large modules are compiled in several pieces, which nobody notices. Promise P10."""

import os
import shutil
import subprocess

import pytest

from externref import wasm2c
from externref.wasm2c import binary, cache, compiler, limits, pieces, tools

MODULE = """(module
  (type $unary (func (param i32) (result i32))) (type $pair (func (param i32) (result i32 externref)))
  (import "e" "host" (func $host (type $unary)))
  (memory 1) (data $data "\\01\\02\\03\\04") (global $calls (export "calls") (mut i32) (i32.const 0))
  (table $t 8 funcref) (table $u (export "u") 4 externref) (elem $some func $fib $even $host) (elem $null externref (ref.null extern))
  (func $fib (export "fib") (type $unary) (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $also_fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $also_fib (type $unary) (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $also_fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $even (export "even") (type $unary)
    (if (result i32) (local.get 0) (then (return_call $odd (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 1))))
  (func $odd (export "odd") (type $unary)
    (if (result i32) (local.get 0) (then (return_call $even (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 0))))
  (func (export "data") (param i32) (result i32)
    (memory.init $data (i32.const 8) (local.get 0) (i32.const 2)) (data.drop $data) (i32.load (i32.const 8)))
  (func (export "fill") (table.init $t $some (i32.const 0) (i32.const 0) (i32.const 3)) (table.set $t (i32.const 3) (ref.func $odd)))
  (func (export "indirect") (param i32 i32) (result i32) (call_indirect $t (type $unary) (local.get 1) (local.get 0)))
  (func $pair (export "pair") (type $pair) (local.get 0) (table.get $u (local.get 0)))
  (func (export "pair of pair") (type $pair) (return_call $pair (call $host (local.get 0))))
  (func (export "nulls") (table.init $u $null (i32.const 1) (i32.const 0) (i32.const 1)))
  (func (export "endless") (type $unary) (i32.add (i32.const 1) (call $more (local.get 0))))
  (func $more (type $unary) (i32.add (i32.const 1) (call $yet_more (local.get 0))))
  (func $yet_more (type $unary) (i32.add (i32.const 1) (call $more (local.get 0)))))"""


@pytest.fixture
def cut(monkeypatch):
    """Has modules compiled in so many pieces."""
    return lambda count: monkeypatch.setattr(compiler, "pieces_of", lambda binary: count)


def compile(source):
    return wasm2c.compile(source, cache=False)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_a_module_does_the_same_in_any_number_of_pieces(cut, compilers, monkeypatch, store, count):
    cut(count)
    thing = object()
    for path in compilers:
        monkeypatch.setenv("CC", path)
        if "clang" in path:
            monkeypatch.delenv("CFLAGS", raising=False)     # its AddressSanitizer makes frames of no fixed size
        exports = compile(MODULE).instantiate(store, {"e": {"host": lambda number: number % 4}}).exports
        assert exports.fib(15) == 610 and exports.calls.value > 500
        assert [exports.even(1001), exports.odd(1001), exports.even(100_000)] == [0, 1, 1]
        assert exports.data(1) == 0x302
        with pytest.raises(wasm2c.Trap, match="Out-of-bounds"):
            exports.data(1)
        with pytest.raises(wasm2c.Trap):
            exports.indirect(0, 5)
        exports.fill()
        assert [exports.indirect(k, 9) for k in range(4)] == [34, 0, 1, 1]
        exports.u[1] = exports.u[3] = thing
        assert exports.pair(3) == (3, thing) and exports["pair of pair"](5) == (1, thing)
        exports.nulls()
        assert exports.u[1] is None
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.endless(1)


def test_each_piece_can_be_interrupted(cut):
    cut(4)
    loops = "".join(f'(func (export "f{k}") (loop (br 0)))' for k in range(12))
    with wasm2c.Store(timeout=0.05) as store:
        exports = compile(f"(module {loops})").instantiate(store).exports
        for k in range(12):
            with pytest.raises(wasm2c.Trap, match="interrupted"):
                exports[f"f{k}"]()


@pytest.mark.parametrize("index", range(4))
def test_a_trap_names_the_function_in_any_piece(cut, store, index):
    cut(3)
    functions = "".join(f'(func $name{k} (export "f{k}") unreachable)' for k in range(4))
    with pytest.raises(wasm2c.Trap) as trap:
        compile(f"(module {functions})").instantiate(store).exports[f"f{index}"]()
    assert trap.value.frames[0].name == f"name{index}"


def large(size):
    """The binary of a module with so many bytes of code."""
    body = b"\0" + b"\1" * (size - 6) + b"\x0b"     # nop
    length = lambda number: bytes([number & 127 | 128, number >> 7 & 127 | 128, number >> 14])  # noqa: E731
    code = b"\1" + length(len(body)) + body
    content = b"\x0a" + length(len(code)) + code
    return binary.read_binary(b"\0asm\1\0\0\0" + b"\1\4\1\x60\0\0" + b"\3\2\1\0" + content)


def test_how_many_pieces_depends_on_the_code_alone(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 10_000)
    monkeypatch.setattr(pieces, "MOST_PIECES", 16)
    expected = {100: 1, 10_000: 1, 19_999: 1, 20_000: 2, 29_999: 2, 30_000: 3, 159_999: 15, 160_000: 16, 1_000_000: 16}
    for processors in (1, 100):
        monkeypatch.setattr(tools, "processors", lambda count=processors: count)
        assert {size: pieces.pieces_of(large(size)) for size in expected} == expected
    no_code = binary.read_binary(b"\0asm\1\0\0\0")
    assert pieces.pieces_of(no_code) == 1


def test_the_number_of_pieces_is_part_of_the_key(cut, compilers):
    keys = set()
    for count in (1, 2, 3, 2):
        cut(count)
        keys.add(compiler.cache_key(large(100), [compilers[0]], [], tools.Tools()))
    assert len(keys) == 3


def test_a_module_that_is_large_is_cut(compilers, monkeypatch, store):
    monkeypatch.setattr(pieces, "PIECE", 2000)
    runs = []
    run_all = tools.Tools.run_all
    monkeypatch.setattr(tools.Tools, "run_all", lambda self, commands: runs.append(len(commands)) or run_all(self, commands))
    many = "".join(f'(func (export "f{k}") (param i32) (result i32) (i32.add (local.get 0) (i32.const {k})))' for k in range(1000))
    exports = compile(f"(module {many})").instantiate(store).exports
    assert all(exports[f"f{k}"](5) == 5 + k for k in range(1000))
    assert max(runs) == 1 + 9000 // 2000


def test_an_error_in_one_piece(cut, compilers, monkeypatch, tmp_path):
    cut(3)
    script = tmp_path / "cc"
    script.write_text(f'#!/bin/sh\ncase "$*" in *module_1.c*) echo no luck >&2; exit 3;; esac\nexec {compilers[0]} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(wasm2c.CompileError, match="exit status 3: no luck"):
        compile(MODULE)
    script.write_text(script.read_text().replace("echo no luck >&2; exit 3", "exit 0"))
    with pytest.raises(wasm2c.CompileError, match="made no library"):
        compile(MODULE)


def test_a_timeout_ends_all_pieces(cut, monkeypatch, tmp_path):
    cut(3)
    monkeypatch.setattr(tools, "processors", lambda: 4)
    script = tmp_path / "cc"
    script.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/'$$.pid\nexec sleep 100\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(wasm2c.CompileError, match="cc was stopped: compiling took longer than 2 s"):
        wasm2c.compile(MODULE, cache=False, timeout=2)
    for path in tmp_path.glob("*.pid"):     # waited for by then
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.stem), 0)


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes frames of its own")
@pytest.mark.parametrize("index", range(4))
def test_a_large_frame_in_any_piece(cut, compilers, monkeypatch, unoptimized, index):
    cut(3)
    monkeypatch.setattr(limits, "FRAME_LIMIT", 4096)    # the real one takes half a minute
    push = "(f64.sqrt (local.get 0)) (local.set 0 (f64.add (local.get 0) (f64.const 1)))" * 700
    deep = f"(i32.const 0) {push} (call $f) {'f64.mul ' * 699} f64.store"
    functions = "".join(f"(func $name{k} (param f64) {deep if k == index else ''})" for k in range(4))
    text = f'(module (func $f (import "e" "f")) (memory 4) {functions})'
    for path in compilers:
        monkeypatch.setenv("CC", path)
        with pytest.raises(wasm2c.CompileError, match=rf"function {index + 1} \('name{index}'\): its stack frame has \d{{4,5}} bytes"):
            compile(text)


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_what_pieces_share_is_hidden(cut, compilers, monkeypatch, tmp_path):
    cut(3)
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path))
    wasm2c.compile(MODULE)
    library, = cache.open_folder().iterdir()
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["externref_wasm2c_module"]
