"""References into, through and out of nopython code: alone, and in every container that numba has."""

import collections
import copy
import ctypes
import sys

import numpy as np
import pytest
from numba import njit, objmode, typed, types
from numba.experimental import jitclass

import externref
from externref import MovedError, VMExternRef
from externref.numba import vmexternref

Pair = collections.namedtuple("Pair", "left right")


def test_in_and_out_is_another_owner_of_the_same_allocation(identity, ref):
    result = identity(ref)
    assert result == ref and result is not ref
    assert result.value is ref.value
    assert ref.strong_count == 2


def test_a_call_runs_no_more_python_code_than_that_of_an_int(identity, ref):
    def events(value):
        identity(value)     # compiled now
        seen = []
        sys.setprofile(lambda frame, event, argument: seen.append((event, frame.f_code.co_name)))
        identity(value)
        sys.setprofile(None)
        return seen

    assert events(ref) == events((ref, ref)) == events(1)


def test_none_is_not_a_reference(identity, ref):
    @njit
    def choose(ref, chosen):
        return ref if chosen else None

    assert choose(ref, True) == ref
    assert choose(ref, False) is None
    assert identity(None) is None
    only_refs = njit(vmexternref(vmexternref))(lambda ref: ref)
    assert only_refs(ref) == ref
    with pytest.raises(TypeError, match="No matching definition"):
        only_refs(None)
    optional = njit(types.optional(vmexternref)(types.optional(vmexternref)))(lambda ref: ref)
    assert optional(ref) == ref
    assert optional(None) is None


def test_spent_wrapper(identity, copies, ref):
    spent = ref.clone()
    spent.drop()
    with pytest.raises(MovedError):
        identity(spent)
    identity((ref, (ref, ref)))     # a type that numba knows from now on
    with pytest.raises(MovedError):
        identity((ref, (ref, spent)))
    with pytest.raises(MovedError):
        njit(vmexternref(vmexternref))(lambda ref: ref)(spent)
    with pytest.raises(MovedError):
        copies(ref, 1).append(spent)


@pytest.mark.parametrize("make", [
    lambda ref: (ref,),
    lambda ref: (ref, ref),
    lambda ref: (ref, 1, (ref, 2.5)),
    lambda ref: ((ref, (ref, (ref,))),),
    lambda ref: Pair(ref, (ref, 1)),
])
def test_tuples(identity, ref, make):
    value = make(ref)
    result = identity(value)
    assert result == value and type(result) is type(value)
    del value, result
    assert ref.strong_count == 1


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPendingDeprecationWarning")   # reflected lists
def test_reflected_list(ref):
    @njit
    def double(refs):
        refs.append(refs[0])
        return len(refs)

    refs = [ref, ref]
    assert double(refs) == 3
    assert refs == [ref, ref, ref]


def test_typed_list_of_a_thousand_copies(copies, ref):
    refs = copies(ref, 1000)
    assert len(refs) == 1000 and refs[999] == ref
    assert ref.strong_count == 2        # copies share the count of the argument they are of
    del refs
    externref.drain()                   # what nopython code lets go is pending until then
    assert ref.strong_count == 1


def test_typed_list_that_never_leaves_nopython_code(copies, ref):
    @njit
    def churn(ref, other):
        refs = copies(ref, 1000)
        refs[500] = other
        popped = refs.pop(500)
        del refs[10:20]
        refs.extend(copies(other, 7))
        return popped == other, len(refs)

    other = VMExternRef(None)
    assert churn(ref, other) == (True, 996)
    assert (ref.strong_count, other.strong_count) == (1, 1)


def test_typed_list_made_by_python(identity, ref):
    refs = typed.List.empty_list(vmexternref)
    for _ in range(3):
        refs.append(ref)
    assert ref.strong_count == 4        # three arguments
    assert identity(refs)[2] == ref


def test_dict_keys_and_values(ref):
    @njit
    def count(refs):
        counts = typed.Dict.empty(vmexternref, types.intp)
        for ref in refs:
            counts[ref] = counts.get(ref, 0) + 1
        return counts

    other = VMExternRef(None)
    refs = typed.List([ref, other, ref.clone(), ref])
    assert dict(count(refs)) == {ref: 3, other: 1}
    assert njit(lambda ref: {1: ref})(ref)[1] == ref


def test_set(ref):
    assert njit(lambda a, b, c: len({a, b, c}))(ref, ref.clone(), VMExternRef(None)) == 2


def test_jitclass_field(ref):
    @jitclass([("ref", vmexternref)])
    class Box:
        def __init__(self, ref):
            self.ref = ref

    box = Box(ref)
    assert box.ref == ref
    del box


def test_loops_and_branches(ref):
    @njit
    def shuffle(a, b, count):
        for i in range(count):
            if i % 3 == 0:
                a, b = b, a
        return a, b

    other = VMExternRef(None)
    assert shuffle(ref, other, 1000) == (ref, other)
    assert shuffle(ref, other, 1) == (other, ref)
    assert other.strong_count == 1


def test_recursion_and_calls(identity, ref):
    @njit
    def deep(ref, depth):
        return identity(ref) if depth == 0 else deep(ref, depth - 1)

    assert deep(ref, 100) == ref


def test_object_mode_block(ref):
    @njit
    def through_python(ref):
        with objmode(count="intp", same=vmexternref):
            count = ref.strong_count
            same = copy.copy(ref)
        return count, same

    count, same = through_python(ref)
    assert (count, same) == (3, ref)    # the caller's, the compiled code's, the block's


def test_object_mode_block_that_gives_no_reference():
    @njit
    def from_python():
        with objmode(ref=vmexternref):
            ref = 1
        return ref

    with pytest.raises(TypeError, match="expected a VMExternRef, not int"):
        from_python()


def test_closure_variable_is_frozen(ref):
    captured = VMExternRef("first")

    @njit
    def get():
        return captured

    assert get().value == "first"
    captured = ref      # numba compiled the other in
    assert get().value == "first"


@pytest.mark.parametrize("use", [memoryview, bytes, bytearray, lambda ref: b"".join([ref]), int])
def test_a_reference_is_not_bytes_like(ref, use):
    with pytest.raises(TypeError):
        use(ref)


def test_the_one_buffer_has_no_bytes(ref):
    """Whoever asks as numba does, and looks at nothing, finds none."""
    class Buffer(ctypes.Structure):
        _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
                    ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                    ("format", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
                    ("strides", ctypes.POINTER(ctypes.c_ssize_t)), ("suboffsets", ctypes.c_void_p),
                    ("internal", ctypes.c_void_p)]

    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get.argtypes, release.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int], [ctypes.c_void_p]
    records = 0x1D
    for flags in set(range(0x200)) - {0x100}:     # CPython takes PyBUF_READ for no request: SystemError
        buffer = Buffer()
        if flags != records:
            with pytest.raises(TypeError, match="bytes-like"):
                get(ref, ctypes.byref(buffer), flags)
            continue
        assert get(ref, ctypes.byref(buffer), flags) == 0
        assert (buffer.len, buffer.shape[0], buffer.ndim, buffer.format) == (0, 0, 1, b"X{}")
        release(ctypes.byref(buffer))


def test_numpy_takes_a_reference_for_an_object(ref):
    array = np.array(ref)
    assert array.dtype == object and array[()] is ref
    del array
