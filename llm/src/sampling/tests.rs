use super::*;
use lacuna::verify::Random;

fn options(temperature: f32, top_k: usize, top_p: f32) -> Sampling {
    Sampling {
        temperature,
        top_k,
        top_p,
        seed: 7,
    }
}

/// How often each id of `logits` is drawn in `draws` steps.
fn counts(logits: &[f32], sampling: &Sampling, draws: u32) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    for step in 0..draws {
        counts[sample(logits, sampling, step).unwrap() as usize] += 1;
    }
    counts
}

/// Pearson's statistic against `probabilities`; ids of probability zero must have no count.
fn chi_square(counts: &[u32], probabilities: &[f64]) -> f64 {
    let draws: u32 = counts.iter().sum();
    let mut statistic = 0.0;
    for (&count, &p) in counts.iter().zip(probabilities) {
        let expected = p * f64::from(draws);
        if p == 0.0 {
            assert_eq!(count, 0);
        } else {
            statistic += (f64::from(count) - expected).powi(2) / expected;
        }
    }
    statistic
}

fn normalized(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

const SPECIAL: [f32; 10] = [
    f32::NEG_INFINITY,
    f32::MIN,
    -1.5,
    -f32::MIN_POSITIVE,
    -1e-45,
    0.0,
    1e-45,
    1.0,
    f32::MAX,
    f32::INFINITY,
];

#[test]
fn keys_order_as_logits_do() {
    assert!(SPECIAL.windows(2).all(|w| key(w[0]) < key(w[1])));
    assert_eq!(key(-0.0), key(0.0));
    assert_eq!((key(f32::NAN), key(-f32::NAN)), (0, 0));
    assert!(key(f32::NEG_INFINITY) > 0);
    let mut random = Random(1);
    for _ in 0..100_000 {
        let (a, b) = (
            f32::from_bits(random.bits() as u32),
            f32::from_bits(random.bits() as u32),
        );
        if !a.is_nan() && !b.is_nan() {
            assert_eq!(key(a).cmp(&key(b)), a.partial_cmp(&b).unwrap(), "{a} {b}");
        }
    }
}

#[test]
fn the_32_bit_product_is_the_64_bit_one() {
    let mut random = Random(2);
    let edges = [0, 1, 0xffff, 0x1_0000, 0x8000_0000, u32::MAX];
    let pairs = edges.iter().flat_map(|&a| edges.map(|b| (a, b)));
    let random = (0..100_000).map(|_| {
        let bits = random.bits();
        (bits as u32, (bits >> 32) as u32)
    });
    for (a, b) in pairs.chain(random) {
        assert_eq!(mul_high(a, b), ((u64::from(a) * u64::from(b)) >> 32) as u32);
        let exact = (u64::from(a) * u64::from(b)).div_ceil(1 << 32).max(1);
        assert_eq!(u64::from(target(a, b)), exact);
    }
}

#[test]
fn masses_always_fit() {
    for count in [
        1,
        2,
        3,
        255,
        256,
        257,
        32_000,
        1 << 17,
        262_144,
        262_145,
        1 << 24,
    ] {
        let unit = unit(count);
        assert!(unit.is_power_of_two() && unit <= 1 << 24);
        assert!(count.checked_mul(unit - 1).is_some());
        assert!(unit == 1 << 24 || u64::from(count) * u64::from(unit) * 2 > 1 << 32);
    }
    let flat = vec![1.0; 1 << 16];
    assert!(sample(&flat, &options(1.0, 0, 0.9), 0).is_ok());
}

#[test]
fn options_outside_their_ranges_are_refused() {
    for bad in [
        options(f32::NAN, 0, 1.0),
        options(-1.0, 0, 1.0),
        options(f32::INFINITY, 0, 1.0),
        options(1.0, 0, 0.0),
        options(1.0, 0, -0.5),
        options(1.0, 0, 1.5),
        options(1.0, 0, f32::NAN),
    ] {
        assert!(
            matches!(sample(&[1.0], &bad, 0), Err(Error::Sampling { .. })),
            "{bad:?}"
        );
    }
    for logits in [&[][..], &[f32::NAN, f32::NAN]] {
        for temperature in [0.0, 1.0] {
            let result = sample(logits, &options(temperature, 0, 1.0), 0);
            assert!(matches!(result, Err(Error::Sampling { .. })));
        }
    }
}

#[test]
fn zero_temperature_takes_the_largest() {
    let greedy = Sampling::default();
    assert_eq!(sample(&[1.0, 3.0, 2.0, 3.0], &greedy, 9).unwrap(), 1);
    assert_eq!(sample(&[f32::NAN, -2.0, f32::NAN], &greedy, 0).unwrap(), 1);
    assert_eq!(sample(&[f32::NEG_INFINITY; 3], &greedy, 0).unwrap(), 0);
    assert_eq!(sample(&[-0.0, 0.0], &greedy, 0).unwrap(), 0);
    assert_eq!(sample(&[1.0, f32::INFINITY], &greedy, 0).unwrap(), 1);
}

#[test]
fn one_of_the_top_is_the_largest() {
    let mut random = Random(3);
    for step in 0..500 {
        let logits = random.vector(50);
        let best = arg_max(&logits).unwrap();
        for sampling in [
            options(5.0, 1, 1.0),
            options(5.0, 0, 1e-12),
            options(1e-30, 0, 1.0),
        ] {
            assert_eq!(
                sample(&logits, &sampling, step).unwrap(),
                best,
                "{sampling:?}"
            );
        }
    }
}

/// The 99.99 % quantiles of χ² are 35.0 for 9, 31.8 for 7 and 23.5 for 4 degrees of freedom. The draws
/// are a fixed sequence, so the test always passes or always fails.
#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = (0..10).map(|i| (i * 7 % 10) as f32 * 0.3).collect();
    for temperature in [0.5, 1.0, 2.0] {
        let weights: Vec<f64> = logits
            .iter()
            .map(|&l| f64::from(l / temperature).exp())
            .collect();
        let drawn = counts(&logits, &options(temperature, 0, 1.0), 100_000);
        let statistic = chi_square(&drawn, &normalized(&weights));
        assert!(statistic < 35.0, "T {temperature}: {statistic}");
    }
}

