"""Ways in which bound items were made to crash, by ordinary Python and by guests. Promises P5, P8, P10."""

import contextlib
import copy
import gc
import importlib
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import wasmtime
from wasmtime import FuncType, GlobalType, Limits, TableType, ValType

import externref
import externref.wasmtime as ew
from support import LET_GO_AT_ALLOCATIONS, LET_GO_IN_THE_DRAIN, forks_beside_threads, in_thread


def run(program, *args, quiet=True):
    """Standard output of a program; it ends well and, if it is to be quiet, says nothing else."""
    ended = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program, *args], capture_output=True, text=True,
                           timeout=100)
    assert (ended.returncode, ended.stderr if quiet else "") == (0, ""), ended.stderr
    return ended.stdout


# --- A type is the item's, whoever says otherwise

LIES = """(module (func (export "f") (param i64) (result i64) local.get 0)
    (table (export "t") 4 funcref) (global (export "g") (mut i64) (i64.const 0x4141414141414141)))"""


@pytest.mark.parametrize("of", ["externref", "funcref"])
def test_an_item_that_lies_about_its_type(store, of):
    kind = getattr(ValType, of)()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, LIES), []).exports(store)
    f, t, g = exports["f"], exports["t"], exports["g"]
    f.type = lambda store: FuncType([ValType.i64()], [kind])
    t.type = lambda store: TableType(ValType.externref(), Limits(4, None))
    g.type = lambda store: GlobalType(kind, True)
    assert ew.bind(store, f)(0x41414140) == 0x41414140
    assert ew.bind(store, g).value == 0x4141414141414141
    with pytest.raises(TypeError, match="elements are funcref"):
        ew.bind(store, t).ref(0)


def test_the_library_is_asked_for_types(store, monkeypatch):
    """Not wasmtime-py: others can change its classes, and find the lists that it makes."""
    module = wasmtime.Module(store.engine, """(module (table (export "t") 1 funcref) (global (export "g") (mut i64) (i64.const 0x41414140))
        (func (export "f") (param i64) (result i64) (local.get 0))
        (func (export "get") (result funcref) (ref.func $i)) (func $i (param i64) (result i64) (local.get 0)) (elem declare func $i))""")
    exports = wasmtime.Instance(store, module, []).exports(store)
    lie = property(lambda self: ValType.externref())
    monkeypatch.setattr(GlobalType, "content", lie)
    monkeypatch.setattr(TableType, "element", lie)
    for name in ("params", "results"):
        monkeypatch.setattr(FuncType, name, property(lambda self: [ValType.externref()]))
    bound = {name: ew.bind(store, exports[name]) for name in ("t", "g", "f", "get")}
    assert bound["f"](7) == 7 and bound["g"].value == 0x41414140
    assert bound["get"]()(7) == 7
    with pytest.raises(TypeError, match="elements are funcref"):
        bound["t"].ref(0)


def test_a_subclass_that_lies_about_its_type(store):
    class Liar(wasmtime.Func):
        def type(self, store):
            return FuncType([ValType.i64()], [ValType.funcref()])

    f = wasmtime.Instance(store, wasmtime.Module(store.engine, LIES), []).exports(store)["f"]
    f.__class__ = Liar
    assert ew.bind(store, f)(7) == 7


# --- A host function that fails ends the guest, whatever else fails

def test_a_host_function_fails_when_the_modules_are_gone():
    out = run("""if True:
        import os, sys, wasmtime, externref.wasmtime as ew
        from wasmtime import FuncType, ValType
        store = wasmtime.Store()
        def fail(*args):
            raise ValueError
        hosts = [ew.func(store, FuncType([ValType.i64()], [result]), fail) for result in (ValType.funcref(), ValType.i64())]
        exports = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module
            (import "" "a" (func $a (param i64) (result funcref))) (import "" "b" (func $b (param i64) (result i64)))
            (table 1 funcref)
            (func (export "number") (result i64) (call $b (i64.const 1234)))
            (func (export "call")
                (table.set 0 (i32.const 0) (call $a (i64.const 0x41414140))) (call_indirect (i32.const 0))))'''), hosts).exports(store))
        class Late:
            def __del__(self, calls=(exports.number, exports.call), write=os.write, any=BaseException):
                for call in calls:
                    try:
                        call()
                        write(1, b"returned\\n")
                    except any:
                        write(1, b"raised\\n")
        sys.late = Late()
        """)
    assert out == "raised\nraised\n"


