"""The C around what wasm2c writes: runtime.h, for one module's types.

For every function type there is a call, from slots to C arguments and back, and a host function,
the reverse. Imports are stubs that call through the instance's list, so that one of another
compiled module is called directly, and one of Python's through its host function. In a table that
an element segment filled, wasm2c 1.0.42 has the address of the pointer to the list for an imported
function, and the pointer itself everywhere else: the list begins with a pointer to itself, so
that a stub finds it either way.
"""

import itertools
import re

from externref.wasm2c.binary import Binary, FuncType, GlobalType, MemoryType, TableType, UnsupportedError

# C type, and the letter that wasm2c has for it in the names of its structs of several results: the
# same that _numbers.pxd has names for.
C_TYPES = {"i32": ("u32", "i"), "i64": ("u64", "j"), "f32": ("f32", "f"), "f64": ("f64", "d"),
           "v128": ("v128", "o"), "funcref": ("wasm_rt_funcref_t", "r"), "externref": ("wasm_rt_externref_t", "e")}
TYPE_CODES = {"i32": "WASM_RT_I32", "i64": "WASM_RT_I64", "f32": "WASM_RT_F32", "f64": "WASM_RT_F64",
              "v128": "WASM_RT_V128", "funcref": "WASM_RT_FUNCREF", "externref": "WASM_RT_EXTERNREF"}

BEFORE = """\
/* A trap names the function in whose code it is: a function has one piece. Clang does not know the flag. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC optimize("no-reorder-blocks-and-partition")
#endif
#include "wasm-rt.h"
#include "runtime.h"
#include "module.h"

/* The header's, with the flag for signalling NaNs, is a call of the C library, in every square root and minimum. */
#include <math.h>
#undef isnan
#define isnan(x) ((x) != (x))

static const Wasm2cHost *host;
"""

