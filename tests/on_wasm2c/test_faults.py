"""Memory that runs out anywhere is a MemoryError, and as if nothing had been done. Promises P1, P2."""

import os
import platform
import subprocess
import sys

import pytest

from support import NO_GIL, TESTS, run_compiler

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator that is preloaded stands before glibc's"),
    pytest.mark.skipif(NO_GIL, reason="CPython without a GIL has its own allocator alone"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ or "ASAN_OPTIONS" in os.environ, reason="something else is preloaded"),
]


def test_under_faults(compilers, tmp_path):
    library = tmp_path / "faults.so"
    run_compiler(compilers[0], "-O2", "-shared", "-fPIC", TESTS / "c/faults.c", "-o", library)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS / "on_wasm2c/under_faults.py"],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"},
        capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "skipped" not in result.stdout, result.stdout + result.stderr
