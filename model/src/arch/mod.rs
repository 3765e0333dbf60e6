//! The architectures whose networks can be computed: one file for each, and one line here.

use polychord_abi::network::{Need, ROLES, feature};

use crate::gguf::Gguf;

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
    qwen2::QWEN2;
}

/// What the networks of one `general.architecture` have in common.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `general.architecture`, with which its keys begin.
    pub(crate) name: &'static str,
    /// Features that all of its networks have: bits of [`feature`].
    pub(crate) features: u32,
    /// Features that those of its networks have whose files say so by their tensors.
    pub(crate) optional: u32,
}

impl Architecture {
    /// The architecture of this name, if it is supported.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|it| it.name == name).copied()
    }

    /// The names of all architectures, for messages.
    pub(crate) fn supported_names() -> String {
        let names: Vec<_> = ARCHITECTURES.iter().map(|it| format!("{:?}", it.name)).collect();
        names.join(", ")
    }

    /// The features of the network in a file.
    ///
    /// One tensor is enough for a feature: which others it takes is checked afterwards, so that a
    /// file that has some of them is refused.
    pub(crate) fn features_of(&self, gguf: &Gguf) -> u32 {
        ROLES.iter().fold(self.features, |features, role| {
            let is_there = || gguf.tensor(&role.name.replace("{}", "0")).is_some();
            features
                | match role.need {
                    Need::With(feature) if self.optional & feature != 0 && is_there() => feature,
                    Need::Unless(feature) if self.optional & feature != 0 && !is_there() => feature,
                    _ => 0,
                }
        })
    }
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
