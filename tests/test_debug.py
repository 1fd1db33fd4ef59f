"""externref.debug finds what leaks, with the line that made it, and what compiled code does to blocks not its own."""

import ctypes
import gc
import importlib.metadata
import os
import re
import subprocess
import sys
import threading

import pytest

import externref
from externref import VMExternRef, abi, debug
from support import NO_GIL, forks_beside_threads, on_native_threads, one_after_the_other

held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
held_clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)


class Big:
    pass


def line():
    """Of the caller, in a report."""
    return f"{__file__}:{sys._getframe(1).f_lineno}"


def moved_out():
    return VMExternRef(Big()).into_raw()


def run_alone(program, **environment):
    """What a program writes on stdout and stderr."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


# -- Planted leaks, one of each kind

def test_a_forgotten_into_raw():
    with debug.track() as tracker:
        raws = [moved_out() for _ in range(3)]
        mine = VMExternRef(Big())
    leaks = tracker.leaks()
    place = f"{__file__}:{moved_out.__code__.co_firstlineno + 1} in moved_out"
    assert [(leak.payload_type, leak.raw_owners, leak.handles) for leak in leaks] == 3 * [("Big", 1, 0)]
    assert {leak.address for leak in leaks} == set(raws)
    assert [event.what for event in leaks[0].history] == ["made", "moved out"]
    assert tracker.report() == (f"3 references owned by compiled code\n  3 x Big made at {place}, moved out at {place}")
    for raw in raws:
        VMExternRef.from_raw(raw)
    mine.drop()


def test_an_as_raw_that_is_kept():
    with debug.track() as tracker:
        ref = VMExternRef(Big())
        raw, lent = ref.as_raw(), line()
        held_clone(raw)
        del ref
        leak, = tracker.leaks()
        assert (leak.raw_owners, leak.lent, leak.lent_for_good) == (1, True, True)
        assert f"lent at {lent} in test_an_as_raw_that_is_kept" in tracker.report()
        VMExternRef.from_raw(raw)
        assert not tracker.leaks()


def test_a_cycle_through_a_lent_pointer():
    def leak():
        big = Big()
        big.ref = VMExternRef(big)
        return big.ref.as_raw(), line()

    with debug.track() as tracker:
        raw, place = leak()
    found, = tracker.leaks()
    assert (found.address, found.raw_owners, found.lent_for_good) == (raw, 0, True)
    assert tracker.report().startswith("1 reference lent for good, whose cycles are not collected\n  1 x Big made at ")
    assert f"lent at {place} in leak" in tracker.report()
    del VMExternRef.clone_from_raw(raw).value.ref


def test_a_clone_too_many_in_c():
    with debug.track() as tracker:
        raw = moved_out()
        one_after_the_other(lambda: held_clone(raw), lambda: held_drop(raw))
        held_clone(raw)
    leak, = tracker.leaks()
    assert leak.raw_owners == 2
    assert tracker.report().endswith(", 2 owners")
    for _ in range(2):
        VMExternRef.from_raw(raw)


def test_a_trackers_balance_of_what_is_right_is_nothing():
    with debug.track(guard=10) as tracker:
        refs = [VMExternRef(i) for i in range(2000)]
        copies = [ref.clone() for ref in refs]
        for ref in refs:
            VMExternRef.from_raw(ref.into_raw()).drop()
        with copies[0].borrow() as raw:
            VMExternRef.clone_from_raw(raw)
            assert [block for block in tracker.live() if block.lends] != []
            assert not tracker.leaks()
        held_drop(copies[1].into_raw())
    assert (tracker.leaks(), tracker.mistakes(), tracker.report()) == ([], [], "")
    assert len(tracker.live()) == 1998 + 1


# -- What it lists

def test_without_tracking_the_registered_are_listed():
    ref, secret = VMExternRef(Big()), VMExternRef(Big())
    raw = ref.as_raw()
    block, = debug.live()
    assert block[:7] == (raw, "Big", 1, 1, 0, True, True)
    assert (block.payload_size, block.payload_align, block.serial, block.history) == (8, 8, 0, ())
    assert str(block) == "Big, not tracked"
    with debug.track():
        assert debug.live() == []
        fresh = VMExternRef(1)
        assert [block.payload_type for block in debug.live()] == ["int"]
    del secret, fresh


def test_thousands_are_listed_and_slabs_are_in_order_afterwards():
    before = [VMExternRef(i) for i in range(3000)]
    del before[::3]
    with debug.track():
        during = [VMExternRef(i) for i in range(3000)]
        del before[::2]
        assert len(debug.live()) == 3000
        assert len({block.address for block in debug.live()}) == 3000
        del during[::2]
        assert len(debug.live()) == 1500
    after = [VMExternRef(i) for i in range(3000)]
    everything = before + during + after
    assert len(set(everything)) == len(everything) == externref.stats().live_blocks
    assert [ref.value for ref in during] == list(range(1, 3000, 2))


def test_differences():
    with debug.track():
        ref, gone = VMExternRef(1), VMExternRef(2.5)
        before = debug.snapshot()
        clone = ref.clone()
        del gone
        fresh = VMExternRef("s")
        difference = debug.snapshot() - before
    assert [block.payload_type for block in difference.new] == ["str"]
    assert [block.payload_type for block in difference.gone] == ["float"]
    (old, new), = difference.changed
    assert (old.handles, new.handles) == (1, 2)
    assert [text[0] for text in str(difference).splitlines()] == ["+", "-", "~"]
    with pytest.raises(TypeError):
        before - 1
    del clone, fresh


def test_a_drawing_of_one_block():
    ref = VMExternRef([])
    raw = held_clone(ref.as_raw())
    with ref.borrow():
        text = debug.describe(ref)
    assert f"{raw:#x}  ref_count  3: 2 of Python, 1 of compiled code" in text
    assert f"{raw + abi.VALUE_PTR_OFFSET:#x}  value_ptr  {raw - 8:#x}" in text
    assert "payload    list, 8 bytes" in text
    assert "lent: for good, by as_raw(), known to from_raw(): yes" in text
    VMExternRef.from_raw(raw)
    ref.drop()
    with pytest.raises(externref.MovedError):
        debug.describe(ref)


def test_the_newest_events_and_the_making_are_kept():
    with debug.track(frames=1) as tracker:
        ref = VMExternRef(1)
        for _ in range(100):
            ref = VMExternRef.from_raw(ref.into_raw())
        block, = tracker.live()
        assert len(block.history) == 64
        assert [event.what for event in block.history[:2]] == ["made", "moved out"]
        assert {len(event.calls) for event in block.history} == {1}
        stack = block.history[0].stack
        assert stack[0].name == "test_the_newest_events_and_the_making_are_kept"
        assert "VMExternRef(1)" in stack.format()[0]


def test_calls_are_listed_to_the_depth_asked_for():
    def deep(n):
        return deep(n - 1) if n else VMExternRef(Big())

    with debug.track(frames=5) as tracker:
        ref = deep(20)
        block, = tracker.live()
        assert [frame.name for frame in block.history[0].stack] == 5 * ["deep"]
    del ref


def test_what_a_call_boxes_is_made_at_the_call():
    give = externref.Function(abi.clone_address, "m", "w")      # what is moved to it, and what it returns: two owners
    with debug.track() as tracker:
        raw, place = give(Big()), line()
    leak, = tracker.leaks()
    assert (leak.address, leak.raw_owners) == (raw, 2)
    assert f"Big made at {place}" in str(leak)
    for _ in range(2):
        held_drop(raw)
    externref.drain()


# -- Trackers

def test_trackers_nest():
    with debug.track() as outer:
        first = VMExternRef(1)
        with debug.track(guard=3) as inner:
            second = VMExternRef(2.5)
            assert [block.payload_type for block in inner.live()] == ["float"]
        third = VMExternRef("s")
        assert [block.payload_type for block in outer.live()] == ["int", "float", "str"]
    assert [block.payload_type for block in inner.live()] == ["float"]
    del first, second, third


def test_a_tracker_is_used_once():
    tracker = debug.track()
    with pytest.raises(RuntimeError, match="has not begun"):
        tracker.leaks()
    with tracker:
        pass
    with pytest.raises(RuntimeError, match="used already"), tracker:
        pass


@pytest.mark.parametrize("arguments, error", [
    ({"frames": 0}, ValueError), ({"frames": 2**70}, ValueError), ({"guard": -1}, ValueError), ({"guard": 2**64}, ValueError),
    ({"frames": 1.5}, TypeError), ({"guard": "1"}, TypeError),
])
def test_wrong_figures(arguments, error):
    with pytest.raises(error, match="must be at least" if error is ValueError else "integer"):
        debug.track(**arguments)
    for figures in (0, 0), (-1, 0), (1, -1), (2**64, 0), (1, 2**64), ("1", 0):
        with pytest.raises((ValueError, OverflowError, TypeError)):
            externref._core._Tracking(*figures)
    for figures in (2**61, 0), (1, 2**61), ("1", 0):
        with pytest.raises((ValueError, TypeError)):
            debug.Tracker(*figures)
    with debug.track() as tracker:      # none of them was left
        ref = VMExternRef(1)
        assert len(tracker.live()) == 1
    del ref


def test_a_tracker_that_did_not_begin_or_ended():
    tracker = debug.track()
    with pytest.raises(RuntimeError, match="has not begun"):
        tracker.__exit__()
    with tracker:
        pass
    with pytest.raises(RuntimeError, match="has ended already"):
        tracker.__exit__()


def test_many_places():
    """More than their table begins with: some share a bucket, and leave it in another order than they came."""
    program = compile("\n".join(["refs.append(VMExternRef(None))"] * 500), "many.py", "exec")
    with debug.track() as tracker:
        for _ in range(2):
            refs = []
            exec(program, {"refs": refs, "VMExternRef": VMExternRef})
            assert [block.history[0].calls[0][2] for block in tracker.live()] == list(range(1, 501))
            del refs[::2]
            assert [block.history[0].calls[0][2] for block in tracker.live()] == list(range(2, 501, 2))
            del refs
            assert tracker.live() == []


def test_an_end_that_is_interrupted(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), debug.track() as tracker:
        monkeypatch.setattr(debug.gc, "collect", interrupt)
    with pytest.raises(RuntimeError, match="interrupted, and nothing was found out"):
        tracker.leaks()
    assert not externref._core._is_tracking()


def test_tracking_leaves_an_exception_and_a_collection_alone():
    # The making is in the midst of an exception's way, and a collection is due.
    class Finalized:
        def __del__(self):
            self.ref = VMExternRef(self)    # makes one while a block is made, or freed

    with debug.track(guard=5) as tracker:
        for i in range(3000):
            Finalized().self = VMExternRef([i])
            try:
                try:
                    raise KeyError(i)
                finally:
                    VMExternRef({})
            except KeyError as error:
                assert error.args == (i,)
    gc.collect()
    assert tracker.mistakes() == []


def test_threads_make_and_free_while_trackers_come_and_go():
    stop = threading.Event()
    failures = []

    def work():
        while not stop.is_set():
            refs = [VMExternRef(i) for i in range(50)]
            raws = [ref.clone().into_raw() for ref in refs]
            for raw, ref in zip(raws, refs, strict=True):
                if VMExternRef.from_raw(raw) != ref:
                    failures.append(raw)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        with debug.track(frames=2, guard=turn % 3 * 20) as tracker:
            debug.live()
            debug.snapshot()
        assert tracker.mistakes() == []
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_native_threads_drop_while_tracked():
    with debug.track(guard=100) as tracker:
        raws = [moved_out() for _ in range(200)]
        for some in range(0, 200, 8):
            on_native_threads(*[(abi.drop_address, raw) for raw in raws[some:some + 8]])
        externref.drain()
        assert tracker.live() == []
    assert tracker.mistakes() == []


# -- What broke a first version, whose records were Python objects

def test_a_reference_that_is_freed_at_the_recursion_limit():
    def deep():
        ref = VMExternRef([])
        try:
            deep()
        finally:
            del ref

    with debug.track(guard=3) as tracker:
        with pytest.raises(RecursionError):
            deep()
        assert tracker.live() == []


def test_memory_that_fails_while_something_is_noted():
    _testcapi = pytest.importorskip("_testcapi", reason="CPython's own test module is not there")
    assert hasattr(_testcapi, "set_nomemory")
    out, err = run_alone("""
