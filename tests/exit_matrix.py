"""Programs that end, with references in every state, and that use them at some moment of their end. Promise P8.

    exit_matrix.py WHEN MODE WHAT

is one: references are there in every state, in the MODE, and every deed is done WHEN, if WHAT is `all`. If it is `each`, a child
is forked for every pair of a state and a deed, which takes a tenth of the time of a process of its own. A runtime's name stands
for exit_matrix_stores.py. What happens is said by write(), a line each, and judge() says what is wrong with that.

A moment, a mode, a state and a deed are a function each, whose name says what it is.
"""

import atexit
import codecs
import contextvars
import ctypes
import gc
import itertools
import os
import signal
import sys
import threading
import time
import weakref
from collections import Counter

import exit_matrix_stores

libc = ctypes.PyDLL(None)       # which keeps the GIL: no helper drains meanwhile
late = []


def do_late():
    while late:
        late.pop()()


def register_late():
    """For a program, before externref is imported: handlers run in reverse, so that these run after the package's own."""
    atexit.register(do_late)
    atexit.register(libc.write, 1, b"closed\n", 7)      # no Python function, before which pending calls would run


if __name__ == "__main__":
    register_late()

import externref
from externref import VMExternRef, abi, debug, option_from_raw, option_into_raw

drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
drop_with_gil = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)


def say(text, write=os.write):
    write(1, text.encode() + b"\n")


# A payload that leads to nothing: neither to this module, and so to all that it refers to, nor to externref.
namespace = {"write": os.write}
exec("""
class Loud:
    def __init__(self, name): self.name = name.encode()
    def __del__(self, write=write): write(1, b"dropped " + self.name + b"\\n")
""", namespace)
Loud = namespace.pop("Loud")


class Node:
    """A payload of a cycle; what it holds goes with it."""


def thread_that_drops(raw):
    """The calls, of C functions, that start a native thread and wait for it."""
    thread = ctypes.c_ulong()
    return ((libc.pthread_create, ctypes.byref(thread), None, ctypes.c_void_p(abi.drop_address), ctypes.c_void_p(raw)),
            (libc.pthread_join, thread, None))


def drop_on_native_thread(raw):
    for function, *args in thread_that_drops(raw):
        assert function(*args) == 0


def cycle(loud):
    node = Node()
    node.ref, node.loud = VMExternRef(node), loud
    return node.ref


def register_codecs(holding):
    """The interpreter itself keeps it: what goes last."""
    def search(name):
        return None

    search.holding = holding
    codecs.register(search)


# --- What there is: each is given a payload; what it returns stays, in the main module

def nothing(loud):
    pass


def kept(loud):
    return VMExternRef(loud)


def clones(loud):
    ref = VMExternRef(loud)
    return [ref, *(ref.clone() for _ in range(9))]


def kept_by_sys(loud):
    sys.kept = VMExternRef(loud)


def kept_by_codecs(loud):
    register_codecs(VMExternRef(loud))


def kept_by_context(loud):
    variable = contextvars.ContextVar("variable")
    variable.set(VMExternRef(loud))
    return variable


def kept_by_thread_local(loud):
    sys.local = threading.local()
    sys.local.ref = VMExternRef(loud)


def lent(loud):
    ref = VMExternRef(loud)
    ref.as_raw()
    return ref


def borrowed(loud):
    borrow = VMExternRef(loud).borrow()
    borrow.__enter__()
    return borrow


def in_activations_table(loud):
    table = externref.VMExternRefActivationsTable()
    table.insert_without_gc(VMExternRef(loud))
    return table


def out(loud):
    ref = VMExternRef(loud)
    ref.into_raw()
    return ref


def collected(loud):
    cycle(loud)


def cycle_that_is_lent(loud):
    cycle(loud).as_raw()


def cycle_with_raw_owner(loud):
    cycle(loud).clone().into_raw()


def dropped(loud):
    drop_with_gil(VMExternRef(loud).into_raw())


def dropped_by_native_thread(loud):
    drop_on_native_thread(VMExternRef(loud).into_raw())


# These handlers are C functions: no pending call runs between them and the package's own, which is the next.
def dropped_by_atexit(loud):
    atexit.register(drop_with_gil, VMExternRef(loud).into_raw())


def dropped_by_native_thread_at_exit(loud):
    for call in reversed(thread_that_drops(VMExternRef(loud).into_raw())):
        atexit.register(*call)


