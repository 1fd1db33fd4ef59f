"""Calls through bind(): every type in and out, what does not fit, and how calls fail."""

import math

import pytest

ew = pytest.importorskip("externref.wasmtime", exc_type=ImportError)
import wasmtime  # noqa: E402

import externref  # noqa: E402

from wasmtime_fixtures import collect, func_type, instantiate, store  # noqa: E402, F401

IDENTITIES = "(module" + "".join(
    f'(func (export "{name}") (param {name}) (result {name}) local.get 0)'
    for name in ("i32", "i64", "f32", "f64", "externref", "funcref")
) + ")"


@pytest.fixture
def identities(instantiate):
    return instantiate(IDENTITIES)


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Float:
    def __float__(self):
        return 1.5


@pytest.mark.parametrize("name, given, result", [
    ("i32", 0, 0),
    ("i32", -1, -1),
    ("i32", 2**31 - 1, 2**31 - 1),
    ("i32", -2**31, -2**31),
    ("i32", 2**31, -2**31),
    ("i32", 2**32 - 1, -1),
    ("i32", True, 1),
    ("i32", Index(7), 7),
    ("i64", -2**63, -2**63),
    ("i64", 2**63 - 1, 2**63 - 1),
    ("i64", 2**63, -2**63),
    ("i64", 2**64 - 1, -1),
    ("i64", Index(2**64 - 1), -1),
    ("f32", 1.5, 1.5),
    ("f32", 0.1, 0.10000000149011612),
    ("f32", math.inf, math.inf),
    ("f32", 3, 3.0),
    ("f32", Float(), 1.5),
    ("f64", 0.1, 0.1),
    ("f64", -math.inf, -math.inf),
    ("f64", 2**53, float(2**53)),
])
def test_a_number_round_trips(identities, name, given, result):
    returned = getattr(identities, name)(given)
    assert returned == result and type(returned) is type(result)


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_nan_and_negative_zero_round_trip(identities, name):
    function = getattr(identities, name)
    assert math.isnan(function(math.nan))
    assert math.copysign(1, function(-0.0)) == -1


@pytest.mark.parametrize("name, given, error, words", [
    ("i32", 2**32, OverflowError, ["parameter 1 (i32)", "4294967296"]),
    ("i32", -2**31 - 1, OverflowError, ["parameter 1 (i32)"]),
    ("i32", 2**70, OverflowError, ["parameter 1 (i32)"]),
    ("i32", 1.0, TypeError, ["parameter 1 (i32)", "float"]),
    ("i32", "1", TypeError, ["parameter 1 (i32)", "str"]),
    ("i32", None, TypeError, ["parameter 1 (i32)", "NoneType"]),
    ("i64", 2**64, OverflowError, ["parameter 1 (i64)"]),
    ("i64", -2**63 - 1, OverflowError, ["parameter 1 (i64)"]),
    ("i64", b"1", TypeError, ["parameter 1 (i64)", "bytes"]),
    ("f32", 1e300, OverflowError, ["parameter 1 (f32)"]),
    ("f32", "1", TypeError, ["parameter 1 (f32)", "str"]),
    ("f64", 10**400, OverflowError, ["parameter 1 (f64)"]),
    ("f64", 1j, TypeError, ["parameter 1 (f64)", "complex"]),
    ("funcref", 1, TypeError, ["parameter 1 (funcref)", "int"]),
    ("funcref", print, TypeError, ["parameter 1 (funcref)", "builtin_function_or_method"]),
])
def test_what_does_not_fit_names_the_parameter(identities, name, given, error, words):
    with pytest.raises(error) as caught:
        getattr(identities, name)(given)
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_exception_of_an_argument_comes_out(identities):
    class Bad:
        def __index__(self):
            raise KeyError("bad index")

        def __float__(self):
            raise KeyError("bad float")

    for name in ("i32", "i64", "f32", "f64"):
        with pytest.raises(KeyError, match="bad"):
            getattr(identities, name)(Bad())


