# Instances: the memory of one, its place among the store's roots, its imports and its exports.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/runtime.h":
    ctypedef struct Wasm2cImport:
        Wasm2cFuncref function
        void *object


cdef object find_import(imports, Port port):
    """What is given for the import. LinkError if nothing is."""
    try:
        group = imports[port.module]
        if isinstance(group, Instance):
            group = (<Instance>group).exports
        return group[port.name]
    except KeyError:
        raise LinkError(f"{describe_import(port)} is missing") from None


cdef str describe_import(Port port):
    return f"import {port.module}.{port.name} ({port.type.shown(port.type.minimum)})"


cdef object link_error(Port port, reason):
    return LinkError(f"{describe_import(port)}: {reason}")


@cython.final
@cython.trashcan(True)      # as OneItem
@cython.no_gc_clear
cdef class Instance(Owner):
    """An instance of a compiled module; Module.instantiate() makes it.

    It lives as long as something in Python leads to it: itself, an export, an instance that
    imports from it. What only its tables and globals held is dropped with it. One whose imports
    or exports can carry a funcref lives as long as its store, since any table may hold its
    functions.
    """
    cdef Code code
    cdef void *memory           # of the C instance, and the list of its imports
    cdef uint64_t *values       # the widest value's slots for each import: of globals given as plain values
    cdef tuple imports          # what was imported, which compiled code has the addresses of
    cdef bint release_gil       # by its functions
    cdef readonly object exports
    """What it exports by name: an Exports."""
    cdef object __weakref__

    def __cinit__(self, Store store not None, Code code not None, imports, bint release_gil):
        hidden(self)    # until all is there that compiled code will have: imports run other code
        self.store = store
        self.code = code
        self.release_gil = release_gil
        self.begin(imports)

    cdef int begin(self, imports) except -1:
        cdef Store store = self.store
        cdef Code code = self.code
        cdef dict exports = {}
        cdef list found = hidden([])
        cdef Port port
        cdef Trapped trapped
        cdef bint is_full
        cdef int reason
        require_store(store)
        for port in code.imports:
            found.append(find_import(imports, port))
        self.memory = calloc(1, code.module.instance_size)
        self.values = <uint64_t *>calloc(len(found) + 1, FUNCREF_SLOTS * sizeof(uint64_t))
        if self.memory == NULL or self.values == NULL:
            raise MemoryError("no memory for the instance")
        (<Wasm2cState **>(<char *>self.memory + code.module.state_offset))[0] = &store.running.seen
        self.fill_roots()
        self.enter_ring()
        self.imports = self.link_all(tuple(found))
        self.exports = Exports(exports)
        PyObject_GC_Track(<PyObject *>self)     # its exports lead back to it
        if code.carries_funcrefs:
            for thing in self.imports:
                if isinstance(thing, Table):
                    store.pin((<Table>thing).owner)
            store.pin(self)
        reason = self.start(&trapped)
        # If a table or memory could not be had nothing of it has run, but an element segment may have put its functions
        # into a table that it imports: it stays then, empty. Else, though pinned, it must not count for the limits.
        if (reason == WASM2C_NO_MEMORY or reason == WASM2C_TOO_MUCH) and not code.imported[TABLE]:
            store.unpin(self)
        store.require(reason, &trapped)
        self.fill_exports(exports)
        with cython.critical_section(store.activations):
            is_full = store.is_full()
        if is_full:
            store.collect_if_it_can()
        return 0

    cdef int start(self, Trapped *trapped) except -1:
        """Has compiled code make it, and run its start function: 0, or the reason that this was left."""
        cdef Section section
        cdef uint64_t unused = 0
        cdef int reason
        section_begin(&section, <PyObject *>self.store.activations)
        try:
            self.store.check()
            reason = self.store.run(&section, self.code.module.instantiate, NULL, self.memory, &unused,
                                    self.release_gil, trapped)
            if reason == WASM2C_NO_MEMORY or reason == WASM2C_TOO_MUCH:
                self.release()      # before another thread can see it
            return reason
        finally:
            section_end(&section)

    def __dealloc__(self):
        self.leave_ring()
        if self.memory != NULL:
            self.release()
        free(self.memory)
        free(self.values)
        free(self.roots.tables)
        free(self.roots.globals)
        self.collect_rest()

    def __repr__(self):
        return f"<externref.wasm2c.Instance {self.exports!r}>"

    cdef void release(self) noexcept:
        """Its tables and memories are empty from then on."""
        cdef Running *outer = set_running(&self.store.running)
        self.code.module.release(self.memory)
        set_running(outer)

    cdef Wasm2cImport *import_at(self, size_t k) noexcept:
        return <Wasm2cImport *>(<char *>self.memory + self.code.module.imports_offset) + k

    cdef void *item_at(self, int kind, size_t i) except? NULL:
        """The table, memory or global of this index among those of its kind."""
        # As runtime.h has it: tables, then memories, then globals.
        if kind != TABLE:
            i += len(self.code.tables)
        if kind == GLOBAL:
            i += len(self.code.memories)
        return self.code.module.item(self.memory, i)

    cdef int fill_roots(self) except -1:
        """Finds its tables and globals of externrefs."""
        cdef Roots *roots = &self.roots
        cdef Code code = self.code
        cdef size_t i
        roots.tables = <Wasm2cTable **>calloc(len(code.tables) + 1, sizeof(void *))
        # Globals given as plain values are the instance's own: one for each import, at most.
        roots.globals = <void ***>calloc(len(code.globals) + 1, sizeof(void *))
        if roots.tables == NULL or roots.globals == NULL:
            raise MemoryError("no memory for the instance")
        for i in range(<size_t>len(code.imported[TABLE]), <size_t>len(code.tables)):
            if (<ItemType>code.tables[i]).letter == EXTERNREF:
                roots.tables[roots.table_count] = <Wasm2cTable *>self.item_at(TABLE, i)
                roots.table_count += 1
        for i in range(<size_t>len(code.imported[GLOBAL]), <size_t>len(code.globals)):
            if (<ItemType>code.globals[i]).letter == EXTERNREF:
                roots.globals[roots.global_count] = <void **>self.item_at(GLOBAL, i)
                roots.global_count += 1
        roots.instance = <PyObject *>self
        roots.code = <PyObject *>code
        roots.is_pinned = &self.is_pinned
        roots.start = <char *>self.memory
        roots.end = roots.start + code.module.instance_size
        return 0

    cdef tuple link_all(self, tuple found):
        """Fills in the imports; what must be kept alive for them. LinkError if one is not of the type."""
        cdef list linked = hidden([])
        cdef Py_ssize_t k
        for k in range(len(found)):
            linked.append(self.link(k, self.code.imports[k], found[k]))
        return tuple(linked)

    cdef object link(self, size_t k, Port port, thing):
        cdef Wasm2cImport *target = self.import_at(k)
        if isinstance(thing, (Func, Table, Global, Memory)) and store_of(thing) is not self.store:
            raise link_error(port, "it is of another store")
        if port.type.kind == FUNCTION:
            return self.link_function(target, port, thing)
        if port.type.kind == GLOBAL:
            return self.link_global(target, k, port, thing)
        if port.type.kind == TABLE:
            if not isinstance(thing, Table):
                raise link_error(port, f"it is no Table but {type(thing).__name__}")
            if not port.type.takes((<Table>thing).declared, (<Table>thing).size()):
                raise link_error(port, f"it is a {thing.type}")
            target.object = (<Table>thing).table
            return thing
        if not isinstance(thing, Memory):
            raise link_error(port, f"it is no Memory but {type(thing).__name__}")
        if not port.type.takes((<Memory>thing).declared, (<Memory>thing).pages()):
            raise link_error(port, f"it is a {thing.type}")
        target.object = (<Memory>thing).memory
        return thing

    cdef object link_function(self, Wasm2cImport *target, Port port, thing):
        cdef HostFunc function
        if isinstance(thing, Func):
            if not port.type.takes_function((<Func>thing).signature):
                raise link_error(port, f"it is {(<Func>thing).signature.type}")
            target.function = (<Func>thing).ref
            return thing
        if not callable(thing):
            raise link_error(port, f"{type(thing).__name__} is not callable")
        function = HostFunc.__new__(HostFunc)
        function.function = thing
        function.signature = port.type.signature
        function.store = <PyObject *>self.store
        function.name = f"{port.module}.{port.name}"
        target.function.type = function.signature.id
        target.function.code = function.signature.host_code
        target.function.instance = <void *>function
        return function

    cdef object link_global(self, Wasm2cImport *target, size_t k, Port port, thing):
        cdef void *value = self.values + FUNCREF_SLOTS * k
        cdef uint64_t[FUNCREF_SLOTS] slots
        if isinstance(thing, Global):
            if not port.type.takes((<Global>thing).declared, 0):
                raise link_error(port, f"it is {thing.type}")
            target.object = (<Global>thing).address
            return thing
        if port.type.is_mutable:
            raise link_error(port, f"it is no Global but {type(thing).__name__}")
        if port.type.letter == EXTERNREF:
            with cython.critical_section(self.store.activations):
                self.roots.globals[self.roots.global_count] = <void **>value
                self.roots.global_count += 1
        try:
            convert_value(self.store, port.type.letter, thing, slots, "the value")
            write_values(self.store, port.type.letter, slots, &value, 0, 1)
        except (TypeError, OverflowError, ValueError) as error:
            raise link_error(port, error) from error
        target.object = value
        return None

    cdef int fill_exports(self, dict exports) except -1:
        cdef dict made = {}     # one object for an item, under however many names
        cdef Port port
        for port in self.code.exports:
            key = port.type.kind, port.number
            if key not in made:
                made[key] = self.new_export(port)
            exports[port.name] = made[key]
        return 0

    cdef object new_export(self, Port port):
        cdef tuple imported = self.code.imported[port.type.kind]    # where those of the kind are
        cdef Wasm2cFuncref ref
        cdef void *address
        if port.type.kind == FUNCTION:
            ref.type = port.type.signature.id
            ref.code = self.code.module.exports[port.place]
            ref.tail_call = NULL
            ref.instance = self.memory
            return new_func(self.store, self, port.type.signature, ref, port.name)
        if port.number < <size_t>len(imported):
            thing = self.imports[imported[port.number]]
            if thing is not None:
                return thing        # of the type that it has, not of that which is declared here
        address = self.item_at(port.type.kind, port.number)
        if port.type.kind == TABLE:
            return new_table(self.store, self, port.type, address)
        if port.type.kind == MEMORY:
            return new_memory_item(self.store, self, port.type, address)
        return new_global(self.store, self, port.type, address)
