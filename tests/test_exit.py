"""Interpreter exit is silent and safe, whatever is alive and whoever holds it. Promise P8.

Every case is a program that ends: return code 0, and an empty stderr. Most are cells of a matrix, tests/exit_matrix.py; here is
what fits in none.
"""

import subprocess
import sys

import pytest

import exit_matrix
from support import NO_GIL

PRELUDE = """
import ctypes, gc, os, sys, threading, time
import externref
from externref import VMExternRef, abi
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)
def on_a_thread(*raws):
    thread = threading.Thread(target=lambda: [held_drop(raw) for raw in raws]); thread.start(); thread.join()
class Node: pass
class Loud:
    def __init__(self, text): self.text = text
    def __del__(self, write=os.write): write(1, self.text + b"\\n")
"""

# name: (program, what it must print)
CASES = {
    "a million references": ("refs = [VMExternRef(i) for i in range(1_000_000)]", ""),
    "a chain": ("ref = VMExternRef(0)\nfor _ in range(1_000_000): ref = VMExternRef(ref)", ""),
    "a chain that compiled code owns": (
        "ref = VMExternRef(0)\nfor _ in range(1_000_000): ref = VMExternRef(ref)\nraw = ref.into_raw(); del ref", ""),
    "the package gone from sys.modules": (
        "ref = VMExternRef(Loud(b'dropped')); [sys.modules.pop(n) for n in list(sys.modules) if 'externref' in n]",
        "dropped\n"),
    "a helper that is awake": ("on_a_thread(VMExternRef(Loud(b'dropped')).into_raw()); time.sleep(0.05)", "dropped\n"),
    "a helper in a finalizer that never ends": ("""
class Stuck(Loud):
    def __del__(self): time.sleep(1000)
raws = [VMExternRef(Loud(b'dropped')).into_raw(), VMExternRef(Stuck(b'stuck')).into_raw()]
threading.Thread(target=lambda: (time.sleep(0.5), [held_drop(raw) for raw in raws])).start()
time.sleep(2)       # in C, all the while: or the main thread might drain
""", "dropped\n"),
    "a function that schedules": ("""
externref.set_drain(lambda: os.write(1, b"scheduled\\n"))
on_a_thread(VMExternRef(Loud(b'dropped')).into_raw()); time.sleep(0.1)
""", "scheduled\ndropped\n"),
    "a function that schedules and hangs": ("""
externref.set_drain(lambda: time.sleep(1000))
on_a_thread(VMExternRef(Loud(b'dropped')).into_raw()); time.sleep(0.1)
""", "dropped\n"),
    "a function whose end sets another": ("""
loud = Loud(b'dropped')
class Again:
    def __call__(self): loud
    def __del__(self): externref.set_drain(lambda: loud)
externref.set_drain(Again())
""", "dropped\n"),
    "a function that another thread set": ("""
# Only its thread may release what it holds, as a Tcl interpreter, and that has ended.
def work():
    loud = Loud(b'dropped')
    externref.set_drain(lambda: loud)
thread = threading.Thread(target=work); thread.start(); thread.join()
""", ""),
    "threads that drop and fork": ("""
import warnings; warnings.simplefilter("ignore")
def work():
    while True: held_drop(VMExternRef(Node()).into_raw())
threading.Thread(target=work, daemon=True).start()
for _ in range(5):
    child = os.fork()
    if child: assert os.waitpid(child, 0)[1] == 0
    else: on_a_thread(VMExternRef(Node()).into_raw()); sys.exit()
""", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_exit(run_python, case):
    program, expected = CASES[case]
    if NO_GIL and case == "a helper in a finalizer that never ends":
        pytest.skip("without a GIL the finalizer runs on the thread that made the object: the one that exits")
    assert run_python(PRELUDE + program) == expected


@pytest.mark.parametrize("owner", ["clones", "drops its last"])
def test_exit_with_foreign_threads_at_work(run_python, foreign, owner):
    # Threads Python never heard of go on cloning and dropping through all of the exit.
    program = PRELUDE + """
lib = ctypes.CDLL(sys.argv[1])
lib.hammer_forever.argtypes = [ctypes.c_void_p]
lib.drop_all.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t]
if sys.argv[2] == "clones":
    assert lib.hammer_forever(VMExternRef(Node()).into_raw()) == 0
else:
    n = 200_000
    raws = (ctypes.c_void_p * n)(*[VMExternRef(i).into_raw() for i in range(n)])
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(raws))
    assert lib.drop_all(raws, n) == 0
time.sleep(0.001)
"""
    for _ in range(5):
        run_python(program, foreign._name, owner)


@pytest.fixture
def run_embedding(build_embedding):
    """Compiles tests/c/embed.c with these options, and runs it; what it prints."""
    def run(*options):
        program, env = build_embedding("embed.c", *options)
        result = subprocess.run([program, sys.prefix, *sys.path[1:]], capture_output=True, text=True, timeout=60, env=env)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    return run


# Cython gives a module again that was there before: CPython, which goes through its names at the second end, has freed
# them at the first if it is a debug build.
@pytest.mark.skipif(hasattr(sys, "gettotalrefcount") and sys.version_info >= (3, 12),
                    reason="a debug interpreter crashes at its second end if any module of Cython's was imported twice")
def test_embedding_finalize_and_use_afterwards(run_embedding):
    """A C program: import, Py_Finalize, and only then the last native drop."""
    assert run_embedding() == "count 2, dropped after the end, refused after that\n"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="before 3.15 a thread cannot know that its interpreter has gone")
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux has them")
def test_embedding_that_does_not_tell_of_the_end(run_embedding):
    assert run_embedding("-DUNTOLD") == "count 2, dropped after the end, threads 1\n"


@pytest.mark.parametrize(("when", "mode", "how", "amount"), exit_matrix.cells("all", "each"))
def test_matrix(run_script, when, mode, how, amount):
    ended = run_script(how, "exit_matrix.py", when.__name__, mode.__name__, amount)
    said = (ended.returncode, ended.stdout, ended.stderr)
    if amount == "all":
        wrong = exit_matrix.judge(when, mode, exit_matrix.STATES, exit_matrix.DEEDS, *said)
        assert not wrong, "\n".join(wrong)
    else:       # it has judged what each pair said
        assert said == (0, "", "")
