//! Scores a text: how probable its tokens are.

use super::{Decoder, Stage, plans::Builder};
use crate::{
    error::{Error, Result},
    glue::{Glue, KvType},
};
use lacuna::{Plan, PlanBuilder, Tensor, format::Precision, gpu::ReadBack};

/// What scoring a text needs in addition to the decoder.
#[derive(Debug)]
pub(super) struct Scorer {
    plan: Plan,
    targets: Tensor,
    scores: ReadBack,
}

impl Decoder {
    /// Appends `ids` to the sequence and returns −ln p of each of `targets`, where `targets[i]` is the
    /// token that follows `ids[i]`. A prompt must come before the next token.
    ///
    /// # Errors
    /// Those of [`Decoder::prefill`], and [`Error::Shape`] where the lengths differ.
    pub fn score(&mut self, ids: &[u32], targets: &[u32]) -> Result<Vec<f64>> {
        self.check(ids)?;
        if ids.len() != targets.len() {
            return Err(Error::Shape {
                what: "targets".into(),
                got: targets.len(),
                expected: ids.len(),
            });
        }
        let vocab = self.model.config().vocab;
        if let Some(&id) = targets.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Vocabulary { id, vocab });
        }
        let gpu = self.model.gpu().clone();
        let scorer = match self.score.take() {
            Some(scorer) => scorer,
            None => self.scorer()?,
        };
        let mut nll = Vec::with_capacity(ids.len());
        for (ids, targets) in ids.chunks(self.chunk).zip(targets.chunks(self.chunk)) {
            let mut padded = targets.to_vec();
            padded.resize(self.chunk, 0);
            scorer.targets.write(&gpu, &padded)?;
            self.run_layers(ids)?;
            let mut encoder = gpu.encoder();
            scorer.plan.encode(&mut encoder)?;
            scorer.scores.encode(&mut encoder);
            gpu.submit(encoder)?;
            let scores: Vec<f32> = scorer.scores.read_blocking(&gpu)?;
            nll.extend(scores.chunks(4).take(ids.len()).map(|score| {
                let [highest, sum, target] = [score[0], score[1], score[2]].map(f64::from);
                highest + sum.ln() - target
            }));
            // The final norm has added the last layer's output to the residual stream; the head would add
            // it again.
            self.stage = Stage::Empty;
        }
        self.score = Some(scorer);
        Ok(nll)
    }

    fn scorer(&self) -> Result<Scorer> {
        let (gpu, model, chunk) = (self.model.gpu(), &self.model, self.chunk);
        let targets = gpu.tensor(1, chunk)?;
        let scores = gpu.tensor(chunk, 4)?;
        let widest = model
            .head
            .iter()
            .map(|s| s.weight.rows())
            .max()
            .unwrap_or(0);
        let logits = gpu.tensor(chunk, widest)?;
        let act = &self.activations;
        let builder = Builder {
            gpu,
            activations: act,
            glue: Glue::new(model.config(), &self.caps, self.context, KvType::F32),
            chunk,
            precision: Precision::F32,
            splits: None,
        };
        let mut plan = PlanBuilder::new(gpu);
        builder.final_norm(&mut plan, model, false)?;
        for slice in &model.head {
            let len = slice.weight.rows();
            let logits = logits.view(gpu, 0, chunk, len)?;
            plan.linear(&slice.weight, &act.normed, None, &logits)?;
            plan.dispatch(
                builder.glue.score(chunk, slice.base, len),
                &[logits, targets.clone(), scores.clone()],
            )?;
        }
        Ok(Scorer {
            plan: plan.build()?,
            targets,
            scores: ReadBack::new(gpu, &scores)?,
        })
    }
}
