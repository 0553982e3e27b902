//! Steps that are submitted before they are asked for.

use super::*;

/// What may be asked of a sequence.
#[derive(Debug, Clone, Copy)]
enum Call {
    Greedy,
    Drawn,
    Logits,
    Prefill(u32),
    Score(u32),
    Rewind(usize),
    Save,
    Restore,
}

impl Call {
    /// Tokens most often, the other calls now and then.
    fn any(random: &mut Random) -> Self {
        let number = (random.bits() >> 32) as u32;
        match random.bits() % 24 {
            0 => Self::Logits,
            1 | 2 => Self::Prefill(1 + number % 11),
            3 => Self::Score(1 + number % 11),
            4 => Self::Rewind(number as usize % 30),
            5 => Self::Save,
            6 => Self::Restore,
            7..12 => Self::Drawn,
            _ => Self::Greedy,
        }
    }

    /// What a decoder answers.
    fn of(self, decoder: &mut Decoder, saved: &mut Option<Saved>) -> Result<Vec<f64>> {
        let drawn = Sampling {
            temperature: 1.5,
            seed: 7,
            ..Sampling::default()
        };
        let done = |()| vec![];
        Ok(match self {
            Self::Greedy => vec![decoder.next_token(&Sampling::default())?.into()],
            Self::Drawn => vec![decoder.next_token(&drawn)?.into()],
            Self::Logits => decoder.logits()?.into_iter().map(f64::from).collect(),
            Self::Prefill(count) => done(decoder.prefill(&ids(count), &mut go_on)?),
            Self::Score(count) => decoder.score(&ids(count), &ids(count))?,
            Self::Rewind(position) => done(decoder.rewind(position)?),
            Self::Save => {
                *saved = Some(decoder.save()?);
                vec![]
            }
            Self::Restore => done(saved.as_ref().map_or(Ok(()), |s| decoder.restore(s))?),
        })
    }
}

#[test]
fn a_decoder_that_runs_ahead_answers_as_one_that_waits() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(gemma(), "f32"));
    let mut decoders = [false, true].map(|runs_ahead| {
        let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
        decoder.runs_ahead = runs_ahead;
        (decoder, None)
    });
    let mut random = Random(11);
    let (mut tokens, mut in_flight) = (0, 0);
    for n in 0..600 {
        let call = Call::any(&mut random);
        let answers = decoders.each_mut().map(|(decoder, saved)| {
            let answer = call.of(decoder, saved);
            format!("{answer:?} at {}", decoder.position())
        });
        assert_eq!(answers[0], answers[1], "call {n}, {call:?}");
        tokens += usize::from(answers[1].starts_with("Ok([") && matches!(call, Call::Greedy));
        in_flight += usize::from(decoders[1].0.ahead.is_some());
    }
    assert!(decoders[0].0.ahead.is_none());
    assert!(tokens > 50 && in_flight > 50, "{tokens}, {in_flight}");
}

#[test]
fn a_step_that_ran_ahead_past_what_is_no_number_is_forgotten() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(llama(), "f32"));
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    decoder.runs_ahead = true;
    decoder.prefill(&ids(5), &mut go_on).unwrap();
    let expected = decoder.logits().unwrap();
    decoder.logits.write(&gpu, &[f32::NAN; 83]).unwrap();
    let greedy = Sampling::default();
    assert!(matches!(
        decoder.next_token(&greedy),
        Err(Error::Sampling { .. })
    ));
    assert!(decoder.ahead.is_none());
    assert!(matches!(decoder.next_token(&greedy), Err(Error::Empty)));
    decoder.rewind(0).unwrap();
    decoder.prefill(&ids(5), &mut go_on).unwrap();
    assert_eq!(decoder.logits().unwrap(), expected);
}
