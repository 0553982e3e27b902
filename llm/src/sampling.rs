//! Draws a token from logits: the algorithm, in the arithmetic that a shader has.
//!
//! Every sum is one of integers, so the order of its terms does not matter, and every selection compares
//! [`key()`]s, so a radix select finds the same sets:
//!
//! 1. Temperature 0 takes the largest logit; of equal ones, that of the lowest id.
//! 2. *Top-k*: tokens stay whose key is at least that of the k-th largest logit, including all that tie
//!    with it.
//! 3. A token's *mass* is `⌊p · unit⌋`, at most `unit − 1`, where `p = e^((l − max) / T)` and [`unit()`]
//!    is the largest power of two, up to 2²⁴, with which the sum of the masses of all tokens that stayed
//!    fits 32 bits. Tokens below `1 / unit` of the most probable one are never drawn.
//! 4. *Top-p*: in order of descending keys, tokens stay until their mass reaches `top_p` of the total,
//!    including all that tie with the last one.
//! 5. A [`hash()`] of seed and step picks a point uniformly in the mass that stayed, laid out by ascending id.
//!
//! NaN is never chosen. A logit equal to the largest has p = 1, even if that is infinite.

use crate::error::{Error, Result};

/// How a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the largest.
    pub temperature: f32,
    /// How many of the largest logits stay; 0 keeps all.
    pub top_k: usize,
    /// The most probable tokens stay that together have this probability, in (0, 1].
    pub top_p: f32,
    /// Chooses the sequence of draws.
    pub seed: u64,
}

impl Default for Sampling {
    /// Always takes the largest logit.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks that all options are in their ranges.
    ///
    /// # Errors
    /// [`Error::Sampling`] for the first that is not.
    pub fn check(&self) -> Result<()> {
        let refused = |what, value: f32, allowed| {
            Err(Error::Sampling {
                what,
                value: f64::from(value),
                allowed,
            })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refused("temperature", self.temperature, "0 or more, and finite");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refused("top_p", self.top_p, "more than 0, at most 1");
        }
        Ok(())
    }

    /// What `sample.wgsl` reads.
    pub(crate) fn words(&self) -> [u32; 5] {
        [
            self.temperature.to_bits(),
            u32::try_from(self.top_k).unwrap_or(u32::MAX),
            self.share().unwrap_or(0),
            self.seed as u32,
            (self.seed >> 32) as u32,
        ]
    }

    /// `top_p` as a fraction of 2³², rounded down but not to 0; `None` if everything stays.
    pub fn share(&self) -> Option<u32> {
        (self.top_p < 1.0).then(|| ((f64::from(self.top_p) * f64::exp2(32.0)) as u32).max(1))
    }
}

/// An integer that orders as logits do. Both zeros have the same key; NaN has key 0, below all others.
pub const fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        0
    } else if bits == 0x8000_0000 || bits & 0x8000_0000 == 0 {
        bits | 0x8000_0000
    } else {
        !bits
    }
}

/// The unit of mass if `count` tokens stayed: `2³² / count`, rounded down to a power of two, at most 2²⁴.
pub const fn unit(count: u32) -> u32 {
    let shift = 32 - count.saturating_sub(1).leading_zeros();
    if shift <= 8 {
        1 << 24
    } else {
        1 << (32 - shift)
    }
}

/// The mass of a token.
fn mass(logit: f32, max: f32, temperature: f32, unit: u32) -> u32 {
    if key(logit) == key(max) {
        return unit - 1;
    }
    let p = ((logit - max) / temperature).exp();
    ((p * unit as f32) as u32).min(unit - 1)
}

/// A well-mixed 32-bit hash of a seed and a step, of 32-bit operations only: rounds of the
/// permutation RXS-M-XS of PCG, as compared in <https://jcgt.org/published/0009/03/02/>.
/// The 2³² steps of one seed give 2³² different values.
pub const fn hash(seed: u64, step: u32) -> u32 {
    let high = mix((seed >> 32) as u32);
    let low = mix(high.wrapping_add(seed as u32));
    mix(mix(low.wrapping_add(step)))
}

