//! Ctrl-C: at once where nothing is at stake, at the next safe point where a file or a row
//! is being written.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static DEFERRED: AtomicBool = AtomicBool::new(false);

/// Catches SIGINT, SIGTERM and their like.
pub fn install() {
    let handler = || {
        let again = INTERRUPTED.swap(true, SeqCst);
        // Asked twice, do not wait for the safe point.
        if again || !DEFERRED.load(SeqCst) {
            std::process::exit(i32::from(Error::Interrupted.code()));
        }
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C will not be caught: {e}");
    }
}

/// From here on an interruption waits for [`check`].
pub fn defer() {
    DEFERRED.store(true, SeqCst);
}

/// A safe point.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(SeqCst) {
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}
