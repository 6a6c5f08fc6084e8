//! The sparse front of the text network: word embeddings, convolution with maximum over time, mean of words, bag of n-grams.
//!
//! Written by hand because only a few thousand of the tables' rows take part in a batch, and because a convolution over an embedding is
//! linear in the row: `embedding · filter tap` is computed once per *distinct* token of the batch and the windows only add rows.
//! Gradients are accumulated into [`Gradient`] buffers of the optimiser; everything after this front is burn's automatic differentiation.
//! Knows nothing of sequences, tasks or the optimiser.

use burn::tensor::{Device, Tensor, TensorData};

/// Widths of the convolution's windows, in tokens.
pub const WIDTHS: [usize; 3] = [3, 4, 5];
/// Filter taps of all widths together.
const TAPS: usize = 3 + 4 + 5;
/// Position of an all-padding window, whose sum is zero.
const EMPTY: u32 = u32::MAX;

/// One text: rows of the word table and of the n-gram table.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub tokens: &'a [u32],
    pub bag: &'a [u32],
}

/// Sizes of the front; its output has [`Sizes::pooled`] columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Columns of the word table.
    pub embedding: usize,
    /// Filters per width.
    pub filters: usize,
    /// Columns of the n-gram table.
    pub bag: usize,
}

impl Sizes {
    /// `[filters of width 3 | 4 | 5 | bag | mean embedding]`
    pub fn pooled(self) -> usize {
        WIDTHS.len() * self.filters + self.bag + self.embedding
    }

    /// Weights of the filters: `[embedding][width, tap, filter]`.
    pub fn filter_weights(self) -> usize {
        self.embedding * TAPS * self.filters
    }
}

/// The parameters of the front, borrowed from their owner.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// `[vocabulary][embedding]`, row 0 zero.
    pub words: &'a [f32],
    /// `[embedding][12 taps × filters]`: width 3's taps first, then 4's, then 5's.
    pub filters: &'a [f32],
    /// `[3 × filters]`
    pub bias: &'a [f32],
    /// `[bag rows][bag]`, row 0 zero.
    pub bag: &'a [f32],
}

/// Gradient buffers of the same layout as [`Tables`].
#[derive(Debug)]
pub struct Gradients<'a> {
    pub words: &'a mut [f32],
    pub filters: &'a mut [f32],
    pub bias: &'a mut [f32],
    pub bag: &'a mut [f32],
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct Pass {
    /// `[texts][pooled]`
    pub pooled: Vec<f32>,
    /// Distinct tokens of the batch, in order of first use.
    distinct: Vec<u32>,
    /// Index into `distinct` for every token of every text, one after the other.
    local: Vec<u32>,
    /// First entry in `local` of every text.
    starts: Vec<usize>,
    /// `[texts][3 × filters]`: where the largest window starts (in padded positions), or [`EMPTY`].
    best: Vec<u32>,
}

/// Numbers the distinct tokens of the texts.
fn number_tokens(texts: &[Text<'_>], vocabulary: usize) -> (Vec<u32>, Vec<u32>, Vec<usize>) {
    let mut seen = vec![u32::MAX; vocabulary];
    let (mut distinct, mut local, mut starts) = (Vec::new(), Vec::new(), Vec::with_capacity(texts.len()));
    for text in texts {
        starts.push(local.len());
        for &token in text.tokens {
            let slot = &mut seen[token as usize];
            if *slot == u32::MAX {
                *slot = distinct.len() as u32;
                distinct.push(token);
            }
            local.push(*slot);
        }
    }
    (distinct, local, starts)
}

fn gather_rows(table: &[f32], width: usize, rows: &[u32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&table[row as usize * width..][..width]);
    }
    out
}

fn matrix(values: Vec<f32>, rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}

fn add_scaled(into: &mut [f32], from: &[f32], scale: f32) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b * scale;
    }
}

