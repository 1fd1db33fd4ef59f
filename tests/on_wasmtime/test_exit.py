"""Interpreter exit is silent and safe, whatever a store holds: return code 0, nothing on stderr. Promise P8."""

import pytest

import exit_matrix
import exit_matrix_stores

PRELUDE = """
import atexit, gc, os, sys, threading
import wasmtime, externref, externref.wasmtime as ew
from wasmtime import FuncType, ValType
class Loud:
    def __del__(self, write=os.write): write(1, b"dropped\\n")
store = wasmtime.Store()
def host(*args): return args[0] if args else None
func = ew.func(store, FuncType([ValType.externref()], [ValType.externref()]), host)
module = wasmtime.Module(store.engine, '''(module (import "" "" (func $h (param externref) (result externref)))
    (table (export "t") 4 externref) (global (export "g") (mut externref) (ref.null extern))
    (func (export "id") (param externref) (result externref) (call $h (local.get 0))))''')
exports = wasmtime.Instance(store, module, [func]).exports(store)
t, g, f = (ew.bind(store, exports[name]) for name in ("t", "g", "id"))
"""

CASES = {
    "objects in a table and a global": "t.fill(0, Loud(), 4); g.value = Loud()",
    "objects passed and not collected": "for _ in range(10): f(Loud())",
    "a reference that outlives the store": "ref = f.refs(Loud()); store.close()",
    "a bound function in a payload": "class Node: pass\nnode = Node(); node.f = f; t[0] = node; del node",
    "a host function that refers to the store": (
        "h = ew.func(store, FuncType([], []), lambda: store); del h"),
    "a store that is closed by atexit": "t[0] = Loud(); atexit.register(store.close)",
    "a store on a daemon thread": """
def work():
    with wasmtime.Store() as own:
        bound = ew.bind(own, wasmtime.Instance(own, wasmtime.Module(own.engine,
            '(module (func (export "f") (param externref)))'), []).exports(own)["f"])
        started.set()
        while True: bound(Loud.__new__(object))
started = threading.Event()
work.__globals__["Loud"] = object
threading.Thread(target=work, daemon=True).start(); started.wait(30)
""",
    "the modules gone from sys.modules": (
        "t[0] = Loud(); [sys.modules.pop(n) for n in list(sys.modules) if 'externref' in n or 'wasmtime' in n]"),
    "an exception from a host function": """
def fail(): raise SystemExit(0)
h = ew.bind(store, ew.func(store, FuncType([], []), fail))
t[0] = Loud()
h()
""",
}


@pytest.mark.parametrize("case", CASES)
def test_exit_is_silent(run_python, case):
    output = run_python(PRELUDE + CASES[case])
    assert set(output.split()) <= {"dropped"}


def test_what_the_store_held_is_dropped_when_it_is_closed_before(run_python):
    program = PRELUDE + "t.fill(0, Loud(), 4); g.value = Loud(); store.close(); externref.drain()"
    assert run_python(program) == "dropped\n" * 2


ITS_STORE_IS_GARBAGE = "what finds the store is garbage as the store is, whose own finalizer may have closed it before"
# So does `import holder, wasmtime; sys.keeps = holder; holder.engine = wasmtime.Engine()`.
WASMTIME_PY_SAYS_SO = "an engine in a module that goes after wasmtime-py's modules have been cleared has it say so"
LEFT_OUT = {exit_matrix.by_collection_of_modules: ITS_STORE_IS_GARBAGE, exit_matrix.as_module_goes: WASMTIME_PY_SAYS_SO,
            exit_matrix.by_weak_reference: WASMTIME_PY_SAYS_SO}


@pytest.mark.parametrize(("when", "mode", "how", "runtime"), exit_matrix.cells("wasmtime", few=True))
def test_matrix(run_script, when, mode, how, runtime):
    if when in LEFT_OUT:
        pytest.skip(LEFT_OUT[when])
    ended = run_script(how, "exit_matrix.py", when.__name__, mode.__name__, runtime)
    # wasmtime gives back what a store holds when that is deleted: if it is modules' end that does it, nobody drains any more.
    states = exit_matrix_stores.make_states(None)
    deeds = exit_matrix_stores.make_deeds(exit_matrix_stores.none, when is not exit_matrix.on_daemon_thread)
    wrong = exit_matrix.judge(when, mode, states, deeds, ended.returncode, ended.stdout, ended.stderr,
                              not_always=[*states, *deeds])
    assert not wrong, "\n".join(wrong)
