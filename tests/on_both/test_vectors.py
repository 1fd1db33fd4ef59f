"""A v128 is 16 bytes, in both runtimes alike."""

import pytest

LANES = bytes(range(16))


def test_a_vector_comes_back(made):
    assert made.lane(0x01020304, LANES) == bytes([4, 3, 2, 1]) + LANES[4:]
    assert made.lane.refs(0, LANES) == bytes(4) + LANES[4:]


def test_a_vector_in_a_global(made):
    gv = made.g_v128
    assert gv.value == b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"
    gv.value = LANES
    assert gv.value == LANES


@pytest.mark.parametrize("value, error, words", [
    (LANES[1:], ValueError, "a v128 has 16 bytes, not 15"), (LANES * 2, ValueError, "a v128 has 16 bytes, not 32"),
    (b"", ValueError, "a v128 has 16 bytes, not 0"), (bytearray(LANES), TypeError, "expected 16 bytes, not bytearray"),
    (5, TypeError, "expected 16 bytes, not int"), (None, TypeError, "expected 16 bytes, not NoneType")], ids=repr)
def test_what_is_none(made, value, error, words):
    with pytest.raises(error, match=words):
        made.lane(1, value)
    before = made.g_v128.value
    with pytest.raises(error, match=words):
        made.g_v128.value = value
    assert made.g_v128.value == before
