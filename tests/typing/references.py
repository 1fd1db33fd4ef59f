"""References, as users write them: checked by mypy and pyright, and never run."""

import io
from ctypes import CDLL, c_int, c_void_p
from typing import Any, assert_type

from externref import Function, VMExternRef, VMExternRefActivationsTable, abi, option_from_raw, option_into_raw, stats
from externref.ctypes import callback, lent, moved

ref = VMExternRef(io.StringIO())
assert_type(ref, VMExternRef[io.StringIO])
assert_type(ref.value, io.StringIO)
assert_type(ref.clone(), VMExternRef[io.StringIO])
assert_type(ref.downcast_ref(int), int | None)
assert_type(ref.is_((int, str)), bool)
assert_type(VMExternRef.new_with(lambda: 3), VMExternRef[int])
assert_type(ref.into_raw(), int)
assert_type(option_into_raw(None), int)
assert_type(stats().live_blocks, int)
with ref.borrow() as ptr:
    assert_type(ptr, int)
with ref as again:
    assert_type(again, VMExternRef[io.StringIO])
assert_type(VMExternRef.from_raw(c_void_p(ref.into_raw())), VMExternRef[Any])
assert_type(option_from_raw(None), VMExternRef[Any] | None)


# A reference to what is more special is one to what is more general: nothing puts a value into it.
def read(source: VMExternRef[io.TextIOBase]) -> str:
    return source.value.read()


read(ref)
anything: VMExternRef[object] = ref

assert_type(Function(abi.clone_address, "m", "w"), Function[int])
assert_type(Function(abi.clone_address, "m", "w")(ref), int)
drop = Function(abi.drop_address, "m")
assert_type(drop, Function[None])
identity: Function[Any] = Function(abi.clone_address, "m", "m", release_gil=True)
assert_type(identity.refs(ref), VMExternRef[Any] | int | None)

table = VMExternRefActivationsTable()
assert_type(table.try_insert(ref), bool)
assert_type(table.gc(roots=[1], ranges=[(1, 2)]), int)

lib = CDLL(None)
lib.take.restype = moved


@callback(moved, lent, c_int)
def transform(ref: VMExternRef[int] | None, number: int) -> VMExternRef[int] | None:
    return ref


lib.visit(transform)
