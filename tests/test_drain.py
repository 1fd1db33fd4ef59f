"""What compiled code dropped is released soon, whoever computes; who runs finalizers; forks. Promises P2, P8.

A native thread drops, and no Python thread but the main one exists. Time decides no test: each waits for the release
with the means of its case, and fails if that never comes. docs/abi.md has the milliseconds.
"""

import asyncio
import ctypes
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest

import externref
from externref import VMExternRef, abi
from support import TESTS, forks_beside_threads, one_after_the_other, run_compiler

libc = ctypes.CDLL(None)
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)      # with the GIL held
DEADLINE = 20       # seconds, after which a release is not "soon" on any machine


class Where:
    """A payload that notes the thread that releases it."""

    def __init__(self, threads):
        self.threads = threads

    def __del__(self):
        self.threads.append(threading.get_ident())


def compute(until):
    """Pure Python, nothing that gives up the GIL by itself."""
    end = time.monotonic() + DEADLINE
    while not until:
        assert time.monotonic() < end, "not released while the main thread computes"


def wait_in_c(until):
    """The main thread in C code without the GIL: one call, in which it runs no pending call."""
    until.queue.get(timeout=DEADLINE)


class Noted(list):
    """What was appended, for compute(), and a queue of it, for wait_in_c()."""

    def __init__(self):
        self.queue = SimpleQueue()
        self.on_append = lambda: None

    def append(self, item):
        super().append(item)
        self.queue.put(item)
        self.on_append()


@pytest.fixture
def auto():
    externref.set_drain("auto")


def drop_later(foreign, threads):
    assert foreign.drop_detached(VMExternRef(Where(threads)).into_raw()) == 0


def dropping(foreign, noted, payload_type=Where):
    """drop_later(), to be called from C."""
    return partial(foreign.drop_detached, VMExternRef(payload_type(noted)).into_raw())


def waiting(noted):
    """wait_in_c(), to be called from C; the first that was appended."""
    return partial(noted.queue.get, timeout=DEADLINE)


def drop_while_in_c(foreign, noted, payload_type=Where):
    """drop_later() and wait_in_c(), in whose midst the main thread does not drain."""
    _, released_on = one_after_the_other(dropping(foreign, noted, payload_type), waiting(noted))
    assert released_on != threading.get_ident()


# --- "auto"

def test_released_on_the_main_thread_while_it_computes(foreign, auto):
    for _ in range(3):
        threads = Noted()
        drop_later(foreign, threads)
        compute(threads)
        assert threads == [threading.get_ident()]


def test_released_by_the_helper_while_the_main_thread_is_in_c(foreign, auto):
    for _ in range(3):
        drop_while_in_c(foreign, Noted())


def test_thousands_released_by_the_helper_while_the_main_thread_is_in_c(auto):
    threads = Noted()
    raws = [VMExternRef(payload).into_raw() for payload in [Where(threads), *range(2500)]]     # the last dropped comes first
    *_, released_on = one_after_the_other(*[partial(held_drop, raw) for raw in raws], waiting(threads))
    assert released_on != threading.get_ident() and externref.stats().pending_drops == 0


pythonapi = ctypes.PyDLL(None)
add_pending_call = partial(
    ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(("Py_AddPendingCall", pythonapi)),
    ctypes.cast(pythonapi.PyErr_CheckSignals, ctypes.c_void_p), None)    # int f(void), not hurt by an argument


def test_released_with_the_queue_of_pending_calls_full_while_the_main_thread_computes(auto):
    threads = Noted()
    raw = VMExternRef(Where(threads)).into_raw()
    # From C, so that the main thread does not run any in between.
    *_, full, _ = one_after_the_other(*[add_pending_call] * 33, partial(held_drop, raw))
    assert full == -1
    compute(threads)


def test_released_with_the_queue_of_pending_calls_full_while_the_main_thread_is_in_c(foreign, auto):
    threads = Noted()
    *_, full, _, released_on = one_after_the_other(
        *[add_pending_call] * 33, dropping(foreign, threads), waiting(threads))
    assert full == -1 and released_on != threading.get_ident()


