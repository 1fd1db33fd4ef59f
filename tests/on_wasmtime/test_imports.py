"""Host functions: Python callables that Wasm code imports and calls."""

import gc
import sys
import traceback

import pytest
import wasmtime

import externref
import externref.wasmtime as ew


def test_every_type_goes_through(relay):
    types = "i32 i64 f32 f64 externref funcref"
    seen = []
    call = relay(types, types, lambda *args: (seen.append(args), args)[1])
    value = object()
    assert call(-1, 2**63 - 1, 1.5, 0.1, value, None) == (-1, 2**63 - 1, 1.5, 0.1, value, None)
    assert seen == [(-1, 2**63 - 1, 1.5, 0.1, value, None)]


def test_a_funcref_goes_through(relay, store, func_type):
    answer = ew.func(store, func_type("", "i32"), lambda: 42)
    call = relay("funcref", "funcref", lambda function: ew.bind(store, function))
    assert call(answer)() == 42


@pytest.mark.parametrize("count", [8, 9, 200])
def test_many_parameters_and_results(relay, count):
    types = "externref " * count
    values = tuple(object() for _ in range(count))
    assert relay(types, types, lambda *args: args[::-1])(*values) == values[::-1]


def test_a_function_of_another_store_as_a_result(relay, func_type):
    with wasmtime.Store() as other:
        stranger = wasmtime.Func(other, func_type(), lambda: None)
        with pytest.raises(ValueError, match=r"result 1 \(funcref\).*another store"):
            relay("", "funcref", lambda: stranger)()


def test_spent_references_as_results(relay):
    ref = externref.VMExternRef(1)
    ref.drop()
    with pytest.raises(externref.MovedError):
        relay("", "externref", lambda: ref)()


class Stop(BaseException):
    pass


@pytest.mark.parametrize("exception", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), Stop()], ids=repr)
def test_an_exception_comes_out_unchanged_with_its_traceback(relay, exception):
    def inner():
        raise exception

    def outer():
        inner()

    call = relay("", "", outer)
    for _ in range(3):
        exception.__traceback__ = None
        with pytest.raises(type(exception)) as caught:
            call()
        assert caught.value is exception
        names = [frame.name for frame in traceback.extract_tb(exception.__traceback__)]
        assert names[-2:] == ["outer", "inner"]
    assert exception.__cause__ is None and exception.__context__ is None


def test_an_exception_during_instantiation(store, func_type):
    def raise_it():
        raise KeyError("start")

    module = wasmtime.Module(store.engine, '(module (import "" "" (func $f)) (start $f))')
    with pytest.raises(KeyError, match="start"):
        wasmtime.Instance(store, module, [ew.func(store, func_type(), raise_it)])


def test_exceptions_do_not_leak(relay, make_payload):
    dropped = []

    def raise_it():
        held = make_payload(dropped)  # noqa: F841  kept by the traceback
        raise ValueError

    call = relay("", "", raise_it)
    for _ in range(100):
        with pytest.raises(ValueError):
            call()
    gc.collect()
    assert len(dropped) == 100


def test_callables_of_every_kind(relay):
    class Callable:
        def __call__(self, value):
            return value

        def method(self, value):
            return value

    value = object()
    for callable in (Callable(), Callable().method, lambda value: value, [].append):
        assert relay("externref", "externref", callable)(value) in (value, None)


def test_a_lambda_that_takes_other_arguments(relay):
    with pytest.raises(TypeError, match="positional"):
        relay("i32", "", lambda: None)(1)


def test_linked_by_a_linker(store, func_type):
    linker = wasmtime.Linker(store.engine)
    linker.define(store, "env", "touch", ew.func(store, func_type("externref"), list.sort))
    module = wasmtime.Module(store.engine, """(module (import "env" "touch" (func $touch (param externref)))
        (func (export "f") (param externref) (call $touch (local.get 0))))""")
    values = [3, 1, 2]
    ew.bind(store, linker.instantiate(store, module).exports(store)["f"])(values)
    assert values == [1, 2, 3]


def test_a_callable_lives_as_long_as_the_store(func_type, make_payload):
    dropped = []
    store = wasmtime.Store()
    payload = make_payload(dropped)
    ew.func(store, func_type(), lambda held=payload: None)
    del payload
    gc.collect()
    assert not dropped
    store.close()
    externref.drain()
    gc.collect()
    assert len(dropped) == 1


def test_a_type_of_another_engine_may_be_used(store, func_type):
    with wasmtime.Store() as other:
        of_other = wasmtime.Func(other, func_type("i32", "i32"), lambda value: value).type(other)
        assert ew.bind(store, ew.func(store, of_other, lambda value: value + 1))(1) == 2


def test_other_arguments_are_refused(store, func_type):
    with pytest.raises(TypeError, match="wasmtime.Store"):
        ew.func(None, func_type(), print)
    with pytest.raises(TypeError, match="FuncType"):
        ew.func(store, "i32", print)
    with pytest.raises(TypeError, match="callable"):
        ew.func(store, func_type(), 3)
    module = wasmtime.Module(store.engine, '(module (import "" "" (func (param anyref))))')
    with pytest.raises(TypeError, match="parameter 1"):
        ew.func(store, module.imports[0].type, print)


def test_a_host_functions_arguments_are_not_lost_for_want_of_memory(relay, make_payload):
    testcapi = pytest.importorskip("_testcapi", reason="no _testcapi to make allocations fail")
    call = relay("externref externref", "", lambda first, second: None)
    dropped = []
    payloads = [make_payload(dropped) for _ in range(2)]
    counts = [sys.getrefcount(payload) for payload in payloads]
    for after in range(40):
        testcapi.set_nomemory(after, after + 1)
        try:
            call(*payloads)
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
    assert dropped == []
    assert [sys.getrefcount(payload) for payload in payloads] >= counts     # not one too few


def test_a_vector_goes_through(store):
    # wasmtime-py cannot make a FuncType with one: it is the import's.
    module = wasmtime.Module(store.engine, """(module
        (import "" "" (func $host (param i32 v128 externref v128 f64) (result v128 externref v128)))
        (func (export "call") (param v128 externref v128) (result v128 externref v128)
            (call $host (i32.const 7) (local.get 0) (local.get 1) (local.get 2) (f64.const 0.5))))""")
    seen = []

    def host(*args):
        seen.append(args)
        return args[3], args[2], args[1]

    type_ = module.imports[0].type
    call = ew.bind(store, wasmtime.Instance(store, module, [ew.func(store, type_, host)]).exports(store)).call
    a, b, value = bytes(range(16)), bytes(range(100, 116)), object()
    assert call(a, value, b) == (b, value, a) and seen == [(7, a, value, b, 0.5)]
    for wrong, error, words in ((b"short", ValueError, "16 bytes, not 5"), (3, TypeError, "expected 16 bytes, not int")):
        bad = ew.func(store, type_, lambda *args, wrong=wrong: (a, None, wrong))
        call = ew.bind(store, wasmtime.Instance(store, module, [bad]).exports(store)).call
        with pytest.raises(error, match=rf"<lambda>\(\) result 3 \(v128\): .*{words}"):
            call(a, None, b)
    with wasmtime.Store() as other:     # of another engine
        assert ew.bind(other, ew.func(other, type_, host))(7, a, value, b, 0.5) == (b, value, a)
