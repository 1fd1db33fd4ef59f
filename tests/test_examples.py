"""Every file in examples/ runs, says nothing on standard error and ends well.

A line `# needs: NAME ...` at the top of one names the modules without which it is skipped.
Files whose names begin with an underscore are what the examples share.
"""

import os
import re
import subprocess
import sys

import pytest

from support import TESTS

EXAMPLES = TESTS.parent / "examples"
FILES = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))


def run(name, **env):
    """Runs an example in the environment as changed by env, where None takes a variable away."""
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run([sys.executable, "-W", "error", EXAMPLES / name], capture_output=True, text=True, timeout=300,
                          env={key: value for key, value in variables.items() if value is not None})


# What an example that ends itself says first, where it lacks what no Python package is.
MISSING = ("no C compiler for WebAssembly", "no sqlite library found", "no GLib found", "no Rust compiler found")


@pytest.mark.parametrize("name", FILES)
def test_example(name, compilers):
    needs = re.search(r"^# needs: *(.*)", (EXAMPLES / name).read_text(encoding="utf-8"), re.MULTILINE)
    for module in needs[1].split() if needs else []:
        # Not find_spec: here it finds folders of the tests that are named after what they test.
        if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, cwd=EXAMPLES).returncode != 0:
            pytest.skip(f"{module} is not installed")
    result = run(name)
    if result.stderr.startswith(MISSING):
        pytest.skip(result.stderr.strip())
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout != ""


def test_library_owns_its_user_data(compilers):
    assert run("ctypes_user_data.py").stdout == (
        "events:        [0, 1, 2, 3, 4]\nowners after:  1\nreleased:      True\n")


def test_cffi_container_keeps_and_releases(compilers):
    pytest.importorskip("cffi", reason="cffi is not installed")
    assert run("cffi_container.py").stdout == (
        "kept by C:    1000\nthe same:     True\nowners:       1\nalive:        999\nafter close:  0\n")


@pytest.mark.parametrize("name, needs, expected", [
    ("numpy_dlpack.py", "numpy", ["BYTES of Python's", "True", "True"]),
    ("pyarrow_array.py", "pyarrow", ["uint8 4950", "True", "True"]),
    ("sqlite_user_data.py", None, ["[1, 2, 3]", "True", "True"]),
    ("glib_idle.py", None, ["one", "two", "three", "True"]),
    ("rust_worker.py", None, ["one", "two", "None", "True"]),
])
def test_library_owns_what_it_was_given(name, needs, expected, compilers):
    if needs is not None:
        pytest.importorskip(needs, reason=f"{needs} is not installed")
    result = run(name)
    if result.stderr.startswith(MISSING):
        pytest.skip(result.stderr.strip())
    assert [line.partition(":")[2].strip() for line in result.stdout.splitlines()] == expected


def test_jit_counts_by_offsets_alone():
    pytest.importorskip("llvmlite", reason="llvmlite is not installed")
    assert [line.split(":")[1].strip() for line in run("llvmlite_jit.py").stdout.splitlines()] == [
        "1 owner", "2 owners", "True", "True"]


def test_missing_compiler_is_said(tmp_path):
    result = run("ctypes_user_data.py", PATH=str(tmp_path), CC=None)
    assert result.returncode == 1
    assert result.stderr == ("no C compiler found (tried cc, gcc, clang): install one, or name it in the "
                             "environment variable CC\n")