import _testcapi
from externref import VMExternRef, debug, stats
for guard in 0, 3:
    with debug.track(guard=guard) as tracker:
        for n in range(60):
            ref = raw = None
            _testcapi.set_nomemory(n, n + 1)
            try:
                ref = VMExternRef(7)
                ref.as_raw()
                raw = ref.into_raw()
            except MemoryError:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            if raw is not None:
                ref = VMExternRef.from_raw(raw)
            del ref
        assert tracker.live() == [], tracker.live()
        assert stats()[:2] == (0, 0)
    assert not tracker.mistakes()
print("fine")
""")
    assert (out, err) == ("fine\n", "")


def test_code_with_a_finalizer_and_names_with_methods():
    # What dies with a code object, and a file's name that is a subclass of str, are any code.
    ran = []
    tracker = debug.track(guard=20)

    class Final:
        def __del__(self):
            ran.append("del")
            with debug.track(guard=50):
                del [VMExternRef(i) for i in range(100)][:]

    class Name(str):
        def startswith(self, *args):
            ran.append("startswith")
            return str.startswith(self, *args)

    with tracker:
        for _ in range(50):
            code = compile("ref = VMExternRef([])", Name("<x>"), "exec")
            code = code.replace(co_consts=(*code.co_consts, Final()))
            names = {"VMExternRef": VMExternRef}
            exec(code, names)
            del code, names["ref"]
    assert tracker.mistakes() == [] and "startswith" not in ran
    gc.collect()
    with debug.track():
        refs = [VMExternRef(i) for i in range(3000)]
        assert [ref.value for ref in refs] == list(range(3000))


def test_a_reader_of_stderr_in_the_same_process():
    out, err = run_alone("""