def test_the_queue_of_pending_calls_is_left_to_others(foreign, auto):
    # A second in C code without the GIL, on the main thread, in which it drops, and the helper drains again and again.
    raws = (ctypes.c_void_p * 500)(*[VMExternRef(i).into_raw() for i in range(500)])
    assert foreign.places_left_by_drops(raws, ctypes.c_size_t(500), ctypes.c_size_t(1500)) >= 24     # of 32, or more
    externref.drain()


def test_released_while_another_drain_is_stuck_in_a_finalizer(foreign, auto):
    threads, entered, go_on = Noted(), threading.Event(), threading.Event()

    class Stuck:
        def __del__(self):
            entered.set()
            assert go_on.wait(DEADLINE)

    raws = [VMExternRef(x).into_raw() for x in (Where(threads), Stuck())]

    def work():
        for raw in raws:
            held_drop(raw)
        externref.drain()       # the newest first

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(DEADLINE)
    wait_in_c(threads)          # of the batch that the other thread has taken
    drop_later(foreign, threads)
    threads.clear()
    wait_in_c(threads)          # and a later one
    go_on.set()
    thread.join()


def test_released_after_the_helper_slept(foreign, auto):
    for _ in range(2):
        drop_while_in_c(foreign, Noted())
        time.sleep(1.3)         # it sleeps after a second


def test_a_finalizer_on_the_helper_may_do_all_that_a_thread_may(foreign, auto, capsys):
    class Busy(Where):
        def __del__(self):
            nested = []
            for _ in range(100_000):
                nested = [nested]
            try:
                repr(nested)
            except RecursionError:
                results.append("deep")
            # Foreign code that asks for the GIL, as it does on any thread.
            results.append(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 5)())
            results.append(externref.drain())
            results.append(VMExternRef(3).clone().value)
            super().__del__()

    results = []
    drop_while_in_c(foreign, Noted(), Busy)
    assert results == ["deep", 5, 0, 3]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="looks at its threads in /proc")
def test_the_helper_leaves_signals_to_others(foreign, auto):
    drop_while_in_c(foreign, Noted())
    status = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/status") as file:
            fields = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        status[fields["Name"]] = int(fields["SigBlk"], 16)
    blocked = status["externref-drain"]
    import signal
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
        assert blocked >> signum - 1 & 1
    # What a thread raises itself: a finalizer may call WebAssembly, whose traps these are.
    for signum in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        assert not blocked >> signum - 1 & 1


def test_no_thread_before_the_first_drop(run_python):
    run_python("""if True:
        import os, externref
        from externref import VMExternRef, Function, abi
        if os.path.exists("/proc/self/task"):
            ref = VMExternRef([])
            for _ in range(9):
                VMExternRef.from_raw(ref.clone().into_raw())
                Function(abi.clone_address, "r", "m")(ref)
            assert len(os.listdir("/proc/self/task")) == 1
    """)


def test_a_helper_that_cannot_start_leaves_it_to_pending_calls(run_python, foreign):
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs to know its own size")
    assert resource
    assert run_python("""if True:
        import ctypes, os, resource, sys, threading
        from externref import VMExternRef, abi
        import externref
        lib = ctypes.CDLL(sys.argv[1])
        lib.drop_detached.argtypes = [ctypes.c_void_p]
        drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
        class P:
            def __del__(self): dropped.append(threading.current_thread() is threading.main_thread())
        dropped = []
        raws = [VMExternRef(P()).into_raw() for _ in range(4)]
        def at_once(raws):
            list(map(drop, raws))       # from C: the second finds that none could be started
            while len(dropped) < 2: pass
        size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), limits[1]))
        at_once(raws[:2])
        assert len(os.listdir("/proc/self/task")) == 1
        resource.setrlimit(resource.RLIMIT_AS, limits)
        externref.drain()
        lib.drop_detached(raws[2])      # it is tried again
        while len(dropped) < 3: pass
        names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
        print(dropped, "externref-drain\\n" in names)
        VMExternRef.from_raw(raws[3])
    """, foreign._name) == "[True, True, True] True\n"


def test_a_subprocess_of_a_finalizer_gets_signals(run_python, foreign):
    # The helper blocks them, but not while it runs what is others'.
    assert run_python("""if True:
        import ctypes, subprocess, sys, time
        from externref import VMExternRef
        from queue import SimpleQueue
        done = SimpleQueue()
        class P:
            def __del__(self):
                code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
                done.put(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        lib = ctypes.CDLL(sys.argv[1])
        lib.drop_detached.argtypes = [ctypes.c_void_p]
        lib.drop_detached(VMExternRef(P()).into_raw())
        print(done.get(timeout=20), end="")
    """, foreign._name) == "0\n"


