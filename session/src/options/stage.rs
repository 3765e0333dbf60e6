//! Which stage of a pipeline a session is.

use polychord_runtime_api::Rank;

/// One stage of a pipeline of several hosts: which one, and how it reaches the others.
///
/// A rank alone is a stage of one process. Where a stage has several ranks, which divide the rows of its products
/// ([`SessionOptions::rank`](crate::SessionOptions::rank)), the first of them in each stage has a link to the others.
///
/// ```
/// use polychord_runtime_api::Rank;
/// use polychord_session::Stage;
///
/// // Four processes as two stages of two ranks each.
/// let all = Rank::group(4)?;
/// let places: Vec<_> = all.iter().map(|rank| Stage::of(rank, 2)).collect::<Result<_, _>>()?;
/// let numbers = places.iter().map(|(stage, rank)| (stage.index(), rank.as_ref().map(Rank::index)));
/// assert!(numbers.eq([(0, Some(0)), (0, Some(1)), (1, Some(0)), (1, Some(1))]));
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stage {
    index: usize,
    count: usize,
    /// To the first ranks of the other stages.
    link: Option<Rank>,
    /// All ranks of all stages.
    all: Option<Rank>,
}

impl Stage {
    /// A rank's place among those of this many stages, which have as many ranks each: its stage, and its
    /// rank within that, if it has more than one.
    ///
    /// # Errors
    ///
    /// [`RankCount`](polychord_runtime_api::Error::RankCount) if stages would not have as many ranks each.
    pub fn of(all: &Rank, stages: usize) -> polychord_runtime_api::Result<(Self, Option<Rank>)> {
        let (asked, limit) = (all.count(), Rank::MAX);
        let each = asked.checked_div(stages).filter(|each| each * stages == asked && *each > 0);
        let each = each.ok_or(polychord_runtime_api::Error::RankCount { asked, limit })?;
        let index = all.index() / each;
        let whole = Some(all.clone());
        if each == 1 {
            let link = whole.clone();
            return Ok((Self { index, count: stages, link, all: whole }, None));
        }
        let first: Vec<_> = (0..stages).map(|stage| stage * each).collect();
        let is_first = all.index().is_multiple_of(each);
        let link = is_first.then(|| all.subgroup(&first)).transpose()?;
        let team: Vec<_> = (index * each..(index + 1) * each).collect();
        Ok((Self { index, count: stages, link, all: whole }, Some(all.subgroup(&team)?)))
    }

    /// A stage without others, to see what it takes: it computes its part, of hidden states that are zeros
    /// where another stage would have sent them. What it computes means nothing.
    #[must_use]
    pub const fn rehearsal(index: usize, count: usize) -> Self {
        Self { index, count, link: None, all: None }
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// How this rank reaches the other stages, if it does.
    pub(crate) const fn link(&self) -> Option<&Rank> {
        self.link.as_ref()
    }

    /// All ranks of all stages.
    pub(crate) const fn all(&self) -> Option<&Rank> {
        self.all.as_ref()
    }
}

impl From<Rank> for Stage {
    fn from(rank: Rank) -> Self {
        let (index, count) = (rank.index(), rank.count());
        Self { index, count, link: Some(rank.clone()), all: Some(rank) }
    }
}
