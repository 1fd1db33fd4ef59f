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


USES_THE_STORE = """
import externref, wasmtime, externref.wasmtime as ew
config = wasmtime.Config()
config.wasm_gc = True
store = wasmtime.Store(wasmtime.Engine(config))
module = wasmtime.Module(store.engine, '''(module (type $s (struct (field i64 i64)))
    (func (export "f") (param externref))
    (func (export "churn") (param i32) (loop (drop (struct.new $s (i64.const 1) (i64.const 2)))
        (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))))''')
exports = wasmtime.Instance(store, module, []).exports(store)
theirs, churn = exports["f"], exports["churn"]
ours = ew.bind(store, theirs)
table = wasmtime.Table(store, wasmtime.TableType(wasmtime.ValType.externref(), wasmtime.Limits(1, None)), None)
used = []
class Using:
    def __del__(self):
        ours(1)
        theirs(store, 2)
        used.append(1)
def make():
    for _ in range(100):
        theirs(store, Using())
        table.set(store, 0, Using())
        ours(Using())
    table.set(store, 0, None)
make()
"""


@pytest.mark.parametrize("collect", [
    "ew.bind(store, churn)(3_000_000)", "churn(store, 3_000_000)", "store.gc()",
    "ew.bind(store, churn, release_gil=True)(3_000_000)",
    "for index in range(200_000): ours(index)", "for index in range(100_000): theirs(store, index)",
    "ew.bind(store, table)[0] = 5; store.gc()",
], ids=range(7))
def test_a_finalizer_of_what_wasmtime_py_stored_may_use_the_store(run_python, collect):
    """It runs later, as ours do: not in the middle of wasmtime's work."""
    # Else the helper runs it, while the main thread is in the store without the GIL.
    main = "externref.set_drain('main')\n"
    assert run_python(USES_THE_STORE + main + collect + """
for _ in range(3):
    store.gc()
    externref.drain()
assert len(used) == 300, len(used)
store.close()
externref.drain()
assert externref.stats().live_blocks == 0, externref.stats()
""") == ""


def test_wasmtime_py_gives_back_what_it_got(store):
    table = wasmtime.Table(store, wasmtime.TableType(wasmtime.ValType.externref(), wasmtime.Limits(1, None)), None)
    item = wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.externref(), True), None)
    ref = externref.VMExternRef([])
    for value in ([1], ref, 7, "text", object):
        table.set(store, 0, value)
        item.set_value(store, value)
        assert table.get(store, 0) is value and item.value(store) is value
        assert ew.bind(store, table)[0] is value and ew.bind(store, table).ref(0).value is value
    assert ref.strong_count == 1


def test_what_wasmtime_py_stored_before_is_still_its_own(run_python):
    assert run_python("""
import wasmtime
store = wasmtime.Store()
table = wasmtime.Table(store, wasmtime.TableType(wasmtime.ValType.externref(), wasmtime.Limits(2, None)), None)
class Thing:
    def __del__(self): print("dropped")
table.set(store, 0, Thing())
import externref.wasmtime as ew
bound = ew.bind(store, table)
assert table.get(store, 0) is bound[0] and type(bound[0]) is Thing
bound[1] = bound[0]
table.set(store, 0, None)
store.gc()
print("kept")
store.close()
""") == "kept\ndropped\n"
