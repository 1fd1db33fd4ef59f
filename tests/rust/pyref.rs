//! `PyRef` of examples/rust/externref.rs, without Python: the blocks are made here, and the last drop frees
//! them there and then. For Address- and ThreadSanitizer too: the threads are pthreads, since a `std` that is
//! not instrumented has its own threads' synchronisation unseen.

#[path = "../../examples/rust/externref.rs"]
pub mod externref;

use externref::PyRef;
use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::{addr_of_mut, null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

const THREADS: usize = 4;
const LOOPS: usize = 50_000;

/// `VMExternData` and `VMExternVTable`, once more: what `PyRef` takes them for is checked by this.
#[repr(C)]
struct Footer {
    ref_count: usize,
    value_ptr: *mut c_void,
    vtable: *const VTable,
    host_word: u64,
}

#[repr(C)]
struct VTable {
    constants: [usize; 4],
    drop_slow: unsafe extern "C" fn(*mut c_void),
}

/// What its owners write in it, each thread in a place of its own, and then the footer.
#[repr(C)]
struct Block {
    written: [UnsafeCell<usize>; THREADS],
    footer: Footer,
}

static FREED: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// The last owner: sees what all others wrote, without a lock, and frees the block.
unsafe extern "C" fn free_block(raw: *mut c_void) {
    let block = Box::from_raw((*raw.cast::<Footer>()).value_ptr.cast::<Block>());
    SEEN.fetch_add(block.written.iter().map(|place| *place.get()).sum(), Ordering::Relaxed);
    FREED.fetch_add(1, Ordering::Relaxed);
}

static VTABLE: VTable = VTable { constants: [0; 4], drop_slow: free_block };

fn new_block() -> *mut c_void {
    let footer = Footer { ref_count: 1, value_ptr: null_mut(), vtable: &VTABLE, host_word: 0 };
    let block = Box::into_raw(Box::new(Block { written: Default::default(), footer }));
    unsafe {
        (*block).footer.value_ptr = block.cast();
        addr_of_mut!((*block).footer).cast()
    }
}

fn new_ref() -> PyRef {
    unsafe { PyRef::from_raw(new_block()) }.unwrap()
}

/// How many blocks `work` frees.
fn freed_by(work: impl FnOnce()) -> usize {
    let before = FREED.load(Ordering::Relaxed);
    work();
    FREED.load(Ordering::Relaxed) - before
}

fn null_is_none() {
    assert!(unsafe { PyRef::from_raw(null_mut()) }.is_none());
    assert!(unsafe { PyRef::clone_from_raw(null_mut()) }.is_none());
}

fn the_last_owner_frees_once() {
    let first = new_ref();
    let second = first.clone();
    assert_eq!((first.strong_count(), second.strong_count()), (2, 2));
    assert_eq!(freed_by(|| drop(first)), 0);
    assert_eq!(second.strong_count(), 1);
    assert_eq!(freed_by(|| drop(second)), 1);
}

fn moving_out_and_in_changes_no_count() {
    let raw = new_ref().into_raw();
    let lent = unsafe { PyRef::clone_from_raw(raw) }.unwrap();
    assert_eq!((lent.as_raw(), lent.strong_count()), (raw, 2));
    assert_eq!(freed_by(|| drop(lent)), 0);
    let back = unsafe { PyRef::from_raw(raw) }.unwrap();
    assert_eq!(back.strong_count(), 1);
    assert_eq!(freed_by(|| drop(back)), 1);
}

fn equality_and_hash_are_of_the_allocation() {
    let (one, other) = (new_ref(), new_ref());
    assert!(one == one.clone() && one != other);
    let set: HashSet<PyRef> = [one.clone(), one.clone(), other.clone()].into_iter().collect();
    assert_eq!(set.len(), 2);
    assert_eq!(format!("{:?}", one), format!("PyRef({:p}, strong_count 2)", one.as_raw()));
    assert_eq!(freed_by(|| drop((one, other, set))), 2);
}

/// Replaces its owner by a clone, again and again, and writes while it is one.
extern "C" fn own(arg: *mut c_void) -> *mut c_void {
    let (owner, place) = *unsafe { Box::from_raw(arg.cast::<(PyRef, usize)>()) };
    let mut owner = owner;
    let place = unsafe {
        let block = (*owner.as_raw().cast::<Footer>()).value_ptr.cast::<Block>();
        (*block).written[place].get()
    };
    for _ in 0..LOOPS {
        let copy = owner.clone();
        unsafe { *place += 1 };
        owner = copy; // drops the older count: which one goes must not matter
    }
    null_mut()
}

extern "C" {
    fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        arg: *mut c_void,
    ) -> i32;
    fn pthread_join(thread: usize, result: *mut *mut c_void) -> i32;
}

fn threads_leave_exact_counts() {
    let freed = freed_by(|| {
        let owner = new_ref();
        let mut threads = [0; THREADS];
        for (place, thread) in threads.iter_mut().enumerate() {
            let arg = Box::into_raw(Box::new((owner.clone(), place)));
            assert_eq!(unsafe { pthread_create(thread, null(), own, arg.cast()) }, 0);
        }
        drop(owner);
        for thread in threads {
            assert_eq!(unsafe { pthread_join(thread, null_mut()) }, 0);
        }
    });
    assert_eq!(freed, 1);
}

fn too_many_owners_abort() {
    let raw = new_block();
    unsafe { (*raw.cast::<Footer>()).ref_count = isize::MAX as usize + 1 };
    let owner = unsafe { PyRef::from_raw(raw) };
    let _too_many = owner.clone();
}

fn main() {
    if std::env::args().any(|arg| arg == "overflow") {
        return too_many_owners_abort();
    }
    null_is_none();
    the_last_owner_frees_once();
    moving_out_and_in_changes_no_count();
    equality_and_hash_are_of_the_allocation();
    threads_leave_exact_counts();
    println!("freed {}, writes seen {}", FREED.load(Ordering::Relaxed), SEEN.load(Ordering::Relaxed));
}