import ctypes, os, threading, time
from externref import VMExternRef, abi, debug
clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
reader, writer = os.pipe()
kept = os.dup(2)
os.dup2(writer, 2)
with debug.track(guard=3000) as tracker:
    raws = [VMExternRef(i).as_raw() for i in range(1200)]
    for raw in raws: clone(raw)
    threading.Thread(target=lambda: (time.sleep(0.5), [None for _ in iter(lambda: os.read(reader, 1 << 16), b"")]), daemon=True).start()
    mistakes = tracker.mistakes()       # more than a pipe holds
os.dup2(kept, 2)
print(len(mistakes))
""")
    assert (out, err) == ("1000\n", "")


def test_what_was_tracked_is_used_afterwards():
    ref = VMExternRef(1)
    with debug.track():
        as_raw, text = ref.as_raw, ref.as_raw.__doc__
    for _ in range(100):
        as_raw()
    assert text == ref.as_raw.__doc__


def test_each_of_many_drops_at_once_is_counted():
    drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)

    def drop_often():
        for _ in range(200):
            drop(raw)

    with debug.track(guard=10) as tracker:
        raw = moved_out()
        held_drop(raw)
        externref.drain()
        threads = [threading.Thread(target=drop_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = [re.match(r"compiled code dropped a freed reference(?: (\d+) times)?: Big", text) for text in tracker.mistakes()]
    assert sum(int(mistake[1] or 1) for mistake in told) == 800


def test_more_mistakes_than_are_kept():
    out, err = run_alone("""
