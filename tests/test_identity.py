"""Equality, hash and order are of the allocation, never of the payload. Promises P6, P7.

Also repr, and the things a reference refuses or supports as a Python object.
"""

import copy
import ctypes
import gc
import inspect
import operator
import pickle
import re
import weakref

import pytest

import externref
from externref import MovedError, VMExternRef

ORDERINGS = [operator.lt, operator.le, operator.gt, operator.ge]


class Unfriendly:
    """A payload that must not be asked anything."""

    def __eq__(self, other):
        raise AssertionError("payload compared")

    def __hash__(self):
        raise AssertionError("payload hashed")

    def __repr__(self):
        raise AssertionError("payload shown")


def test_equality_and_hash_are_of_the_allocation():
    value = Unfriendly()
    a, b = VMExternRef(value), VMExternRef(value)
    assert a == a.clone() and not a != a.clone()
    assert a != b and not a == b
    assert hash(a) == hash(a.clone()) != hash(b)
    assert {a, a.clone(), b} == {a, b} and len({a, a.clone(), b}) == 2


@pytest.mark.parametrize("op", ORDERINGS)
def test_order_is_of_the_address(op):
    refs = [VMExternRef(i) for i in range(20)]
    for a in refs:
        for b in refs:
            assert op(a, b) == op(a.as_raw(), b.as_raw())


@pytest.mark.parametrize("other", [None, 0, "x", object()])
def test_other_types_are_unequal_and_unordered(other):
    ref = VMExternRef(other)
    assert ref != other and not ref == other
    for op in ORDERINGS:
        with pytest.raises(TypeError):
            op(ref, other)


def test_hash_is_that_of_the_block_s_address():
    ref = VMExternRef(1)
    raw = ref.as_raw() - ctypes.sizeof(ctypes.c_void_p)
    bits = 8 * ctypes.sizeof(ctypes.c_void_p)
    rotated = (raw >> 4 | raw << (bits - 4)) % 2**bits
    assert hash(ref) == ctypes.c_ssize_t(rotated).value


def test_repr_names_the_type_and_never_the_payload():
    ref = VMExternRef(Unfriendly())
    other = ref.clone()
    assert re.fullmatch(
        rf"<externref\.VMExternRef at {ref.as_raw():#x} to 'Unfriendly', strong_count 2>", repr(ref))
    other.drop()
    assert "strong_count 1" in repr(ref)


def test_weak_references_are_of_the_wrapper():
    events = []
    ref = VMExternRef([])
    clone = ref.clone()
    weak = weakref.ref(ref, lambda _: events.append("gone"))
    assert weak() is ref
    ref.drop()
    assert weak() is ref and events == []       # spent, and still an object
    del ref
    assert weak() is None and events == ["gone"]
    del clone


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused(protocol):
    with pytest.raises(TypeError, match="cannot pickle a VMExternRef"):
        pickle.dumps(VMExternRef(1), protocol)


def test_reduce_is_refused():
    with pytest.raises(TypeError, match="cannot pickle"):
        VMExternRef(1).__reduce__()


def test_deepcopy_shares_the_allocation_inside_a_container():
    ref = VMExternRef([1])
    copied, = copy.deepcopy([ref])
    assert copied == ref and copied.value is ref.value


def test_init_again_is_harmless():
    ref = VMExternRef("kept")
    ref.__init__()
    ref.__init__("other")
    assert ref.value == "kept" and ref.strong_count == 1


def test_class_is_final_and_immutable():
    with pytest.raises(TypeError):
        type("Sub", (VMExternRef,), {})
    with pytest.raises(TypeError):
        VMExternRef.value = 1
    with pytest.raises(AttributeError):
        VMExternRef(1).attribute = 1
    with pytest.raises(TypeError):
        VMExternRef(1).__class__ = object
    with pytest.raises(TypeError):
        object.__new__(VMExternRef)


