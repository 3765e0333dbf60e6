//! Objects of a bucket, on a server that checks signatures by itself.

use sha2::{Digest as _, Sha256};

use super::server::{Behavior, TestServer};
use super::{all, body, options};
use crate::digests::hex;
use crate::{Error, S3, open};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    assert!(key.len() <= 64);
    let pad = |with: u8| -> Vec<u8> {
        (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect()
    };
    let inner = Sha256::digest([&pad(0x36)[..], text.as_bytes()].concat());
    Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).into()
}

/// Whether a request is signed as the documents of S3 say: "Authenticating Requests: Using Query Parameters".
fn is_signed(target: &str, host: &str) -> bool {
    let Some((path, query)) = target.split_once('?') else { return false };
    let fields: Vec<_> = query.split('&').filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| fields.iter().find(|(it, _)| *it == name).map_or("", |(_, it)| it);
    let signed: Vec<_> =
        query.split('&').filter(|field| !field.starts_with("X-Amz-Signature=")).collect();
    let mut sorted = signed.clone();
    sorted.sort_unstable();
    let request =
        format!("GET\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", sorted.join("&"));
    let scope = field("X-Amz-Credential").replace("%2F", "/");
    let Some((id, scope)) = scope.split_once('/') else { return false };
    let hash = hex(&Sha256::digest(request));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", field("X-Amz-Date"));
    let key = scope
        .split('/')
        .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part).to_vec());
    id == "AKIAIOSFODNN7EXAMPLE"
        && path == "/models/small/model%20one.gguf"
        && scope.contains("/eu-central-1/s3/")
        && field("X-Amz-SignedHeaders") == "host"
        && hex(&hmac(&key, &text)) == field("X-Amz-Signature")
}

#[test]
fn objects_of_a_bucket_are_read_by_signed_requests() {
    let server = TestServer::start(Behavior::good(body()));
    server.change(|it| it.allows = Some(is_signed));
    let endpoint = server.url.trim_end_matches("/model.gguf");
    let account = S3::new().endpoint(endpoint).region("eu-central-1");
    let signed = account.clone().credentials("AKIAIOSFODNN7EXAMPLE", SECRET);
    assert!(!format!("{signed:?}").contains(SECRET));
    let url = "s3://models/small/model one.gguf";
    let file = open(url, &options().s3(signed.clone())).unwrap();
    assert!(all(&file.source).unwrap() == body());
    // Errors have neither the key nor the signature.
    server.change(|it| it.etag = "\"2\"".into());
    let error = super::text(&file.source.read_at(5_000, &mut [0; 9]).unwrap_err());
    assert!(error.contains(url) && error.contains("has changed") && !error.contains("X-Amz"));
    for s3 in [account.clone(), account.credentials("AKIAIOSFODNN7EXAMPLE", "another")] {
        let error = open(url, &options().s3(s3)).unwrap_err();
        assert!(matches!(error, Error::Refused { status: 403, .. }), "{error}");
    }
    // Public ones need no signature.
    server.change(|it| it.allows = Some(|target, _| target == "/models/a.gguf"));
    let public = S3::new().endpoint(endpoint);
    assert!(open("s3://models/a.gguf", &options().s3(public)).is_ok());
    for url in ["s3://", "s3://models", "s3://models/", "s3:///a.gguf"] {
        let error = open(url, &options().s3(signed.clone())).unwrap_err();
        assert!(matches!(error, Error::NoObject { .. }), "{error}");
    }
    let wrong = S3::new().endpoint("no address");
    assert!(matches!(open(url, &options().s3(wrong)), Err(Error::NoObject { .. })));
}