def test_a_host_function_fails_without_memory():
    pytest.importorskip("_testcapi", reason="no _testcapi to make allocations fail")
    out = run("""if True:
        import _testcapi, ctypes, wasmtime, externref.wasmtime as ew
        store = wasmtime.Store()
        def fail():
            raise ValueError
        f = ew.bind(store, ew.func(store, wasmtime.FuncType([], []), fail))
        kinds = set()
        for i in (*range(40), 10**6):      # the last fails nowhere
            try:
                _testcapi.set_nomemory(i, i + 1)
                try:
                    f()
                finally:
                    _testcapi.remove_mem_hooks()
            except (ValueError, MemoryError, ctypes.ArgumentError) as error:
                kinds.add(type(error).__name__)
            else:
                raise SystemExit(f"{i}: it returned")
        print({"MemoryError", "ValueError"} <= kinds)
        """, quiet=False)       # wasmtime-py's own finalizers may fail then, and say so
    assert out == "True\n"


# --- Exceptions come out of the call that they end, and of no other

def test_a_guest_does_not_bring_back_an_exception_that_was_caught(store, func_type):
    def fail():
        raise KeyError("caught")

    failing = ew.func(store, func_type(), fail)

    def host():
        for call in (lambda: failing(store), ew.bind(store, failing)):
            with pytest.raises(KeyError):
                call()

    for name in ("Python exception in a host function of externref.wasmtime", "python exception"):
        module = wasmtime.Module(store.engine, f"""(module (import "" "" (func $h))
            (func $x (@name "{name}") (export "f") call $h unreachable))""")
        f = wasmtime.Instance(store, module, [ew.func(store, func_type(), host)]).exports(store)["f"]
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            ew.bind(store, f)()


def test_a_trap_does_not_raise_another_threads_exception(store, func_type):
    traps = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(
        store.engine, '(module (func (export "f") unreachable))'), []).exports(store)["f"], release_gil=True)
    done = threading.Event()

    def fail():
        raise KeyError("another thread's")

    def other():
        with wasmtime.Store() as theirs:
            failing = ew.bind(theirs, ew.func(theirs, func_type(), fail), release_gil=True)
            while not done.is_set():
                with pytest.raises(KeyError):
                    failing()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(3000):
            with pytest.raises(wasmtime.Trap, match="unreachable"):
                traps()
    finally:
        done.set()
        thread.join()


# --- Finalizers, while wasmtime is in the middle of something

def test_a_finalizer_cannot_use_a_store_that_is_being_closed(func_type):
    for name in ("bound", "wasmtime-py's"):
        store = wasmtime.Store()
        seen = []

        class Host:
            """Released by the deletion, in Python, where what is pending is drained."""

            def __call__(self):
                pass

        exports = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module (import "" "" (func))
            (table (export "t") 4 externref) (func (export "f")))"""),
            [wasmtime.Func(store, func_type(), Host())]).exports(store)
        bound = ew.bind(store, exports)

        class Payload:
            def __del__(self, store=store, exports=exports, bound=bound, seen=seen):
                for use in (lambda: exports["f"](store), lambda: exports["t"].get(store, 0), bound.f, lambda: bound.t[0],
                            store.gc, lambda: store.set_limits(1), lambda: ew.bind(store, exports)):
                    with pytest.raises(ValueError, match="already closed"):
                        use()
                    seen.append(1)
                store.close()

        if name == "bound":
            bound.t[0] = Payload()
        else:
            exports["t"].set(store, 0, Payload())
        store.close()
        externref.drain()
        assert len(seen) == 7


def test_a_collection_is_a_use_of_the_store(store, module):
    used = threading.Event()
    failures = []

    def use():
        while not used.wait(0):
            try:
                module.t[0]
            except RuntimeError as error:
                failures.append(str(error))
                used.set()

    thread = threading.Thread(target=use)
    thread.start()
    table = module.t
    for i in range(500_000):
        if used.is_set():
            break
        if i % 1000 == 0:
            with_retry(store.gc)
        with_retry(lambda: table.__setitem__(1, object))
    used.set()
    thread.join()
    assert all("in use" in text for text in failures)


def with_retry(use):
    try:
        use()
    except RuntimeError as error:
        assert "in use" in str(error)


def test_a_call_of_wasmtime_py_is_a_use_of_the_store(store, module, func_type):
    """Another thread cannot use or close the store meanwhile, and this one cannot close it."""
    seen = []

    def host():
        def other():
            for use in (lambda: module.t[0], store.close, store.gc, lambda: module.raw["spin"](store, 1)):
                with pytest.raises(RuntimeError, match="in use"):
                    use()
                seen.append(1)

        with pytest.raises(RuntimeError, match="in use"):
            store.close()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        module.t[1] = "the same thread can"

    their_host = wasmtime.Func(store, func_type(), host)
    instance = wasmtime.Instance(store, wasmtime.Module(
        store.engine, '(module (import "" "" (func $h)) (func (export "f") call $h))'), [their_host])
    instance.exports(store)["f"](store)
    assert len(seen) == 4
    assert module.t[1] == "the same thread can"


# --- Names that Python looks for

def test_a_guest_does_not_answer_for_private_names(store, func_type):
    kept = []

    def host(caller):
        for name in ("_context", "__deepcopy__", "_invalidate"):
            assert not hasattr(caller, name)
            assert caller[name]() is None
        kept.append(caller)

    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module (import "" "" (func $h))
        (func $null (export "_context") (export "__deepcopy__") (export "_invalidate") (result externref) ref.null extern)
        (func (export "f") call $h))"""), [ew.func(store, func_type(), host, access_caller=True)])
    exports = ew.bind(store, instance.exports(store))
    exports.f()
    assert exports["__deepcopy__"]() is None and exports._context() is None
    assert not hasattr(exports, "__deepcopy__")
    with pytest.raises(TypeError):
        copy.deepcopy(exports)      # a Func cannot be copied
    assert len(kept) == 1


