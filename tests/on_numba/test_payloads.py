"""What nopython code learns of a payload: value_as() and is_instance(), their errors, and the counts after them. Promises P1, P2."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from numba import njit, objmode, prange, typed, types
from numba.core.errors import TypingError

import externref
from externref import VMExternRef
from externref.numba import is_instance, value_as
from support import Index


def reader(type):
    return njit(lambda ref: value_as(ref, type))


@pytest.fixture(scope="module")
def as_int():
    return reader(types.int64)


@pytest.mark.parametrize("type", [types.int8, types.uint8, types.int32, types.uint32, types.int64, types.uint64], ids=str)
def test_integers(type):
    read = reader(type)
    for value in (type.minval, type.minval + 1, 0, 1, type.maxval - 1, type.maxval):
        for same in (value, Index(value)):
            assert read(VMExternRef(same)) == value
    for value in (type.minval - 1, type.maxval + 1, -2**64, 2**64, 10**5000):
        with pytest.raises(OverflowError, match=f"does not fit in {type}$"):
            read(VMExternRef(value))
    assert read(VMExternRef(True)) == read(VMExternRef(np.int16(1))) == 1


@pytest.mark.parametrize("value", [1.0, "1", None, [], np.float32(1)])
def test_what_is_no_integer(as_int, value):
    with pytest.raises(TypeError, match=f"value_as: expected an int, not {type(value).__name__}$"):
        as_int(VMExternRef(value))


def test_floats():
    double, single = reader(types.float64), reader(types.float32)
    for value in (1.5, -0.0, 3, True, float("inf"), np.float32(0.5), 2**70):
        assert double(VMExternRef(value)) == single(VMExternRef(value)) == value
    assert double(VMExternRef(0.1)) == 0.1
    assert single(VMExternRef(0.1)) == np.float32(0.1)
    with pytest.raises(OverflowError, match="value_as: 1e.300 does not fit in float32"):
        single(VMExternRef(1e300))
    with pytest.raises(OverflowError):
        double(VMExternRef(10**400))
    for value in ("1.5", None, []):
        with pytest.raises(TypeError, match="must be real number"):
            double(VMExternRef(value))


def test_truth_of_a_payload():
    read = reader(types.boolean)
    assert [read(VMExternRef(value)) for value in (0, 1, [], [0], None, "", "x")] == [False, True, False, True, False, False, True]


def test_strings():
    read = reader(types.unicode_type)
    upper = njit(lambda ref: value_as(ref, types.unicode_type).upper())
    for value in ("", "plain", "déjà", "\U0001f40d", "lone \ud800"):
        assert read(VMExternRef(value)) == value
        assert upper(VMExternRef(value)) == value.upper()
    for value in (b"bytes", 1, None):
        with pytest.raises(TypeError, match=f"value_as: expected a str, not {type(value).__name__}"):
            read(VMExternRef(value))


def test_payloads_keep_their_counts():
    text, number, thing = "text" * 100, 1234567890123, object()
    refs = VMExternRef(text), VMExternRef(number), VMExternRef(thing)
    read, number_of, truth = reader(types.unicode_type), reader(types.int64), reader(types.boolean)

    def look():
        read(refs[0])
        number_of(refs[1])
        truth(refs[2])
        with pytest.raises(TypeError):
            number_of(refs[2])

    look()
    gc.collect()
    before = sys.getrefcount(text), sys.getrefcount(number), sys.getrefcount(thing)
    for _ in range(100):
        look()
    gc.collect()
    assert (sys.getrefcount(text), sys.getrefcount(number), sys.getrefcount(thing)) == before


@pytest.mark.parametrize("type", [types.complex128, types.float64[::1], types.pyobject, types.none], ids=str)
def test_other_types_are_for_an_objmode_block(ref, type):
    with pytest.raises(TypingError, match=r"value_as\(\) knows numbers, boolean and unicode_type, not "):
        reader(type)(ref)


def test_value_is_for_an_objmode_block(ref):
    with pytest.raises(TypingError, match=r"use externref.numba.value_as\(ref, type\)"):
        njit(lambda ref: ref.value)(ref)

    @njit
    def length(ref):
        with objmode(length="intp"):
            length = len(ref.value)
        return length

    assert length(ref) == 0


def test_instances(ref):
    class Other:
        pass

    test = njit(lambda ref, classes: is_instance(ref, classes))
    for classes, expected in ((list, True), (Other, False), ((Other, list), True), (int | str, False), (object, True)):
        boxed = VMExternRef(classes)
        assert test(ref, boxed) is is_instance(ref, boxed) is expected
    for classes in (1, None, [list]):
        with pytest.raises(TypeError, match=r"isinstance\(\) arg 2 must be"):
            test(ref, VMExternRef(classes))


def test_in_python(ref):
    assert value_as(ref, types.int64) is ref.value
    with pytest.raises(TypeError):
        is_instance(ref, VMExternRef(1))


class Failing:
    def __index__(self):
        raise KeyError("of the payload")

    __float__ = __bool__ = __index__


class FailingMeta(type):
    def __instancecheck__(cls, instance):
        raise KeyError("of the payload")


class FailingClass(metaclass=FailingMeta):
    pass


@pytest.mark.parametrize("look", [
    lambda ref: value_as(ref, types.int64), lambda ref: value_as(ref, types.float32),
    lambda ref: value_as(ref, types.boolean),
], ids=["integer", "float", "boolean"])
def test_the_payloads_own_exception_comes_out(look):
    failing = VMExternRef(Failing())
    with pytest.raises(KeyError, match="of the payload") as caught:
        njit(look)(failing)
    assert "__index__" in [entry.name for entry in caught.traceback]
    del caught
    with pytest.raises(KeyError, match="of the payload"):
        njit(lambda ref, classes: is_instance(ref, classes))(failing, VMExternRef(FailingClass))


def straight(ref, other, values, depth):
    refs = [ref, other, other]
    texts = {value_as(values, types.unicode_type): other}
    pair = (other, (ref, other))
    number = value_as(ref, types.int64)
    return number, refs, texts, pair


def in_a_loop(ref, other, values, depth):
    total = 0
    for i in range(10):
        refs = [other]
        if i == 5:
            total += value_as(ref, types.int64)
        total += len(refs)
    return total


def over_a_list(ref, other, values, depth):
    return [value_as(item, types.int64) for item in typed.List([ref, other])]


def of_instances(ref, other, values, depth):
    refs = {other, ref}
    return is_instance(other, ref), refs


def in_a_handler(ref, other, values, depth):
    refs = [ref, other]
    number = 0
    try:
        if depth == 1:
            raise ValueError
    except Exception:
        number = value_as(ref, types.int64)
    return number, refs


def after_a_try(ref, other, values, depth):
    refs = [ref, other]
    try:
        refs.append(other)
    except Exception:
        refs.append(ref)
    return value_as(ref, types.int64), refs


def in_a_parallel_loop(ref, other, values, depth):
    total = 0
    for _ in prange(10):
        total += value_as(ref, types.int64)
    return total


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")    # a loop with a raise is not parallel
@pytest.mark.parametrize("function", [
    straight, in_a_loop, over_a_list, of_instances, in_a_handler, after_a_try, in_a_parallel_loop,
], ids=lambda function: function.__name__)
def test_counts_are_exact_after_an_exception(ref, function):
    other, values = VMExternRef(1), VMExternRef("text" * 100)
    compiled = njit(parallel=function is in_a_parallel_loop)(function)
    for _ in range(3):
        with pytest.raises(TypeError):
            compiled(ref, other, values, 1)
    gc.collect()
    externref.drain()
    assert (ref.strong_count, other.strong_count, values.strong_count) == (1, 1, 1)
    del compiled


def test_a_try_block_catches_it(ref):
    # One block in a function: with CPython 3.12, no block after one that caught something catches anything in numba.
    @njit
    def count_integers(ref, other):
        caught, total = 0, 0
        for _ in range(3):
            refs = [ref, other]
            try:
                total += value_as(ref, types.int64)
                caught += 1000
            except Exception:
                caught += len(refs)
        return caught, total

    @njit
    def count_instances(ref, other):
        caught, total = 0, 0
        for _ in range(3):
            refs = [ref, other]
            try:
                total += is_instance(other, ref)
                caught += 1000
            except Exception:
                caught += len(refs)
        return caught, total

    class Error(Exception):
        pass

    class Payload:
        def __index__(self):
            error = Error()
            raised.append(weakref.ref(error))
            raise error

    raised = []
    other = VMExternRef(1)
    assert count_integers(ref, other) == count_instances(ref, other) == (6, 0)
    assert count_integers(other, ref) == (3000, 3)
    assert count_integers(VMExternRef(Payload()), other) == (6, 0)
    gc.collect()
    assert [error() for error in raised] == [None] * 3
    assert other.strong_count == 1


def test_a_payload_that_lets_go_of_its_reference(as_int):
    class Payload:
        def __index__(self):
            refs.clear()
            gc.collect()
            externref.drain()
            return 3

    first = njit(lambda refs: value_as(refs[0], types.int64))
    refs = typed.List([VMExternRef(Payload())])
    assert first(refs) == 3 and len(refs) == 0


def test_a_payload_that_comes_back(as_int):
    class Payload:
        depth = 0

        def __index__(self):
            Payload.depth += 1
            return as_int(ref) + 1 if Payload.depth < 50 else 0

    ref = VMExternRef(Payload())
    assert as_int(ref) == 49
    assert ref.strong_count == 1


def test_threads_without_the_gil(ref):
    @njit(nogil=True)
    def total(ref, bad, n):
        total = 0
        for _ in range(n):
            refs = [ref, bad]
            total += value_as(refs[0], types.int64)
        return total + value_as(bad, types.int64)

    seven = VMExternRef(7)
    results = []

    def run():
        for _ in range(20):
            with pytest.raises(TypeError):
                total(seven, ref, 100)
            results.append(total(seven, seven, 100))

    total(seven, seven, 1)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [707] * 80
    externref.drain()
    assert seven.strong_count == 1


@pytest.mark.filterwarnings("ignore:The TBB threading layer:numba.core.errors.NumbaWarning")
def test_a_function_that_a_parallel_loop_calls(as_int):
    """It takes the GIL on every thread of the loop, which the caller has let go."""
    @njit(parallel=True)
    def total(ref, n):
        total = 0
        for _ in prange(n):
            total += as_int(ref)
        return total

    seven = VMExternRef(7)
    assert total(seven, 1000) == 7000
    externref.drain()
    assert seven.strong_count == 1


WITHOUT_MEMORY = """if True:
    import _testcapi
    from numba import njit, types
    from externref import VMExternRef
    from externref.numba import is_instance, value_as

    @njit
    def read(ref):
        return value_as(ref, types.int64)

    @njit
    def ask(ref, classes):
        return is_instance(ref, classes)

    text, number = VMExternRef("text"), VMExternRef(1)
    for call, args in (read, (text,)), (ask, (text, number)):
        for i in range(-1, 60):
            try:
                if i >= 0:
                    _testcapi.set_nomemory(i, i + 1)
                try:
                    call(*args)
                finally:
                    _testcapi.remove_mem_hooks()
            except (TypeError, MemoryError):
                pass
            else:
                raise SystemExit(f"{i}: it returned")
    """


def test_a_look_fails_without_memory():
    pytest.importorskip("_testcapi", reason="no _testcapi to make allocations fail")
    ended = subprocess.run([sys.executable, "-X", "faulthandler", "-c", WITHOUT_MEMORY], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
