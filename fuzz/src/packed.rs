//! Packed weights as they lie on a device, read from bytes that a host kept.

use crate::walk;
use lacuna::kernel::Packed;

/// `data` is a packed weight. If it is accepted, kernels must be able to walk it without leaving its
/// words.
pub fn packed(data: &[u8]) {
    match Packed::from_bytes(data) {
        Ok(packed) => {
            assert_eq!(packed.to_bytes(), data);
            walk::dense(data, false);
            walk::dense(data, true);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
