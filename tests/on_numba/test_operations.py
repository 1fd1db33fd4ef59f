"""What nopython code can do with a reference, and that everything else is a typing error. Promise P7."""

import pytest
from numba import njit, typed, types
from numba.core.errors import TypingError

import externref
import externref.numba as ern
from externref import VMExternRef
from externref.numba import vmexternref


def test_equality(ref):
    @njit
    def compare(a, b):
        return a == b, a != b, a is b, a is not b

    other = VMExternRef(ref.value)
    assert compare(ref, ref.clone()) == (True, False, True, False)
    assert compare(ref, other) == (False, True, False, True)
    assert njit(lambda ref: ref == None)(ref) is False  # noqa: E711


optional = types.optional(vmexternref)


@pytest.mark.parametrize(("left_type", "right_type"), [
    (optional, optional), (optional, vmexternref), (vmexternref, optional),
], ids=str)
def test_equality_of_what_may_be_none(ref, left_type, right_type):
    @njit([types.UniTuple(types.boolean, 4)(left_type, right_type)])
    def compare(a, b):
        return a == b, a != b, a is b, a is not b

    other = VMExternRef(ref.value)
    lefts = [ref, None] if left_type == optional else [ref]
    rights = [ref.clone(), other, None] if right_type == optional else [ref.clone(), other]
    for left in lefts:
        for right in rights:
            same = left == right
            assert compare(left, right) == (same, not same, same, not same)
    del right, rights


def test_truth(ref):
    def truths(ref):
        return (1 if ref else 0), bool(ref), not ref, ref is None, ref is not None

    assert njit(truths)(ref) == (1, True, False, False, True)
    maybe = njit([types.Tuple([types.intp, *[types.boolean] * 4])(optional)])(truths)
    assert maybe(ref) == (1, True, False, False, True)
    assert maybe(None) == (0, False, True, True, False)


def test_none_in_a_branch(ref):
    @njit
    def find(refs, wanted):
        for ref in refs:
            if ref == wanted:
                return ref
        return None

    @njit
    def count(refs, wanted):
        best, found = None, 0
        for _ in range(10):
            best = find(refs, wanted)
            if best:
                found += 1
        return found, best is None, best == wanted

    other = VMExternRef(None)
    refs = typed.List([other, ref])
    assert count(refs, ref) == (10, False, True)
    assert count(refs, VMExternRef(1)) == (0, True, False)
    assert njit(lambda ref=None: ref is None)() is True
    assert njit(lambda ref, other: (ref if other is None else other))(ref, None) == ref


def test_what_is_not_there(ref):
    """What needs a reference refuses None."""
    hash_in_numba = njit([types.intp(optional)])(lambda ref: hash(ref))
    assert hash_in_numba(ref) == hash(ref)
    with pytest.raises(TypeError, match="expected VMExternRef_v1, got None"):
        hash_in_numba(None)


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


def test_the_text_of_a_reference_is_its_types_name(ref):
    # It is numba's own, and of no use, but it compiles.
    assert njit(lambda ref: str(ref))(ref) == f"<object type:{vmexternref}>"


def a_generator_of(ref):
    yield ref


def a_generator_with_an_argument(ref):
    yield 1


def a_generator_that_keeps_one(refs):
    ref = refs[0]
    yield 1
    yield ref.raw


@pytest.mark.parametrize(("generator", "make"), [
    (a_generator_of, lambda ref: ref), (a_generator_with_an_argument, lambda ref: ref),
    (a_generator_with_an_argument, lambda ref: (1, (ref, 2))),
    (a_generator_that_keeps_one, lambda ref: typed.List([ref])),
])
def test_a_generator_holds_no_reference(ref, generator, make):
    compiled = njit(generator)
    value = make(ref)
    with pytest.raises(TypingError, match="a generator cannot hold a VMExternRef"):
        compiled(value)
    del value


def test_other_generators():
    assert list(njit(a_generator_of)(3)) == [3]
    assert list(njit(a_generator_with_an_argument)((1, 2))) == [1]