import ctypes, time
from externref import VMExternRef, abi, debug
clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
with debug.track(guard=60000) as tracker:
    raws = [VMExternRef(i).as_raw() for i in range(50000)]
    for raw in raws: clone(raw)
    start = time.process_time()
    print(len(tracker.mistakes()), time.process_time() - start < 20)     # each once: some 0.1 s, and not minutes
""")
    assert out == "1000 True\n" and err.count("cloned a freed reference") <= 1000


@pytest.mark.skipif(not hasattr(os, "fork") or "ASAN_OPTIONS" in os.environ, reason="needs fork, and no sanitizer's locks")
def test_a_fork_while_other_threads_are_told_of_drops():
    out, _ = run_alone("""
import ctypes, os, sys, threading, warnings
from externref import VMExternRef, abi, debug
warnings.simplefilter("ignore")
drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
with debug.track(guard=200):
    raws = [VMExternRef(i).as_raw() for i in range(50)]
    stop = False
    def work():
        while not stop:
            for raw in raws: drop(raw)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads: thread.start()
    for _ in range(30):
        child = os.fork()
        if child == 0:
            for i in range(50): VMExternRef(i)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    stop = True
    for thread in threads: thread.join()
print("fine")
""")
    assert out == "fine\n"


@pytest.mark.skipif(not hasattr(os, "fork") or NO_GIL, reason="needs fork, and one thread that runs Python")
def test_a_fork_whose_hooks_make_references():
    out, _ = run_alone("""
import os, signal, threading
from externref import VMExternRef, debug
os.register_at_fork(before=lambda: [VMExternRef([i]) for i in range(9)], after_in_parent=lambda: VMExternRef({}),
                    after_in_child=lambda: VMExternRef({}))
signal.signal(signal.SIGALRM, lambda *args: VMExternRef([]))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
with debug.track(guard=9) as tracker:
    stop = False
    def work():
        while not stop: VMExternRef([])
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(100):
        child = os.fork()
        if child == 0: os._exit(7)
        while True:
            try: assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7; break
            except InterruptedError: pass
    stop = True
    thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
print("fine")
""")
    assert out == "fine\n"


def test_a_child_does_not_report_its_parents_references():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    out, err = run_alone("""
import os, sys
from externref import VMExternRef
raw = VMExternRef([]).into_raw()
child = os.fork()
if child == 0: sys.exit()
os.waitpid(child, 0)
VMExternRef.from_raw(raw)
""", EXTERNREF_DEBUG="1")
    assert (out, err) == ("", "")


def test_threads_that_begin_and_end_trackers(quick_switches, monkeypatch):
    lost = []

    def work():
        for _ in range(2000):
            with debug.track() as tracker:
                ref = VMExternRef(1)
                if not tracker.live():
                    lost.append(1)
                del ref

    monkeypatch.setattr(debug.Tracker, "_look", lambda self: [])     # no collections: they take most of the time
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost and not externref._core._is_tracking()


# -- Mistakes of compiled code: in processes of their own, whose memory they may break

MISTAKES = """
import ctypes, sys
from externref import VMExternRef, abi, debug, drain, set_drain
set_drain("main")
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
free_drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
held_clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
class Big: pass
with debug.track(guard=100) as tracker:
    raw = VMExternRef(Big()).into_raw()
    {mistake}
for mistake in tracker.mistakes(): print(mistake)
"""

KINDS = {
    "dropped a freed reference": "held_drop(raw); drain(); held_drop(raw)",
    "dropped a freed reference, without the GIL": "held_drop(raw); drain(); free_drop(raw)",
    "dropped a freed reference, often": "held_drop(raw); drain(); [free_drop(raw) for _ in range(3)]",
    "cloned a freed reference": "held_drop(raw); drain(); held_clone(raw)",
    "wrote to a freed reference": "held_drop(raw); drain(); ctypes.c_void_p.from_address(raw + 8).value = 1",
    "dropped a reference more often than there were owners": "list(map(held_drop, [raw, raw]))",
    "dropped a reference that Python still owns":
        "ref = VMExternRef.from_raw(raw); ref.as_raw(); held_drop(raw); drain(); del ref",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_said_at_once_and_kept(kind):
    out, err = run_alone(MISTAKES.format(mistake=KINDS[kind]))
    what = kind.partition(",")[0]
    first = out.splitlines()[0]
    assert re.fullmatch(rf"compiled code {what}: Big made at <string>:10 in <module>, moved out at <string>:10 in <module>.*", first)
    assert err == "".join(f"externref: {mistake}\n" for mistake in out.splitlines())
    assert err.startswith(f"externref: compiled code {what}: Big made at <string>:10")
    assert len(out.splitlines()) == (3 if "often" in kind.partition(",")[2] else 1)


STOLEN = """
import ctypes, gc, sys
from externref import Function, VMExternRef, VMExternRefActivationsTable, abi, debug, drain, stats
drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
function = Function(abi.drop_address, "r")
class Big(list):
    def __del__(self):
        print("released")
