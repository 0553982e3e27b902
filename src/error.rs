//! The one error type of the engine.

use crate::format::{Dtype, Pattern, ZeroPoint};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, always with the quantity, its value and the limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A length or dimension disagrees with the operand it belongs to.
    #[error("{what} is {got}, expected {expected}")]
    Shape {
        /// The quantity, for example `"x elements"`.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The value it must have.
        expected: usize,
    },

    /// Elements of another type than the one expected.
    #[error("{what} has elements of {got}, expected {expected}")]
    Dtype {
        /// Which tensor or data.
        what: &'static str,
        /// Their type.
        got: Dtype,
        /// The type that they must have.
        expected: Dtype,
    },

    /// `rows · cols` or a byte size does not fit the host's address space.
    #[error("{what} of {rows} x {cols} does not fit in memory addresses")]
    TooLarge {
        /// The quantity.
        what: &'static str,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },

    /// An N:M pattern outside `1 ≤ n ≤ m ≤ 32`, `1 ≤ v ≤ 1024`.
    #[error(
        "pattern {n}:{m} with vectors of {v} rows is outside 1 <= n <= m <= 32, 1 <= v <= 1024"
    )]
    Pattern {
        /// Kept per window.
        n: usize,
        /// Window width.
        m: usize,
        /// Rows sharing one index set.
        v: usize,
    },

    /// A quantisation outside 2 to 8 bits and groups of 8, 16 … 128 columns.
    #[error("{bits} bits in groups of {group} columns: bits are 2 to 8, groups 8, 16, 24 … 128")]
    Quant {
        /// Bits of a code.
        bits: u32,
        /// Columns of a group.
        group: usize,
    },

    /// Zeros of a kind that a format does not hold.
    #[error("zeros are of the kind {got:?}: {needed}")]
    ZeroPoint {
        /// Their kind.
        got: ZeroPoint,
        /// What the format holds.
        needed: &'static str,
    },

    /// A quantised weight whose groups do not hold whole windows.
    #[error("groups of {group} columns do not hold whole windows of {m}")]
    GroupWindow {
        /// Columns of a group.
        group: usize,
        /// Columns of a window.
        m: usize,
    },

    /// A share of pruned groups that leaves everything or nothing.
    #[error("{percent} % of the groups pruned: the limits are 1 and 99")]
    Sparsity {
        /// The share asked for.
        percent: u32,
    },

    /// A code, zero, scale or factor that no quantised weight may hold.
    #[error("{what} {value} at element {index} is invalid: {reason}")]
    Code {
        /// Which of them.
        what: &'static str,
        /// Element number in its section.
        index: usize,
        /// Its value.
        value: f32,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// The kept groups of a pruned weight point where nothing is, or are out of order.
    #[error("{what} {value} of row {row} is invalid: {reason}")]
    Group {
        /// `"row offset"` or `"group index"`.
        what: &'static str,
        /// Row it belongs to.
        row: usize,
        /// The stored value.
        value: usize,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// Text that is not a weight format.
    #[error("{text:?} is not a weight format: {reason}")]
    FormatSyntax {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A dense matrix given for exact conversion holds a window with too many non-zeros.
    #[error(
        "not {pattern}: the window at row {row}, columns {col}.. holds {nonzeros} non-zeros; \
         {violating} of {windows} windows violate the pattern ({:.2} %)",
        100.0 * *violating as f64 / *windows as f64
    )]
    Violation {
        /// The pattern asked for.
        pattern: Pattern,
        /// First row of the first violating window.
        row: usize,
        /// First column of the first violating window.
        col: usize,
        /// Columns of that window that hold a non-zero in any of its rows.
        nonzeros: usize,
        /// Number of violating windows in the whole matrix.
        violating: usize,
        /// Number of windows in the whole matrix.
        windows: usize,
    },

    /// A weight is NaN or infinite.
    #[error("weight at row {row}, column {col} is {value}, which is not finite")]
    NotFinite {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// Its value.
        value: f32,
    },

    /// A value does not fit the storage type.
    #[error("value {value} at element {index} overflows {dtype}, whose largest value is {limit}")]
    Overflow {
        /// Element number in row-major order.
        index: usize,
        /// The value.
        value: f32,
        /// The storage type.
        dtype: Dtype,
        /// Its largest finite value.
        limit: f32,
    },

    /// Metadata of a packed weight that points where nothing is, or is out of order.
    #[error("index {index} of window {window} in row {row} is invalid: {reason}")]
    Index {
        /// First row of the index set.
        row: usize,
        /// Window number.
        window: usize,
        /// The stored index.
        index: usize,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// A threshold that is no number from 0 to +∞.
    #[error("the threshold of channel {channel} is {value}, expected 0 to infinity")]
    Threshold {
        /// The first such channel.
        channel: usize,
        /// Its threshold.
        value: f32,
    },

    /// Text that is not a product such as `f16 4096x4096 batch 1`.
    #[error("{text:?} is not a product: {reason}")]
    Problem {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Text that is not a table of measurements.
    #[error("line {line} of the tuning: {reason}")]
    Tuning {
        /// The first such line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// A share of activations that is no number from 0 to 1.
    #[error("the share of activations expected to be active is {0}, expected 0 to 1")]
    Share(f32),

    /// Bytes that are no packed weight.
    #[error("no packed weight: {reason}")]
    Packed {
        /// What is wrong with them.
        reason: String,
    },

    /// A weight that does not fit where another one lies on the device.
    #[error("the weight on the device cannot be replaced: {what} is {got}, expected {expected}")]
    Replace {
        /// The quantity.
        what: &'static str,
        /// Its value in the new weight.
        got: String,
        /// What the place takes.
        expected: String,
    },

    /// A weight whose rows cannot follow those of another.
    #[error("the rows of a weight cannot be appended: {what} is {got}, expected {expected}")]
    Append {
        /// The quantity.
        what: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        expected: String,
    },

    /// The adapter's limit is below what the call needs.
    #[error("{what} is {value}, the limit is {limit}")]
    Limit {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit of this device.
        limit: u64,
    },

    /// A candidate that cannot serve a problem, whatever the device.
    #[error("{what} is {value}, this candidate needs {needed}")]
    Unfit {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: usize,
        /// What it must be, for example `"at most 8"`.
        needed: &'static str,
    },

    /// A feature the device was not created with.
    #[error("{needed_by} needs the feature {feature}, which this device does not have")]
    MissingFeature {
        /// The wgpu feature.
        feature: &'static str,
        /// What asked for it.
        needed_by: String,
    },

    /// No kernel candidate is legal for the problem on this device.
    #[error("no kernel for {problem}: {reasons}")]
    NoKernel {
        /// The problem, as printed by its `Display`.
        problem: String,
        /// Each candidate with the reason it was rejected.
        reasons: String,
    },

    /// No adapter matches.
    #[error("no adapter: {0}")]
    NoAdapter(String),

    /// The device was refused by the adapter.
    #[error("the adapter refused a device: {0}")]
    NoDevice(String),

    /// An operand that a step writes overlaps another operand of the step.
    #[error("operands {first} and {second} overlap in one buffer, and {first} is written")]
    Aliasing {
        /// Name of the operand that is written.
        first: &'static str,
        /// Name of the other one.
        second: &'static str,
    },

    /// A buffer given by the host cannot be used as asked.
    #[error("buffer {what}: {reason}")]
    Buffer {
        /// Operand name.
        what: &'static str,
        /// Why not.
        reason: String,
    },

    /// The allocation failed now; it may succeed after memory is freed.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// What was being allocated.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },

    /// The device is gone. Every later call on it returns this too.
    #[error("the device is lost: {0}")]
    DeviceLost(String),

    /// The GPU did not finish in the time given; the work goes on.
    #[error("the GPU did not finish within {0:?}")]
    Timeout(std::time::Duration),

    /// A shader or pipeline was refused. A defect of the kernel that is named.
    #[error("kernel {kernel} was refused: {message}")]
    Kernel {
        /// Kernel name.
        kernel: String,
        /// The driver's or wgpu's words.
        message: String,
    },

    /// wgpu refused a call for a reason that no other variant covers.
    #[error("{what}: {message}")]
    Gpu {
        /// What was being done.
        what: &'static str,
        /// wgpu's words.
        message: String,
    },
}

impl Error {
    /// [`Error::Shape`] unless `got` is what is expected.
    pub(crate) fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
        if got == expected {
            return Ok(());
        }
        Err(Self::Shape {
            what,
            got,
            expected,
        })
    }
}
