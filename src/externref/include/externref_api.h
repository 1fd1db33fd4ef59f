/* externref_api.h: references for extension modules, which hold the GIL.
 *
 * Include it in one C or C++ file of an extension, call externref_import() once in the
 * module's init, and use the functions below; they are calls through a table that
 * externref._core exports, so nothing is linked. Code that only copies and drops
 * references needs externref.h alone.
 *
 * Every function but externref_new_anywhere() needs the GIL, and if it fails returns NULL (or
 * -1) with a Python exception set. Python's None is the null pointer. Any of them may run
 * arbitrary Python code: pending drops are drained, allocation may collect garbage. */
#ifndef EXTERNREF_API_H
#define EXTERNREF_API_H

#include <Python.h>
#include "externref.h"

/* Raised when a function of the table changes; new ones are added at its end only. */
#define EXTERNREF_API_VERSION 1

typedef struct {
    size_t api_version; /* EXTERNREF_API_VERSION of the module that made the table */
    size_t abi_version; /* its EXTERNREF_ABI_VERSION */
    size_t size;        /* of its table, bytes: newer ones are larger */
    void *(*from_object)(PyObject *);
    PyObject *(*wrap)(void *);
    PyObject *(*wrap_clone)(void *);
    void *(*unwrap)(PyObject *);
    PyObject *(*object)(const void *);
    const VMExternVTable *(*type)(const char *, size_t, size_t, void (*)(void *));
    void *(*new_with)(const VMExternVTable *, int (*)(void *, void *), void *);
    void (*release)(void *);
    PyObject *(*take_object)(void *);
    const VMExternVTable *(*type_with)(const char *, size_t, size_t, void (*)(void *), unsigned);
    void *(*new_anywhere)(const VMExternVTable *, int (*)(void *, void *), void *);
    int (*hand_out)(void *);
} ExternrefAPI;

/* The flags of externref_type_with(). */
#define EXTERNREF_DROP_ANYWHERE 1u

#ifndef EXTERNREF_API_IMPLEMENTATION

#  if defined(__GNUC__) || defined(__clang__)
#    define EXTERNREF_API_UNUSED __attribute__((unused))
#  else
#    define EXTERNREF_API_UNUSED
#  endif

static const ExternrefAPI *externref_api EXTERNREF_API_UNUSED = NULL;

/* Finds the table: once, in the module's init, before anything else here. 0, or -1 with
 * ImportError if externref is not installed, or is of another version than this header. */
EXTERNREF_API_UNUSED
static int externref_import(void)
{
    const ExternrefAPI *api = (const ExternrefAPI *)PyCapsule_Import("externref._core._C_API", 0);
    if (api == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_ImportError)) { /* AttributeError: too old to have one */
            PyErr_SetString(PyExc_ImportError, "the installed externref has no C API");
        }
        return -1;
    }
    if (api->api_version != EXTERNREF_API_VERSION || api->abi_version != EXTERNREF_ABI_VERSION ||
        api->size < sizeof(ExternrefAPI)) {
        PyErr_Format(PyExc_ImportError,
                     "compiled against externref's C API %d (ABI %d, %zu bytes), but the installed "
                     "externref has C API %zu (ABI %zu, %zu bytes): rebuild this extension, or install "
                     "the externref it was built with",
                     EXTERNREF_API_VERSION, EXTERNREF_ABI_VERSION, sizeof(ExternrefAPI), api->api_version,
                     api->abi_version, api->size);
        return -1;
    }
    externref_api = api;
    return 0;
}

/* Boxes an object: a raw pointer that the caller owns. Takes a reference to the object
 * of its own. MemoryError. */
#  define externref_from_object(object) (externref_api->from_object(object))

/* A new VMExternRef that takes over the caller's count of `raw`, or None for NULL. On failure
 * the caller still owns it. MemoryError; InvalidRawPointerError if every count has been
 * taken over already. */
