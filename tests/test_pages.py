"""What the README and the pages of docs/ show is run as it stands there: pages.py says how."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import run_compiler

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
# Page: the modules that it needs.
PAGES = {
    "../README.md": [],
    "tutorial.md": ["externref.wasm2c", "externref.wasmtime", "Cython"],
    "migrating.md": ["cffi"],
    "jit.md": ["llvmlite"],
    "threads.md": [],
    "why.md": ["cffi"],
    "ownership.md": [],
    "command.md": ["externref.wasm2c"],
    "collector.md": [],
    "releasing.md": [],
    "wasmtime.md": ["externref.wasmtime"],
}
# Page: the test that runs or compiles its blocks in a way of its own.
ELSEWHERE = {
    "benchmarks.md": "test_bench.py",
    "abi.md": "test_docs.py",           # recipes that test_drain.py has in full
    "cpp.md": "test_cpp.py",
    "ctypes.md": "test_ctypes.py",
    "cython.md": "test_docs.py",
    "debugging.md": "test_docs.py",
    "guests.md": "on_wasm2c/test_guests.py",
    "numba.md": "on_numba/test_entry_point.py",
    "owning.md": "test_docs.py",
    "wasm.md": "on_wasm2c/test_examples.py",
    "contributing.md": "test_docs.py",  # its commands are those of .ci
    "changelog.md": "test_docs.py",
    "security.md": "test_docs.py",
}
PRELUDES = {"wasmtime.md": """
import wasmtime.component
from wasmtime import FuncType, ValType
store = wasmtime.Store()
module = wasmtime.Module(store.engine, '(module (func (export "f") (param externref)))')
instance = wasmtime.Instance(store, module, [])
linker = wasmtime.component.Linker(store.engine)
obj = object()
"""}
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs a checkout")


@pytest.mark.parametrize("page", PAGES)
def test_page(page, compilers, tmp_path):
    for module in PAGES[page]:
        pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    if shutil.which("cc") is None:
        pytest.skip("no cc: install a C compiler")
    # The commands of a page find the package and its script as this process does.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run([sys.executable, TESTS / "pages.py", DOCS / page, PRELUDES.get(page, "")], cwd=tmp_path,
                            capture_output=True, text=True,
                            env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert result.returncode == 0, result.stdout + result.stderr
    if page == "../README.md":      # others compile their own
        for compiler in compilers:
            run_compiler(compiler, "-c", tmp_path / "keep.c", "-o", tmp_path / "keep.o")


def test_every_page_is_run():
    pages = {page.name: page.read_text() for page in DOCS.glob("*.md")}
    shows_code = {name for name, text in pages.items() if re.search(r"^```\w", text, re.MULTILINE)}
    assert shows_code - set(PAGES) - set(ELSEWHERE) == set()
    assert [page for page, test in ELSEWHERE.items() if not (TESTS / test).is_file() or page not in pages] == []


def test_the_drawing_is_of_what_happens():
    namespace = {"__name__": "drawings"}
    exec((DOCS / "drawings.py").read_text(), namespace)
    assert namespace["drawing"]() == (DOCS / "ownership.svg").read_text(), "run docs/drawings.py"
