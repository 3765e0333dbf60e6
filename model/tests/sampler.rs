//! Choice of tokens: order of steps, determinism, and what is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

use polychord_model::sampler::{Error, Sampler, Sampling};

fn drawing() -> Sampling {
    Sampling::new().temperature(1.0).top_k(0).top_p(1.0).seed(7)
}

fn sample(options: Sampling, logits: &[f32], recent: &[u32]) -> Result<u32, Error> {
    Sampler::new(&options).unwrap().sample(logits.iter().copied(), recent)
}

/// How often each token is drawn.
fn counts(options: Sampling, logits: &[f32], draws: u32) -> Vec<u32> {
    let mut sampler = Sampler::new(&options).unwrap();
    let mut counts = vec![0; logits.len()];
    (0..draws)
        .for_each(|_| counts[sampler.sample(logits.iter().copied(), &[]).unwrap() as usize] += 1);
    counts
}

#[test]
fn greedy_takes_the_best_and_the_lowest_of_equals() {
    assert_eq!(sample(Sampling::greedy(), &[0.0, 3.0, -1.0, 3.0], &[]), Ok(1));
    assert_eq!(sample(Sampling::greedy(), &[0.0, -0.0], &[]), Ok(0));
    assert_eq!(sample(Sampling::greedy(), &[-0.0, 0.0], &[]), Ok(0));
    assert_eq!(sample(Sampling::greedy(), &[f32::NEG_INFINITY, -5.0], &[]), Ok(1));
}

#[test]
fn a_recent_token_is_penalized_once() {
    let options = Sampling::greedy().repeat_penalty(2.0).repeat_last_n(3);
    assert_eq!(sample(options, &[4.0, 3.0, 1.0], &[0]), Ok(1), "4 / 2 is less than 3");
    assert_eq!(
        sample(options, &[4.0, 1.5, 1.0], &[0, 0, 0]),
        Ok(0),
        "not once for each occurrence"
    );
    assert_eq!(
        sample(options, &[4.0, 3.0, 1.0], &[0, 9, 9, 9]),
        Ok(0),
        "no longer recent, and 9 is no token"
    );
    assert_eq!(sample(options, &[-1.0, -1.5, -9.0], &[0]), Ok(1), "negative logits are multiplied");
    let none = options.repeat_last_n(0);
    assert_eq!(sample(none, &[4.0, 3.0, 1.0], &[0]), Ok(0));
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.0, f32::ln(2.0), f32::ln(5.0)];
    let counts = counts(drawing(), &logits, 80_000);
    for (count, expected) in counts.iter().zip([10_000_u32, 20_000, 50_000]) {
        assert!(count.abs_diff(expected) < 600, "{counts:?}");
    }
}

#[test]
fn temperature_sharpens_and_flattens() {
    let logits = [0.0, f32::ln(2.0)];
    let cold = counts(drawing().temperature(0.25), &logits, 34_000);
    assert!(cold[0].abs_diff(2_000) < 300, "1 to 2^4: {cold:?}");
    let tiny = counts(drawing().temperature(1e-30), &logits, 100);
    assert_eq!(tiny, [0, 100]);
    let hot = counts(drawing().temperature(100.0), &logits, 10_000);
    assert!(hot[0].abs_diff(5_000) < 300, "{hot:?}");
}

#[test]
fn top_k_keeps_the_best() {
    let logits: Vec<f32> = (0_u8..100).map(|id| f32::from(id % 50) / 50.0).collect();
    let counts = counts(drawing().top_k(3), &logits, 3_000);
    let drawn: Vec<usize> = (0..100).filter(|&id| counts[id] > 0).collect();
    assert_eq!(drawn, [48, 49, 99], "the lower id of equals");
}

#[test]
fn top_p_keeps_the_shortest_run_before_temperature() {
    let logits = [f32::ln(0.5), f32::ln(0.3), f32::ln(0.15), f32::ln(0.05)];
    let hot = drawing().temperature(50.0).top_p(0.79);
    let counts = counts(hot, &logits, 3_000);
    assert!(counts[0] > 1_000 && counts[1] > 1_000 && counts[2..] == [0, 0], "{counts:?}");
}

