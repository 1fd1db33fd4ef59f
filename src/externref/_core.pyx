# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""VMExternRef: a reference-counted box for Python objects in compiled code.

A ``VMExternRef`` is one machine word that owns an object for code that cannot know what
the object is: WebAssembly turned into machine code, a JIT, plain C. Such code copies and
drops it by changing one integer, on any thread, without the GIL. It is morally Rust's
``Rc``, except that the count must not be opaque: compiled code changes it too.

Rooms
-----
A wrapper's one field is the address of a footer, preceded by the payload, in one allocation;
``externref.h`` has the layout, and a drawing of it. This file is what Python sees: VMExternRef, Borrow and
the functions. What they stand on is in the folder ``_core``::

    block.pxi       making, counting and freeing blocks
    drain.pxi       draining what compiled code dropped: by whom, and at forks and exit
    wrapper.pxi     VMExternRef's slots, and the dead that are kept for the next reference
    raw.pxi         raw pointers out and in: every check of from_raw()
    pointers.pxi    pointers of ctypes and cffi, and what ctypes passes for a reference
    capi.pxi        the functions behind externref_api.h, and those for the package's own adapters
    track.pxi       what externref.debug notes; track.h: what it knows, and the freed blocks that it keeps
    pending.h       the list of what compiled code dropped: lock-free, any thread
    helper.h        the thread that sees to it that the list is drained soon
    slab.h          memory for the blocks of Python payloads
    wrapper.h       memory for wrappers
    dropped.h       what comes of a block whose count compiled code took to zero
    native.h        native payloads that are made, and dropped, without the GIL
    registry.h      the set of addresses that were handed out
    live.h          the counts of stats()
    locks.h         what guards all that, with a GIL and without
    atomics.h, memory.h     the host's atomics; aligned memory

Ownership
---------
``ref_count`` counts every owner, ``handles`` (in the host word) those of the package: live wrappers, and
*holds*, bare counts that it keeps for somebody. Each handle has one count and one Python reference on
the payload; raw owners together have one Python reference, and only while there is no handle::

    Python references held through the block == max(handles, 1)
    raw owners                               == ref_count - handles

    call                                    ref_count  handles  Python references
    VMExternRef(x), new(x), new_with(f)     1          1        +1
    clone(), copy.copy                      +1         +1       +1
    handle dropped, other handles live      -1         -1       -1
    last handle dropped, raw owners live    -1         0        kept, now theirs
    last owner dropped                      0, freed   0        -1
    into_raw()                              same       -1       -1, or kept if it was the last handle
    from_raw(p)                             same       +1       +1, or taken over if it is the first handle
    clone_from_raw(p)                       +1         +1       as from_raw
    compiled clone, compiled drop           +1, -1     same     none
    compiled drop to zero                   0, freed when drained  0  -1 then
    a hold                                  +1         +1       +1
    an object boxed for a call              1          1        +1
    moved argument, as the callee gets it   same       -1       as into_raw
    try_insert, insert_without_gc           same       same     same
    what compiled code put into a table     same       +1       as from_raw, when the table adopts it

