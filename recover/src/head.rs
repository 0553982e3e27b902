//! The last norm and the head: what a residual stream predicts, and how far that is from the teacher.

use crate::{
    error::{Error, Result},
    network::{rms_norm, tensor, values},
};
use burn_tensor::{Device, Tensor, activation::log_softmax};
use lacuna::{format::Matrix, verify::Random};
use lacuna_llm::{EMBEDDING, HEAD, Source};

/// Logits that exist at one time, for each of the two models: 2²⁴, 64 MiB. With a vocabulary of 262 144
/// they are those of 64 positions.
const LOGITS: usize = 1 << 24;

/// The heads of a model and of the dense one that it should follow.
pub(crate) struct Heads {
    student: Head,
    teacher: Head,
    eps: f64,
    /// Positions whose logits exist at one time.
    together: usize,
}

struct Head {
    norm: Tensor<1>,
    weight: Tensor<2>,
}

impl Heads {
    pub fn load(student: &dyn Source, teacher: &dyn Source, device: &Device) -> Result<Self> {
        let config = student.config();
        let matrix = |source: &dyn Source| -> Result<Matrix> {
            let tied = source.config().tied_head;
            Ok(source.matrix(if tied { EMBEDDING } else { HEAD })?)
        };
        let norm = |source: &dyn Source| -> Result<Tensor<1>> {
            Ok(tensor([config.hidden], source.norm("model.norm")?, device))
        };
        let weight = |matrix: &Matrix| -> Result<Tensor<2>> {
            let [rows, cols] = [config.vocab, config.hidden];
            for (what, got, expected) in [
                ("rows of the head", matrix.rows(), rows),
                ("columns of the head", matrix.cols(), cols),
            ] {
                if got != expected {
                    return Err(Error::Shape {
                        what,
                        got,
                        expected,
                    });
                }
            }
            Ok(tensor([rows, cols], decoded(matrix), device))
        };
        let (of_student, of_teacher) = (matrix(student)?, matrix(teacher)?);
        // Equal heads share one tensor: it is the largest weight of a small model, and compressed models
        // mostly keep it.
        let same = of_student == of_teacher;
        let weight_of_student = weight(&of_student)?;
        drop(of_student);
        let weight_of_teacher = if same {
            weight_of_student.clone()
        } else {
            weight(&of_teacher)?
        };
        Ok(Self {
            student: Head {
                norm: norm(student)?,
                weight: weight_of_student,
            },
            teacher: Head {
                norm: norm(teacher)?,
                weight: weight_of_teacher,
            },
            eps: config.norm_eps.into(),
            together: (LOGITS / config.vocab.max(1)).max(1),
        })
    }

    /// The Kullback-Leibler divergence KL(teacher ‖ student), summed over the positions of the residual
    /// streams `[windows, tokens, hidden]` after all layers.
    pub fn divergence(&self, student: Tensor<3>, teacher: Tensor<3>) -> Result<f64> {
        let mut sum = 0.0;
        for (student, teacher) in self.slices(student, teacher) {
            sum += f64::from(values(self.of_slice(student, teacher))?[0]);
        }
        Ok(sum)
    }

    /// [`divergence`](Self::divergence), and the gradient of its mean over positions by the student's streams.
    pub fn gradient(&self, student: Tensor<3>, teacher: Tensor<3>) -> Result<(f64, Tensor<3>)> {
        let shape = student.dims();
        let positions = (shape[0] * shape[1]) as f64;
        let (mut sum, mut gradients) = (0.0, vec![]);
        for (student, teacher) in self.slices(student, teacher) {
            let student = student.autodiff().require_grad();
            let divergence = self.of_slice(student.clone(), teacher);
            let gradient = student.grad(&divergence.backward());
            sum += f64::from(values(divergence.inner())?[0]);
            let lost = || Error::Device("a stream has no gradient".into());
            gradients.push(gradient.ok_or_else(lost)?);
        }
        let gradient = Tensor::cat(gradients, 0) / positions;
        Ok((sum, gradient.reshape(shape)))
    }

    /// Gradients of `−log p(token)` by the teacher's streams, for tokens drawn from its own predictions.
    pub fn scores(&self, streams: Tensor<3>, random: &mut Random) -> Result<Tensor<3>> {
        let (shape, device) = (streams.dims(), streams.device());
        let mut gradients = vec![];
        for x in streams.flatten::<2>(0, 1).split(self.together, 0) {
            let x = x.autodiff().require_grad();
            let logs = self.teacher.log_probabilities(x.clone(), self.eps);
            let dims = logs.dims();
            let mut drawn = values(logs.clone().inner())?;
            for of_position in drawn.chunks_exact_mut(dims[1]) {
                let token = draw(of_position, random);
                of_position.fill(0.0);
                of_position[token] = -1.0;
            }
            let loss = (logs * tensor(dims, drawn, &device)).sum();
            let lost = || Error::Device("a stream has no gradient".into());
            gradients.push(x.grad(&loss.backward()).ok_or_else(lost)?);
        }
        Ok(Tensor::cat(gradients, 0).reshape(shape))
    }

    fn slices(
        &self,
        student: Tensor<3>,
        teacher: Tensor<3>,
    ) -> impl Iterator<Item = (Tensor<2>, Tensor<2>)> {
        let flat = |x: Tensor<3>| x.flatten::<2>(0, 1).split(self.together, 0);
        flat(student).into_iter().zip(flat(teacher))
    }

    fn of_slice(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let student = self.student.log_probabilities(student, self.eps);
        let teacher = self.teacher.log_probabilities(teacher, self.eps);
        (teacher.clone().exp() * (teacher - student)).sum()
    }
}

impl Head {
    fn log_probabilities(&self, x: Tensor<2>, eps: f64) -> Tensor<2> {
        let h = rms_norm(x, &self.norm, eps);
        log_softmax(h.matmul(self.weight.clone().transpose()), 1)
    }
}

/// Draws a token from its log-probabilities.
fn draw(logs: &[f32], random: &mut Random) -> usize {
    let mut left = f64::from(random.signed()).midpoint(1.0);
    let place = logs.iter().position(|&log| {
        left -= f64::from(log).exp();
        left < 0.0
    });
    // What rounding leaves over belongs to the last token.
    place.unwrap_or(logs.len() - 1)
}

fn decoded(matrix: &Matrix) -> Vec<f32> {
    match matrix {
        Matrix::Dense(dense) => dense.values().to_f32(),
        packed => packed.to_dense().values().to_f32(),
    }
}
