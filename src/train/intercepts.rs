//! Random intercepts of satisfaction: what all ratings of one customer share and nothing in the sequence tells.
//!
//! The same few people rate all of a conversation, and who always says 3 says it here too. Learnt as if every rating stood for itself, such habits
//! are read into the words. A multinomial mixed model gives every customer logits of their own instead, drawn from N(0, deviation²), which only
//! training knows. They are set to their mode, penalised quasi-likelihood after Breslow and Clayton (1993), found with the steps of Böhning (1992),
//! which never overshoot. A customer's ratings are taken together as far as one chunk of back-propagation reaches. Knows only logits and labels.

use super::network::CLASSES;

/// Most steps to the mode, and how near to it, in ratings, is near enough. Where logits are sure of themselves the steps are short.
const STEPS: usize = 1000;
const NEAR: f32 = 1e-3;
/// The least deviation: below, nobody has intercepts worth the name.
pub const LEAST_DEVIATION: f32 = 0.01;

/// A rating: its sequence, its row among the logits, its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rated {
    pub sequence: usize,
    pub row: usize,
    pub class: usize,
}

/// The intercepts that suit these logits, `[rows][3]` as they are, at 0 where nothing is rated or a customer has one rating alone; and their penalty, Σ intercept² / 2 deviation².
///
/// At the mode the penalised loss does not change with the intercepts, so its gradient for the logits is that of the loss with the intercepts fixed.
pub fn intercepts(logits: &[f32], rated: &[Rated], deviation: f32) -> (Vec<f32>, f32) {
    let precision = 1.0 / (deviation * deviation);
    let mut rated = rated.to_vec();
    rated.sort_by_key(|r| r.sequence);
    let (mut all, mut penalty) = (vec![0.0; logits.len()], 0.0);
    // A single rating shares nothing with others.
    for ratings in rated.chunk_by(|a, b| a.sequence == b.sequence).filter(|ratings| ratings.len() > 1) {
        let own = mode(logits, ratings, precision);
        for r in ratings {
            all[r.row * CLASSES..][..CLASSES].copy_from_slice(&own);
        }
        penalty += own.iter().map(|x| x * x).sum::<f32>() * precision / 2.0;
    }
    (all, penalty)
}

fn mode(logits: &[f32], ratings: &[Rated], precision: f32) -> [f32; CLASSES] {
    let mut own = [0.0f32; CLASSES];
    // The Hessian of softmax cross-entropy is at most half the identity.
    let bound = ratings.len() as f32 / 2.0 + precision;
    for _ in 0..STEPS {
        let mut ascent = own.map(|x| -x * precision);
        for r in ratings {
            let z: [f32; CLASSES] = std::array::from_fn(|c| logits[r.row * CLASSES + c] + own[c]);
            let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e = z.map(|x| (x - largest).exp());
            let sum: f32 = e.iter().sum();
            for (c, e) in e.iter().enumerate() {
                ascent[c] += f32::from(u8::from(c == r.class)) - e / sum;
            }
        }
        for (own, ascent) in own.iter_mut().zip(ascent) {
            *own += ascent / bound;
        }
        if ascent.iter().all(|a| a.abs() < NEAR) {
            break;
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn rated(classes: &[usize]) -> Vec<Rated> {
        classes.iter().enumerate().map(|(row, &class)| Rated { sequence: row % 2, row, class }).collect()
    }

    /// Penalised loss with these intercepts.
    fn loss(logits: &[f32], rated: &[Rated], own: &[f32], precision: f32) -> f32 {
        let one = |r: &Rated| {
            let z: Vec<f32> = (0..CLASSES).map(|c| logits[r.row * CLASSES + c] + own[c]).collect();
            z.iter().map(|x| x.exp()).sum::<f32>().ln() - z[r.class]
        };
        rated.iter().map(one).sum::<f32>() + own.iter().map(|x| x * x).sum::<f32>() * precision / 2.0
    }

    #[test]
    fn no_other_intercepts_have_a_lower_penalised_loss() {
        let mut rng = SmallRng::seed_from_u64(1);
        for deviation in [0.3f32, 1.0, 3.0] {
            for n in [2, 5, 64] {
                let flat: Vec<f32> = (0..n * CLASSES).map(|_| rng.random_range(-2.0f32..2.0)).collect();
                let any: Vec<Rated> = (0..n).map(|row| Rated { sequence: 0, row, class: rng.random_range(0..CLASSES) }).collect();
                // Sure of class 1, and right but once.
                let sure: Vec<f32> = (0..n * CLASSES).map(|i| if i % CLASSES == 1 { 4.0 } else { 0.0 }).collect();
                let one = (0..n).map(|row| Rated { sequence: 0, row, class: if row == 0 { 2 } else { 1 } }).collect();
                for (logits, ratings) in [(flat, any), (sure, one)] {
                    let (all, penalty) = intercepts(&logits, &ratings, deviation);
                    let own = &all[..CLASSES];
                    let precision = 1.0 / (deviation * deviation);
                    let least = loss(&logits, &ratings, own, precision);
                    assert!((penalty - own.iter().map(|x| x * x).sum::<f32>() * precision / 2.0).abs() < 1e-5);
                    for c in 0..CLASSES {
                        for by in [-0.05, 0.05] {
                            let mut other = own.to_vec();
                            other[c] += by;
                            assert!(loss(&logits, &ratings, &other, precision) > least, "deviation {deviation}, {n} ratings: {own:?}");
                        }
                        // The slope at the mode is nought: that of the penalised loss, in ratings.
                        let beside = |by: f32| {
                            loss(
                                &logits,
                                &ratings,
                                &std::array::from_fn::<f32, CLASSES, _>(|i| own[i] + if i == c { by } else { 0.0 }),
                                precision,
                            )
                        };
                        let slope = (beside(0.02) - beside(-0.02)) / 0.04;
                        assert!(slope.abs() < 0.01, "deviation {deviation}, {n} ratings: {slope}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_customer_has_the_same_intercepts_everywhere_and_unrated_rows_none() {
        let logits = vec![0.0; 7 * CLASSES];
        assert_eq!(intercepts(&logits, &rated(&[1, 0]), 1.0), (logits.clone(), 0.0), "one rating each");
        let (all, _) = intercepts(&logits, &rated(&[1, 0, 1, 0, 1, 2]), 1.0);
        let own = |row: usize| &all[row * CLASSES..][..CLASSES];
        assert_eq!((own(0), own(1)), (own(4), own(5)));
        assert!(own(0)[1] > 0.3 && own(0)[0] < 0.0 && own(1)[0] > own(1)[2], "{:?} {:?}", own(0), own(1));
        assert_eq!(own(6), [0.0; CLASSES]);
        // Little room, small intercepts.
        assert!(intercepts(&logits, &rated(&[1, 0, 1, 0]), 0.1).0.iter().all(|x| x.abs() < 0.03));
    }
}