def dropped_after_python(loud):
    assert libc.__cxa_atexit(ctypes.c_void_p(abi.drop_address), ctypes.c_void_p(VMExternRef(loud).into_raw()), None) == 0


def cloned_after_python(loud):
    assert libc.__cxa_atexit(ctypes.c_void_p(abi.clone_address), ctypes.c_void_p(VMExternRef(loud).into_raw()), None) == 0


# What compiled code owns, or may, is never dropped.
NEVER = [out, cycle_that_is_lent, cycle_with_raw_owner, dropped_after_python, cloned_after_python]
# What it has dropped is, by the drain at exit at the latest.
AWAITED = [dropped, dropped_by_native_thread, dropped_by_atexit, dropped_by_native_thread_at_exit]
STATES = [nothing, kept, clones, kept_by_sys, kept_by_codecs, kept_by_context, kept_by_thread_local, lent, borrowed,
          in_activations_table, collected, *AWAITED, *NEVER]


# --- What is done

def make_deeds():
    """Functions of a new payload each.

    They get at everything by their closures: names in modules, those of `builtins` among them, are gone at the end.
    """
    from externref import VMExternRefActivationsTable, drain, set_drain, stats
    from externref.ctypes import callback, lent, moved

    native_clone = ctypes.PYFUNCTYPE(moved, VMExternRef)(abi.clone_address)
    function = externref.Function(abi.clone_address, "r", "m")
    native_drop, native_drop_with_gil = drop, drop_with_gil
    ref_class, from_option, into_option = VMExternRef, option_from_raw, option_into_raw
    text_of, hash_of, weak, errors = repr, hash, weakref.ref, (externref.MovedError, externref.InvalidRawPointerError)
    create, join = libc.pthread_create, libc.pthread_join
    ulong, by_reference, pointer, address = ctypes.c_ulong, ctypes.byref, ctypes.c_void_p, abi.drop_address

    @callback(None, lent)
    def called_back(ref):
        assert ref.strong_count == 3

    def make(loud):
        ref_class(loud)

    def clone(loud):
        ref = ref_class(loud)
        assert ref.clone() == ref and hash_of(ref.clone()) == hash_of(ref)

    def value(loud):
        assert ref_class(loud).value is loud

    def move(loud):
        assert ref_class.from_raw(ref_class(loud).into_raw()).value is loud
        assert from_option(into_option(ref_class(loud))).value is loud
        assert ref_class.from_raw(pointer(ref_class(loud).into_raw())).value is loud

    def misuse(loud):
        ref = ref_class(loud)
        ref.drop()
        for mistake in (ref.clone, lambda: ref_class.from_raw(8)):
            try:
                mistake()
            except errors:
                pass

    def lend(loud):
        ref = ref_class(loud)
        assert ref_class.clone_from_raw(ref.as_raw()) == ref

    def borrow(loud):
        ref = ref_class(loud)
        with ref.borrow() as raw:
            assert ref_class.clone_from_raw(raw) == ref

    def weakly(loud):
        ref = ref_class(loud)
        watch = weak(ref, lambda gone: None)
        del ref
        assert watch() is None

    def say_what_it_is(loud):
        text_of(ref_class(loud))

    def take_stock(loud):
        ref = ref_class(loud)
        assert stats().live_blocks >= 1
        del ref

    def insert(loud):
        table = VMExternRefActivationsTable()
        table.insert_with_gc(ref_class(loud))

    def call_ctypes(loud):
        ref = ref_class(loud)
        assert native_clone(ref) == ref

    def call_ctypes_back(loud):
        ref = ref_class(loud)
        with ref.borrow() as raw:
            called_back(raw)

    def call_function(loud):
        assert function(ref_class(loud)) is loud

    def drop_natively(loud):
        native_drop_with_gil(ref_class(loud).into_raw())

    def drop_without_gil(loud):
        native_drop(ref_class(loud).into_raw())

    def drop_on_thread(loud):
        thread = ulong()
        assert create(by_reference(thread), None, pointer(address), pointer(ref_class(loud).into_raw())) == 0
        assert join(thread, None) == 0

    def choose(loud):
        ref = ref_class(loud)
        set_drain(set_drain("auto"))
        del ref

    def drain_all(loud):
        native_drop_with_gil(ref_class(loud).into_raw())
        drain()

    return [make, clone, value, move, misuse, lend, borrow, weakly, say_what_it_is, take_stock, insert, call_ctypes,
            call_ctypes_back, call_function, drop_natively, drop_without_gil, drop_on_thread, choose, drain_all]


