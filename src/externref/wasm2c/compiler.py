"""compile(): from a WebAssembly module to machine code that is loaded."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import externref
from externref.wasm2c._runtime import GLUE_VERSION, Code, Instance, Store, load
from externref.wasm2c.binary import Binary, Export, Import, UnsupportedError, read_binary
from externref.wasm2c.cache import is_whole, keep, logger, open_folder
from externref.wasm2c.limits import TAIL_CALL_BUFFER, check_frames, check_limits, fit_tail_calls
from externref.wasm2c.pieces import names_of, pieces_of, sources
from externref.wasm2c.tools import CompileError, Tools, own_flags, require_compiler, usage_flags, wabt, words

LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
FLAGS = [
    "-fPIC",
    "-O2",
    "-w",                           # no warnings: the C is not the user's
    "-std=gnu11",
    "-fvisibility=hidden",          # of externref_wasm2c_module() alone: modules have functions of the same names
    "-fno-optimize-sibling-calls",  # a call is a call, so endless recursion has frames, and runs out of stack
    "-DNDEBUG",                     # wasm2c's runtime: a bug in it is no reason to end the process
    "-DWASM_RT_MEMCHECK_BOUNDS_CHECK=1",    # or the runtime replaces the process's handler of SIGSEGV
    "-DWASM_RT_STACK_DEPTH_COUNT=1",        # a look at the depth in every function; glue.py has it look at the stack
    "-fasynchronous-unwind-tables",         # for the functions that a trap names
    "-frounding-math",              # floats as Wasm has them: nothing is worked out ahead for one rounding mode,
    "-fsignaling-nans",             # and no operation left out that makes a signalling NaN a quiet one
]
# After $CFLAGS, and usage_flags() too: check_frames() looks at the machine code's frames, which must be those of the
# library.
LAST_FLAGS = ["-fno-lto"]


# wasm2c knows fewer features than wat2wasm and wasm-validate; at relaxed SIMD it aborts. An exception
# must not cross from one module to the host.
FEATURES = ["--disable-exceptions", "--disable-relaxed-simd"]


class Module:
    """A compiled module, made by compile(); of no store, and usable in any.

    imports, exports: tuples of named tuples, (module, name, type) and (name, type, number), the last its index.
    """

    __module__ = "externref.wasm2c"

    _code: Code
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]

    def __init__(self) -> None:
        raise TypeError("a module is compiled by externref.wasm2c.compile()")

    def instantiate(self, store: Store, imports: Mapping[str, Any] | None = None, *,
                    release_gil: bool = False) -> Instance:
        """A new instance in the store; runs the module's start function.

        imports: by module and then by name, what the module imports: a Func, Table, Memory or
            Global of this store; for a function also any callable; for a global that is
            immutable also a plain value. Exports of another instance may stand for a module.
        release_gil: whether compiled code runs without the GIL: what Func.release_gil is at first, for the start
            function, too.
        Raises LinkError naming the import that is missing or has the wrong type, Trap, what an
        imported function raises, MemoryError, ValueError if the store is closed, RuntimeError if it is in use
        by another thread.
        """
        return Instance(store, self._code, {} if imports is None else imports, release_gil)


def to_binary(source: bytes | str | os.PathLike[str], folder: Path, tools: Tools) -> bytes:
    """The Wasm binary of what compile() takes; validated."""
    if isinstance(source, str):
        try:
            data = source.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CompileError(f"the text is no Unicode: {error}") from None
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, os.PathLike):
        data = Path(source).read_bytes()
    else:
        raise TypeError(f"source must be bytes, str or a path, not {type(source).__name__}")
    binary, text = folder / "source.wasm", folder / "source.wat"
    may_be_text = isinstance(source, os.PathLike) and Path(source).suffix != ".wasm"
    try:
        if isinstance(source, str) or (may_be_text and not data.startswith(b"\0asm")):
            write(text, data)
            tools.run(wabt().get_executable("wat2wasm"), *FEATURES, "--debug-names", text, "-o", binary)
            return binary.read_bytes()
        write(binary, data)
        # Wrong names do not make a module invalid.
        tools.run(wabt().get_executable("wasm-validate"), *FEATURES, "--no-debug-names", binary)
        return data
    except CompileError as error:
        message = str(error)
        for path in (text, binary):     # as the user knows it
            message = message.replace(str(path), os.fspath(source) if isinstance(source, os.PathLike) else path.name)
        raise CompileError(message) from error.__cause__


def write(path: Path, data: bytes) -> None:
    """Writes a file in the temporary folder. Raises CompileError if that is not possible."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CompileError(f"no temporary file can be written: {error}") from error


def cache_key(binary: Binary, compiler: list[str], flags: list[str], tools: Tools) -> str:
    """A name for the library: everything that it depends on, hashed. Names and custom sections are not in it."""
    version = tools.run(*compiler, "--version")
    digest = hashlib.sha256()
    for part in (externref.__version__, str(GLUE_VERSION), wabt().wabt_version(), repr(compiler), version,
                 repr(flags + LAST_FLAGS), str(pieces_of(binary)), hashlib.sha256(glue_sources()).hexdigest()):
        digest.update(part.encode() + b"\0")
    digest.update(binary.renamed())
    return digest.hexdigest()


def glue_sources() -> bytes:
    """What the C around a module is made from."""
    here = Path(__file__).parent
    names = ("binary.py", "glue.py", "limits.py", "pieces.py", "runtime.h")
    return b"".join((here / name).read_bytes() for name in names)