def borrowed():
    ref = VMExternRef(Big([7]))
    with ref.borrow() as raw:
        drop(raw); drop(raw); drain()
    return ref
def lent():
    ref = VMExternRef(Big([7]))
    function(ref)
    return ref
def with_a_clone():
    ref = VMExternRef(Big([7]))
    other, raw = ref.clone(), ref.as_raw()
    drop(raw); drop(raw); drain()
    return other
def moved_in_and_out():
    ref = VMExternRef(Big([7]))
    drop(ref.as_raw()); drain()
    return VMExternRef.from_raw(ref.into_raw())
def in_a_table():
    ref = VMExternRef(Big([7]))
    table = VMExternRefActivationsTable()
    table.insert_with_gc(ref)
    raw = ref.as_raw()
    drop(raw); drop(raw); drain()
    assert table.gc() == 1
    return ref
"""


@pytest.mark.parametrize("how, drops", [
    ("borrowed", 2), ("lent", 1), ("with_a_clone", 2), ("moved_in_and_out", 1), ("in_a_table", 2)])
def test_what_compiled_code_dropped_of_pythons_stays(how, drops):
    """All goes on as if nothing had been dropped, and each drop is said."""
    out, err = run_alone(STOLEN + f"""
with debug.track(guard=9) as tracker:
    ref = {how}()
    gc.collect()
    print(ref.value, ref.clone().value, ref.strong_count, stats().handles, stats().live_blocks)
    del ref
    drain()
print(tuple(stats()), [mistake.partition(":")[0] for mistake in tracker.mistakes()])
gc.collect()
""")
    mistake = "compiled code dropped a reference that Python still owns"
    assert out == f"[7] [7] 1 1 1\nreleased\n(0, 0, 0, 0) {[mistake] * drops}\n"
    assert err.startswith(f"externref: {mistake}: Big made at <string>:")


@pytest.mark.parametrize("use", [
    "look(ref)", "with ref.borrow(): pass", "held(ref)", "ref.clone()", "debug.describe(ref)", "ref.value",
    "keep(ref); ref = VMExternRef.from_raw(raw)", "ref = VMExternRef.from_raw(ref.into_raw())"])
def test_what_compiled_code_dropped_of_pythons_is_used_at_once(use):
    """It does not await the drain, which would free it, or find it freed: its count is given back by the drop."""
    out, _ = run_alone(STOLEN + f"""
from externref import set_drain
nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
look, held = Function(nothing, "r", "w"), ctypes.PYFUNCTYPE(ctypes.c_int, VMExternRef)(nothing)
keep = Function(nothing, "m", "w")
set_drain(lambda: None)
with debug.track(guard=9) as tracker:
    ref = VMExternRef(Big([7]))
    raw = ref.as_raw()
    drop(raw)
    {use}
    print(stats().pending_drops, ref.strong_count)
    del ref
    drain()
gc.collect()
print(tuple(stats()), len(tracker.mistakes()))
""")
    assert out == "0 1\nreleased\n(0, 0, 0, 0) 1\n"


@pytest.mark.skipif(bool({"ASAN_OPTIONS", "TSAN_OPTIONS"} & os.environ.keys()),
                    reason="a wrapper has what is freed here, and the collector looks at it")
@pytest.mark.parametrize("tracked", [False, True])
def test_what_compiled_code_dropped_of_pythons_is_freed_where_nothing_is_kept(tracked):
    """As it must be for who drops rightly: the drain frees it, and once. If somebody tracks, it is said."""
    out, err = run_alone(STOLEN + f"""
import contextlib, os, sys
class Plain:
    __slots__ = ()      # so that the collector does not look at who has it
    def __del__(self):
        print("released")
with debug.track() if {tracked} else contextlib.nullcontext():
    ref = VMExternRef(Plain())
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(ref))   # it lives for ever: its end would be that of a block that is gone
    drop(ref.as_raw())
    drain()
    print(stats().live_blocks)
sys.stdout.flush()
os._exit(0)     # at its end the interpreter's collector would
""")
    assert out == "released\n0\n"
    assert err.startswith("externref: compiled code dropped a reference that Python still owns: Plain made at") == tracked


def test_calls_of_the_packages_own_are_not_said():
    out, _ = run_alone(STOLEN + """
import os, externref
own = os.path.join(os.path.dirname(externref.__file__), "its_own.py")
exec(compile("def make(): return VMExternRef([7])", own, "exec"))
with debug.track(guard=9) as tracker:
    raw = make().into_raw()
    drop(raw); drain(); drop(raw)
print(*tracker.mistakes())
""")
    assert out.startswith("compiled code dropped a freed reference: list made at <string>:") and "its_own" not in out


def test_what_compiled_code_owns_beside_what_it_dropped_of_pythons_stays_its_own():
    out, _ = run_alone(STOLEN + """
