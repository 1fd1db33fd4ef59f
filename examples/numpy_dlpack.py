# needs: numpy
"""The memory of a Python object in a numpy array, by DLPack.

The tensor (dlpack_export.c) owns the object by a reference. Its deleter is the header's: any thread
may call it, with or without the GIL, at exit too, which DLPack asks of every deleter.

    python examples/numpy_dlpack.py
"""

from tempfile import TemporaryDirectory

import numpy
from _build import build_extension

import externref


class Shared:
    """Any buffer as something that DLPack can import."""

    def __init__(self, module, buffer):
        self._module = module
        self._buffer = buffer

    def __dlpack__(self, *, max_version=None, **unused):
        return self._module.capsule(self._buffer, max_version is not None and max_version[0] >= 1)

    def __dlpack_device__(self):
        return 1, 0     # memory of the CPU


def grows(buffer):
    """A bytearray that somebody looks into cannot."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


def main():
    with TemporaryDirectory() as folder:
        module = build_extension("dlpack_export.c", folder)
        buffer = bytearray(b"bytes of Python's")

        array = numpy.from_dlpack(Shared(module, buffer))
        array[:5] = list(b"BYTES")
        print("the same memory: ", buffer.decode())
        print("owned by numpy:  ", not grows(buffer))

        del array
        externref.drain()       # or wait: the main thread drains by itself, soon
        print("given back:      ", grows(buffer))


if __name__ == "__main__":
    main()
