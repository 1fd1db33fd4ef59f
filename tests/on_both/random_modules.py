"""Random WebAssembly modules over externrefs, with the hosts that run them: descriptions, and their text.

A description is plain data, as JSON has it. Any one of the right shape is a valid module: an index counts modulo
what there is, an operand that lacks is null or 0, statements work on locals and leave no values. So hypothesis may
shrink anything, and a description that was kept stays valid. To shorten what follows, R is a reference, N a number:

    expression of R     null | local i | global g | get t N | reach t N | select R R N | if N R R | call f [R] [N]
    expression of N     const n | local i | is_null R | size t | grow t R n
    statement           set i R | number i N | global g R | put t N R | fill t N R n | copy t t N N n | leave [R] | trap
                        loop n [..] | if N [..] [..] | call f [R] [N] [i] | indirect f N [R] [N] [i] | tail f [R] [N]
    a host's operation  make r | forget r | keep k r | kept r k | permanent r i | wrap r | collect | burst
                        call f [r] [n] [r] refs | try, the same | get r t i refs | set t i r | fill t i r n | grow t n r
                        read r g refs | write g r | fail r kind | switch i

`reach` may be out of bounds, `get` never. A callee f is one of the functions or of the hosts; `indirect` calls the one
that is N places further in a table of them, as if it had the type of f. A host has four registers r, its parameters
first and then new payloads, and shares the slots k with the others; with `refs` it asks for VMExternRefs. From a
`switch` on, the other instance of the module is meant. The program, `main`, is such operations, too.

Every program ends: entering a function and each turn of a loop cost fuel, recursion and calling back ten times as much.
"""

from hypothesis import strategies as st

REGISTERS = 4
FUEL, RECURSION = 60, 10
TYPES = {"R": "externref", "N": "i32"}
SPENT = "global.get $fuel i32.const 0 i32.le_s"
NOTHING = {"R": "ref.null extern", "N": "i32.const 0"}


# --- Strategies

def op(name, *operands):
    return st.tuples(st.just(name), *operands).map(list)


def often(times, name, *operands):
    """For one_of(), which takes the same strategy once only."""
    return [op(name, *operands) for _ in range(times)]


def few(values, most=3):
    return st.lists(values, max_size=most)


index = st.integers(0, 3)
count = st.integers(0, 2)
any_callee = st.integers(0, 9)


def refs(numbers, inner=None):
    """Expressions of R; `inner` are those that may be part of one."""
    leaves = [op("null"), op("local", index), op("local", index), op("global", index), op("get", index, numbers)]
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
mostly_zero = st.one_of(*often(5, "const", st.just(0)), some_numbers)
arguments = (few(some_refs), few(plain_numbers, 1))


def statements(depth):
    choices = [
        op("set", index, some_refs), op("number", index, some_numbers), op("global", index, some_refs),
        op("put", index, plain_numbers, some_refs), op("fill", index, plain_numbers, some_refs, count),
        op("copy", index, index, plain_numbers, plain_numbers, count),
        *often(4, "call", any_callee, *arguments, few(index)),
        op("indirect", any_callee, mostly_zero, *arguments, few(index))]
    if depth:
        inner = few(statements(depth - 1))
        ends = st.one_of(op("leave", few(some_refs)), op("tail", any_callee, *arguments), op("trap"))
        choices += [op("loop", st.integers(1, 3), inner), op("if", some_numbers, inner, inner),
                    op("if", some_numbers, st.lists(ends, max_size=1), inner)]
    return st.one_of(choices)


results = st.text("RN", max_size=3) | st.just("R")
functions = st.fixed_dictionaries({
    "params": st.text("RN", max_size=4), "results": results, "body": st.lists(statements(2), min_size=2, max_size=9),
    "gives": few(some_refs)})


def operations(calls, fails=0):
    call = (any_callee, few(index), few(index, 1), few(index), st.booleans())
    return st.one_of(
        *often(2, "make", index), *often(2, "collect"), *often(calls, "call", *call), op("try", *call), op("burst"),
        op("switch", st.integers(0, 1)),
        op("keep", index, index), op("kept", index, index), op("forget", index), op("permanent", index, index),
        op("wrap", index), op("get", index, index, st.integers(-1, 6), st.booleans()), op("set", index, index, index),
        op("fill", index, index, index, index), op("grow", index, index, index),
        op("read", index, index, st.booleans()), op("write", index, index), *often(fails, "fail", index, index))


hosts = st.fixed_dictionaries({
    "params": st.text("RN", max_size=3), "results": results,
    "script": few(operations(calls=1, fails=1), 6), "gives": few(index)})

