"""Calls through bind(), where it is wasmtime's matter: on_both/test_functions.py has the rest. Promise P6."""

import ctypes
import inspect
from types import SimpleNamespace

import pytest
import wasmtime

import externref
import externref.wasmtime as ew
from externref import _core
from support import NO_GIL, EqualToAll

IDENTITIES = "(module" + "".join(
    f'(func (export "{name}") (param {name}) (result {name}) local.get 0)'
    for name in ("i32", "i64", "f32", "f64", "externref", "funcref")
) + ")"


@pytest.fixture
def identities(instantiate):
    return instantiate(IDENTITIES)


def test_none_is_null_both_ways(identities, instantiate):
    assert identities.externref(None) is None
    assert identities.externref.refs(None) is None
    module = instantiate("""(module
        (func (export "null") (result externref) ref.null extern)
        (func (export "null_func") (result funcref) ref.null func)
        (func (export "is_null") (param externref) (result i32) (ref.is_null (local.get 0))))""")
    assert module.null() is None and module.null_func() is None
    assert module.is_null(None) == 1 and module.is_null(0) == 0


def test_funcrefs_round_trip(identities, store, func_type):
    function = wasmtime.Func(store, func_type("", "i32"), lambda: 42)
    for given in (function, ew.bind(store, function)):
        result = identities.funcref(given)
        assert result() == 42 and ew.bind(store, result) is result and ew.bind(store, result, release_gil=True)() == 42
        assert isinstance(result.wasmtime_func, wasmtime.Func) and result.wasmtime_func(store) == 42
    assert identities.funcref(None) is None
    assert identities.funcref.refs(function)() == 42


def test_several_results_are_a_tuple(instantiate):
    module = instantiate("""(module
        (func (export "none"))
        (func (export "swap") (param externref i32 f64) (result f64 i32 externref)
            local.get 2 local.get 1 local.get 0))""")
    value = object()
    assert module.none() is None
    assert module.swap(value, 1, 2.5) == (2.5, 1, value)
    real, integer, ref = module.swap.refs(value, 1, 2.5)
    assert (real, integer, ref.value) == (2.5, 1, value)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_many_parameters_and_results(instantiate, count):
    types, gets = "externref " * count, " ".join(f"local.get {i}" for i in range(count))
    module = instantiate(f'(module (func (export "f") (param {types}) (result {types}) {gets}))')
    values = tuple(object() for _ in range(count))
    assert module.f(*values) == (values[0] if count == 1 else values)
    with pytest.raises(TypeError):
        module.f(*values, None)


def test_a_later_parameter_that_does_not_fit_is_named_and_nothing_leaks(instantiate, collect, make_payload):
    module = instantiate('(module (func (export "f") (param externref i32 i64 f32 f64 funcref)))')
    dropped = []
    good = [0, 0, 0, 0, None]
    for place in range(5):
        arguments = good.copy()
        arguments[place] = "bad"
        with pytest.raises(TypeError, match=rf"argument {place + 2} "):
            module.f(make_payload(dropped), *arguments)
    collect()
    assert len(dropped) == 5


@pytest.mark.parametrize("kind", ["anyref", "(ref null $f)", "exnref"])
def test_types_that_are_not_converted_are_refused_by_name_of_their_place(store, kind):
    module = wasmtime.Module(store.engine, f"""(module (type $f (func (param i32)))
        (func (export "param") (param i32 {kind})) (func (export "result") (result {kind}) unreachable))""")
    exports = wasmtime.Instance(store, module, []).exports(store)
    with pytest.raises(TypeError, match="parameter 2 is of a type that is not converted"):
        ew.bind(store, exports["param"])
    with pytest.raises(TypeError, match="result 1 is of a type that is not converted"):
        ew.bind(store, exports["result"])


