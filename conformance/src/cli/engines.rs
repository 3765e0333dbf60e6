//! The backends that come with Polychord.

use super::error::Error;

/// A backend's test programs: where their sources are, and what they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) folder: &'static str,
    /// Runs the suite.
    pub(super) suite: &'static str,
    /// Compares random modules with wasmi.
    pub(super) differential: Option<&'static str>,
}

const TARGETS: [Target; 5] = [
    Target {
        name: "wasmer",
        folder: "backend-wasmer",
        suite: "conformance",
        differential: Some("differential"),
    },
    Target {
        name: "wasmtime",
        folder: "backend-wasmtime",
        suite: "conformance",
        differential: Some("differential"),
    },
    Target {
        name: "wasmedge-aot",
        folder: "backend-wasmedge",
        suite: "conformance_aot",
        differential: Some("differential_aot"),
    },
    Target {
        name: "wasmedge-interpreter",
        folder: "backend-wasmedge",
        suite: "conformance_interpreter",
        differential: Some("differential_interpreter"),
    },
    Target { name: "wasmi", folder: "examples/wasmi", suite: "conformance", differential: None },
];

impl Target {
    /// Whether it needs libwasmedge, which not every machine has.
    pub(super) fn is_wasmedge(self) -> bool {
        self.name.starts_with("wasmedge")
    }
}

/// The backends with these names. `wasmedge` stands for both of its modes.
pub(super) fn select(names: &[String]) -> Result<Vec<Target>, Error> {
    let mut selected = Vec::new();
    for name in names {
        let matches = |target: &&Target| {
            name == "all" || target.name == name || (name == "wasmedge" && target.is_wasmedge())
        };
        let found: Vec<_> = TARGETS.iter().filter(matches).collect();
        if found.is_empty() {
            let known = TARGETS.map(|target| target.name).join(", ");
            return Err(Error::UnknownEngine { name: name.clone(), known });
        }
        selected.extend(found);
    }
    selected.dedup();
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_engines_and_unknown_ones_are_named() {
        let names = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(ToString::to_string).collect();
            select(&asked).map(|found| found.iter().map(|target| target.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["all"]).unwrap().len(), TARGETS.len());
        assert_eq!(names(&["wasmi"]).unwrap(), ["wasmi"]);
        assert_eq!(names(&["wasmedge"]).unwrap(), ["wasmedge-aot", "wasmedge-interpreter"]);
        let error = names(&["v8"]).unwrap_err().to_string();
        assert!(error.contains("v8") && error.contains("wasmtime"), "{error}");
    }
}