DEEDS = make_deeds()
PENDING = {"drop_natively", "drop_without_gil", "drop_on_thread"}       # whoever drains next has them dropped


def make_act(deeds):
    tell, loud = say, Loud

    def act():
        for deed in deeds:
            name = deed.__name__
            tell(f"begun {name}")
            deed(loud(name))
            tell(f"done {name}")

    return act


# --- When it is done: each is given what does it, and returns at the program's end, or raises

class Finalizer:
    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


def now(act):
    act()


def before_sys_exit(act):
    act()
    sys.exit(0)


def on_thread_that_is_joined(act):
    def work():
        threading.main_thread().join()      # from here on it is Python's end that waits
        act()

    threading.Thread(target=work).start()


def on_thread_that_exits(act):
    def work():
        threading.main_thread().join()
        act()
        sys.exit("nobody hears this")

    threading.Thread(target=work).start()


def on_daemon_thread(act):
    started = threading.Event()

    def work():
        while True:
            act()
            started.set()

    threading.Thread(target=work, daemon=True).start()
    assert started.wait(60)


def at_exit(act):
    atexit.register(act)


def late_at_exit(act):
    late.append(act)


def make_garbage(act):
    node = Node()
    node.itself, node.finalizer = node, Finalizer(act)


def by_last_collection(act):
    """Of Py_FinalizeEx(), if the collector is enabled: modules are all there."""
    make_garbage(act)
    atexit.register(gc.enable)


def by_collection_of_modules(act):
    make_garbage(act)


def keep_module():
    """Or it goes with its last reference, before modules are cleared that were imported later: the package's."""
    sys.keeps = sys.modules[__name__]


def as_module_goes(act):
    global finalizer
    keep_module()
    finalizer = Finalizer(act)


def by_weak_reference(act):
    global target
    keep_module()
    target = Node()
    sys.watch = weakref.ref(target, lambda gone: act())


def as_sys_goes(act):
    sys.finalizer = Finalizer(act)


def as_interpreter_goes(act):
    register_codecs(Finalizer(act))


EARLY = [now, before_sys_exit, on_thread_that_is_joined, on_thread_that_exits, at_exit]     # the package's drain comes after
WHEN = [*EARLY, on_daemon_thread, late_at_exit, by_last_collection, by_collection_of_modules, as_module_goes,
        by_weak_reference, as_sys_goes, as_interpreter_goes]


# --- In which mode

def plainly():
    pass


def drained_by_main():
    externref.set_drain("main")


def drained_by_nobody():
    externref.set_drain(gc.isenabled)   # no function of this module, which it keeps for ever if another thread sets it again


def tracked():
    tracker = debug.track()
    tracker.__enter__()
    return tracker


def guarded():
    tracker = debug.track(guard=100)
    tracker.__enter__()
    return tracker


def with_helper_asleep():
    drop_on_native_thread(VMExternRef(None).into_raw())
    time.sleep(1.3)     # it sleeps after a second


def with_helper_in_finalizer():
    begun, tell, sleep = threading.Event(), say, time.sleep

    class Slow:
        def __del__(self):
            begun.set()
            sleep(0.2)
            tell("dropped by helper")

    drop_on_native_thread(VMExternRef(Slow()).into_raw())
    assert begun.wait(60)


SLOW = [with_helper_asleep, with_helper_in_finalizer]
MODES = [plainly, drained_by_main, drained_by_nobody, tracked, guarded, *SLOW]


# --- The cells, and the program

def cells(*amounts, few=False):
    """For tests: (when, mode, how, amount) each, the amount being the first one.

    Every moment in every mode, and every moment in every way; if few, every moment. With EXTERNREF_EXIT_MATRIX=all every
    moment in every mode in every way, and of every amount.
    """
    import pytest

    from support import HOW_TO_EXIT, NO_GIL

    whole = os.environ.get("EXTERNREF_EXIT_MATRIX") == "all"
    chosen = []
    for when, mode, how in itertools.product(WHEN, MODES, HOW_TO_EXIT):
        if NO_GIL and mode is with_helper_in_finalizer:
            continue    # there it runs on the thread that made the object, which waits for it
        slow = mode in SLOW
        usual = [mode is plainly, how == "python" and (not slow or when is at_exit)]
        if whole or (all(usual) if few else any(usual)):
            chosen += [pytest.param(when, mode, how, amount, id=f"{when.__name__}-{mode.__name__}-{how}-{amount}")
                      for amount in amounts[:1 if slow or not whole else None]]
    return chosen


