"""What is refused: other stores, closed stores, two threads at once, closing in a call."""

import threading
import time

import pytest

ew = pytest.importorskip("externref.wasmtime", exc_type=ImportError)
import wasmtime  # noqa: E402

from wasmtime_fixtures import func_type, instantiate, store  # noqa: E402, F401

MODULE = """(module
    (import "" "host" (func $host))
    (table (export "t") 2 externref)
    (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) local.get 0)
    (func (export "callback") call $host)
    (func (export "spin") (param i32)
        (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""


@pytest.fixture
def module(instantiate, store, func_type):
    module = instantiate(MODULE, ew.func(store, func_type(), lambda: module.host()))
    return module


def uses(module):
    """Everything that can be done with what is bound to a store."""
    return {
        "call": lambda: module.id(1),
        "refs": lambda: module.id.refs(1),
        "len": lambda: len(module.t),
        "get": lambda: module.t[0],
        "ref": lambda: module.t.ref(0),
        "set": lambda: module.t.__setitem__(0, 1),
        "grow": lambda: module.t.grow(1),
        "fill": lambda: module.t.fill(0, 1, 1),
        "value": lambda: module.g.value,
        "global ref": lambda: module.g.ref,
        "set value": lambda: setattr(module.g, "value", 1),
    }


USES = list(uses(None))


@pytest.mark.parametrize("use", USES)
def test_a_closed_store_raises_as_wasmtime_py_does(instantiate, func_type, use):
    store = wasmtime.Store()
    module = instantiate(MODULE, ew.func(store, func_type(), print), store=store)
    store.close()
    with pytest.raises(ValueError, match="already closed"):
        uses(module)[use]()
    with pytest.raises(ValueError, match="already closed"):
        ew.bind(store, module.raw["t"])
    with pytest.raises(ValueError, match="already closed"):
        ew.func(store, func_type(), print)


@pytest.mark.parametrize("name", ["id", "t", "g"])
def test_an_item_of_another_store_is_refused(module, name):
    with wasmtime.Store() as other:
        with pytest.raises(ValueError, match="another store"):
            ew.bind(other, module.raw[name])


def test_a_function_of_another_store_is_refused_as_a_value(instantiate, store, func_type):
    module = instantiate("""(module (func (export "id") (param funcref) (result funcref) local.get 0)
        (table (export "t") 2 funcref) (global (export "g") (mut funcref) (ref.null func)))""")
    with wasmtime.Store() as other:
        function = ew.func(other, func_type(), print)
        for stranger in (function, ew.bind(other, function)):
            with pytest.raises(ValueError, match=r"parameter 1 \(funcref\).*another store"):
                module.id(stranger)
            for use in (lambda: module.t.__setitem__(0, stranger), lambda: module.t.grow(1, stranger),
                        lambda: setattr(module.g, "value", stranger)):
                with pytest.raises(ValueError, match=r"value \(funcref\).*another store"):
                    use()


def test_what_cannot_be_bound(store):
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    for item in (memory, None, print, 3):
        with pytest.raises(TypeError, match="Func, Table or Global"):
            ew.bind(store, item)
    for not_a_store in (None, 3, "store", store.engine):
        with pytest.raises(TypeError, match="wasmtime.Store"):
            ew.bind(not_a_store, memory)


def test_release_gil_is_for_functions(store, module):
    with pytest.raises(TypeError, match="release_gil"):
        ew.bind(store, module.raw["t"], release_gil=True)
    assert ew.bind(store, module.raw["id"], release_gil=True).release_gil
    assert not module.id.release_gil


def in_thread(function):
    """What the function raised in a thread of its own, or None."""
    raised = []

    def run():
        try:
            function()
        except BaseException as exception:
            raised.append(exception)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    return raised[0] if raised else None


@pytest.mark.parametrize("use", [*USES, "bind", "func", "close"])
@pytest.mark.parametrize("caller", ["ours", "theirs"])
def test_a_second_thread_is_refused_while_a_host_function_runs(module, store, func_type, use, caller):
    raised = []
    actions = {**uses(module), "bind": lambda: ew.bind(store, module.raw["id"]),
               "func": lambda: ew.func(store, func_type(), print), "close": store.close}
    module.host = lambda: raised.append(in_thread(actions[use]))
    module.callback() if caller == "ours" else module.raw["callback"](store)
    assert type(raised[0]) is RuntimeError and "in use" in str(raised[0])
    assert module.id(3) == 3    # and afterwards all is as it was
    assert in_thread(uses(module)["call"]) is None


def test_a_second_thread_is_refused_while_a_call_runs_without_the_gil(module, store):
    spin = ew.bind(store, module.raw["spin"], release_gil=True)
    results = []
    thread = threading.Thread(target=lambda: results.append(spin(2_000_000_000)))
    thread.start()
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                module.id(1)
            except RuntimeError as refused:
                assert "another thread" in str(refused)
                break
        else:
            pytest.fail("the call was never seen to run")
    finally:
        thread.join(60)
    assert results == [None] and module.id(1) == 1


def test_released_other_threads_run(module, store, func_type):
    # An epoch's deadline, by a Python thread: with the GIL kept this would spin for ever.
    config = wasmtime.Config()
    config.epoch_interruption = True
    with wasmtime.Store(wasmtime.Engine(config)) as other:
        other.set_epoch_deadline(1)
        spin = wasmtime.Instance(other, wasmtime.Module(other.engine, '(module (func (export "f") (loop br 0)))'), [])
        bound = ew.bind(other, spin.exports(other)["f"], release_gil=True)
        timer = threading.Timer(0.1, other.engine.increment_epoch)
        timer.start()
        with pytest.raises(wasmtime.Trap) as caught:
            bound()
        timer.join(5)
        assert caught.value.trap_code == wasmtime.TrapCode.INTERRUPT


def test_host_functions_take_the_gil(instantiate, store, func_type):
    seen = []
    host = ew.func(store, func_type("externref", "externref"), lambda value: (seen.append(value), value)[1])
    module = instantiate("""(module (import "" "" (func $host (param externref) (result externref)))
        (func (export "f") (param externref) (result externref) (call $host (local.get 0))))""", host)
    released = ew.bind(store, module.raw["f"], release_gil=True)
    values = [object() for _ in range(100)]
    assert [released(value) for value in values] == values == seen


def test_stores_run_on_many_threads_at_once(instantiate, func_type):
    wrong = []

    def work():
        with wasmtime.Store() as store:
            host = ew.func(store, func_type("externref", "externref"), lambda value: [value])
            instance = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module
                (import "" "" (func $host (param externref) (result externref)))
                (func (export "f") (param externref) (result externref) (call $host (local.get 0))))"""), [host])
            for release_gil in (True, False):
                function = ew.bind(store, instance.exports(store)["f"], release_gil=release_gil)
                for number in range(2000):
                    value = (number, threading.get_ident())
                    if function(value)[0] is not value:
                        wrong.append(value)

    raised = []
    threads = [threading.Thread(target=lambda: raised.append(in_thread(work))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == [None] * 4 and not wrong


def test_each_thread_gets_its_own_exception(func_type):
    # wasmtime-py keeps the last exception in one global; ours is kept by the store.
    wrong = []

    def work():
        mine = threading.get_ident()

        def raise_it():
            raise KeyError(mine)

        with wasmtime.Store() as store:
            host = ew.func(store, func_type(), raise_it)
            instance = wasmtime.Instance(store, wasmtime.Module(
                store.engine, '(module (import "" "" (func $f)) (func (export "f") call $f))'), [host])
            function = ew.bind(store, instance.exports(store)["f"], release_gil=True)
            for _ in range(500):
                try:
                    function()
                except KeyError as raised:
                    if raised.args != (mine,):
                        wrong.append(raised)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.parametrize("caller", ["ours", "theirs"])
def test_closing_in_a_call_is_refused(module, store, caller):
    # The store would be freed under the code that runs in it.
    module.host = store.close
    with pytest.raises(RuntimeError, match="cannot be closed"):
        module.callback() if caller == "ours" else module.raw["callback"](store)
    assert module.id(3) == 3


def test_closing_while_an_argument_is_converted_is_refused(instantiate, store):
    identity = instantiate('(module (func (export "f") (param externref i32) (result externref) local.get 0))').f

    class Closing:
        def __index__(self):
            store.close()
            return 1

    with pytest.raises(RuntimeError, match="cannot be closed"):
        identity(object(), Closing())
    assert identity(3, 3) == 3


def test_a_bound_object_keeps_the_store(instantiate):
    store = wasmtime.Store()
    identity = instantiate('(module (func (export "f") (param i32) (result i32) local.get 0))', store=store).f
    del store
    assert identity(3) == 3
    assert isinstance(identity.store, wasmtime.Store)


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
