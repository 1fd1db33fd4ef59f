"""Functions: what goes in and comes out, what they say of themselves, and what is refused. Promises P5, P6."""

import copy
import inspect
import math
import pickle
from collections.abc import Callable

import pytest

from externref import MovedError, VMExternRef
from support import MISFITS, NUMBERS, Raising, short


class Int(int):
    pass


class Bytes(bytes):
    pass


@pytest.mark.parametrize("name, given, result", NUMBERS, ids=short)
def test_a_number_comes_back(made, name, given, result):
    returned = made[name](given)
    assert returned == result and type(returned) is type(result)


def test_nan_and_negative_zero(made):
    for name in ("f32", "f64"):
        assert math.isnan(made[name](math.nan)) and math.copysign(1, made[name](-0.0)) == -1


@pytest.mark.parametrize("name, given, error, word", MISFITS, ids=short)
def test_a_number_that_does_not_fit(made, name, given, error, word):
    for call in (made[name], made[name].refs):
        with pytest.raises(error, match=rf"^{name}\(\) argument 1 \({name}\): .*{word}"):
            call(given)


@pytest.mark.parametrize("name", ["i32", "i64", "f32", "f64"])
def test_an_exception_of_an_argument_comes_out(made, name):
    with pytest.raises(KeyError, match="bad"):
        made[name](Raising())


def test_subclasses_are_what_they_derive_from(made):
    returned = made.i32(Int(5))
    assert returned == 5 and type(returned) is int
    assert made.v128(Bytes(range(16))) == bytes(range(16)) and type(made.v128(Bytes(16))) is bytes
    assert type(made.externref(Int(5))) is Int


@pytest.mark.parametrize("value", [
    object(), 0, False, "", (), [], b"", 42, 5.7, "Hello", {"x": 1}, NotImplemented, Ellipsis, type, print, (None,)], ids=type)
def test_any_object_is_an_externref(made, value):
    assert made.externref(value) is value and made.externref.refs(value).value is value


def test_a_reference_travels_as_itself(made):
    ref = VMExternRef([])
    back = made.externref.refs(ref)
    assert back == ref and back is not ref and made.externref(ref) is ref.value
    assert [result.value for result in made.swap.refs(ref, 1)] == [1, ref.value]
    null = VMExternRef(None)
    assert made.externref.refs(null) == null and made.externref(null) is None
    assert made.externref(None) is made.externref.refs(None) is made.funcref(None) is None


def test_a_spent_reference(made):
    ref = VMExternRef(1)
    ref.drop()
    for use in (lambda: made.externref(ref), lambda: made.swap(1, ref), lambda: made.externref.refs(ref)):
        with pytest.raises(MovedError):
            use()


def test_several_results_are_a_tuple(made):
    thing = object()
    function, *rest = made.all(1, 2, 0.5, 0.25, bytes(range(16)), thing, made.double)
    assert rest == [thing, bytes(range(16)), 0.25, 0.5, 2, 1] and function(4) == 8
    assert made.swap(1, thing) == (thing, 1) and made.none() is None and made.none.refs() is None


@pytest.mark.parametrize("name, args, words", [
    ("i32", (), r"i32() takes 1 arguments, not 0: (i32) -> (i32)"), ("i32", (1, 2), "i32() takes 1 arguments, not 2"),
    ("none", (1,), "none() takes 0 arguments, not 1: () -> ()"),
    ("swap", (1,), "swap() takes 2 arguments, not 1: (externref, externref) -> (externref, externref)")])
def test_the_number_of_arguments(made, name, args, words):
    for call in (made[name], made[name].refs):
        with pytest.raises(TypeError) as caught:
            call(*args)
        assert str(caught.value).startswith(words)


def test_keyword_arguments(made):
    none = {}
    assert made.i32(5, **none) == 5
    with pytest.raises(TypeError, match=r"^i32\(\) takes no keyword arguments$"):
        made.i32(number=5)
    with pytest.raises(TypeError, match=r"^i32\(\) takes no keyword arguments$"):
        made.i32(5, number=5)
    with pytest.raises(TypeError, match="keyword"):
        made.i32.refs(number=5)


