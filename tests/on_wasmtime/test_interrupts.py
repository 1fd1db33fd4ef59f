"""What runs in an interruptible store stops when the host says so, and lets others run. Promise P10.

A test that hangs is ended by its watchdog, with the stacks of all threads.
"""

import faulthandler
import gc
import os
import signal
import sys
import threading
import time

import pytest
import wasmtime

import externref
import externref.wasmtime as ew
from support import forks_beside_threads

SOURCE = """(module
    (import "" "host" (func $host))
    (func (export "loop") (loop (br 0)))
    (func $tree (param i32) (result i32) (if (result i32) (local.get 0)
        (then (i32.add (call $tree (i32.sub (local.get 0) (i32.const 1))) (call $tree (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 1))))
    (func (export "recursion") (drop (call $tree (i32.const 60))))
    (func (export "calls of the host") (loop (call $host) (br 0)))
    (func (export "host") (call $host))
    (func (export "keep") (param externref) (result externref) (loop (br 0)) (unreachable))
    (func (export "fine") (result i32) (i32.const 1)))"""


@pytest.fixture(autouse=True)
def watchdog():
    faulthandler.dump_traceback_later(100, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def new_engine():
    config = wasmtime.Config()
    config.epoch_interruption = True
    return wasmtime.Engine(config)


@pytest.fixture
def store():
    with wasmtime.Store(new_engine()) as store:
        ew.interruptible(store)
        yield store


@pytest.fixture
def instance(store, func_type):
    """The instance's exports as wasmtime-py has them; `instance.host` is what the host function does."""
    def host():
        return instance.host()

    module = wasmtime.Module(store.engine, SOURCE)
    instance = wasmtime.Instance(store, module, [ew.func(store, func_type(), host)])
    instance.host = lambda: None
    return instance


@pytest.fixture(params=[False, True], ids=["with the GIL", "without the GIL"])
def release_gil(request):
    return request.param


@pytest.fixture
def bound(store, instance, release_gil):
    return ew.bind(store, instance.exports(store), release_gil=release_gil)


def interrupted():
    return pytest.raises(wasmtime.Trap, match="interrupt")


def later(action, *args, after=0.05):
    timer = threading.Timer(after, action, args)
    timer.start()
    return timer


def send_interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(params=["loop", "recursion", "calls of the host"])
def endless(request, bound):
    return bound[request.param]


def test_timeout(store, bound, endless):
    ew.interruptible(store, timeout=0.05)
    for _ in range(2):
        with interrupted() as failure:
            endless()
        assert failure.value.trap_code is wasmtime.TrapCode.INTERRUPT
        assert bound.fine() == 1


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-12])
def test_no_time_at_all(store, bound, timeout):
    ew.interruptible(store, timeout=timeout)
    with interrupted():
        bound.loop()


def test_the_timeout_is_changed(store, bound):
    ew.interruptible(store, timeout=0.01)
    with interrupted():
        bound.loop()
    ew.interruptible(store, timeout=1e300)
    timer = later(ew.interrupt, store)
    with interrupted():
        bound.loop()
    timer.join()


def test_a_keyboard_interrupt(bound, endless):
    for _ in range(2):
        timer = later(send_interrupt)
        with pytest.raises(KeyboardInterrupt):
            endless()
        timer.join()
        assert bound.fine() == 1


def test_interrupt_from_another_thread(store, bound, endless):
    timer = later(ew.interrupt, store)
    with interrupted():
        endless()
    timer.join()
    assert bound.fine() == 1


def test_an_interrupt_when_nothing_runs_is_none(store, bound):
    ew.interrupt(store)
    assert bound.fine() == 1
    started = time.monotonic()
    ew.interruptible(store, timeout=0.1)
    with interrupted():
        bound.loop()
    assert time.monotonic() - started >= 0.1


def test_other_threads_run_meanwhile(store, bound):
    turns = []
    ew.interruptible(store, timeout=20)

    def run():
        for _ in range(3):
            turns.append(0)
            time.sleep(0.001)
        ew.interrupt(store)

    thread = threading.Thread(target=run)
    thread.start()
    with interrupted():
        bound.loop()
    thread.join()
    assert len(turns) == 3


def test_two_stores_of_one_engine_on_two_threads(store, instance, func_type):
    other = wasmtime.Store(store.engine)
    ew.interruptible(other)
    ew.interruptible(store)
    module = wasmtime.Module(store.engine, SOURCE)
    theirs = ew.bind(other, wasmtime.Instance(other, module, [ew.func(other, func_type(), int)]).exports(other))
    ended = []

    def run():
        with interrupted():
            theirs.loop()
        ended.append("theirs")

    thread = threading.Thread(target=run)
    thread.start()
    timer = later(ew.interrupt, store, after=0.1)
    with interrupted():
        ew.bind(store, instance.exports(store)).loop()
    ended.append("ours")
    timer.join()
    ew.interrupt(other)
    thread.join()
    assert ended == ["ours", "theirs"]
    other.close()


def test_what_a_signal_handler_raises_comes_out(bound):
    class Stop(BaseException):
        pass

    def handler(*_):
        raise Stop("now")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = later(os.kill, os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stop, match="now"):
            bound.loop()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_cannot_use_the_store(store, bound):
    seen = []

    def handler(*_):
        for use in (bound.fine, store.close, lambda: ew.bind(store, bound.fine), lambda: bound.keep(object())):
            with pytest.raises(RuntimeError, match="in use|in the middle") as failure:
                use()
            seen.append(failure.value)
        ew.interrupt(store)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = later(os.kill, os.getpid(), signal.SIGUSR1)
        with interrupted():
            bound.loop()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(seen) == 4
    assert bound.fine() == 1


