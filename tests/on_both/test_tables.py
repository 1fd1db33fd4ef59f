"""Tables: sequences of a length that only grows."""

import pytest

from externref import MovedError, VMExternRef
from support import Index, Raising, short

HUGE = 10**5000     # str() refuses to write it out


def spent():
    ref = VMExternRef(1)
    ref.drop()
    return ref


def test_a_table_is_a_sequence(made):
    t, a, b = made.t, object(), object()
    assert len(t) == 4 and list(t) == [None] * 4
    t[0], t[Index(3)] = a, b
    assert t[0] is a and t[Index(3)] is made.load(3) is b and t[True] is None
    made.save(1, b)
    assert list(t) == [a, b, None, b] and list(reversed(t)) == [b, None, b, a]
    assert a in t and None in t and object() not in t and bool(t)
    t[0] = None
    assert t[0] is None and t == t and t != [None, b, None, b] and hash(t) == hash(t)


def test_references(made):
    t, ref = made.t, VMExternRef([])
    t.fill(0, ref, 4)
    assert t[2] is ref.value and t.ref(2) == ref and t.ref(2) is not ref
    t[2] = None
    assert t.ref(2) is None
    for use in (lambda: t.__setitem__(0, spent()), lambda: t.fill(0, spent(), 1), lambda: t.grow(1, spent())):
        with pytest.raises(MovedError):
            use()
    assert [t.ref(i) for i in range(4)] == [ref, ref, None, ref] and len(t) == 4


@pytest.mark.parametrize("convert", [int, Index])
@pytest.mark.parametrize("index", [-1, 4, 2**31, 2**32, 2**63, 2**64, -2**64, HUGE, -HUGE], ids=short)
def test_an_index_out_of_bounds(made, index, convert):
    t, number, shown = made.t, convert(index), f"an int of {index.bit_length()} bits" if abs(index) == HUGE else index
    for use in (lambda: t[number], lambda: t.__setitem__(number, 1), lambda: t.ref(number)):
        with pytest.raises(IndexError, match=f"^index {shown} of a table of 4$"):
            use()
    assert list(t) == [None] * 4


@pytest.mark.parametrize("index", ["0", 1.0, None, (0,), b"0"], ids=repr)
def test_what_is_no_index(made, index):
    for use in (lambda: made.t[index], lambda: made.t.__setitem__(index, 1), lambda: made.t.ref(index),
                lambda: made.t.fill(index, 1, 1), lambda: made.t.fill(0, 1, index), lambda: made.t.grow(index)):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            use()


def test_an_index_that_raises(made):
    for use in (lambda: made.t[Raising()], lambda: made.t.__setitem__(Raising(), 1), lambda: made.t.ref(Raising()),
                lambda: made.t.fill(Raising(), 1, 1), lambda: made.t.fill(0, 1, Raising()), lambda: made.t.grow(Raising())):
        with pytest.raises(KeyError, match="bad index"):
            use()
    assert list(made.t) == [None] * 4


def test_fill(made):
    t, thing = made.t, object()
    t.fill(1, thing, Index(2))
    t.fill(4, thing, 0)
    assert list(t) == [None, thing, thing, None]


@pytest.mark.parametrize("first, count", [
    (-1, 1), (0, -1), (-1, 5), (5, 0), (4, 1), (2, 3), (2**64, 1), (1, 2**64), (2**64, -2**64), (HUGE, 1), (0, HUGE),
    (HUGE, -HUGE), (-HUGE, HUGE)], ids=short)
def test_a_range_out_of_bounds(made, first, count):
    for value in ("x", spent()):        # the range is looked at first
        with pytest.raises(IndexError, match="^elements .* to .* of a table of 4$"):
            made.t.fill(first, value, count)
    assert list(made.t) == [None] * 4


def test_growth(made):
    t, thing = made.t, object()
    assert t.grow(2, thing) == 4 and t.grow(Index(1)) == 6 and t.grow(0) == 7
    assert list(t) == [None] * 4 + [thing] * 2 + [None] and len(t) == 7 and t.type.minimum == 7


@pytest.mark.parametrize("count", [-1, 7, 2**31, 2**32 - 1, 2**32, 2**64 - 1, 2**64, -2**64, HUGE, -HUGE], ids=short)
def test_growth_that_is_not_possible(made, count):
    shown = f"an int of {count.bit_length()} bits" if abs(count) == HUGE else count
    with pytest.raises(ValueError, match=f"^a table of 4 elements cannot grow by {shown}$"):
        made.t.grow(count, "x")
    with pytest.raises(ValueError, match="^a table of 1 elements cannot grow by"):
        made.open.grow(2**32 - 1 if count in (7, 2**31) else count)
    assert len(made.t) == 4 and made.t.grow(6) == 4 and list(made.t) == [None] * 10


def test_functions(made, make):
    funcs = made.funcs
    assert funcs[0](4) == 8 and funcs[1]() is None and funcs[2] is None
    funcs[2] = made.get
    assert funcs[2]() == 3 and funcs.grow(1, funcs[2]) == 3 and funcs[3]() == 3
    other = make()
    for use in (lambda value: funcs.__setitem__(0, value), lambda value: funcs.fill(0, value, 1), lambda value: funcs.grow(1, value),
                lambda value: funcs.fill(0, value, 0)):
        with pytest.raises(TypeError, match=r"^the element \(funcref\): expected a Func or None, not int$"):
            use(3)
        with pytest.raises(ValueError, match=r"^the element \(funcref\): the function is of another store$"):
            use(other.get)
    for index in (0, 9):
        with pytest.raises(TypeError, match="^the table's elements are funcref$"):
            funcs.ref(index)
    funcs.fill(0, None, 4)
    assert list(funcs) == [None] * 4


def test_what_it_says_of_itself(made):
    t = made.t
    assert t.type == ("externref", 4, 10) and made.funcs.type == ("funcref", 3, 6) and made.open.type == ("externref", 1, None)
    assert type(t.type).__name__ == "TableType" and t.store is made.store and made.exports["t"] is t
    assert repr(t) == f"<{made.name}.Table: table of 4 to 10 externref>" and type(t).__module__ == made.name
    t.grow(1)
    assert repr(t) == f"<{made.name}.Table: table of 5 to 10 externref>"
    assert repr(made.open) == f"<{made.name}.Table: table of 1 to any externref>"


@pytest.mark.parametrize("name", ["type", "store", "anything", "fill"])
def test_nothing_is_to_be_set(made, name):
    with pytest.raises(AttributeError):
        setattr(made.t, name, None)


def test_arguments_by_position(made):
    for use in (lambda: made.t.grow(), lambda: made.t.grow(count=1), lambda: made.t.grow(1, value=2), lambda: made.t.grow(1, 2, 3),
                lambda: made.t.fill(0, 1), lambda: made.t.fill(start=0, value=1, count=1), lambda: made.t.ref(index=0),
                lambda: made.t.ref()):
        with pytest.raises(TypeError, match="argument"):
            use()
    assert list(made.t) == [None] * 4


def test_what_cannot_be_deleted(made):
    with pytest.raises(TypeError, match="^an element of a table cannot be deleted; assign None$"):
        del made.t[0]
