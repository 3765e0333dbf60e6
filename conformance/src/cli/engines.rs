//! The backends that come with Polychord.

use super::Error;

/// A backend's test program: where its sources are, and what the test is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) folder: &'static str,
    pub(super) test: &'static str,
}

const TARGETS: [Target; 5] = [
    Target { name: "wasmer", folder: "backend-wasmer", test: "conformance" },
    Target { name: "wasmtime", folder: "backend-wasmtime", test: "conformance" },
    Target { name: "wasmedge-aot", folder: "backend-wasmedge", test: "conformance_aot" },
    Target {
        name: "wasmedge-interpreter",
        folder: "backend-wasmedge",
        test: "conformance_interpreter",
    },
    Target { name: "wasmi", folder: "examples/wasmi", test: "conformance" },
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
