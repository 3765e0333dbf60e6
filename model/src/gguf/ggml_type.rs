//! How tensors are stored: ggml's types, with the sizes of their blocks.

use std::fmt;

use polychord_abi::transformer::ggml_type;

macro_rules! ggml_types {
    ($($variant:ident = $number:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// How the elements of a tensor are stored: every type that ggml defines today.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "these are ggml's names")]
        pub enum GgmlType {
            $(
                #[doc = concat!("ggml's `", $name, "`: ", $block, " elements in ", $bytes, " bytes.")]
                $variant,
            )*
        }

        impl GgmlType {
            /// All types, by ascending number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The type with this number in `enum ggml_type`, unless undefined or removed.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Number in `enum ggml_type`.
            #[must_use]
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            /// Name as llama.cpp prints it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Elements in one block; rows are whole blocks.
            #[must_use]
            pub fn block_elements(self) -> u64 {
                match self {
                    $(Self::$variant => $block,)*
                }
            }

            /// Bytes of one block.
            #[must_use]
            pub fn block_bytes(self) -> u64 {
                match self {
                    $(Self::$variant => $bytes,)*
                }
            }
        }
    };
}

// Number in ggml.h, name, elements and bytes of a block (ggml.c, ggml-common.h).
ggml_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2_K = 10, "Q2_K", 256, 84;
    Q3_K = 11, "Q3_K", 256, 110;
    Q4_K = 12, "Q4_K", 256, 144;
    Q5_K = 13, "Q5_K", 256, 176;
    Q6_K = 14, "Q6_K", 256, 210;
    Q8_K = 15, "Q8_K", 256, 292;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    IQ1_S = 19, "IQ1_S", 256, 50;
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    IQ3_S = 21, "IQ3_S", 256, 110;
    IQ2_S = 22, "IQ2_S", 256, 82;
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1_M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

impl GgmlType {
    /// Whether the guest has kernels for it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        matches!(
            self.number(),
            ggml_type::F32
                | ggml_type::F16
                | ggml_type::BF16
                | ggml_type::Q4_0
                | ggml_type::Q4_1
                | ggml_type::Q5_0
                | ggml_type::Q5_1
                | ggml_type::Q8_0
                | ggml_type::Q2_K
                | ggml_type::Q3_K
                | ggml_type::Q4_K
                | ggml_type::Q5_K
                | ggml_type::Q6_K
                | ggml_type::IQ4_NL
                | ggml_type::IQ4_XS
                | ggml_type::MXFP4
                | ggml_type::TQ1_0
                | ggml_type::TQ2_0
                | ggml_type::IQ3_S
                | ggml_type::IQ3_XXS
                | ggml_type::IQ2_S
                | ggml_type::IQ2_XS
                | ggml_type::IQ2_XXS
                | ggml_type::IQ1_S
                | ggml_type::IQ1_M
        )
    }

    /// Names of the supported types, for messages.
    #[must_use]
    pub fn supported_names() -> String {
        let names: Vec<_> =
            Self::ALL.iter().filter(|kind| kind.is_supported()).map(|kind| kind.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::GgmlType;

    #[test]
    fn numbers_round_trip_and_removed_ones_are_unknown() {
        for &kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_number(kind.number()), Some(kind));
        }
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(GgmlType::from_number(removed), None, "{removed}");
        }
    }

    #[test]
    fn supported_names_are_those_of_the_guest() {
        assert_eq!(
            GgmlType::supported_names(),
            "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ2_XXS, \
             IQ2_XS, IQ3_XXS, IQ1_S, IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, IQ1_M, BF16, TQ1_0, TQ2_0, \
             MXFP4"
        );
    }
}
