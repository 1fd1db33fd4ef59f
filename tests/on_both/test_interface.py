"""Both runtimes' classes have the same attributes, with the same parameters, but for those of docs/wasmtime.md's table."""

import inspect
from pathlib import Path

import pytest

wasm2c = pytest.importorskip("externref.wasm2c", reason="a part of wasm2c is not installed")
ew = pytest.importorskip("externref.wasmtime", reason="wasmtime is not installed", exc_type=ImportError)

ONLY = {"Func": {"instance", "wasmtime_func"}, "Memory": {"__buffer__"}}
CLASSES = ["Func", "Table", "Global", "Memory", "Exports"]


def attributes(cls):
    # __slotnames__ is what copy keeps in a class that it has seen.
    others = {*dir(object), "__slotnames__"} - {"__call__"}
    return {name for name in dir(cls) if name not in others}


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_attributes(name):
    ours, theirs = getattr(wasm2c, name), getattr(ew, name)
    assert not any("pyx" in attribute for cls in (ours, theirs) for attribute in dir(cls))     # nor in help()
    assert attributes(ours) ^ attributes(theirs) <= ONLY.get(name, set())
    for attribute in attributes(ours) & attributes(theirs):
        one, other = (inspect.getattr_static(cls, attribute) for cls in (ours, theirs))
        kinds = {type(one).__name__, type(other).__name__}
        # A FuncSignature is each module's own.
        assert type(one) is type(other) or kinds in ({"member_descriptor", "getset_descriptor"}, {"FuncSignature"}), attribute
        if callable(one) and not attribute.startswith("__"):
            assert inspect.signature(one) == inspect.signature(other), attribute
            assert bool(one.__doc__) and bool(other.__doc__), attribute


@pytest.mark.parametrize("name", ["instance", "wasmtime_func", "memoryview"])
def test_what_only_one_has_is_in_the_document(name):
    document = Path(__file__).parents[2] / "docs/wasmtime.md"
    if not document.is_file():
        pytest.skip("needs a checkout")
    assert name in document.read_text().partition("## Beside externref.wasm2c")[2].partition("\n## ")[0]