# After struct instance, of whose first member wasm2c's code has the address.
CODE = """
#define STATE(module) (((struct instance *)(module))->state)

/* What code does is counted, so that it is asked now and then whether to go on: calls, long operations, and of loops
 * every 1,024th turn in a function, for which a variable costs less than to count in memory. Long functions and long
 * loops weigh more. */
#if INTERRUPTIBLE
#  define TURNS 1024
#  define COUNT_TURNS int32_t turns = TURNS; (void)turns;
#  define TURN(weight) \\
    if (__builtin_expect((turns -= (weight)) < 0, 0)) { turns = TURNS; spend(instance, 1 + (weight) / TURNS); }
#  define SPEND(units) spend(instance, units);
#  define IS_SPENT(state, units) __builtin_expect(((state)->budget -= (units)) < 0, 0)
#else
#  define COUNT_TURNS
#  define TURN(weight)
#  define SPEND(units)
#  define IS_SPENT(state, units) 0
#endif

static WASM_RT_NO_RETURN void trap_in(wasm_rt_trap_t reason, int function)
{
    host->trap(reason, function);
    wasm_rt_unreachable();
}

static inline int go_on(w2c_m *module, const char *frame, int32_t weight)
{
    Wasm2cState *state = STATE(module);
    (void)weight;
    return (__builtin_expect(frame > state->stack_limit, 1) && !IS_SPENT(state, weight)) || host->go_on(state, frame);
}

static inline void spend(w2c_m *module, uint64_t units)
{
    Wasm2cState *state = STATE(module);
    (void)units;
    if (IS_SPENT(state, (int64_t)units)) {
        host->go_on(state, NULL);
    }
}

/* The call depth that wasm2c counts says little of the stack that is left, which Python
 * shares: the stack itself is looked at. */
#define wasm_rt_call_stack_depth ((uint32_t){0})
#undef WASM_RT_MAX_CALL_STACK_DEPTH
#define WASM_RT_MAX_CALL_STACK_DEPTH (go_on(instance, __builtin_frame_address(0), WEIGHT) ? 1 : 0)
void init_references(w2c_m *, u32 segment, wasm_rt_externref_table_t *, u32 size, u64 to, u32 from, u32 count);
#include "module.c"
#undef wasm_rt_call_stack_depth

/* Part of the runtime: the host has memories and tables. */
void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint64_t pages, uint64_t max_pages, bool is64,
                             uint32_t page_size)
{
    host->allocate_memory((Wasm2cMemory *)memory, pages, max_pages, is64, page_size);
}

uint64_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint64_t pages)
{
    return host->grow_memory((Wasm2cMemory *)memory, pages);
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
    host->free_memory((Wasm2cMemory *)memory);
}

#define TABLE(kind) \\
    void wasm_rt_allocate_##kind##_table(wasm_rt_##kind##_table_t *table, uint32_t elements, uint32_t max_elements) \\
    { \\
        host->allocate_table((Wasm2cTable *)table, elements, max_elements, sizeof *table->data); \\
    } \\
    uint32_t wasm_rt_grow_##kind##_table(wasm_rt_##kind##_table_t *table, uint32_t elements, \\
                                         wasm_rt_##kind##_t value) \\
    { \\
        return host->grow_table((Wasm2cTable *)table, elements, &value, sizeof value); \\
    } \\
    void wasm_rt_free_##kind##_table(wasm_rt_##kind##_table_t *table) \\
    { \\
        host->free_table((Wasm2cTable *)table); \\
    }
TABLE(funcref)
TABLE(externref)

void wasm_rt_trap(wasm_rt_trap_t reason)
{
    trap_in(reason, -1);
}

bool wasm_rt_is_initialized(void)
{
    return true;
}

#define SAME(name, condition) typedef char same_##name[(condition) ? 1 : -1]
SAME(exhausted, WASM2C_EXHAUSTED == WASM_RT_TRAP_EXHAUSTION);
SAME(funcref, sizeof(Wasm2cFuncref) == sizeof(wasm_rt_funcref_t));
SAME(funcref_slots, sizeof(wasm_rt_funcref_t) <= FUNCREF_SLOTS * sizeof(uint64_t));
SAME(code, offsetof(Wasm2cFuncref, code) == offsetof(wasm_rt_funcref_t, func));
SAME(instance, offsetof(Wasm2cFuncref, instance) == offsetof(wasm_rt_funcref_t, module_instance));
SAME(table, sizeof(Wasm2cTable) == sizeof(wasm_rt_externref_table_t));
SAME(size, offsetof(Wasm2cTable, size) == offsetof(wasm_rt_externref_table_t, size));
SAME(funcrefs, sizeof(Wasm2cTable) == sizeof(wasm_rt_funcref_table_t));
SAME(funcrefs_size, offsetof(Wasm2cTable, size) == offsetof(wasm_rt_funcref_table_t, size));
SAME(memory, sizeof(Wasm2cMemory) == sizeof(wasm_rt_memory_t));
SAME(memory_size, offsetof(Wasm2cMemory, size) == offsetof(wasm_rt_memory_t, size));
SAME(memory_page, offsetof(Wasm2cMemory, page_size) == offsetof(wasm_rt_memory_t, page_size));
SAME(memory_is64, offsetof(Wasm2cMemory, is64) == offsetof(wasm_rt_memory_t, is64));

#define SLOT(letter, type) \\
    static inline type get_##letter(const uint64_t *slot) { type v; memcpy(&v, slot, sizeof v); return v; } \\
    static inline void put_##letter(uint64_t *slot, type v) { memcpy(slot, &v, sizeof v); }
SLOT(i, u32)
SLOT(j, u64)
SLOT(f, f32)
SLOT(d, f64)
SLOT(r, wasm_rt_funcref_t)
SLOT(e, wasm_rt_externref_t)
"""

# wasm2c has the type only where the module's code uses it.
V128 = """
#include <simde/wasm/simd128.h>
typedef simde_v128_t v128;
SLOT(o, v128)
"""

AFTER = """
static const Wasm2cModule description = {
    WASM2C_GLUE_VERSION, sizeof(struct instance), offsetof(struct instance, imports.imports),
    offsetof(struct instance, state), FUNCTION_COUNT, functions, TYPE_COUNT, types, exports, item, instantiate, release,
};

__attribute__((visibility("default")))
const Wasm2cModule *externref_wasm2c_module(const Wasm2cHost *the_host)
{
    host = the_host;
    set_type_ids();
    return &description;
}
"""


SLOTS = {"funcref": 4, "v128": 2}   # others take one; FUNCREF_SLOTS is runtime.h's


def slots_of(value: str) -> int:
    """How many slots a value takes."""
    return SLOTS.get(value, 1)


def has_v128(binary: Binary) -> bool:
    """Whether a value of the type can come in or go out."""
    return (any("v128" in type_.params + type_.results for type_ in binary.types)
            or any(item.value == "v128" for item in binary.globals))


