"""Beside wasmtime-py's own API, on one store: references and exceptions of either pass through the other."""

import ctypes

import pytest
import wasmtime
from wasmtime import _ffi as ffi

import externref
import externref.wasmtime as ew

HOLDER = """(module
    (table (export "t") 8 externref)
    (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) local.get 0))"""


def test_references_of_wasmtime_py_come_out_as_it_gives_them(instantiate, store):
    module = instantiate(HOLDER)
    value = object()
    module.raw["t"].set(store, 0, value)
    module.raw["g"].set_value(store, value)
    assert module.t[0] is value and module.g.value is value
    assert module.t.ref(0).value is value
    # Mixed in one call: the object travels through a table of theirs and a call of ours.
    assert module.id(module.t[0]) is value


def test_references_of_ours_come_out_of_wasmtime_pys_api(instantiate, store, func_type, collect, counted):
    module = instantiate(HOLDER)
    value = counted()
    module.t[0] = value
    module.g.value = value
    assert module.raw["t"].get(store, 0) is value
    assert module.raw["g"].value(store) is value
    seen = []
    theirs = wasmtime.Func(store, func_type("externref", "externref"), lambda got: (seen.append(got), got)[1])
    assert ew.bind(store, theirs)(value) is value and seen == [value]
    module.g.value = externref.VMExternRef(None)
    assert module.raw["g"].value(store).value is None       # a wasmtime.Val, as for its own null
    module.g.value = None
    module.t[0] = None
    del value
    seen.clear()
    collect()
    assert counted.dropped() == 1


def test_references_that_no_host_made(instantiate):
    module = instantiate("""(module (type $s (struct (field i32)))
        (func (export "i31") (result externref) (extern.convert_any (ref.i31 (i32.const 5))))
        (func (export "struct") (result externref) (extern.convert_any (struct.new $s (i32.const 5)))))""")
    for function in (module.i31, module.struct):
        assert function() is None and function.refs() is None


def test_references_that_another_library_made(store):
    # By the C API, with data that is neither a raw pointer of ours nor in wasmtime-py's slab.
    item = wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.externref(), True), None)
    value = ffi.wasmtime_val_t(kind=ffi.WASMTIME_EXTERNREF)
    no_finalizer = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
    assert ffi.wasmtime_externref_new(store._context(), 0x7fff12345678, no_finalizer, ctypes.byref(value.of.externref))
    assert not ffi.wasmtime_global_set(store._context(), ctypes.byref(item._global), ctypes.byref(value))
    ffi.wasmtime_val_unroot(ctypes.byref(value))
    with pytest.raises(TypeError, match="neither"):
        _ = ew.bind(store, item).value


@pytest.mark.parametrize("host_is", ["ours", "theirs"])
@pytest.mark.parametrize("call_is", ["ours", "theirs"])
def test_exceptions_cross_between_ours_and_wasmtime_pys(instantiate, store, func_type, host_is, call_is):
    def raise_it():
        raise KeyError("mine")

    make = ew.func if host_is == "ours" else wasmtime.Func
    module = instantiate("""(module (import "" "" (func $f))
        (func (export "call") call $f) (func (export "trap") unreachable))""", make(store, func_type(), raise_it))
    call = module.call if call_is == "ours" else lambda: module.raw["call"](store)
    with pytest.raises(KeyError, match="mine"):
        call()
    # Nothing of it is left: a trap is a trap again, both ways.
    with pytest.raises(wasmtime.Trap):
        module.trap()
    with pytest.raises(wasmtime.Trap):
        module.raw["trap"](store)


def test_an_exception_that_was_caught_on_the_way_does_not_come_back(instantiate, store, func_type):
    # Ours calls, wasmtime-py's host function calls by wasmtime-py, ours raises, theirs catches.
    def raise_it():
        raise KeyError("inner")

    def catch():
        with pytest.raises(KeyError):
            inner.raw["call"](store)

    inner = instantiate('(module (import "" "" (func $f)) (func (export "call") call $f))',
                        ew.func(store, func_type(), raise_it))
    outer = instantiate('(module (import "" "" (func $f)) (func (export "call") call $f unreachable))',
                        wasmtime.Func(store, func_type(), catch))
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        outer.call()


def test_wasmtime_pys_finalizers_may_not_use_the_store_that_runs_them(run_python):
    # wasmtime-py's own finalizers run Python code in the middle of a collection.
    assert run_python("""
import wasmtime, externref.wasmtime as ew
store = wasmtime.Store()
module = wasmtime.Module(store.engine, '(module (func (export "f") (param externref)))')
theirs = wasmtime.Instance(store, module, []).exports(store)["f"]
ours = ew.bind(store, theirs)
class Using:
    def __del__(self):
        try: ours(1)
        except RuntimeError as refused: print(refused)
theirs(store, Using())
for index in range(20_000): ours(index)     # wasmtime collects, when it makes one of these
""") == "the store cannot be used by a finalizer that it runs itself\n"
