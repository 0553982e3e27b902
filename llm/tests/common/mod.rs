//! The adapter that the tests run on.

use lacuna::{Gpu, gpu::Options};

/// The best adapter. Without one, a test that needs it is skipped with a line on stderr, unless
/// `LACUNA_TEST_ADAPTER=1` promises one: then the test fails.
pub fn gpu() -> Option<Gpu> {
    match Gpu::new_blocking(&Options::default()) {
        Ok(gpu) => Some(gpu),
        Err(why) if std::env::var_os("LACUNA_TEST_ADAPTER").is_none() => {
            eprintln!("skipped: {why}");
            None
        }
        Err(why) => panic!("LACUNA_TEST_ADAPTER promises an adapter: {why}"),
    }
}
