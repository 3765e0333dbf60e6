//! A model for a guest of one's own.

use polychord::api::{Runtime, Source, SourceRange};
use polychord::hub::{Hub, ModelRef};
use polychord::model::{Error, Model, header_of, open_source, open_source_mapped};

use crate::cli::Failure;
use crate::cli::progress::TerminalBar;

/// Brings the layers of a model into a guest, mapped where the engine allows it.
pub(super) fn add(guest: &mut dyn Runtime, model: &ModelRef) -> Result<(), Failure> {
    let path = Hub::find(model, &mut TerminalBar::new())?;
    let source = open(&path)?;
    // What our own guest cannot compute may still be what this one can: a layer for each tensor.
    let layers = match Model::from_source(&path, source.clone()) {
        Ok(model) => model.layers().to_vec(),
        Err(error @ Error::Gguf { .. }) => return Err(error.into()),
        Err(_) => tensors(&source)?,
    };
    guest.add_layers(&source, layers)?;
    Ok(())
}

/// Opens a file, and the other parts if it is one of several. The help says that they must not change.
#[allow(unsafe_code, reason = "who runs the command has made the promise")]
fn open(path: &std::path::Path) -> Result<Source, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(open_source(path)?);
    }
    // SAFETY: the caller of the command has promised it, by its documentation.
    Ok(unsafe { open_source_mapped(path)? })
}

/// The tensors of a file, in the order of the file, as layers.
fn tensors(source: &Source) -> Result<Vec<SourceRange>, Failure> {
    let gguf = header_of(source)?;
    let mut tensors: Vec<_> = gguf.tensors().iter().collect();
    tensors.sort_by_key(|tensor| tensor.offset);
    let layer = |(number, tensor): (u32, &&polychord::model::gguf::TensorInfo)| {
        let id = polychord::api::LayerId(number);
        SourceRange::new(id, tensor.name.as_str(), tensor.offset, tensor.bytes)
    };
    Ok((0..).zip(&tensors).map(layer).collect())
}
