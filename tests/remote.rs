//! Models on a web server have the same bits as models on disk, in every placement.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "../remote/src/tests/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;

use polychord::api::Policy;
use polychord::model::gguf::GgmlType;
use polychord::model::{Model, Placement, SessionOptions, Transformer};
use polychord_remote::{Options, open};

use common::llama::{Llama, Shape};
use common::{each_engine, logits, test_name};
use server::{Behavior, TestServer};

#[test]
fn layers_come_from_a_server() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        // Blocks of more than a page, so that paging has something to do.
        let shape = Shape {
            blocks: 3,
            dim: 288,
            ffn: 416,
            heads: 9,
            kv_heads: 3,
            head_dim: 32,
            rope_dim: 32,
            vocab: 301,
            ..Shape::of(GgmlType::Q4_1)
        };
        let path = Llama::random(shape).save(folder.path());
        let bytes = std::fs::read(&path).unwrap();
        let len = bytes.len() as u64;
        let transformer = Transformer::new(engine).unwrap();
        let options = SessionOptions::new().context(40);
        let expected = {
            let model = Model::open(&path).unwrap();
            logits(&mut transformer.start(&model, &options).unwrap(), [3, 5, 7])
        };
        let server = TestServer::start(Behavior::good(bytes));
        let cached = Options::new().cache(folder.path().join("cache"), 1 << 30);
        let paged = Placement::Paged { resident_bytes: Some(len / 2), policy: Policy::Lru };
        for placement in [Placement::resident32(), Placement::sharded32(2), paged] {
            let file = open(&server.url, &cached).unwrap();
            let model = Model::from_source(&server.url, file.source).unwrap();
            let options = options.clone().placement(placement);
            let mut session = transformer.start(&model, &options).unwrap();
            assert!(logits(&mut session, [3, 5, 7]) == expected, "{options:?}");
        }
    });
}