def test_a_caller_is_its_threads(store, relay):
    seen = []

    def host(caller):
        def other():
            for use in (lambda: caller.store, lambda: caller["call"], lambda: ew.bind(caller, caller.call)):
                with pytest.raises(RuntimeError, match="by another thread"):
                    use()
                seen.append(1)

        assert in_thread(other) is None

    relay("", "", None, ew.func(store, FuncType([], []), host, access_caller=True))()
    assert len(seen) == 3


# --- Closing and importing

def test_a_close_that_is_interrupted_comes_later(make_payload):
    dropped = []
    store = wasmtime.Store()
    table = ew.bind(store, wasmtime.Table(store, TableType(ValType.externref(), Limits(1, None)), None))
    table[0] = make_payload(dropped)
    armed = []

    def interrupt(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "delete" and not armed:
            armed.append(1)
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            store.close()
    finally:
        sys.setprofile(None)
    assert table[0] is not None
    store.close()
    externref.drain()
    assert armed and dropped


def test_a_store_that_is_opened_again(store):
    ew.bind(store, wasmtime.Table(store, TableType(ValType.externref(), Limits(1, None)), None))
    engine = store.engine
    store.close()
    store.__init__(engine)
    table = ew.bind(store, wasmtime.Table(store, TableType(ValType.externref(), Limits(1, None)), None))
    table[0] = 1
    assert table[0] == 1


@pytest.mark.parametrize("how", ["reload", "again"])
def test_importing_twice(how):
    run("""if True:
        import gc, importlib, sys, weakref, wasmtime
        from wasmtime import Limits, Store, Table, TableType, ValType
        kind = TableType(ValType.externref(), Limits(1, None))
        before = Store()
        early = Table(before, kind, object())
        import externref, externref.wasmtime as ew
        if sys.argv[1] == "reload":
            importlib.reload(ew)
        else:
            for name in [name for name in sys.modules if name.startswith("externref.wasmtime") and not name.endswith("_calls")]:
                del sys.modules[name]
            del externref.wasmtime
            import externref.wasmtime as ew
        gc.collect()
        early.set(before, 0, None)
        before.gc()
        class Payload:
            pass
        payload = Payload()
        gone = weakref.ref(payload)
        store = Store()
        ew.bind(store, Table(store, kind, None))[0] = payload
        del payload
        store.close()
        externref.drain()
        gc.collect()
        assert gone() is None
        """, how)
    assert importlib.import_module("externref.wasmtime") is ew


def test_what_is_private_is_not_in_the_module():
    # pytest rewrites the assertions of packages that have a plugin for it, by names that begin so.
    assert {name for name in vars(ew) if not name.startswith(("_", "@"))} == {
        *ew.__all__, "epochs", "exports", "patches", "resources", "tables"} & set(vars(ew)) | set(ew.__all__)


def test_a_type_that_a_finalizer_closes(store, func_type):
    class Closes:
        def __del__(self):
            for item in gc.get_objects():
                if isinstance(item, FuncType) and item is not kind:
                    item.close()

    table = ew.bind(store, wasmtime.Table(store, TableType(ValType.externref(), Limits(1, None)), None))
    kind = func_type("i32 i32", "i32")
    ew.func(store, kind, print)
    table[0] = Closes()
    table[0] = None
    store.gc()      # func() drains
    assert len(ew.func(store, kind, print).type(store).params) == 2


def test_stores_leave_no_state(make_payload):
    for _ in range(3):
        store = wasmtime.Store()
        ew.bind(store, wasmtime.Table(store, TableType(ValType.externref(), Limits(1, None)), None))
        gone = weakref.ref(store)
        del store
        gc.collect()
        assert gone() is None


# --- Every way into a store is a use of it, and takes the exception that ended it

LOOP = '(module (func (export "loop") (loop (br 0))))'
COMPONENT = """(component
  (import "host" (func $host)) (core func $lowered (canon lower (func $host)))
  (core module $m (import "" "host" (func $host)) (func (export "call") call $host) (func (export "loop") (loop (br 0))))
  (core instance $i (instantiate $m (with "" (instance (export "host" (func $lowered))))))
  (func (export "call") (canon lift (core func $i "call"))) (func (export "loop") (canon lift (core func $i "loop"))))"""


@pytest.fixture
def component_calls(store):
    """component_calls(store, host): calls into a component, which calls the host function, by name."""
    from wasmtime import component

    def component_calls(store, host):
        linker = component.Linker(store.engine)
        with linker.root() as root:
            root.add_func("host", lambda store: host())
        instance = linker.instantiate(store, component.Component(store.engine, COMPONENT))
        functions = {name: instance.get_func(store, name) for name in ("call", "loop")}
        return {name: lambda function=function: function(store) for name, function in functions.items()}

    return component_calls


def test_nothing_closes_a_store_in_a_call_of_wasmtime_py(store, component_calls, func_type):
    seen = []

    def host():
        with pytest.raises(RuntimeError, match="in use: it cannot be closed"):
            store.close()
        seen.append(1)
        bound = ew.bind(store, ew.func(store, func_type(), seen.clear))

        def refused():
            for use in (store.close, store.gc, bound):
                with pytest.raises(RuntimeError, match="in use"):
                    use()
                seen.append(1)

        assert in_thread(refused) is None

    def once():
        assert len(seen) == 4
        seen.clear()

    component_calls(store, host)["call"]()      # nothing was bound in it before
    once()
    their_host = wasmtime.Func(store, func_type(), host)
    linker = wasmtime.Linker(store.engine)
    linker.define(store, "", "h", their_host)
    linker.define_module(store, "m", wasmtime.Module(
        store.engine, '(module (import "" "h" (func $h)) (func (export "_initialize") call $h))'))
    once()
    their_host(store)
    once()


def test_exceptions_of_calls_that_wasmtime_py_makes(store, func_type):
    class Mine(Exception):
        pass

    def fail():
        raise Mine("this one")

    failing = ew.func(store, func_type(), fail)
    start = wasmtime.Module(store.engine, '(module (import "" "h" (func $h)) (start $h))')
    initialize = wasmtime.Module(store.engine, '(module (import "" "h" (func $h)) (func (export "_initialize") call $h))')
    linker = wasmtime.Linker(store.engine)
    linker.define(store, "", "h", failing)
    traps = wasmtime.Instance(store, wasmtime.Module(store.engine, '(module (func (export "f") unreachable))'), [])
    for call in (lambda: failing(store), lambda: wasmtime.Instance(store, start, [failing]),
                 lambda: linker.instantiate(store, start), lambda: linker.define_module(store, "m", initialize)):
        with pytest.raises(Mine, match="this one"):
            call()
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            traps.exports(store)["f"](store)
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            ew.bind(store, traps.exports(store)["f"])()


def test_a_bound_call_inside_a_host_function_of_wasmtime_py(store, func_type):
    class Mine(Exception):
        pass

    def fail():
        raise Mine

    calls = []
    inner = ew.bind(store, ew.func(store, func_type(), lambda: calls.append(1)))
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module (import "" "a" (func $a)) (import "" "b" (func $b))
        (func (export "f") call $a call $b))"""), [wasmtime.Func(store, func_type(), inner), ew.func(store, func_type(), fail)])
    for call in (ew.bind(store, instance.exports(store)["f"]), lambda: instance.exports(store)["f"](store)):
        with pytest.raises(Mine):
            call()
    assert len(calls) == 2


@pytest.mark.parametrize("ours", [True, False])
def test_a_tick_in_a_component(ours, component_calls, func_type):
    config = wasmtime.Config()
    config.epoch_interruption = True
    seen = []

    def host():
        with pytest.raises(wasmtime.Trap, match="interrupt"):
            loop()
        seen.append(1)

    with wasmtime.Store(wasmtime.Engine(config)) as store:
        ew.interruptible(store)
        loop = component_calls(store, int)["loop"]
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module (import "" "h" (func $h))
            (func (export "f") call $h unreachable))"""), [(ew.func if ours else wasmtime.Func)(store, func_type(), host)])
        f = ew.bind(store, instance.exports(store)["f"])
        timer = threading.Timer(0.05, ew.interrupt, [store])
        timer.start()
        with pytest.raises(wasmtime.Trap, match="unreachable|interrupt"):
            f()
        timer.join()
    assert seen == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")    # it also comes in finalizers