def result_type(type_: FuncType) -> str:
    """The C result type of a function."""
    if not type_.results:
        return "void"
    if len(type_.results) == 1:
        return C_TYPES[type_.results[0]][0]
    return "struct wasm_multi_" + "".join(C_TYPES[value][1] for value in type_.results)


def members(values: tuple[str, ...]) -> list[tuple[str, str, int]]:
    """For each value: its letter, the name of its member in wasm2c's struct, its first slot."""
    result, slot = [], 0
    for i, value in enumerate(values):
        letter = C_TYPES[value][1]
        result.append((letter, f"{letter}{i}", slot))
        slot += slots_of(value)
    return result


def multi_struct(type_: FuncType) -> str:
    """The struct of several results, unless the module has it already."""
    if len(type_.results) < 2:
        return ""
    name = result_type(type_).removeprefix("struct ")
    fields = " ".join(f"{C_TYPES[value][0]} {C_TYPES[value][1]}{i};" for i, value in enumerate(type_.results))
    return f"#ifndef {name}\n#define {name} {name}\nstruct {name} {{ {fields} }};\n#endif\n"


def signature(type_: FuncType, instance: str = "void *") -> str:
    return ", ".join([instance, *(C_TYPES[value][0] for value in type_.params)])


def parameters(type_: FuncType, instance: str) -> str:
    return ", ".join([instance, *(f"{C_TYPES[value][0]} a{i}" for i, value in enumerate(type_.params))])


def call_glue(k: int, type_: FuncType) -> str:
    """call_k of function type k: what Python calls."""
    arguments = ", ".join(["instance", *(f"get_{letter}(slots + {slot})" for letter, _, slot in members(type_.params))])
    call = f"(({result_type(type_)} (*)({signature(type_)}))code)({arguments});"
    results = members(type_.results)
    if results:
        call = f"{result_type(type_)} result = {call}"
    give = " ".join(f"put_{letter}(slots + {slot}, result{f'.{member}' if len(results) > 1 else ''});"
                    for letter, member, slot in results)
    return f"""
{multi_struct(type_)}static void call_{k}(void (*code)(void), void *instance, uint64_t *slots)
{{
    {call}
    {give}
}}
"""


def host_glue(k: int, type_: FuncType) -> str:
    """host_k of function type k: what compiled code calls for a function of Python's."""
    results = members(type_.results)
    size = max(1, sum(map(slots_of, type_.params)), sum(map(slots_of, type_.results)))
    pack = " ".join(f"put_{letter}(slots + {slot}, a{i});" for i, (letter, _, slot) in enumerate(members(type_.params)))
    if len(results) > 1:
        take = " ".join(f"result.{member} = get_{letter}(slots + {slot});" for letter, member, slot in results)
        take = f"{result_type(type_)} result; {take} return result;"
    else:
        take = "".join(f"return get_{letter}(slots);" for letter, _, _ in results)
    return f"""
static {result_type(type_)} host_{k}({parameters(type_, 'void *function')})
{{
    uint64_t slots[{size}];
    {pack}
    if (host->call_host(function, slots) != 0) {{
        host->leave(WASM2C_RAISED);
    }}
    {take}
}}
"""


def import_glue(k: int, item: object) -> str:
    """What wasm2c's C calls for import k."""
    if isinstance(item, FuncType):
        result = result_type(item)
        arguments = ", ".join(["f->instance", *(f"a{i}" for i in range(len(item.params)))])
        give = "return " if item.results else ""
        return (f"{result} w2c_i_{k}({parameters(item, 'struct w2c_i *i')})\n{{\n"
                f"    const Wasm2cFuncref *f = &i->self->imports[{k}].function;\n"
                f"    {give}(({result} (*)({signature(item)}))f->code)({arguments});\n}}\n")
    if isinstance(item, GlobalType):
        c_type = C_TYPES[item.value][0]
    elif isinstance(item, TableType):
        c_type = f"wasm_rt_{item.element}_table_t"
    else:
        c_type = "wasm_rt_memory_t"
    return f"{c_type} *w2c_i_{k}(struct w2c_i *i)\n{{\n    return i->imports[{k}].object;\n}}\n"


