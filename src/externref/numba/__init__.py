"""VMExternRef in numba's compiled code; needs numba (the extra `externref[numba]`).

Importing this module is all it takes: a VMExternRef then goes into, through and out of
@njit functions, in tuples and typed collections too, and as a global or closure variable.

    >>> import externref.numba
    >>> @numba.njit
    ... def last(refs):
    ...     return refs[len(refs) - 1]

Nopython code cannot look into a reference. It can copy it, compare it (`==` and `!=`), hash
it (as Python does), read its address (`.raw`, lent by the reference) and call the functions
below. Anything else is a numba TypingError. A reference owns its allocation there as
everywhere, but all copies of one argument share one count, which goes with the last of
them, on any thread.
"""

import operator

try:
    import numba as _numba_package  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError("externref.numba needs numba: pip install 'externref[numba]'") from missing

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_constant
from numba.core.runtime import _nrt_python
from numba.cpython import tupleobj  # noqa: F401  whose constants are replaced: they must be there before
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    lower_builtin,
    models,
    overload,
    overload_attribute,
    overload_method,
    register_model,
    typeof_impl,
    unbox,
)

from externref import MovedError, VMExternRef, abi
from externref.numba import _boxing

__all__ = ["clone", "drop", "strong_count", "vmexternref"]


def strong_count(ref):
    """How many owners the allocation has, as ref.strong_count; also in nopython code.

    Copies that nopython code made of one argument are one owner.
    """
    return ref.strong_count


def clone(raw):
    """Add an owner to the allocation at a raw pointer; in nopython code only.

    raw: its address, an integer, or a reference to it; 0 is ignored.
    Returns the address, which now owns a count: drop() it once, or give it to Python, where
    VMExternRef.from_raw() takes it over. Needs no GIL. Nothing checks the address. That of
    a reference, `ref.raw`, is valid only while the reference is in use: numba drops a
    variable after the last line that names it, so prefer clone(ref) to clone(ref.raw).
    """
    raise NotImplementedError("clone() is for nopython code; in Python, use VMExternRef.clone()")


def drop(raw):
    """Give up the count that a raw pointer owns; in nopython code only.

    raw: the address, an integer that clone() or into_raw() returned; 0 is ignored.
    A last reference's payload is released soon after, by a thread that holds the GIL; see
    externref.drain(). Needs no GIL. Nothing checks the address.
    """
    raise NotImplementedError("drop() is for nopython code; in Python, use VMExternRef.from_raw()")


# --- The type -----------------------------------------------------------------------

class VMExternRefType(types.Hashable):
    def __init__(self):
        # The name is part of the key of cached code, which has the ABI's offsets in it.
        super().__init__(name=f"VMExternRef_v{abi.ABI_VERSION}")


vmexternref = VMExternRefType()     # for signatures, and for typed.List.empty_list()


@typeof_impl.register(VMExternRef)
def typeof_ref(ref, context):
    # A spent wrapper is refused here, before any argument is unboxed: numba would leak the
    # items of a tuple that come before one that cannot be unboxed.
    if ref.moved:
        raise MovedError("this VMExternRef was moved out or dropped; it cannot go into compiled code")
    return vmexternref


@register_model(VMExternRefType)
class VMExternRefModel(models.OpaqueModel):
    """A pointer to a meminfo, which numba counts by itself; see _boxing.pyx."""

    def has_nrt_meminfo(self):
        return True

    def get_nrt_meminfo(self, builder, value):
        return value


# --- Between Python and nopython code -----------------------------------------------

# Generated code finds these by name: an address would be wrong in code that cache=True
# brings into another process.
_boxing.initialize(_nrt_python.c_helpers["get_api"])
for name, address in {
    "externref_numba_unbox": _boxing.unbox_address,
    "externref_numba_box": _boxing.box_address,
    "externref_clone": abi.clone_address,
    "externref_drop": abi.drop_address,
}.items():
    llvmlite.binding.add_symbol(name, address)


def call_c_function(builder, name, pointer, result_type=cgutils.voidptr_t):
    """Calls the C function `result_type name(void *)`."""
    function_type = ir.FunctionType(result_type, [cgutils.voidptr_t])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, [pointer])


def load_raw(context, builder, meminfo):
    """The raw pointer of a reference: a meminfo's data is the record of a hold, which begins with it."""
    record = context.nrt.meminfo_data(builder, meminfo)
    return builder.load(builder.bitcast(record, cgutils.voidptr_t.as_pointer()))


