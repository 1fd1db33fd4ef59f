"""Other systems and processors: what compiles for them, and what of that runs on this machine.

Zig's C compiler (of the package ziglang) has the headers and libraries of them all. CPython's headers are stood in for
by those of tests/c/stand_in, so a build of the extension modules is not what this shows; docs/platforms.md says what is.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys

import pytest

from support import TESTS

SOURCE = TESTS.parent / "src/externref"

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
    pytest.mark.skipif(not SOURCE.exists(), reason="the package's source is not beside the tests"),
]

# (Zig's name, what it has: POSIX or Windows threads for the helper; what externref.wasm2c needs)
TARGETS = {
    "x86_64-linux-gnu.2.28": ("-DTHREADS", "-DWASM2C"),
    "x86_64-linux-musl": ("-DTHREADS", "-DWASM2C"),
    "aarch64-linux-gnu.2.28": ("-DTHREADS", "-DWASM2C"),
    "aarch64-linux-musl": ("-DTHREADS", "-DWASM2C"),
    "riscv64-linux-musl": (),       # call.h does not know it: see test_a_processor_that_function_does_not_know
    "x86_64-macos": ("-DTHREADS", "-DWASM2C"),
    "aarch64-macos": ("-DTHREADS", "-DWASM2C"),
    "x86_64-windows-gnu": ("-DTHREADS", "-DWASM2C"),
    "aarch64-windows-gnu": ("-DTHREADS",),
    "x86-linux-musl": ("-DTHREADS",),
    "arm-linux-musleabihf": ("-DTHREADS",),
    "x86-windows-gnu": ("-DTHREADS",),
    "wasm32-wasi": (),
}


def compile_for(target, *args):
    """Zig's C compiler, warnings being errors; what it says."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2", "-Wall", "-Wextra", "-Werror",
               "-Wno-unused-function", "-I", SOURCE / "include", "-I", SOURCE, *args]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1200)


@pytest.mark.parametrize("target", [target for target in TARGETS if not target.startswith("riscv")])
def test_headers_compile(target, tmp_path):
    result = compile_for(target, *TARGETS[target], "-I", TESTS / "c/stand_in", "-c", TESTS / "c/headers.c",
                         "-o", tmp_path / "headers.o")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_public_header_compiles(target, language, tmp_path):
    result = compile_for(target, "-x", "c" if language == "c11" else "c++", f"-std={language}", "-c", TESTS / "c/freeze.c",
                         "-o", tmp_path / "freeze.o")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_processor_that_function_does_not_know(tmp_path):
    result = compile_for("riscv64-linux-musl", "-x", "c", "-c", SOURCE / "_function/call.h", "-o", tmp_path / "call.o")
    assert result.returncode != 0 and "do pointers and words travel alike on this architecture?" in result.stderr


def emulator(target):
    """What runs a program for this target, if anything does."""
    processor, system = target.split("-")[:2]
    if system == "windows":
        return "wine"
    if processor == "aarch64" and platform.machine() != "aarch64":
        return "qemu-aarch64-static"
    return None


# A static program for this processor, or for its 32-bit sibling, is run by Linux itself.
@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="not Linux on x86-64")
@pytest.mark.parametrize("target, word", [
    ("x86_64-linux-musl", 8), ("x86-linux-musl", 4), ("aarch64-linux-musl", 8), ("x86_64-windows-gnu", 8)])
def test_a_program_runs(target, word, tmp_path):
    program = tmp_path / "standalone.exe"
    result = compile_for(target, TESTS / "c/standalone.c", "-o", program)
    assert (result.returncode, result.stderr) == (0, "")
    runs = emulator(target)
    if runs is not None and shutil.which(runs) is None:
        pytest.skip(f"there is no {runs}")
    # wine makes its folder where it is told to, and is silent about what it lacks.
    result = subprocess.run([*([runs] if runs else []), str(program)], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"})
    assert (result.returncode, result.stdout.split("\n")[0].strip()) == (0, f"words of {word} bytes: good"), result
