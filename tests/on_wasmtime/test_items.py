"""Tables and globals, bound, where it is wasmtime's matter: on_both has the rest."""

import pytest
import wasmtime

import externref.wasmtime as ew

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


def test_a_table_of_functions(items, store, func_type):
    answer = ew.func(store, func_type("", "i32"), lambda: 42)
    items.funcs[1] = answer
    items.funcs.fill(2, ew.bind(store, answer), 2)
    assert items.funcs[0] is None
    assert [function() for function in list(items.funcs)[1:]] == [42] * 3
    with pytest.raises(TypeError, match=r"the element \(funcref\)"):
        items.funcs[0] = object()
    with pytest.raises(TypeError, match="the table's elements are funcref"):
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


def test_a_function_in_a_global(items, store, func_type):
    assert items.func.value is None
    items.func.value = ew.func(store, func_type("", "i32"), lambda: 42)
    assert items.func.value() == 42 and items.func.value.wasmtime_func(store) == 42
    items.func.value = None
    assert items.func.value is None


def test_types_that_are_not_converted(store):
    module = wasmtime.Module(store.engine, """(module
        (global (export "g") anyref (ref.null any)) (table (export "t") 1 anyref))""")
    exports = wasmtime.Instance(store, module, []).exports(store)
    with pytest.raises(TypeError, match="the content"):
        ew.bind(store, exports["g"])
    with pytest.raises(TypeError, match="the element"):
        ew.bind(store, exports["t"])


def test_functions_of_types_that_are_not_converted_are_values(store):
    module = wasmtime.Module(store.engine, """(module (func $f (param anyref) (result i32) (i32.const 7))
        (table (export "t") 2 funcref) (elem (i32.const 0) func $f))""")
    t = ew.bind(store, wasmtime.Instance(store, module, []).exports(store)).t
    f = t[1] = t[0]
    assert f.name == "funcref" and "parameter 1 is of a type that is not converted" in repr(f)
    for use in (lambda: f(None), lambda: f.refs(None), lambda: f.type):
        with pytest.raises(TypeError, match="parameter 1 is of a type that is not converted"):
            use()
    assert isinstance(f.wasmtime_func, wasmtime.Func)       # which can be passed on


def test_a_table_of_64_bit_indices_tells_no_maximum(run_python):
    # The C API aborts the process when it is asked for a maximum of more than 32 bits.
    run_python("""
import wasmtime, externref.wasmtime as ew
config = wasmtime.Config()
config.wasm_memory64 = True
store = wasmtime.Store(wasmtime.Engine(config))
for limits, found in (("i64 1", None), ("i64 1 4294967296", None), ("i64 1 18446744073709551615", None), ("1 7", 7), ("1 4294967294", 4294967294)):
    for element in ("externref", "funcref"):
        module = wasmtime.Module(store.engine, f'(module (table (export "t") {limits} {element}))')
        t = ew.bind(store, wasmtime.Instance(store, module, []).exports(store)).t
        assert t.type == (element, 1, found), t.type
        assert t.grow(1) == 1 and t.type.minimum == 2 and f"table of 2 to {found or 'any'} {element}" in repr(t)
""")
