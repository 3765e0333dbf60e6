//! Plans from elsewhere: of an older or a newer program, or of unknown origin.

use serde::Deserialize;

use super::{Plan, invalid, version};
use crate::{Error, Result};

/// What plans of all versions have.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Plan {
    /// Most bytes of a plan as JSON. The plan of a large model takes some 100 KB.
    pub const MAX_JSON_BYTES: usize = 64 << 20;

    /// Reads a plan from JSON, and checks it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if the text is too long, no plan, the plan of a newer or an older
    /// program, or a plan that does not hold together.
    pub fn from_json(json: &str) -> Result<Self> {
        let (bytes, most) = (json.len(), Self::MAX_JSON_BYTES);
        if bytes > most {
            return Err(invalid(format!("it has {bytes} bytes of JSON, and {most} are the most")));
        }
        let no_plan = |error: serde_json::Error| -> Error {
            invalid(format!("it is not the JSON of a plan: {error}"))
        };
        // First of all: what a newer program writes may be anything else.
        let Versioned { version } = serde_json::from_str(json).map_err(no_plan)?;
        version::check(version).map_err(invalid)?;
        let plan: Self = serde_json::from_str(json).map_err(no_plan)?;
        plan.validate()?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        Plan::from_json(json).unwrap_err().to_string()
    }

    #[test]
    fn a_newer_plan_is_told_by_its_version_whatever_else_it_has() {
        for json in [
            r#"{"version":3,"memories":[],"layers":[]}"#,
            r#"{"version":3,"shards":{"a":[1,2]}}"#,
            r#"{"shards":[{}],"memories":"none","layers":7,"version":3}"#,
        ] {
            let error = refusal(json);
            let expected = "this plan has version 3, this program reads up to 2: update";
            assert!(error.contains(expected), "{error}");
        }
        let first = serde_json::from_str::<Plan>(r#"{"version":3,"shards":[]}"#).unwrap_err();
        assert!(first.to_string().contains("version 3"), "{first}");
        assert!(refusal(r#"{"version":1}"#).contains("make the plan again"));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for json in ["", "[]", "{}", "null", r#"{"version":-1}"#, r#"{"version":4294967296}"#] {
            assert!(refusal(json).contains("not the JSON of a plan"), "{json}");
        }
        let unknown = r#"{"version":2,"memories":[],"layers":[],"color":1}"#;
        assert!(refusal(unknown).contains("color"));
        let layer = r#"{"id":0,"name":"a","start":0,"bytes":1,"memory":0,"offset":0,"color":1}"#;
        let unknown = format!(r#"{{"version":2,"memories":[],"layers":[{layer}]}}"#);
        assert!(refusal(&unknown).contains("color"));
        let long = " ".repeat(Plan::MAX_JSON_BYTES + 1);
        assert!(refusal(&long).contains("are the most"));
    }
}
