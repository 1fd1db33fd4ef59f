//! Python objects that Rust owns: cloned, sent to other threads and dropped there, without the GIL.
//!
//! A [`PyRef`] is what Python's `externref.VMExternRef` hands out by `into_raw()`: one machine word, the
//! address of a reference count and of what to do when it comes to zero. It is to a Python object what an
//! [`Arc`](std::sync::Arc) is to a value of Rust's.
//!
//! This file needs nothing but `std`, not even Python to link with: copy it into your crate, as a module.
//! It is for Rust 1.63 and later. The contract that it keeps is that of `externref.h`.
//!
//! # Who releases the object
//!
//! The last drop runs no Python code and waits for no lock of Python's: the object is released soon after,
//! by a thread of Python's that holds the GIL. A drop is safe while the interpreter exits, and after it has
//! gone; what is dropped then is never released.

#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

use std::ffi::c_void;
use std::fmt;
use std::mem::{size_of, ManuallyDrop};
use std::os::raw::c_char;
use std::process::abort;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The version of the layout that this file is written for: `externref.abi.ABI_VERSION` in Python, which
/// a library that is loaded at run time should be compared with.
pub const ABI_VERSION: usize = 1;

/// `VMExternData` of externref.h.
#[repr(C)]
struct Footer {
    ref_count: AtomicUsize,
    _value_ptr: *mut c_void,
    vtable: *const VTable,
    _host_word: [u32; 2],
}

/// `VMExternVTable` of externref.h.
#[repr(C)]
struct VTable {
    _drop_in_place: Option<unsafe extern "C" fn(*mut c_void)>,
    _size: usize,
    _align: usize,
    _type_name: *const c_char,
    drop_slow: unsafe extern "C" fn(*mut c_void),
}

const _: () = assert!(size_of::<Footer>() == 3 * size_of::<usize>() + 8);
const _: () = assert!(size_of::<VTable>() == 5 * size_of::<usize>());
const _: () = assert!(size_of::<Option<PyRef>>() == size_of::<usize>());

/// A count may come this far: [`Arc`](std::sync::Arc) has the same limit, for the same reason.
const MAX_COUNT: usize = isize::MAX as usize;

/// An owner of a Python object.
///
/// Every `PyRef` has one count of its own. [`Clone`] adds one, [`Drop`] gives it up, and both may be done on
/// any thread, whether or not it holds the GIL. The object itself can be reached in Python only, where
/// `VMExternRef.from_raw()` takes over what [`into_raw`](PyRef::into_raw) gives, and
/// `VMExternRef.clone_from_raw()` looks at what [`as_raw`](PyRef::as_raw) lends.
///
/// `Option<PyRef>` is one machine word, and `None` is the null pointer, Python's `None`: it can be a
/// parameter or the result of an `extern "C"` function, which moves a reference.
///
/// Two are equal if they own the same allocation, whatever the object is.
///
/// # Examples
///
/// A function that Python calls with `ref.into_raw()`, and that lets the object go on another thread:
///
/// ```
/// use externref::PyRef;
/// use std::thread;
///
/// #[no_mangle]
/// pub extern "C" fn take(object: Option<PyRef>) {
///     let copy = object.clone();
///     thread::spawn(move || drop(copy));
/// }
/// # take(None);
/// ```
#[repr(transparent)]
pub struct PyRef {
    footer: NonNull<Footer>,
}

// SAFETY: all that is reached through a PyRef is the count, which is atomic, and constants. The object is
// released by Python, on a thread that may touch it, wherever the last count was given up.
unsafe impl Send for PyRef {}
// SAFETY: as above; &PyRef allows no more than a new count.
unsafe impl Sync for PyRef {}

