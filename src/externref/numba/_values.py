"""What nopython code learns of a payload. It asks Python, with the GIL.

Numba leaks the values that are live where a call fails, and those of the functions in between. So a look that fails
returns the exception, and the overloads are inlined: their `raise` is a statement of the caller's own, before which
numba has let go of all values.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload, overload_attribute, register_jitable

from externref.numba._type import VMExternRefType, call_c_function, give_to_c_function, load_raw


def value_as(ref, type):
    """The payload as a native value, in nopython code; in Python, ref.value as it is.

    type: an integer or float type of numba's, boolean or unicode_type. An int must fit; a float is
    anything that float arithmetic takes; a boolean is the payload's truth.
    Raises TypeError or OverflowError if the payload is no such value, and what its own conversion
    (__index__, __float__, __bool__) raises. Takes the GIL, and may run any Python code.
    """
    return ref.value


def is_instance(ref, classes):
    """isinstance(ref.value, classes.value), also in nopython code: there, a class is a reference too.

    classes: a reference to a class, or to a tuple of classes.
    Raises TypeError if it is to anything else. Takes the GIL, and may run any Python code.
    """
    return ref.is_(classes.value)


@intrinsic
def read_value(typingctx, ref, type):
    """(the value, 0), or (zeros, the exception's address, which the caller owns)."""
    typ = type.instance_type

    def codegen(context, builder, signature, args):
        kind, bits = kind_of(typ)
        pyapi = context.get_python_api(builder)
        error = cgutils.alloca_once_value(builder, cgutils.get_null_value(cgutils.voidptr_t))
        value = cgutils.alloca_once_value(builder, cgutils.get_null_value(context.get_value_type(typ)))
        gil = pyapi.gil_ensure()
        obj = call_c_function(builder, "externref_numba_read_value", load_raw(context, builder, args[0]),
                              cgutils.int32_t(ord(kind)), cgutils.int32_t(bits), error, result_type=pyapi.pyobj)
        with builder.if_then(cgutils.is_not_null(builder, obj)):
            builder.store(pyapi.to_native_value(typ, obj).value, value)
            pyapi.decref(obj)
        pyapi.gil_release(gil)
        error = builder.ptrtoint(builder.load(error), context.get_value_type(types.intp))
        return context.make_tuple(builder, signature.return_type, [builder.load(value), error])

    return types.Tuple([typ, types.intp])(ref, type), codegen


def kind_of(typ):
    """What read_value() of the C half wants: a kind as numpy's, and bits; None for types that it does not know."""
    if isinstance(typ, types.Integer):
        return "i" if typ.signed else "u", typ.bitwidth
    if isinstance(typ, types.Float):
        return "f", typ.bitwidth
    if isinstance(typ, types.Boolean):
        return "b", 0
    if isinstance(typ, types.UnicodeType):
        return "U", 0
    return None


@intrinsic
def test_instance(typingctx, ref, classes):
    """(whether it is, 0), or (False, the exception's address, which the caller owns)."""
    def codegen(context, builder, signature, args):
        error = cgutils.alloca_once_value(builder, cgutils.get_null_value(cgutils.voidptr_t))
        result = call_c_function(builder, "externref_numba_is_instance",
                                 *(load_raw(context, builder, arg) for arg in args), error,
                                 result_type=cgutils.int32_t)
        error = builder.ptrtoint(builder.load(error), context.get_value_type(types.intp))
        return context.make_tuple(builder, signature.return_type, [cgutils.as_bool_bit(builder, result), error])

    return types.Tuple([types.boolean, types.intp])(ref, classes), codegen


@intrinsic
def raise_error(typingctx, error):
    """Leaves the function with an exception that one of the above gave."""
    def codegen(context, builder, signature, args):
        error = builder.inttoptr(args[0], cgutils.voidptr_t)
        call_c_function(builder, "externref_numba_raise_error", error, result_type=ir.VoidType())
        with builder.if_then(cgutils.true_bit):     # else the block would end here
            context.call_conv.return_exc(builder)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


forget_error = give_to_c_function("externref_numba_forget_error")


@intrinsic
def is_in_try(typingctx):
    def codegen(context, builder, signature, args):
        return context.call_conv.check_try_status(builder).in_try

    return types.boolean(), codegen


@register_jitable
def fail_in_try():
    raise RuntimeError      # numba's handlers do not see which exception it is


@register_jitable(inline="always")
def leave_with(error):
    """Raises an error. In a `try` block it comes back, as all that fails there: numba looks then whether it did."""
    if is_in_try():
        forget_error(error)
        fail_in_try()
    else:
        raise_error(error)
        raise RuntimeError      # never reached: so numba knows that nothing comes after it


@overload(value_as, inline="always")
def overload_value_as(ref, type):
    if not isinstance(ref, VMExternRefType) or not isinstance(type, (types.NumberClass, types.TypeRef)):
        return None
    if kind_of(type.instance_type) is None:
        raise TypingError(f"value_as() knows numbers, boolean and unicode_type, not {type.instance_type}: "
                          "read ref.value in an objmode block")

    def value_as(ref, type):
        value, error = read_value(ref, type)
        if error != 0:
            leave_with(error)
        return value

    return value_as


@overload(is_instance, inline="always")
def overload_is_instance(ref, classes):
    if not isinstance(ref, VMExternRefType) or not isinstance(classes, VMExternRefType):
        return None

    def is_instance(ref, classes):
        result, error = test_instance(ref, classes)
        if error != 0:
            leave_with(error)
        return result

    return is_instance


@overload_attribute(VMExternRefType, "value")
def overload_value(ref):
    raise TypingError("a Python object cannot be in nopython code: use externref.numba.value_as(ref, type) for a "
                      "number or a str, and ref.value in an objmode block for any other")
