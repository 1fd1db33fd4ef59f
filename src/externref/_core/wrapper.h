/* Memory for wrappers: cells of slabs, in each before the object the two words that CPython's collector has there. GIL.
 *
 * _PyObject_GC_New counts what it makes, and a collection begins whenever 700 more were made than freed: 10,000 references
 * began 14, though the collector tracks none whose payload it cannot look into. Here those that it does track count, one for
 * each WRAPPERS_COUNTED. Of 10,000 references to an int, made and then dropped, each takes 577 instructions in place of 789, and
 * making them 1.6 of object()'s time in place of 2.8.
 *
 * By CPython's own functions where they look for mistakes, where there is no GIL, in a version whose two words were not
 * looked at, and where each object is to be an allocation of its own. */
#ifndef EXTERNREF_WRAPPER_H
#define EXTERNREF_WRAPPER_H

#include <Python.h>
#include <string.h>
#include "slab.h"

#if EXTERNREF_FREE_LIST_LIMIT == 0 || defined(Py_DEBUG) || defined(Py_TRACE_REFS) || PY_VERSION_HEX >= 0x03100000

static int wrapper_fits(const PyTypeObject *type)
{
    (void)type;
    return 1;
}

/* A new object that is not tracked, all zero behind its head; NULL, without an exception, if memory is short. */
static inline PyObject *wrapper_alloc(PyTypeObject *type)
{
    PyObject *self = _PyObject_GC_New(type);
    if (self == NULL) {
        PyErr_Clear();
        return NULL;
    }
    memset(self + 1, 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    return self;
}

static inline void wrapper_dispose(PyObject *self)
{
    PyObject_GC_Del(self);
}

static void wrapper_trim(void)
{
}

static void wrapper_collected(void)
{
}

static inline void wrapper_track(PyObject *self)
{
    PyObject_GC_Track(self);
}

static inline void wrapper_untrack(PyObject *self)
{
    PyObject_GC_UnTrack(self);
}

static inline PyObject **wrapper_weak_references(PyObject *self)
{
    return PyObject_GET_WEAKREFS_LISTPTR(self);
}

#else

typedef struct {
    uintptr_t tracked, before; /* the collector's; the first is 0 if it does not track the object */
    PyObject head;
    void *data;
    PyObject *weak_references;
} WrapperCell;

/* With this the cells are multiples of 16, as CPython's own memory. And they are in other places of their pages than the
 * blocks' cells: to load what lies where something was just stored in another page takes longer. */
#  define WRAPPER_START 136

static Slabs wrapper_slabs = NO_SLABS(wrapper_slabs);

static inline WrapperCell *wrapper_cell(PyObject *self)
{
    return (WrapperCell *)((char *)self - offsetof(WrapperCell, head));
}

/* Whether Cython has the fields of the type where they are in a cell. */
static int wrapper_fits(const PyTypeObject *type)
{
    return (size_t)type->tp_basicsize == sizeof(WrapperCell) - offsetof(WrapperCell, head) && type->tp_itemsize == 0 &&
           (size_t)type->tp_weaklistoffset == offsetof(WrapperCell, weak_references) - offsetof(WrapperCell, head);
}

/* So many wrappers more that the collector tracks count as one. Each might count, but for the time: a payload may have any
 * number, and if none did, the garbage of one that has thousands would wait for 700 such payloads. */
#  define WRAPPERS_COUNTED 8
/* More than any program's threshold; and what they take at most is 3 MiB. */
#  define WEIGHTS_MOST ((size_t)1 << 16)

static size_t wrappers_uncounted; /* that are tracked, more than there were */

/* What counts for them: objects that nobody has, linked through `data`, until the next collection. */
static PyObject *weights;
static size_t weight_count;

static void wrapper_collected(void)
{
    while (weights != NULL) {
        PyObject *weight = weights;
        weights = (PyObject *)wrapper_cell(weight)->data;
        PyObject_GC_Del(weight);
    }
    weight_count = wrappers_uncounted = 0;
}

/* May begin a collection: arbitrary code. */
static void wrapper_count(PyTypeObject *type)
{
    PyObject *weight;
    wrappers_uncounted = 0;
    if (!PyGC_IsEnabled()) {
        return;
    }
    if (weight_count == WEIGHTS_MOST) {
        wrapper_collected();
    }
    weight = _PyObject_GC_New(type);
    if (weight == NULL) {
        PyErr_Clear();
        return;
    }
    wrapper_cell(weight)->data = weights;
    weights = weight;
    weight_count++;
}

/* Begins with what may run arbitrary code, as _PyObject_GC_New does. */
static inline PyObject *wrapper_alloc(PyTypeObject *type)
{
    WrapperCell *cell;
    if (wrappers_uncounted >= WRAPPERS_COUNTED) {
        wrapper_count(type);
    }
    cell = (WrapperCell *)slab_take(&wrapper_slabs, sizeof(WrapperCell), WRAPPER_START, NULL);
    if (cell == NULL) {
        return NULL;
    }
    memset(cell, 0, sizeof(WrapperCell));
    Py_SET_TYPE(&cell->head, type);
    Py_SET_REFCNT(&cell->head, 1);
    return &cell->head;
}

static inline void wrapper_dispose(PyObject *self)
{
    slab_give(&wrapper_slabs, WRAPPER_START, wrapper_cell(self));
}

static void wrapper_trim(void)
{
    slab_trim(&wrapper_slabs, WRAPPER_START);
}

static inline void wrapper_track(PyObject *self)
{
    PyObject_GC_Track(self);
    wrappers_uncounted++;
}

static inline void wrapper_untrack(PyObject *self)
{
    if (wrapper_cell(self)->tracked != 0) {
        PyObject_GC_UnTrack(self);
        if (wrappers_uncounted > 0) {
            wrappers_uncounted--;
        }
    }
}

static inline PyObject **wrapper_weak_references(PyObject *self)
{
    return &wrapper_cell(self)->weak_references;
}

#endif

#endif /* EXTERNREF_WRAPPER_H */
