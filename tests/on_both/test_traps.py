"""Traps: an exception of the runtime's own, which says what it was; the instance stays usable."""

import pytest


@pytest.mark.parametrize("which, name, args", [
    (0, "unreachable", (None,)), (1, "divide", (0,)), (2, "peek", (65536,)), (3, "deep", ())], ids=lambda value: str(value))
def test_a_trap_says_what_it_was(made, which, name, args):
    f = made[name]
    for call in (f, f.refs):
        with pytest.raises(made.Trap, match=made.traps[which]):
            call(*args)
    f.release_gil = True
    with pytest.raises(made.Trap, match=made.traps[which]):
        f(*args)
    assert made.double(4) == 8 and made.externref(made) is made


@pytest.mark.parametrize("use, args", [("load", (4,)), ("save", (2**32 - 1, None))])
def test_tables_are_left_as_they_were(made, use, args):
    with pytest.raises(made.Trap, match="(?i)out.of.bounds"):
        made[use](*args)
    assert list(made.t) == [None] * 4


def test_a_trap_leaves_no_exception_behind(make):
    def fail():
        raise KeyError("mine")

    made = make(none=fail)
    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            made.call()
        with pytest.raises(made.Trap, match=made.traps[0]) as caught:
            made["unreachable"](1)
        assert caught.value.__context__ is caught.value.__cause__ is None
