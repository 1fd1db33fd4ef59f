"""examples/rust/externref.rs: its counts, its documentation, and objects that Rust's threads own. Promises P2, P4 and P8."""

import ctypes
import os
import re
import shutil
import signal
import subprocess

import pytest

import externref
from externref import VMExternRef, abi
from support import TESTS, Payload, run_rust_tool, wait_until_drained

FILE = TESTS.parent / "examples/rust/externref.rs"
EDITION = ("--edition", "2021")
FINAL = "freed 5, writes seen 200000\n"
# The standard library is not instrumented: tests/rust/pyref.rs has no threads of its.
THREAD = ("-Zsanitizer=thread", "-Cunsafe-allow-abi-mismatch=sanitizer")


@pytest.fixture(scope="session")
def rustc():
    return shutil.which("rustc") or pytest.skip("no rustc found: install rustc")


def build(rustc, source, output, *options):
    """Compiles, warnings being errors."""
    result = run_rust_tool(*rustc, *EDITION, "-D", "warnings", *options, source, "-o", output)
    assert result.returncode == 0, result.stderr
    return output


def run(program, *args):
    # With a short history ThreadSanitizer forgets what a thread did that has ended, and says nothing of its races.
    result = subprocess.run([program, *args], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "TSAN_OPTIONS": "history_size=7"})
    return result.returncode, result.stdout, result.stderr


# -- Without Python

@pytest.mark.parametrize("options", [(), ("-O",)], ids=["debug", "optimised"])
def test_counts(rustc, tmp_path, options):
    assert run(build([rustc], TESTS / "rust/pyref.rs", tmp_path / "pyref", *options)) == (0, FINAL, "")


def test_too_many_owners_abort_the_process(rustc, tmp_path):
    program = build([rustc], TESTS / "rust/pyref.rs", tmp_path / "pyref")
    assert run(program, "overflow") == (-signal.SIGABRT, "", "")


def test_examples_of_its_documentation_run(rustc, tmp_path):
    rustdoc = shutil.which("rustdoc") or pytest.skip("no rustdoc found: install it")
    library = build([rustc], FILE, tmp_path / "libexternref.rlib", "--crate-type", "rlib")
    result = run_rust_tool(rustdoc, *EDITION, "--test", "--crate-name", "externref", "--extern", f"externref={library}",
                           FILE, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    examples = len(re.findall(r"^ *///? ```$", FILE.read_text(encoding="utf-8"), re.MULTILINE)) // 2
    assert examples > 0 and f"{examples} passed; 0 failed" in result.stdout


def test_file_stands_alone_and_documents_everything():
    text = FILE.read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:pub )?(?:use|extern crate|mod) (\w+)", text, re.MULTILINE)) == {"std"}
    assert "#![deny(missing_docs, unsafe_op_in_unsafe_fn)]" in text


def sanitizing(tmp_path, *options):
    """The first compiler that has the sanitizer, as a command; rustup's nightly one is asked too."""
    empty = tmp_path / "empty.rs"
    empty.write_text("fn main() {}\n")
    for rustc in (["rustc"], ["rustc", "+nightly"]):
        result = run_rust_tool(*rustc, *EDITION, *options, empty, "-o", tmp_path / "empty")
        if result.returncode == 0 and run(tmp_path / "empty")[0] == 0:
            return rustc
    pytest.skip("no nightly rustc found: others have no sanitizers")


@pytest.mark.parametrize("options", [("-Zsanitizer=address",), THREAD], ids=["address", "thread"])
def test_counts_under_a_sanitizer(rustc, tmp_path, options):
    nightly = sanitizing(tmp_path, *options)
    assert run(build(nightly, TESTS / "rust/pyref.rs", tmp_path / "pyref", "-g", "-O", *options)) == (0, FINAL, "")