def begin(when, mode, states, deeds):
    global in_mode, stays, keeps
    gc.disable()        # which would find a cycle too early
    in_mode = mode()
    stays = [state(Loud(state.__name__)) for state in states]
    keeps = deeds       # what they use is no garbage before this module is
    when(make_act(deeds))


def judge(when, mode, states, deeds, status, said, errors, *, not_always=()):
    """What is wrong, in words. All cells are functions; a payload of `not_always` may be dropped or not."""
    told = said.splitlines()
    in_time = told[:told.index("closed")] if "closed" in told else []       # before the package has closed
    lines = Counter(line for line in told if line != "closed")
    wrong = [errors] if errors else []
    unfinished = [deed.__name__ for deed in deeds if lines[f"begun {deed.__name__}"] != lines[f"done {deed.__name__}"]]
    if status != 0:
        wrong.append(f"status {status}, in the midst of {unfinished}" if unfinished else f"status {status}")
    if mode is with_helper_in_finalizer and (lines.pop("dropped by helper", 0) != 1 or "dropped by helper" not in in_time):
        wrong.append("nobody waited for the helper's finalizer")
    cut_off = when is on_daemon_thread      # anywhere, and what its frame leads to stays
    for deed in deeds:
        name = deed.__name__
        begun, done, drops = lines.pop(f"begun {name}", 0), lines.pop(f"done {name}", 0), lines.pop(f"dropped {name}", 0)
        if not cut_off and (begun, done) != (1, 1):
            wrong.append(f"{name} was begun {begun} times, done {done} times")
        fewest = 0 if cut_off or deed in not_always or (name in PENDING and when not in EARLY) else begun
        if not fewest <= drops <= begun:
            wrong.append(f"the payload of {name} was dropped {drops} times")
        elif when in EARLY and deed not in not_always and f"dropped {name}" not in in_time:
            wrong.append(f"the payload of {name} was dropped late")
    for state in states:
        drops = lines.pop(f"dropped {state.__name__}", 0)
        if drops not in ({0} if state in NEVER else {0, 1} if cut_off or state in not_always else {1}):
            wrong.append(f"the payload of {state.__name__} was dropped {drops} times")
        elif state in AWAITED and not cut_off and f"dropped {state.__name__}" not in in_time:
            wrong.append(f"the payload of {state.__name__} was dropped late")
    return [*wrong, *lines]


ATTEMPTS = 3        # at what CPython may crash in by itself


def is_of_cpython(status, _, errors):
    """Whether it died as CPython may by itself, of a daemon thread that comes back from a call without the GIL once the
    interpreter has gone. CPython 3.11's take_gil() looks at its thread state, which is freed, and at a mutex, which is
    destroyed. With -X dev, 11 of 6,000 such threads crash that do nothing but ctypes.CDLL(None).getpid()."""
    return status == -signal.SIGSEGV or (status == -signal.SIGABRT and "take_gil" in errors)


def fork_each(when, mode):
    """Returns in every child, whose end is its interpreter's; ends the parent."""
    for state, deed in itertools.product(STATES, DEEDS):
        for _ in range(ATTEMPTS):
            pipes = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                for number, pipe in enumerate(pipes, 1):
                    os.dup2(pipe[1], number)
                    os.close(pipe[0])
                    os.close(pipe[1])
                return begin(when, mode, [state], [deed])
            said = []
            for pipe in pipes:
                os.close(pipe[1])
                with open(pipe[0], errors="replace") as file:
                    said.append(file.read())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if not (when is on_daemon_thread and is_of_cpython(status, *said)):
                break
        for wrong in judge(when, mode, [state], [deed], status, *said):
            say(f"{state.__name__}, {deed.__name__}: {wrong}")
    os._exit(0)


def main(when, mode, what):
    when, mode = ({function.__name__: function for function in functions}[name]
                  for functions, name in ((WHEN, when), (MODES, mode)))
    if what == "each":
        fork_each(when, mode)
    elif what == "all":
        begin(when, mode, STATES, DEEDS)
    else:
        open_store = exit_matrix_stores.RUNTIMES[what]
        begin(when, mode, exit_matrix_stores.make_states(open_store),
              exit_matrix_stores.make_deeds(open_store, when is not on_daemon_thread))


if __name__ == "__main__":
    main(*sys.argv[1:])