Who owns a count is a handle or a raw owner, and from_raw() takes raw owners' alone. A hold *lends* if its
pointer can be seen by code that counts, so that nobody takes the block for private meanwhile::

    owner                                                  handle   lends
    a wrapper                                              yes      as_raw(): for good
    an argument lent (Function's r, ctypes)                yes      yes
    an open borrow()                                       yes      yes
    an argument to be moved, before the callee has it      yes      no
    a result, while Python's object for it is made         yes      no
    an entry of an activations table that Python made      yes      yes
    an entry of a wasm2c store's table                     yes      no
    what a wasmtime store was given                        yes      no
    a reference in numba's nopython code                   yes      yes
    what was moved out to compiled code, or cloned by it   no
    a result of a call without the GIL, until it is back   no
    what compiled code put into a table, until adopted     no

Safe points
-----------
Arbitrary code runs at a drain, at the allocation of a collected object, at the release of a payload, in
the conversion of arguments, and wherever the GIL changes hands. All of these are at the start of an
operation, before it looks at a block, or at its very end; what must be looked at before is counted first.

Counting
--------
Compiled code may change ``ref_count`` at any time while it owns a count or was lent the
pointer, so the host changes it atomically then. Where it can do neither (``is_private``),
the GIL alone guards the count and no locked instruction is needed.

Threads and the GIL
-------------------
Everything here needs the GIL, except what compiled code may call: the clone and drop of
``externref.h`` and the slow path they reach. A last drop by compiled code only links the
block into a list (``_core/pending.h``); the drain frees it under the GIL: from a pending call
on the main thread, on the helper thread if that does not come to it (``_core/helper.h``), at the package's next
operation, by ``drain()``, or at exit. It begins within 50 ms during which the GIL can be had. A thread that drains does
not drain again, in a finalizer: its loop comes to what was added meanwhile. A native payload of a type that needs
no GIL is dropped and freed by the slow path itself (``_core/native.h``), unless Python knows the block's address.

On a CPython without a GIL *the GIL* above is an attached thread state, and what it guarded the locks of
``_core/locks.h`` guard: docs/architecture.md says which. *Nothing runs* means there that the thread itself runs
nothing else; other threads do at any time, so what has to stay true across it is held.

Cycles
------
A wrapper visits its payload for the cycle collector only while the block is private: a raw owner, or a
pointer lent, keeps the payload alive for reasons the collector cannot see. A wasm2c store's table does the
same for its entries. With n handles that visit and nobody else there are n references to the payload, each
visited once, so the collector's sum comes out right; a hold that does not visit keeps it alive. A private
block stays private while a collection looks at it, since nobody without the GIL has its pointer.
"""

cimport cython
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject, Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport UINT32_MAX, uint32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcmp, strlen

from externref._numbers cimport fits_address, no_address
from externref._python cimport (
    Py_DECREF, Py_INCREF, Py_XDECREF, PyErr_Occurred, PyTuple_GET_SIZE, PyType_Modified, PyVectorcall_NARGS, TypeSlots,
    call_in_trashcan, descrgetfunc, get_from, has_keywords, hidden, let_others_run, make_collected, own_reference,
    require_first_run, reraise, richcmpfunc, visitproc)

require_first_run()

import _thread
import atexit
import gc
import os
import sys


class MovedError(ReferenceError):
    """A VMExternRef was used after into_raw() moved it out or drop() gave it up."""

    __module__ = "externref"


class InvalidRawPointerError(ValueError):
    """An integer given as a raw pointer is not one that may be used so now."""

    __module__ = "externref"


# In C: finalizers may run at exit, when the module's names are gone.
cdef object moved_error = MovedError
cdef object invalid_raw_pointer_error = InvalidRawPointerError


include "_core/tuples.pxi"
include "_core/block.pxi"
include "_core/drain.pxi"
include "_core/wrapper.pxi"
include "_core/pointers.pxi"
include "_core/raw.pxi"


# --- VMExternRef --------------------------------------------------------------------

cdef int require_ref(object value) except -1:
    if not isinstance(value, VMExternRef):
        raise TypeError(f"expected a VMExternRef or None, not {type(value).__name__}")
    return 0


@cython.trashcan(True)      # a chain of open ones can be long
@cython.no_gc_clear         # so that no method meets one without its wrapper, which breaks any cycle
@cython.final
cdef class Borrow:
    """The with block of VMExternRef.borrow().

    It holds the block while it is open, so that nothing that happens to the wrapper meanwhile can leave
    the pointer dangling.
    """
    cdef VMExternRef ref        # the wrapper to lend from; stays the same
    cdef void *held             # a hold that lends; NULL unless open; atomic

    def __cinit__(self, VMExternRef ref not None, /):
        self.ref = ref

    def __enter__(self):
        cdef void *raw
        cdef object ptr         # declared, or Cython would take it for a C integer, and make the int last
        self = self             # own it: see _python.pxd
        drain_if_any()
        if atomic_pointer_load(&self.held) != NULL:
            self.refuse_open()
        ptr = <uintptr_t>data_of(self.ref)
        raw = hold_registered(self.ref, True)
        # Another thread may have opened it meanwhile.
        if not atomic_pointer_replace(&self.held, NULL, raw):
            end_hold(raw, True)     # not reached: without a GIL alone
            self.refuse_open()      # not reached: the same
        return ptr

    cdef int refuse_open(self) except -1:
        raise RuntimeError("this borrow is open already; each with block takes a borrow() of its own")

    def __exit__(self, *exc_info):
        self.close()

    def __dealloc__(self):
        self.close()

    cdef void close(self) noexcept:
        end_hold(atomic_pointer_swap(&self.held, NULL), True)


cdef bint precedes(uintptr_t left, uintptr_t right, int op) noexcept:
    if op == Py_LT:
        return left < right
    if op == Py_LE:
        return left <= right
    if op == Py_GT:
        return left > right
    return left >= right


cdef PyObject *new_payload_reference(VMExternRef self, const VMExternVTable **native) noexcept:
    """A new reference to the payload; NULL, and its vtable is told, for a native one; NULL if spent."""
    cdef Section section
    cdef VMExternData *data
    cdef PyObject *payload = NULL
    section_begin(&section, <PyObject *>self)
    data = <VMExternData *>self._data
    if data != NULL:
        payload = payload_of(data)
        if payload != NULL:
            Py_INCREF(payload)
        else:
            native[0] = data.vtable
    section_end(&section)
    return payload


cdef int refuse_value(const VMExternVTable *native) except -1:
    if native == NULL:
        refuse_moved()
    refuse_native(native)


cdef inline PyObject *new_value(VMExternRef self) except NULL:
    """What `value` gives; a new reference."""
    cdef const VMExternVTable *native = NULL
    cdef PyObject *payload = new_payload_reference(self, &native)
    if payload == NULL:
        refuse_value(native)
    return payload


@cython.final
cdef class VMExternRef:
    """VMExternRef(value, /)\n--\n
    A reference-counted box, one machine word wide, that carries `value` through compiled
    code.

    The box and its clones own the value together; compiled code owns it too, through raw
    pointers. The value is released once, after its last owner has gone. Equality, hash
    and order are of the allocation, never of the value. A wrapper whose count was moved
    out by into_raw() or given up by drop() is *spent*: it equals only itself, and all
    but `moved`, `drop` and `repr` raise MovedError.

    value: any object; the box takes one reference on it.
    Raises MemoryError if there is no memory for the box; nothing is kept then.
    Threads: as every method here, for the holder of the GIL.

    Source: VMExternRef of wasmtime's crates/runtime/src/externref.rs.
    """

    __class_getitem__ = classmethod(type(list[int]))    # types.GenericAlias

    @staticmethod
    def new(value, /):
        """Wrap the value: the same as VMExternRef(value).

        Source: VMExternRef::new.
        """
        return own_reference(new_ref(<PyObject *>value))

    @staticmethod
    def new_with(make_value, /):
        """Wrap what make_value() returns.

        If make_value raises, its exception comes out and nothing was allocated.

        Source: VMExternRef::new_with.
        """
        value = make_value()
        return own_reference(new_ref(<PyObject *>value))

    # -- The payload: borrowed, no count changes

    @property
    def value(self):
        """The value in the box; a new Python reference to it.

        Raises MovedError if spent, TypeError if the payload is a native one.

        Source: Deref for VMExternRef.
        """
        return own_reference(new_value(self))

    def is_(self, cls, /):
        """Whether the value is an instance of cls, as isinstance() has it; False for a
        native payload.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::is.
        """
        cdef const VMExternVTable *native = NULL
        cdef PyObject *payload = new_payload_reference(self, &native)
        if payload == NULL:
            if native == NULL:
                refuse_moved()
            return False
        cls = cls       # own it: see _python.pxd
        return isinstance(own_reference(payload), cls)

    def downcast_ref(self, cls, /):
        """The value if it is an instance of cls, else None.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::downcast_ref.
        """
        cdef const VMExternVTable *native = NULL
        cdef PyObject *payload = new_payload_reference(self, &native)
        if payload == NULL:
            if native == NULL:
                refuse_moved()
            return None
        cls = cls       # own it: see _python.pxd
        value = own_reference(payload)
        return value if isinstance(value, cls) else None

    # -- Owners

    def clone(self):
        """Another owner of the same allocation: strong_count rises by one.

        Raises MovedError if spent, MemoryError, OverflowError if the count is at its
        limit.

        Source: Clone for VMExternRef.
        """
        return own_reference(clone_ref(self))

    def __copy__(self):
        return own_reference(clone_ref(self))

    def __deepcopy__(self, memo):
        return own_reference(clone_ref(self))

    @property
    def strong_count(self):
        """How many owners the allocation has, wrappers and raw pointers together.

        Compiled code on other threads may be changing it as it is read.
        Raises MovedError if spent.
        """
        cdef Section section
        cdef size_t count = 0
        section_begin(&section, <PyObject *>self)
        if self._data != NULL:
            count = externref_strong_count(self._data)
        section_end(&section)
        if count == 0:
            refuse_moved()
        return count

    def drop(self):
        """Give up this owner now; the wrapper is spent. Nothing if it already was.

        If it was the last owner, the value is released before this returns.

        Source: Drop for VMExternRef.
        """
        self = self     # own it: see _python.pxd
        drain_if_any()
        wrapper_clear(<PyObject *>self)

    def __enter__(self):
        data_of(self)
        return self

    def __exit__(self, *exc_info):
        self.drop()

    @property
    def moved(self):
        """Whether the wrapper is spent: by into_raw(), or by drop()."""
        return slot_load(&self._data) == NULL

    # -- Raw pointers

    def into_raw(self):
        """Move the reference out: its address as an int, which now owns the count.

        No count changes. The wrapper is spent. Whoever gets the pointer must bring it
        back by from_raw(), or drop it as externref.h says, or the value is never released.
        Raises MovedError if spent, MemoryError (and then nothing was moved).

        Source: VMExternRef::into_raw.
        """
        return give_raw_as_told(self)

    @staticmethod
    def from_raw(ptr, /):
        """Take over the count that the raw pointer owns: the reverse of into_raw().

        ptr: the address, an int, a ctypes.c_void_p or a cffi `void *`; at most once for each count that
            was moved out or that compiled code added.
        Raises InvalidRawPointerError if ptr is null, misaligned, was never handed out, is
        freed, or if no raw owner is left to take over; TypeError if it is none of these. A stale
        address that a newer handed-out allocation occupies cannot be told apart.

        Source: VMExternRef::from_raw.
        """
        cdef VMExternRef self = spent_wrapper()
        take_over(self, raw_pointer(ptr))
        return self

    def as_raw(self):
        """Lend the reference: its address as an int, valid while any owner lives.

        No count changes. Compiled code may clone through the pointer at any time, so the
        collector leaves cycles through this allocation alone from now on; borrow() lends
        without that.
        Raises MovedError if spent, MemoryError.
        """
        return lend(self)

    @staticmethod
    def clone_from_raw(ptr, /):
        """A new owner of the allocation at ptr, whose present owners keep theirs.

        ptr: the address, as for from_raw().
        Raises InvalidRawPointerError and TypeError as from_raw() does, also if compiled code has just
        dropped the last reference; OverflowError if the count is at its limit.
        """
        cdef VMExternRef self = spent_wrapper()
        add_owner(self, raw_pointer(ptr))
        return self

    def borrow(self):
        """Lend the raw pointer for a with block: `with ref.borrow() as ptr:`.

        The block is an owner of its own: strong_count is one higher inside, and ptr stays
        valid to its end whatever happens to the wrapper. After it, cycles through the
        allocation are collected again.
        Raises MovedError if spent.
        """
        self = self     # own it: see _python.pxd
        data_of(self)
        return Borrow.__new__(Borrow, self)

    @property
    def _as_parameter_(self):
        """For ctypes: the raw pointer, lent, as a c_void_p, which is an owner of its own for as long as it lives.

        ctypes keeps it for the call: strong_count is one higher during it, and the pointer stays valid to its end
        whatever happens to the wrapper. C code that keeps the pointer clones it before it returns.
        Raises MovedError if spent, MemoryError, OverflowError if the count is at its limit, TypeError if something else
        was put in the place of ctypes.c_void_p before the first call.
        """
        return new_parameter(self)

    @staticmethod
    def from_param(value, /):
        """For ctypes, in argtypes: a VMExternRef lends its pointer for the call, None passes NULL.

        Returns the same as _as_parameter_, or None. Raises what that does, and TypeError for anything else; in a
        call ctypes makes ctypes.ArgumentError of each, which names the argument.
        """
        if value is None:
            return None
        if not isinstance(value, VMExternRef):
            raise TypeError(f"expected a VMExternRef or None, not {type(value).__name__}; the argtypes of what is "
                            "moved, by into_raw(), is ctypes.c_void_p")
        return new_parameter(value)

    # -- Identity: of the allocation

    def __richcmp__(self, other, int op):
        if type(other) is not VMExternRef:
            return NotImplemented
        if op == Py_NE:     # == of two wrappers is wrapper_richcompare's
            return not is_same(<PyObject *>self, <PyObject *>other)
        return precedes(<uintptr_t>data_of(self), <uintptr_t>data_of(<VMExternRef>other), op)

    def __hash__(self):
        # As CPython hashes an address, its low zero bits rotated to the top; of the block's
        # start, whose low four bits are zero. The footer's bit 3 is set: its hash would be a
        # large negative int, which takes 1.12 times as long to make.
        cdef uintptr_t address = <uintptr_t>data_of(self) - sizeof(void *)
        cdef Py_hash_t result = <Py_hash_t>(address >> 4 | address << (8 * sizeof(address) - 4))
        return result if result != -1 else -2

    def __repr__(self):
        cdef Section section
        cdef VMExternData *data
        cdef const VMExternVTable *vtable = NULL
        cdef PyObject *payload = NULL
        cdef size_t count = 0
        section_begin(&section, <PyObject *>self)
        data = <VMExternData *>self._data
        if data != NULL:
            vtable, payload, count = data.vtable, payload_of(data), externref_strong_count(data)
            if payload != NULL:
                Py_INCREF(payload)
        section_end(&section)
        # From here on the block may go: to format a number runs a due collection.
        if data == NULL:
            return "<externref.VMExternRef moved>"
        name = vtable_name(vtable) if payload == NULL else type_name_of(own_reference(payload))
        return f"<externref.VMExternRef at {<uintptr_t>data:#x} to {name!r}, strong_count {count}>"

    # -- Refusals

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle a VMExternRef: its identity is an address in this process")

    def __reduce__(self):
        return self.__reduce_ex__(0)


include "_core/capi.pxi"
include "_core/track.pxi"


# --- Functions ----------------------------------------------------------------------

def layout_for(size_t size, size_t align):
    """Layout of a block whose payload has this size and alignment, in bytes.

    Raises ValueError if align is not a power of two, OverflowError if an argument is
    negative or the sizes do not fit in a word.

    Source: VMExternData::layout_for.
    """
    cdef size_t total = 0, block_align = 0
    compute_layout(size, align, &total, &block_align)
    return layout_type((total, block_align, externref_footer_offset(size)))


def option_into_raw(ref, /):
    """ref.into_raw(), or 0 for None: Option<VMExternRef> is one word.

    Raises what into_raw() does; TypeError if ref is neither a VMExternRef nor None.
    """
    if ref is None:
        return 0
    require_ref(ref)
    return give_raw_as_told(ref)


def option_from_raw(ptr, /):
    """VMExternRef.from_raw(ptr), or None for the null pointer: 0, a null c_void_p or `void *`, or None, as ctypes
    has it. Raises what from_raw() does."""
    if ptr is None:
        return None
    ptr = index_of(ptr)
    return VMExternRef.from_raw(ptr) if ptr else None


# externref.abi gives these to JITs.
REF_COUNT_OFFSET = EXTERNREF_REF_COUNT_OFFSET
VALUE_PTR_OFFSET = EXTERNREF_VALUE_PTR_OFFSET
VTABLE_OFFSET = EXTERNREF_VTABLE_OFFSET
FOOTER_SIZE = sizeof(VMExternData)
DROP_SLOW_OFFSET = EXTERNREF_DROP_SLOW_OFFSET
ABI_VERSION = EXTERNREF_ABI_VERSION
clone_address = <uintptr_t>&externref_clone
drop_address = <uintptr_t>&externref_drop


def drain():
    """Free what compiled code has dropped and is still pending; how many blocks.

    Runs the finalizers of their payloads on the calling thread, and goes on until nothing is pending. In a
    finalizer that a drain runs it does nothing and returns 0: that drain goes on to the rest.
    """
    return run_drain()


def set_drain(setting, /):
    """Choose who runs the finalizers of what compiled code dropped; the setting before.

    setting: "auto", as it is at first: the main thread, or a helper thread if that one is in C code. A drain begins
            within 50 ms during which the GIL can be had.
        "main": the main thread alone, when it next runs Python code, however late that is.
        a function without parameters: called on the helper thread, with the GIL, once for all that is pending, to
            have drain() called where finalizers may run: `lambda: loop.call_soon_threadsafe(externref.drain)`.
            Called again when something was drained and more has come. If it raises, sys.unraisablehook gets
            the exception, and the main thread drains. At exit it is let go if the thread that set it last ends the
            interpreter; else it is kept for ever, for what it holds may be another thread's to release.
    Raises ValueError for another string, TypeError for anything else; the setting stays then.

    With each of them the package's own operations, and drain(), drain on the thread that calls them.
    """
    if isinstance(setting, str):
        name = str.__str__(setting)
        if name == AUTO or name == MAIN:
            return choose_drain(AUTO if name == AUTO else MAIN)
        raise ValueError(f'set_drain takes "auto", "main" or a function, not {name!r}')
    if not callable(setting):
        raise TypeError(f'set_drain takes "auto", "main" or a function, not {type(setting).__name__}')
    return choose_drain(setting)


def stats():
    """What the package holds right now, as a Stats; changes nothing."""
    return stats_type((live_blocks(), live_handles(), live_exposed(), pending_count() + count_let_go()))
