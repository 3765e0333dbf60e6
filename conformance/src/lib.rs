//! The promises of Polychord as test cases.
