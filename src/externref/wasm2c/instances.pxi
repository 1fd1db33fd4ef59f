# Instances: the memory of one, its place among the store's roots, its imports and its exports.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/runtime.h":
    ctypedef struct Wasm2cImport:
        Wasm2cFuncref function
        void *object


cdef object find_import(imports, item):
    """What is given for the import. LinkError if nothing is."""
    try:
        group = imports[item.module]
        if isinstance(group, Instance):
            group = (<Instance>group).exports
        return group[item.name]
    except KeyError:
        raise LinkError(f"import {item.module}.{item.name} ({item.type}) is missing") from None


cdef object link_error(item, reason):
    return LinkError(f"import {item.module}.{item.name} ({item.type}): {reason}")


cdef bint fits(given, declared) except -1:
    """Whether the size and maximum are within those that the importing module declares, and addresses as wide."""
    return getattr(given, "is64", False) == getattr(declared, "is64", False) and given.minimum >= declared.minimum and (
        declared.maximum is None or given.maximum is not None and given.maximum <= declared.maximum)


cdef Py_ssize_t imported(interface, kind) except -1:
    """How many of the kind are imported."""
    return interface.imported[KINDS.index(kind)]


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
        cdef object interface = code.interface
        cdef Py_ssize_t functions = 0       # that were linked
        cdef list found = []
        cdef list linked = []
        cdef dict exports = {}
        cdef uint64_t unused = 0
        cdef int reason
        self.store = store
        self.code = code
        self.release_gil = release_gil
        store.check()
        for item in interface.imports:
            found.append(find_import(imports, item))
        self.memory = calloc(1, code.module.instance_size)
        self.values = <uint64_t *>calloc(len(found) + 1, FUNCREF_SLOTS * sizeof(uint64_t))
        if self.memory == NULL or self.values == NULL:
            raise MemoryError("no memory for the instance")
        (<Wasm2cState **>(<char *>self.memory + code.module.state_offset))[0] = &store.running.seen
        self.fill_roots(interface)
        self.enter_ring()
        for k in range(len(found)):
            linked.append(self.link(k, interface.imports[k], found[k], interface.function_types, functions))
            functions += isinstance(interface.imports[k].type, FuncType)
        self.imports = tuple(linked)
        self.exports = Exports(exports)
        if interface.carries_funcrefs:
            for thing in self.imports:
                if isinstance(thing, Table):
                    store.pin((<Table>thing).owner)
            store.pin(self)
        store.check()
        reason = store.run_for_reason(code.module.instantiate, NULL, self.memory, &unused, release_gil)
        if reason == WASM2C_NO_MEMORY or reason == WASM2C_TOO_MUCH:
            self.give_back(interface)
        store.require(reason)
        self.fill_exports(interface, exports)
        store.settle()

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

    cdef int give_back(self, interface) except -1:
        """What it has, when one of its tables or memories could not be had: though pinned, it must not count for the
        store's limits. Nothing of it has run, but an element segment may have put its functions into a table that
        it imports: then it stays, empty."""
        self.release()
        if imported(interface, TableType) == 0:
            self.store.unpin(self)
        return 0

    cdef Wasm2cImport *import_at(self, size_t k) noexcept:
        return <Wasm2cImport *>(<char *>self.memory + self.code.module.imports_offset) + k

    cdef void *item_at(self, interface, kind, size_t i) except? NULL:
        """The table, memory or global of this index among those of its kind."""
        # As runtime.h has it: tables, then memories, then globals.
        if kind is not TableType:
            i += len(interface.tables)
        if kind is GlobalType:
            i += len(interface.memories)
        return self.code.module.item(self.memory, i)

    cdef int fill_roots(self, interface) except -1:
        """Finds its tables and globals of externrefs."""
        cdef Roots *roots = &self.roots
        cdef size_t i
        roots.tables = <Wasm2cTable **>calloc(len(interface.tables) + 1, sizeof(void *))
        # Globals given as plain values are the instance's own: one for each import, at most.
        roots.globals = <void ***>calloc(len(interface.globals) + 1, sizeof(void *))
        if roots.tables == NULL or roots.globals == NULL:
            raise MemoryError("no memory for the instance")
        for i in range(<size_t>imported(interface, TableType), <size_t>len(interface.tables)):
            if interface.tables[i].element == "externref":
                roots.tables[roots.table_count] = <Wasm2cTable *>self.item_at(interface, TableType, i)
                roots.table_count += 1
        for i in range(<size_t>imported(interface, GlobalType), <size_t>len(interface.globals)):
            if interface.globals[i].value == "externref":
                roots.globals[roots.global_count] = <void **>self.item_at(interface, GlobalType, i)
                roots.global_count += 1
        roots.instance = <PyObject *>self
        roots.start = <char *>self.memory
        roots.end = roots.start + self.code.module.instance_size
        return 0

    cdef object link(self, size_t k, item, thing, tuple function_types, Py_ssize_t number):
        """Fills in import k; what must be kept alive for it. LinkError if it is not of the type.

        number: of functions that are imported before.
        """
        cdef Wasm2cImport *target = self.import_at(k)
        if isinstance(thing, (Func, Table, Global, Memory)) and store_of(thing) is not self.store:
            raise link_error(item, "it is of another store")
        if isinstance(item.type, FuncType):
            return self.link_function(target, item, thing, function_types[number])
        if isinstance(item.type, GlobalType):
            return self.link_global(target, k, item, thing)
        if isinstance(item.type, TableType):
            if not isinstance(thing, Table):
                raise link_error(item, f"it is no Table but {type(thing).__name__}")
            if thing.type.element != item.type.element or not fits(thing.type, item.type):
                raise link_error(item, f"it is a {thing.type}")
            target.object = (<Table>thing).table
            return thing
        if not isinstance(thing, Memory):
            raise link_error(item, f"it is no Memory but {type(thing).__name__}")
        if not fits(thing.type, item.type):
            raise link_error(item, f"it is a {thing.type}")
        target.object = (<Memory>thing).memory
        return thing

    cdef object link_function(self, Wasm2cImport *target, item, thing, size_t type_index):
        cdef HostFunc function
        if isinstance(thing, Func):
            if (<Func>thing).signature.type != item.type:
                raise link_error(item, f"it is {(<Func>thing).signature.type}")
            target.function = (<Func>thing).ref
            return thing
        if not callable(thing):
            raise link_error(item, f"{type(thing).__name__} is not callable")
        function = HostFunc.__new__(HostFunc)
        function.function = thing
        function.signature = self.code.signatures[type_index]
        function.store = <PyObject *>self.store
        function.name = f"{item.module}.{item.name}"
        target.function.type = function.signature.id
        target.function.code = function.signature.host_code
        target.function.instance = <void *>function
        return function

    cdef object link_global(self, Wasm2cImport *target, size_t k, item, thing):
        cdef uint64_t *value = self.values + FUNCREF_SLOTS * k
        cdef char letter
        if isinstance(thing, Global):
            if (<Global>thing).type != item.type:
                raise link_error(item, f"it is {(<Global>thing).type}")
            target.object = (<Global>thing).address
            return thing
        if item.type.mutable:
            raise link_error(item, f"it is no Global but {type(thing).__name__}")
        letter = LETTERS[item.type.value]
        try:
            put_value(self.store, letter, thing, value, "the value")
        except (TypeError, OverflowError, ValueError) as error:
            raise link_error(item, error) from error
        if letter == EXTERNREF:
            self.roots.globals[self.roots.global_count] = <void **>value
            self.roots.global_count += 1
        target.object = value
        return None

    cdef int fill_exports(self, interface, dict exports) except -1:
        cdef dict made = {}     # one object for an item, under however many names
        cdef dict order = {number: i for i, number in enumerate(interface.exported_functions)}
        for item in interface.exports:
            key = type(item.type), item.number
            if key not in made:
                made[key] = self.new_export(interface, item, order)
            exports[item.name] = made[key]
        return 0

    cdef object new_export(self, interface, item, dict order):
        """The object for an export. order: of the exported functions, by index."""
        cdef Wasm2cFuncref ref
        cdef Signature signature
        cdef void *address
        if isinstance(item.type, FuncType):
            signature = self.code.signatures[interface.function_types[item.number]]
            ref.type = signature.id
            ref.code = self.code.module.exports[<size_t>order[item.number]]
            ref.tail_call = NULL
            ref.instance = self.memory
            return new_func(self.store, self, signature, ref, item.name)
        if item.number < imported(interface, type(item.type)):
            thing = [given for given, declared in zip(self.imports, interface.imports, strict=True)
                     if isinstance(declared.type, type(item.type))][item.number]
            if thing is not None:
                return thing        # of the type that it has, not of that which is declared here
        address = self.item_at(interface, type(item.type), item.number)
        if isinstance(item.type, TableType):
            return new_table(self.store, self, item.type, address)
        if isinstance(item.type, MemoryType):
            return new_memory_item(self.store, self, item.type, address)
        return new_global(self.store, self, item.type, address)
