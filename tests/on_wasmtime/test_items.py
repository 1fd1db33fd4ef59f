"""Tables and globals, bound."""

import pytest
import wasmtime

import externref
import externref.wasmtime as ew
from support import MISFITS, short

ITEMS = """(module
    (table (export "t") 4 10 externref)
    (table (export "funcs") 4 funcref)
    (global (export "ref") (mut externref) (ref.null extern))
    (global (export "func") (mut funcref) (ref.null func))
    (global (export "i32") (mut i32) (i32.const -5))
    (global (export "i64") (mut i64) (i64.const -5))
    (global (export "f32") (mut f32) (f32.const 1.5))
    (global (export "f64") (mut f64) (f64.const 1.5))
    (global (export "constant") i32 (i32.const 7))
    (func (export "get") (param i32) (result externref) (table.get 0 (local.get 0))))"""


@pytest.fixture
def items(instantiate):
    return instantiate(ITEMS)


def test_a_table_is_a_sequence(items):
    a, b = object(), object()
    assert len(items.t) == 4 and list(items.t) == [None] * 4
    items.t[0], items.t[3] = a, b
    assert items.t[0] is a and items.get(3) is b
    assert list(items.t) == [a, None, None, b]
    items.t[0] = None
    assert items.t[0] is None and a not in items.t and b in items.t
    assert repr(items.t) == "<externref.wasmtime.Table of externref>"


@pytest.mark.parametrize("index", [4, -1, 2**32, 2**64, -2**70])
def test_an_index_out_of_bounds(items, index):
    with pytest.raises(IndexError, match=f"index {index} of a table of 4"):
        items.t[index]
    with pytest.raises(IndexError):
        items.t[index] = 1
    with pytest.raises(IndexError):
        items.t.ref(index)
    assert list(items.t) == [None] * 4


def test_what_is_no_index(items):
    with pytest.raises(TypeError):
        items.t["0"]
    with pytest.raises(TypeError, match="deleted"):
        del items.t[0]


def test_grow(items):
    value = object()
    assert items.t.grow(2, value) == 4
    assert items.t.grow(1) == 6
    assert list(items.t) == [None] * 4 + [value, value, None]
    assert len(items.t) == 7


def test_fill(items):
    value = object()
    items.t.fill(1, value, 2)
    assert list(items.t) == [None, value, value, None]
    items.t.fill(4, value, 0)
    for start, count in ((3, 2), (5, 0), (0, 5), (2**64 - 1, 2), (1, 2**64 - 1)):
        with pytest.raises(IndexError):
            items.t.fill(start, "never", count)
    assert list(items.t) == [None, value, value, None]


def test_references_of_a_table(items):
    ref = externref.VMExternRef(object())
    items.t.fill(0, ref, 4)
    assert items.t[2] is ref.value and items.t.ref(2) == ref and items.t.ref(2) is not ref
    items.t[2] = None
    assert items.t.ref(2) is None


def test_a_table_of_functions(items, store, func_type):
    answer = ew.func(store, func_type("", "i32"), lambda: 42)
    items.funcs[1] = answer
    items.funcs.fill(2, ew.bind(store, answer), 2)
    assert items.funcs[0] is None
    assert [function(store) for function in list(items.funcs)[1:]] == [42] * 3
    with pytest.raises(TypeError, match=r"value \(funcref\)"):
        items.funcs[0] = object()
    with pytest.raises(TypeError, match="funcref, no externref"):
        items.funcs.ref(1)


def test_the_old_value_is_dropped_after_the_new_one_is_stored(items, collect):
    # A finalizer that looks at the slot its object left.
    seen = []

    class Looking:
        def __del__(self):
            seen.append(items.t[0])

    items.t[0] = Looking()
    items.t[0] = "new"
    collect()
    assert seen == ["new"]


@pytest.mark.parametrize("name, initial, given", [
    ("i32", -5, 2**31 - 1), ("i64", -5, -2**63), ("f32", 1.5, -0.25), ("f64", 1.5, 0.1),
])
def test_a_number_in_a_global(items, name, initial, given):
    item = getattr(items, name)
    assert item.value == initial
    item.value = given
    assert item.value == given and type(item.value) is type(given)
    with pytest.raises(TypeError, match=rf"value \({name}\)"):
        item.value = "x"
    with pytest.raises(TypeError, match=f"{name}, no externref"):
        _ = item.ref
    assert repr(item) == f"<externref.wasmtime.Global of {name}>"


@pytest.mark.parametrize("name, given, error, word", MISFITS, ids=short)
def test_a_number_that_does_not_fit_names_the_global(items, name, given, error, word):
    item = getattr(items, name)
    before = item.value
    with pytest.raises(error, match=rf"^value \({name}\): .*{word}"):
        item.value = given
    assert item.value == before


def test_a_reference_in_a_global(items):
    value = object()
    assert items.ref.value is None and items.ref.ref is None
    items.ref.value = value
    assert items.ref.value is value and items.ref.ref.value is value
    ref = externref.VMExternRef(value)
    items.ref.value = ref
    assert items.ref.ref == ref


def test_a_function_in_a_global(items, store, func_type):
    assert items.func.value is None
    items.func.value = ew.func(store, func_type("", "i32"), lambda: 42)
    assert items.func.value(store) == 42
    items.func.value = None
    assert items.func.value is None


def test_an_immutable_global_raises_as_wasmtime_py_does(items, store):
    with pytest.raises(wasmtime.WasmtimeError) as theirs:
        items.raw["constant"].set_value(store, 8)
    with pytest.raises(wasmtime.WasmtimeError) as ours:
        items.constant.value = 8
    assert str(ours.value) == str(theirs.value) and items.constant.value == 7


def test_types_that_are_not_converted(store):
    module = wasmtime.Module(store.engine, """(module
        (global (export "g") anyref (ref.null any)) (table (export "t") 1 anyref))""")
    exports = wasmtime.Instance(store, module, []).exports(store)
    with pytest.raises(TypeError, match="the content"):
        ew.bind(store, exports["g"])
    with pytest.raises(TypeError, match="the element"):
        ew.bind(store, exports["t"])
