"""The stubs say what the built module has, and type-check as users write."""

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import externref
from support import TESTS

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
    # These import the runtime that they are for, which may be missing; numba's decorators make no functions. A
    # function has a signature, its class none.
    adapters = write(tmp_path / "allowlist", "externref.numba\nexternref.numba._.*\nexternref.wasmtime\n"
                                             "externref.*.Func.__signature__\n")
    run("mypy.stubtest", "externref", "--ignore-missing-stub", "--ignore-disjoint-bases",
        "--allowlist", adapters, "--ignore-unused-allowlist",
        "--mypy-config-file", write(tmp_path / "mypy.ini", UNTYPED))


def write(path, text):
    path.write_text(text)
    return path


def test_types_as_users_write_them(tmp_path):
    """The programs of tests/typing; .ci/types has pyright look at them, too."""
    programs = sorted((TESTS / "typing").glob("*.py"))
    assert len(programs) >= 4
    run("mypy", "--strict", "--cache-dir", tmp_path / "cache",
        *(program for program in programs if program.stem != "on_wasmtime" or importlib.util.find_spec("wasmtime")))


def documented(tree, module):
    """Pairs of what a stub says and what the module says, of what a user sees."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            thing = getattr(module, node.name)
            yield node, thing
            if isinstance(node, ast.ClassDef):
                yield from documented(node, thing)


@pytest.mark.parametrize("stub", sorted(Path(externref.__file__).parent.rglob("*.pyi")), ids=lambda path: path.parent.name + path.stem)
def test_docstrings_of_stubs_are_the_modules(stub):
    """Otherwise: .ci/stub-docs."""
    name = ".".join(stub.relative_to(Path(externref.__file__).parents[1]).with_suffix("").parts).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    seen, count = set(), 0
    for node, thing in documented(ast.parse(stub.read_text()), module):
        text = getattr(thing, "__doc__", None)
        if id(thing) not in seen and not isinstance(thing, type(int.__add__)):
            assert inspect.cleandoc(ast.get_docstring(node) or "") == inspect.cleandoc(text or "").strip(), node.name
            count += text is not None
        seen.add(id(thing))
    assert count or stub.stem == "__init__"


PUBLIC = ["externref", "externref.abi", "externref.ctypes", "externref.debug", "externref.numba", "externref.wasm2c",
          "externref.wasmtime"]


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    things = {f"{name}.{attribute}": getattr(module, attribute) for attribute in module.__all__}
    for path, thing in list(things.items()):
        if isinstance(thing, type):
            things |= {f"{path}.{attribute}": value for attribute, value in vars(thing).items() if attribute[0] != "_"}
    assert [path for path, thing in things.items()
            if not isinstance(thing, int | str | tuple) and not inspect.getdoc(thing)] == []
