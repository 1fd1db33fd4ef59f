"""Slices of tables, in both runtimes alike."""

import pytest

SLICES = [slice(None), slice(1, 3), slice(None, None, 2), slice(3, None), slice(2, 100), slice(-3, -1), slice(9, 12),
          slice(3, 1), slice(None, None, -1), slice(3, 0, -2)]


@pytest.mark.parametrize("places", SLICES, ids=str)
def test_a_slice_is_a_list(make, places):
    t, values = make().t, [object() for _ in range(4)]
    t[:] = values
    assert t[places] == values[places] and type(t[places]) is list


@pytest.mark.parametrize("places", SLICES, ids=str)
def test_as_many_values_as_it_has(make, places):
    t, expected = make().t, [None] * 4
    values = [object() for _ in expected[places]]
    t[places] = expected[places] = values
    assert list(t) == expected
    for wrong in ([*values, "more"], [None] * 9):
        with pytest.raises(ValueError, match=f"{len(wrong)} values for {len(values)} elements of a table"):
            t[places] = wrong
    assert list(t) == expected
    t[places] = iter(values)
    assert list(t) == expected


def test_what_is_no_slice(make):
    t = make().t
    for wrong in (slice("a", None), slice(0, 2, "b")):
        with pytest.raises(TypeError):
            t[wrong]
        with pytest.raises(TypeError):
            t[wrong] = []
    with pytest.raises(ValueError, match="zero"):
        t[::0]
    with pytest.raises(TypeError, match="iterable"):
        t[:2] = 5
    with pytest.raises(TypeError, match="deleted"):
        del t[:2]


def test_an_index_that_grows_the_table_or_closes_the_store(make):
    made = make()

    class Growing:
        def __index__(self):
            made.t.grow(1, "new")
            return 9

    class Closing:
        def __index__(self):
            made.store.close()
            return 9

    assert made.t[1:Growing()] == [None] * 3 and len(made.t) == 5
    made.t[3:Growing()] = ["x", "y"]
    assert made.t[:] == [None, None, None, "x", "y", "new"]
    with pytest.raises(ValueError, match="the store is already closed"):
        made.t[1:Closing()]