impl PyRef {
    /// Takes over a count: the reverse of [`into_raw`](PyRef::into_raw), and of `into_raw()` in Python.
    ///
    /// `None` for the null pointer.
    ///
    /// # Safety
    ///
    /// `raw` is null, or came from an `into_raw`, Rust's or Python's, or from `externref_clone` in C. The
    /// caller owns the count that goes with it, and gives it up here: once for each time that it was handed out.
    ///
    /// # Examples
    ///
    /// ```
    /// use externref::PyRef;
    ///
    /// // SAFETY: null is allowed.
    /// assert!(unsafe { PyRef::from_raw(std::ptr::null_mut()) }.is_none());
    /// ```
    #[must_use = "dropped, it gives up the count that was taken over"]
    pub unsafe fn from_raw(raw: *mut c_void) -> Option<PyRef> {
        NonNull::new(raw.cast()).map(|footer| PyRef { footer })
    }

    /// A new owner of what the caller was lent: the caller's pointer stays as it is.
    ///
    /// `None` for the null pointer. For a `void *user_data` that a C library passes to its callback.
    ///
    /// # Safety
    ///
    /// `raw` is null, or somebody owns a count of it at least until this returns.
    #[must_use = "dropped, it gives up the count that was added"]
    pub unsafe fn clone_from_raw(raw: *mut c_void) -> Option<PyRef> {
        // SAFETY: the count that from_raw() takes over is not ours, and ManuallyDrop keeps it.
        let lent = ManuallyDrop::new(unsafe { PyRef::from_raw(raw) });
        Option::clone(&lent)
    }

    /// Gives the count away, as a raw pointer: to a C library, or to Python.
    ///
    /// Never null. Whoever gets it gives the count up by [`from_raw`](PyRef::from_raw), by `externref_drop`
    /// in C, or by `VMExternRef.from_raw()` in Python; else the object is never released.
    #[must_use = "the object is never released if the pointer is lost"]
    pub fn into_raw(self) -> *mut c_void {
        ManuallyDrop::new(self).as_raw()
    }

    /// Lends the pointer, for as long as this owner, or another, lives.
    pub fn as_raw(&self) -> *mut c_void {
        self.footer.as_ptr().cast()
    }

    /// How many owners there are, Python's included: exact only if no other thread makes or drops one.
    pub fn strong_count(&self) -> usize {
        self.ref_count().load(Ordering::Acquire)
    }

    fn ref_count(&self) -> &AtomicUsize {
        // SAFETY: the footer lives as long as anybody owns a count, and this PyRef does.
        unsafe { &(*self.footer.as_ptr()).ref_count }
    }
}

impl Clone for PyRef {
    /// Adds an owner of the same object: one atomic addition.
    ///
    /// Aborts the process if there are more than `isize::MAX` owners, which takes a program that forgets
    /// them on purpose.
    fn clone(&self) -> PyRef {
        // Relaxed: the count that we have keeps the object alive, and nothing else is published.
        if self.ref_count().fetch_add(1, Ordering::Relaxed) > MAX_COUNT {
            abort();
        }
        PyRef { footer: self.footer }
    }
}

impl Drop for PyRef {
    /// Gives the count up: one atomic subtraction. The last one lets Python release the object, soon.
    fn drop(&mut self) {
        // Release: what this owner did happens before the free.
        if self.ref_count().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Acquire: pairs with those of all others. A load, which ThreadSanitizer understands, not a fence.
        self.ref_count().load(Ordering::Acquire);
        // SAFETY: nobody owns a count any more: the contract leaves this call to us, and the block is
        // ours until then.
        unsafe {
            let vtable = (*self.footer.as_ptr()).vtable;
            ((*vtable).drop_slow)(self.as_raw());
        }
    }
}

impl PartialEq for PyRef {
    fn eq(&self, other: &PyRef) -> bool {
        self.footer == other.footer
    }
}

impl Eq for PyRef {}

impl std::hash::Hash for PyRef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.footer.hash(state);
    }
}

impl fmt::Debug for PyRef {
    /// The address and the count: the object itself belongs to Python.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PyRef({:p}, strong_count {})", self.as_raw(), self.strong_count())
    }
}