def test_a_signal_handler_leaves_no_store_in_use(store, module):
    spin = module.raw["spin"]

    class Stop(Exception):
        pass

    def handler(*_):
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    refused = []

    def other():
        try:
            module.t[0]
        except RuntimeError as error:
            refused.append(error)

    try:
        for turn in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + turn % 100 * 1e-6)
                for _ in range(20):
                    spin(store, 1)
            except Stop:
                pass
            finally:
                with contextlib.suppress(Stop):
                    signal.setitimer(signal.ITIMER_REAL, 0)
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not refused


# --- Forks, and the clock

NEW_STORE = """if True:
    import faulthandler, os, sys, wasmtime, externref.wasmtime as ew
    faulthandler.dump_traceback_later(60, exit=True)
    def new_store(**limits):
        config = wasmtime.Config()
        config.epoch_interruption = True
        store = wasmtime.Store(wasmtime.Engine(config))
        ew.interruptible(store, **limits)
        return store
    """
forks = pytest.mark.skipif(sys.version_info >= (3, 12), reason="forks with threads warn from 3.12 on")


@forks
@forks_beside_threads
def test_the_child_goes_on_in_compiled_code():
    out = run(NEW_STORE + """
    store = new_store(timeout=0.2)
    child = []
    def fork():
        child.append(os.fork())
        return child[0] == 0
    host = ew.func(store, wasmtime.FuncType([], [wasmtime.ValType.i32()]), fork)
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (import "" "h" (func $h (result i32)))
        (func (export "f") call $h (if (then (loop (br 0))))))'''), [host])
    try:
        ew.bind(store, instance.exports(store)["f"])()
    except wasmtime.Trap as trap:
        os._exit(33 if trap.trap_code is wasmtime.TrapCode.INTERRUPT else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]))
    """)
    assert out == "33\n"


