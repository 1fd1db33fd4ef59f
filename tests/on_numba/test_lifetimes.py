"""Who keeps a payload alive: arguments, containers, closures, cycles, and calls that end in an exception. Promises P1, P2, P3."""

import gc
from typing import NamedTuple

import numpy as np
import pytest
from numba import njit, prange

import externref
import externref.numba as ern
from externref import VMExternRef


def test_payload_is_released_once_and_at_once(identity, make_payload):
    dropped = []
    ref = identity(VMExternRef(make_payload(dropped, "payload")))
    assert dropped == []
    del ref
    assert dropped == ["payload"]


def test_argument_that_only_the_call_holds_lives_through_it(make_payload):
    dropped = []
    count = njit(lambda ref: ern.strong_count(ref))(VMExternRef(make_payload(dropped, "payload")))
    assert (count, dropped) == (2, ["payload"])     # the wrapper and the compiled code


def test_typed_list_outlives_the_wrapper(copies, make_payload):
    dropped = []
    refs = copies(VMExternRef(make_payload(dropped, "payload")), 3)
    assert dropped == []
    assert refs.pop().value.name == "payload"
    del refs
    externref.drain()
    assert dropped == ["payload"]


def test_closure_variable_is_owned_by_the_compiled_code(make_payload):
    dropped = []
    ref = VMExternRef(make_payload(dropped, "payload"))

    def make():
        captured = ref.clone()  # noqa: F821  deleted below

        @njit
        def get():
            return captured

        @njit
        def call():
            return get(), get()

        return call

    call = make()
    first, second = call()
    assert first == second == ref
    del first, second, ref, make
    gc.collect()
    assert dropped == []
    assert call()[0].value.name == "payload"
    del call
    gc.collect()
    externref.drain()
    assert dropped == ["payload"]


class Pair(NamedTuple):
    first: object
    second: object


@pytest.mark.parametrize("capture", [
    lambda ref: ref, lambda ref: (ref, ref), lambda ref: (1, ref, "x"), lambda ref: ((ref, ref), ref, (2, ref)),
    lambda ref: Pair(ref, ref), lambda ref: Pair(ref, 1), lambda ref: (1, 2), lambda ref: ("a", 2.0),
], ids=range(8))
@pytest.mark.parametrize("how", ["closure", "parallel loop", "loop"])
def test_what_a_function_captures_goes_with_it(make_payload, capture, how):
    dropped = []
    ref = VMExternRef(make_payload(dropped, "payload"))

    @njit
    def length(value):
        return 1

    def make():
        captured = capture(ref)     # noqa: F821  deleted below
        if how == "closure":
            return njit(lambda n: captured)

        @njit(parallel=how == "parallel loop")
        def get(n):
            lengths = np.zeros(n)
            for i in prange(n):
                lengths[i] = length(captured)
            return lengths.sum()
        return get

    function = make()
    for _ in range(5):
        function(3)
    assert dropped == []
    del function, make, capture
    gc.collect()
    externref.drain()
    gc.collect()
    assert ref.strong_count == 1
    del ref
    assert dropped == ["payload"]


def test_a_parallel_loop_that_is_called_by_another_function(make_payload):
    ref = VMExternRef(make_payload([], "payload"))

    def make():
        captured = ref.clone()

        @njit(parallel=True)
        def inner(n):
            total = 0
            for _ in prange(n):
                total += ern.strong_count(captured)
            return total

        @njit
        def outer(n):
            return inner(n) + inner(n)
        return outer

    outer = make()
    gc.collect()
    assert [outer(4) for _ in range(3)] == [outer(4)] * 3
    del outer, make
    gc.collect()
    externref.drain()
    assert ref.strong_count == 1


def test_cycle_through_a_reference_that_was_compiled_codes(identity, make_payload):
    dropped = []
    payload = make_payload(dropped, "payload")
    payload.ref = identity(VMExternRef(payload))
    del payload
    gc.collect()
    assert dropped == ["payload"]


def test_cycle_that_compiled_code_holds_is_kept(copies, make_payload):
    dropped = []
    payload = make_payload(dropped, "payload")
    payload.ref = VMExternRef(payload)
    refs = copies(payload.ref, 3)
    del payload
    gc.collect()
    assert refs[0].value.name == "payload" and dropped == []
    del refs
    externref.drain()
    gc.collect()
    assert dropped == ["payload"]


def test_exception_in_nopython_code(copies, ref):
    @njit
    def fail(ref, count):
        refs = copies(ref, count)
        if len(refs) == count:
            raise ValueError("failed")
        return refs

    for _ in range(10):
        with pytest.raises(ValueError, match="failed"):
            fail(ref, 3)


@pytest.mark.xfail(reason="numba leaks what an exception of nopython code has among its arguments")
def test_an_exception_that_has_a_reference(run_python):
    # In another process: it leaks.
    assert run_python("""
from numba import njit
import externref.numba
@njit
def fail(ref):
    raise ValueError(ref)
ref = externref.VMExternRef(None)
try:
    fail(ref)
except ValueError as error:
    assert error.args == (ref,)
print(ref.strong_count)
""") == "1\n"


@pytest.mark.xfail(reason="numba leaks the values that are live where a callee raises")
def test_exception_in_a_callee(run_python):
    # In another process: it leaks.
    assert run_python("""
from numba import njit
import externref.numba
@njit
def fail(ref, failing):
    if failing:
        raise ValueError
    return [ref]
@njit
def call(ref, failing):
    refs = fail(ref, failing)
    return len(refs), ref == refs[0]
ref = externref.VMExternRef(None)
try:
    call(ref, True)
except ValueError:
    print(ref.strong_count)
""") == "1\n"
