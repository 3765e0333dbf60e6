//! How often an expert was needed and found.

/// How often an expert was needed where experts are paged, and whether it was there;
/// [`Session::expert_stats`](crate::Session::expert_stats) gives it.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let experts = session.expert_stats();
/// let misses: u64 = experts.iter().map(|expert| expert.misses).sum();
/// println!("{} experts were used, and brought in {misses} times", experts.len());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpertStats {
    /// The block, from 0.
    pub block: u32,
    /// Its number in the block, from 0.
    pub expert: u32,
    /// How many tokens have chosen it.
    pub tokens: u64,
    /// How often it was in the window when tokens of a batch needed it.
    pub hits: u64,
    /// How often it had to be brought in, or a part of it.
    pub misses: u64,
}
