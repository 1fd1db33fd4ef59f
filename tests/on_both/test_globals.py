"""Globals: their value, read and assigned."""

import pytest

from externref import MovedError, VMExternRef
from support import MISFITS, NUMBERS, Raising, short


@pytest.mark.parametrize("name, given, result", NUMBERS, ids=short)
def test_a_number_in_a_global(made, name, given, result):
    item = made[f"g_{name}"]
    assert item.value == 1
    item.value = given
    assert item.value == result and type(item.value) is type(result)


@pytest.mark.parametrize("name, given, error, word", MISFITS, ids=short)
def test_a_number_that_does_not_fit(made, name, given, error, word):
    item = made[f"g_{name}"]
    with pytest.raises(error, match=rf"^the global's value \({name}\): .*{word}"):
        item.value = given
    assert item.value == 1


def test_an_exception_of_the_value_comes_out(made):
    with pytest.raises(KeyError, match="bad"):
        made.g_i32.value = Raising()
    assert made.g_i32.value == 1


def test_a_reference_in_a_global(made):
    g, thing, ref = made.g_externref, object(), VMExternRef([])
    assert g.value is None and g.ref is None
    g.value = thing
    assert g.value is thing and g.ref.value is thing
    g.value = ref
    assert g.value is ref.value and g.ref == ref and g.ref is not ref
    spent = VMExternRef(1)
    spent.drop()
    with pytest.raises(MovedError):
        g.value = spent
    assert g.ref == ref
    g.value = None
    assert g.value is None and g.ref is None


def test_a_function_in_a_global(made, make):
    g = made.g_funcref
    g.value = made.double
    assert g.value(4) == 8 and type(g.value) is made.package.Func
    with pytest.raises(TypeError, match=r"^the global's value \(funcref\): expected a Func or None, not int$"):
        g.value = 5
    with pytest.raises(ValueError, match=r"^the global's value \(funcref\): the function is of another store$"):
        g.value = make().double
    assert g.value(4) == 8
    g.value = None
    assert g.value is None


@pytest.mark.parametrize("name", ["i32", "i64", "f32", "f64", "v128", "funcref"])
def test_only_a_reference_is_one(made, name):
    with pytest.raises(TypeError, match=f"^the global's value is {name}$"):
        made[f"g_{name}"].ref


def test_an_immutable_global(made):
    for value in (8, 7, "x", 2**80):
        with pytest.raises(TypeError, match="^the global is immutable$"):
            made.fixed.value = value
    assert made.fixed.value == 7


def test_what_it_says_of_itself(made):
    g = made.g_i32
    assert g.type == ("i32", True) and made.fixed.type == ("i32", False) and type(g.type).__name__ == "GlobalType"
    assert g.type.mutable is True and made.g_funcref.type.value == "funcref"
    assert repr(g) == f"<{made.name}.Global: mutable global of i32>" and type(g).__module__ == made.name
    assert repr(made.fixed) == f"<{made.name}.Global: immutable global of i32>"
    assert g.store is made.store and made.exports["g_i32"] is g


@pytest.mark.parametrize("name", ["ref", "type", "store", "anything"])
def test_the_rest_is_not_to_be_set(made, name):
    with pytest.raises(AttributeError):
        setattr(made.g_externref, name, None)


def test_what_cannot_be_deleted(made):
    with pytest.raises(TypeError, match="^a global's value cannot be deleted; assign one$"):
        del made.g_i32.value
    assert made.g_i32.value == 1
