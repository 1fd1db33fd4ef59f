"""The `demo` command: a Python file object travels through WebAssembly and back.

demo.wat, compiled by externref.wasm2c, keeps the file in a table while Python holds nothing
of it. Each step is printed with the strong count.
"""

import argparse
import ctypes
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from externref import VMExternRef, abi, stats, wasm2c

WORD = ctypes.sizeof(ctypes.c_void_p)
SLOT = 2        # of the table's four


def read_word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def print_row(address: str, offset: str, field: str, value: str, meaning: str) -> None:
    print(f"     {address:<18}  {offset:<6}  {field:<9}  {value:<18}  {meaning}".rstrip())


def print_memory(raw: int) -> None:
    """Prints the block that the raw pointer leads to, lowest address first."""
    payload = read_word(raw + abi.VALUE_PTR_OFFSET)
    print_row("address", "offset", "field", "value", "")
    print_row(hex(payload), "", "payload", hex(read_word(payload)), "the file object")
    for offset, field, show, meaning in (
        (abi.REF_COUNT_OFFSET, "ref_count", str, "<- raw pointer"),
        (abi.VALUE_PTR_OFFSET, "value_ptr", hex, "-> payload"),
        (abi.VTABLE_OFFSET, "vtable", hex, "-> its type"),
        (abi.VTABLE_OFFSET + WORD, "host word", hex, "for Python only"),
    ):
        print_row(hex(raw + offset), str(offset), field, show(read_word(raw + offset)), meaning)


def travel(store: wasm2c.Store, wasm: wasm2c.Exports, path: Path) -> None:
    """Sends a file, opened at `path`, into the instance and back; prints each step."""
    print("A Python file object travels through WebAssembly and back.\n")
    print("1. Compile demo.wat with wasm2c and the C compiler. Its functions put(slot, ref)")
    print("   and take(slot) keep references in a Wasm table")

    ref = VMExternRef(open(path, "w", encoding="utf-8"))
    print("2. Open a file and wrap it: ref = VMExternRef(open(path, \"w\"))")
    print(f"     path {path}")
    print(f"     file object at {id(ref.value):#x}")
    print(f"     strong count {ref.strong_count}")

    clone = ref.clone()
    print("3. Clone the reference, then drop the clone")
    print(f"     strong count {ref.strong_count}")
    clone.drop()
    print(f"     strong count {ref.strong_count}")

    wasm.put(SLOT, ref)
    print(f"4. Pass it to Wasm: put({SLOT}, ref). The store is an owner now, for slot {SLOT} of")
    print("   the table")
    print(f"     strong count {ref.strong_count}")

    with ref.borrow() as raw:
        print(f"   What compiled code has is the raw pointer {raw:#x}; this look at it")
        print("   is an owner too")
        print_memory(raw)

    ref.drop()
    back = wasm.take.refs(SLOT)
    assert back is not None
    print(f"5. Drop ours, and take it back: take.refs({SLOT}). The slot gives {wasm.take(SLOT)} now")
    print(f"     strong count {back.strong_count}")

    store.gc()
    print("6. Collect: no table has it, so the store gives up its count")
    print(f"     strong count {back.strong_count}")

    file = back.downcast_ref(io.TextIOWrapper)
    assert file is not None     # the very object that went in
    file.write("Written through a reference that WebAssembly kept.\n")
    file.close()
    print(f"7. Ask what it is: downcast_ref(str) gives {back.downcast_ref(str)},")
    print("   downcast_ref(io.TextIOWrapper) the file. Write a line to it and close it")
    print(f"     strong count {back.strong_count}")

    back.drop()
    print("8. Drop the reference. The file's content:")
    print(path.read_text(encoding="utf-8"), end="")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> None:
    """Runs the demo. Raises CompileError, or OSError where a file cannot be written or loaded."""
    module = wasm2c.compile(Path(__file__).with_name("demo.wat"), cache=False)
    # Windows cannot remove a file that is open.
    with TemporaryDirectory(prefix="externref-", ignore_cleanup_errors=sys.platform == "win32") as name:
        with wasm2c.Store() as store:
            travel(store, module.instantiate(store).exports, Path(name) / "letter.txt")
    print(f"{stats().live_blocks} live references")
