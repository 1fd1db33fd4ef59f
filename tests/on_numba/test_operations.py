"""What nopython code can do with a reference, and that everything else is a typing error. Promise P7."""

import pytest
from numba import njit
from numba.core.errors import TypingError

import externref
import externref.numba as ern
from externref import VMExternRef


def test_equality(ref):
    @njit
    def compare(a, b):
        return a == b, a != b, a is b, a is not b

    other = VMExternRef(ref.value)
    assert compare(ref, ref.clone()) == (True, False, True, False)
    assert compare(ref, other) == (False, True, False, True)
    assert njit(lambda ref: ref == None)(ref) is False  # noqa: E711


def test_hash_is_pythons():
    hash_in_numba = njit(lambda ref: hash(ref))
    refs = [VMExternRef(i) for i in range(1000)]
    assert [hash_in_numba(ref) for ref in refs] == [hash(ref) for ref in refs]


def test_raw_is_an_address_that_python_accepts(ref):
    raw = njit(lambda ref: ref.raw)(ref)
    assert VMExternRef.clone_from_raw(raw) == ref
    assert raw == ref.as_raw()


def test_strong_count(ref):
    count = njit(lambda ref: ern.strong_count(ref))
    assert count(ref) == 2      # the wrapper, and the compiled code's argument
    clones = [ref.clone() for _ in range(10)]
    assert count(ref) == 12
    assert ern.strong_count(ref) == 11
    del clones


@pytest.mark.parametrize("take", [lambda ref: ern.clone(ref), lambda ref: ern.clone(ref.raw)])
def test_clone_gives_a_count_that_python_takes_over(ref, take):
    raw = njit(take)(ref)
    assert ref.strong_count == 2
    taken = VMExternRef.from_raw(raw)
    assert taken == ref and ref.strong_count == 2


def test_drop_gives_up_a_count(make_payload):
    drop = njit(lambda raw: ern.drop(raw))
    dropped = []
    ref = VMExternRef(make_payload(dropped, "payload"))
    drop(ref.clone().into_raw())
    assert ref.strong_count == 1
    drop(ref.into_raw())
    externref.drain()
    assert dropped == ["payload"]


def test_clones_and_drops_balance(ref):
    @njit
    def churn(raw, count):
        for _ in range(count):
            raw = ern.clone(raw)
        for _ in range(count - 1):
            ern.drop(raw)
        return raw

    raw = churn(ref.as_raw(), 1000)
    assert ref.strong_count == 2
    assert VMExternRef.from_raw(raw) == ref


def test_null_is_ignored():
    @njit
    def null():
        ern.drop(0)
        return ern.clone(0)

    assert null() == 0


@pytest.mark.parametrize("function", [ern.clone, ern.drop])
def test_clone_and_drop_are_not_for_python(function):
    with pytest.raises(NotImplementedError, match="for nopython code"):
        function(0)


@pytest.mark.parametrize(("operation", "message"), [
    (lambda ref: ref.value, "Unknown attribute 'value' of type VMExternRef_v1"),
    (lambda ref: ref.clone(), "Unknown attribute 'clone' of type VMExternRef_v1"),
    (lambda ref: ref.into_raw(), "Unknown attribute 'into_raw' of type VMExternRef_v1"),
    (lambda ref: ref + 1, r"add\(VMExternRef_v1, "),
    (lambda ref: ref < ref, r"lt\(VMExternRef_v1, VMExternRef_v1\)"),
    (lambda ref: len(ref), r"len\(VMExternRef_v1\)"),
    (lambda ref: ref[0], r"getitem\(VMExternRef_v1, "),
    (lambda ref: ref(), "VMExternRef"),
    (lambda ref: ern.drop(ref), r"drop\(VMExternRef_v1\)"),
    (lambda ref: ern.clone(1.5), r"clone\(float64\)"),
    (lambda ref: ern.strong_count(1), r"strong_count\("),
])
def test_anything_else_is_a_typing_error(ref, operation, message):
    with pytest.raises(TypingError, match=message):
        njit(operation)(ref)