@pytest.mark.parametrize("place, value, words", [
    (0, "x", "argument 1 (i32): expected an int, not str"), (1, 2**70, "argument 2 (i64): 1180591620717411303424 does not fit in i64"),
    (2, None, "argument 3 (f32): expected a number, not NoneType"), (3, 10**400, "argument 4 (f64): an int of 1329 bits does not fit in f64"),
    (4, b"x", "argument 5 (v128): a v128 has 16 bytes, not 1"), (4, 5, "argument 5 (v128): expected 16 bytes, not int"),
    (6, print, "argument 7 (funcref): expected a Func or None, not builtin_function_or_method")])
def test_the_place_of_what_does_not_fit(made, place, value, words):
    args = [1, 2, 3, 4, bytes(16), 5, None]
    args[place] = value
    with pytest.raises((TypeError, OverflowError, ValueError)) as caught:
        made.all(*args)
    assert str(caught.value) == f"all() {words}"


def test_functions_as_values(made):
    for f in (made.funcref(made.double), made.funcref.refs(made.double), made.funcs[0]):
        assert f(21) == 42 and f.refs(1) == 2 and type(f) is made.package.Func
        assert f.name == f.__name__ == "funcref" and f.type == made.double.type and f.store is made.store
        assert made.funcref(f)(1) == 2
        with pytest.raises(TypeError, match=r"^funcref\(\) takes 1 arguments, not 0: \(i32\) -> \(i32\)$"):
            f()
        with pytest.raises(TypeError, match=r"^funcref\(\) takes no keyword arguments$"):
            f(x=1)
    for ask in (repr, inspect.signature, lambda f: f.type, lambda f: f(1), lambda f: f.refs(1), lambda f: f.release_gil):
        assert ask(made.funcs[0]) is not None       # whatever it is asked first
    f = made.funcs[0]
    made.store.close()
    with pytest.raises(ValueError, match="closed"):
        f(1)


def test_a_function_of_another_store(made, make):
    other = make()
    with pytest.raises(ValueError, match=r"^funcref\(\) argument 1 \(funcref\): the function is of another store$"):
        made.funcref(other.double)
    with pytest.raises(ValueError, match="another store"):
        made.funcref(other.funcs[0])


def test_what_it_says_of_itself(made):
    f = made.double
    assert f.name == f.__name__ == "double" and f.store is made.store and made.exports["double"] is f is made.double
    assert f.type == (("i32",), ("i32",)) and str(f.type) == "(i32) -> (i32)" and type(f.type).__name__ == "FuncType"
    assert made.none.type == ((), ()) and made.all.type.params == ("i32", "i64", "f32", "f64", "v128", "externref", "funcref")
    assert repr(f) == f"<{made.name}.Func 'double' (i32) -> (i32)>" and type(f).__module__ == made.name
    assert isinstance(f, Callable) and f == f and f != made.i32 and hash(f) == hash(f)


def test_the_signature(made):
    parameters = inspect.signature(made.double).parameters.values()
    assert [(p.kind, p.annotation) for p in parameters] == [(inspect.Parameter.POSITIONAL_ONLY, int)]
    assert str(inspect.signature(made.all)) == (
        "(a0: int, a1: int, a2: float, a3: float, a4: bytes, a5: Any, a6: Any, /) -> "
        "tuple[typing.Any, typing.Any, bytes, float, float, int, int]")
    assert str(inspect.signature(made.none)) == "() -> None"
    # As of others that users do not make.
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(type(made.none))
    descriptor = inspect.getattr_static(type(made.none), "__signature__")
    with pytest.raises(TypeError, match="Func"):
        descriptor.__get__(made)


def test_the_gil_is_let_go_if_that_is_said(made):
    f = made.externref
    assert f.release_gil is False
    for truth in (True, 1, "yes"):
        f.release_gil = truth
        assert f.release_gil is True and f(made) is made and made.double.release_gil is False
    f.release_gil = 0
    assert f.release_gil is False


@pytest.mark.parametrize("name", ["name", "__name__", "store", "type", "anything"])
def test_the_rest_is_not_to_be_set(made, name):
    with pytest.raises(AttributeError):
        setattr(made.double, name, "x")


@pytest.mark.parametrize("name", ["double", "t", "g_i32", "m"])
def test_no_copies_no_pickles_no_subclasses(made, name):
    for act in (copy.copy, copy.deepcopy, pickle.dumps, lambda item: type("Derived", (type(item),), {}),
                lambda item: object.__new__(type(item))):
        with pytest.raises(TypeError):
            act(made[name])
