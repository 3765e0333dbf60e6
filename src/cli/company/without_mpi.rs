//! A program without MPI.

use std::convert::Infallible;

use polychord::api::Rank;

use crate::cli::Failure;

/// No job: this program is alone.
pub(super) struct Job(Infallible);

impl Job {
    pub(super) fn join() -> Result<(Self, Rank), Failure> {
        Err(Failure::usage(
            "this program was built without MPI: build it with --features mpi, which needs an MPI library \
             with mpicc, and libclang (docs/distributed.md)",
        ))
    }

    pub(super) fn give_up(&self, _rank: usize, _message: &str) -> ! {
        match self.0 {}
    }
}