def item_glue(binary: Binary) -> str:
    """item(): the addresses of tables, memories and globals."""
    cases = []
    for letter, kind, items in (("t", TableType, binary.tables), ("m", MemoryType, binary.memories),
                                ("g", GlobalType, binary.globals)):
        imports = [k for k, item in enumerate(binary.imports) if isinstance(item.type, kind)]
        cases += [f"instance->imports.imports[{k}].object" for k in imports]
        cases += [f"w2c_m_x{letter}{i}(&instance->module)" for i in range(len(imports), len(items))]
    lines = "".join(f"    case {i}: return (void *){case};\n" for i, case in enumerate(cases))
    return f"""
static void *item(void *address, size_t i)
{{
    struct instance *instance = address;
    (void)instance;
    switch (i) {{
{lines}    default: return NULL;
    }}
}}
"""


def mended(code: str, binary: Binary) -> str:
    """What wasm2c wrote of the binary, with what CODE counts by, and its element segments and tail calls mended.

    No text of the module's is in the code, so each pattern is wasm2c's own.
    """
    code = code.replace(TRAP, TRAP_IN_FUNCTION).replace(SIMD, SIMD + RIGHT_SIMD)
    # What takes a nanosecond for 16 bytes.
    code = re.sub(LONG_OPERATION, r"\1SPEND(((uint64_t)\3 >> 4)) \2", code, flags=re.MULTILINE)
    if has_references(binary):
        code = mended_elements(code, binary)
    return "".join(map(mended_function, re.split(r"(?<=^}\n)", code, flags=re.MULTILINE)))


# A function's definition, with its index. FUNCTION is the one in whose text a macro stands, even where the compiler
# puts it into another; the functions that access memories and tables know none.
DEFINITION = r"^(\w.*\b(?:wasm_tailcall_)?w2c_m_x?f(\d+)(?:_0)?\([^;{]*\{\n)"
LINES_OF_A_CALL = 256   # as long as a call and they take, at most
LINES_OF_A_TURN = 16
ACCESS = r"_(?:load|store|table_[gs]et)"    # each may miss every cache, which takes as long as a turn's lines


def mended_function(function: str) -> str:
    """The text up to the end of a function, if one of the module's is in it."""
    definition = re.search(DEFINITION, function, re.MULTILINE)
    if definition is None:
        return function
    head, body = function[:definition.end()], function[definition.end():]
    weight = 1 + body.count("\n") // LINES_OF_A_CALL
    body = body.replace("  FUNC_PROLOGUE;\n", "  FUNC_PROLOGUE;\n  COUNT_TURNS\n")
    if "tail_call_stack" in function:
        body = mended_tail_calls(body, is_second="wasm_tailcall_w2c_m_" in definition[1])
    return f"{head}  enum {{ FUNCTION = {definition[2]}, WEIGHT = {weight} }};\n{counted_loops(body)}"


def counted_loops(body: str) -> str:
    """A function's body, where each loop counts its turns, by its length."""
    if "var_L" not in body:
        return body
    lines = body.split("\n")
    accesses = [0, *itertools.accumulate(len(re.findall(ACCESS, line)) for line in lines)]
    ends = {label: i for i, line in enumerate(lines) if "goto var_L" in line
            for label in re.findall(r"goto (var_L\d+);", line)}
    for i, line in enumerate(lines):
        label = re.match(r" *(var_L\d+): $", line)
        if label is not None:
            end = ends.get(label[1], i)
            lines[i] += f"TURN({1 + (end - i) // LINES_OF_A_TURN + accesses[end] - accesses[i]})"
    return "\n".join(lines)


def has_references(binary: Binary) -> bool:
    """Whether an element segment has a reference that is not null."""
    return any(value is not None for segment in binary.elements for value in segment.values)


# The segment's number is there where it can have been dropped; what makes the instance has no other.
SEGMENT_INIT = r"externref_table_init\((.*, \(instance->elem_segment_dropped_w2c_m_e(\d+) \? .*)\);$"
ACTIVE_INIT = r"externref_table_init\((.*, \d+, .*, 0, \d+)\);$"


def mended_elements(code: str, binary: Binary) -> str:
    """The code with element segments of externrefs that init_references() reads: wasm2c has null for all they have."""
    active = [number for number, segment in enumerate(binary.elements)
              if segment.active and segment.element == "externref"]
    code, _ = re.subn(SEGMENT_INIT, r"init_references(instance, \2, \1);", code, flags=re.MULTILINE)
    numbers = iter(active)
    code, count = re.subn(ACTIVE_INIT, lambda match: f"init_references(instance, {next(numbers, None)}, {match[1]});",
                          code, flags=re.MULTILINE)
    if count != len(active):
        raise UnsupportedError("this version of wasm2c writes element segments that are not known to be right")
    return code


