//! API keys.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::error::{Error, Result};
use crate::options::ServerOptions;

/// The keys that clients may give; none if all may come in.
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    pub(super) fn new(options: &ServerOptions) -> Result<Self> {
        let mut keys: Vec<_> =
            options.api_keys.iter().map(|key| key.trim().as_bytes().to_vec()).collect();
        if let Some(path) = &options.api_key_file {
            let wrong = |reason: String| Error::Keys { path: path.clone(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let lines = text.lines().map(str::trim);
            let before = keys.len();
            keys.extend(lines.filter(|it| !it.is_empty()).map(|it| it.as_bytes().to_vec()));
            if keys.len() == before {
                return Err(wrong("it has no key, and would let all clients in".to_owned()));
            }
        }
        keys.retain(|key| !key.is_empty());
        Ok(Self(keys))
    }

    /// Whether a request may come in. How long that takes tells nothing of the keys but their
    /// lengths.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let header = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let Some(given) = header.and_then(|value| value.strip_prefix(b"Bearer ")) else {
            return false;
        };
        let matches = self.0.iter().map(|key| key.ct_eq(given));
        matches.fold(subtle::Choice::from(0), |any, one| any | one).into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_key_lets_in_and_nothing_else_does() {
        let keys = Keys::new(&ServerOptions::new().api_keys(["secret", " other "])).unwrap();
        assert!(keys.allow(&headers("Bearer secret")) && keys.allow(&headers("Bearer other")));
        for wrong in ["Bearer secre", "Bearer secrets", "secret", "Bearer ", "Basic secret"] {
            assert!(!keys.allow(&headers(wrong)), "{wrong}");
        }
        assert!(!keys.allow(&HeaderMap::new()));
        assert!(Keys::new(&ServerOptions::new()).unwrap().allow(&HeaderMap::new()));
    }

    #[test]
    fn a_file_without_a_key_starts_no_server_that_is_open() {
        let folder = std::env::temp_dir().join(format!("polychord-keys-{}", std::process::id()));
        std::fs::write(&folder, "\n \n").unwrap();
        let options = ServerOptions::new().api_key_file(folder.clone());
        assert!(matches!(Keys::new(&options), Err(Error::Keys { .. })));
        std::fs::write(&folder, "a\nb\n").unwrap();
        let keys = Keys::new(&options).unwrap();
        assert!(keys.allow(&headers("Bearer b")) && !keys.allow(&headers("Bearer ab")));
        std::fs::remove_file(folder).unwrap();
    }
}
