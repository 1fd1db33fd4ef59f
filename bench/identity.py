"""`void *ident(void *)` in C, compiled once a process: for whoever calls compiled code."""

from functools import cache
from tempfile import TemporaryDirectory


@cache
def compiled():
    """cffi's API-mode module with ident(); ImportError without cffi or a C compiler."""
    import importlib.util

    import cffi

    builder = cffi.FFI()
    builder.cdef("void *ident(void *);")
    builder.set_source("externref_bench_ident", "static void *ident(void *p) { return p; }")
    with TemporaryDirectory() as folder:
        try:
            path = builder.compile(folder)
        except Exception as error:      # setuptools' own exceptions, of several kinds
            raise ImportError(f"no C compiler: {error}") from None
        spec = importlib.util.spec_from_file_location("externref_bench_ident", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def address():
    """Of ident(), an int."""
    module = compiled()
    return int(module.ffi.cast("uintptr_t", module.ffi.addressof(module.lib, "ident")))
