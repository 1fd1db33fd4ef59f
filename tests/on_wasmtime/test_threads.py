"""Threads: one at a time in a store, many stores at once, and calls that release the GIL. Promise P5."""

import contextlib
import threading
import time

import pytest
import wasmtime

import externref.wasmtime as ew
from support import USES, in_thread, uses


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

    def work():
        while not results:
            with contextlib.suppress(RuntimeError):     # without a GIL it is refused itself while module.id() runs
                results.append(spin(2_000_000_000))

    thread = threading.Thread(target=work)
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


def test_release_gil_is_for_functions(store, module):
    with pytest.raises(TypeError, match="release_gil"):
        ew.bind(store, module.raw["t"], release_gil=True)
    assert ew.bind(store, module.raw["id"], release_gil=True).release_gil
    assert not module.id.release_gil


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