@forks
@forks_beside_threads
def test_a_hook_before_a_fork_makes_stores_interruptible():
    out = run("""if True:
    import os
    made = []
    os.register_at_fork(before=lambda: made.append(new_store()))
""" + NEW_STORE + """
    new_store()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    print(len(made))
    """)
    assert out == "1\n"


def test_engines_are_looked_at_without_memory():
    """It does not crash; CPython's SystemError and what wasmtime-py says of its own errors are theirs."""
    pytest.importorskip("_testcapi", reason="no _testcapi to make allocations fail")
    out = run("""if True:
    import _testcapi, ctypes, wasmtime, externref.wasmtime as ew
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    for i in range(70, 82):
        store = wasmtime.Store(engine)
        try:
            _testcapi.set_nomemory(i, i + 1)
            try:
                ew.interruptible(store)
            finally:
                _testcapi.remove_mem_hooks()
        except (MemoryError, ValueError, wasmtime.WasmtimeError, ctypes.ArgumentError, SystemError):
            pass
    print("held")
    """, quiet=False)
    assert out == "held\n"


# --- The end

def test_stores_that_are_closed_when_modules_are_gone():
    out = run(NEW_STORE + """
    store = new_store(timeout=0.1)
    def host():
        try:
            loop()
        except wasmtime.Trap:
            raise KeyError("its own") from None
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (import "" "h" (func $h))
        (func (export "f") call $h) (func (export "loop") (loop (br 0))))'''), [
        wasmtime.Func(store, wasmtime.FuncType([], []), host)])
    loop = ew.bind(store, instance.exports(store)["loop"])
    try:
        ew.bind(store, instance.exports(store)["f"])()
    except KeyError:
        print("ended")
    sys.modules["sys"].kept = store, instance, loop
    """)
    assert out == "ended\n"