with debug.track(guard=9) as tracker:
    ref = VMExternRef(Big([7]))
    drop(ref.as_raw())
    raw = ref.clone().into_raw()
    print(ref.strong_count, stats().handles)
    drop(raw)
    print(ref.strong_count, ref.value)
print(len(tracker.mistakes()))
ref.drop()
""")
    assert out == "2 1\n1 [7]\n1\nreleased\n"


def test_what_compiled_code_dropped_of_pythons_outlives_the_guard():
    """Also if it ends in a finalizer of the drain, which does not drain there."""
    out, _ = run_alone(STOLEN + """
tracker = debug.track(guard=9).__enter__()
ref = VMExternRef(Big([7]))
raw = ref.as_raw()
class Last:
    def __del__(self):
        drop(raw)
        tracker.__exit__(None, None, None)
drop(VMExternRef(Last()).into_raw())
drain()
print(tuple(stats()), ref.value)
ref.drop()
""")
    assert out == "(1, 1, 1, 0) [7]\nreleased\n"


@pytest.mark.parametrize("use, mistake", [
    ("", "used a reference that it had dropped"),
    ("ref.clone()", "dropped a reference that Python still owns")])     # which drains
def test_what_compiled_code_dropped_and_returns_to_python_before_the_drain(use, mistake):
    """If Python lets go of it, it is freed while it awaits the drain."""
    out, _ = run_alone(STOLEN + f"""
from externref import set_drain
clone = Function(abi.clone_address, "w", "m").refs
raw = VMExternRef(Big([7])).into_raw()
set_drain(lambda: None)
with debug.track(guard=1) as tracker:
    drop(raw)
    ref = clone(raw)
    {use}
    del ref
    more = [VMExternRef([]) for _ in range(50)]
    del more
    drain()
    print([mistake.partition(":")[0] for mistake in tracker.mistakes()], tuple(stats()))
""")
    assert out == f"released\n['compiled code {mistake}'] (0, 0, 0, 0)\n"


@pytest.mark.parametrize("guard", ["0", "guard"])
def test_what_awaits_the_drain_is_cloned_and_dropped_again(guard):
    """The list of what awaits it has each block once."""
    out, _ = run_alone(STOLEN + """
from externref import set_drain
set_drain(lambda: None)
clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
raws = [VMExternRef(Big()).into_raw() for _ in range(3)]
for raw in raws:
    drop(raw)
for raw in raws:
    drop(clone(raw))
print(drain(), tuple(stats()))
""", EXTERNREF_DEBUG=guard)
    assert out == 3 * "released\n" + "3 (0, 0, 0, 0)\n"


def test_the_process_is_guarded_to_its_end():
    _, err = run_alone(STOLEN + """
class Handle:
    def __init__(self):
        self.raw = VMExternRef([7]).into_raw()
        drop(self.raw)
        drain()
    def __del__(self, drop=drop):
        drop(self.raw)
sys.handle = Handle()
""", EXTERNREF_DEBUG="guard")
    assert err.startswith("externref: compiled code dropped a freed reference: list made at <string>:")


def test_what_compiled_code_dropped_of_pythons_is_there_at_exit():
    _, err = run_alone(STOLEN + "ref = with_a_clone(); sys.modules['later'] = [ref]", EXTERNREF_DEBUG="guard")
    assert "dropped a reference that Python still owns" in err


@pytest.mark.parametrize("result", ["m", "r"])
def test_a_freed_reference_that_compiled_code_returns(foreign, result):
    """It is no object of Python's any more, and stays for as long as Python may look at it."""
    same = externref.Function(ctypes.cast(foreign.identity, ctypes.c_void_p).value, "w", result)
    with debug.track(guard=9) as tracker:
        raw = VMExternRef(Big()).into_raw()
        held_drop(raw)
        externref.drain()
        got = same.refs(raw)
        with pytest.raises(TypeError, match="freed reference"):
            _ = got.value
        assert [mistake.partition(":")[0] for mistake in tracker.mistakes()] == ["compiled code gave Python a freed reference"]
    # It is there after all that is kept was let go, and the memory around it.
    more = [VMExternRef(i) for i in range(5000)]
    del more
    gc.collect()
    assert got.clone() == got
    del got


@pytest.mark.parametrize("use", [VMExternRef.into_raw, VMExternRef.as_raw])
def test_a_freed_reference_that_python_was_given_before_anybody_looked(foreign, use):
    same = externref.Function(ctypes.cast(foreign.identity, ctypes.c_void_p).value, "w", "m")
    with debug.track(guard=1) as tracker:
        raw = VMExternRef(Big()).into_raw()
        held_drop(raw)
        externref.drain()
        for _ in range(3):
            use(same.refs(raw))
        for i in range(100):
            VMExternRef(i)
    assert tracker.mistakes()
    more = [VMExternRef(i) for i in range(5000)]
    del more
    gc.collect()
    if use is VMExternRef.into_raw:
        assert VMExternRef.clone_from_raw(raw).strong_count == 2
    else:
        with pytest.raises(externref.InvalidRawPointerError):
            VMExternRef.clone_from_raw(raw)


