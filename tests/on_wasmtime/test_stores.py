"""A store that is closed, not to be closed now, or another one: what is refused. Promise P5."""

import pytest
import wasmtime

import externref.wasmtime as ew
from support import USES, uses


@pytest.mark.parametrize("use", USES)
def test_a_closed_store_raises_as_wasmtime_py_does(usable, func_type, use):
    store = wasmtime.Store()
    module = usable(store)
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
            with pytest.raises(ValueError, match=r"argument 1 \(funcref\).*another store"):
                module.id(stranger)
            for use, args in ((module.t.__setitem__, (0, stranger)), (module.t.grow, (1, stranger)),
                              (setattr, (module.g, "value", stranger))):
                with pytest.raises(ValueError, match=r"(the element|value) \(funcref\).*another store"):
                    use(*args)


def test_what_cannot_be_bound(store):
    for item in (None, print, 3):
        with pytest.raises(TypeError, match="Func, Table, Global or Memory"):
            ew.bind(store, item)
    for not_a_store in (None, 3, "store", store.engine):
        with pytest.raises(TypeError, match="wasmtime.Store"):
            ew.bind(not_a_store, print)


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


@pytest.mark.parametrize("is_bound", [False, True])
def test_two_threads_close_one_store(run_python, is_bound):
    run_python(f"""
import sys, threading, wasmtime, externref.wasmtime as ew
sys.setswitchinterval(1e-6)
engine = wasmtime.Engine()
for _ in range(300):
    store = wasmtime.Store(engine)
    if {is_bound}:
        ew.bind(store, wasmtime.Func(store, wasmtime.FuncType([], []), print))
    barrier = threading.Barrier(3)
    def close():
        barrier.wait()
        store.close()
    threads = [threading.Thread(target=close) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    store.close()
""")


def test_what_is_bound_is_bound_already(instantiate, store):
    raw = instantiate('''(module (func (export "f") (result i32) (i32.const 5)) (table (export "t") 1 externref)
        (global (export "g") i32 (i32.const 1)))''').raw
    for name in ("f", "t", "g"):
        bound = ew.bind(store, raw[name])
        assert ew.bind(store, bound) is bound
        with pytest.raises(ValueError, match="another store"):
            ew.bind(wasmtime.Store(), bound)
    f = ew.bind(store, raw["f"])
    without = ew.bind(store, f, release_gil=True)
    assert without.release_gil and not f.release_gil and without() == f() == 5
    assert ew.bind(store, without, release_gil=True) is without
    with pytest.raises(TypeError, match="for functions"):
        ew.bind(store, ew.bind(store, raw["t"]), release_gil=True)


MEANWHILE = """
import gc, sys, wasmtime, externref.wasmtime as ew
store = wasmtime.Store()
exports = wasmtime.Instance(store, wasmtime.Module(store.engine, '''(module (func (export "f") (result i32) (i32.const 5))
    (table (export "t") 1 externref) (global (export "g") i32 (i32.const 7)))'''), []).exports(store)
calls = 0
def meanwhile(at, run):
    # run() in the middle of whatever Python code is called as number `at`.
    def profile(frame, event, arg):
        global calls
        if event == "call":
            calls += 1
            if calls == at:
                sys.setprofile(None)
                run()
    global calls
    calls = 0
    sys.setprofile(profile)
"""


def test_a_store_closed_while_something_is_bound(run_python):
    run_python(MEANWHILE + """
for at in range(1, 60):
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, '(module (table (export "t") 1 externref))')
    table = wasmtime.Instance(store, module, []).exports(store)["t"]
    def close():
        try: store.close()
        except RuntimeError: pass
    meanwhile(at, close)
    try: len(ew.bind(store, table))
    except ValueError as error: assert "already closed" in str(error)
    sys.setprofile(None)
    store.close()
assert calls < 59, calls        # all places were tried
""")


def test_a_store_bound_first_by_two_at_a_time(run_python):
    run_python(MEANWHILE + """
for at in range(1, 60):
    store = wasmtime.Store()
    f = wasmtime.Func(store, wasmtime.FuncType([], []), print)
    others = []
    meanwhile(at, lambda: others.append(ew.bind(store, f)))
    bound = ew.bind(store, f)
    sys.setprofile(None)
    store.close()
    for each in (bound, *others):
        try: each()
        except ValueError as error: assert "already closed" in str(error)
        else: raise AssertionError
assert calls < 59, calls
""")


def test_nobody_finds_what_is_half_bound(run_python):
    run_python(MEANWHILE + """
uses = {ew.Func: lambda f: f() == 5, ew.Table: lambda t: len(t) == 1, ew.Global: lambda g: g.value == 7}
def look():
    for thing in gc.get_objects():
        if type(thing) in uses: assert uses[type(thing)](thing)
for name in "ftg":
    for at in range(1, 60):
        meanwhile(at, look)
        ew.bind(store, exports[name])
        sys.setprofile(None)
    assert calls < 59, calls
""")