#[test]
fn top_p_over_a_large_vocabulary_agrees_with_sorting_all() {
    let logits: Vec<f32> = (0_u32..1_000)
        .map(|id| f32::from((id.wrapping_mul(2_654_435_761) >> 16) as u16) / 3e5)
        .collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let mut sum = 0.0;
    let kept = 1 + order
        .iter()
        .take_while(|&&id| {
            sum += f64::from(logits[id]).exp() / total;
            sum < 0.3
        })
        .count();
    let counts = counts(drawing().top_p(0.3), &logits, 2_000);
    let allowed = &order[..kept];
    assert!((0..logits.len()).all(|id| counts[id] == 0 || allowed.contains(&id)));
    assert!(kept > 200 && counts.iter().filter(|&&count| count > 0).count() > kept * 9 / 10);
}

#[test]
fn the_same_seed_gives_the_same_tokens_on_every_platform() {
    let logits: Vec<f32> = (0_u8..64).map(|id| f32::from(id) / 16.0).collect();
    let mut sampler = Sampler::new(&Sampling::default().seed(42)).unwrap();
    let tokens: Vec<u32> =
        (0..12).map(|_| sampler.sample(logits.iter().copied(), &[63]).unwrap()).collect();
    assert_eq!(
        tokens,
        [51, 37, 57, 52, 60, 62, 59, 46, 48, 60, 55, 41],
        "changes only if the algorithm does"
    );
}

#[test]
fn nonsense_is_refused() {
    for options in [Sampling::greedy(), drawing(), Sampling::default()] {
        assert_eq!(sample(options, &[], &[]), Err(Error::Empty { count: 0 }));
        assert_eq!(sample(options, &[f32::NEG_INFINITY; 3], &[]), Err(Error::Empty { count: 3 }));
        assert!(matches!(sample(options, &[0.0, f32::NAN], &[]), Err(Error::Logit { id: 1, .. })));
        assert!(matches!(sample(options, &[f32::INFINITY], &[]), Err(Error::Logit { id: 0, .. })));
        assert_eq!(sample(options, &[f32::MAX, f32::MIN], &[]), Ok(0));
    }
    let extreme = drawing().repeat_penalty(1e-30);
    assert_eq!(sample(extreme, &[f32::MAX, 1.0], &[0, u32::MAX]), Ok(0));
}

#[test]
fn options_out_of_range_are_named() {
    let bad = f32::NAN;
    for (options, field) in [
        (drawing().temperature(-0.1), "temperature"),
        (drawing().temperature(bad), "temperature"),
        (drawing().temperature(f32::INFINITY), "temperature"),
        (drawing().top_p(0.0), "top_p"),
        (drawing().top_p(1.5), "top_p"),
        (drawing().repeat_penalty(0.0), "repeat_penalty"),
        (drawing().repeat_penalty(bad), "repeat_penalty"),
    ] {
        let error = Sampler::new(&options).unwrap_err();
        assert!(matches!(error, Error::Option { field: named, .. } if named == field), "{error}");
        assert!(error.to_string().contains("must be"), "{error}");
    }
}

#[test]
fn penalties_count_each_time_or_once() {
    let logits = [4.0, 3.0, 2.5, -1.0];
    let often = Sampling::greedy().frequency_penalty(0.6);
    assert_eq!(sample(often, &logits, &[0]), Ok(0));
    assert_eq!(sample(often, &logits, &[0, 0]), Ok(1), "4 - 2 * 0.6 is less than 3");
    let once = Sampling::greedy().presence_penalty(0.6);
    assert_eq!(sample(once, &logits, &[0, 0, 0]), Ok(0), "4 - 0.6 is more than 3");
    assert_eq!(sample(once.presence_penalty(1.1), &logits, &[0]), Ok(1));
    let wanted = Sampling::greedy().frequency_penalty(-1.0);
    assert_eq!(sample(wanted, &logits, &[2, 2]), Ok(2), "2.5 + 2");
    assert_eq!(sample(often.repeat_last_n(1), &logits, &[0, 0, 9]), Ok(0), "no longer recent");
}

#[test]
fn min_p_drops_what_is_far_from_the_best() {
    let logits = [0.0, f32::ln(2.0), f32::ln(20.0)];
    let some = counts(drawing().min_p(0.09), &logits, 5_000);
    assert!(some[0] == 0 && some[1] > 0, "{some:?}");
    let best = counts(drawing().min_p(1.0), &logits, 100);
    assert_eq!(best, [0, 0, 100]);
    let refused = Sampler::new(&drawing().min_p(1.5)).unwrap_err();
    assert!(matches!(refused, Error::Option { field: "min_p", .. }), "{refused}");
    let refused = Sampler::new(&drawing().frequency_penalty(f32::NAN)).unwrap_err();
    assert!(matches!(refused, Error::Option { field: "frequency_penalty", .. }), "{refused}");
}