# --- What callers let go, in a collection or by what a class says

def test_what_goes_at_an_allocation(run_python):
    run_python(LET_GO_AT_ALLOCATIONS + """
import wasmtime, externref.wasmtime as ew
from functools import partial
from operator import getitem
store = wasmtime.Store()
exports = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (table (export "t") 5 externref)
    (memory (export "m") 1)
    (func (export "f") (param externref externref) (result externref) (local.get 1)))'''), []).exports(store)
def bound(name):    # by who gets it alone
    return ew.bind(store, exports[name])
for items in let_go_at_allocations(lambda: bound("t").__iter__):
    assert list(items) == [None] * 5
for items in let_go_at_allocations(lambda: bound("m").__iter__):
    assert next(items) == 0
for result in let_go_at_allocations(lambda: partial(bound("f"), ["x"], ["y"])):
    assert result == ["y"]
def host(caller):
    for item in let_go_at_allocations(lambda: partial(getitem, caller, "".join(["a", "name"]))):
        assert item.name == "aname"
wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (import "" "" (func $h))
    (func (export "aname")) (func (export "go") (call $h)))'''),
    [ew.func(store, wasmtime.FuncType([], []), host, access_caller=True)]).exports(store)["go"](store)
""", env={"PYTHONMALLOC": "debug"})


@pytest.mark.parametrize("first", ["['first']", "1"])
def test_arguments_that_go_in_the_drain(run_python, first):
    run_python(LET_GO_IN_THE_DRAIN + """
import sys, wasmtime, externref.wasmtime as ew
store = wasmtime.Store()
f = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module
    (func (export "f") (param externref externref) (result externref) (local.get 1)))'''), []).exports(store)["f"])
assert let_go_in_the_drain(partial(f, eval(sys.argv[1]), ["second"])) == ["second"]
""", first, env={"PYTHONMALLOC": "debug"})


@pytest.mark.parametrize("arguments", [(1.5, None, None), (1.5, "s", 1.5), ("s", 1.5, None), (1.5, 2.5, 3.5), (1.5, "s", None)])
def test_numbers_for_references_have_one_root(store, arguments):
    f = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, """(module
        (func (export "f") (param externref externref externref)))"""), []).exports(store)["f"])
    before = externref.stats().live_blocks
    for _ in range(20):
        f(*arguments)
    store.gc()
    externref.drain()
    assert externref.stats().live_blocks == before


def test_the_first_argument_of_a_function_that_was_a_value(run_python):
    """Its type is asked for first. CPython 3.11 calls a weak reference's callback with what it does not own."""
    run_python("""
import gc, weakref, wasmtime, externref.wasmtime as ew
store = wasmtime.Store()
exports = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module
    (table $t (export "t") 1 externref)
    (func $f (param externref) (table.set $t (i32.const 0) (local.get 0))) (elem declare func $f)
    (func (export "get") (result funcref) (ref.func $f)))'''), []).exports(store))
class Thing: pass
class Cycle:
    def __del__(self): watchers.clear()
watchers = []
for n in range(1, 40):
    thing = Thing()
    f = exports["get"]()
    gc.collect(); gc.disable()
    watchers.append(weakref.ref(thing, f))
    cycle = Cycle(); cycle.itself = cycle; del cycle
    exports.t[0] = None
    gc.set_threshold(n); gc.enable()
    del thing                           # calls f
    gc.disable(); gc.set_threshold(700)
    if not watchers:
        junk = [[k] for k in range(100)]
        assert type(exports.t[0]) in (weakref.ref, type(None))
    watchers.clear()
""", env={"PYTHONMALLOC": "debug"})


