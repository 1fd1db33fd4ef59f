"""What both runtimes do with numbers that nothing has, and with other values out of place: the same. Promise P5."""

import pytest

from support import short

HUGE = 10**5000     # str() refuses to write it out


@pytest.mark.parametrize("index", [-1, 4, 2**31, 2**32, 2**63, 2**64, -2**64, HUGE, -HUGE], ids=short)
def test_an_index(make, index):
    t = make().t
    for use in (lambda: t[index], lambda: t.__setitem__(index, 1), lambda: t.ref(index)):
        with pytest.raises(IndexError, match="index .* of a table of 4"):
            use()
    assert list(t) == [None] * 4


@pytest.mark.parametrize("first, count", [
    (-1, 1), (0, -1), (-1, 5), (5, 0), (4, 1), (2, 3), (2**64, 1), (1, 2**64), (2**64, -2**64), (HUGE, 1), (0, HUGE),
    (HUGE, -HUGE), (-HUGE, HUGE)], ids=short)
def test_a_range(make, first, count):
    t = make().t
    with pytest.raises(IndexError, match="elements .* to .* of a table of 4"):
        t.fill(first, "x", count)
    assert list(t) == [None] * 4


@pytest.mark.parametrize("count", [-1, -2**64, 2**64, HUGE, -HUGE], ids=short)
def test_growing(make, count):
    t = make().t
    with pytest.raises(ValueError, match="a table cannot grow by"):
        t.grow(count)
    assert len(t) == 4 and t.grow(2, "x") == 4 and t[5] == "x"
    with pytest.raises(ValueError, match="a table of 6 elements cannot grow by 5"):
        t.grow(5, "x")
    assert len(t) == 6 and t.grow(4) == 6


@pytest.mark.parametrize("value", [HUGE, -HUGE, 2**32, -2**31 - 1], ids=short)
def test_a_number(make, value):
    made = make()
    with pytest.raises(OverflowError, match="does not fit"):
        made.f(value)
    with pytest.raises(OverflowError, match="does not fit"):
        made.g.value = value
    assert made.g.value == 1


@pytest.mark.parametrize("returned, found", [(5, "int"), (None, "NoneType"), ((1,), "1"), ((1, 2, 3), "3"), ((), "0"), (print, "builtin")],
                         ids=range(6))
def test_several_results(make, returned, found):
    with pytest.raises(TypeError, match=f"must return 2 values, not {found}"):
        make(lambda: returned).two()


def test_an_iterator_that_fails_is_itself_to_blame(make):
    def fail():
        yield 1
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        make(fail).two()


def test_what_cannot_be_deleted(make):
    made = make()
    with pytest.raises(TypeError, match="cannot be deleted"):
        del made.t[0]
    with pytest.raises(TypeError, match="cannot be deleted"):
        del made.g.value
