//! The rivals of native.c: Rust's `Arc` and `Rc`, and a `VMExternRef` for any Rust value, written as
//! wasmtime wrote it: payload and footer in one allocation, a `dyn Any` in the footer. Its
//! count is atomic, as ours is. Needs only std.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::any::Any;
use std::ffi::c_void;
use std::hint::black_box;
use std::mem::{align_of, align_of_val, size_of, size_of_val};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{fence, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

struct Payload {
    values: [usize; 2],
}

static mut DROPPED: usize = 0;

impl Drop for Payload {
    fn drop(&mut self) {
        // One thread runs these loops.
        unsafe { DROPPED += self.values[0] };
    }
}

#[repr(C)]
struct VMExternData {
    ref_count: AtomicUsize,
    value_ptr: NonNull<dyn Any>,
}

struct VMExternRef(NonNull<VMExternData>);

fn layout_for(size: usize, align: usize) -> (Layout, usize) {
    let footer_offset = (size + align_of::<VMExternData>() - 1) & !(align_of::<VMExternData>() - 1);
    let layout = Layout::from_size_align(
        footer_offset + size_of::<VMExternData>(),
        align.max(align_of::<VMExternData>()),
    );
    (layout.unwrap(), footer_offset)
}

impl VMExternRef {
    fn new_with<T: Any>(make_value: impl FnOnce() -> T) -> VMExternRef {
        unsafe {
            let (layout, footer_offset) = layout_for(size_of::<T>(), align_of::<T>());
            let start = NonNull::new(alloc(layout)).unwrap_or_else(|| handle_alloc_error(layout));
            let value = start.cast::<T>().as_ptr();
            ptr::write(value, make_value());
            let data = start.as_ptr().add(footer_offset).cast::<VMExternData>();
            ptr::write(
                data,
                VMExternData {
                    ref_count: AtomicUsize::new(1),
                    value_ptr: NonNull::new_unchecked(value as *mut dyn Any),
                },
            );
            VMExternRef(NonNull::new_unchecked(data))
        }
    }
}

impl Drop for VMExternRef {
    fn drop(&mut self) {
        unsafe {
            if self.0.as_ref().ref_count.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            fence(Ordering::Acquire);
            let value = self.0.as_ref().value_ptr.as_ptr();
            let (layout, _) = layout_for(size_of_val(&*value), align_of_val(&*value));
            ptr::drop_in_place(value);
            dealloc(value.cast::<u8>(), layout);
        }
    }
}

#[no_mangle]
pub extern "C" fn drops() -> usize {
    unsafe { DROPPED }
}

#[no_mangle]
pub extern "C" fn arc_clone_drop(times: usize) {
    let arc = black_box(Arc::new(Payload { values: [0, 0] }));
    for _ in 0..times {
        drop(black_box(Arc::clone(&arc)));
    }
}

#[no_mangle]
pub extern "C" fn rc_clone_drop(times: usize) {
    let rc = black_box(Rc::new(Payload { values: [0, 0] }));
    for _ in 0..times {
        drop(black_box(Rc::clone(&rc)));
    }
}

#[no_mangle]
pub extern "C" fn arc_new_drop(times: usize) {
    for _ in 0..times {
        drop(black_box(Arc::new(Payload { values: [1, 0] })));
    }
}

#[no_mangle]
pub extern "C" fn new_drop(times: usize) {
    for _ in 0..times {
        drop(black_box(VMExternRef::new_with(|| Payload { values: [1, 0] })));
    }
}

/// Does the work so often, on threads.
fn repeat(times: usize, threads: usize, work: impl Fn() + Sync) {
    let work = &work;
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || (0..times / threads).for_each(|_| work()));
        }
    });
}

/// On threads. Their payloads are not counted: they would wait for each other.
#[no_mangle]
pub extern "C" fn new_drop_on_threads(times: usize, threads: usize) {
    repeat(times, threads, || drop(black_box(VMExternRef::new_with(|| [1usize, 0]))));
}

#[no_mangle]
pub extern "C" fn arc_new_drop_on_threads(times: usize, threads: usize) {
    repeat(times, threads, || drop(black_box(Arc::new([1usize, 0]))));
}

/// Drops values on threads, of which each gets as many.
fn share_out<T: Send>(mut values: Vec<T>, threads: usize, work: impl Fn(T) + Sync) {
    let share = values.len() / threads;
    let work = &work;
    thread::scope(|scope| {
        for _ in 0..threads {
            let mine = values.split_off(values.len() - share);
            scope.spawn(move || mine.into_iter().for_each(work));
        }
    });
}

/// Made here, dropped by threads.
#[no_mangle]
pub extern "C" fn arc_drop_on_threads(times: usize, threads: usize) {
    let arcs = (0..times).map(|i| Arc::new(i)).collect();
    share_out(arcs, threads, |arc| drop(black_box(arc)));
}

extern "C" {
    fn Py_IncRef(object: *mut c_void);
    fn Py_DecRef(object: *mut c_void);
    fn PyEval_SaveThread() -> *mut c_void;
    fn PyEval_RestoreThread(state: *mut c_void);
}

struct Py(*mut c_void);
unsafe impl Send for Py {}

static POOL: Mutex<Vec<Py>> = Mutex::new(Vec::new());

/// As PyO3 lets go of a `Py` without the GIL: into a vector behind a mutex, which the next to take the GIL
/// empties.
#[no_mangle]
pub extern "C" fn pyo3_drop_on_threads(times: usize, threads: usize, object: *mut c_void) {
    let made = (0..times)
        .map(|_| unsafe {
            Py_IncRef(object);
            Py(object)
        })
        .collect();
    let state = unsafe { PyEval_SaveThread() };
    share_out(made, threads, |py| POOL.lock().unwrap().push(py));
    unsafe { PyEval_RestoreThread(state) };
    for py in std::mem::take(&mut *POOL.lock().unwrap()) {
        unsafe { Py_DecRef(py.0) };
    }
}
