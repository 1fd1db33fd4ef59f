# Functions: Func, whose calls go into compiled code, and HostFunc and func(), whose calls come out of it.
#
# A part of _calls.pyx.

cdef wasmtime_error_t *call(wasmtime_context_t *context, const wasmtime_func_t *func, const Plan *plan,
                            wasmtime_val_raw_t *raws, wasmtime_externref_t *roots,
                            wasm_trap_t **trap) noexcept nogil:
    """The part of a call in which no Python code of ours runs and nothing is allocated."""
    cdef wasmtime_error_t *error
    roots_to_raws(context, plan.params, plan.param_count, raws, roots)
    # SAFETY: put_slot() gave the slots the types of the parameters, and there are as many
    # as the function has parameters or results.
    error = api.func_call_unchecked(context, func, raws, plan.slot_count, trap)
    unroot(roots, plan.param_count)
    if error == NULL and trap[0] == NULL:
        raws_to_roots(context, plan.results, plan.result_count, raws, roots)
    return error


cdef str UNNAMED = "func"   # a Func that is bound, and not known as an export


@cython.final
@cython.no_gc_clear     # so that no method meets a half-cleared object; the store's dict breaks cycles
cdef class Func:
    """A function of a wasmtime.Store, bound by bind(): call it with Python objects.

    f(*args) returns None, the result, or a tuple of several results. f.refs(*args) is the same
    with externref results as VMExternRef.

    Raises TypeError for a wrong number of arguments or one of a wrong type, OverflowError
    for a number that does not fit: each names the argument. ValueError for a closed store or
    a function of another one; RuntimeError if another thread is using the store;
    MovedError for a spent VMExternRef; wasmtime's Trap, WasmtimeError or ExitTrap as the
    function ends; the exception of a host function, unchanged.

    Needs the GIL, and keeps it unless `release_gil` is set.

    Source: wasmtime_func_call_unchecked.
    """
    cdef vectorcallfunc vectorcall      # what call_by_vectorcall() tells CPython of
    cdef StoreState state
    cdef wasmtime_func_t item
    cdef Signature signature            # None until it is asked for: see require_signature()
    cdef public bint release_gil
    """Whether calls let the GIL go while compiled code runs, so that other threads go on. At first as bind() was
    told. Host functions have the GIL."""
    cdef readonly object store
    """The wasmtime.Store."""
    cdef readonly str name
    """The name it is exported under, as Exports tell it; else "func", or "funcref" if it came as a value."""
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    @property
    def type(self):
        """Its FuncType: params and results, tuples of names of value types."""
        self = self     # own it: see _python.pxd
        self.require_signature()
        return self.signature.type

    @property
    def __name__(self):
        return self.name

    __signature__ = FuncSignature()

    cdef object new_signature(self):
        # Parameters by number.
        return signature(self.type, {})

    @property
    def wasmtime_func(self):
        """The wasmtime.Func, for wasmtime-py's own functions."""
        self = self     # own it: see _python.pxd
        return new_wasmtime_func(&self.item)

    def __call__(self, *args):
        self = self     # own it: see _python.pxd
        self.require_signature()
        return self.invoke(items_of(args), len(args), False)

    def refs(self, *args):
        """As a call, but externref results come back as VMExternRef, None for null."""
        self = self     # own it: see _python.pxd
        self.require_signature()
        return self.invoke(items_of(args), len(args), True)

    def __repr__(self):
        return shown_item(self)

    cdef int require_signature(self) except -1:
        """Of a Func that came as a value: to ask takes as long as many calls, and not all are called."""
        cdef Signature signature
        if self.known_signature() is None:
            signature = ask_signature(self.state, &self.item)
            with cython.critical_section(self):
                if self.signature is None:      # as long as it lives: a call has what the plan points to
                    self.signature = signature
                    if not FREE_THREADED:       # else one that reads this need not see that
                        self.vectorcall = func_vectorcall
        return 0

    cdef Signature known_signature(self):
        with cython.critical_section(self):
            return self.signature

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef Slots slots
        cdef Plan *plan = &self.signature.plan
        if nargs != plan.param_count:
            refuse_count(self, nargs)
        self.state.enter()
        of_outer = self.state.exception_of_outer()
        try:
            open_slots(&slots, plan.slot_count)
            if self.state.watch is not None:
                return self.watched(plan, args, slots.raws, slots.roots, as_refs)
            return self.convert_and_call(plan, args, slots.raws, slots.roots, as_refs)
        finally:
            close_slots(&slots)
            if of_outer is not None:
                self.state.exception = of_outer
            self.state.leave()

    cdef object watched(self, const Plan *plan, PyObject *const *args, wasmtime_val_raw_t *raws,
                        wasmtime_externref_t *roots, bint as_refs):
        """convert_and_call(), in an interruptible store."""
        cdef Watch watch = self.state.watch
        try:
            watch.begin()
            return self.convert_and_call(plan, args, raws, roots, as_refs)
        finally:
            watch.end()

    cdef int put_arguments(self, const Plan *plan, PyObject *const *args, wasmtime_val_raw_t *raws,
                           wasmtime_externref_t *roots, bint owned) except -1:
        """owned: whether the arguments outlive what converting one of them runs."""
        cdef int i
        for i in range(plan.param_count):
            if not (owned or i == plan.param_count - 1
                    or (plan.params[i] != FUNCREF and not is_externref(plan.params[i])
                        and (type(<object>args[i]) is int or type(<object>args[i]) is float))):
                return self.put_owned(plan, args, raws, roots)
            put_slot(self.state, plan.params[i], <object>args[i], &raws[i], &roots[i], self, i)
        return 0

    cdef int put_owned(self, const Plan *plan, PyObject *const *args, wasmtime_val_raw_t *raws,
                       wasmtime_externref_t *roots) except -1:
        """put_arguments() of what the caller may let go in the middle: see _python.pxd. So far there were numbers."""
        cdef PyObject **owned = own_all(args, plan.param_count)
        try:
            return self.put_arguments(plan, owned, raws, roots, True)
        finally:
            let_all_go(owned, plan.param_count)

    cdef object convert_and_call(self, const Plan *plan, PyObject *const *args, wasmtime_val_raw_t *raws,
                                 wasmtime_externref_t *roots, bint as_refs):
        cdef wasmtime_context_t *context = self.state.context
        cdef wasmtime_error_t *error
        cdef wasm_trap_t *trap = NULL
        self.put_arguments(plan, args, raws, roots, False)
        # SAFETY: enter() found the store open, and nobody can close it before leave().
        self.state.forget_exception()
        if self.release_gil:
            with nogil:
                error = call(context, &self.item, plan, raws, roots, &trap)
        else:
            error = call(context, &self.item, plan, raws, roots, &trap)
        if error != NULL or trap != NULL:
            raise_failure(self.state, error, trap)
        if plan.result_count == 0:
            return None
        if plan.result_count == 1:
            return get_slot(self.state, plan.results[0], raws, roots, as_refs)
        return get_slots(self.state, plan.results, plan.result_count, raws, roots, as_refs, None)


