"""Callers: what a host function reaches of the instance that calls it, and until when. Promise P5."""

import gc
import threading

import pytest
import wasmtime

import externref
import externref.wasmtime as ew

WAT = """(module (import "" "" (func $host (param i32 externref) (result i32)))
    (memory (export "memory") 1 9) (data (i32.const 8) "%s") (table (export "t") 2 externref)
    (global (export "g") (mut i32) (i32.const 5)) (global (export "any") anyref (ref.null any))
    (memory (export "get") 1) (memory (export "store") 2) (memory (export "\u00e9 \U0001f40d") 3)
    (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "call") (param i32 externref) (result i32) (call $host (local.get 0) (local.get 1))))"""


@pytest.fixture
def calling(instantiate, store, func_type):
    """calling(callable, text="guest"): the exports of an instance whose `call` calls it, with a caller first."""
    def calling(callable, text="guest"):
        host = ew.func(store, func_type("i32 externref", "i32"), callable, access_caller=True)
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, WAT % text), [host])
        return ew.bind(store, instance.exports(store))

    return calling


def test_the_callers_exports(calling, store):
    kept = []

    def host(caller, number, value):
        assert caller["memory"].read(8, 13) == caller.memory[8:13] == b"guest" and type(caller.memory) is ew.Memory
        caller.memory.write(b"host!", 8)
        caller.t[0] = value
        caller.g.value += 1
        assert caller["t"][0] is value and caller.twice(number) == 2 * number and caller.twice.name == "twice"
        assert (len(caller["get"]), len(caller["store"]), len(caller["\u00e9 \U0001f40d"])) == (65536, 131072, 196608)
        assert caller.store is store and isinstance(caller, ew.Caller)
        kept.extend([caller.memory, caller.t, caller.g, caller.twice])
        return number + 1

    exports, value = calling(host), object()
    assert exports.call(41, value) == 42
    # What it gave is bound as ever.
    memory, t, g, twice = kept
    assert memory.read(8, 13) == exports.memory.read(8, 13) == b"host!" and t[0] is value and g.value == 6 and twice(4) == 8


def test_what_it_does_not_export(calling):
    def host(caller, number, value):
        assert caller.get("none") is None and caller.get("none", 7) == 7 and "none" not in caller and "memory" in caller
        for name in ("none", "", "\0", "memory\0", "\ud800", "m" * 10**6):
            with pytest.raises(KeyError) as caught:
                caller[name]
            assert caught.value.args == (name,)
        with pytest.raises(AttributeError, match="the calling instance exports nothing named 'none'"):
            caller.none
        for wrong in (0, b"memory", None):
            with pytest.raises(TypeError, match="an export's name is a str"):
                caller[wrong]
        for ask in (lambda: caller["any"], lambda: caller.any, lambda: caller.get("any")):
            with pytest.raises(TypeError, match="the content is of a type that is not converted"):
                ask()
        with pytest.raises(TypeError, match="by name only"):
            iter(caller)
        return 0

    assert calling(host).call(0, None) == 0


def uses(caller):
    return [lambda: caller["memory"], lambda: caller.memory, lambda: caller.get("none"), lambda: caller.store,
            lambda: "memory" in caller]


@pytest.mark.parametrize("ending", ["returns", "raises", "a wrong result"])
def test_it_is_over_when_the_call_is(calling, store, func_type, ending):
    kept = []

    def host(caller, number, value):
        kept.append(caller)
        if ending == "raises":
            raise KeyError
        return 0 if ending == "returns" else "no number"

    exports = calling(host)
    try:
        exports.call(0, None)
    except (KeyError, TypeError):
        pass
    caller, = kept
    assert repr(caller) == "<externref.wasmtime.Caller, the call is over>"
    for use in [*uses(caller), lambda: ew.bind(caller, exports.t), lambda: ew.func(caller, func_type(), print)]:
        with pytest.raises(RuntimeError, match="the call is over"):
            use()
    store.close()
    for use in uses(caller):
        with pytest.raises(RuntimeError, match="the call is over"):
            use()


