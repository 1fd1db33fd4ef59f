"""CPython lends a method its object and its arguments, and there are callers that let them go in the middle of the call.
Promises P1, P2, P5.
"""

import pytest

from support import LET_GO_AT_ALLOCATIONS, LET_GO_IN_THE_DRAIN


@pytest.mark.parametrize("letters", ["rrr", "mmm", "mrw"])
def test_arguments_of_a_function_that_go_in_the_drain(run_python, letters):
    run_python(LET_GO_IN_THE_DRAIN + f"""
letters, got = {letters!r}, []
from externref.ctypes import callback, lent, moved
import ctypes
kinds = dict(r=lent, m=moved, w=ctypes.c_size_t)
def callee(*args):
    got.extend(arg if isinstance(arg, int) else arg.value for arg in args)
called = callback(None, *map(kinds.get, letters))(callee)
def call():
    return partial(Function(ctypes.cast(called, ctypes.c_void_p).value, letters), *(
        int("1" * 15) if letter == "w" else [n] for n, letter in enumerate(letters)))
assert let_go_in_the_drain(call()) is None
assert got == [int("1" * 15) if letter == "w" else [n] for n, letter in enumerate(letters)], got
""", env={"PYTHONMALLOC": "debug"})


def test_methods_whose_object_goes_at_an_allocation(run_python):
    run_python(LET_GO_AT_ALLOCATIONS + """
import externref.ctypes
from functools import partial
from externref import Function, VMExternRef, abi
for borrow in let_go_at_allocations(lambda: VMExternRef(["mine"]).borrow):
    raw = borrow.__enter__()
    assert VMExternRef.clone_from_raw(raw).value == ["mine"]
    borrow.__exit__(None, None, None)
borrows = type(VMExternRef(1).borrow())
for borrow in let_go_at_allocations(lambda: partial(borrows, VMExternRef(["mine"]))):
    assert VMExternRef.clone_from_raw(borrow.__enter__()).value == ["mine"]
    borrow.__exit__(None, None, None)
for shown in let_go_at_allocations(lambda: Function(abi.clone_address, "".join("wr"), "w").__repr__):
    assert "'wr' -> 'w'" in shown
for made in let_go_at_allocations(lambda: partial(externref.ctypes.callback(None), lambda: None)):
    assert made() is None
try:
    list(let_go_at_allocations(lambda: partial(delattr, VMExternRef(1), "value")))
except AttributeError:
    pass
""", env={"PYTHONMALLOC": "debug"})


@pytest.mark.parametrize("method", ["is_", "downcast_ref"])
def test_classes_that_go_as_they_are_asked(run_python, method):
    """CPython's own isinstance() crashes so."""
    run_python(f"""
from functools import partial
from externref import VMExternRef
class Meta(type):
    def __instancecheck__(cls, other):
        call.__setstate__((print, (), {{}}, None))
        kept.extend(bytes(n % 400) for n in range(3000))
        return False
ref, kept = VMExternRef(1), []
call = partial(ref.{method}, tuple(Meta("A", (), {{}}) for _ in range(30)))
assert not call()
""", env={"PYTHONMALLOC": "debug"})


def test_a_callback_that_goes_in_its_last_call(run_python):
    run_python("""
import ctypes, gc
from externref import Function, VMExternRef
from externref.ctypes import callback, moved
@callback(moved)
def once():
    registry.clear()            # C code will not call it again
    gc.collect()                # ctypes.cast() made a cycle
    junk.extend([n] for n in range(1000))
    return ref
ref, junk = VMExternRef(["result"]), []
registry = [once]
call = Function(ctypes.cast(once, ctypes.c_void_p).value, "", "m")
del once
assert call() == ["result"]
""", env={"PYTHONMALLOC": "debug"})


def test_a_callback_that_another_thread_lets_go(run_python):
    run_python("""
import ctypes, gc, sys, threading
import externref.ctypes
def body():
    running.set()
    gone.wait()
    raise KeyError("reported")
running, gone, reported = threading.Event(), threading.Event(), []
sys.unraisablehook = lambda raised: reported.append(raised.exc_type)
made = externref.ctypes.callback(None)(body)
call = ctypes.CFUNCTYPE(None)(ctypes.cast(made, ctypes.c_void_p).value)
thread = threading.Thread(target=call)
thread.start()
running.wait()
del made
gc.collect()
kept = [bytes(i % 200) for i in range(3000)]
gone.set()
thread.join()
assert reported == [KeyError]
""", env={"PYTHONMALLOC": "debug"})