# --- set_drain

def test_set_drain_gives_the_setting_before():
    def schedule():
        pass

    externref.set_drain("auto")
    assert externref.set_drain("main") == "auto"
    assert externref.set_drain(schedule) == "main"
    assert externref.set_drain("main") is schedule


@pytest.mark.parametrize(("setting", "error", "text"), [
    ("Auto", ValueError, '"auto", "main" or a function, not \'Auto\''),
    ("", ValueError, "not ''"),
    (None, TypeError, "not NoneType"),
    (1, TypeError, "not int"),
    (b"auto", TypeError, "not bytes"),
])
def test_set_drain_refuses(setting, error, text):
    externref.set_drain("main")
    with pytest.raises(error, match=text):
        externref.set_drain(setting)
    assert externref.set_drain("main") == "main"


def test_main_waits_for_the_main_thread(foreign):
    externref.set_drain("main")
    threads = Noted()
    _, _, before = one_after_the_other(dropping(foreign, threads), partial(libc.usleep, 200_000), threads.copy)
    assert not before
    compute(threads)
    assert threads == [threading.get_ident()]


def test_main_changed_to_auto_with_drops_pending(foreign):
    externref.set_drain("main")
    timer = threading.Timer(1.5, externref.set_drain, ["auto"])     # the helper sleeps, having asked in vain
    timer.start()
    drop_while_in_c(foreign, Noted())
    timer.join()


def test_schedule_is_called_once_for_what_is_pending(foreign):
    calls, threads = Noted(), Noted()
    raws = [VMExternRef(Where(threads)).into_raw() for _ in range(21)]     # that drains too
    externref.set_drain(lambda: calls.append(threading.get_ident()))
    for raw in raws[:20]:
        assert foreign.drop_detached(raw) == 0
    compute(calls)
    libc.usleep(100_000)
    assert foreign.drop_on_thread(raws[20]) == 0
    libc.usleep(100_000)
    assert len(calls) == 1 and calls != [threading.get_ident()] and not threads
    assert externref.drain() == 21
    assert threads == [threading.get_ident()] * 21
    drop_later(foreign, threads)
    calls.clear()
    compute(calls)
    externref.drain()


def test_schedule_that_raises_is_reported_and_the_main_thread_drains(foreign, monkeypatch):
    reported, threads = Noted(), Noted()
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reported.append(info.exc_value))

    def schedule():
        raise RuntimeError("loop is closed")

    externref.set_drain(schedule)
    drop_later(foreign, threads)
    compute(threads)
    assert threads == [threading.get_ident()]
    assert [str(error) for error in reported] == ["loop is closed"]


@pytest.mark.parametrize("schedule", ["drain", "set main", "drop", "forget itself"])
def test_schedule_that_uses_the_package(foreign, native, schedule):
    threads, called, done = Noted(), Noted(), Noted()

    def drop():
        if len(called) == 1:        # each would ask for one call more
            native.drop(VMExternRef(Where(threads)).into_raw())
            externref.drain()

    actions = {
        "drain": externref.drain,
        "set main": lambda: externref.set_drain("main"),
        "drop": drop,
        "forget itself": lambda: (externref.set_drain("auto"), actions.clear()),
    }

    def call():
        called.append(1)
        actions[schedule]()
        done.append(1)

    externref.set_drain(call)
    del call        # nobody else has it, when it forgets itself
    drop_later(foreign, threads)
    compute(threads)
    compute(done)
    externref.drain()


def test_schedule_that_raises_is_not_released_by_the_helper(foreign, monkeypatch):
    threads, called, go_on, reported = Noted(), Noted(), threading.Event(), Noted()
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reported.append(info.exc_type))

    class Schedule(Where):
        def __call__(self):
            called.append(1)
            assert go_on.wait(DEADLINE)
            raise KeyError(self)

    externref.set_drain(Schedule(threads))
    drop_later(foreign, Noted())
    compute(called)
    externref.set_drain("main")
    go_on.set()
    compute(threads)
    assert threads == [threading.get_ident()] and reported == [KeyError]


