//! The text graph up to its pooled features, computed from tables instead of convolutions.
//!
//! A convolution over an embedding is linear: `words · filter` is computed once per word and tap, and a window of the convolution becomes as many
//! row additions as it has taps. [`Pool::cut`] takes that part out of the graph and leaves the rest to tract. It knows graphs as `rapport train`
//! writes them, by the names of their tensors; any other graph runs whole, and the golden outputs of the bundle check this path like that.

use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

use super::TextInput;

/// Name of the tensor where the graph is cut.
const POOLED: &str = "pooled";

/// Tables of one text graph. Output: maxima of the filters (width by width), n-gram mean, word mean.
pub struct Pool {
    widths: Vec<usize>,
    filters: usize,
    /// `[word][tap of every width][filter]`
    table: Vec<f32>,
    /// `[width][filter]`
    bias: Vec<f32>,
    words: Table,
    ngrams: Table,
}

/// Rows of equal width.
struct Table {
    values: Vec<f32>,
    width: usize,
}

impl Table {
    fn row(&self, i: u32) -> &[f32] {
        let start = i as usize * self.width;
        &self.values[start..start + self.width]
    }

    fn rows(&self) -> usize {
        self.values.len() / self.width
    }
}

impl Pool {
    /// Cuts `model` at its pooled features: the tables, and the graph that is left, with the one input `pooled`. `None` for another graph.
    pub fn cut(model: &pb::ModelProto) -> Option<(Self, pb::ModelProto)> {
        let mut rest = model.clone();
        let graph = rest.graph.as_mut()?;
        let words = table(graph, "words")?;
        let ngrams = table(graph, "ngrams")?;
        let mut widths = Vec::new();
        let (mut bias, mut taps) = (Vec::new(), Vec::new());
        for width in 1..=9 {
            let Some(filter) = graph.initializer.iter().find(|t| t.name == format!("filters_{width}")) else { continue };
            let &[filters, embedding, taps_here] = filter.dims.as_slice() else { return None };
            if taps_here != width as i64 || embedding != words.width as i64 {
                return None;
            }
            let values = floats(filter)?;
            let (filters, embedding) = (filters as usize, embedding as usize);
            for tap in 0..width {
                // [filter][embedding][tap] → [embedding][filter]
                let weights: Vec<f32> =
                    (0..embedding).flat_map(|e| (0..filters).map(move |f| (f * embedding + e) * width + tap)).map(|i| values[i]).collect();
                taps.push(weights);
            }
            bias.extend(floats(graph.initializer.iter().find(|t| t.name == format!("filter_bias_{width}"))?)?);
            widths.push(width);
        }
        let filters = bias.len().checked_div(widths.len())?;
        if filters == 0 || bias.len() != filters * widths.len() || taps.iter().any(|t| t.len() != words.width * filters) {
            return None;
        }
        let cut = graph.node.iter().position(|n| n.output.iter().any(|o| o == POOLED))?;
        graph.node.drain(..=cut);
        let used = |name: &str| graph.node.iter().any(|n| n.input.iter().any(|i| i == name));
        let kept: Vec<bool> = graph.initializer.iter().map(|t| used(&t.name)).collect();
        let mut kept = kept.into_iter();
        graph.initializer.retain(|_| kept.next().unwrap_or(true));
        let dims = [dimension::Value::DimParam("B".into()), dimension::Value::DimValue((bias.len() + ngrams.width + words.width) as i64)];
        let dim = dims.map(|v| Dimension { value: Some(v), ..Default::default() }).to_vec();
        let tensor = pb::type_proto::Tensor { elem_type: 1, shape: Some(pb::TensorShapeProto { dim }) };
        let r#type = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
        graph.input = vec![pb::ValueInfoProto { name: POOLED.into(), r#type: Some(r#type), ..Default::default() }];

        let mut table = vec![0.0; words.rows() * taps.len() * filters];
        for (w, out) in table.chunks_mut(taps.len() * filters).enumerate() {
            let word = words.row(w as u32);
            for (weights, out) in taps.iter().zip(out.chunks_mut(filters)) {
                for (x, weights) in word.iter().zip(weights.chunks(filters)) {
                    out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
                }
            }
        }
        Some((Self { widths, filters, table, bias, words, ngrams }, rest))
    }

    /// Number of pooled features.
    pub fn width(&self) -> usize {
        self.bias.len() + self.ngrams.width + self.words.width
    }

    /// Writes the pooled features of a text to `out` ([`Self::width`] long).
    ///
    /// # Errors
    /// A row is outside its table.
    pub fn run(&self, text: &TextInput, out: &mut [f32]) -> Result<(), String> {
        let outside = |rows: &[u32], table: &Table| rows.iter().any(|&r| r as usize >= table.rows());
        if outside(&text.tokens, &self.words) || outside(&text.bag, &self.ngrams) {
            return Err("the tokenizer has more rows than the graph".into());
        }
        let (maxima, means) = out.split_at_mut(self.bias.len());
        let (ngrams, words) = means.split_at_mut(self.ngrams.width);
        self.convolve(&text.tokens, maxima);
        let [word_scale, ngram_scale] = text.scale();
        mean(&self.ngrams, &text.bag, ngram_scale, ngrams);
        mean(&self.words, &text.tokens, word_scale, words);
        Ok(())
    }

    fn convolve(&self, tokens: &[u32], maxima: &mut [f32]) {
        let row = self.widths.iter().sum::<usize>() * self.filters;
        let mut window = vec![0.0; self.filters];
        let mut first = 0;
        for ((&width, bias), maxima) in self.widths.iter().zip(self.bias.chunks(self.filters)).zip(maxima.chunks_mut(self.filters)) {
            // The empty window after the end.
            maxima.iter_mut().zip(bias).for_each(|(m, b)| *m = b.max(0.0));
            for end in 0..tokens.len() + width - 1 {
                window.copy_from_slice(bias);
                for tap in 0..width {
                    let Some(&token) = (end + tap + 1).checked_sub(width).and_then(|at| tokens.get(at)) else { continue };
                    let start = token as usize * row + (first + tap) * self.filters;
                    window.iter_mut().zip(&self.table[start..start + self.filters]).for_each(|(w, t)| *w += t);
                }
                maxima.iter_mut().zip(&window).for_each(|(m, w)| *m = m.max(*w));
            }
            first += width;
        }
    }
}

fn mean(table: &Table, rows: &[u32], scale: f32, out: &mut [f32]) {
    out.fill(0.0);
    for &r in rows {
        out.iter_mut().zip(table.row(r)).for_each(|(o, x)| *o += x);
    }
    out.iter_mut().for_each(|o| *o *= scale);
}

fn table(graph: &pb::GraphProto, name: &str) -> Option<Table> {
    let tensor = graph.initializer.iter().find(|t| t.name == name)?;
    let &[_, width] = tensor.dims.as_slice() else { return None };
    let (values, width) = (floats(tensor)?, usize::try_from(width).ok().filter(|w| *w > 0)?);
    values.len().is_multiple_of(width).then_some(Table { values, width })
}

fn floats(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    let expected = tensor.dims.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?))?;
    let values: Vec<f32> = tensor.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (tensor.data_type == 1 && values.len() == expected).then_some(values)
}