def test_the_number_of_arguments(identities):
    for arguments in ((), (1, 2)):
        with pytest.raises(TypeError, match=rf"takes 1 arguments, not {len(arguments)}"):
            identities.i32(*arguments)
        with pytest.raises(TypeError, match="takes 1 arguments"):
            identities.i32.refs(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        identities.i32(1, x=2)


@pytest.mark.parametrize("value", [
    object(), 0, False, "", (), [], b"", 42, 5.7, "Hello", {"x": 1}, [12, 13, 14], NotImplemented, type, print,
], ids=repr)
def test_any_object_round_trips(identities, value):
    assert identities.externref(value) is value


def test_none_is_null_both_ways(identities, instantiate):
    assert identities.externref(None) is None
    assert identities.externref.refs(None) is None
    module = instantiate("""(module
        (func (export "null") (result externref) ref.null extern)
        (func (export "null_func") (result funcref) ref.null func)
        (func (export "is_null") (param externref) (result i32) (ref.is_null (local.get 0))))""")
    assert module.null() is None and module.null_func() is None
    assert module.is_null(None) == 1 and module.is_null(0) == 0


def test_a_vmexternref_passes_as_itself(identities):
    value = object()
    ref = externref.VMExternRef(value)
    assert identities.externref(ref) is value
    result = identities.externref.refs(ref)
    assert result == ref and result is not ref and result.value is value
    assert identities.externref.refs(value).value is value
    ref.drop()
    with pytest.raises(externref.MovedError):
        identities.externref(ref)


def test_a_vmexternref_of_none_is_not_null(identities):
    ref = externref.VMExternRef(None)
    assert identities.externref.refs(ref) == ref
    assert identities.externref(ref) is None


def test_funcrefs_round_trip(identities, store, func_type):
    function = wasmtime.Func(store, func_type("", "i32"), lambda: 42)
    for given in (function, ew.bind(store, function)):
        result = identities.funcref(given)
        assert isinstance(result, wasmtime.Func)
        assert result(store) == 42 and ew.bind(store, result)() == 42
    assert identities.funcref(None) is None
    assert identities.funcref.refs(function)(store) == 42


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
        with pytest.raises(TypeError, match=rf"parameter {place + 2} "):
            module.f(make_payload(dropped), *arguments)
    collect()
    assert len(dropped) == 5


@pytest.mark.parametrize("kind", ["v128", "(ref extern)", "anyref", "(ref null $f)", "exnref"])
def test_types_that_are_not_converted_are_refused_by_name_of_their_place(store, kind):
    module = wasmtime.Module(store.engine, f"""(module (type $f (func (param i32)))
        (func (export "param") (param i32 {kind})) (func (export "result") (result {kind}) unreachable))""")
    exports = wasmtime.Instance(store, module, []).exports(store)
    with pytest.raises(TypeError, match="parameter 2 is of a type that is not converted"):
        ew.bind(store, exports["param"])
    with pytest.raises(TypeError, match="result 1 is of a type that is not converted"):
        ew.bind(store, exports["result"])


TRAPS = """(module
    (memory 1)
    (table 1 funcref)
    (func (export "unreachable") unreachable)
    (func (export "divide") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
    (func (export "load") (result i32) (i32.load (i32.const -1)))
    (func (export "indirect") (call_indirect (i32.const 0)))
    (func $recurse (export "recurse") call $recurse))"""


@pytest.mark.parametrize("name", ["unreachable", "divide", "load", "indirect", "recurse"])
def test_a_trap_is_wasmtimes_own_with_the_same_text(instantiate, store, name):
    module = instantiate(TRAPS)
    with pytest.raises(wasmtime.Trap) as theirs:
        module.raw[name](store)
    with pytest.raises(wasmtime.Trap) as ours:
        getattr(module, name)()
    assert type(ours.value) is type(theirs.value)
    assert ours.value.trap_code == theirs.value.trap_code
    assert [frame.func_index for frame in ours.value.frames] == [frame.func_index for frame in theirs.value.frames]
    # The number of frames that fit on the stack may differ, so may the end of that text.
    assert str(ours.value)[:80] == str(theirs.value)[:80]
    assert name == "recurse" or str(ours.value) == str(theirs.value)


def test_out_of_fuel_is_a_trap_with_the_same_text(instantiate):
    config = wasmtime.Config()
    config.consume_fuel = True
    with wasmtime.Store(wasmtime.Engine(config)) as store:
        store.set_fuel(100)
        module = instantiate('(module (func (export "spin") (loop br 0)))', store=store)
        with pytest.raises(wasmtime.Trap) as ours:
            module.spin()
        with pytest.raises(wasmtime.Trap) as theirs:
            module.raw["spin"](store)
        assert ours.value.trap_code == theirs.value.trap_code == wasmtime.TrapCode.OUT_OF_FUEL


def test_proc_exit_is_an_exit_trap(store):
    linker = wasmtime.Linker(store.engine)
    linker.define_wasi()
    store.set_wasi(wasmtime.WasiConfig())
    module = wasmtime.Module(store.engine, """(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "leave") (call $exit (i32.const 3))))""")
    leave = linker.instantiate(store, module).exports(store)["leave"]
    with pytest.raises(wasmtime.ExitTrap) as theirs:
        leave(store)
    with pytest.raises(wasmtime.ExitTrap) as ours:
        ew.bind(store, leave)()
    assert ours.value.code == theirs.value.code == 3
    assert str(ours.value) == str(theirs.value)


def test_arguments_of_a_trapping_call_are_dropped(instantiate, collect, make_payload):
    module = instantiate('(module (func (export "f") (param externref) unreachable))')
    dropped = []
    with pytest.raises(wasmtime.Trap):
        module.f(make_payload(dropped))
    collect()
    assert len(dropped) == 1


def test_repr_tells_the_types(identities, instantiate):
    assert repr(identities.externref) == "<externref.wasmtime.Func (externref) -> (externref)>"
    module = instantiate('(module (func (export "f") (param i32 f64) (result i64 funcref) unreachable))')
    assert repr(module.f) == "<externref.wasmtime.Func (i32, f64) -> (i64, funcref)>"


def test_they_are_made_by_bind_only():
    for cls in (ew.Func, ew.Table, ew.Global):
        for make in (cls, lambda: cls.__new__(cls), lambda: cls(object()), lambda: object.__new__(cls)):
            with pytest.raises(TypeError, match="bind|not safe"):
                make()
