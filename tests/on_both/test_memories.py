"""Memories, read and written by copies, in both runtimes alike."""

import pytest

from support import Index, short

SIZE = 65536
HUGE = 10**5000


def test_bytes_in_and_out(make):
    m = make().m
    assert len(m) == SIZE and m.read() == bytes(SIZE) == bytes(m)
    assert m.write(b"hello", 3) == 5 and m.read(2, 9) == b"\0hello\0" and m.read(SIZE - 1) == b"\0"
    assert m.write(bytearray(b"ab"), Index(SIZE - 2)) == 2 and m.read(Index(SIZE - 2)) == b"ab"
    assert m.write(b"", SIZE) == 0 and m.read(SIZE) == m.read(5, 5) == b""
    assert m.write(memoryview(b"wxyz")[1:3]) == 2 and m.read(0, 2) == b"xy"


@pytest.mark.parametrize("start, stop", [(-1, 2), (0, SIZE + 1), (5, 4), (SIZE + 1, SIZE + 1), (0, 2**64), (2**64, 2**65),
                                         (2**64, 2**64), (-2**63, 1), (HUGE, HUGE)], ids=short)
def test_what_is_not_all_there(make, start, stop):
    m = make().m
    with pytest.raises(IndexError, match="bytes .* to .* of a memory of 65536"):
        m.read(start, stop)
    with pytest.raises(IndexError, match="bytes .* to .* of a memory of 65536"):
        m.write(b"x", start if start != 0 and start != 5 else SIZE)
    assert m.read() == bytes(SIZE)


def test_the_text_of_an_error(make):
    m = make().m
    with pytest.raises(IndexError, match="^bytes 65535 to 65538 of a memory of 65536$"):
        m.write(b"abc", SIZE - 1)


def test_what_has_no_bytes(make):
    m = make().m
    for wrong in ("text", 5, [1, 2], None):
        with pytest.raises(TypeError):
            m.write(wrong)
    with pytest.raises(BufferError):
        m.write(memoryview(b"abcd")[::2])
    with pytest.raises(TypeError):
        m.read("0")


def test_growth(make):
    m = make().m
    m.write(b"kept", SIZE - 4)
    assert m.grow(1) == 1 and len(m) == 2 * SIZE and m.read(SIZE - 4, SIZE + 1) == b"kept\0"
    for wrong in (-1, 2**64, HUGE):
        with pytest.raises(ValueError, match="a memory cannot grow by"):
            m.grow(wrong)
    with pytest.raises(ValueError, match="a memory of 2 pages cannot grow by 2"):
        m.grow(2)
    assert m.grow(0) == 2 and m.grow(1) == 2 and m.grow(0) == 3
    with pytest.raises(ValueError, match=f"a memory of 3 pages cannot grow by {2**32 - 1}"):
        m.grow(2**32 - 1)
