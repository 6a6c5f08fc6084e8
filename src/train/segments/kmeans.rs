//! Groups of points: k-means with the start of Arthur and Vassilvitskii (2007), the number of groups by silhouette (Rousseeuw 1987).
//!
//! Knows points only. Same points, settings and seed give the same groups.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Centres and the place of each point's nearest one.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    pub centers: Vec<Vec<f32>>,
    pub members: Vec<usize>,
}

const ROUNDS: usize = 50;
/// Starts of which the one with the smallest sum of squared distances is kept.
const STARTS: u64 = 4;
/// Points that the silhouette is the mean of.
const JUDGED: usize = 1000;

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

fn nearest(point: &[f32], centers: &[Vec<f32>]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (i, center) in centers.iter().enumerate() {
        let d = distance(point, center);
        if d < best.1 {
            best = (i, d);
        }
    }
    best
}

/// First centres: each next point with a probability as its squared distance from those there are. Fewer than `k` where points coincide.
fn start(points: &[Vec<f32>], k: usize, rng: &mut SmallRng) -> Vec<Vec<f32>> {
    let mut centers = vec![points[rng.random_range(0..points.len())].clone()];
    let mut distances: Vec<f64> = points.iter().map(|p| distance(p, &centers[0])).collect();
    while centers.len() < k {
        let total: f64 = distances.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut left = rng.random::<f64>() * total;
        let chosen = distances.iter().position(|d| {
            left -= d;
            left < 0.0 && *d > 0.0
        });
        let chosen = chosen.or_else(|| distances.iter().rposition(|d| *d > 0.0)).unwrap_or(0);
        let center = points[chosen].clone();
        distances.iter_mut().zip(points).for_each(|(d, p)| *d = d.min(distance(p, &center)));
        centers.push(center);
    }
    centers
}

fn lloyd(points: &[Vec<f32>], mut centers: Vec<Vec<f32>>) -> (Groups, f64) {
    let mut members = vec![usize::MAX; points.len()];
    let mut sum = 0.0;
    for _ in 0..ROUNDS {
        sum = 0.0;
        let mut moved = false;
        for (member, point) in members.iter_mut().zip(points) {
            let (i, d) = nearest(point, &centers);
            moved |= *member != i;
            *member = i;
            sum += d;
        }
        if !moved {
            break;
        }
        let width = points[0].len();
        let mut sums = vec![(vec![0.0f64; width], 0usize); centers.len()];
        for (&member, point) in members.iter().zip(points) {
            sums[member].0.iter_mut().zip(point).for_each(|(s, x)| *s += f64::from(*x));
            sums[member].1 += 1;
        }
        for (center, (sum, n)) in centers.iter_mut().zip(sums).filter(|(_, s)| s.1 > 0) {
            center.iter_mut().zip(sum).for_each(|(c, s)| *c = (s / n as f64) as f32);
        }
    }
    (Groups { centers, members }, sum)
}

/// At most `k` groups, largest first.
pub fn k_means(points: &[Vec<f32>], k: usize, seed: u64) -> Groups {
    let mut best: Option<(Groups, f64)> = None;
    for attempt in 0..STARTS {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(attempt));
        let found = lloyd(points, start(points, k, &mut rng));
        if best.as_ref().is_none_or(|b| found.1 < b.1) {
            best = Some(found);
        }
    }
    let Some((groups, _)) = best else { return Groups { centers: Vec::new(), members: Vec::new() } };
    let mut sizes = vec![0usize; groups.centers.len()];
    groups.members.iter().for_each(|&m| sizes[m] += 1);
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&i| sizes[i] > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut places = vec![0; sizes.len()];
    order.iter().enumerate().for_each(|(place, &i)| places[i] = place);
    Groups {
        centers: order.iter().map(|&i| groups.centers[i].clone()).collect(),
        members: groups.members.iter().map(|&m| places[m]).collect(),
    }
}

/// Mean silhouette, −1 to 1, of evenly spaced points among themselves: how much nearer a point is to its own group than to the next one.
pub fn silhouette(points: &[Vec<f32>], groups: &Groups) -> f64 {
    let every = points.len().div_ceil(JUDGED).max(1);
    let sample: Vec<usize> = (0..points.len()).step_by(every).collect();
    let k = groups.centers.len();
    let mut sum = 0.0;
    for &i in &sample {
        let mut distances = vec![(0.0f64, 0usize); k];
        for &j in sample.iter().filter(|&&j| j != i) {
            let d = &mut distances[groups.members[j]];
            d.0 += distance(&points[i], &points[j]).sqrt();
            d.1 += 1;
        }
        let own = groups.members[i];
        let mean = |g: usize| (distances[g].1 > 0).then(|| distances[g].0 / distances[g].1 as f64);
        let other = (0..k).filter(|g| *g != own).filter_map(mean).fold(f64::INFINITY, f64::min);
        // A point alone in its group, or a group alone, says nothing.
        if let Some(own) = mean(own)
            && other.is_finite()
            && own.max(other) > 0.0
        {
            sum += (other - own) / own.max(other);
        }
    }
    sum / sample.len().max(1) as f64
}

/// The groups, of `range` many, with the largest silhouette; the fewest of equal ones.
pub fn choose(points: &[Vec<f32>], range: std::ops::RangeInclusive<usize>, seed: u64) -> Option<Groups> {
    let mut best: Option<(f64, Groups)> = None;
    for k in range {
        let groups = k_means(points, k, seed);
        if groups.centers.len() < k {
            break;
        }
        let s = silhouette(points, &groups);
        if best.as_ref().is_none_or(|b| s > b.0) {
            best = Some((s, groups));
        }
    }
    best.map(|b| b.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four clouds of 40, 30, 20 and 10 points around far corners.
    fn clouds() -> Vec<Vec<f32>> {
        let mut rng = SmallRng::seed_from_u64(8);
        let corners = [([0.0, 0.0], 40), ([10.0, 0.0], 30), ([0.0, 10.0], 20), ([10.0, 10.0], 10)];
        let mut points = Vec::new();
        for (corner, n) in corners {
            points.extend((0..n).map(|_| corner.iter().map(|c| c + rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>()));
        }
        points
    }

    #[test]
    fn finds_the_clouds_and_their_number() {
        let points = clouds();
        let groups = choose(&points, 3..=8, 1).expect("groups");
        assert_eq!(groups.centers.len(), 4);
        let expected: Vec<usize> = [(0, 40), (1, 30), (2, 20), (3, 10)].iter().flat_map(|(g, n)| vec![*g; *n]).collect();
        assert_eq!(groups.members, expected, "largest first");
        assert!(silhouette(&points, &groups) > 0.8);
        assert_eq!(groups, choose(&points, 3..=8, 1).expect("groups"));
    }

    /// `silhouette_score([[0], [1], [4], [6], [20]], [0, 0, 1, 1, 1])` of scikit-learn.
    #[test]
    fn silhouette_equals_scikit_learn() {
        let points: Vec<Vec<f32>> = [0.0, 1.0, 4.0, 6.0, 20.0].map(|x| vec![x]).to_vec();
        let groups = Groups { centers: vec![vec![0.5], vec![10.0]], members: vec![0, 0, 1, 1, 1] };
        assert!((silhouette(&points, &groups) - 0.21920940170940167).abs() < 1e-9);
    }

    #[test]
    fn equal_points_are_no_groups() {
        assert_eq!(choose(&vec![vec![1.0, 2.0]; 20], 3..=8, 1), None);
        assert_eq!(k_means(&vec![vec![1.0, 2.0]; 20], 3, 1).centers.len(), 1);
    }
}