def test_schedule_that_exits_does_not_end_the_process(run_python, foreign):
    assert run_python("""if True:
        import ctypes, sys, time
        import externref
        from externref import VMExternRef
        reported = []
        sys.unraisablehook = lambda info: reported.append(info.exc_type.__name__)
        externref.set_drain(lambda: sys.exit(7))
        lib = ctypes.CDLL(sys.argv[1])
        lib.drop_detached.argtypes = [ctypes.c_void_p]
        lib.drop_detached(VMExternRef(1).into_raw())
        while not reported: time.sleep(0.01)
        print(reported)
    """, foreign._name) == "['SystemExit']\n"


@pytest.mark.parametrize("setting", ["main", "a function"])
def test_set_drain_stops_a_helper_that_drains(foreign, auto, setting):
    threads, entered, go_on, calls = Noted(), Noted(), threading.Event(), Noted()

    class Slow:
        def __del__(self):
            entered.append(1)
            assert go_on.wait(DEADLINE)

    slow, *raws = [VMExternRef(x).into_raw() for x in (Slow(), *(Where(threads) for _ in range(5)))]
    # From C: else the main thread may be the one that drains it, and waits for itself.
    one_after_the_other(partial(foreign.drop_on_thread, slow), waiting(entered))
    externref.set_drain("main" if setting == "main" else lambda: calls.append(1))
    for raw in raws:
        assert foreign.drop_on_thread(raw) == 0
    go_on.set()
    if setting != "main":
        wait_in_c(calls)
        externref.drain()
    compute(threads)
    assert threads == [threading.get_ident()] * 5


def test_set_drain_takes_the_text_of_a_subclass_of_str():
    class Text(str):
        def __eq__(self, other):
            raise ZeroDivisionError

        __hash__ = str.__hash__

        def __call__(self):
            raise AssertionError

    assert externref.set_drain(Text("auto")) == "main" and externref.set_drain("main") == "auto"


def test_asyncio_recipe(foreign):
    async def main():
        loop = asyncio.get_running_loop()
        released = asyncio.Event()
        threads = Noted()
        threads.on_append = released.set        # right in the loop's thread alone
        externref.set_drain(lambda: loop.call_soon_threadsafe(externref.drain))
        drop_later(foreign, threads)
        await asyncio.wait_for(released.wait(), DEADLINE)
        assert threads == [threading.get_ident()]

    asyncio.run(main())


def test_asyncio_recipe_after_the_loop(foreign, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: reported.append(info.exc_type))

    async def main():
        loop = asyncio.get_running_loop()
        externref.set_drain(lambda: loop.call_soon_threadsafe(externref.drain))

    asyncio.run(main())
    threads = Noted()
    drop_later(foreign, threads)
    compute(threads)
    assert threads == [threading.get_ident()] and reported == [RuntimeError]


def test_schedule_is_not_released_by_the_helper(foreign):
    # It may hold what only its own thread may release: a Tcl interpreter, say.
    threads, called, go_on = Noted(), Noted(), threading.Event()

    class Schedule(Where):
        def __call__(self):
            called.append(1)
            assert go_on.wait(DEADLINE)

    externref.set_drain(Schedule(threads))
    drop_later(foreign, Noted())
    compute(called)
    externref.set_drain("main")     # the helper has the last reference
    assert not threads
    go_on.set()
    compute(threads)
    assert threads == [threading.get_ident()]


def test_what_the_main_thread_dropped_before_a_function_was_set():
    threads = Noted()
    held_drop_it = partial(held_drop, VMExternRef(Where(threads)).into_raw())
    # From C, so that the main thread's own pending call comes after it.
    one_after_the_other(held_drop_it, partial(externref.set_drain, externref.drain))
    compute(threads)
    assert threads != [threading.get_ident()]


def test_tk_recipe(foreign):
    # Tcl lets no other thread delete an interpreter; so nothing of Python's may run on the helper.
    tkinter = pytest.importorskip("tkinter")
    root = tkinter.Tcl()            # no window: the loop is the same
    threads = Noted()
    externref.set_drain("main")

    def tick():
        # A callback: before it begins, the main thread drains.
        if threads:
            root.tk.quit()      # here, in the loop: one that comes before it is forgotten
        root.after(20, tick)

    tick()
    drop_later(foreign, threads)
    root.tk.mainloop(-1)            # root.mainloop(), which would wait for a window
    assert threads == [threading.get_ident()]