cdef object first_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    cdef Func function = <Func>self     # as in func_vectorcall()
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    if has_keywords(names):
        return func_vectorcall(self, args, nargsf, names)
    cdef PyObject **ours = own_all(args, count)     # to ask for the signature runs other code
    try:
        function.require_signature()
        return func_vectorcall(self, ours, count, NULL)
    finally:
        let_all_go(ours, count)


call_by_vectorcall(Func, <Py_ssize_t>&(<Func>NULL).vectorcall)


cdef Func bind_func(object store, StoreState state, object item, bint release_gil, str name):
    cdef wasmtime_func_t func
    copy_item(item._func, ffi.wasmtime_func_t, &func, sizeof(wasmtime_func_t))
    require_same_store(state, func.store_id)
    return new_func(store, state, &func, ask_signature(state, &func), release_gil, name)


cdef Signature ask_signature(StoreState state, const wasmtime_func_t *func):
    cdef wasm_functype_t *type_
    state.enter()
    type_ = api.func_type(state.context, func)
    state.leave()
    try:
        return signature_of(type_)
    finally:
        api.functype_delete(type_)


cdef Func bind_again(StoreState state, Func item, bint release_gil):
    """The Func itself, or another that has its own mind about the GIL."""
    require_same_state(state, item.state)
    if item.release_gil == release_gil:
        return item
    return new_func(item.store, state, &item.item, item.known_signature(), release_gil, item.name)


cdef Func new_func(object store, StoreState state, const wasmtime_func_t *item, Signature signature, bint release_gil,
                   str name):
    """signature: None if it is to be asked for."""
    cdef Func self = <Func>make_secretly(Func, MAKER)
    self.item = item[0]
    self.signature = signature
    self.state = state
    self.store = store
    self.release_gil = release_gil
    self.name = name
    self.vectorcall = first_vectorcall if signature is None else func_vectorcall
    return self


cdef object new_wasmtime_func(const wasmtime_func_t *func):
    """wasmtime-py's object for it."""
    return wasmtime.Func._from_raw(copied_out(ffi.wasmtime_func_t, func, sizeof(wasmtime_func_t)))


# --- Host functions -----------------------------------------------------------------