#[test]
fn top_k_draws_among_the_k_largest() {
    let logits = [0.5, 2.0, 1.0, 1.5, -1.0, 0.0];
    let weights: Vec<f64> = logits
        .iter()
        .map(|&l| if l >= 1.0 { f64::from(l).exp() } else { 0.0 })
        .collect();
    let drawn = counts(&logits, &options(1.0, 3, 1.0), 50_000);
    assert!(chi_square(&drawn, &normalized(&weights)) < 23.5);
    // All tokens that tie with the third largest stay.
    let drawn = counts(&[2.0, 1.0, 3.0, 1.0, 0.0, 1.0], &options(1.0, 3, 1.0), 2000);
    assert!(drawn[1] > 0 && drawn[3] > 0 && drawn[5] > 0 && drawn[4] == 0);
    // A k of the number of tokens keeps all of them.
    let some = options(1.0, 6, 1.0);
    let all = options(1.0, 0, 1.0);
    assert!(
        (0..200).all(|s| sample(&logits, &some, s).unwrap() == sample(&logits, &all, s).unwrap())
    );
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_it() {
    // Probabilities 0.5, 0.25, 0.125, 0.125 in the order 2, 0, {1, 3}.
    let logits = [0.25f32, 0.125, 0.5, 0.125].map(f32::ln);
    for (top_p, kept) in [
        (0.3, [false, false, true, false]),
        (0.499, [false, false, true, false]),
        (0.51, [true, false, true, false]),
        (0.74, [true, false, true, false]),
        (0.76, [true, true, true, true]),
        (1.0, [true, true, true, true]),
    ] {
        let drawn = counts(&logits, &options(1.0, 0, top_p), 20_000);
        assert_eq!(
            drawn.iter().map(|&n| n > 0).collect::<Vec<_>>(),
            kept,
            "{top_p}"
        );
        let weights: Vec<f64> = logits
            .iter()
            .zip(kept)
            .map(|(&l, kept)| if kept { f64::from(l).exp() } else { 0.0 })
            .collect();
        assert!(chi_square(&drawn, &normalized(&weights)) < 23.5, "{top_p}");
    }
}

#[test]
fn a_top_p_of_almost_nothing_keeps_one_token() {
    let tiny = options(1.0, 0, 1e-12);
    assert_eq!(tiny.words()[2], 1, "0 would keep all of them");
    let drawn = counts(&[0.0, 1.0, 0.5], &tiny, 100);
    assert_eq!(drawn, [0, 100, 0]);
}

#[test]
fn what_is_drawn_is_always_allowed() {
    let mut random = Random(4);
    for step in 0..2000 {
        let len = 1 + (random.bits() % 300) as usize;
        let logits: Vec<f32> = (0..len)
            .map(|_| match random.bits() % 20 {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                2 => 1.0,
                _ => 8.0 * random.signed(),
            })
            .collect();
        let k = (random.bits() % 12) as usize;
        let p = random.signed().abs() + 1e-3;
        let sampling = options(0.1 + random.signed().abs(), k, p.min(1.0));
        let Ok(id) = sample(&logits, &sampling, step) else {
            assert!(logits.iter().all(|l| l.is_nan()));
            continue;
        };
        let chosen = logits[id as usize];
        assert!(!chosen.is_nan());
        let above = logits.iter().filter(|&&l| l > chosen).count();
        assert!(
            k == 0 || above < k,
            "{above} logits above one of the top {k}"
        );
    }
}

#[test]
fn infinities_have_their_limits() {
    let all = options(1.0, 0, 1.0);
    for step in 0..100 {
        let id = sample(&[1.0, f32::INFINITY, 2.0, f32::INFINITY], &all, step).unwrap();
        assert!(id == 1 || id == 3);
        assert!(sample(&[f32::NEG_INFINITY, f32::NEG_INFINITY], &all, step).unwrap() < 2);
        assert_eq!(sample(&[f32::NEG_INFINITY, 0.0], &all, step).unwrap(), 1);
    }
}

#[test]
fn seeds_repeat_and_differ() {
    let logits = vec![0.0; 100];
    let run = |seed| -> Vec<u32> {
        let sampling = Sampling {
            seed,
            ..options(1.0, 0, 1.0)
        };
        (0..50)
            .map(|s| sample(&logits, &sampling, s).unwrap())
            .collect()
    };
    assert_eq!(run(1), run(1));
    for other in [2, 1 << 32, (1 << 32) + 1, u64::MAX] {
        let same = run(1)
            .iter()
            .zip(run(other))
            .filter(|&(&a, b)| a == b)
            .count();
        assert!(same < 10, "{same} draws in common with seed {other}");
    }
}

/// Bits of the hash are balanced, and a step changes half of them.
#[test]
fn the_hash_mixes() {
    let steps = 20_000;
    for bit in 0..32 {
        let ones = (0..steps).filter(|&s| hash(3, s) >> bit & 1 == 1).count();
        assert!(ones.abs_diff(steps as usize / 2) < 300, "bit {bit}: {ones}");
    }
    let flips: u32 = (0..steps)
        .map(|s| (hash(3, s) ^ hash(3, s + 1)).count_ones())
        .sum();
    assert!(flips.abs_diff(steps * 16) < steps / 4, "{flips}");
}