def build(binary: Binary, compiler: list[str], flags: list[str], folder: Path, tools: Tools) -> Path:
    """Makes the shared library in the folder."""
    pieces = pieces_of(binary)
    write(folder / "module.wasm", binary.renamed())
    tools.run(wabt().get_executable("wasm2c"), *FEATURES, "--no-debug-names", folder / "module.wasm", "-n", "m",
              "-o", folder / "module.c", *([f"--num-outputs={pieces}"] if pieces > 1 else []))
    for name, text in sources(binary, folder, pieces).items():
        write(folder / name, text.encode())
    names = names_of(pieces)
    include = [f"-I{path}" for path in (wabt().runtime_dir(), wabt().include_dir(), Path(__file__).parent)]
    tools.run_all([[*compiler, *flags, *LAST_FLAGS, *usage_flags(compiler, folder / f"{name}.su"), *include,
                    "-c", folder / f"{name}.c", "-o", folder / f"{name}.o"] for name in names])
    objects = [folder / f"{name}.o" for name in names]
    for part in objects:
        if not part.is_file():
            raise CompileError(f"{compiler[0]} made no library")
        usage = part.with_suffix(".su")
        if not usage.is_file():
            raise CompileError(f"{compiler[0]} does not say how large stack frames are (-fstack-usage)")
        check_frames(binary, usage)
    library = folder / f"module{LIBRARY_SUFFIX}"
    tools.run(*compiler, *flags, "-shared", *objects, "-lm", "-o", library)
    if not library.is_file():
        raise CompileError(f"{compiler[0]} made no library")
    return library


def check_tail_calls(binary: Binary, folder: Path, tools: Tools) -> None:
    """Raises CompileError if the module has tail calls and a type too large for wasm2c's buffer."""
    if fit_tail_calls(binary):
        return
    try:
        tools.run(wabt().get_executable("wasm-validate"), *FEATURES, "--disable-tail-call",
                  "--no-debug-names", folder / "source.wasm")
    except CompileError as error:
        raise CompileError("tail calls are not supported in a module with a function type whose parameters or results "
                           f"take more than {TAIL_CALL_BUFFER} bytes: {error}") from None


def compile(source: bytes | str | os.PathLike[str], cache: bool = True, timeout: float | None = None, *,
            interruptible: bool = True) -> Module:
    """Compile a WebAssembly module to machine code and load it.

    source: bytes, a Wasm binary; str, its text format; a path, a file with either, with a binary if it ends in .wasm.
    cache: whether to keep the compiled module, in $EXTERNREF_CACHE_DIR or the user's cache folder,
        and to use the one kept there. It depends on everything the result does: the
        module, the versions of externref, wabt and the compiler, $CC and $CFLAGS. Several
        processes may compile one module at the same time. If the folder cannot be made or
        written, or is full, or others may write there, the module is compiled without it; the
        logger "externref.wasm2c" has the reason, as information.
    timeout: seconds that wasm2c, the C compiler and the others may take together; None if any.
        A module can be made so that a compiler takes hours. Then they and what they
        started are killed; so they are when this is interrupted.
    interruptible: whether its code asks now and then whether to go on; else a loop without calls ends with itself
        alone, and neither Ctrl-C nor Store(timeout=...) stops it. docs/wasm.md has what it costs.
    The shared library stays loaded until the process ends.

    Raises CompileError (see there), TypeError for another source, ValueError for a timeout that is
    negative, OSError if the source cannot be read.
    """
    tools = Tools(timeout)
    try:
        with temporary_folder() as name:
            return compile_in(Path(name), source, cache, tools, [*FLAGS, f"-DINTERRUPTIBLE={int(interruptible)}"])
    except UnsupportedError as error:
        raise CompileError(str(error)) from None


def compile_in(folder: Path, source: bytes | str | os.PathLike[str], cache: bool, tools: Tools,
               flags: list[str]) -> Module:
    """What compile() does, with a folder for what is needed only until the library is made."""
    binary = read_binary(to_binary(source, folder, tools))
    check_limits(binary)
    check_tail_calls(binary, folder, tools)
    compiler = require_compiler()
    flags = [*flags, *own_flags(compiler), *words("CFLAGS")]
    cached = open_folder() if cache else None
    if cached is None:
        return loaded(binary, build(binary, compiler, flags, folder, tools))
    kept = cached / (cache_key(binary, compiler, flags, tools) + LIBRARY_SUFFIX)
    if is_whole(kept) and (module := load_kept(binary, kept)) is not None:
        return module
    library = build(binary, compiler, flags, folder, tools)
    if keep(library, kept) and (module := load_kept(binary, kept)) is not None:
        return module
    return loaded(binary, library)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        # What cannot be deleted stays: a loaded library on Windows, all if there is no memory to look what there is.
        # That must not stand before what was wrong with the module.
        return tempfile.TemporaryDirectory(prefix="externref-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CompileError(f"no temporary folder can be made: {error}") from error


def new_module(binary: Binary, library: Path) -> Module:
    """Loads the library. Raises OSError if it is none, AttributeError if it is not of our making."""
    module = Module.__new__(Module)
    module._code = load(str(library), binary)
    module.imports, module.exports = binary.imports, binary.exports
    return module


def load_kept(binary: Binary, kept: Path) -> Module | None:
    """The module of a library in the cache; None if that cannot be loaded: it is of another machine, somebody took it
    away, or nothing in the folder may be executed."""
    try:
        return new_module(binary, kept)
    except (OSError, AttributeError) as error:
        logger.info("A compiled module in the cache is not used: %s", error)
        return None


def loaded(binary: Binary, library: Path) -> Module:
    try:
        return new_module(binary, library)
    except (OSError, AttributeError) as error:
        raise CompileError(f"the compiler made no library that can be loaded: {error}") from error
