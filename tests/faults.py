"""Allocations that fail, for files that run under tests/c/faults.c, which is preloaded: under_faults.py and on_wasm2c's."""

import ctypes
import gc
from pathlib import Path

import externref

faults = ctypes.CDLL(None)
faults.faults_arm.argtypes = [ctypes.c_long, ctypes.c_char_p]
faults.faults_arm.restype = None
faults.faults_arm_two.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p]
faults.faults_arm_two.restype = None
OURS = str(Path(externref.__file__).parent).encode() + b"/"


def attempt(operation, world, first, second, only):
    """Whether it was done, and how many allocations failed. A MemoryError is no failure of the test."""
    done = False
    gc.disable()        # a collection of Python's would be part of it by chance
    try:
        faults.faults_arm_two(first, second, only)
        done = operation(world)
    except MemoryError:
        pass
    finally:
        failed = faults.faults_disarm()
        gc.enable()
    return done, failed
