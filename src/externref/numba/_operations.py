"""What nopython code does with a reference itself: it counts, compares, hashes it, and tells whether it is one."""

import operator

from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, overload, overload_attribute, overload_method

from externref import abi
from externref.numba._type import VMExternRefType, call_c_function, give_to_c_function, load_raw, vmexternref


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


drop_raw = give_to_c_function("externref_drop")


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


# What may be None is compared by a word as well: None is the null pointer. Numba itself compares with a plain None.

optional_ref = types.Optional(vmexternref)
REFERENCES = (vmexternref, optional_ref)


@intrinsic
def raw_or_null(typingctx, ref):
    def codegen(context, builder, signature, args):
        raw = cgutils.alloca_once_value(builder, cgutils.get_null_value(cgutils.voidptr_t))
        if ref == vmexternref:
            builder.store(load_raw(context, builder, args[0]), raw)
        else:
            optional = context.make_helper(builder, ref, args[0])
            with builder.if_then(cgutils.as_bool_bit(builder, optional.valid)):
                builder.store(load_raw(context, builder, optional.data), raw)
        return builder.ptrtoint(builder.load(raw), context.get_value_type(types.intp))

    return types.intp(ref), codegen


@overload(operator.eq)
def overload_eq(left, right):
    if left in REFERENCES and right in REFERENCES:
        return lambda left, right: raw_or_null(left) == raw_or_null(right)


@overload(operator.ne)
def overload_ne(left, right):
    if left in REFERENCES and right in REFERENCES:
        return lambda left, right: raw_or_null(left) != raw_or_null(right)


@lower_builtin(operator.is_, vmexternref, vmexternref)
@lower_builtin(operator.is_, vmexternref, optional_ref)
@lower_builtin(operator.is_, optional_ref, vmexternref)
@lower_builtin(operator.is_, optional_ref, optional_ref)
def lower_is(context, builder, signature, args):
    return context.compile_internal(builder, lambda left, right: left == right, signature, args)


@overload(bool)
def overload_bool(ref):
    if ref in REFERENCES:
        return lambda ref: raw_or_null(ref) != 0


@overload(operator.not_)
def overload_not(ref):
    if ref in REFERENCES:
        return lambda ref: raw_or_null(ref) == 0


@overload_method(VMExternRefType, "__hash__")
def overload_hash(ref):
    size = types.uintp.bitwidth // 8    # of a pointer, bytes
    low, high = types.uintp(4), types.uintp(8 * size - 4)

    def hash_ref(ref):      # VMExternRef.__hash__; never -1, an address has zeros at the top
        start = types.uintp(raw_of(ref) - size)
        return types.intp(start >> low | start << high)

    return hash_ref