def test_a_native_payload_comes_out_as_a_reference(instantiate, store, foreign, monkeypatch):
    # A block whose payload is no Python object: what a C extension makes. Its raw pointer is all
    # that Python gets of it.
    name = "externref._core._C_API"
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.argtypes, get_pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    table = ctypes.cast(get_pointer(_core._C_API, name.encode()), ctypes.POINTER(ctypes.c_void_p))
    # api_version, abi_version, size, then the functions in the order of externref_api.h.
    make_type = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)(
        table[8])
    init_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    new_with = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, init_type, ctypes.c_void_p)(table[9])
    raw = new_with(make_type(b"native", 8, 8, None), init_type(lambda value, context: 0), None)
    ref = externref.VMExternRef.from_raw(raw)
    module = instantiate('''(module (global (export "g") (mut externref) (ref.null extern))
        (func (export "id") (param externref) (result externref) local.get 0))''')
    assert module.id(ref) == ref
    module.g.value = ref
    assert module.g.value == ref and module.raw["g"].value(store) == ref


def test_the_signature(identities, instantiate):
    assert identities.i32.name == identities.i32.__name__ == "func"
    assert str(inspect.signature(identities.i32)) == "(a0: int, /) -> int"
    module = instantiate("""(module (func (export "f") (param i32 f64 externref) (result i64 funcref) unreachable)
        (func (export "g")))""")
    assert str(inspect.signature(module.f)) == "(a0: int, a1: float, a2: Any, /) -> tuple[int, typing.Any]"
    assert str(inspect.signature(module.g)) == "() -> None"


@pytest.mark.skipif(NO_GIL, reason="code objects wait for a collection of their own without a GIL")
def test_what_the_collector_has_in_hand_is_whole(run_python):
    # What the clearing of a cycle runs finds the bound items in it, and uses them.
    run_python("""
import gc, wasmtime, weakref, externref.wasmtime as ew
gc.disable()
def use(_):
    for item in gc.get_objects():
        if type(item) in uses:
            found.add(type(item))
            try: uses[type(item)](item)
            except ValueError: pass     # the store is closed by then
found = set()
uses = {ew.Func: lambda f: f(1), ew.Table: lambda t: t[0], ew.Global: lambda g: g.value}
last = compile("1", "", "eval")     # not the collector's: it does not know of the weak reference
watch = weakref.ref(last, use)
store = wasmtime.Store()
exports = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (table (export "t") 1 externref)
    (global (export "g") i32 (i32.const 1)) (func (export "f") (param externref)))'''), []).exports(store)
items = tuple(ew.bind(store, exports[name]) for name in "ftg")
kept = [*items, last]       # the last in it goes first
kept.insert(0, kept)        # so that it is not cleared before the items
store.kept = kept
del store, exports, items, kept, last
gc.collect()
assert found == set(uses), found
""")


@pytest.mark.parametrize("cls", [ew.Func, ew.Table, ew.Global, ew.Memory, ew.Caller])
def test_nothing_is_made_by_hand(cls):
    for make in (cls, lambda: cls.__new__(cls), lambda: cls(object()), lambda: cls.__new__(cls, EqualToAll()),
                 lambda: cls(EqualToAll()), lambda: cls(EqualToAll(), 1), lambda: object.__new__(cls)):
        with pytest.raises(TypeError, match="bind|host function|not safe|argument"):
            make()


# --- (ref extern), which is never null

NON_NULL = """(module (type $nothing (struct))
    (import "" "get" (func $get (result (ref extern))))
    (table (export "t") 2 9 (ref extern) (extern.convert_any (struct.new $nothing)))
    (global (export "g") (mut (ref extern)) (extern.convert_any (struct.new $nothing)))
    (func (export "id") (param (ref extern)) (result (ref extern)) local.get 0)
    (func (export "both") (param (ref extern) i32 externref) (result externref (ref extern)) local.get 2 local.get 0)
    (func (export "got") (result (ref extern)) call $get))"""


