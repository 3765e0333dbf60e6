//! Numbers of a session that cannot be: each is refused by its name, with what is possible.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use polychord::api::{Error as ApiError, Plan, PlannedMemory, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{Error, Model, Placement, Ranks, SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, test_name};

/// What a caller does to options.
type Change<'a> = &'a dyn Fn(&mut SessionOptions);

#[test]
fn numbers_that_cannot_be_are_refused_by_name() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model =
            Model::open(Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path())).unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let refusal = |change: &dyn Fn(&mut SessionOptions)| {
            let mut options = SessionOptions::default();
            change(&mut options);
            transformer.start(&model, &options).map(|_| ()).unwrap_err()
        };
        let sharded = |memories| Placement::sharded32(memories);
        let numbers: [(&str, Change<'_>); 5] = [
            ("batch of 0", &|it| it.batch = 0),
            ("call_time (in ms) of 0", &|it| it.call_time = Some(Duration::ZERO)),
            ("memories of 0", &|it| it.placement = sharded(0)),
            ("memories of 5", &|it| it.placement = sharded(5)),
            ("memories of 18446744073709551615", &|it| it.placement = sharded(usize::MAX)),
        ];
        for (words, change) in numbers {
            let error = refusal(change);
            assert!(matches!(error, Error::Number { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
        for context in [0, 129, u32::MAX] {
            let error = refusal(&|it| it.context = Some(context));
            assert!(matches!(error, Error::Context { limit: 128, .. }), "{error}");
        }
        for ranks in [0, 5, u32::MAX] {
            let error = refusal(&|it| it.ranks = Ranks::Exactly(ranks));
            assert!(matches!(error, Error::Ranks { limit: 4, .. }), "{error}");
        }
        // As large as they are, these are only more than is used.
        let mut options = SessionOptions::default();
        options.batch = u32::MAX;
        options.call_time = Some(Duration::MAX).filter(|_| engine.capabilities().time_limit);
        transformer.start(&model, &options).unwrap().eval(&[1, 2, 3]).unwrap();
    });
}

#[test]
fn a_window_that_is_too_small_is_told_with_the_least_that_works() {
    each_engine(test_name!(), |engine| {
        for tied in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let shape = Shape { tied, rope_freqs: true, blocks: 5, ..Shape::of(GgmlType::F32) };
            let shape = Shape { dim: 256, head_dim: 64, rope_dim: 64, ffn: 512, ..shape };
            let model = Model::open(Llama::random(shape).save(folder.path())).unwrap();
            let transformer = Transformer::new(engine).unwrap();
            let start = |resident_bytes, policy| {
                let mut options = SessionOptions::default();
                let resident_bytes = Some(resident_bytes);
                options.placement = Placement::Paged { resident_bytes, policy };
                transformer.start(&model, &options)
            };
            for policy in [Policy::Pinned, Policy::Lru] {
                let mut least = None;
                for bytes in [0, 1, 65_536, 1 << 20] {
                    match start(bytes, policy) {
                        Err(Error::Runtime(ApiError::TooLarge { asked, limit, .. })) => {
                            assert_eq!(limit, bytes);
                            assert!(*least.get_or_insert(asked) == asked && asked > bytes);
                        }
                        other => panic!("{bytes}: {:?}", other.map(|_| ())),
                    }
                }
                let least = least.unwrap();
                assert!(start(least - 1, policy).is_err());
                let error = start(1, policy).map(|_| ()).unwrap_err().to_string();
                assert!(
                    error.contains(&least.to_string()) && error.contains("--resident"),
                    "{error}"
                );
                let mut session = start(least, policy).unwrap();
                session.eval(&[1, 2, 3]).unwrap();
                session.eval(&[4]).unwrap();
            }
        }
    });
}

#[test]
fn a_plan_of_a_million_entries_is_refused_at_once() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model =
            Model::open(Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path())).unwrap();
        let mut plan = Plan::resident(model.layers().to_vec()).unwrap();
        let mut options = SessionOptions::default();
        options.placement = Placement::Planned(plan.clone());
        model.place(&options, engine.capabilities()).unwrap();
        plan.memories.extend((1..1_000_000).map(|guest| PlannedMemory::new(guest, "more", 0)));
        options.placement = Placement::Planned(plan);
        let start = std::time::Instant::now();
        let error = model.place(&options, engine.capabilities()).unwrap_err().to_string();
        assert!(error.contains("1000000 memories"), "{error}");
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    });
}

#[test]
fn engines_that_lack_a_memory_are_told_what_others_have() {
    for (placement, words) in [
        (Placement::multi32(), "several memories (multi_memory)"),
        (Placement::native64(), "64-bit memories of that size (native memory64)"),
    ] {
        each_engine(test_name!(), |engine| {
            let folder = tempfile::tempdir().unwrap();
            let path = Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path());
            let mut options = SessionOptions::default();
            options.placement = placement.clone();
            let transformer = Transformer::new(engine).unwrap();
            if let Err(error) = transformer.start(&Model::open(path).unwrap(), &options) {
                let error = error.to_string();
                assert!(
                    error.contains("not supported by this engine") && error.contains(words),
                    "{error}"
                );
            }
        });
    }
}