/// Pools every text into one row. `device` is one without automatic differentiation.
pub fn forward(texts: &[Text<'_>], tables: Tables<'_>, sizes: Sizes, device: &Device) -> Pass {
    let (e, f, b) = (sizes.embedding, sizes.filters, sizes.bag);
    let (distinct, local, starts) = number_tokens(texts, tables.words.len() / e);
    let row = TAPS * f;
    // [distinct][tap, filter]: what a token adds to a window at each tap.
    let taps: Vec<f32> = if distinct.is_empty() {
        Vec::new()
    } else {
        let words = matrix(gather_rows(tables.words, e, &distinct), distinct.len(), e, device);
        to_vec(words.matmul(matrix(tables.filters.to_vec(), e, row, device)))
    };
    let pooled_width = sizes.pooled();
    let mut pooled = vec![0.0f32; texts.len() * pooled_width];
    let mut best = vec![EMPTY; texts.len() * WIDTHS.len() * f];
    let (mut sum, mut top) = (vec![0.0f32; f], vec![0.0f32; f]);
    for (n, text) in texts.iter().enumerate() {
        let tokens = &local[starts[n]..][..text.tokens.len()];
        let out = &mut pooled[n * pooled_width..][..pooled_width];
        let mut first_tap = 0;
        for (w, &width) in WIDTHS.iter().enumerate() {
            let at = &mut best[(n * WIDTHS.len() + w) * f..][..f];
            // The all-padding window is always there, so the maximum starts at its sum, zero.
            top.fill(0.0);
            let windows = if tokens.is_empty() { 0 } else { tokens.len() + width - 1 };
            for window in 0..windows {
                sum.fill(0.0);
                for tap in 0..width {
                    // Position `window + tap` counts width − 1 padding rows before the text.
                    if let Some(&token) = (window + tap + 1).checked_sub(width).and_then(|i| tokens.get(i)) {
                        add(&mut sum, &taps[token as usize * row + (first_tap + tap) * f..][..f]);
                    }
                }
                for i in 0..f {
                    if sum[i] > top[i] {
                        top[i] = sum[i];
                        at[i] = window as u32;
                    }
                }
            }
            for i in 0..f {
                out[w * f + i] = (top[i] + tables.bias[w * f + i]).max(0.0);
            }
            first_tap += width;
        }
        let bag = &mut out[WIDTHS.len() * f..][..b];
        let scale = bag_scale(text.bag.len());
        for &r in text.bag {
            add_scaled(bag, &tables.bag[r as usize * b..][..b], scale);
        }
        let mean = &mut out[WIDTHS.len() * f + b..];
        let scale = mean_scale(text.tokens.len());
        for &t in text.tokens {
            add_scaled(mean, &tables.words[t as usize * e..][..e], scale);
        }
    }
    Pass { pooled, distinct, local, starts, best }
}

/// `1 / √m` of a bag of m n-grams, 0 of an empty one.
pub fn bag_scale(m: usize) -> f32 {
    if m == 0 { 0.0 } else { 1.0 / (m as f32).sqrt() }
}

/// `1 / n` of n tokens, 0 of none.
pub fn mean_scale(n: usize) -> f32 {
    if n == 0 { 0.0 } else { 1.0 / n as f32 }
}

/// The rows of every text's n-grams in a table of `columns`, summed and scaled as a bag is: `[texts][columns]`.
pub fn sum(texts: &[Text<'_>], table: &[f32], columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; texts.len() * columns];
    for (text, out) in texts.iter().zip(out.chunks_exact_mut(columns)) {
        let scale = bag_scale(text.bag.len());
        for &r in text.bag {
            add_scaled(out, &table[r as usize * columns..][..columns], scale);
        }
    }
    out
}

/// Adds the gradient of the table of [`sum`], given the gradient of its result.
pub fn sum_backward(texts: &[Text<'_>], gradient: &[f32], into: &mut [f32], columns: usize) {
    for (text, gradient) in texts.iter().zip(gradient.chunks_exact(columns)) {
        let scale = bag_scale(text.bag.len());
        for &r in text.bag {
            add_scaled(&mut into[r as usize * columns..][..columns], gradient, scale);
        }
    }
}

/// Adds the gradients of the tables, given the gradient of [`Pass::pooled`].
pub fn backward(
    pass: &Pass,
    texts: &[Text<'_>],
    gradient: &[f32],
    tables: Tables<'_>,
    into: &mut Gradients<'_>,
    sizes: Sizes,
    device: &Device,
) {
    let (e, f, b) = (sizes.embedding, sizes.filters, sizes.bag);
    let (row, pooled_width) = (TAPS * f, sizes.pooled());
    let mut taps = vec![0.0f32; pass.distinct.len() * row];
    for (n, text) in texts.iter().enumerate() {
        let tokens = &pass.local[pass.starts[n]..][..text.tokens.len()];
        let (out, grad) = (&pass.pooled[n * pooled_width..][..pooled_width], &gradient[n * pooled_width..][..pooled_width]);
        let mut first_tap = 0;
        for (w, &width) in WIDTHS.iter().enumerate() {
            for i in w * f..(w + 1) * f {
                if out[i] <= 0.0 {
                    continue;
                }
                into.bias[i] += grad[i];
                let window = pass.best[n * WIDTHS.len() * f + i];
                if window == EMPTY {
                    continue;
                }
                for tap in 0..width {
                    if let Some(&token) = (window as usize + tap + 1).checked_sub(width).and_then(|p| tokens.get(p)) {
                        taps[token as usize * row + (first_tap + tap) * f + i - w * f] += grad[i];
                    }
                }
            }
            first_tap += width;
        }
        let scale = bag_scale(text.bag.len());
        for &r in text.bag {
            add_scaled(&mut into.bag[r as usize * b..][..b], &grad[WIDTHS.len() * f..][..b], scale);
        }
        let scale = mean_scale(text.tokens.len());
        for &t in text.tokens {
            add_scaled(&mut into.words[t as usize * e..][..e], &grad[WIDTHS.len() * f + b..], scale);
        }
    }
    if pass.distinct.is_empty() {
        return;
    }
    let taps = matrix(taps, pass.distinct.len(), row, device);
    let words = matrix(gather_rows(tables.words, e, &pass.distinct), pass.distinct.len(), e, device);
    let filters = matrix(tables.filters.to_vec(), e, row, device);
    add(into.filters, &to_vec(words.transpose().matmul(taps.clone())));
    for (g, &t) in to_vec(taps.matmul(filters.transpose())).chunks_exact(e).zip(&pass.distinct) {
        add(&mut into.words[t as usize * e..][..e], g);
    }
}

/// Reads a tensor of f32 back.
pub fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("a tensor of f32 reads back as f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    const SIZES: Sizes = Sizes { embedding: 5, filters: 3, bag: 4 };

    fn random(rng: &mut SmallRng, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
    }

    struct Fixture {
        values: [Vec<f32>; 4],
        texts: Vec<(Vec<u32>, Vec<u32>)>,
        weights: Vec<f32>,
    }

    fn fixture() -> Fixture {
        let mut rng = SmallRng::seed_from_u64(7);
        let (vocabulary, bags) = (9, 8);
        let mut words = random(&mut rng, vocabulary * SIZES.embedding);
        words[..SIZES.embedding].fill(0.0);
        let mut bag = random(&mut rng, bags * SIZES.bag);
        bag[..SIZES.bag].fill(0.0);
        let texts = vec![
            (vec![1, 2, 3, 2, 5, 8], vec![1, 2, 3]),
            (vec![], vec![]),
            (vec![4], vec![7, 7]),
            (vec![6, 7], vec![5]),
            (vec![1, 1, 1], vec![]),
        ];
        let weights = random(&mut rng, texts.len() * SIZES.pooled());
        let values = [words, random(&mut rng, SIZES.filter_weights()), random(&mut rng, 3 * SIZES.filters), bag];
        Fixture { values, texts, weights }
    }

    fn borrow(texts: &[(Vec<u32>, Vec<u32>)]) -> Vec<Text<'_>> {
        texts.iter().map(|(tokens, bag)| Text { tokens, bag }).collect()
    }

    fn tables(v: &[Vec<f32>; 4]) -> Tables<'_> {
        Tables { words: &v[0], filters: &v[1], bias: &v[2], bag: &v[3] }
    }

    fn loss(f: &Fixture, values: &[Vec<f32>; 4]) -> f64 {
        let pass = forward(&borrow(&f.texts), tables(values), SIZES, &Device::flex());
        pass.pooled.iter().zip(&f.weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let f = fixture();
        let device = Device::flex();
        let texts = borrow(&f.texts);
        let pass = forward(&texts, tables(&f.values), SIZES, &device);
        let mut g = f.values.clone().map(|v| vec![0.0; v.len()]);
        let [words, filters, bias, bag] = &mut g;
        backward(&pass, &texts, &f.weights, tables(&f.values), &mut Gradients { words, filters, bias, bag }, SIZES, &device);
        let mut checked = 0;
        for (which, grads) in g.iter().enumerate() {
            for (i, &analytic) in grads.iter().enumerate() {
                let step = 1e-3f32;
                let (mut up, mut down) = (f.values.clone(), f.values.clone());
                up[which][i] += step;
                down[which][i] -= step;
                let numeric = (loss(&f, &up) - loss(&f, &down)) / f64::from(2.0 * step);
                // Row 0 is never looked up: its gradient is zero both ways.
                assert!((numeric - f64::from(analytic)).abs() < 5e-3, "table {which} entry {i}: {analytic} against {numeric}");
                checked += usize::from(analytic != 0.0);
            }
        }
        assert!(checked > 100, "only {checked} gradients were not zero");
    }

    #[test]
    fn pooling_equals_a_direct_padded_convolution() {
        let f = fixture();
        let pass = forward(&borrow(&f.texts), tables(&f.values), SIZES, &Device::flex());
        let e = SIZES.embedding;
        for (n, (tokens, _)) in f.texts.iter().enumerate() {
            let mut first_tap = 0;
            for (w, width) in WIDTHS.into_iter().enumerate() {
                // width − 1 rows of padding on both sides and one zero token at the end, as the graph does it.
                let mut x = vec![0u32; width - 1];
                x.extend(tokens);
                x.extend(vec![0; width]);
                for filter in 0..SIZES.filters {
                    let best = x
                        .windows(width)
                        .map(|window| {
                            let mut sum = f.values[2][w * SIZES.filters + filter];
                            for (tap, &t) in window.iter().enumerate() {
                                for d in 0..e {
                                    sum += f.values[0][t as usize * e + d]
                                        * f.values[1][(d * TAPS + first_tap + tap) * SIZES.filters + filter];
                                }
                            }
                            sum.max(0.0)
                        })
                        .fold(0.0f32, f32::max);
                    let got = pass.pooled[n * SIZES.pooled() + w * SIZES.filters + filter];
                    assert!((got - best).abs() < 1e-5, "text {n} width {width} filter {filter}: {got} against {best}");
                }
                first_tap += width;
            }
        }
    }
}