def elements_glue(binary: Binary) -> str:
    """init_references(): the globals that element segments of externrefs name."""
    first = len(binary.tables) + len(binary.memories)       # of the globals among the items
    items = [", ".join(str(-1 if value is None else first + value) for value in segment.values)
             for segment in binary.elements]
    arrays = [f"(const int32_t[]){{ {item} }}" if item else "NULL" for item in items]
    return f"""
static void *item(void *, size_t);
static const int32_t *const segments[] = {{ {", ".join(arrays)} }};

void init_references(w2c_m *instance, u32 segment, wasm_rt_externref_table_t *table, u32 size, u64 to, u32 from,
                     u32 count)
{{
    u32 i;
    externref_table_init(table, size, to, from, count); /* or it traps */
    for (i = 0; i < count; i++) {{
        const int32_t global = segments[segment][from + i];
        if (global >= 0) {{
            table->data[to + i] = *(wasm_rt_externref_t *)item(instance, (size_t)global);
        }}
    }}
}}
"""


TRAP = "#define TRAP(x) (wasm_rt_trap(WASM_RT_TRAP_##x), 0)\n"
TRAP_IN_FUNCTION = "enum { FUNCTION = -1 };\n#define TRAP(x) (trap_in(WASM_RT_TRAP_##x, FUNCTION), 0)\n"
SIMD = "#include <simde/wasm/simd128.h>\n"
# Two operations that are wrong in the version of simde that wabt 1.0.42 has: the first compares numbers of 64 bits as
# floats on x86-64, the second gives 0x80000000 for numbers of 2**31 and more.
RIGHT_SIMD = """
static inline simde_bool all_true_i64x2(simde_v128_t a)
{
    uint64_t lanes[2];
    memcpy(lanes, &a, sizeof a);
    return lanes[0] != 0 && lanes[1] != 0;
}
#define simde_wasm_i64x2_all_true all_true_i64x2

static inline simde_v128_t trunc_sat_u32x4(simde_v128_t a)
{
    float from[4];
    uint32_t to[4];
    int i;
    memcpy(from, &a, sizeof a);
    for (i = 0; i < 4; i++) {
        to[i] = from[i] > 0 ? from[i] < 4294967296.0f ? (uint32_t)from[i] : UINT32_MAX : 0;
    }
    memcpy(&a, to, sizeof a);
    return a;
}
#define simde_wasm_u32x4_trunc_sat_f32x4 trunc_sat_u32x4
"""
TRAMPOLINE = (r"(while \(next->fn\) \{.*\}\n)"
              r"( *\}| *\{\n *[\w ]+ tmp;\n *wasm_rt_memcpy\(&tmp, tail_call_stack, sizeof\(tmp\)\);\n)")
WITHOUT_TAIL = (r"(func_tailcallee\.fn\) \{\n *)"
                r"(CALL_INDIRECT|(var_\w+) = CALL_INDIRECT|\{\n *struct \w+ tmp = CALL_INDIRECT)(.*;\n)")
LONG_OPERATION = (r"^( *)((?:memory|funcref_table|externref_table)_(?:fill|copy|init)"
                  r"\(.*\b(var_[ij]\d+)(?:, instance)?\);)$")


# Of a second function's locals: the type of the first, then all of what is on the operand stack, then the names.
LOCALS = r"^  (\w+)   ((?:\w+ var_[^;]*;\n +)*\w+ var_[^;]*;\n)(var_l)"


