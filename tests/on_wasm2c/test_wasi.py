"""The WASI functions of docs/wasm.md: a program that prints, and pointers that lead nowhere."""

import struct
import subprocess
import sys

import pytest

from externref import wasm2c
from support import TESTS

PAGE = (TESTS.parent / "docs/wasm.md").read_text(encoding="utf-8")
SUCCESS, BADF, FAULT, INVAL = 0, 8, 21, 28
PAGES, SIZE = 1, 65536
NOWHERE = 2**32 - 1

GUEST = f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {PAGES})
  (func (export "write") (param i32 i32 i32 i32) (result i32)
    (call $write (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"""


@pytest.fixture
def wasi(compilers, capsysbinary):
    """The names in the page's program, which has run."""
    block = PAGE.partition("## WASI")[2].partition("```python\n")[2].partition("```")[0]
    scope = {}
    exec(block, scope)
    assert capsysbinary.readouterr().out == b"from a guest, with status 3\n"
    return scope


@pytest.fixture
def guest(wasi, run):
    """write(fd, vectors, count, written) calls fd_write; the parts are at 0."""
    guest = run(GUEST, {"wasi_snapshot_preview1": {"fd_write": wasi["fd_write"]}})
    wasi["program"] = guest
    return guest


def vectors(*parts):
    return b"".join(struct.pack("<II", *part) for part in parts)


def number_at(guest, address):
    return int.from_bytes(guest.memory.read(address, address + 4), "little")


@pytest.mark.parametrize("fd", [1, 2])
def test_prints_its_parts_in_order(fd, guest, capsysbinary):
    guest.memory.write(b"hello, \xff\x00world", 100)
    guest.memory.write(vectors((100, 7), (500, 0), (109, 5), (107, 2)))
    assert guest.write(fd, 0, 4, 60) == SUCCESS
    assert capsysbinary.readouterr()[fd - 1] == b"hello, world\xff\x00"
    assert number_at(guest, 60) == 14


def test_nothing_to_print(guest, capsysbinary):
    guest.memory.write(b"\xff" * 4, 60)
    assert guest.write(1, SIZE, 0, 60) == SUCCESS
    assert number_at(guest, 60) == 0
    assert capsysbinary.readouterr().out == b""


@pytest.mark.parametrize("fd", [0, 3, -1, 2**31])
def test_other_files(fd, guest, capsysbinary):
    assert guest.write(fd, 0, 1, 60) == BADF
    assert capsysbinary.readouterr() == (b"", b"")


@pytest.mark.parametrize("parts, where, count, written, errno", [
    ([(100, 5)], SIZE - 7, 1, 60, FAULT),               # the parts' addresses go beyond the end
    ([(100, 5)], SIZE, 1, 60, FAULT),
    ([(100, 5)], NOWHERE, 1, 60, FAULT),                # -1 for Python, if it did not know better
    ([(100, 5)], NOWHERE - 7, 1, 60, FAULT),            # and 0 for a sum of 32 bits
    ([(SIZE - 4, 5)], 0, 1, 60, FAULT),                 # the last byte does
    ([(SIZE, 1)], 0, 1, 60, FAULT),
    ([(NOWHERE, 1)], 0, 1, 60, FAULT),
    ([(2**31, 5)], 0, 1, 60, FAULT),
    ([(100, 5), (SIZE + 1, 0)], 0, 2, 60, FAULT),
    ([(100, 5)], 0, 1, SIZE - 3, FAULT),                # where the number of bytes should go
    ([(100, 5)], 0, 1, NOWHERE, FAULT),
    ([(0, NOWHERE)], 0, 1, 60, INVAL),                  # more than there is
    ([(0, SIZE), (0, SIZE)], 0, 2, 60, INVAL),
    ([(100, 5)], 0, 1025, 60, INVAL),
    ([(100, 5)], 0, NOWHERE, 60, INVAL),
    ([(100, 5)], 0, 2**29, 60, INVAL),                  # 8 times that is 0 in 32 bits
])
def test_a_bad_pointer_is_an_error_and_prints_nothing(parts, where, count, written, errno, guest, capsysbinary):
    room = guest.memory.write(vectors(*parts)[:max(0, SIZE - where)], where) if where < SIZE else 0
    before = guest.memory.read(room)
    assert guest.write(1, where, count, written) == errno
    assert capsysbinary.readouterr() == (b"", b"")
    assert guest.memory.read(room) == before


def test_the_ends_of_memory(guest, capsysbinary):
    guest.memory.write(b"end", SIZE - 3)
    guest.memory.write(vectors((SIZE - 3, 3), (SIZE, 0)))
    assert guest.write(1, 0, 2, SIZE - 4) == SUCCESS    # the count is written over what it counts
    assert capsysbinary.readouterr().out == b"end"
    assert number_at(guest, SIZE - 4) == 3


def test_memory_that_has_grown(guest, capsysbinary):
    guest.memory.grow(1)
    guest.memory.write(b"new", SIZE + 10)
    guest.memory.write(vectors((SIZE + 10, 3)), SIZE)
    assert guest.write(1, SIZE, 1, SIZE + 100) == SUCCESS
    assert capsysbinary.readouterr().out == b"new"


def test_printing_ends_with_the_time(wasi, capsysbinary):
    with wasm2c.Store(timeout=0.2) as store:
        module = wasm2c.compile("""(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_start")
            (loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))) (br 0))))""")
        wasi["program"] = module.instantiate(
            store, {"wasi_snapshot_preview1": {"fd_write": wasi["fd_write"]}}).exports
        with pytest.raises(wasm2c.Trap, match="interrupted"):
            wasi["program"]._start()


def test_printf(wasi, compile, store, tmp_path, capsysbinary):
    pytest.importorskip("ziglang", reason="ziglang, which has a libc for WASI, is not installed")
    (tmp_path / "hello.c").write_text(
        '#include <stdio.h>\nint main(void) { printf("%d\\n", 42); fprintf(stderr, "%s\\n", "no"); return 3; }')
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "hello.c", "-o", "hello.wasm"],
                   cwd=tmp_path, check=True)
    module = compile(tmp_path / "hello.wasm")
    stubs = {item.name: lambda *_: wasi["NOSYS"] for item in module.imports}
    functions = stubs | {name: wasi[name] for name in ("fd_write", "proc_exit")}
    wasi["program"] = module.instantiate(store, {"wasi_snapshot_preview1": functions}).exports
    with pytest.raises(wasi["Exit"], match="3"):
        wasi["program"]._start()
    assert capsysbinary.readouterr() == (b"42\n", b"no\n")
