//! What a network gives where no token follows: normalized rows, and what dense matrices make of
//! one.
#![allow(unsafe_code)]

use polychord_abi::transformer::{feature, role, status};

use crate::dense::Dense;
use crate::forward::Network;
use crate::host::Layers;
use crate::kernels::Input;
use crate::products::{norm_rows, product};
use crate::{Status, exports};

/// The last norm of rows, in their place.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_finish(n: i32) -> Status {
    exports::code(exports::with(|network| network.finish(n)))
}

/// What dense matrices make of the first row.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_dense() -> Status {
    exports::code(exports::with(Network::multiply_dense))
}

impl Network {
    fn finish(&mut self, n: i32) -> Result<(), Status> {
        let n = self.rows(n)?;
        self.routed = None;
        let Some(norm) = self.globals.find(role::OUTPUT_NORM) else { return Ok(()) };
        let (dim, buffers) = (self.shape.dim, &mut self.buffers);
        let rows = &mut buffers.hidden[..n * dim];
        let weight = &mut buffers.scratch[..dim];
        let is_layer_norm = self.shape.features & feature::LAYER_NORM != 0;
        norm_rows(norm, &Layers::new(), rows, weight, self.shape.epsilon, is_layer_norm)
    }

    fn multiply_dense(&mut self) -> Result<(), Status> {
        self.routed = None;
        let (layers, Dense { inner, scratch }) = (Layers::new(), &mut self.dense);
        let hidden = &self.buffers.hidden[..self.shape.dim];
        let logits = &mut *self.buffers.logits;
        let mut multiply = |role: u32, from: &[f32], to: &mut [f32]| {
            let Some(dense) = self.globals.find(role) else { return Ok::<_, Status>(None) };
            let to = to.get_mut(..dense.rows).ok_or(status::BAD_SHAPE)?;
            // Few products, whose weights may be of any type: never of 8 bits.
            product(dense, &layers, 0..dense.rows, &mut Input::new(from, None), to, scratch)?;
            Ok(Some(dense.rows))
        };
        let first = multiply(role::DENSE_2, hidden, inner)?;
        let from = first.map_or(hidden, |rows| &inner[..rows]);
        match multiply(role::DENSE_3, from, logits)? {
            Some(_) => Ok(()),
            None if first.is_some() => {
                logits[..from.len()].copy_from_slice(from);
                Ok(())
            }
            None => Err(status::MISSING_TENSOR),
        }
    }
}
