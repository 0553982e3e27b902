//! Bounds of what a template may make. Fuel counts its steps; these are for steps that make much out of a number.
//!
//! They end mistakes and the simplest of malice. A template that doubles a text at every step still ends in want of
//! memory.

use super::python::invalid;
use minijinja::{
    Environment, Error, State, Value, filters,
    value::{Kwargs, Rest, StringInput},
};
use std::io;

/// The most bytes that a template writes, and `tojson` makes.
pub(super) const MAX_TEXT: usize = 1 << 24;
/// The most items or columns that a filter is asked for.
const MAX_COUNT: usize = 1 << 20;

/// Replaces the filters that make as much as a number says.
pub(super) fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format);
}

fn batch(state: &State, of: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    check(count)?;
    filters::batch(state, of, count, fill)
}

fn slice(state: &State, of: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    check(count)?;
    filters::slice(state, of, count, fill)
}

fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let asked = match width {
        None => options.get("width")?,
        width => width,
    };
    check(asked.unwrap_or_default())?;
    filters::indent(text, width, first, blank, options)
}

fn format(state: &State, pattern: &Value, args: Rest<Value>) -> Result<Value, Error> {
    check_pattern(pattern.as_str().unwrap_or_default())?;
    filters::format(state, pattern, args)
}

fn check(count: usize) -> Result<(), Error> {
    if count > MAX_COUNT {
        return Err(invalid(format!("{count} is too many, at most {MAX_COUNT}")));
    }
    Ok(())
}

/// Refuses widths and precisions of many digits, wherever in a pattern they stand.
pub(super) fn check_pattern(pattern: &str) -> Result<(), Error> {
    let mut before = None;
    for number in pattern.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit()).len();
        // Rust itself formats with a precision of up to 65535.
        if digits > if before == Some('.') { 4 } else { 6 } {
            return Err(invalid("a number in a format is too large"));
        }
        before = number.chars().last();
    }
    Ok(())
}

/// What a template writes.
#[derive(Default)]
pub(super) struct Text(pub Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_TEXT - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
