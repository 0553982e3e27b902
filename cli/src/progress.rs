//! Progress on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `total` steps. indicatif draws nothing unless stderr is a terminal.
pub fn bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}");
    ProgressBar::new(total as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A spinner for work of unknown length.
pub fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} {wide_msg}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
