use super::*;

fn architecture() -> Architecture {
    Architecture {
        vocabulary: 8,
        bag_rows: 7,
        customer: Some(1),
        votes_rate: 10.0,
        tasks: vec![TaskShape { labels: 3, wide: true }, TaskShape { labels: 2, wide: false }, TaskShape { labels: 2, wide: true }],
        ..Architecture::small()
    }
}

fn texts() -> Vec<(Vec<u32>, Vec<u32>)> {
    (0..6u32).map(|i| ((0..i % 4).map(|j| 2 + (i + j) % 6).collect(), (0..i % 3).map(|j| 1 + (i * 2 + j) % 6).collect())).collect()
}

/// Three sequences of 3, 2 and 1 steps, with carried state and labels of every kind.
fn batch(texts: &[(Vec<u32>, Vec<u32>)]) -> Batch<'_> {
    let wave = |n: usize, k: f32| (0..n).map(|i| (i as f32 * k).sin()).collect::<Vec<f32>>();
    Batch {
        counts: vec![3, 2, 1],
        texts: texts.iter().map(|(tokens, bag)| Text { tokens, bag }).collect(),
        features: wave(12, 1.3),
        ratings: vec![(0, 2.5), (1, 1.0), (3, 3.0), (4, 2.0), (5, 4.2)],
        classes: vec![vec![(1, 2), (4, 0)], vec![(2, 1)], vec![(3, 0), (5, 1)]],
        carry: Carry { hidden: wave(12, 0.7), previous: wave(9, 0.9), before: wave(9, 1.1), mean: wave(21, 0.4), steps: 2.0 },
    }
}

fn losses() -> Losses {
    Losses {
        mean: 0.5,
        intercept_deviation: 1.0,
        classes: vec![0.7; 3],
        smoothing: 0.1,
        ratings_per_batch: 3.0,
        labels_per_batch: vec![2.0; 3],
    }
}

/// The loss, and its gradients added to `gradients`; with dropout where `rate` is not 0, always with the same masks.
fn learn(network: &Network, batch: &Batch<'_>, rate: f32, gradients: &mut [Vec<f32>]) -> f32 {
    let mut rng = SmallRng::seed_from_u64(3);
    let dropout = (rate > 0.0).then_some(Dropout { rate, rng: &mut rng });
    network.learn(batch, &losses(), dropout, gradients).0
}

#[test]
fn gradients_of_every_layer_equal_finite_differences() {
    check_gradients(0.0);
    check_gradients(0.3);
}

fn check_gradients(rate: f32) {
    let mut network = Network::new(architecture(), 5);
    // Larger weights than the initial ones, so that differences stand out of f32's rounding.
    network.parameters.iter_mut().for_each(|p| p.values.iter_mut().for_each(|v| *v *= 2.0));
    let texts = texts();
    let batch = batch(&texts);
    let mut gradients: Vec<Vec<f32>> = network.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
    let learned = learn(&network, &batch, rate, &mut gradients);
    assert_eq!((learned - network.loss(&batch, &losses()).0).abs() < 1e-5, rate == 0.0, "dropout changes the loss");
    let mut unused = gradients.clone();
    let mut loss = |network: &Network| f64::from(learn(network, &batch, rate, &mut unused));
    for (p, gradients) in gradients.iter().enumerate() {
        let mut seen = false;
        for (i, &analytic) in gradients.iter().enumerate() {
            let step = 4e-3f32;
            let kept = network.parameters[p].values[i];
            network.parameters[p].values[i] = kept + step;
            let up = loss(&network);
            network.parameters[p].values[i] = kept - step;
            let down = loss(&network);
            network.parameters[p].values[i] = kept;
            let numeric = (up - down) / f64::from(2.0 * step);
            let analytic = f64::from(analytic);
            let name = &network.parameters[p].name;
            assert!((numeric - analytic).abs() < 2e-3 + 0.02 * analytic.abs(), "{name}[{i}], dropout {rate}: {analytic} against {numeric}");
            seen |= analytic.abs() > 1e-4;
        }
        assert!(seen, "{} has no gradient at all", network.parameters[p].name);
    }
}

#[test]
fn a_customers_intercepts_stand_in_all_its_rated_rows_and_no_others() {
    let texts = texts();
    let batch = batch(&texts);
    let device = cpu();
    let nothing = || matrix(vec![0.0; 6 * CLASSES], 6, &device);
    let (logits, penalty) = with_intercepts(nothing(), &batch, 1.0, &device);
    let logits = to_vec(logits);
    let row = |i: usize| &logits[i * CLASSES..][..CLASSES];
    // Rows 0, 3 and 5 are the first sequence, 1 and 4 the second, 2 the third.
    assert!(row(0) == row(3) && row(3) == row(5) && row(0).iter().any(|x| *x != 0.0), "{logits:?}");
    assert!(row(1)[0] > 0.1 && row(1) == row(4) && row(1) != row(0), "{logits:?}");
    assert!(row(2) == [0.0; CLASSES] && penalty > 0.0, "{logits:?}");
    let (logits, penalty) = with_intercepts(nothing(), &batch, 0.0, &device);
    assert!(to_vec(logits).iter().all(|x| *x == 0.0) && penalty == 0.0);
}

#[test]
fn chunks_with_carried_state_equal_one_run() {
    let network = Network::new(architecture(), 5);
    let texts = texts();
    let whole = batch(&texts);
    let all = network.run(&whole);
    let part = |steps: std::ops::Range<usize>, counts: Vec<usize>, carry: Carry| Batch {
        counts,
        texts: whole.texts[steps.clone()].to_vec(),
        features: whole.features[steps.start * 2..steps.end * 2].to_vec(),
        ratings: vec![],
        classes: vec![vec![]; 3],
        carry,
    };
    let first = network.run(&part(0..5, vec![3, 2], whole.carry.clone()));
    let mut carry = first.carry;
    carry.truncate(1, &network.architecture);
    let second = network.run(&part(5..6, vec![1], carry));
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(&all.satisfaction[..15], &first.satisfaction) && close(&all.satisfaction[15..], &second.satisfaction));
    assert!(close(&all.classes[0][15..], &second.classes[0]));
    assert!(close(&all.carry.hidden[..4], &second.carry.hidden) && close(&all.carry.before[..3], &second.carry.before));
}

#[test]
fn a_sequence_does_not_feel_its_neighbours() {
    let network = Network::new(architecture(), 5);
    let texts = texts();
    let whole = network.run(&batch(&texts));
    // The second sequence alone: rows 1 and 4 of the packed batch.
    let b = batch(&texts);
    let row = |v: &[f32], width: usize, i: usize| v[i * width..(i + 1) * width].to_vec();
    let alone = Batch {
        counts: vec![1, 1],
        texts: vec![b.texts[1], b.texts[4]],
        features: [row(&b.features, 2, 1), row(&b.features, 2, 4)].concat(),
        ratings: vec![],
        classes: vec![vec![]; 3],
        carry: Carry {
            hidden: row(&b.carry.hidden, 4, 1),
            previous: row(&b.carry.previous, 3, 1),
            before: row(&b.carry.before, 3, 1),
            mean: row(&b.carry.mean, 7, 1),
            steps: 2.0,
        },
    };
    let alone = network.run(&alone);
    for (a, b) in alone.satisfaction.iter().zip([row(&whole.satisfaction, 3, 1), row(&whole.satisfaction, 3, 4)].concat()) {
        assert!((a - b).abs() < 1e-6);
    }
}
