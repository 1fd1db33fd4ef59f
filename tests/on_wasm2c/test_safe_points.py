"""An interrupt anywhere loses nothing, drops nothing twice, and leaves the store usable. Promises P1, P2, P10."""

import contextlib
import itertools
import os
import time

import pytest

from externref import wasm2c
from on_wasm2c.operations import OPERATIONS, PREPARE, STAY, World
from safe_points import INTERRUPTS, Interrupt, interrupt_in_turn, quiet
from support import NO_GIL


@pytest.mark.parametrize("by", INTERRUPTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_at_each_place(compile, interrupting, name, by):
    with contextlib.ExitStack() as stores:
        def make_world():
            world = World(compile)
            stores.enter_context(world.store)
            return world

        def prepare(world):
            state = world.state()
            if name in PREPARE:
                PREPARE[name](world)
            return state

        def check(world, state, done):
            has_run = world.has_started()
            is_same = world.state() == state
            assert world.e.id(world.object) is world.object
            # What has grown stays so, and an instance that has run stays until its store ends.
            stays = "grow" in name or (name in STAY and has_run)
            assert is_same or stays, done
            if not (name in STAY and has_run):
                world.check_limits()
            return world if is_same else make_world()

        interrupt_in_turn(interrupting, INTERRUPTS[by], OPERATIONS[name], make_world(), prepare, check)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.filterwarnings("ignore::ResourceWarning")      # tempfile's, of a folder that nobody was given
@pytest.mark.parametrize("by", INTERRUPTS)
def test_an_interrupt_while_compiling(interrupting, by):
    """What is in the cache: the tools that make a binary of it run all the same, on threads of their own. At every 41st
    place: there are some thousands."""
    text = '(module (func (export "f") (result i32) (i32.const 5)))'
    wasm2c.compile(text)
    threads = len(os.listdir("/proc/self/task"))
    for n in itertools.count(1, 41):
        with quiet():
            try:
                interrupting.safe_points_call(wasm2c.compile, text, n, INTERRUPTS[by])
            except (Interrupt, OSError):        # shutil.rmtree closes a file twice, then
                pass
            except wasm2c.CompileError as error:    # 3.11 has interrupted the thread that waits for the tools
                assert "ended by an exception from elsewhere" in str(error)
            came = interrupting.safe_points_came()
        if not came:
            break
    end = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > threads:
        assert time.monotonic() < end
        time.sleep(0.01)
    with wasm2c.Store() as store:
        assert wasm2c.compile(text).instantiate(store).exports.f() == 5
    assert n > 200


@pytest.mark.skipif(NO_GIL, reason="without a GIL nothing holds it up as it starts")
def test_the_thread_that_waits_for_the_tools_is_interrupted_as_it_starts(run_python):
    """By CPython 3.11, which may give it what is meant for another. Nobody waits for it then, even if what is reported is kept."""
    assert run_python("""
import ctypes, sys, types
from externref.wasm2c import tools
start = tools._thread.start_new_thread
def start_and_interrupt(function, args):
    thread = start(function, args)
    # This thread has the GIL all the while.
    while not ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)):
        pass
    return thread
tools._thread = types.SimpleNamespace(start_new_thread=start_and_interrupt)
kept = []
sys.unraisablehook = kept.append
sys.setswitchinterval(100)
try:
    tools.Tools(None).run("echo")
except tools.CompileError as error:
    print(error)
assert len(kept) == 1
""") == "the thread that compiles was ended by an exception from elsewhere\n"
