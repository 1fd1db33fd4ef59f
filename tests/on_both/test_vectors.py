"""A v128 is 16 bytes, in both runtimes alike."""

import pytest

LANES = bytes(range(16))


def test_a_vector_comes_back(make):
    made = make()
    assert made.v(0x01020304, LANES) == bytes([4, 3, 2, 1]) + LANES[4:]
    assert made.v.refs(0, LANES) == bytes(4) + LANES[4:]


def test_a_vector_in_a_global(make):
    gv = make().gv
    assert gv.value == b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"
    gv.value = LANES
    assert gv.value == LANES


@pytest.mark.parametrize("value, error, words", [
    (LANES[1:], ValueError, "a v128 has 16 bytes, not 15"), (LANES * 2, ValueError, "a v128 has 16 bytes, not 32"),
    (b"", ValueError, "a v128 has 16 bytes, not 0"), (bytearray(LANES), TypeError, "expected 16 bytes, not bytearray"),
    (5, TypeError, "expected 16 bytes, not int"), (None, TypeError, "expected 16 bytes, not NoneType")], ids=repr)
def test_what_is_none(make, value, error, words):
    made = make()
    with pytest.raises(error, match=words):
        made.v(1, value)
    before = made.gv.value
    with pytest.raises(error, match=words):
        made.gv.value = value
    assert made.gv.value == before