def test_values_whose_class_is_asked_for(run_python):
    run_python("""
import sys, weakref, wasmtime, externref.wasmtime as ew
from collections import defaultdict
from functools import partial
store = wasmtime.Store()
g = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine,
    '(module (global (export "g") (mut funcref) (ref.null func)))'), []).exports(store)["g"])
class Fake:
    @property
    def __class__(self):
        lender.default_factory = None
        return int
lender = defaultdict(partial(setattr, g, "value", Fake()))
try:
    lender["key"]
except TypeError as error:
    assert "not Fake" in str(error)
class Ref(weakref.ref):
    @property
    def __class__(self):
        watchers.clear()
        return int
class Thing: pass
thing = Thing()
watchers = [Ref(thing, ew.interrupt)]
raised = []
sys.unraisablehook = lambda unraisable: raised.append(str(unraisable.exc_value))
del thing
assert raised == ["expected a wasmtime.Store, not Ref"], raised
""", env={"PYTHONMALLOC": "debug"})


# --- What audit hooks, collections and others do to what wasmtime-py has

def test_what_an_audit_hook_closes():
    """ctypes has them run when it is asked for an address."""
    run("""
import sys, wasmtime, externref.wasmtime as ew
from wasmtime import FuncType, ValType
def hook(event, args):
    if event == "ctypes.addressof" and args[0] is pointer: closes.close()
def is_refused(call, *args):
    try:
        call(*args)
    except ValueError as error:
        return "closed" in str(error)
config = wasmtime.Config()
config.epoch_interruption = True
store = wasmtime.Store(wasmtime.Engine(config))
ew.func(store, FuncType([], []), print)
pointer = None
sys.addaudithook(hook)
closes = kind = FuncType([ValType.i32()] * 3, [ValType.i64()] * 2)
pointer = kind.ptr()
assert is_refused(ew.func, store, kind, print)
closes = store.engine
pointer = closes.ptr()
assert is_refused(ew.interruptible, store)
""")


def test_a_type_that_a_collection_closes():
    """Between its parameters and its results."""
    run("""
import gc, wasmtime, externref.wasmtime as ew
from wasmtime import FuncType, ValType
store = wasmtime.Store()
ew.func(store, FuncType([], []), print)
def closes(phase, info):
    global left
    if phase == "stop":
        keep.append([(k,) for k in range(2001)])    # tuples are allocated from here on, and that collects
    else:
        left -= 1
        if left == 0:
            kind.close()
            keep.append([b"A" * k + b"x" for k in range(400)])
for n in range(1, 6):
    kind = FuncType([ValType.i32()] * 3, [ValType.i64()] * 2)
    keep = []
    gc.collect()
    left = n
    gc.callbacks.append(closes)
    gc.set_threshold(1)
    try:
        f = ew.func(store, kind, print)
    except ValueError:
        continue
    finally:
        gc.set_threshold(700)
        gc.callbacks.clear()
    kind = f.type(store)
    assert (len(kind.params), len(kind.results)) == (3, 2)
""")


@pytest.mark.parametrize("by", ["object", "method"])
def test_a_call_is_not_ended_by_who_finds_it(by):
    """gc.get_objects() has what stands for a call of wasmtime-py's."""
    run(f"""
import gc, wasmtime, externref.wasmtime as ew
from wasmtime import FuncType
store, refused = wasmtime.Store(), []
def host():
    for found in gc.get_objects():
        leave = None
        if {by == "object"}:
            if type(found).__name__ == "Use": leave = found.__exit__
        elif type(found) is type(len) and found.__name__ == "__exit__" and type(found.__self__).__name__ == "Use":
            leave = found
        if leave is not None:
            try:
                leave(None, None, None)
            except RuntimeError as error:
                refused.append(str(error))
    try:
        store.close()
    except RuntimeError:
        refused.append("close")
f = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (import "" "" (func $h)) (memory 1) (func (export "f")
    (call $h) (i32.store (i32.const 0) (i32.const 1)) (drop (memory.grow (i32.const 1)))))'''),
    [wasmtime.Func(store, FuncType([], []), host)]).exports(store)["f"]
f(store)
assert refused[0] in ("the call is not over", "close") and refused[-1] == "close", refused
""")


def test_a_store_that_shows_another_s_dictionary():
    run("""
import wasmtime, externref.wasmtime as ew
from wasmtime import Limits, Table, TableType, ValType
other = wasmtime.Store()
class Store(wasmtime.Store):
    @property
    def __dict__(self): return other.__dict__
store = Store()
t = ew.bind(store, Table(store, TableType(ValType.externref(), Limits(1000, None)), None))
store.close()
junk = [wasmtime.Store() for _ in range(3)]
try:
    len(t)
except ValueError as error:
    assert "closed" in str(error)
else:
    assert False
wasmtime.Table(other, TableType(ValType.externref(), Limits(1, None)), None)
""")