def test_a_freed_reference_that_was_written_to_is_dropped():
    with debug.track(guard=9) as tracker:
        raw = VMExternRef(Big()).into_raw()
        held_drop(raw)
        externref.drain()
        ctypes.c_size_t.from_address(raw - 8).value = 8     # where the payload was
        held_drop(raw)
    assert [mistake.partition(":")[0] for mistake in tracker.mistakes()] == [
        "compiled code dropped a freed reference", "compiled code wrote to a freed reference"]


def test_a_fork_while_another_thread_notes():
    """A child knows all that the parent knew, or nothing; also in hooks that were there before ours."""
    out, _ = run_alone("""
import os
made = []
os.register_at_fork(after_in_child=lambda: made.append(VMExternRef([])))
import ctypes, signal, threading, time
from externref import VMExternRef, abi, debug
drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
with debug.track(guard=20) as tracker:
    raw = VMExternRef([]).as_raw()
    stop = threading.Event()
    def note():
        while not stop.is_set():
            drop(raw)
    threads = [threading.Thread(target=note) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not tracker.mistakes():
        pass
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            tracker.mistakes()
            new = VMExternRef([])
            VMExternRef([]).drop()
            debug.live()
            os._exit(7 if [block.address for block in tracker.live()][-1:] == [new.as_raw()] else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
""")
    assert out.split() == ["7"] * 20


@forks_beside_threads
@pytest.mark.skipif(not hasattr(os, "fork") or NO_GIL, reason="needs fork, and a world that is not stopped for it")
def test_a_child_that_knows_nothing_keeps_what_python_was_given():
    """It has no list of what is kept; a slab with such a block in it is in use, all the same, when tracking ends."""
    run_alone("""
import ctypes, gc, os, signal, threading
from externref import Function, VMExternRef, abi, debug, drain
drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
same = Function(abi.clone_address, "w", "m").refs
tracker = debug.track(guard=100000, frames=1).__enter__()
freed = [VMExternRef([]).into_raw() for _ in range(2000)]
for raw in freed:
    drop(raw)
drain()
given = [same(raw) for raw in freed[::5]]
stop = threading.Event()
def note():
    while not stop.is_set():
        drop(freed[1])
threads = [threading.Thread(target=note) for _ in range(2)]
for thread in threads:
    thread.start()
forgot = 0
for _ in range(200):    # on a busy machine most know all
    if forgot == 5:
        break
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        forgot = not tracker.mistakes()
        tracker.__exit__(None, None, None)
        more = [VMExternRef([]) for _ in range(5000)]
        memory = [b"\\xff" * 31000 + bytes(n) for n in range(300)]
        for ref in given:
            ref.clone()
        given.clear()
        gc.collect()
        more = [VMExternRef([]) for _ in range(5000)]
        os._exit(7 if forgot else 8)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (7, 8), status
    forgot += status == 7
stop.set()
for thread in threads:
    thread.join()
""")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "__register_atfork") or NO_GIL or "ASAN_OPTIONS" in os.environ,
                    reason="needs glibc's forks, a world that is not stopped for them, and no sanitizer's locks")
def test_a_fork_waits_for_nobody_who_notes():
    """Who does may have what another library's hook waits for."""
    out, _ = run_alone("""
import ctypes, os, signal, threading
lock = threading.Lock()
take, give = (ctypes.CFUNCTYPE(None)(work) for work in (lock.acquire, lock.release))
ctypes.CDLL(None).__register_atfork(take, give, give, None)      # as a library that was there before
from externref import VMExternRef, debug
stop = threading.Event()
def make():
    while not stop.is_set():
        with lock:
            VMExternRef([])
with debug.track():
    thread = threading.Thread(target=make)
    thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            VMExternRef([])
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    thread.join()
""")
    assert out.split() == ["7"] * 20


def test_a_tracker_that_is_lost_ends():
    tracker = debug.track()
    tracker.__enter__()
    assert externref._core._is_tracking()
    del tracker
    assert not externref._core._is_tracking()


def test_a_report_is_not_for_stdout():
    result = subprocess.run([sys.executable, "-c", "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-c', "
                             "'from externref import VMExternRef; VMExternRef(1).into_raw()'])"],
                            stdout=subprocess.PIPE, env={**os.environ, "EXTERNREF_DEBUG": "1"})
    assert (result.returncode, result.stdout) == (0, b"")


def test_a_snapshot_sees_that_an_address_is_anothers(native):
    """Without tracking: by the type."""
    first = VMExternRef([])
    address = first.into_raw()
    before = debug.snapshot()
    native.drop(address)
    externref.drain()
    second = VMExternRef({})
    if second.as_raw() != address:
        pytest.skip("another address: a sanitizer keeps what is freed")
    assert str(debug.snapshot() - before) == "+ dict, not tracked\n- list, not tracked"


