//! Ctrl-C: ends the program at once, or, after [`defer`], at the next safe point, so that no file or
//! row is left half written.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static DEFERRED: AtomicBool = AtomicBool::new(false);

/// Catches SIGINT, SIGTERM and their like.
pub fn install() {
    let handler = || {
        let again = INTERRUPTED.swap(true, SeqCst);
        // A second request does not wait for the safe point.
        if again || !DEFERRED.load(SeqCst) {
            std::process::exit(i32::from(Error::Interrupted.code()));
        }
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C will not be caught: {e}");
    }
}

/// From now on an interruption waits for the next [`check`].
pub fn defer() {
    DEFERRED.store(true, SeqCst);
}

/// Does `work`, for whose end an interruption waits; afterwards they end the program at once again.
pub fn deferred<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    defer();
    let done = work();
    DEFERRED.store(false, SeqCst);
    check()?;
    done
}

/// A safe point: fails if an interruption is pending.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(SeqCst) {
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}
