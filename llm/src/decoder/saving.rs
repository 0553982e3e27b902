//! Rewinds a sequence, saves it to the host and restores it.

use super::{Decoder, Stage};
use crate::{
    error::{Error, Result},
    glue::KvType,
    weights::expect,
};
use lacuna::{Tensor, gpu::ReadBack};

/// The keys and values of a sequence, copied to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    position: usize,
    kv: KvType,
    cache: Vec<Vec<u32>>,
}

impl Decoder {
    /// Forgets all but the first `position` tokens; a prompt must follow.
    ///
    /// # Errors
    /// [`Error::Context`] where the sequence is shorter.
    pub fn rewind(&mut self, position: usize) -> Result<()> {
        if position > self.position {
            return Err(Error::Context {
                tokens: position,
                limit: self.position,
            });
        }
        self.position = position;
        self.stage = Stage::Empty;
        self.ahead = None;
        Ok(())
    }

    /// Copies the keys and values to the host.
    ///
    /// # Errors
    /// The engine's.
    pub fn save(&self) -> Result<Saved> {
        let gpu = self.model.gpu();
        let layer = |cache: &Tensor| {
            let read = ReadBack::new(gpu, cache)?;
            let mut encoder = gpu.encoder();
            read.encode(&mut encoder);
            gpu.submit(encoder)?;
            read.read_blocking(gpu)
        };
        let cache = self.activations.cache.iter().map(layer);
        Ok(Saved {
            position: self.position,
            kv: self.kv,
            cache: cache.collect::<lacuna::Result<_>>()?,
        })
    }

    /// Goes back to where `saved` was made, by a decoder of the same model and options; a prompt must
    /// follow.
    ///
    /// # Errors
    /// [`Error::Choice`] for keys and values of another type, [`Error::Shape`] for another number of layers or a
    /// cache of another size; the sequence is then as it was.
    pub fn restore(&mut self, saved: &Saved) -> Result<()> {
        if saved.kv != self.kv {
            return Err(Error::Choice {
                what: "type of saved keys and values",
                value: format!("{:?}", saved.kv),
                supported: format!("{:?}, the decoder's own", self.kv),
            });
        }
        let (ours, theirs) = (&self.activations.cache, &saved.cache);
        expect(
            || "layers of the saved cache".into(),
            theirs.len(),
            ours.len(),
        )?;
        for (cache, words) in ours.iter().zip(theirs) {
            let len = cache.batch() * cache.len();
            expect(|| "elements of a saved cache".into(), words.len(), len)?;
        }
        for (cache, words) in ours.iter().zip(theirs) {
            cache.write(self.model.gpu(), words)?;
        }
        self.position = saved.position;
        self.stage = Stage::Empty;
        self.ahead = None;
        Ok(())
    }
}
