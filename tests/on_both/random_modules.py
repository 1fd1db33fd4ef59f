"""Random WebAssembly modules over references, with the hosts that run them: descriptions, and their text.

A description is plain data, as JSON has it. Any one of the right shape is a valid module: an index counts modulo
what there is, an operand that lacks is null or 0, statements work on locals and leave no values. So hypothesis may
shrink anything, and a description that was kept stays valid. To shorten what follows, R is an externref, F a funcref,
N a number:

    expression of R     null | local i | global g | constant c | get t N | reach t N | select R R N | if N R R | call f [R] [N]
    expression of F     null | func f | entry t N
    expression of N     const n | local i | is_null R | size t | grow t R n
    statement           set i R | function F | number i N | global g R | put t N R | fill t N R n | copy t t N N n | trap
                        init e t N n n | elem_drop e | loop n [..] | if N [..] [..] | leave [R]
                        call f [R] [N] [i] | indirect t f N [R] [N] [i] | tail f [R] [N]
    a host's operation  make r | forget r | keep k r | kept r k | permanent r i | wrap r | collect | burst | function f
                        call f [r] [n] [r] refs | try, the same | invoke [r] [n] [r] refs | get r t i refs | set t i r
                        fill t i r n | grow t n r | read r g refs | write g r | fail r kind | switch i

`reach` may be out of bounds, `get` never. A callee f is one of the functions or of the hosts. The last table has them
all; `indirect` calls what is N places further there, or what is at N in another table, as if it had the type of f. An
element segment e is `[mode, kind, t, at, items]`: an item is 0, which is null, or a constant or callee, counted from 1.
A constant c is a global that each instance imports. Every function, and all hosts together, have one F at hand: tables
of functions are given it in place of R, it is each argument and result that is an F, and what comes takes its place.
`invoke` calls it.

A host has four registers r, its parameters first and then new payloads, and shares the slots k with the others; with
`refs` it asks for VMExternRefs. From a `switch` on, the other instance of the module is meant. The program, `main`, is
such operations, too.

Every program ends: entering a function and each turn of a loop cost fuel, recursion and calling back ten times as much.
The module counts the INSTRUCTIONS that it comes to, in globals that its instances share, and says which was the last.
"""

import itertools

from hypothesis import strategies as st

REGISTERS = 4
FUEL, RECURSION = 60, 10
TYPES = {"R": "externref", "N": "i32", "F": "funcref"}
# Those that may trap, but for `unreachable`, and what else is to be reached.
INSTRUCTIONS = ["table.get", "table.fill", "table.copy", "table.init", "call_indirect", "elem.drop", "table.grow", "ref.func"]
NUMBERS = ["fuel", "last", *INSTRUCTIONS]
SPENT = "global.get $fuel i32.const 0 i32.le_s"
NOTHING = {"R": "ref.null extern", "N": "i32.const 0", "F": "ref.null func"}


# --- Strategies

def op(name, *operands):
    return st.tuples(st.just(name), *operands).map(list)


def often(times, name, *operands):
    """For one_of(), which takes the same strategy once only."""
    return [op(name, *operands) for _ in range(times)]


def few(values, most=3):
    return st.lists(values, max_size=most)


def mostly(value, *others):
    return st.sampled_from([value] * 6 * len(others) + [*others])


index = st.integers(0, 3)
count = st.integers(0, 2)
any_callee = st.integers(0, 9)


def refs(numbers, inner=None):
    """Expressions of R; `inner` are those that may be part of one."""
    leaves = [op("null"), op("local", index), op("local", index), op("global", index), op("constant", index),
              op("get", index, numbers)]
    if inner is None:
        return st.one_of(leaves)
    return st.one_of(
        *leaves, *often(4, "call", any_callee, few(inner), few(numbers, 1)), op("select", inner, inner, numbers),
        op("if", numbers, inner, inner), op("reach", index, numbers))


plain_numbers = st.one_of(op("const", st.integers(0, 4)), op("local", index))
plain_refs = refs(plain_numbers)
some_numbers = st.one_of(
    plain_numbers, op("is_null", plain_refs), op("size", index), op("grow", index, plain_refs, index))
some_refs = refs(some_numbers, refs(some_numbers, plain_refs))
some_functions = st.one_of(op("null"), *often(4, "func", any_callee), op("entry", index, plain_numbers))
mostly_zero = st.one_of(*often(15, "const", st.just(0)), some_numbers)
arguments = (few(some_refs), few(plain_numbers, 1))