@unbox(VMExternRefType)
def unbox_ref(typ, obj, c):
    meminfo = call_c_function(c.builder, "externref_numba_unbox", c.builder.bitcast(obj, cgutils.voidptr_t))
    return NativeValue(meminfo, is_error=cgutils.is_null(c.builder, meminfo))


@box(VMExternRefType)
def box_ref(typ, meminfo, c):
    raw = load_raw(c.context, c.builder, meminfo)
    obj = call_c_function(c.builder, "externref_numba_box", raw)
    c.context.nrt.decref(c.builder, typ, meminfo)
    return c.builder.bitcast(obj, c.pyapi.pyobj)


@lower_constant(VMExternRefType)
def lower_ref(context, builder, typ, ref):
    constant = _boxing.Constant(ref)
    library = owning_library(context)
    library.externref_constants = [*getattr(library, "externref_constants", ()), constant]
    return context.add_dynamic_addr(builder, constant.address, info="VMExternRef")   # disables cache=True


def owning_library(context):
    """The library that a constant lives as long as: the code may run until then, and functions compiled against it
    keep it alive. Numba never lets the body of a parallel loop go: that is its function's."""
    libraries = [library for library in context._codelib_stack if not library.name.startswith("__numba_parfor")]
    return libraries[-1] if libraries else context.active_code_library


# Numba has counted what its own return. All other constants are borrowed, and who asks for one counts it: once more.

@lower_constant(types.UniTuple)
@lower_constant(types.NamedUniTuple)
def lower_uniform_tuple(context, builder, typ, values):
    return cgutils.pack_array(builder, [context.get_constant_generic(builder, typ.dtype, value) for value in values])


@lower_constant(types.Tuple)
@lower_constant(types.NamedTuple)
def lower_mixed_tuple(context, builder, typ, values):
    return cgutils.pack_struct(builder, [context.get_constant_generic(builder, item, value)
                                         for item, value in zip(typ.types, values, strict=True)])


# --- In nopython code ---------------------------------------------------------------

@intrinsic
def raw_of(typingctx, ref):
    def codegen(context, builder, signature, args):
        raw = load_raw(context, builder, args[0])
        return builder.ptrtoint(raw, context.get_value_type(types.intp))

    return types.intp(ref), codegen


@intrinsic
def load_count(typingctx, ref):
    def codegen(context, builder, signature, args):
        raw = load_raw(context, builder, args[0])
        pointer_type = context.get_value_type(types.intp).as_pointer()
        address = cgutils.pointer_add(builder, raw, abi.REF_COUNT_OFFSET, pointer_type)
        return builder.load_atomic(address, ordering="acquire", align=types.intp.bitwidth // 8)

    return types.intp(ref), codegen


@intrinsic
def clone_raw(typingctx, raw):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        call_c_function(builder, "externref_clone", pointer)
        return args[0]

    return types.intp(types.intp), codegen


@intrinsic
def drop_raw(typingctx, raw):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        call_c_function(builder, "externref_drop", pointer, ir.VoidType())
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@overload_attribute(VMExternRefType, "raw")
def overload_raw(ref):
    return lambda ref: raw_of(ref)


@overload(strong_count)
def overload_strong_count(ref):
    if isinstance(ref, VMExternRefType):
        return lambda ref: load_count(ref)


@overload(clone)
def overload_clone(raw):
    if isinstance(raw, VMExternRefType):
        return lambda raw: clone_raw(raw_of(raw))
    if isinstance(raw, types.Integer):
        return lambda raw: clone_raw(raw)


@overload(drop)
def overload_drop(raw):
    if isinstance(raw, types.Integer):
        return lambda raw: drop_raw(raw)


@overload(operator.eq)
def overload_eq(left, right):
    if isinstance(left, VMExternRefType) and isinstance(right, VMExternRefType):
        return lambda left, right: raw_of(left) == raw_of(right)


@overload(operator.ne)
def overload_ne(left, right):
    if isinstance(left, VMExternRefType) and isinstance(right, VMExternRefType):
        return lambda left, right: raw_of(left) != raw_of(right)


@lower_builtin(operator.is_, VMExternRefType, VMExternRefType)
def lower_is(context, builder, signature, args):
    return context.compile_internal(builder, lambda left, right: left == right, signature, args)


@overload_method(VMExternRefType, "__hash__")
def overload_hash(ref):
    size = types.uintp.bitwidth // 8    # of a pointer, bytes
    low, high = types.uintp(4), types.uintp(8 * size - 4)

    def hash_ref(ref):      # VMExternRef.__hash__; never -1, an address has zeros at the top
        start = types.uintp(raw_of(ref) - size)
        return types.intp(start >> low | start << high)

    return hash_ref