@pytest.mark.parametrize("old, new", [
    ("fetch_sub(1, Ordering::Release)", "fetch_sub(1, Ordering::Relaxed)"),
    ("self.ref_count().load(Ordering::Acquire);\n        // SAFETY", "// SAFETY"),
], ids=["no release", "no acquire"])
def test_thread_sanitizer_would_tell(rustc, tmp_path, old, new):
    nightly = sanitizing(tmp_path, *THREAD)
    text = FILE.read_text(encoding="utf-8")
    assert text.count(old) == 1
    for folder in ("examples/rust", "tests/rust"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "examples/rust/externref.rs").write_text(text.replace(old, new))
    source = shutil.copy(TESTS / "rust/pyref.rs", tmp_path / "tests/rust/pyref.rs")
    program = build(nightly, source, tmp_path / "pyref", "-g", "-O", *THREAD)
    # It sees a race only where the threads did meet.
    assert any("ThreadSanitizer: data race" in run(program)[2] for _ in range(100))


# -- Python's references

@pytest.fixture(scope="session")
def keeper_path(rustc, tmp_path_factory):
    return build([rustc], TESTS / "rust/keeper.rs", tmp_path_factory.mktemp("rust") / "keeper.so", "-O",
                 "--crate-type", "cdylib")


@pytest.fixture(scope="session")
def keeper(keeper_path):
    lib = ctypes.CDLL(str(keeper_path))
    lib.keep.argtypes = lib.owners.argtypes = [ctypes.c_void_p]
    lib.hammer.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.take.restype = ctypes.c_void_p
    lib.abi_version.restype = lib.owners.restype = ctypes.c_size_t
    return lib


def test_version_is_the_packages(keeper):
    assert keeper.abi_version() == abi.ABI_VERSION


def test_rust_keeps_and_gives_back(keeper):
    values = [object() for _ in range(100)]
    for value in values:
        keeper.keep(VMExternRef(value).into_raw())
    assert externref.stats() == (100, 0, 0, 0)
    for value in reversed(values):
        raw = keeper.take()
        assert keeper.owners(raw) == 2
        ref = VMExternRef.from_raw(raw)
        assert (ref.value is value, ref.strong_count) == (True, 1)
    keeper.keep(None)
    assert keeper.take() is None and keeper.owners(None) == 0


def test_last_owner_is_a_thread_of_rusts(keeper):
    dropped = []
    for n in range(1000):
        keeper.keep(VMExternRef(Payload(dropped, n)).into_raw())
    assert dropped == []
    keeper.forget_on_threads()
    wait_until_drained()
    assert sorted(dropped) == list(range(1000))


def test_threads_of_rusts_and_pythons_leave_exact_counts(keeper):
    ref = VMExternRef("payload")
    keeper.hammer(ref.clone().into_raw(), 100_000)
    assert ref.strong_count == 1
    del ref
    dropped = []
    keeper.hammer(VMExternRef(Payload(dropped, "last")).into_raw(), 1000)
    wait_until_drained()
    assert dropped == ["last"]


PRELUDE = """
import ctypes, os, sys
from externref import VMExternRef
class Loud:
    def __del__(self, write=os.write): write(1, b"dropped\\n")
lib, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
def address_of(function): return ctypes.cast(function, ctypes.c_void_p)
def keep(value): lib.keep(ctypes.c_void_p(VMExternRef(value).into_raw()))
"""

# name: (program, what it must print, several times). What is dropped after Python is never released.
CASES = {
    "kept": ("keep(Loud())", {""}),
    "given back": ("keep(Loud()); lib.take.restype = ctypes.c_void_p; ref = VMExternRef.from_raw(lib.take())", {"dropped"}),
    "dropped after Python": ("""
keep(Loud())
# The last to be registered is the first to be called.
assert libc.__cxa_atexit(address_of(libc.puts), ctypes.c_void_p(libc.strdup(b"after")), None) == 0
assert libc.__cxa_atexit(address_of(lib.forget_on_threads), None, None) == 0
""", {"after"}),
    "dropped during the exit": ("""
for _ in range(50_000): keep(Loud())
lib.forget_on_threads()
""", {"", "dropped"}),
}


@pytest.mark.parametrize("case", CASES)
def test_exit(run_python, keeper_path, case):
    program, expected = CASES[case]
    for _ in range(3 if "during" in case else 1):
        assert set(run_python(PRELUDE + program, keeper_path).splitlines() or [""]) <= expected