def statements(depth):
    choices = [
        op("set", index, some_refs), op("number", index, some_numbers), op("global", index, some_refs),
        op("put", index, plain_numbers, some_refs), op("fill", index, plain_numbers, some_refs, count),
        op("copy", index, index, plain_numbers, plain_numbers, count), *often(2, "function", some_functions),
        *often(4, "init", index, index, plain_numbers, mostly(0, 1), count), op("elem_drop", index),
        *often(4, "call", any_callee, *arguments, few(index)),
        *often(2, "indirect", index, any_callee, mostly_zero, *arguments, few(index))]
    if depth:
        inner = few(statements(depth - 1))
        ends = st.one_of(op("leave", few(some_refs)), op("tail", any_callee, *arguments), op("trap"))
        choices += [op("loop", st.integers(1, 3), inner), op("if", some_numbers, inner, inner),
                    op("if", some_numbers, st.lists(ends, max_size=1), inner)]
    return st.one_of(choices)


params = st.text("RNF", max_size=4) | st.just("R")
results = st.text("RNF", max_size=3) | st.just("R")
functions = st.fixed_dictionaries({
    "params": params, "results": results, "body": st.lists(statements(2), min_size=2, max_size=9),
    "gives": few(some_refs)})


def operations(calls, fails=0):
    invoke = (few(index), few(index, 1), few(index), st.booleans())
    call = (any_callee, *invoke)
    return st.one_of(
        *often(2, "make", index), *often(3, "collect"), *often(calls, "call", *call), op("try", *call), op("burst"),
        op("switch", st.integers(0, 1)), op("function", any_callee), op("invoke", *invoke),
        op("keep", index, index), op("kept", index, index), op("forget", index), op("permanent", index, index),
        op("wrap", index), op("get", index, index, st.integers(-1, 6), st.booleans()), op("set", index, index, index),
        op("fill", index, index, index, index), op("grow", index, index, index),
        op("read", index, index, st.booleans()), op("write", index, index), *often(fails, "fail", index, index))


hosts = st.fixed_dictionaries({
    "params": params, "results": results,
    "script": few(operations(calls=1, fails=1), 6), "gives": few(index)})

def tables(kind):
    """How large each is, and how much it may grow; whether it is exported."""
    return op(kind, st.integers(3, 6), st.integers(0, 4), st.booleans())


programs = st.fixed_dictionaries({
    "tables": st.builds(lambda first, more: [first, *more], tables("R"), few(tables("R") | tables("F"))),
    "segments": st.lists(st.tuples(
        mostly("passive", "active", "declare"), st.sampled_from("RF"), index, index,
        st.lists(index, min_size=2, max_size=3)).map(list), min_size=1, max_size=4),
    "constants": count,
    "globals": st.lists(st.booleans(), min_size=1, max_size=3),     # whether it is exported
    "functions": st.lists(functions, min_size=1, max_size=4),
    "hosts": st.lists(hosts, min_size=2, max_size=6),
    "main": st.lists(operations(calls=10), min_size=10, max_size=80),
    "release_gil": st.booleans(),
})


# --- Text

