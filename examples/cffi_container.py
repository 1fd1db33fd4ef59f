# needs: cffi
"""A C container that keeps Python objects, by cffi.

The container (stack.c) clones what it keeps and drops it when it is freed. With cffi's own
handles, Python would have to keep every handle alive for as long as C has it.

    python examples/cffi_container.py
"""

import weakref
from tempfile import TemporaryDirectory

from _build import build_library
from cffi import FFI

import externref
from externref import VMExternRef, option_from_raw

ffi = FFI()
ffi.cdef("""
    struct stack *stack_new(void);
    int stack_push(struct stack *, void *ref);
    void *stack_pop(struct stack *);
    size_t stack_size(const struct stack *);
    void stack_free(struct stack *);
""")


class Stack:
    """The C container as a Python class."""

    def __init__(self, lib):
        self._lib = lib
        self._stack = ffi.gc(lib.stack_new(), lib.stack_free)
        if not self._stack:
            raise MemoryError

    def __len__(self):
        return self._lib.stack_size(self._stack)

    def push(self, ref):
        # Lent for the call: stack_push makes a count of its own.
        with ref.borrow() as raw:
            if self._lib.stack_push(self._stack, ffi.cast("void *", raw)) != 0:
                raise MemoryError

    def pop(self):
        # Moved out: from_raw() takes the container's count over. NULL comes back as None.
        return option_from_raw(int(ffi.cast("uintptr_t", self._lib.stack_pop(self._stack))))

    def close(self):
        ffi.release(self._stack)


class Value:
    pass


def main():
    with TemporaryDirectory() as folder:
        stack = Stack(ffi.dlopen(build_library("stack.c", folder)))

        values = [Value() for _ in range(1000)]
        died = [weakref.ref(value) for value in values]
        for value in values:
            stack.push(VMExternRef(value))      # the wrapper dies at once: the stack is the owner
        print("kept by C:   ", len(stack))

        ref = stack.pop()
        print("the same:    ", ref.value is values[-1])
        print("owners:      ", ref.strong_count)
        del ref, value, values

        print("alive:       ", sum(weak() is not None for weak in died))
        stack.close()
        externref.drain()       # or wait: the main thread drains by itself, soon
        print("after close: ", sum(weak() is not None for weak in died))


if __name__ == "__main__":
    main()