@cython.final
cdef class HostFunc:
    """A Python callable that compiled code calls; the wasmtime store owns it, boxed."""
    cdef StoreState state
    cdef Signature signature
    cdef object callable
    cdef object name            # the callable's
    cdef bint access_caller

    cdef int run(self, wasmtime_val_raw_t *raws, wasmtime_caller_t *pointer) except -1:
        """Converts the parameters, calls, and puts the results in the slots of the parameters."""
        cdef Slots slots
        cdef Plan *plan = &self.signature.plan
        cdef Caller caller = None
        try:
            open_slots(&slots, plan.slot_count)     # for the roots: compiled code has its own raws
            raws_to_roots(self.state.context, plan.params, plan.param_count, raws, slots.roots)
            if self.access_caller:
                caller = new_caller(self.state, pointer)
            args = get_slots(self.state, plan.params, plan.param_count, raws, slots.roots, False, caller)
            unroot(slots.roots, plan.param_count)
            self.convert_results(plan, self.callable(*args), raws, slots.roots)
            args = None     # finalizers may collect, but not once the results are raw
            self.state.forget_exception()       # which runs some, too
            roots_to_raws(self.state.context, plan.results, plan.result_count, raws, slots.roots)
        finally:
            if caller is not None:
                slot_store(<void **>&caller.pointer, NULL)      # somebody may have kept it
            close_slots(&slots)
        return 0

    cdef int convert_results(self, const Plan *plan, object returned, wasmtime_val_raw_t *raws,
                             wasmtime_externref_t *roots) except -1:
        cdef int i
        if plan.result_count == 0:
            return 0        # what it returned is nobody's
        if plan.result_count == 1:
            put_slot(self.state, plan.results[0], returned, raws, roots, self, 0)
            return 0
        returned = results_of(returned, plan.result_count, f"{self.name}()")
        for i in range(plan.result_count):
            put_slot(self.state, plan.results[i], returned[i], &raws[i], &roots[i], self, i)
        return 0


cdef bint returns(HostFunc host, wasmtime_val_raw_t *raws, wasmtime_caller_t *caller) noexcept:
    """Whether the callable returned. If not, or if anything else goes wrong in here, the compiled code ends."""
    # No return from the except clause: see .ci/warnings.
    cdef bint returned = False
    try:
        host.run(raws, caller)
        returned = True
    except BaseException as exception:
        host.state.exception = exception
    return returned


cdef wasm_trap_t *host_callback(
        void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raws, size_t count) noexcept with gil:
    """What compiled code calls: the trampoline of every host function."""
    # SAFETY: env is the box that func() gave to the store, which is alive: it is calling.
    cdef HostFunc host = <HostFunc>object_of(raw_of_record(env))
    cdef StoreState state = host.state
    cdef bint returned
    state.come_out()
    returned = returns(host, raws, caller)
    state.leave()
    return NULL if returned else api.trap_new(HOST_TRAP, HOST_TRAP_LENGTH)


def func(store, functype, callable, /, access_caller=False):
    """A host function in the store: a wasmtime.Func to link, whose calls cost little.

    store: a wasmtime.Store, or a Caller.
    functype: a wasmtime.FuncType of i32, i64, f32, f64, v128, externref and funcref.
    callable: called with one argument for each parameter, by the thread that runs the
        Wasm code, with the GIL. Returns the result, or any iterable of several; what it returns where there
        are none is ignored.
    access_caller: whether the callable gets a Caller before the other arguments, by which it reaches what
        the calling instance exports, its memory above all.

    The store owns the callable until it is closed; a callable that refers to the store keeps it
    alive until then. What the callable raises ends the Wasm code and comes out of the call into
    it, bound or wasmtime-py's own, as it is; so does the TypeError, OverflowError or
    ValueError of a result that does not fit.

    Raises TypeError for other arguments and types, ValueError for a closed store,
    RuntimeError if another thread is using it.

    Source: wasmtime_func_new_unchecked.
    """
    cdef HostFunc host
    cdef StoreState state
    cdef wasmtime_func_t made
    cdef wasm_functype_t *type_address
    functype, callable = functype, callable     # own them: see _python.pxd
    state = state_of(store_of(store))
    if not isinstance(functype, wasmtime.FuncType):
        raise TypeError(f"expected a wasmtime.FuncType, not {type(functype).__name__}")
    if not hasattr(callable, "__call__"):
        raise TypeError(f"expected a callable, not {type(callable).__name__}")
    host = HostFunc.__new__(HostFunc)
    host.state = state
    kind = wasmtime.FuncType
    with cython.critical_section(functype):
        # A copy, which nobody else closes, nor asks: what it is asked for first, it keeps.
        type_address = api.functype_copy(<wasm_functype_t *>open_address(kind, functype))
    try:
        host.signature = signature_of(type_address)
    finally:
        api.functype_delete(type_address)
    host.callable = callable
    host.name = getattr(callable, "__qualname__", type(callable).__name__)
    host.access_caller = access_caller
    # A type that comes from a module belongs to its engine, and aborts in a store of another.
    type_address = host.signature.new_type()
    try:
        state.enter()
        try:
            # SAFETY: the store takes over the hold of the box and ends it when it is deleted.
            api.func_new_unchecked(state.context, type_address, host_callback, new_record(host, False), end_record,
                                   &made)
        finally:
            state.leave()
    finally:
        api.functype_delete(type_address)
    return new_wasmtime_func(&made)