def test_another_thread_cannot_use_the_store_at_a_tick(store, bound):
    failures = []

    def run():
        with pytest.raises(RuntimeError, match="in use"):
            bound.fine()
        with pytest.raises(RuntimeError, match="in use"):
            store.close()
        failures.append(2)
        ew.interrupt(store)

    thread = threading.Thread(target=run)
    timer = later(thread.start)
    with interrupted():
        bound.loop()
    timer.join()
    thread.join()
    assert failures == [2]


def test_the_time_of_host_functions_counts(store, instance, bound):
    instance.host = lambda: time.sleep(0.1)
    ew.interruptible(store, timeout=0.05)
    with interrupted():
        bound["calls of the host"]()


def test_a_host_function_that_catches_it_does_not_go_on_for_long(store, instance, bound):
    caught = []

    def host():
        with interrupted():
            bound.loop()
        caught.append(1)

    instance.host = host
    ew.interruptible(store, timeout=0.05)
    with interrupted():
        bound["calls of the host"]()
    assert caught == [1]
    assert bound.fine() == 1


def test_through_calls_of_wasmtime_py(store, instance, bound):
    def host():
        instance.exports(store)["loop"](store)

    instance.host = host
    for action in (ew.interrupt, store), (send_interrupt,):
        timer = later(*action)
        with pytest.raises((wasmtime.Trap, KeyboardInterrupt)) as failure:
            bound.host()
        assert (failure.type is KeyboardInterrupt) is (len(action) == 1)
        timer.join()
    assert bound.fine() == 1


def test_no_reference_is_lost(store, bound, counted):
    ew.interruptible(store, timeout=0.01)
    for _ in range(20):
        with interrupted():
            bound.keep(counted())
    store.gc()
    externref.drain()
    gc.collect()
    assert counted.dropped() == 20


def test_the_clock_wakes_up(store, bound):
    """It sleeps after a second in which nothing ran."""
    assert bound.fine() == 1
    time.sleep(1.5)
    ew.interruptible(store, timeout=0.05)
    with interrupted():
        bound.loop()


def test_engines_come_and_go_while_the_clock_ticks(store, bound):
    ew.interruptible(store, timeout=0.3)

    def run():
        while not done:
            with wasmtime.Store(new_engine()) as other:
                ew.interruptible(other)
            other.engine.close()

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    with interrupted():
        bound.loop()
    done.append(1)
    thread.join()


def test_an_engine_that_is_closed_ticks_on(store, bound):
    store.engine.close()
    ew.interruptible(store, timeout=0.05)
    with interrupted():
        bound.loop()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="forks with threads warn from 3.12 on")
@forks_beside_threads
def test_a_fork_has_a_clock_of_its_own(store, bound):
    ew.interruptible(store, timeout=0.05)
    with interrupted():
        bound.loop()
    child = os.fork()
    if child == 0:
        try:
            with interrupted():
                bound.loop()
            os._exit(33)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 33


@pytest.mark.parametrize("daemon", [True, False])
def test_the_process_ends_while_it_ticks(run_python, daemon):
    run_python(f"""if True:
        import threading, wasmtime, externref.wasmtime as ew
        config = wasmtime.Config()
        config.epoch_interruption = True
        store = wasmtime.Store(wasmtime.Engine(config))
        ew.interruptible(store, timeout=None if {daemon} else 0.1)
        module = wasmtime.Module(store.engine, '(module (func (export "loop") (loop (br 0))))')
        loop = ew.bind(store, wasmtime.Instance(store, module, []).exports(store)["loop"])
        def run():
            try:
                loop()
            except wasmtime.Trap:
                pass
        threading.Thread(target=run, daemon={daemon}).start()
    """, timeout=60)


# --- Refusals -----------------------------------------------------------------------

def test_an_engine_that_does_not_look():
    with wasmtime.Store() as store:
        with pytest.raises(ValueError, match="epoch_interruption is True"):
            ew.interruptible(store)
        with pytest.raises(ValueError, match="not interruptible"):
            ew.interrupt(store)


def test_an_engine_with_fuel():
    config = wasmtime.Config()
    config.epoch_interruption = config.consume_fuel = True
    with wasmtime.Store(wasmtime.Engine(config)) as store:
        ew.interruptible(store)


def test_an_engine_whose_epochs_the_program_counts():
    engine = new_engine()
    engine.increment_epoch()
    with wasmtime.Store(engine) as store, pytest.raises(RuntimeError, match="an engine of its own"):
        ew.interruptible(store)


def test_nobody_else_counts_or_sets_a_deadline(store):
    with pytest.raises(RuntimeError, match="counts its epochs"):
        store.engine.increment_epoch()
    with pytest.raises(RuntimeError, match="timeout of externref"):
        store.set_epoch_deadline(3)


def test_a_program_that_counts_by_itself_is_not_disturbed():
    with wasmtime.Store(new_engine()) as store:
        store.set_epoch_deadline(1)
        module = wasmtime.Module(store.engine, '(module (func (export "loop") (loop (br 0))))')
        loop = ew.bind(store, wasmtime.Instance(store, module, []).exports(store)["loop"], release_gil=True)
        timer = later(store.engine.increment_epoch)
        with interrupted():
            loop()
        timer.join()


@pytest.mark.parametrize("timeout", [-1, -0.1, float("inf"), float("nan"), "1", object()])
def test_a_timeout_that_is_none(store, timeout):
    with pytest.raises(ValueError, match="number of seconds"):
        ew.interruptible(store, timeout=timeout)


def test_what_is_no_open_store(store):
    for use in (ew.interruptible, ew.interrupt):
        with pytest.raises(TypeError, match=r"expected a wasmtime\.Store"):
            use(store.engine)
    store.close()
    for use in (ew.interruptible, ew.interrupt):
        with pytest.raises(ValueError, match="closed"):
            use(store)