@pytest.mark.parametrize("args, kwargs", [((), {}), ((1, 2), {}), ((), {"value": 1}), ((1,), {"x": 2})])
def test_constructor_takes_one_positional_argument(args, kwargs):
    with pytest.raises(TypeError):
        VMExternRef(*args, **kwargs)
    with pytest.raises(TypeError):
        VMExternRef.__new__(VMExternRef, *args, **kwargs)


def test_generic_alias():
    alias = VMExternRef[int]
    assert alias.__origin__ is VMExternRef and alias.__args__ == (int,)
    assert alias(5).value == 5


def test_names_and_signatures():
    assert repr(VMExternRef) == "<class 'externref.VMExternRef'>"
    assert externref.MovedError.__module__ == externref.InvalidRawPointerError.__module__ == "externref"
    assert str(inspect.signature(VMExternRef)) == "(value, /)"
    assert str(inspect.signature(VMExternRef.from_raw)) == "(ptr, /)"


def test_everything_public_is_documented():
    import externref.ctypes
    from externref import abi
    for module in (externref, abi, externref.ctypes):
        for name in module.__all__:
            member = getattr(module, name)
            if callable(member):
                assert inspect.getdoc(member), name
    for name in dir(VMExternRef):
        if not name.startswith("__"):
            assert inspect.getdoc(getattr(VMExternRef, name)), name


class TestCtypes:
    """The ctypes protocol: what compiled code gets when a wrapper is an argument."""

    def test_argument_without_argtypes(self, foreign):
        ref = VMExternRef(1)
        function = ctypes.CDLL(foreign._name).identity
        function.restype = ctypes.c_void_p
        assert function(ref) == ref.as_raw()

    def test_argtypes(self, foreign):
        function = ctypes.CDLL(foreign._name).identity
        function.restype, function.argtypes = ctypes.c_void_p, [VMExternRef]
        ref = VMExternRef(1)
        assert function(ref) == ref.as_raw()
        assert function(None) is None
        with pytest.raises(ctypes.ArgumentError, match="expected a VMExternRef or None, not int"):
            function(7)

    def test_void_pointer_argtypes(self, foreign):
        ref = VMExternRef(1)
        assert foreign.identity(ref) == ref.as_raw()

    def test_spent_wrapper_is_no_argument(self, foreign):
        ref = VMExternRef(1)
        ref.drop()
        with pytest.raises((externref.MovedError, ctypes.ArgumentError)):
            foreign.identity(ref)


def test_gc_sees_the_payload_and_tracks_only_what_can_be_in_a_cycle():
    value = []
    ref = VMExternRef(value)
    assert gc.is_tracked(ref) and gc.get_referents(ref) == [value]
    assert not gc.is_tracked(VMExternRef("a string"))


def test_value_is_an_attribute_as_any_other():
    import pydoc
    ref, descriptor = VMExternRef("x"), vars(VMExternRef)["value"]
    assert inspect.isgetsetdescriptor(VMExternRef.value) and inspect.isdatadescriptor(descriptor)
    assert descriptor.__get__(ref) == descriptor.__get__(ref, VMExternRef) == VMExternRef.value.__get__(ref) == "x"
    assert descriptor.__get__(None, VMExternRef) is VMExternRef.value and descriptor.__name__ == "value"
    assert descriptor.__doc__ == VMExternRef.value.__doc__
    assert "The value in the box" in pydoc.render_doc(VMExternRef)
    for change in (lambda: setattr(ref, "value", 1), lambda: descriptor.__set__(ref, 1)):
        with pytest.raises(AttributeError, match="attribute 'value' of 'externref.VMExternRef' objects is not writable"):
            change()
    with pytest.raises(AttributeError):
        del ref.value
    for other in (3, None, VMExternRef):
        with pytest.raises(TypeError):
            descriptor.__get__(other)
    ref.drop()
    for get in (lambda: ref.value, lambda: descriptor.__get__(ref)):
        with pytest.raises(MovedError):
            get()
