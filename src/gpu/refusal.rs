//! Refused allocations, for tests: the n-th thing that wgpu is asked for is refused.

use std::cell::Cell;

thread_local! {
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// On this thread, lets `made` more calls pass and makes the next one fail for want of memory.
pub(crate) fn refuse_after(made: usize) {
    LEFT.set(Some(made));
}

/// Takes the refusal back; returns whether it had not come yet.
pub(crate) fn pardon() -> bool {
    LEFT.take().is_some()
}

/// Whether this call is the one to be refused.
pub(super) fn is_due() -> bool {
    let left = LEFT.get();
    LEFT.set(left.and_then(|n| n.checked_sub(1)));
    left == Some(0)
}