/// One round.
const fn mix(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// The upper half of the 64-bit product, in 32-bit operations.
pub const fn mul_high(a: u32, b: u32) -> u32 {
    let (a0, a1) = (a & 0xffff, a >> 16);
    let (b0, b1) = (b & 0xffff, b >> 16);
    let middle = a1 * b0 + ((a0 * b0) >> 16);
    let carry = a0 * b1 + (middle & 0xffff);
    a1 * b1 + (middle >> 16) + (carry >> 16)
}

/// The mass that top-p must reach: `⌈share · total / 2³²⌉`, at least 1.
const fn target(share: u32, total: u32) -> u32 {
    let rest = share.wrapping_mul(total) != 0;
    let target = mul_high(share, total) + rest as u32;
    if target == 0 { 1 } else { target }
}

/// The id of the largest logit; of equal ones, the lowest id.
///
/// # Errors
/// [`Error::Sampling`] where no logit is a number.
pub fn arg_max(logits: &[f32]) -> Result<u32> {
    let mut best = (0, 0);
    for (id, &logit) in (0u32..).zip(logits) {
        if key(logit) > best.0 {
            best = (key(logit), id);
        }
    }
    if best.0 == 0 {
        return Err(no_number());
    }
    Ok(best.1)
}

pub(crate) fn no_number() -> Error {
    Error::Sampling {
        what: "count of logits that are numbers",
        value: 0.0,
        allowed: "1 or more",
    }
}

/// A token that may be drawn.
struct Candidate {
    id: u32,
    key: u32,
    mass: u32,
}

/// Draws a token. The same logits, options and step give the same token.
///
/// # Errors
/// [`Error::Sampling`] for an option outside its range, and where no logit is a number.
pub fn sample(logits: &[f32], sampling: &Sampling, step: u32) -> Result<u32> {
    sampling.check()?;
    let best = arg_max(logits)?;
    if sampling.temperature == 0.0 {
        return Ok(best);
    }
    let mut candidates = top_k(logits, sampling.top_k);
    let max = logits[best as usize];
    let unit = unit(candidates.len() as u32);
    for c in &mut candidates {
        c.mass = mass(logits[c.id as usize], max, sampling.temperature, unit);
    }
    if let Some(share) = sampling.share() {
        top_p(&mut candidates, share);
    }
    let total = candidates.iter().map(|c| c.mass).sum();
    let drawn = mul_high(hash(sampling.seed, step), total);
    let mut running = 0;
    for c in &candidates {
        running += c.mass;
        if running > drawn {
            return Ok(c.id);
        }
    }
    // Never reached: the largest logit has a mass, so the total is not 0 and `drawn` is below it.
    Ok(best)
}

/// The tokens that are numbers and not below the `k`-th largest, ids ascending.
fn top_k(logits: &[f32], k: usize) -> Vec<Candidate> {
    let tokens = (0u32..).zip(logits).map(|(id, &logit)| Candidate {
        id,
        key: key(logit),
        mass: 0,
    });
    let mut tokens: Vec<Candidate> = tokens.filter(|c| c.key > 0).collect();
    if (1..tokens.len()).contains(&k) {
        let mut keys: Vec<u32> = tokens.iter().map(|c| c.key).collect();
        let (_, &mut least, _) = keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        tokens.retain(|c| c.key >= least);
    }
    tokens
}

/// Keeps the most probable tokens until their mass reaches the share.
fn top_p(candidates: &mut Vec<Candidate>, share: u32) {
    let target = target(share, candidates.iter().map(|c| c.mass).sum());
    let mut descending: Vec<(u32, u32)> = candidates.iter().map(|c| (c.key, c.mass)).collect();
    descending.sort_unstable_by(|a, b| b.cmp(a));
    let mut running = 0;
    for (key, mass) in descending {
        running += mass;
        if running >= target {
            candidates.retain(|c| c.key >= key);
            return;
        }
    }
}

#[cfg(test)]
mod tests;