def mended_tail_calls(body: str, is_second: bool) -> str:
    """The body of a function of wasm2c 1.0.42 with its tail calls right.

    wasm2c has for each function that makes tail calls a second one, called by a loop in who calls it (the
    trampoline): it finds arguments, and leaves results, in an array. Mended is:
     - the instance, which a trampoline for a direct call did not set;
     - results that a trampoline left in the wrong variables, if there were other values below the arguments, and
       that an indirect call of a function without a second one left nowhere;
     - the look at the stack that second functions did not take, and the declarations of their locals.
    """
    body = body.replace("void *instance_ptr_storage;", "void *instance_ptr_storage = instance;")
    body = body.replace("  w2c_m* instance = *instance_ptr;\n",
                        "  w2c_m* instance = *instance_ptr;\n  FUNC_PROLOGUE;\n  COUNT_TURNS\n")
    body = re.sub(LOCALS, r"  \2  \1 \3", body, flags=re.MULTILINE)

    def after_loop(match: re.Match[str]) -> str:
        return match[0] if match[2].strip() == "}" else f"{match[0]} return tmp;\n"

    def after_call(match: re.Match[str]) -> str:
        if match[2] == "CALL_INDIRECT":
            return match[0]
        result = match[3] or "tmp"
        leave = f"wasm_rt_memcpy(tail_call_stack, &{result}, sizeof({result}));" if is_second else f"return {result};"
        return f"{match[0]}{leave}\n"

    body, loops = re.subn(TRAMPOLINE, after_loop, body)
    body, calls = re.subn(WITHOUT_TAIL, after_call, body)
    if loops != body.count("while (next->fn)") or calls != body.count("func_tailcallee.fn) {"):
        raise UnsupportedError("this version of wasm2c writes tail calls that are not known to be right")
    return body


def own_code(binary: Binary, code: str) -> list[str]:
    """The Wasm2cFunction of each function of the module's own, and of the second that tail calls have for it."""
    imported, exported = binary.imported(FuncType), set(binary.exported_functions())
    names = {i: f"w2c_m_xf{i}_0" if i in exported else f"w2c_m_f{i}"
             for i in range(imported, len(binary.function_types))}
    second = set(re.findall(r"^(?:static )?void (wasm_tailcall_w2c_m_x?f\d+(?:_0)?)\(", code, re.MULTILINE))
    return [f"{{(void (*)(void)){prefix}{name}, {i}}}" for i, name in names.items()
            for prefix in ("", "wasm_tailcall_") if not prefix or prefix + name in second]


def glue(binary: Binary, code: str) -> str:
    """The C of the shared library, which includes module.c, the mended code that wasm2c wrote of binary.renamed()."""
    # An exported function's own code; that of an import is called through its instance.
    imported = binary.imported(FuncType)
    exports = [f"w2c_m_xf{item.number}" + ("" if item.number < imported else "_0")
               for item in binary.exports if isinstance(item.type, FuncType)]
    functions = own_code(binary, code)
    imported_types = set(binary.function_types[:imported])
    types = [f"{{NULL, call_{k}, {f'(void (*)(void))host_{k}' if k in imported_types else 'NULL'}}}"
             for k in range(len(binary.types))]
    set_ids = "".join(
        "    types[{}].id = wasm2c_m_get_func_type({});\n".format(
            k, ", ".join([str(len(type_.params)), str(len(type_.results)),
                          *(TYPE_CODES[value] for value in type_.params + type_.results)]))
        for k, type_ in enumerate(binary.types))
    return "\n".join([
        BEFORE,
        # An array without elements is no C: there is one more.
        f"struct w2c_i {{ struct w2c_i *self; Wasm2cImport imports[{len(binary.imports) + 1}]; }};",
        "struct instance { w2c_m module; struct w2c_i imports; Wasm2cState *state; };",
        CODE,
        V128 if has_v128(binary) else "",
        elements_glue(binary) if has_references(binary) else "",
        *(call_glue(k, type_) for k, type_ in enumerate(binary.types)),
        *(host_glue(k, binary.types[k]) for k in sorted(imported_types)),
        *(import_glue(k, item.type) for k, item in enumerate(binary.imports)),
        f"#define TYPE_COUNT {len(types)}",
        f"static Wasm2cFunctionType types[] = {{ {', '.join([*types, '{NULL, NULL, NULL}'])} }};",
        f"static void set_type_ids(void)\n{{\n{set_ids}}}",
        f"#define FUNCTION_COUNT {len(functions)}",
        f"static const Wasm2cFunction functions[] = {{ {', '.join([*functions, '{NULL, 0}'])} }};",
        "static void (*const exports[])(void) = {{ {} }};".format(
            ", ".join([*(f"(void (*)(void)){export}" for export in exports), "NULL"])),
        item_glue(binary),
        "static void instantiate(void (*code)(void), void *address, uint64_t *slots)\n{\n"
        "    struct instance *instance = address;\n    (void)code;\n    (void)slots;\n"
        f"    instance->imports.self = &instance->imports;\n"
        f"    wasm2c_m_instantiate(&instance->module{', &instance->imports' if binary.imports else ''});\n}}",
        "static void release(void *address)\n{\n    wasm2c_m_free(&((struct instance *)address)->module);\n}",
        AFTER,
    ])
