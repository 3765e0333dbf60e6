//! Objects of S3, and of what speaks its protocol: where they are, and requests that are signed.

use std::fmt;
use std::time::Duration;

use rusty_s3::actions::{GetObject, S3Action as _};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use crate::error::Error;

/// Where the buckets of `s3://bucket/key` are, and who reads them.
///
/// ```
/// use polychord_remote::{Options, S3};
///
/// // Of a server of one's own, which has buckets as folders.
/// let s3 = S3::new().endpoint("http://127.0.0.1:9000").credentials("name", "secret");
/// let options = Options::new().s3(s3);
/// # let _ = options;
/// ```
#[derive(Clone, Default)]
pub struct S3 {
    endpoint: Option<String>,
    region: Option<String>,
    key: Option<(String, String)>,
    token: Option<String>,
}

/// A request is signed when it is made, and answered soon.
const VALID: Duration = Duration::from_secs(300);
const REGION: &str = "us-east-1";

impl S3 {
    /// Public objects of Amazon's servers in `us-east-1`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the variables of the environment say that Amazon's programs have: `AWS_ENDPOINT_URL`,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[must_use]
    pub fn from_env() -> Self {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            endpoint: var("AWS_ENDPOINT_URL"),
            region: var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION")),
            key: var("AWS_ACCESS_KEY_ID").zip(var("AWS_SECRET_ACCESS_KEY")),
            token: var("AWS_SESSION_TOKEN"),
        }
    }

    /// Sets the address of another server, which has buckets as folders.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Sets the region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets by what requests are signed.
    #[must_use]
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.key = Some((id.into(), secret.into()));
        self
    }

    /// The object of an address.
    pub(crate) fn object(&self, url: &str) -> Result<Object, Error> {
        let no_object =
            |reason: &str| Error::NoObject { url: url.to_owned(), reason: reason.into() };
        let (name, key) = url
            .strip_prefix("s3://")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(name, key)| !name.is_empty() && !key.is_empty())
            .ok_or_else(|| no_object("it is no bucket and key as s3://bucket/model.gguf"))?;
        let region = self.region.as_deref().unwrap_or(REGION).to_owned();
        let (endpoint, style) = match &self.endpoint {
            Some(endpoint) => (endpoint.clone(), UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let Ok(endpoint) = endpoint.parse() else {
            return Err(no_object(&format!("{endpoint} is no address of a server")));
        };
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region);
        let bucket = bucket.map_err(|error| no_object(&error.to_string()))?;
        let credentials = self.key.clone().map(|(id, secret)| match &self.token {
            Some(token) => Credentials::new_with_token(id, secret, token.clone()),
            None => Credentials::new(id, secret),
        });
        Ok(Object { bucket, credentials, key: key.to_owned() })
    }
}

/// Without secrets.
impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("is_signed", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

/// An object in a bucket.
pub(crate) struct Object {
    bucket: Bucket,
    credentials: Option<Credentials>,
    key: String,
}

impl Object {
    /// Where it is, without a signature.
    pub(crate) fn place(&self) -> String {
        format!("{}{}/{}", self.bucket.base_url(), self.bucket.name(), self.key)
    }

    /// The address of a request that is made now.
    pub(crate) fn address(&self) -> String {
        GetObject::new(&self.bucket, self.credentials.as_ref(), &self.key).sign(VALID).into()
    }
}

/// Without secrets.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("bucket", &self.bucket.name())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