@pytest.fixture
def non_null(store):
    """Its exports, bound; got() gives what the list `given` has last."""
    module, given = wasmtime.Module(store.engine, NON_NULL), []
    get = ew.func(store, module.imports[0].type, lambda: given[-1])
    exports = ew.bind(store, wasmtime.Instance(store, module, [get]).exports(store))
    return SimpleNamespace(given=given, **{name: exports[name] for name in ("t", "g", "id", "both", "got")})


def test_a_reference_that_is_never_null_carries_any_object(non_null, collect, make_payload):
    dropped = []
    thing = make_payload(dropped)
    non_null.given.append(thing)
    assert non_null.id(thing) is non_null.got() is thing
    assert non_null.both(thing, 1, None) == (None, thing)
    assert non_null.id.refs(thing).value is thing
    non_null.g.value = non_null.t[1] = thing
    assert non_null.t.grow(3, thing) == 2
    non_null.t.fill(0, thing, 1)
    assert non_null.g.value is non_null.g.ref.value is non_null.t.ref(1).value is thing
    assert non_null.t[:] == [thing] * 5
    assert str(non_null.id.type) == "((ref extern)) -> ((ref extern))"
    assert str(non_null.t.type) == "table of 5 to 9 (ref extern)"
    assert str(non_null.g.type) == "mutable global of (ref extern)"
    non_null.given.clear()
    non_null.g.value = 1
    non_null.t[:] = [2] * 5
    del thing
    collect()
    assert len(dropped) == 1


@pytest.mark.parametrize("use", [
    lambda exports: exports.id(None), lambda exports: exports.both(None, 1, 2), lambda exports: exports.got(),
    lambda exports: exports.t.__setitem__(0, None), lambda exports: exports.t.fill(0, None, 2),
    lambda exports: exports.t.grow(1), lambda exports: setattr(exports.g, "value", None)])
def test_a_reference_that_is_never_null_is_not_none(non_null, use):
    non_null.given.append(None)
    with pytest.raises(TypeError, match=r"\(\(ref extern\)\): expected an object, not NoneType"):
        use(non_null)
    assert len(non_null.t) == 2


# --- anyref

def test_a_module_keeps_host_objects_as_anyref(instantiate, collect, make_payload):
    module = instantiate("""(module (type $pair (struct (field anyref) (field anyref)))
        (global $kept (mut (ref null $pair)) (ref.null $pair))
        (func (export "keep") (param externref externref)
            (global.set $kept (struct.new $pair (any.convert_extern (local.get 0)) (any.convert_extern (local.get 1)))))
        (func (export "take") (result externref externref)
            (extern.convert_any (struct.get $pair 0 (global.get $kept)))
            (extern.convert_any (struct.get $pair 1 (global.get $kept)))
            (global.set $kept (ref.null $pair))))""")
    dropped = []
    things = make_payload(dropped), make_payload(dropped)
    module.keep(*things)
    collect()
    assert dropped == []
    assert module.take() == things
    del things
    collect()
    assert len(dropped) == 2


def test_types_of_wasmtime_pys_that_somebody_closes(run_python):
    """Those that the package has made for itself are found among all objects."""
    assert run_python("""
import gc, wasmtime
import externref.wasmtime as ew

ours = [item for item in gc.get_objects() if isinstance(item, wasmtime.ValType)]
for item in ours:
    item.close()
others = [wasmtime.ValType.i32() for _ in range(1000)]      # in their memory
store = wasmtime.Store()
module = wasmtime.Module(store.engine, '''(module (import "" "" (func $host (param i64 funcref) (result externref)))
    (global (export "g") f64 (f64.const 1.5)) (table (export "t") 1 externref)
    (func (export "f") (param i64 funcref) (result externref) (call $host (local.get 0) (local.get 1))))''')
host = ew.func(store, module.imports[0].type, lambda *args: args)
exports = ew.bind(store, wasmtime.Instance(store, module, [host]).exports(store))
print(exports.f(7, None), exports.f.type, exports.g.type, exports.t.type)
""", env={"PYTHONMALLOC": "debug"}) == (
        "(7, None) (i64, funcref) -> (externref) immutable global of f64 table of 1 to any externref\n")
