"""The footer's layout, seen from Python, from memory and from C: against one table. Promises P4, P6."""

import ctypes
import subprocess
import sys
import sysconfig

import pytest

from externref import VMExternRef, abi
from support import TESTS, run_compiler

WORD = ctypes.sizeof(ctypes.c_void_p)
TABLE = {
    "REF_COUNT_OFFSET": 0,
    "VALUE_PTR_OFFSET": WORD,
    "VTABLE_OFFSET": 2 * WORD,
    "FOOTER_SIZE": 3 * WORD + 8,
    "DROP_SLOW_OFFSET": 4 * WORD,
    "ABI_VERSION": 1,
}


def read_word(address):
    return ctypes.c_size_t.from_address(address).value


@pytest.mark.parametrize("name", TABLE)
def test_python_sees_the_table(name):
    assert getattr(abi, name) == TABLE[name]


def test_c_sees_the_table(compilers, tmp_path):
    program = tmp_path / "layout"
    run_compiler(compilers[0], TESTS / "c/layout.c", "-o", program)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")
    assert dict(line.split() for line in lines if line) == {k: str(v) for k, v in TABLE.items()}


@pytest.mark.parametrize("flags", ["-xc -std=c99", "-xc -std=c11", "-xc++ -std=c++11", "-xc++ -std=c++17"])
def test_header_is_clean_for_every_compiler(compilers, flags, tmp_path):
    for compiler in compilers:
        run_compiler(compiler, *flags.split(), "-Wpedantic", "-Wshadow", "-Wconversion", "-Wcast-qual",
                     "-c", TESTS / "c/header.c", "-o", tmp_path / "header.o")


def test_wrapper_is_one_word_beside_its_weak_references():
    gc_head = 0 if sysconfig.get_config_var("Py_GIL_DISABLED") else 2 * WORD     # there it is part of the object's own
    assert VMExternRef.__basicsize__ == object.__basicsize__ + 2 * WORD
    assert VMExternRef.__weakrefoffset__ == object.__basicsize__ + WORD
    ref = VMExternRef(1)
    assert sys.getsizeof(ref) == gc_head + VMExternRef.__basicsize__
    assert read_word(id(ref) + object.__basicsize__) == ref.as_raw()


def test_footer_in_memory():
    value = object()
    ref = VMExternRef(value)
    clone = ref.clone()
    raw = ref.as_raw()
    assert read_word(raw + abi.REF_COUNT_OFFSET) == 2 == clone.strong_count
    start = read_word(raw + abi.VALUE_PTR_OFFSET)
    assert raw - start == abi.layout_for(WORD, WORD).footer_offset
    assert read_word(start) == id(value)
    vtable = read_word(raw + abi.VTABLE_OFFSET)
    assert [read_word(vtable + i * WORD) for i in (1, 2)] == [WORD, WORD]     # size, align
    assert read_word(vtable + abi.DROP_SLOW_OFFSET) != 0
    assert vtable == read_word(VMExternRef(1).as_raw() + abi.VTABLE_OFFSET)


def test_python_block_fits_a_small_chunk():
    # 40 bytes are a 48-byte chunk of glibc's malloc; 41 would be a 64-byte one.
    assert abi.layout_for(WORD, WORD) == (4 * WORD + 8, WORD, WORD)
    assert abi.layout_for(WORD, WORD).size <= 40


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 1 << 20])
@pytest.mark.parametrize("align", [1, 2, 4, 8, 16, 64, 4096])
def test_layout_for_places_payload_and_footer(size, align):
    layout = abi.layout_for(size, align)
    assert layout.align == max(align, WORD)
    assert layout.size % layout.align == 0                  # what C11 aligned_alloc asks
    assert size <= layout.footer_offset < size + WORD
    assert layout.footer_offset % WORD == 0
    assert 0 <= layout.size - layout.footer_offset - abi.FOOTER_SIZE < layout.align


MAX = sys.maxsize


@pytest.mark.parametrize("size, align", [
    (MAX, 8), (MAX - abi.FOOTER_SIZE, 8), (2 * MAX + 1, 8), (2 * MAX + 2, 8), (-1, 8),
    (8, MAX + 1), (8, 1 << 200), (MAX - 100, 1 << 62), (8, -8),
])
def test_layout_for_refuses_sizes_that_overflow(size, align):
    with pytest.raises(OverflowError):
        abi.layout_for(size, align)


@pytest.mark.parametrize("align", [0, 3, 24, MAX])
def test_layout_for_refuses_an_align_that_is_no_power_of_two(align):
    with pytest.raises(ValueError, match=f"power of two, not {align}"):
        abi.layout_for(8, align)


def test_option_is_one_word():
    from externref import option_from_raw, option_into_raw
    assert option_into_raw(None) == 0
    assert option_from_raw(0) is None
    assert option_from_raw(False) is None
    raw = option_into_raw(VMExternRef("x"))
    assert option_from_raw(raw).value == "x"