#  define externref_wrap(raw) (externref_api->wrap(raw))

/* A new VMExternRef with a count of its own; the caller keeps theirs. None for NULL.
 * MemoryError, OverflowError. */
#  define externref_wrap_clone(raw) (externref_api->wrap_clone(raw))

/* The raw pointer of a VMExternRef, lent for as long as the block lives: see as_raw(). NULL,
 * without an exception, for None. TypeError, MovedError, MemoryError. In builds without a GIL another thread can
 * drop the VMExternRef meanwhile: have the caller's own, or call it and externref_clone() in a critical section of `ref`. */
#  define externref_unwrap(ref) (externref_api->unwrap(ref))

/* A new reference to the Python payload; None for NULL. The caller keeps their count.
 * TypeError if the payload is a native one. */
#  define externref_object(raw) (externref_api->object(raw))

/* As externref_object, and gives up the caller's count: the object moves out. On failure
 * the caller still owns it. */
#  define externref_take_object(raw) (externref_api->take_object(raw))

/* externref_drop for who holds the GIL: a last reference is released before this returns,
 * not later. NULL is ignored. */
#  define externref_release(raw) (externref_api->release(raw))

/* Makes a type of native payload. It lives to the end of the process: make it once.
 *   name          UTF-8, for repr() and errors; copied
 *   size, align   of the payload, bytes; align is a power of two
 *   drop_in_place drops a payload, without freeing it; under the GIL; NULL if nothing is to do.
 *                 It leaves an exception that is set alone, and drops references that the
 *                 payload owns by externref_drop: by externref_release, a chain would recurse.
 * ValueError for the alignment, OverflowError for the size, MemoryError. */
#  define externref_type(name, size, align, drop_in_place) \
      (externref_api->type((name), (size), (align), (drop_in_place)))

/* A block with a native payload that `init` makes in place: a raw pointer that the caller
 * owns. `type` is externref_type's. `init` gets the payload's address and `ctx` and returns 0; if it returns anything
 * else, nothing is dropped, nothing leaks, and NULL is returned with the exception that
 * `init` set, or a RuntimeError. MemoryError. */
#  define externref_new_with(type, init, ctx) (externref_api->new_with((type), (init), (ctx)))

/* externref_type, and flags: 0, or EXTERNREF_DROP_ANYWHERE for a drop_in_place that needs no GIL, may be called on any
 * thread, with the GIL or without it, and takes no lock that is held by who drops a reference. The last owner's drop
 * then calls it and frees the block before it returns, unless that drop is itself done in a drop_in_place of such a
 * type: then when that has returned, so that a chain of payloads is no recursion. ValueError for unknown flags.
 *
 * Python code cannot take over an address of such a payload as an int before externref_hand_out() or a use of a
 * VMExternRef gave it that (docs/abi.md names them); from then on the payload is dropped by a thread that has the GIL,
 * as others are. */
#  define externref_type_with(name, size, align, drop_in_place, flags) \
      (externref_api->type_with((name), (size), (align), (drop_in_place), (flags)))

/* externref_new_with on any thread, without the GIL: NULL, without an exception, if memory is short or `init` fails.
 * `init` runs on this thread, and needs no GIL either. For any type: if it is not EXTERNREF_DROP_ANYWHERE, the last drop
 * is left to a thread that has the GIL. */
#  define externref_new_anywhere(type, init, ctx) (externref_api->new_anywhere((type), (init), (ctx)))

/* Has from_raw() and clone_from_raw() accept this address, which the caller owns or was lent and is about to give to
 * Python as an int. What externref_from_object() and, of a type without flags, externref_new_with() gave is known
 * to them already. NULL is ignored. 0, or -1 with MemoryError. */
#  define externref_hand_out(raw) (externref_api->hand_out(raw))

#endif /* EXTERNREF_API_IMPLEMENTATION */

#endif /* EXTERNREF_API_H */
