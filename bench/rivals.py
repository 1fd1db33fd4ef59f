"""Setups of the statements: what each has at hand before it is timed.

Every rival is in its fastest reasonable form. Types, functions and C types, ours and
theirs, are looked up here; only methods and attributes of a single reference are looked
up by the statement, as they are in a program.
"""

EXTERNREF = """
from externref import VMExternRef
from_raw = VMExternRef.from_raw
x = object()
ref, other = VMExternRef(x), VMExternRef(x)
same = ref.clone()
"""

# The cycle collector has to be told of a reference whose value it tracks.
EXTERNREF_TRACKED = EXTERNREF + """
x = []
ref = VMExternRef(x)
"""

# Once its pointer is lent, compiled code may be counting too: our count must be atomic.
EXTERNREF_LENT = EXTERNREF + """
ref.as_raw()
"""

PLAIN = """
class Slots:
    __slots__ = ("value",)
    def __init__(self, value):
        self.value = value

x, other = object(), object()
pair = (x,)
slots, other_slots = Slots(x), Slots(x)
"""

HANDLES = """
from itertools import count
x = object()
next_handle = count(1).__next__
handles = {}
take = handles.pop
"""

# While a weak reference to x lives, ref(x) makes none but returns that one.
WEAKREF = """
from weakref import WeakValueDictionary, ref
class Referent:
    __slots__ = ("__weakref__",)

x, y = Referent(), Referent()
"""

WEAKREF_LIVE = WEAKREF + """
weak, other = ref(x), ref(y)
alive = WeakValueDictionary()
"""

CTYPES = """
from ctypes import addressof, py_object
from_address = py_object.from_address
x = object()
box, other = py_object(x), py_object(x)
"""

CFFI_NAMES = """
new_handle, from_handle, cast = ffi.new_handle, ffi.from_handle, ffi.cast
voidp, intptr = ffi.typeof("void *"), ffi.typeof("intptr_t")
x = object()
handle, other = new_handle(x), new_handle(x)
same = cast(voidp, handle)
"""

# The type of the `ffi` in a module that cffi compiled. Types that are built in need no
# such module, and take as long.
CFFI_COMPILED = """
from _cffi_backend import FFI
ffi = FFI()
""" + CFFI_NAMES

# The `ffi` of in-line mode, which is written in Python ...
CFFI_INLINE = """
from cffi import FFI
ffi = FFI()
""" + CFFI_NAMES

# ... and the C functions that it calls.
CFFI_BACKEND = CFFI_INLINE + """
from _cffi_backend import cast, from_handle, newp_handle
"""

FUNCTION = """
from externref import Function, VMExternRef
from identity import address
moved, lent, word = (Function(address(), code, code) for code in "mrw")
x = object()
ref = VMExternRef(x)
"""

CFFI_IDENTITY = """
from identity import compiled
ffi, ident = compiled().ffi, compiled().lib.ident
new_handle, from_handle = ffi.new_handle, ffi.from_handle
x = object()
handle = new_handle(x)
"""

# A py_object as the result would be taken for a new reference, which ident() does not give.
CTYPES_IDENTITY = """
from ctypes import PYFUNCTYPE, c_void_p, cast, py_object
from identity import address
ident = PYFUNCTYPE(c_void_p, py_object)(address())
x = object()
"""

# An opaque object is what it makes of a Python object that it does not know.
TVM = """
from tvm_ffi import get_global_func
from tvm_ffi.core import _convert_to_opaque_object as opaque
echo = get_global_func("testing.echo")
x = object()
box = opaque(x)
"""
