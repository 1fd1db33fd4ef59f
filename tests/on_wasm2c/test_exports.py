"""Exports: a mapping, and attributes, whatever the names."""

import copy
import pickle

import pytest

from externref import wasm2c

NAMES = ["get", "keys", "items", "values", "f", "ab", "__len__", "_items", "", "no identifier"]


@pytest.fixture
def named(run):
    """The exports of functions that give their place in the list of names."""
    def make(names):
        return run("(module {})".format(" ".join(
            f'(func (export "{name}") (param i32) (result i32) (i32.const {i}))' for i, name in enumerate(names))))
    return make


def test_a_mapping_whatever_the_names(named):
    exports = named(NAMES)
    assert list(exports) == NAMES and len(exports) == len(NAMES) and "get" in exports and "g" not in exports
    assert [exports[name](0) for name in exports] == list(range(len(NAMES)))
    assert dict(exports) == {**exports} == (lambda **items: items)(**exports) == exports
    assert list(dict(exports)) == NAMES
    assert exports == exports and exports != {} and exports != 1 and not exports != dict(exports)
    assert set(NAMES) <= set(dir(exports)) and len(dir(exports)) == len(set(dir(exports)))


@pytest.mark.parametrize("name", ["get", "items", "values"])
def test_a_name_that_is_a_method_too_is_no_attribute(named, name):
    exports = named([name, "f"])
    with pytest.raises(AttributeError, match=rf"use exports\['{name}'\]"):
        getattr(exports, name)
    assert not hasattr(exports, name)
    assert exports[name](0) == 0 and exports.f(0) == 1
    # The others are the methods.
    assert {"get": lambda: exports.values(), "items": lambda: exports.get("none"),
            "values": lambda: exports.items()}[name]() != 0


def test_without_such_names_they_are_the_mappings_methods(named):
    exports = named(["f"])
    f = exports["f"]
    assert (exports.get("f"), exports.get("g", 1)) == (f, 1)
    assert (list(exports.keys()), list(exports.values()), list(exports.items())) == (["f"], [f], [("f", f)])
    assert wasm2c.Exports.get(exports, "f") is f
    with pytest.raises(AttributeError, match="exports nothing named 'g'"):
        exports.g


def test_names_of_pythons_own_are_no_attributes(named):
    exports = named(["keys", "__len__"])
    assert list(exports.keys()) == ["keys", "__len__"] and exports.__len__() == 2


def test_copies_and_pickles(named):
    exports = named(NAMES)
    assert copy.copy(exports) == exports
    with pytest.raises(TypeError):      # of what is bound to a store
        copy.deepcopy(exports)
    with pytest.raises(TypeError):
        pickle.dumps(exports)
