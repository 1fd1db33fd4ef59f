//! The rivals of native.c: Rust's `Arc` and `Rc`, and a `VMExternRef` for any Rust value, written as
//! wasmtime wrote it: payload and footer in one allocation, a `dyn Any` in the footer. Its
//! count is atomic, as ours is. Needs only std.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::any::Any;
use std::hint::black_box;
use std::mem::{align_of, align_of_val, size_of, size_of_val};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{fence, AtomicUsize, Ordering};
use std::sync::Arc;

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
