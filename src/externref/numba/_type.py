"""The numba type of a VMExternRef, and its way between Python and nopython code."""

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.core.runtime import _nrt_python
from numba.cpython import tupleobj  # noqa: F401  whose constants are replaced: they must be there before
from numba.extending import NativeValue, box, intrinsic, models, register_model, typeof_impl, unbox

from externref import MovedError, VMExternRef, abi
from externref.numba import _boxing


class VMExternRefType(types.Hashable):
    """The numba type of a VMExternRef, whatever its payload is."""

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


@register_model(types.Generator)
class GeneratorModel(models.GeneratorModel):
    """Numba's own, but that it refuses references: numba frees what a generator holds too early, or never (numba issues
    8800 and 1278). That a program crashes later is too late to hear of it."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type)
        held = [typ for typ in (*fe_type.arg_types, *fe_type.state_types) if not isinstance(typ, types.Omitted)]
        if any(vmexternref in dmm.lookup(typ).traverse_types() for typ in held):
            raise TypingError("a generator cannot hold a VMExternRef: numba counts what generators hold wrongly; "
                              "return a typed.List")


# --- Between Python and nopython code -----------------------------------------------

# Generated code finds these by name: an address would be wrong in code that cache=True
# brings into another process.
_boxing.initialize(_nrt_python.c_helpers["get_api"])
for name, address in {
    **_boxing.SYMBOLS,
    "externref_clone": abi.clone_address,
    "externref_drop": abi.drop_address,
}.items():
    llvmlite.binding.add_symbol(name, address)


def call_c_function(builder, name, *args, result_type=cgutils.voidptr_t):
    """Calls the C function `result_type name(...)`."""
    function_type = ir.FunctionType(result_type, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, args)


def give_to_c_function(name):
    """An intrinsic for nopython code that calls the C function `void name(void *)` with an address, an intp."""
    @intrinsic
    def give(typingctx, address):
        def codegen(context, builder, signature, args):
            call_c_function(builder, name, builder.inttoptr(args[0], cgutils.voidptr_t), result_type=ir.VoidType())
            return context.get_dummy_value()

        return types.void(types.intp), codegen

    return give


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
