"""Allocations that fail, for files that run under tests/c/faults.c, which is preloaded: under_faults.py here and in folders."""

import ctypes
import gc
from pathlib import Path

import externref
from externref import VMExternRef

faults = ctypes.CDLL(None)
faults.faults_arm.argtypes = [ctypes.c_long, ctypes.c_char_p]
faults.faults_arm.restype = None
faults.faults_arm_two.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p]
faults.faults_arm_two.restype = None
OURS = str(Path(externref.__file__).parent).encode() + b"/"


def until_it_allocates(make):
    for _ in range(5000):
        faults.faults_arm_two(1, 0, OURS)
        try:
            make()
        except MemoryError:
            return
        finally:
            faults.faults_disarm()
    raise AssertionError("it always had some")


def exhaust(ref):
    """References of the payload, and clones, made until nothing is left that needs no allocation: each operation then needs
    its own."""
    full = []
    until_it_allocates(lambda: full.append(VMExternRef(ref.value)))
    until_it_allocates(lambda: full.append(ref.clone()))
    return full


def attempt(operation, world, first, second, only):
    """Whether it was done, and how many allocations failed. A MemoryError is no failure of the test."""
    done = False
    gc.disable()        # a collection of Python's would be part of it by chance
    try:
        faults.faults_arm_two(first, second, only)
        done = operation(world)
    except MemoryError:
        pass
    except ctypes.ArgumentError as error:       # what ctypes says of one in an argument
        assert "MemoryError" in str(error)
    except SystemError as error:        # what CPython 3.11 says of one while it raises: "returned NULL without setting ..."
        assert "without" in str(error)
    finally:
        failed = faults.faults_disarm()
        gc.enable()
    return done, failed