def test_bind_and_func_take_a_caller(calling, store, func_type):
    def host(caller, number, value):
        assert ew.bind(caller, ew.func(caller, func_type("", "i32"), lambda: 7))() == 7
        bound = ew.bind(caller, exports.t)
        assert bound is exports.t and ew.bind(caller, caller.memory).store is store
        with wasmtime.Store() as other:
            memory = wasmtime.Memory(other, wasmtime.MemoryType(wasmtime.Limits(1, None)))
            with pytest.raises(ValueError, match="another store"):
                ew.bind(caller, memory)
        return 1

    exports = calling(host)
    assert exports.call(0, None) == 1


def test_nested_calls_have_their_own(calling):
    seen = []

    def outer_host(caller, number, value):
        before = caller.memory.read(8, 13)
        assert inner.call(number, caller) == 5
        seen.append((before, caller.memory.read(8, 13)))
        if number:
            return outer.call(number - 1, None)
        return 9

    def inner_host(caller, number, outer_caller):
        assert caller is not outer_caller
        seen.append((caller.memory.read(8, 13), outer_caller.memory.read(8, 13)))
        return 5

    outer, inner = calling(outer_host, "outer"), calling(inner_host, "inner")
    assert outer.call(1, None) == 9
    assert seen == [(b"inner", b"outer"), (b"outer", b"outer")] * 2


def test_called_by_wasmtime_py(store, func_type):
    def host(caller, number, value):
        caller.memory.write(b"ours", number)
        return len(caller.memory)

    function = ew.func(store, func_type("i32 externref", "i32"), host, access_caller=True)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, WAT % "x"), [function]).exports(store)
    assert exports["call"](store, 20, None) == 65536
    assert exports["memory"].read(store, 20, 24) == b"ours"


def test_without_an_instance_there_is_nothing(store, func_type):
    def host(caller):
        assert caller.store is store and caller.get("memory") is None
        with pytest.raises(KeyError):
            caller["memory"]

    function = ew.func(store, func_type(), host, access_caller=True)
    ew.bind(store, function)()
    function(store)


def test_another_thread_is_refused(calling):
    errors = []

    def host(caller, number, value):
        def other():
            for use in (lambda: caller["memory"], lambda: caller.get("none"), lambda: ew.bind(caller, exports.t)):
                with pytest.raises(RuntimeError, match="in use by another thread") as caught:
                    use()
                errors.append(caught.value)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return 0

    exports = calling(host)
    exports.call(0, None)
    assert len(errors) == 3


def test_what_it_finds_when_its_store_is_collected(run_python):
    # The collector has cleared the weak reference to the store, and then runs a finalizer that calls.
    run_python("""
import gc, wasmtime, externref.wasmtime as ew
store = wasmtime.Store()
found = []
def host(caller):
    try: found.append(caller["m"])
    except RuntimeError as error: found.append(str(error))
host = ew.func(store, wasmtime.FuncType([], []), host, access_caller=True)
exports = wasmtime.Instance(store, wasmtime.Module(store.engine,
    '(module (import "" "" (func $host)) (memory (export "m") 1) (func (export "f") (call $host)))'), [host]).exports(store)
class Late:
    def __del__(self):
        try: self.f()
        except ValueError as error: found.append(str(error))
late = Late()
late.f, late.store = ew.bind(store, exports["f"]), store
store.late = late
del late, store, exports, host
gc.collect()
assert found and found[0] in ("the store is being collected", "the store is already closed"), found
""")


def test_neither_callers_nor_arguments_leak(calling, counted, collect):
    def host(caller, number, value):
        caller.t[1] = value
        return 0

    exports = calling(host)
    for _ in range(50):
        exports.call(0, counted())
    exports.t[1] = None
    collect()
    assert counted.dropped() == 50
    gc.collect()
    assert not any(isinstance(thing, ew.Caller) for thing in gc.get_objects())


def test_growth_and_collection_between_the_caller_and_its_use(calling, store, collect):
    def host(caller, number, value):
        memory = caller.memory
        store.gc()
        assert caller.memory.grow(4) == 1
        collect()
        memory.write(b"end", len(memory) - 3)
        return len(memory)

    value = externref.VMExternRef(object())
    exports = calling(host)
    assert exports.call(0, value) == 5 * 65536 and exports.memory[-3:] == b"end"