def test_an_exception_of_a_host_function_that_cannot_be_shown(store):
    class Error(Exception):
        def __str__(self):
            raise ZeroDivisionError

    def host():
        raise Error

    module = wasmtime.Module(store.engine, '(module (import "" "" (func $h)) (func (export "f") (call $h)))')
    f = wasmtime.Instance(store, module, [wasmtime.Func(store, FuncType([], []), host)]).exports(store)["f"]
    with pytest.raises(Error):
        f(store)


def test_a_finalizer_between_a_host_function_and_its_results():
    """What a call left that something ended before it could raise it goes before the results are compiled code's."""
    run("""
import sys, wasmtime, externref.wasmtime as ew
from wasmtime import FuncType, ValType
store = wasmtime.Store()
class Error(Exception):
    def __del__(self):
        store.gc()
        exports.other.value = "another's"
def fail(): raise Error
failing = ew.bind(store, ew.func(store, FuncType([], []), fail))
def profile(frame, event, arg):         # any code that can raise there
    if event == "call" and frame.f_code.co_name == "_from_ptr":
        sys.setprofile(None)
        raise KeyboardInterrupt
def host():
    sys.setprofile(profile)
    try: failing()
    except KeyboardInterrupt: pass
    return ["mine"]
exports = ew.bind(store, wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module
    (import "" "" (func $h (result externref))) (global (export "other") (mut externref) (ref.null extern))
    (func (export "f") (result externref) (call $h)))'''),
    [ew.func(store, FuncType([], [ValType.externref()]), host)]).exports(store))
assert exports.f() == ["mine"]
""")


def test_an_exception_is_not_lost_to_a_finalizer_that_calls():
    """Between the failure of wasmtime-py's call and the end of the use in which it is raised."""
    run("""
import gc, wasmtime, externref.wasmtime as ew
from wasmtime import FuncType
store = wasmtime.Store()
def fail(): raise KeyError("mine")
exports = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (import "" "" (func $h))
    (func (export "go") (call $h)) (func (export "id") (param externref) (result externref) (local.get 0)))'''),
    [ew.func(store, FuncType([], []), fail)]).exports(store)
go, bound, own = exports["go"], ew.bind(store, exports["id"]), exports["id"]
class Uses:
    def __init__(self): self.me = self
    def __del__(self):
        bound(1)
        own(store, 1)
        try: ew.bind(store, go)()
        except KeyError: pass
for n in range(1, 40):
    Uses()
    junk = [[(k,) for k in range(2001)]]
    gc.disable()
    gc.set_threshold(gc.get_count()[0] + n, 1000, 1000)
    gc.enable()
    try: go(store)
    except KeyError as error: assert str(error) == "'mine'"
    else: assert False
    finally: gc.disable()
    gc.collect()
""")


def test_a_call_that_is_found_before_it_begins():
    """By audit hooks and collections, which run as it is made and entered."""
    run("""
import gc, sys, wasmtime, externref.wasmtime as ew
def make():
    global store, f
    store = wasmtime.Store()
    f = wasmtime.Instance(store, wasmtime.Module(store.engine, '(module (func (export "f")))'), []).exports(store)["f"]
    f(store)
def uses():
    for found in gc.get_objects():
        if type(found).__name__ == "Use":
            yield found
        elif type(found) is type(len) and type(found.__self__).__name__ == "Use":
            yield found.__self__
def collects(phase, info):
    global left
    if phase == "start" and left:
        for found in uses():
            left = 0
            try: found.__enter__()
            except RuntimeError: pass
for n in range(1, 30):
    make()
    left = 1
    junk = [[(k,) for k in range(2001)]]
    gc.collect()
    gc.disable()
    gc.callbacks.append(collects)
    gc.set_threshold(n)
    gc.enable()
    try: f(store)
    except RuntimeError as error: assert str(error) == "the call has begun", error
    finally:
        gc.disable()
        gc.callbacks.clear()
    gc.collect()
    store.close()
on = False
def hook(event, args):
    global on
    if on and event == "ctypes.addressof":
        on = False
        for found in uses(): found.raise_exception("x")
sys.addaudithook(hook)
make()
on = True
f(store)
""")