class Writer:
    """Writes the expressions and statements of one function, as instructions in their order."""

    def __init__(self, program, own):
        self.tables, self.segments = all_tables(program), program["segments"]
        self.globals, self.constants = len(program["globals"]), program["constants"]
        self.functions, self.own = len(program["functions"]), own
        self.callees = all_callees(program)
        self.results = self.callees[own]["results"]
        params = self.callees[own]["params"]
        self.locals = {"R": params.count("R") + 3, "N": params.count("N") + 2, "F": params.count("F") + 1}
        self.loops = self.most_loops = 0

    def number(self, expression):
        match expression:
            case "const", n:
                return f"i32.const {n}"
            case "local", i:
                return f"local.get $N{i % self.locals['N']}"
            case "is_null", ref:
                return f"{self.ref(ref)} ref.is_null"
            case "size", t:
                return f"table.size {self.table(t)}"
            case "grow", t, ref, n:
                return f"{self.element(t, ref)} i32.const {n} {at('table.grow')} {self.table(t)}"
        raise ValueError(expression)

    def ref(self, expression):
        match expression:
            case "null",:
                return NOTHING["R"]
            case "local", i:
                return f"local.get $R{i % self.locals['R']}"
            case "global", g:
                return f"global.get $g{g % self.globals}"
            case "constant", c:
                return f"global.get {c % self.constants}" if self.constants else NOTHING["R"]
            case "get", t, n:
                table = self.table(t, "R")
                return f"{self.place(table, n)} table.get {table}"
            case "reach", t, n:
                return f"{self.number(n)} {at('table.get')} {self.table(t, 'R')}"
            case "select", one, other, n:
                return f"{self.ref(one)} {self.ref(other)} {self.number(n)} select (result externref)"
            case "if", n, one, other:
                return f"{self.number(n)} if (result externref) {self.ref(one)} else {self.ref(other)} end"
            case "call", f, refs, numbers:
                callee = self.callee(f)
                after = "drop " * len(callee["results"])
                if callee["results"].startswith("R"):
                    return f"{self.call(f, refs, numbers)} {after[5:]}"
                return f"{self.call(f, refs, numbers)} {after}{NOTHING['R']}"
        raise ValueError(expression)

    def function_ref(self, expression):
        match expression:
            case "null",:
                return NOTHING["F"]
            case "func", f:
                return f"{at('ref.func')} $f{f % len(self.callees)}"
            case "entry", t, n:
                table = self.table(t, "F")
                return f"{self.place(table, n)} table.get {table}"
        raise ValueError(expression)

    def table(self, t, kind="RF"):
        """The name of one, of this kind."""
        return table_of(self.tables, t, kind)

    def kind(self, t):
        return self.tables[t % len(self.tables)][0]

    def element(self, t, ref):
        """What may lie in the table."""
        return self.ref(ref) if self.kind(t) == "R" else "local.get $F0"

    def place(self, table, n):
        """An index that is in the table."""
        return f"{self.number(n)} table.size {table} i32.rem_u"

    def callee(self, f):
        return self.callees[f % len(self.callees)]

    def arguments(self, params, refs, numbers):
        given = {"R": map(self.ref, refs), "N": map(self.number, numbers), "F": itertools.repeat("local.get $F0")}
        return " ".join(next(given[kind], NOTHING[kind]) for kind in params)

    def call(self, f, refs, numbers, instruction="call"):
        f %= len(self.callees)
        cost = spend(RECURSION) if self.own <= f < self.functions else ""
        return f"{self.arguments(self.callee(f)['params'], refs, numbers)} {cost} {instruction} $f{f}"

    def assigned(self, results, places):
        """Takes results from the stack into locals."""
        places = dict(enumerate(places))
        return " ".join(f"local.set ${kind}{places.get(i, i) % self.locals[kind] if kind != 'F' else 0}"
                        for i, kind in reversed([*enumerate(results)]))

    def given(self, refs):
        """The function's own results."""
        return self.arguments(self.results, refs, [])

    def statement(self, statement):
        match statement:
            case "set", i, ref:
                return f"{self.ref(ref)} local.set $R{i % self.locals['R']}"
            case "number", i, n:
                return f"{self.number(n)} local.set $N{i % self.locals['N']}"
            case "global", g, ref:
                return f"{self.ref(ref)} global.set $g{g % self.globals}"
            case "function", function:
                return f"{self.function_ref(function)} local.set $F0"
            case "put", t, n, ref:
                table = self.table(t)
                return f"{self.place(table, n)} {self.element(t, ref)} table.set {table}"
            case "fill", t, n, ref, count:
                table = self.table(t)
                return f"{self.place(table, n)} {self.element(t, ref)} i32.const {count} {at('table.fill')} {table}"
            case "copy", t, u, to, start, count:
                table, source = self.table(t), self.table(u, self.kind(t))
                return (f"{self.place(table, to)} {self.place(source, start)} i32.const {count} "
                        f"{at('table.copy')} {table} {source}")
            case "init", e, t, to, start, count if self.segments:
                e %= len(self.segments)
                table = self.table(t, self.segments[e][1])
                return f"{self.place(table, to)} i32.const {start} i32.const {count} {at('table.init')} {table} $e{e}"
            case "elem_drop", e if self.segments:
                return f"{at('elem.drop')} $e{e % len(self.segments)}"
            case ("init" | "elem_drop"), *_:
                return ""
            case "call", f, refs, numbers, places:
                return f"{self.call(f, refs, numbers)} {self.assigned(self.callee(f)['results'], places)}"
            case "indirect", t, f, n, refs, numbers, places:
                callee, table = self.callee(f), self.table(t, "F")
                first = f % len(self.callees) if table == self.table(-1) else 0
                return (f"{self.arguments(callee['params'], refs, numbers)} i32.const {first} {self.number(n)} i32.add "
                        f"{spend(RECURSION)} {at('call_indirect')} {table} {signature(callee)} "
                        f"{self.assigned(callee['results'], places)}")
            case "tail", f, refs, numbers:
                if self.callee(f)["results"] == self.results:
                    return self.call(f, refs, numbers, "return_call")
                return f"{self.given(refs)} return"
            case "leave", refs:
                return f"{self.given(refs)} return"
            case "trap",:
                return "unreachable"
            case "if", n, yes, no:
                return f"{self.number(n)} if {self.block(yes)} else {self.block(no)} end"
            case "loop", n, body:
                return self.loop(n, body)
        raise ValueError(statement)

    def block(self, statements):
        return "\n    ".join(map(self.statement, statements))

    def loop(self, n, body):
        turn = f"$turn{self.loops}"
        self.loops += 1
        self.most_loops = max(self.loops, self.most_loops)
        body = self.block(body)
        self.loops -= 1
        return (f"i32.const 0 local.set {turn} block loop {SPENT} br_if 1 {spend(1)}\n    {body}\n"
                f"    local.get {turn} i32.const 1 i32.add local.tee {turn} i32.const {n} i32.lt_u br_if 0 end end")

    def function(self):
        described = self.callees[self.own]
        body = self.block(described["body"])
        gives = self.given(described["gives"])
        counts = dict.fromkeys(TYPES, 0)
        params = ""
        for kind in described["params"]:
            params += f" (param ${kind}{counts[kind]} {TYPES[kind]})"
            counts[kind] += 1
        own = [f"(local ${kind}{i} {TYPES[kind]})" for kind in TYPES for i in range(counts[kind], self.locals[kind])]
        own += [f"(local $turn{i} i32)" for i in range(self.most_loops)]
        return (f'  (func $f{self.own} (export "f{self.own}"){params} {results_of(described)} {" ".join(own)}\n'
                f"    {SPENT} if {self.given([])} return end {spend(1)}\n    {body}\n    {gives})")


