//! The one table of the network: what each tensor is for, its name in files, and its shape.
//!
//! The host finds the tensors of a file by it and refuses all others; the guest checks by it what
//! the host hands over. Shapes are symbolic ([`Size`]), so that the table says nothing about one
//! model, and a tensor that not all networks have depends on a [`feature`](mod@feature).

use Need::{Optional, Required, Unless, With};
use Section::{Attention, Embedding, FeedForward, Output, Rope};
use Size::{FeedForward as Ffn, Hidden, Keys, One, Queries, RopePairs, Vocab};

/// What a network has or does beyond the common ground, as bits of
/// [`Descriptor::features`](crate::transformer::Descriptor::features).
///
/// A guest refuses bits that it does not know, since leaving a part of a network out gives wrong
/// text.
pub mod feature {
    /// Rotation turns element `i` of a head with element `i + rope_dim / 2` (NEOX); without it,
    /// element `2 * i` with `2 * i + 1` (NORM).
    pub const ROPE_HALVES: u32 = 1 << 0;
    /// Queries, keys and values have biases.
    pub const QKV_BIAS: u32 = 1 << 1;
    /// The output is computed with the embedding's matrix.
    pub const TIED_OUTPUT: u32 = 1 << 2;
    /// All bits that this version of the contract knows.
    pub const ALL: u32 = ROPE_HALVES | QKV_BIAS | TIED_OUTPUT;
}

/// Declares the numbers of all roles, and the table.
macro_rules! roles {
    ($($name:ident = $number:literal: $file:literal, $section:expr, [$rows:expr, $cols:expr], $need:expr;)*) => {
        /// What a tensor is for: indices of [`ROLES`].
        pub mod role {
            $(#[doc = concat!("`", $file, "`: `", stringify!([$rows, $cols]), "`.")]
            pub const $name: u32 = $number;)*
        }

        /// All roles, each at the index that is its number. New ones are appended: numbers are a
        /// part of the contract.
        pub const ROLES: &[Role] = &[$(Role {
            number: $number,
            name: $file,
            section: $section,
            rows: $rows,
            cols: $cols,
            need: $need,
        },)*];
    };
}

roles! {
    TOKEN_EMBD = 0: "token_embd.weight", Embedding, [Vocab, Hidden], Required;
    OUTPUT_NORM = 1: "output_norm.weight", Output, [One, Hidden], Required;
    OUTPUT = 2: "output.weight", Output, [Vocab, Hidden], Unless(feature::TIED_OUTPUT);
    // Divides each frequency.
    ROPE_FREQS = 3: "rope_freqs.weight", Rope, [One, RopePairs], Optional;
    ATTN_NORM = 4: "blk.{}.attn_norm.weight", Attention, [One, Hidden], Required;
    ATTN_Q = 5: "blk.{}.attn_q.weight", Attention, [Queries, Hidden], Required;
    ATTN_K = 6: "blk.{}.attn_k.weight", Attention, [Keys, Hidden], Required;
    ATTN_V = 7: "blk.{}.attn_v.weight", Attention, [Keys, Hidden], Required;
    ATTN_OUTPUT = 8: "blk.{}.attn_output.weight", Attention, [Hidden, Queries], Required;
    FFN_NORM = 9: "blk.{}.ffn_norm.weight", FeedForward, [One, Hidden], Required;
    FFN_GATE = 10: "blk.{}.ffn_gate.weight", FeedForward, [Ffn, Hidden], Required;
    FFN_UP = 11: "blk.{}.ffn_up.weight", FeedForward, [Ffn, Hidden], Required;
    FFN_DOWN = 12: "blk.{}.ffn_down.weight", FeedForward, [Hidden, Ffn], Required;
    ATTN_Q_BIAS = 13: "blk.{}.attn_q.bias", Attention, [One, Queries], With(feature::QKV_BIAS);
    ATTN_K_BIAS = 14: "blk.{}.attn_k.bias", Attention, [One, Keys], With(feature::QKV_BIAS);
    ATTN_V_BIAS = 15: "blk.{}.attn_v.bias", Attention, [One, Keys], With(feature::QKV_BIAS);
}

// Looking a role up is indexing.
const _: () = {
    let mut index = 0;
    while index < ROLES.len() {
        assert!(ROLES[index].number as usize == index);
        index += 1;
    }
};

