"""Drops and clones on any thread, with and without the GIL; deferred drops. Promises P1, P2."""

import ctypes
import faulthandler
import operator
import sys
import threading
import time
from functools import partial

import pytest

import externref
from externref import VMExternRef, abi

pytestmark = pytest.mark.usefixtures("quick_switches")

# Holds the GIL, where the fixture `native` lets it go.
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)


def wait_for(condition, seconds=5):
    """Gives the main thread's pending calls bytecodes to run between."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.001)


def test_native_drop_is_drained_by_the_pending_call(native, make_payload):
    dropped = []
    native.drop(VMExternRef(make_payload(dropped)).into_raw())
    wait_for(lambda: dropped)       # nobody calls drain() or any other operation
    assert externref.stats() == (0, 0, 0, 0)


def test_native_drop_on_a_foreign_thread(foreign, make_payload):
    dropped = []
    assert foreign.drop_on_thread(VMExternRef(make_payload(dropped)).into_raw()) == 0
    wait_for(lambda: dropped)


def test_payload_is_released_on_a_thread_with_the_gil(foreign):
    threads = []

    class Payload:
        def __del__(self):
            threads.append(threading.current_thread())

    foreign.drop_on_thread(VMExternRef(Payload()).into_raw())
    wait_for(lambda: threads)
    assert threads == [threading.main_thread()]


def without_bytecodes_between(*calls):
    """Makes the calls from C, one after the other: no pending call runs between them."""
    return list(map(operator.call, calls))


def test_drain_returns_how_many(make_payload):
    dropped = []
    drops = [partial(held_drop, VMExternRef(make_payload(dropped, i)).into_raw()) for i in range(10)]
    *_, drained = without_bytecodes_between(*drops, externref.drain)
    assert drained == 10
    assert sorted(dropped) == list(range(10))
    assert externref.drain() == 0


def test_stats_counts_pending_drops_and_leaves_them(make_payload):
    dropped = []
    drops = [partial(held_drop, VMExternRef(make_payload(dropped, i)).into_raw()) for i in range(10)]
    *_, stats = without_bytecodes_between(*drops, externref.stats)
    assert stats == (10, 0, 0, 10)
    externref.drain()
    assert sorted(dropped) == list(range(10))


@pytest.mark.parametrize("operation", [
    "make", "new", "clone", "into_raw", "from_raw", "clone_from_raw", "drop", "drain",
])
def test_the_next_operation_drains(make_payload, operation):
    dropped = []
    ref = VMExternRef("other")
    raw = ref.clone().into_raw()
    pending = VMExternRef(make_payload(dropped)).into_raw()
    call = {
        "make": partial(VMExternRef, 1),
        "new": partial(VMExternRef.new, 1),
        "clone": ref.clone,
        "into_raw": ref.clone().into_raw,
        "from_raw": partial(VMExternRef.from_raw, raw),
        "clone_from_raw": partial(VMExternRef.clone_from_raw, raw),
        "drop": ref.drop,
        "drain": externref.drain,
    }[operation]
    _, before, result, after = without_bytecodes_between(partial(held_drop, pending), dropped.copy, call, dropped.copy)
    assert (len(before), len(after)) == (0, 1)
    owned = [raw] * (operation != "from_raw") + [result] * (operation == "into_raw")
    for raw in owned:
        VMExternRef.from_raw(raw)


# A finalizer waiting for the GIL while its holder joins the thread.
@pytest.mark.parametrize("dropper", ["main", "python thread", "foreign thread"])
@pytest.mark.parametrize("gil", ["held by the joiner", "free"])
def test_drop_never_waits_for_the_gil(foreign, make_payload, dropper, gil):
    dropped = []
    raw = VMExternRef(make_payload(dropped)).into_raw()
    library = (ctypes.PyDLL if gil == "held by the joiner" else ctypes.CDLL)(foreign._name)
    library.drop_on_thread.argtypes = [ctypes.c_void_p]
    drop = (ctypes.PYFUNCTYPE if gil == "held by the joiner" else ctypes.CFUNCTYPE)(
        None, ctypes.c_void_p)(abi.drop_address)
    # A thread of Python's would wait for the GIL, too.
    faulthandler.dump_traceback_later(30, exit=True, file=sys.__stderr__)
    if dropper == "main":
        drop(raw)
    elif dropper == "python thread":
        thread = threading.Thread(target=drop, args=[raw])
        thread.start()
        thread.join()
    else:
        assert library.drop_on_thread(raw) == 0     # joins its thread, with or without the GIL
    faulthandler.cancel_dump_traceback_later()
    externref.drain()
    assert len(dropped) == 1


def test_payload_dropped_exactly_once_under_races(foreign, make_payload):
    dropped = []
    for i in range(30):
        raw = VMExternRef(make_payload(dropped, i)).into_raw()
        ref = VMExternRef.clone_from_raw(raw)
        ref.clone().into_raw(), ref.clone().into_raw()
        racer = threading.Thread(target=ref.drop)
        racer.start()
        assert foreign.hammer(raw, 3, 300) == 0     # it owns three; the GIL is free
        racer.join()
    externref.drain()
    assert sorted(dropped) == list(range(30))


def test_count_is_exact_while_wrappers_and_compiled_code_hammer_it(foreign):
    ref = VMExternRef(["payload"])
    raw = ref.as_raw()
    stop = threading.Event()

    def python_owner():
        while not stop.is_set():
            clone = VMExternRef.clone_from_raw(raw)
            VMExternRef.from_raw(clone.clone().into_raw())

    threads = [threading.Thread(target=python_owner) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        for _ in range(4):
            ref.clone().into_raw()
        assert foreign.hammer(raw, 4, 20_000) == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert ref.strong_count == 1 and ref.value == ["payload"]
    assert externref.stats()[:2] == (1, 1)


def test_many_threads_make_and_drop(make_payload):
    dropped = []

    def work(n):
        for i in range(500):
            ref = VMExternRef(make_payload(dropped, (n, i)))
            clone = ref.clone()
            ref.drop()
            VMExternRef.from_raw(clone.into_raw())

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    externref.drain()
    assert sorted(dropped) == [(n, i) for n in range(4) for i in range(500)]


def test_a_drain_blocked_in_a_finalizer_strands_nobody(make_payload):
    dropped, started, go = [], threading.Event(), threading.Event()

    class Slow:
        def __del__(self):
            started.set()
            assert go.wait(5)

    def work():
        for i in range(5):
            held_drop(VMExternRef.into_raw(refs[i]))
        # Made here: without a GIL a finalizer runs on the thread that made the object.
        held_drop(VMExternRef(Slow()).into_raw())
        externref.drain()       # the newest first: Slow

    refs = [VMExternRef(make_payload(dropped, i)) for i in range(5)]
    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(5)
    externref.drain()           # the rest of the same batch, on this thread
    assert sorted(dropped) == list(range(5))
    go.set()
    thread.join()


def test_more_drops_than_the_interpreter_s_queue_holds(foreign, make_payload):
    dropped = []
    for i in range(200):        # the queue of pending calls has 32 entries
        assert foreign.drop_detached(VMExternRef(make_payload(dropped, i)).into_raw()) == 0
    wait_for(lambda: len(dropped) == 200)


def test_fork_keeps_working(run_python):
    run_python("""if True:
        import ctypes, os, sys, warnings
        import externref
        from externref import VMExternRef, abi
        warnings.simplefilter("ignore")
        drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
        ref = VMExternRef("shared")
        child = os.fork()
        for _ in range(3):
            drop(ref.clone().into_raw())
            drop(VMExternRef(1).into_raw())
        externref.drain()
        assert ref.strong_count == 1 and externref.stats() == (1, 1, 0, 0)
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """)
