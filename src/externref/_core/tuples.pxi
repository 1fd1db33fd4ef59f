# Named tuples that functions return. CPython's own make (os.stat_result is one): to import `collections` for
# namedtuple takes as long as to import the rest of the package.

cdef extern from *:
    """
    static PyStructSequence_Field stats_fields[] = {
        {"live_blocks", "Blocks allocated and not yet freed, pending drops among them."},
        {"handles", "Counts that the package owns: those of VMExternRef objects, and holds."},
        {"exposed", "Live blocks that are lent, whose cycles are not collected."},
        {"pending_drops", "Blocks that nobody owns any more, which await their free."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc stats_desc = {
        "externref.Stats",
        "What the package holds right now; four counts, exact if no other thread makes or drops meanwhile.\\n"
        "\\n"
        "live_blocks: blocks allocated and not yet freed, pending drops among them.\\n"
        "handles: counts that the package owns: those of VMExternRef objects, and holds (an argument in flight, an\\n"
        "    open borrow, an entry of an activations table, what a wasmtime store or nopython code was given).\\n"
        "exposed: live blocks that are lent (as_raw, an open borrow, ...), whose cycles are not collected.\\n"
        "pending_drops: blocks that nobody owns any more, dropped by compiled code, which await their free.\\n",
        stats_fields, 4,
    };

    static PyStructSequence_Field layout_fields[] = {
        {"size", "Bytes of the whole block, a multiple of align."},
        {"align", "Bytes that the block is aligned to."},
        {"footer_offset", "Bytes from the start of the block to the raw pointer."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc layout_desc = {
        "externref.abi.Layout",
        "Where things are in a block, in bytes.\\n"
        "\\n"
        "size: of the whole block, a multiple of align.\\n"
        "align: of the block.\\n"
        "footer_offset: from the start of the block to the raw pointer.\\n",
        layout_fields, 3,
    };

    /* A change of what such a class says of its length would be a write beyond its instances. */
    static PyTypeObject *new_named_tuple(PyStructSequence_Desc *desc)
    {
        PyTypeObject *type = PyStructSequence_NewType(desc);
        if (type != NULL)
            type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
        return type;
    }
    """
    ctypedef struct PyStructSequence_Desc:
        pass
    PyStructSequence_Desc stats_desc
    PyStructSequence_Desc layout_desc
    type new_named_tuple(PyStructSequence_Desc *)

# In C, too, for finalizers that run when the module's names are gone.
cdef object stats_type = new_named_tuple(&stats_desc)
cdef object layout_type = new_named_tuple(&layout_desc)
Stats = stats_type
Layout = layout_type