/// One line of the table.
///
/// ```
/// use polychord_abi::network::{Role, Size};
/// use polychord_abi::transformer::role;
///
/// let norm = Role::find(role::ATTN_NORM).expect("it is in the table");
/// assert_eq!(norm.name.replace("{}", "7"), "blk.7.attn_norm.weight");
/// assert!(norm.is_vector() && norm.cols == Size::Hidden);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its number: one of [`role`](mod@role).
    pub number: u32,
    /// The tensor's name in GGUF files, with `{}` for the number of the block.
    pub name: &'static str,
    /// The section of the network that it belongs to.
    pub section: Section,
    /// Rows (outputs); [`Size::One`] for a vector.
    pub rows: Size,
    /// Elements of a row (inputs).
    pub cols: Size,
    /// Which networks have it.
    pub need: Need,
}

impl Role {
    /// The role of a number, if there is one.
    #[must_use]
    pub fn find(number: u32) -> Option<&'static Self> {
        ROLES.get(number as usize)
    }

    /// Whether it is a vector, which is stored as 32-bit floats.
    #[must_use]
    pub const fn is_vector(&self) -> bool {
        matches!(self.rows, Size::One)
    }
}

/// The section of a network that a tensor belongs to.
///
/// ```
/// use polychord_abi::network::{ROLES, Section};
///
/// let of_block = ROLES.iter().filter(|role| role.section.is_in_block());
/// assert!(of_block.clone().any(|role| role.section == Section::FeedForward));
/// assert!(of_block.count() < ROLES.len());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The embedding of tokens.
    Embedding,
    /// What all blocks need to rotate queries and keys.
    Rope,
    /// The first half of a block.
    Attention,
    /// The second half of a block.
    FeedForward,
    /// What follows the last block.
    Output,
}

impl Section {
    /// Whether each block has one.
    #[must_use]
    pub const fn is_in_block(self) -> bool {
        matches!(self, Self::Attention | Self::FeedForward)
    }
}

/// Which networks have a tensor; all others must not.
///
/// ```
/// use polychord_abi::network::{Need, feature};
///
/// let bias = Need::With(feature::QKV_BIAS);
/// assert!(bias.is_required(feature::QKV_BIAS));
/// assert!(!bias.is_allowed(0));
/// assert!(Need::Optional.is_allowed(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every network has it.
    Required,
    /// A network may have it, and uses it then.
    Optional,
    /// Networks that have this feature.
    With(u32),
    /// Networks that lack this feature.
    Unless(u32),
}

impl Need {
    /// Whether a network with these features must have the tensor.
    #[must_use]
    pub const fn is_required(self, features: u32) -> bool {
        match self {
            Self::Required => true,
            Self::Optional => false,
            Self::With(feature) => features & feature != 0,
            Self::Unless(feature) => features & feature == 0,
        }
    }

    /// Whether a network with these features may have the tensor.
    #[must_use]
    pub const fn is_allowed(self, features: u32) -> bool {
        matches!(self, Self::Optional) || self.is_required(features)
    }
}

/// A number that tensors of a role have rows or columns of, whatever the model.
///
/// ```
/// use polychord_abi::network::{ROLES, Size};
/// use polychord_abi::transformer::role;
///
/// // The output has a row for each token.
/// assert_eq!(ROLES[role::OUTPUT as usize].rows, Size::Vocab);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One.
    One,
    /// `vocab`.
    Vocab,
    /// `dim`.
    Hidden,
    /// `ffn`.
    FeedForward,
    /// `heads * head_dim`.
    Queries,
    /// `kv_heads * head_dim`.
    Keys,
    /// `rope_dim / 2`.
    RopePairs,
}

/// The numbers of a network that all sizes follow from. All count elements.
///
/// ```
/// use polychord_abi::network::{Size, Sizes};
///
/// let sizes = Sizes { heads: 9, kv_heads: 3, head_dim: 64, ..Sizes::default() };
/// assert_eq!(sizes.get(Size::Queries), Some(576));
/// assert_eq!(sizes.get(Size::Keys), Some(192));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Number of tokens.
    pub vocab: u32,
    /// Width of the hidden state.
    pub dim: u32,
    /// Width of the feed-forward part.
    pub ffn: u32,
    /// Query heads of a block.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// How many of a head's elements are rotated.
    pub rope_dim: u32,
}

impl Sizes {
    /// The value of a symbolic size in this network; none if it overflows.
    #[must_use]
    pub const fn get(&self, size: Size) -> Option<u32> {
        match size {
            Size::One => Some(1),
            Size::Vocab => Some(self.vocab),
            Size::Hidden => Some(self.dim),
            Size::FeedForward => Some(self.ffn),
            Size::Queries => self.heads.checked_mul(self.head_dim),
            Size::Keys => self.kv_heads.checked_mul(self.head_dim),
            Size::RopePairs => Some(self.rope_dim / 2),
        }
    }
}
