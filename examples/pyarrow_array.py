# needs: pyarrow
"""The memory of a Python object in an Arrow array, by the Arrow C data interface.

What the array (arrow_export.c) points to is owned by a reference. Its `release` is the header's: any
thread of Arrow's may call it, with or without the GIL.

    python examples/pyarrow_array.py
"""

from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.compute
from _build import build_extension

import externref


class Column:
    """Any buffer as something that Arrow can import."""

    def __init__(self, module, buffer):
        self._module = module
        self._buffer = buffer

    def __arrow_c_array__(self, requested_schema=None):
        return self._module.capsules(self._buffer)


def grows(buffer):
    """A bytearray that somebody looks into cannot."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


def main():
    with TemporaryDirectory() as folder:
        module = build_extension("arrow_export.c", folder)
        buffer = bytearray(range(100))

        array = pyarrow.array(Column(module, buffer))
        print("type and sum:    ", array.type, pyarrow.compute.sum(array))
        print("owned by Arrow:  ", not grows(buffer))

        del array
        externref.drain()       # or wait: the main thread drains by itself, soon
        print("given back:      ", grows(buffer))


if __name__ == "__main__":
    main()
