//! The architectures whose networks can be computed: one file for each, and one line here.

use polychord_abi::network::feature;

use crate::network::{Architecture, Error, Pairs};

/// Declares the modules, and the table of what is in them.
macro_rules! architectures {
    ($($module:ident::$name:ident;)*) => {
        $(mod $module;)*

        /// Each architecture that is supported.
        const ARCHITECTURES: &[&Architecture] = &[$(&$module::$name),*];
    };
}

architectures! {
    llama::LLAMA;
    llama4::LLAMA4;
    mistral3::MISTRAL3;
    ernie4_5::ERNIE4_5;
    internlm2::INTERNLM2;
    minicpm::MINICPM;
    smollm3::SMOLLM3;
    arcee::ARCEE;
    granite::GRANITE;
    granitemoe::GRANITEMOE;
    qwen2::QWEN2;
    qwen2moe::QWEN2MOE;
    qwen3::QWEN3;
    qwen3moe::QWEN3MOE;
    seed_oss::SEED_OSS;
    hunyuan_dense::HUNYUAN_DENSE;
    gemma::GEMMA;
    gemma2::GEMMA2;
    gemma3::GEMMA3;
    gemma4::GEMMA4;
    lfm2::LFM2;
    lfm2moe::LFM2MOE;
    qwen35::QWEN35;
    qwen35moe::QWEN35MOE;
    qwen3next::QWEN3NEXT;
    deepseek2::DEEPSEEK2;
    mistral4::MISTRAL4;
    phi3::PHI3;
    olmo2::OLMO2;
    exaone4::EXAONE4;
    cohere2::COHERE2;
    glm4::GLM4;
    gpt_oss::GPT_OSS;
    gemma_embedding::GEMMA_EMBEDDING;
    bert::BERT;
    nomic_bert::NOMIC_BERT;
}

type Result<T> = std::result::Result<T, Error>;

/// All architectures.
pub(crate) const fn all() -> &'static [&'static Architecture] {
    ARCHITECTURES
}

/// The architecture of this name, if it is supported.
pub(crate) fn find(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|it| it.name == name).copied()
}

/// The names of all architectures, for messages.
pub(crate) fn supported_names() -> String {
    let names: Vec<_> = ARCHITECTURES.iter().map(|it| format!("{:?}", it.name)).collect();
    names.join(", ")
}

// What no guest knows cannot be in a descriptor.
const _: () = {
    let mut index = 0;
    while index < ARCHITECTURES.len() {
        let Architecture { features, optional, .. } = ARCHITECTURES[index];
        assert!((*features | *optional) & !feature::ALL == 0);
        index += 1;
    }
};
