"""The stubs say what the built module has, and type-check as users write."""

import subprocess
import sys

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")


def run(*args):
    result = subprocess.run([sys.executable, "-m", *map(str, args)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# Private Python modules over packages that have no types: only the face, which has a stub, is checked.
UNTYPED = """
[mypy]
[mypy-externref.numba.*]
ignore_errors = True
"""


def test_stubs_match_the_module(tmp_path):
    # These import the runtime that they are for, which may be missing; numba's decorators make no functions.
    adapters = write(tmp_path / "allowlist", "externref.numba\nexternref.numba._.*\nexternref.wasmtime\n")
    run("mypy.stubtest", "externref", "--ignore-missing-stub", "--ignore-disjoint-bases",
        "--allowlist", adapters, "--ignore-unused-allowlist",
        "--mypy-config-file", write(tmp_path / "mypy.ini", UNTYPED))


def write(path, text):
    path.write_text(text)
    return path


def test_types_as_users_write_them(tmp_path):
    program = write(tmp_path / "program.py", """
import io
from ctypes import CDLL, c_int, c_void_p
from typing import Any, assert_type
from externref import VMExternRef, option_from_raw, option_into_raw, stats
from externref.ctypes import callback, lent, moved

ref = VMExternRef(io.StringIO())
assert_type(ref, VMExternRef[io.StringIO])
assert_type(ref.value, io.StringIO)
assert_type(ref.clone(), VMExternRef[io.StringIO])
assert_type(ref.downcast_ref(int), int | None)
assert_type(VMExternRef.new_with(lambda: 3), VMExternRef[int])
assert_type(option_into_raw(None), int)
assert_type(stats().live_blocks, int)
with ref.borrow() as ptr:
    assert_type(ptr, int)
with ref as again:
    assert_type(again, VMExternRef[io.StringIO])
assert_type(VMExternRef.from_raw(c_void_p(ref.into_raw())), VMExternRef[Any])
assert_type(option_from_raw(None), VMExternRef[Any] | None)
lib = CDLL(None)
lib.take.restype = moved
@callback(moved, lent, c_int)
def transform(ref: VMExternRef[int] | None, number: int) -> VMExternRef[int] | None:
    return ref
lib.visit(transform)
def annotated(ref: VMExternRef[int]) -> int:
    return ref.value
""")
    run("mypy", "--strict", "--cache-dir", tmp_path / "cache", program)