def spend(fuel):
    return f"global.get $fuel i32.const {fuel} i32.sub global.set $fuel"


def at(instruction):
    """The instruction, counted."""
    return (f"global.get ${instruction} i32.const 1 i32.add global.set ${instruction} "
            f"i32.const {INSTRUCTIONS.index(instruction)} global.set $last {instruction}")


def all_callees(program):
    return [*program["functions"], *program["hosts"]]


def all_tables(program):
    """After those of the program the one with all callees, and null."""
    return [*program["tables"], ["F", len(all_callees(program)) + 1, 2, False]]


def table_of(tables, t, kind):
    names = [f"$t{i}" for i, (of, *_) in enumerate(tables) if of in kind]
    return names[t % len(names)]


def segment(program, e):
    mode, kind, t, start, items = program["segments"][e]
    tables, callees, constants = all_tables(program), len(all_callees(program)), program["constants"]
    table = table_of(tables, t, kind)
    # By number: this version of wat2wasm takes no global's name there.
    some = [f"ref.func $f{f}" for f in range(callees)] if kind == "F" else [f"global.get {c}" for c in range(constants)]
    some = some or [NOTHING[kind]]
    values = " ".join(f"({some[(item - 1) % len(some)] if item else NOTHING[kind]})" for item in items)
    place = ""
    if mode == "active":
        _, size, *_ = tables[int(table.removeprefix("$t"))]
        place = f"(table {table}) (i32.const {start % (size - len(items) + 1)})"
    return f"  (elem $e{e} {'declare' if mode == 'declare' else ''} {place} {TYPES[kind]} {values})"


def results_of(described):
    return " ".join(f"(result {TYPES[kind]})" for kind in described["results"])


def signature(described):
    return " ".join(f"(param {TYPES[kind]})" for kind in described["params"]) + " " + results_of(described)


def named(kind, i, exported):
    return f'(export "{kind}{i}")' if exported else ""


def to_wat(program):
    """The module. Tables and globals that are not exported have functions to look at them: size0, get0, read0."""
    lines = [f'  (import "host" "c{i}" (global externref))' for i in range(program["constants"])]
    lines += [f'  (import "host" "{name}" (global ${name} (mut i32)))' for name in NUMBERS]
    functions = len(program["functions"])
    for i, host in enumerate(program["hosts"]):
        lines.append(f'  (import "host" "h{i}" (func $f{functions + i} {signature(host)}))')
    for i in range(program["constants"]):
        lines.append(f'  (func (export "c{i}") (result externref) global.get {i})')
    for i, (kind, size, more, exported) in enumerate(all_tables(program)):
        lines.append(f"  (table $t{i} {named('t', i, exported)} {size} {size + more} {TYPES[kind]})")
        if not exported:
            lines.append(f'  (func (export "size{i}") (result i32) table.size $t{i})')
            lines.append(f'  (func (export "get{i}") (param i32) (result {TYPES[kind]}) local.get 0 table.get $t{i})')
    for i, exported in enumerate(program["globals"]):
        lines.append(f"  (global $g{i} {named('g', i, exported)} (mut externref) (ref.null extern))")
        if not exported:
            lines.append(f'  (func (export "read{i}") (result externref) global.get $g{i})')
    lines.append('  (func (export "through") (param externref) (result externref) local.get 0)')
    callees = " ".join(f"$f{i}" for i in range(len(all_callees(program))))
    lines.append(f"  (elem (table $t{len(program['tables'])}) (i32.const 0) func {callees})")
    lines += [segment(program, e) for e in range(len(program["segments"]))]
    lines += [Writer(program, i).function() for i in range(functions)]
    return "(module\n" + "\n".join(lines) + ")"
