"""All exports of an instance, bound at once: a mapping, and attributes."""

import copy
import inspect
from collections.abc import Mapping

import pytest
import wasmtime

import externref.wasmtime as ew

WAT = """(module (type $ft (func))
    (func (export "f") (param i32 externref) (result i32) local.get 0) (func (export "get") (result i32) (i32.const 7))
    (func (export "any") (param anyref)) (func (export "ref") (result (ref null $ft)) unreachable)
    (table (export "t") 2 externref) (table (export "any table") 1 anyref) (memory (export "m") 1)
    (global (export "g") (mut i32) (i32.const 5)) (tag (export "tag") (param i32)))"""
NAMES = ["f", "get", "any", "ref", "t", "any table", "m", "g", "tag"]
UNBOUND = {"any": "parameter 1 is of a type that is not converted here", "ref": "result 1 is of a type",
           "any table": "the element is of a type", "tag": "not Tag"}


@pytest.fixture
def raw(store):
    return wasmtime.Instance(store, wasmtime.Module(store.engine, WAT), []).exports(store)


@pytest.fixture
def exports(store, raw):
    return ew.bind(store, raw)


def test_all_that_can_be_bound_is(exports):
    assert isinstance(exports, ew.Exports) and isinstance(exports, Mapping)
    assert list(exports) == NAMES and len(exports) == len(NAMES) and "t" in exports and "none" not in exports
    assert exports.f(3, None) == 3 and exports["get"]() == 7 and exports.g.value == 5
    assert [type(exports[name]) for name in "ftmg"] == [ew.Func, ew.Table, ew.Memory, ew.Global]
    assert set(NAMES) <= set(dir(exports)) and repr(exports).startswith("<exports 'f', 'get', ")
    assert exports == exports == copy.copy(exports) and exports != {}
    with pytest.raises(AttributeError, match="exports nothing named 'none'"):
        exports.none
    with pytest.raises(KeyError):
        exports["none"]
    with pytest.raises(AttributeError, match=r"use exports\['get'\]"):
        exports.get


@pytest.mark.parametrize("name", UNBOUND)
def test_what_cannot_be_bound_says_why_when_it_is_asked_for(exports, name):
    assert name in exports
    for ask in (lambda: exports[name], lambda: getattr(exports, name), lambda: ew.Exports.get(exports, name), lambda: dict(exports)):
        with pytest.raises(TypeError, match="the export '.*' cannot be bound: "):
            ask()
    with pytest.raises(TypeError, match=f"the export '{name}' cannot be bound: .*{UNBOUND[name]}"):
        exports[name]


def test_functions_have_their_names(exports, store):
    f = exports.f
    assert f.name == f.__name__ == "f" and str(inspect.signature(f)) == "(a0: int, a1: Any, /) -> int"
    assert repr(f) == "<externref.wasmtime.Func 'f' (i32, externref) -> (i32)>"
    with pytest.raises(TypeError, match=r"f\(\) takes 2 arguments, not 0"):
        f()
    assert ew.bind(store, f, release_gil=True).name == "f" and ew.bind(store, f) is f


def test_the_gil_is_the_functions(store, raw):
    exports = ew.bind(store, raw, release_gil=True)
    assert exports.f.release_gil and exports.f(2, None) == 2 and len(exports.t) == 2
    assert not ew.bind(store, raw).f.release_gil


def test_without_exports(store):
    exports = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, "(module)"), []).exports(store))
    assert dict(exports) == {} and exports.get("f", 1) == 1 and repr(exports) == "<exports >"


def test_exports_of_another_store_or_a_closed_one(raw, func_type):
    store = wasmtime.Store()
    with pytest.raises(ValueError, match="another store"):
        ew.bind(store, raw)
    store.close()
    with pytest.raises(ValueError, match="already closed"):
        ew.bind(store, raw)