def test_of_a_long_history_the_end_is_told():
    with debug.track(guard=9) as tracker:
        raw = VMExternRef(Big()).into_raw()
        for _ in range(100):
            raw = VMExternRef.from_raw(raw).into_raw()
        held_drop(raw)
        externref.drain()
        held_drop(raw)
    mistake, = tracker.mistakes()
    assert re.match(r"compiled code dropped a freed reference: Big made at .*, freed at [^,]*$", mistake)


def test_the_oldest_of_the_guarded_go_first():
    out, err = run_alone("""
import ctypes
from externref import VMExternRef, abi, debug
clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
with debug.track(guard=3) as tracker:
    raw = VMExternRef("first").as_raw()
    VMExternRef(1); VMExternRef(2)
    clone(raw)
    VMExternRef(3); print(len(tracker.mistakes()), flush=True)
    VMExternRef(4); print(len(tracker.mistakes()), flush=True)
""")
    assert out.split() == ["1", "1"]
    assert err.count("cloned a freed reference: str made at <string>:6") == 1


# -- The environment

PROGRAM = """
from externref import VMExternRef
class Big: pass
def load():
    return VMExternRef(Big()).into_raw()
raws = [load(), load()]
kept = VMExternRef(3)
lent = VMExternRef(kept); lent.as_raw()
"""


def test_a_process_reports_when_it_ends():
    assert run_alone(PROGRAM, EXTERNREF_DEBUG="") == ("", "")
    assert run_alone(PROGRAM, EXTERNREF_DEBUG="0") == ("", "")
    for setting in "1", "guard", "guard=5":
        assert run_alone(PROGRAM, EXTERNREF_DEBUG=setting) == ("", """\
externref: 2 references owned by compiled code
  2 x Big made at <string>:5 in load, moved out at <string>:5 in load
externref: 1 reference lent for good, whose cycles are not collected
  1 x VMExternRef made at <string>:8 in <module>, lent at <string>:8 in <module>
""")


def test_a_process_without_leaks_is_silent():
    assert run_alone("import externref; ref = externref.VMExternRef(1); ref.clone()", EXTERNREF_DEBUG="1") == ("", "")


def test_another_setting_is_warned_of():
    _, err = run_alone("import externref", EXTERNREF_DEBUG="guard=many")
    assert "RuntimeWarning: EXTERNREF_DEBUG is 'guard=many', and not 1, guard or guard=N: it is taken for 1" in err


# -- pytest's plugin

TESTS_OF_A_USER = """
import unittest
import pytest
from externref import VMExternRef

def leak():
    return VMExternRef([]).into_raw()

def test_fixture(externref_no_leaks):
    leak()
    assert len(externref_no_leaks.leaks()) == 1

@pytest.mark.externref_no_leaks
def test_marker():
    leak()

@pytest.mark.externref_no_leaks(guard=10)
def test_marker_and_fixture(externref_no_leaks):
    VMExternRef([]).clone()

class TestOld(unittest.TestCase):
    @pytest.mark.externref_no_leaks
    def test_in_a_class(self):
        leak()

@pytest.mark.externref_no_leaks(3)
def test_positional():
    pass

def test_asked_for_in_the_test(request):
    request.getfixturevalue("externref_no_leaks")
    leak()

@pytest.mark.externref_no_leaks
def test_that_fails_of_itself():
    ref = VMExternRef([]); ref.as_raw()
    assert ref is None

def test_without():
    leak()
"""


def test_the_fixture_and_the_marker(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS_OF_A_USER)
    # With CI in the environment the summary has each report once more.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    result = subprocess.run([sys.executable, "-m", "pytest", "-p", "_externref_pytest", "-p", "no:cacheprovider", "-rA", "-q",
                             "--strict-markers", str(tmp_path / "test_it.py")], capture_output=True, text=True, cwd=tmp_path,
                            env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    outcome = dict(reversed(found) for found in re.findall(r"^(PASSED|FAILED) test_it\.py::(\S+)", result.stdout, re.MULTILINE))
    assert outcome == {"test_fixture": "FAILED", "test_marker": "FAILED", "test_marker_and_fixture": "PASSED",
                       "TestOld::test_in_a_class": "FAILED", "test_positional": "FAILED", "test_asked_for_in_the_test": "FAILED",
                       "test_that_fails_of_itself": "FAILED", "test_without": "PASSED"}
    assert result.stdout.count("1 x list made at") == 4     # and none for what had failed before
    assert re.search(r"1 x list made at .*test_it\.py:7 in leak, moved out at .*test_it\.py:7 in leak", result.stdout)


def test_pytest_finds_the_plugin():
    try:
        plugins = importlib.metadata.distribution("externref").entry_points.select(group="pytest11")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("externref is on the path, and not installed")
    assert [plugin.value for plugin in plugins] == ["_externref_pytest"]


def test_a_run_of_pytest_that_uses_neither_does_not_import_externref(tmp_path):
    (tmp_path / "test_it.py").write_text("import sys\ndef test(): assert 'externref' not in sys.modules\n")
    result = subprocess.run([sys.executable, "-m", "pytest", "-p", "_externref_pytest", "-p", "no:cacheprovider", "-q",
                             str(tmp_path)], capture_output=True, text=True, cwd=tmp_path,
                            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert result.returncode == 0, result.stdout