# --- Forks

FORK = """if True:
    import ctypes, operator, os, sys, threading, time, warnings
    from functools import partial
    import externref
    from externref import VMExternRef, abi
    warnings.simplefilter("error")              # 3.12 and later warn if there are other threads
    libc = ctypes.CDLL(None)
    lib = ctypes.CDLL(sys.argv[1])
    drop_on_thread = lib.drop_on_thread
    drop_on_thread.argtypes = [ctypes.c_void_p]
    from queue import SimpleQueue
    class P:
        def __del__(self): note(threading.current_thread() is threading.main_thread())
    dropped, queue = [], SimpleQueue()
    def note(what):
        dropped.append(what)
        queue.put(what)
    def drop():
        assert drop_on_thread(VMExternRef(P()).into_raw()) == 0
    def wait(n):
        end = time.monotonic() + 20
        while len(dropped) < n:
            assert time.monotonic() < end, dropped
    def wait_in_c(n):
        while len(dropped) < n or not queue.empty():
            queue.get(timeout=20)
    def reap(child):
        assert os.waitpid(child, 0)[1] == 0
"""

# `dropped` is in parent and child alike, so both wait for as much.
FORKS = {
    "drops of before": "drop(); child = os.fork(); wait(1)",
    "drops of before, in C": "drop(); child = os.fork(); wait_in_c(1)",
    "the child's drops": "child = os.fork(); drop(); wait(1); drop(); wait_in_c(2)",
    "an awake helper": "drop(); wait(1); child = os.fork(); drop(); wait(2)",
    "a helper that sleeps": "drop(); wait(1); time.sleep(1.3); child = os.fork(); drop(); wait(2)",
    "main": "externref.set_drain('main'); drop(); child = os.fork(); drop(); wait(2); assert dropped == [True] * 2",
    "one after the other": """
    for _ in range(30):
        drop()
        child = os.fork()
        if not child: os._exit(0)
        reap(child)
    child = None""",
    "grandchildren": "drop(); child = os.fork(); drop(); wait(2); grand = os.fork(); drop(); wait(3); reap(grand) if grand else os._exit(0)",
    "by C code": "drop(); wait_in_c(1); child = ctypes.PyDLL(None).fork(); drop(); wait_in_c(2)",
    "by C code, with the main thread asked": "externref.set_drain('main'); drop(); libc.usleep(50_000); child = ctypes.PyDLL(None).fork(); "
                                            "drop(); wait(2)",
    "by C code that let the GIL go, while the helper has it": """
    class Busy:
        def __del__(self):
            end = time.monotonic() + 0.5
            queue.put(0)
            while time.monotonic() < end: pass
    assert drop_on_thread(VMExternRef(Busy()).into_raw()) == 0
    queue.get(timeout=20)
    child = libc.fork(); drop(); wait(1)""",
    "in a hook of a fork": """
    inner = []
    def hook():
        if not inner:
            inner.append(1)
            inner[0] = os.fork()
    os.register_at_fork(before=hook)
    drop(); wait(1)
    child = os.fork()
    drop(); wait_in_c(2)
    if child and inner[0]: reap(inner[0])""",
    "on another thread, whose function ends later than the child drops": """
    warnings.simplefilter("ignore")
    children = []
    def fork():
        child = os.fork()
        if child: children.append(child)
        else: drop()
    thread = threading.Thread(target=fork)
    thread.start(); thread.join()
    child, = children
    drop(); wait(1)""",
    "on another thread": """
    children = []
    def fork():
        child = os.fork()
        if not child:
            drop(); wait(1)
            os._exit(0)
        children.append(child)
    drop(); wait(1); dropped.clear()
    thread = threading.Thread(target=fork)
    warnings.simplefilter("ignore")             # there is another thread, and that is the program's affair
    thread.start(); thread.join()
    child, = children
    drop(); wait(1)""",
    "two finalizers that meet": """
    meeting = threading.Barrier(2)
    class Meets:
        def __del__(self): meeting.wait(20); note(0)
    drop_with_gil = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
    for _ in range(2):      # no Python code runs between these and the fork, nor does a helper any more
        os.register_at_fork(before=partial(drop_with_gil, VMExternRef(Meets()).into_raw()))
    child = os.fork(); wait(2)""",
    "on another thread, with a drop pending": """
    externref.set_drain("main")
    pending = partial(ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address), VMExternRef(P()).into_raw())
    children = []
    def fork():
        children.extend(map(operator.call, [pending, os.fork]))
        if not children[-1]: os._exit(0)
    warnings.simplefilter("ignore")             # there is another thread, and that is the program's affair
    thread = threading.Thread(target=fork)
    thread.start(); thread.join()               # in C: the main thread runs no pending call
    child = children[-1]
    wait(1)""",
    "by C code that let the GIL go, with a drop pending": """
    externref.set_drain("main")
    pending = partial(ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address), VMExternRef(P()).into_raw())
    _, child = map(operator.call, [pending, libc.fork])
    wait(1)""",
    "in a finalizer": """
    class Forks:
        def __del__(self):
            global child
            child = os.fork()
            note(0)
    assert drop_on_thread(VMExternRef(Forks()).into_raw()) == 0
    wait(1); drop(); wait(2)""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("case", FORKS)
def test_fork(run_python, foreign, case):
    run_python(FORK + "\n    " + FORKS[case] + "\n    if child: reap(child)", foreign._name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("first_import", [
    "threading.main_thread()._ident += 8; import externref; threading.main_thread()._ident -= 8",    # as gevent does
    "thread = threading.Thread(target=__import__, args=['externref']); thread.start(); thread.join()",
], ids=["another number", "on another thread"])
def test_fork_where_the_main_thread_is_not_who_imports(run_python, foreign, first_import):
    """The main thread is known, and its child has a helper."""
    run_python("import threading\n" + first_import + "\n" + FORK + """
    drop_it = partial(drop_on_thread, VMExternRef(P()).into_raw())
    child = os.fork()
    # From C: the main thread runs no pending call between.
    assert list(map(operator.call, [drop_it, partial(queue.get, timeout=20)])) == [0, False]
    if child: reap(child)""", foreign._name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
# At once, or as the helper falls asleep: then what a finalizer left in the thread's locals goes.
@pytest.mark.parametrize("payload", ["Forks", "Leaves"])
def test_fork_in_a_finalizer_on_the_helper(run_python, foreign, payload):
    # The child's only thread is what was the helper: it ends with its function, as any thread that forks.
    assert run_python(FORK + f"""
    local = threading.local()
    class Forks:
        def __del__(self):
            global child
            child = os.fork()
            note(threading.current_thread() is threading.main_thread())
            if not child:
                os.write(1, b"child ")
    class Leaves:
        def __del__(self): local.forks = Forks()
    warnings.simplefilter("ignore")             # there is another thread: the main one
    drop_it = partial(drop_on_thread, VMExternRef({payload}()).into_raw())
    # From C: the main thread, however slow the machine, runs no pending call between.
    assert list(map(operator.call, [drop_it, partial(queue.get, timeout=20)])) == [0, False]
    reap(child)
    drop(); wait_in_c(2)
    print("parent")
    """, foreign._name) == "child parent\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the names of threads are found in /proc")
def test_the_helper_ends_while_another_hook_of_a_fork_runs(run_python, foreign):
    # It is in a finalizer for longer than a fork waits for it.
    run_python("""if True:
    import glob, os, threading
    entered, go_on = threading.Event(), threading.Event()
    def is_there():
        names = []
        for path in glob.glob("/proc/self/task/*/comm"):
            try:
                with open(path) as file: names.append(file.read())
            except (FileNotFoundError, ProcessLookupError): pass        # it has just ended
        return "externref-drain\\n" in names
    def end_it():
        assert is_there()
        go_on.set()
        while is_there(): time.sleep(0.01)
    os.register_at_fork(before=end_it)      # before the package is there: it is called after the package's
""" + FORK[len("if True:"):] + """
    class Stuck:
        def __del__(self):
            entered.set(); go_on.wait(20); note(0)
    assert drop_on_thread(VMExternRef(Stuck()).into_raw()) == 0
    while not entered.is_set(): time.sleep(0.1)
    warnings.simplefilter("ignore")
    child = os.fork()
    drop(); wait_in_c(2)
    if child: reap(child)
    """, foreign._name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_fork_while_the_helper_is_in_a_finalizer(run_python, foreign):
    # It is waited for, but not for ever; and it goes on afterwards.
    run_python(FORK + """
    entered, go_on = threading.Event(), threading.Event()
    class Stuck:
        def __del__(self):
            entered.set(); go_on.wait(20); note(0)
    assert drop_on_thread(VMExternRef(Stuck()).into_raw()) == 0
    while not entered.is_set(): time.sleep(0.1)
    warnings.simplefilter("ignore")
    child = os.fork()
    go_on.set()
    if child:
        wait(1); drop(); wait(2)
        reap(child)
    else:
        drop(); wait(1)
    """, foreign._name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@forks_beside_threads
def test_many_forks_while_threads_drop(run_python, foreign):
    run_python(FORK + """
    warnings.simplefilter("ignore")             # the program has a thread of its own
    stop = False
    def work():
        while not stop:
            drop()
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(50):
        child = os.fork()
        if not child:
            n = len(dropped)
            drop(); wait(n + 1)
            os._exit(0)
        reap(child)
    stop = True
    thread.join()
    """, foreign._name)


@pytest.mark.skipif(not sys.platform.startswith("linux") or "/libpython3" not in Path("/proc/self/maps").read_text(),
                    reason="only where CPython is a shared library one of its functions can be another's")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="something else is preloaded")
def test_fork_while_another_thread_adds_a_pending_call(run_python, foreign, compilers, tmp_path):
    # It has noted that it does, and is not in the child: nobody there may wait for that call.
    library = tmp_path / "asking.so"
    run_compiler(compilers[0], "-shared", "-fPIC", TESTS / "c/asking.c", "-o", library)
    run_python(FORK + """
    warnings.simplefilter("ignore")
    asking = ctypes.CDLL(sys.argv[2])
    externref.set_drain("main")
    lib.drop_detached.argtypes = [ctypes.c_void_p]
    raw = VMExternRef(P()).into_raw()
    asking.stop_who_asks()
    lib.drop_detached(raw)
    asking.await_who_asks()
    child = os.fork()
    if child:
        asking.let_go()
        wait(1)
        reap(child)
    else:
        wait(1); drop(); wait(2)
        assert dropped == [True] * 2
    """, foreign._name, library, env={"LD_PRELOAD": str(library)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_drain_in_c_after_a_fork_whose_finalizer_waits_for_another(run_python):
    """No bytecode runs between, nor in the finalizers, so that no pending call comes: the helper drains the other block."""
    run_python("""if True:
        import ctypes, os, weakref
        from functools import partial
        from operator import call
        from queue import SimpleQueue
        import externref
        from externref import VMExternRef, abi
        drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
        class P: pass
        queue, watching = SimpleQueue(), []
        for finalizer in queue.get, queue.put:
            payload = P()
            watching.append(weakref.ref(payload, finalizer))
            os.register_at_fork(before=partial(drop, VMExternRef(payload).into_raw()))
        del payload
        child, _ = map(call, (os.fork, externref.drain))
        assert externref.stats() == (0, 0, 0, 0)
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(0)
    """)


# --- The interpreters of a process

@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on a pending call is the main interpreter's")
@pytest.mark.parametrize("setting", ["auto", "main"])
@pytest.mark.parametrize("where", ["main thread", "another thread"])
def test_a_drop_made_in_another_interpreter(run_python, setting, where):
    assert run_python("""if True:
        import sys, threading, time
        import _xxsubinterpreters as interpreters
        import externref
        from externref import VMExternRef, abi
        externref.set_drain(sys.argv[1])
        class P:
            def __del__(self):
                ran.append(interpreters.get_current() == interpreters.get_main())
        ran = []
        other = interpreters.create()
        program = f'''
import ctypes
ctypes.PYFUNCTYPE(None, ctypes.c_void_p)({abi.drop_address})({VMExternRef(P()).into_raw()})
for i in range(1_000_000): pass
'''
        if sys.argv[2] == "main thread":
            interpreters.run_string(other, program)
        else:
            thread = threading.Thread(target=interpreters.run_string, args=[other, program])
            thread.start()
            thread.join()
        end = time.monotonic() + 20
        while not ran:
            assert time.monotonic() < end
        interpreters.destroy(other)
        print(ran)
    """, setting, where) == "[True]\n"
