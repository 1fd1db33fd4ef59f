# needs: llvmlite
"""A JIT that clones and drops references by offsets alone, with llvmlite.

A clone is one atomic addition, a drop one atomic subtraction. The slow path of a last drop
is found through the reference's own vtable, so the generated code links to no symbol, and
runs in a process, or a sandbox, that knows nothing of this package.

    python examples/llvmlite_jit.py
"""

import ctypes
import weakref

import llvmlite.binding as llvm
from llvmlite import ir

import externref
from externref import VMExternRef, abi

BYTE, WORD = ir.IntType(8), ir.IntType(8 * ctypes.sizeof(ctypes.c_void_p))
POINTER = BYTE.as_pointer()
DROP_SLOW = ir.FunctionType(ir.VoidType(), [POINTER])


def field(builder, base, offset, type):
    """The address, `offset` bytes after `base`, of a value of the type."""
    return builder.bitcast(builder.gep(base, [WORD(offset)]), type.as_pointer())


def emit_clone(builder, raw):
    """raw becomes owned once more. Relaxed: the count it is made from keeps the block alive."""
    builder.atomic_rmw("add", field(builder, raw, abi.REF_COUNT_OFFSET, WORD), WORD(1), "monotonic")


def emit_drop(builder, raw):
    """One owner of raw goes. Release: what it did to the payload comes before the free."""
    count = field(builder, raw, abi.REF_COUNT_OFFSET, WORD)
    before = builder.atomic_rmw("sub", count, WORD(1), "release")
    with builder.if_then(builder.icmp_unsigned("==", before, WORD(1)), likely=False):
        # Acquire: the free comes after what every other owner did.
        builder.load_atomic(count, "acquire", align=WORD.width // 8)
        vtable = builder.load(field(builder, raw, abi.VTABLE_OFFSET, POINTER))
        drop_slow = builder.load(field(builder, vtable, abi.DROP_SLOW_OFFSET, DROP_SLOW.as_pointer()))
        builder.call(drop_slow, [raw])


def emit_function(module, name, parameters, emit):
    """void name(void *raw, ...): `emit` writes what it does with a `raw` that is not NULL."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    raw = function.args[0]
    with builder.if_then(builder.icmp_unsigned("!=", raw, POINTER(None)), likely=True):
        emit(builder, *function.args)
    builder.ret_void()


def emit_churn(builder, raw, times):
    """for (; times != 0; times--) { clone(raw); drop(raw); }"""
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_unsigned("==", times, WORD(0)), end, loop)
    builder.position_at_end(loop)
    left = builder.phi(WORD)
    left.add_incoming(times, entry)
    emit_clone(builder, raw)
    emit_drop(builder, raw)
    fewer = builder.sub(left, WORD(1))
    left.add_incoming(fewer, builder.block)
    builder.cbranch(builder.icmp_unsigned("==", fewer, WORD(0)), end, loop)
    builder.position_at_end(end)


def make_module():
    module = ir.Module("references")
    emit_function(module, "clone", [POINTER], emit_clone)
    emit_function(module, "drop", [POINTER], emit_drop)
    emit_function(module, "churn", [POINTER, WORD], emit_churn)
    return module


def compile_module(module):
    """The module as machine code, optimized; who holds the engine keeps the code alive."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    undefined = [function.name for function in parsed.functions if function.is_declaration]
    assert undefined == [], undefined       # nothing to link to
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


class Value:
    pass


def main():
    engine = compile_module(make_module())
    clone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("clone"))
    drop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("drop"))
    churn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)(engine.get_function_address("churn"))

    value = Value()
    died = weakref.ref(value)
    ref = VMExternRef(value)
    del value
    with ref.borrow() as raw:
        churn(raw, 1_000_000)
        print("after a million clones and drops:", ref.strong_count - 1, "owner")  # the borrow is another
        clone(raw)
        print("after a clone:                   ", ref.strong_count - 1, "owners")

    ref.drop()
    print("alive, owned by compiled code:   ", died() is not None)
    drop(raw)       # the last: through the vtable into the slow path
    externref.drain()
    print("released by the JIT's last drop: ", died() is None)

    for function in (clone, drop):
        function(None)      # None is the null pointer


if __name__ == "__main__":
    main()
