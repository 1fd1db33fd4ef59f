"""numba finds the package by itself, and signatures that are strings name its type."""

import importlib.metadata
import re
from pathlib import Path

import pytest

PROGRAM = """
import sys
from externref import VMExternRef
from numba import njit

@njit
def identity(value):
    return value

anything = open(sys.argv[1], "w")
ref = VMExternRef(anything)
assert identity(ref) == ref and identity((ref, 1))[0].value is anything
anything.close()
print("externref.numba" in sys.modules)
"""


def test_without_an_import(run_python, tmp_path):
    if not any(point.value.startswith("externref.") for point in importlib.metadata.entry_points(group="numba_extensions")):
        pytest.skip("externref is on the path, and not installed")
    assert run_python(PROGRAM, tmp_path / "notes.txt") == "True\n"


def test_a_signature_that_is_a_string(run_python):
    assert run_python("""
import externref.numba
from externref import VMExternRef
from numba import njit

@njit("vmexternref(vmexternref, intp)")
def either(ref, n):
    return ref

ref = VMExternRef([])
print(either(ref, 3) == ref, len(either.signatures))
""") == "True 1\n"


def test_the_page(run_python, tmp_path):
    """The blocks of docs/numba.md, one after the other."""
    page = Path(__file__).parents[2] / "docs/numba.md"
    if not page.is_file():
        pytest.skip("needs a checkout")
    blocks = "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    assert blocks.count("@njit") >= 3
    run_python(f"import os, sys\nos.chdir(sys.argv[1])\nimport externref.numba\n{blocks}\nanything.close()", tmp_path)