programs = st.fixed_dictionaries({
    # How large a table is, and how much it may grow; whether it is exported.
    "tables": st.lists(
        st.tuples(st.integers(3, 6), st.integers(0, 4), st.booleans()).map(list), min_size=1, max_size=3),
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
        self.tables, self.globals = len(program["tables"]), len(program["globals"])
        self.functions, self.own = len(program["functions"]), own
        self.callees = [*program["functions"], *program["hosts"]]
        self.results = self.callees[own]["results"]
        params = self.callees[own]["params"]
        self.locals = {"R": params.count("R") + 3, "N": params.count("N") + 2}
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
                return f"table.size $t{t % self.tables}"
            case "grow", t, ref, n:
                return f"{self.ref(ref)} i32.const {n} table.grow $t{t % self.tables}"
        raise ValueError(expression)

    def ref(self, expression):
        match expression:
            case "null",:
                return NOTHING["R"]
            case "local", i:
                return f"local.get $R{i % self.locals['R']}"
            case "global", g:
                return f"global.get $g{g % self.globals}"
            case "get", t, n:
                return f"{self.place(t, n)} table.get $t{t % self.tables}"
            case "reach", t, n:
                return f"{self.number(n)} table.get $t{t % self.tables}"
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

    def place(self, t, n):
        """An index that is in the table."""
        return f"{self.number(n)} table.size $t{t % self.tables} i32.rem_u"

    def callee(self, f):
        return self.callees[f % len(self.callees)]

    def arguments(self, params, refs, numbers):
        refs, numbers = map(self.ref, refs), map(self.number, numbers)
        return " ".join(next({"R": refs, "N": numbers}[kind], NOTHING[kind]) for kind in params)

    def call(self, f, refs, numbers, instruction="call"):
        f %= len(self.callees)
        cost = spend(RECURSION) if self.own <= f < self.functions else ""
        return f"{self.arguments(self.callee(f)['params'], refs, numbers)} {cost} {instruction} $f{f}"

    def assigned(self, results, places):
        """Takes results from the stack into locals."""
        places = dict(enumerate(places))
        return " ".join(f"local.set ${kind}{places.get(i, i) % self.locals[kind]}"
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
            case "put", t, n, ref:
                return f"{self.place(t, n)} {self.ref(ref)} table.set $t{t % self.tables}"
            case "fill", t, n, ref, count:
                return f"{self.place(t, n)} {self.ref(ref)} i32.const {count} table.fill $t{t % self.tables}"
            case "copy", t, u, to, start, count:
                return (f"{self.place(t, to)} {self.place(u, start)} i32.const {count} "
                        f"table.copy $t{t % self.tables} $t{u % self.tables}")
            case "call", f, refs, numbers, places:
                return f"{self.call(f, refs, numbers)} {self.assigned(self.callee(f)['results'], places)}"
            case "indirect", f, n, refs, numbers, places:
                callee = self.callee(f)
                f %= len(self.callees)
                return (f"{self.arguments(callee['params'], refs, numbers)} i32.const {f} {self.number(n)} "
                        f"i32.add table.size $f i32.rem_u {spend(RECURSION)} call_indirect $f {signature(callee)} "
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
        counts = {"R": 0, "N": 0}
        params = ""
        for kind in described["params"]:
            params += f" (param ${kind}{counts[kind]} {TYPES[kind]})"
            counts[kind] += 1
        own = [f"(local ${kind}{i} {TYPES[kind]})" for kind in "RN" for i in range(counts[kind], self.locals[kind])]
        own += [f"(local $turn{i} i32)" for i in range(self.most_loops)]
        return (f'  (func $f{self.own} (export "f{self.own}"){params} {results_of(described)} {" ".join(own)}\n'
                f"    {SPENT} if {self.given([])} return end {spend(1)}\n    {body}\n    {gives})")


def spend(fuel):
    return f"global.get $fuel i32.const {fuel} i32.sub global.set $fuel"


def results_of(described):
    return " ".join(f"(result {TYPES[kind]})" for kind in described["results"])


def signature(described):
    return " ".join(f"(param {TYPES[kind]})" for kind in described["params"]) + " " + results_of(described)


def named(kind, i, exported):
    return f'(export "{kind}{i}")' if exported else ""


def to_wat(program):
    """The module. Tables and globals that are not exported have functions to look at them: size0, get0, read0."""
    lines = []
    functions = len(program["functions"])
    for i, host in enumerate(program["hosts"]):
        lines.append(f'  (import "host" "h{i}" (func $f{functions + i} {signature(host)}))')
    for i, (size, more, exported) in enumerate(program["tables"]):
        lines.append(f"  (table $t{i} {named('t', i, exported)} {size} {size + more} externref)")
        if not exported:
            lines.append(f'  (func (export "size{i}") (result i32) table.size $t{i})')
            lines.append(f'  (func (export "get{i}") (param i32) (result externref) local.get 0 table.get $t{i})')
    for i, exported in enumerate(program["globals"]):
        lines.append(f"  (global $g{i} {named('g', i, exported)} (mut externref) (ref.null extern))")
        if not exported:
            lines.append(f'  (func (export "read{i}") (result externref) global.get $g{i})')
    lines.append('  (global $fuel (export "fuel") (mut i32) (i32.const 0))')
    lines.append('  (func (export "through") (param externref) (result externref) local.get 0)')
    callees = functions + len(program["hosts"])
    lines.append(f"  (table $f {callees + 1} funcref)")    # the last is null
    lines.append("  (elem (table $f) (i32.const 0) func " + " ".join(f"$f{i}" for i in range(callees)) + ")")
    lines += [Writer(program, i).function() for i in range(functions)]
    return "(module\n" + "\n".join(lines) + ")"
