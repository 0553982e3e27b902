//! A layer whose packed products are trained.

use crate::{
    adam::Adam,
    error::Result,
    job::{Job, each, load},
    network::{Frame, Products, tensor, values},
    trainable::{Rates, Trainable, Trained},
};
use burn_tensor::{Device, Gradients, Tensor};
use lacuna::format::Matrix;
use rayon::prelude::*;

/// A layer whose products are parameters, with the moments of their gradients.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub frame: Frame,
    /// In the order of [`Linear::ALL`].
    pub parts: [Part; 7],
    device: Device,
}

/// One product in training.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub trainable: Trainable,
    pub adam: Adam,
    shape: [usize; 2],
}

impl Layer {
    /// Layer `n` of the dense model.
    pub fn dense(job: &Job, n: usize) -> Result<Self> {
        let weights = load(job.dense, n)?;
        let frame = Frame::new(job.dense.config(), n, &weights, job.tokens(), job.device);
        Self::new(frame, &weights.linears, Trained::Scales, job.device)
    }

    /// A layer of packed `matrices`, in the order of [`Linear::ALL`].
    pub fn new(
        frame: Frame,
        matrices: &[Matrix; 7],
        trained: Trained,
        device: &Device,
    ) -> Result<Self> {
        let parts = each(|linear| {
            let matrix = &matrices[linear as usize];
            let trainable = Trainable::from_matrix(matrix, trained)?;
            Ok(Part {
                adam: Adam::new(trainable.parameters().len()),
                trainable,
                shape: [matrix.rows(), matrix.cols()],
            })
        });
        Ok(Self {
            frame,
            parts: parts?,
            device: device.clone(),
        })
    }

    /// Whether there is nothing to train.
    pub fn is_frozen(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.all(|part| part.trainable.parameters().is_empty())
    }

    /// The weights as tensors.
    pub fn products(&self) -> Products {
        let weights: Vec<Tensor<2>> = { &self.parts }
            .par_iter()
            .map(|part| tensor(part.shape, part.trainable.weight(), &self.device))
            .collect();
        weights.try_into().expect("seven were made of seven")
    }

    /// [`products`](Self::products) with gradients recorded for those that have parameters.
    pub fn tracked(&self) -> Products {
        let mut products = self.products();
        for (part, weight) in self.parts.iter().zip(&mut products) {
            if !part.trainable.parameters().is_empty() {
                weight.inplace(|weight| weight.autodiff().require_grad());
            }
        }
        products
    }

    /// One step of Adam from the gradients of `products`, which came from [`tracked`](Self::tracked).
    pub fn step(
        &mut self,
        products: &Products,
        gradients: &Gradients,
        rates: &Rates,
        done: usize,
    ) -> Result<()> {
        let of_weights = { products.iter() }
            .map(|weight| weight.grad(gradients).map(values).transpose())
            .collect::<Result<Vec<_>>>()?;
        self.parts
            .par_iter_mut()
            .zip(of_weights)
            .try_for_each(|(part, of_weight)| {
                let Some(of_weight) = of_weight else {
                    return Ok(());
                };
                let Part {
                    trainable, adam, ..
                } = part;
                let gradient = trainable.gradient(&of_weight)?;
                let rates = trainable.rates(rates);
                trainable.update(|parameters| adam.step(parameters, &gradient, &rates, done));
                Ok(())
            })
    }

    /// The parameters of each product.
    pub fn parameters(&self) -> Vec<Vec<f32>> {
        let parameters = |part: &Part| part.trainable.parameters().to_vec();
        self.parts.iter().map(parameters).collect()
    }

    /// Replaces the parameters of each product.
    pub fn set_parameters(&mut self, parameters: Vec<Vec<f32>>) -> Result<()> {
        for (part, parameters) in self.parts.iter_mut().zip(parameters) {
            part.trainable.set_parameters(parameters)?;
        }
        Ok(())
    }

    /// The packed products as they are now.
    pub fn matrices(&self) -> Result<[Matrix; 7]> {
        each(|linear| self.parts[linear as usize].trainable.to_matrix())
    }
}
