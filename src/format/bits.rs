//! Unsigned fields packed into words or bytes, little-end first: the only place that knows bit order.
//!
//! ```text
//! field 0 is the lowest `width` bits of word 0, field 1 the next ones …
//! width 3:  word 0 = |fields 0 … 9|lower 2 bits of field 10|
//!           word 1 = |upper bit of field 10|fields 11 …    |
//! ```
//! A field may straddle two words. Rows start on a word of their own.
//!
//! Files of some other programs put only whole fields into a word, 10 of 3 bits, and leave its upper bits unused:
//! the functions called `whole` are for these.

/// Bits needed to number `count` things: `ceil(log2(count))`, 0 for one thing.
pub const fn width_of(count: usize) -> u32 {
    if count <= 1 {
        0
    } else {
        usize::BITS - (count - 1).leading_zeros()
    }
}

/// Words that `count` fields of `width` bits take.
pub const fn words_for(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(32)
}

/// Bytes that `count` fields of `width` bits take.
pub const fn bytes_for(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Packs fields of at most 8 bits into bytes: the words above in little-endian order, cut
/// after the last byte in use.
pub fn pack(fields: &[u8], width: u32) -> Vec<u8> {
    let mut bytes = vec![0; bytes_for(fields.len(), width)];
    for (i, &field) in fields.iter().enumerate() {
        let bit = i * width as usize;
        let wide = u16::from(field) << (bit % 8);
        bytes[bit / 8] |= wide as u8;
        if wide >> 8 != 0 {
            bytes[bit / 8 + 1] |= (wide >> 8) as u8;
        }
    }
    bytes
}

/// The first `count` fields of `width` ≤ 8 bits, or `None` where a bit is set after them.
///
/// # Panics
/// Where `bytes` is shorter than [`bytes_for`] says.
pub fn unpack(bytes: &[u8], width: u32, count: usize) -> Option<Vec<u8>> {
    let used = count * width as usize;
    if used % 8 != 0 && bytes[used / 8] >> (used % 8) != 0 {
        return None;
    }
    let field = |i: usize| {
        let bit = i * width as usize;
        let low = u16::from(bytes[bit / 8]);
        let high = bytes.get(bit / 8 + 1).map_or(0, |&b| u16::from(b));
        (((high << 8 | low) >> (bit % 8)) & ((1 << width) - 1)) as u8
    };
    Some((0..count).map(field).collect())
}

/// Field `index` of `words`.
pub fn get(words: &[u32], width: u32, index: usize) -> u32 {
    if width == 0 {
        return 0;
    }
    let bit = index * width as usize;
    let (word, shift) = (bit / 32, bit % 32);
    let low = u64::from(words[word]);
    let high = words.get(word + 1).map_or(0, |&w| u64::from(w));
    (((high << 32 | low) >> shift) & ((1 << width) - 1)) as u32
}

/// Stores `value` as field `index`; the field must be zero before.
pub fn set(words: &mut [u32], width: u32, index: usize, value: u32) {
    if width == 0 {
        return;
    }
    let bit = index * width as usize;
    let (word, shift) = (bit / 32, bit % 32);
    let wide = u64::from(value) << shift;
    words[word] |= wide as u32;
    if wide >> 32 != 0 {
        words[word + 1] |= (wide >> 32) as u32;
    }
}

/// Words that `count` fields take where none straddles two words.
pub const fn whole_words_for(count: usize, width: u32) -> usize {
    count.div_ceil((32 / width) as usize)
}

/// Field `index` of `words` where none straddles two words.
pub fn get_whole(words: &[u32], width: u32, index: usize) -> u32 {
    let per_word = (32 / width) as usize;
    get(&words[index / per_word..][..1], width, index % per_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_fields_leave_the_upper_bits_of_a_word_unused() {
        // Eleven fields of 3 bits: the last is in a word of its own.
        let words = [0x08fa_c688, 0xffff_fffd];
        let fields: Vec<u32> = (0..11).map(|i| get_whole(&words, 3, i)).collect();
        assert_eq!(fields, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 5]);
        assert_eq!([3, 4, 5, 8].map(|w| whole_words_for(30, w)), [3, 4, 5, 8]);
    }

    #[test]
    fn fields_of_every_width_come_back() {
        for width in 0..=16 {
            let count = 67;
            let mut words = vec![0; words_for(count, width)];
            let value = |i: usize| (i as u32).wrapping_mul(2_654_435_761) & ((1u32 << width) - 1);
            (0..count).for_each(|i| set(&mut words, width, i, value(i)));
            assert!(
                (0..count).all(|i| get(&words, width, i) == value(i)),
                "width {width}"
            );
        }
    }

    #[test]
    fn bytes_hold_the_same_bits_as_words() {
        for width in 1..=8 {
            let fields: Vec<u8> = (0..37u32)
                .map(|i| (i.wrapping_mul(151) & ((1 << width) - 1)) as u8)
                .collect();
            let mut words = vec![0; words_for(fields.len(), width)];
            for (i, &field) in fields.iter().enumerate() {
                set(&mut words, width, i, field.into());
            }
            let bytes = pack(&fields, width);
            let of_words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(bytes, of_words[..bytes.len()], "width {width}");
            assert_eq!(unpack(&bytes, width, fields.len()), Some(fields));
        }
        assert_eq!(unpack(&[0b1000_0000], 3, 2), None);
    }

    #[test]
    fn widths_follow_the_logarithm() {
        assert_eq!(
            [1, 2, 3, 4, 5, 8, 9, 16, 17, 32].map(width_of),
            [0, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        );
    }
}
