"""Memories: bytes, read and written by copies."""

import pytest

from support import Index, Raising, short

SIZE = 65536
HUGE = 10**5000


def test_bytes_in_and_out(made):
    m = made.m
    assert len(m) == SIZE and m.read() == bytes(SIZE) == bytes(m)
    assert m.write(b"hello", 3) == 5 and m.read(2, 9) == b"\0hello\0" and m.read(SIZE - 1) == b"\0"
    assert m.write(bytearray(b"ab"), Index(SIZE - 2)) == 2 and m.read(Index(SIZE - 2)) == b"ab"
    assert m.write(b"", SIZE) == 0 and m.read(SIZE) == m.read(5, 5) == b""
    assert m.write(memoryview(b"wxyz")[1:3]) == 2 and m.read(0, 2) == b"xy" and made.peek(1) == ord("y")


@pytest.mark.parametrize("start, stop", [(-1, 2), (0, SIZE + 1), (5, 4), (SIZE + 1, SIZE + 1), (0, 2**64), (2**64, 2**65),
                                         (2**64, 2**64), (-2**63, 1), (HUGE, HUGE)], ids=short)
def test_what_is_not_all_there(made, start, stop):
    m = made.m
    with pytest.raises(IndexError, match="^bytes .* to .* of a memory of 65536$"):
        m.read(start, stop)
    with pytest.raises(IndexError, match="^bytes .* to .* of a memory of 65536$"):
        m.write(b"x", start if start != 0 and start != 5 else SIZE)
    assert m.read() == bytes(SIZE)


def test_the_text_of_an_error(made):
    with pytest.raises(IndexError, match="^bytes 65535 to 65538 of a memory of 65536$"):
        made.m.write(b"abc", SIZE - 1)


def test_an_index_and_a_slice(made):
    m, model = made.m, bytearray(SIZE)
    for places, data in ((slice(0, 3), b"abc"), (slice(-2, None), bytearray(b"yz")), (slice(5, 5), b""), (slice(9, 4), b"")):
        m[places] = model[places] = data
    m[7] = model[7] = 255
    m[Index(8)] = Index(1)
    model[8] = 1
    assert bytes(m) == model == m[:] and m[7] == made.peek(7) == 255 and next(iter(m)) == 97 and 255 in m and 254 not in m
    for places in (slice(2), slice(-3, None), slice(6, 9), slice(SIZE - 1, SIZE + 9), slice(9, 6), slice(2**70, 2**71)):
        assert m[places] == bytes(model[places]) and type(m[places]) is bytes


@pytest.mark.parametrize("index", [-1, SIZE, 2**32, 2**64, HUGE, -HUGE], ids=short)
def test_an_index_out_of_bounds(made, index):
    with pytest.raises(IndexError, match="^index .* of a memory of 65536$"):
        made.m[index]
    with pytest.raises(IndexError, match="^index .* of a memory of 65536$"):
        made.m[index] = 1


def test_what_does_not_fit(made):
    m = made.m
    for byte in (256, -1, HUGE):
        with pytest.raises(ValueError, match="^a byte is from 0 to 255, not "):
            m[0] = byte
    for data in (b"", b"a", b"abc"):
        with pytest.raises(ValueError, match=f"^{len(data)} bytes for 2 bytes of a memory$"):
            m[4:6] = data
    with pytest.raises(ValueError, match="no step"):
        m[::2]
    with pytest.raises(ValueError, match="no step"):
        m[::2] = b""
    with pytest.raises(TypeError, match="^a byte of a memory cannot be deleted; assign 0$"):
        del m[0]
    assert m.read() == bytes(SIZE)


@pytest.mark.parametrize("wrong", ["a", 1.0, None], ids=repr)
def test_what_is_no_number(made, wrong):
    m = made.m
    for use in (lambda: m[wrong], lambda: m.__setitem__(wrong, 0), lambda: m.__setitem__(0, wrong), lambda: m.__setitem__(slice(0, 1), wrong),
                lambda: m.grow(wrong), lambda: m.read(wrong, 1), lambda: m.write(b"", wrong)):
        with pytest.raises(TypeError):
            use()
    assert m.read() == bytes(SIZE)


def test_what_has_no_bytes(made):
    m = made.m
    for wrong in ("text", 5, [1, 2], None):
        with pytest.raises(TypeError, match="bytes-like"):
            m.write(wrong)
    with pytest.raises(BufferError):
        m.write(memoryview(b"abcd")[::2])


def test_wide_elements_count_in_bytes(made):
    made.m[0:8] = memoryview(bytes(range(8))).cast("H")
    assert made.m[0:8] == bytes(range(8)) and made.m.write(memoryview(bytes(8)).cast("Q")) == 8


def test_growth(made):
    m = made.m
    m.write(b"kept", SIZE - 4)
    assert m.grow(1) == 1 and len(m) == 2 * SIZE and m.read(SIZE - 4, SIZE + 1) == b"kept\0"
    for wrong in (-1, 2, 2**16, 2**32 - 1, 2**32, 2**64, HUGE, -HUGE):
        with pytest.raises(ValueError, match=f"^a memory of 2 pages cannot grow by {wrong if abs(wrong) < HUGE else 'an int of'}"):
            m.grow(wrong)
    assert m.grow(0) == 2 and m.grow(Index(1)) == 2 and m.grow(0) == 3 == m.type.minimum


def test_numbers_that_grow_it(made):
    m = made.m

    class Growing:
        def __index__(self):
            if len(m) == SIZE:
                m.grow(1)
            return SIZE

    assert m.read(0, Growing()) == bytes(SIZE)
    assert m.write(b"x", Growing()) == 1 and m.read(SIZE, SIZE + 1) == b"x"
    m[Growing()] = 7
    assert m[Growing()] == 7 and len(m[0:Growing()]) == SIZE and len(m) == 2 * SIZE


def test_numbers_that_raise(made):
    m = made.m
    for use in (lambda: m[Raising()], lambda: m.__setitem__(Raising(), 1), lambda: m.__setitem__(0, Raising()), lambda: m[Raising():],
                lambda: m.read(Raising()), lambda: m.read(0, Raising()), lambda: m.write(b"x", Raising()), lambda: m.grow(Raising())):
        with pytest.raises(KeyError, match="bad index"):
            use()
    assert m.read() == bytes(SIZE)


def test_what_it_says_of_itself(made):
    m = made.m
    assert m.type == (1, 3, False) and type(m.type).__name__ == "MemoryType" and m.type.is64 is False
    assert repr(m) == f"<{made.name}.Memory: memory of 1 to 3 pages>" and type(m).__module__ == made.name
    m.grow(1)
    assert m.type == (2, 3, False) and repr(m) == f"<{made.name}.Memory: memory of 2 to 3 pages>"
    assert m.store is made.store and made.exports["m"] is m and m == m and hash(m) == hash(m)


def test_arguments_by_position(made):
    m = made.m
    for use in (lambda: m.read(start=0), lambda: m.read(0, stop=1), lambda: m.read(0, 1, 2), lambda: m.write(), lambda: m.write(data=b""),
                lambda: m.write(b"", start=0), lambda: m.grow(), lambda: m.grow(pages=1)):
        with pytest.raises(TypeError, match="argument"):
            use()
    for name in ("type", "store", "anything"):
        with pytest.raises(AttributeError):
            setattr(m, name, None)
