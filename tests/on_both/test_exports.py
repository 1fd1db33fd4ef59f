"""Exports: a mapping, and attributes, whatever the names."""

import copy
import pickle
import weakref
from collections.abc import Mapping

import pytest

NAMES = ["get", "keys", "items", "values", "f", "ab", "__len__", "_items", "", "no identifier", "a b-ü"]


@pytest.fixture
def named(make):
    """The exports of functions that give their place in the list of names, in the runtime of `make`."""
    made = make()

    def named(names):
        text = "(module {})".format(" ".join(
            f'(func (export "{name}") (param i32) (result i32) (i32.const {i}))' for i, name in enumerate(names)))
        return made.exports_of(text)

    return named


def test_a_mapping_whatever_the_names(named):
    exports = named(NAMES)
    assert isinstance(exports, Mapping) and list(exports) == NAMES and len(exports) == len(NAMES)
    assert "get" in exports and "g" not in exports and 1 not in exports
    assert [exports[name](0) for name in exports] == list(range(len(NAMES)))
    assert dict(exports) == {**exports} == (lambda **items: items)(**exports) == exports
    assert exports == exports and exports != {} and exports != 1 and not exports != dict(exports)
    assert set(NAMES) <= set(dir(exports)) and len(dir(exports)) == len(set(dir(exports)))
    assert repr(exports).startswith("<exports 'get', 'keys', ")


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
    assert (exports.get("f"), exports.get("g", 1), exports.get("g")) == (f, 1, None)
    assert (list(exports.keys()), list(exports.values()), list(exports.items())) == (["f"], [f], [("f", f)])
    assert type(exports).get(exports, "f") is f


def test_names_of_pythons_own_are_no_attributes(named):
    exports = named(["keys", "__len__"])
    assert list(exports.keys()) == ["keys", "__len__"] and exports.__len__() == 2


def test_what_is_not_there(named):
    exports = named([])
    assert dict(exports) == {} and repr(exports) == "<exports >"
    for name in ("g", 1, None):
        with pytest.raises(KeyError):
            exports[name]
    with pytest.raises(AttributeError, match="^the instance exports nothing named 'g'$"):
        exports.g


def test_they_do_not_change(named):
    exports = named(["f"])
    for act, error in ((lambda: exports.__setitem__("f", 1), AttributeError), (lambda: setattr(exports, "f", 1), AttributeError),
                       (lambda: setattr(exports, "g", 1), AttributeError), (lambda: delattr(exports, "f"), AttributeError),
                       (lambda: hash(exports), TypeError)):
        with pytest.raises(error):
            act()
    assert exports.f(0) == 0


def test_copies_and_pickles(named):
    exports = named(NAMES)
    assert copy.copy(exports) == exports
    for act in (copy.deepcopy, pickle.dumps):       # of what is bound to a store
        with pytest.raises(TypeError):
            act(exports)


def test_of_every_kind(made):
    package = made.package
    kinds = {"double": package.Func, "t": package.Table, "g_i32": package.Global, "m": package.Memory}
    for name, kind in kinds.items():
        assert type(made.exports[name]) is type(getattr(made.exports, name)) is kind and kind.__module__ == made.name
    assert type(made.exports) is package.Exports and type(made.exports).__module__ == made.name


ITEMS = """(module (table (export "t") 1 externref) (global (export "g") i32 (i32.const 1)) (memory (export "m") 1)
    (func (export "f")))"""


@pytest.mark.parametrize("name", ["f", "t", "g", "m", None])
def test_weak_references(made, name):
    seen = []
    exports = made.exports_of(ITEMS)
    item = exports if name is None else exports[name]
    ref = weakref.ref(item, seen.append)
    del exports
    made.collect()
    assert ref() is item and seen == []
    del item
    made.collect()
    assert ref() is None and seen == [ref]
