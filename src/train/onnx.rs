//! Writes a trained network as two plain ONNX graphs (opset 17, symbolic batch `B`).
//!
//! `text_cnn.onnx`: `tokens` i64 [B, L], `bag` i64 [B, M], `scale` f32 [B, 2] → `vector` f32 [B, V]. Texts end in at least one padding
//! token, so that the all-padding window is always among those under the maximum.
//! `sequence.onnx`: `text` f32 [B, V], `features` f32 [B, F], `state` f32 [B, S] → `state_out` f32 [B, S] and logits by task.
//! The state is `[hidden | text vector | the one before | running mean of hidden and opinions | steps under it]`; `vector` is `[text vector | pooled
//! text]`, because a linear layer on the pooled text classifies single texts best. What n-grams say of labels and of satisfaction directly are further
//! columns of the n-gram table, which the text vector does not read. Knows no files and no bundle.

use std::ops::Range;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

use super::lookup::WIDTHS;
use super::network::{
    Architecture, BAG, CLASSES, FILTER_BIAS, FILTERS, GRU_HIDDEN, GRU_HIDDEN_BIAS, GRU_INPUT, GRU_INPUT_BIAS, Network, OPINIONS,
    SATISFACTION, SATISFACTION_BIAS, SPAN, SPOKEN, TASKS, TEXT, TEXT_BIAS, VOTES, WORDS,
};

pub(super) const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Widths of what the graphs exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// `vector`, V.
    pub vector: usize,
    /// `state`, S.
    pub state: usize,
}

/// Widths of the exported graphs.
pub fn widths(network: &Network) -> Widths {
    let a = &network.architecture;
    Widths { vector: a.vector + pooled(a), state: a.hidden + 2 * a.vector + a.mean() + 1 }
}

/// Where the state keeps the hidden vector and its running mean: what is read of a customer beside behaviour.
pub fn carried(a: &Architecture) -> [Range<usize>; 2] {
    let mean = a.hidden + 2 * a.vector;
    [0..a.hidden, mean..mean + a.hidden]
}

/// Width of the pooled text: that of training, with votes and opinions after the bag.
fn pooled(a: &Architecture) -> usize {
    a.sizes.pooled() + a.votes() + SPOKEN
}

/// A graph in the making.
#[derive(Default)]
pub(super) struct Builder {
    graph: pb::GraphProto,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self { graph: pb::GraphProto { name: name.into(), ..Default::default() } }
    }

    pub(super) fn input(&mut self, name: &str, kind: i32, dims: &[Dim]) {
        self.graph.input.push(value(name, kind, dims));
    }

    pub(super) fn output(&mut self, name: &str, dims: &[Dim]) {
        self.graph.output.push(value(name, FLOAT, dims));
    }

    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let raw_data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, dims, FLOAT, raw_data);
    }

    pub(super) fn ints(&mut self, name: &str, values: &[i64]) {
        let raw_data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, &[values.len()], INT64, raw_data);
    }

    pub(super) fn tensor(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.graph.initializer.push(pb::TensorProto { name: name.into(), dims, data_type, raw_data, ..Default::default() });
    }

    pub(super) fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<pb::AttributeProto>) {
        self.graph.node.push(pb::NodeProto {
            op_type: op.into(),
            name: format!("{op}_{}", outputs.iter().find(|o| !o.is_empty()).unwrap_or(&"")),
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: outputs.iter().map(|s| (*s).into()).collect(),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// `out = input[:, from..to]`
    pub(super) fn columns(&mut self, input: &str, from: usize, to: usize, out: &str) {
        let (start, end) = (format!("{out}_from"), format!("{out}_to"));
        self.ints(&start, &[from as i64]);
        self.ints(&end, &[to as i64]);
        if !self.graph.initializer.iter().any(|t| t.name == "axis_1") {
            self.ints("axis_1", &[1]);
        }
        self.node("Slice", &[input, &start, &end, "axis_1"], &[out], vec![]);
    }

    /// `out = input · weight + bias`
    pub(super) fn layer(&mut self, input: &str, weight: &str, bias: &str, out: &str) {
        let product = format!("{out}_product");
        self.node("MatMul", &[input, weight], &[&product], vec![]);
        self.node("Add", &[&product, bias], &[out], vec![]);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
            producer_name: "rapport".into(),
            graph: Some(self.graph),
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub(super) enum Dim {
    Fixed(usize),
    Named(&'static str),
}

fn value(name: &str, kind: i32, dims: &[Dim]) -> pb::ValueInfoProto {
    let dim = dims
        .iter()
        .map(|d| Dimension {
            value: Some(match d {
                Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
                Dim::Named(s) => dimension::Value::DimParam((*s).into()),
            }),
            ..Default::default()
        })
        .collect();
    let tensor = pb::type_proto::Tensor { elem_type: kind, shape: Some(pb::TensorShapeProto { dim }) };
    let r#type = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

pub(super) fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: pb::attribute_proto::AttributeType::Int as i32, i, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), r#type, ints: ints.to_vec(), ..Default::default() }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// A layer of `outputs` columns on the pooled text, with rows for the votes put in after the bag's: one that hands on the votes from column `first`
/// on, zeros elsewhere.
fn with_votes(a: &Architecture, layer: &[f32], outputs: usize, first: Option<usize>) -> Vec<f32> {
    let (before, after) = layer.split_at((WIDTHS.len() * a.sizes.filters + a.sizes.bag) * outputs);
    let mut votes = vec![0.0; (a.votes() + SPOKEN) * outputs];
    for label in 0..first.map_or(0, |_| outputs) {
        votes[(first.unwrap_or(0) + label) * outputs + label] = 1.0;
    }
    [before, &votes, after].concat()
}

/// `text_cnn.onnx`
pub fn text_graph(network: &Network) -> Vec<u8> {
    let a = &network.architecture;
    let (s, p) = (a.sizes, |i: usize| network.parameters[i].values.as_slice());
    let (e, f) = (s.embedding, s.filters);
    let mut g = Builder::new("text_cnn");
    let batch = Dim::Named("B");
    g.input("tokens", INT64, &[batch, Dim::Named("L")]);
    g.input("bag", INT64, &[batch, Dim::Named("M")]);
    g.input("scale", FLOAT, &[batch, Dim::Fixed(2)]);
    g.output("vector", &[batch, Dim::Fixed(widths(network).vector)]);
    g.floats("words", &[a.vocabulary, e], p(WORDS));
    let votes = a.votes();
    let columns = [(BAG, s.bag), (VOTES, votes), (OPINIONS, SPOKEN)];
    let row = |r: usize| columns.iter().flat_map(move |&(table, n)| &p(table)[r * n..(r + 1) * n]);
    let ngrams: Vec<f32> = (0..a.bag_rows).flat_map(row).copied().collect();
    g.floats("ngrams", &[a.bag_rows, s.bag + votes + SPOKEN], &ngrams);
    g.node("Gather", &["words", "tokens"], &["embedded"], vec![int("axis", 0)]);
    g.node("Transpose", &["embedded"], &["channels"], vec![ints("perm", &[0, 2, 1])]);
    let (taps, mut first) = (s.filter_weights() / e, 0);
    let mut parts = Vec::new();
    for (w, width) in WIDTHS.into_iter().enumerate() {
        // Ours are [embedding][tap, filter], ONNX wants [filter, embedding, tap].
        let mut weights = Vec::with_capacity(f * e * width);
        for filter in 0..f {
            for row in 0..e {
                weights.extend((0..width).map(|tap| p(FILTERS)[row * taps + (first + tap) * f + filter]));
            }
        }
        let name = |part: &str| format!("{part}_{width}");
        g.floats(&name("filters"), &[f, e, width], &weights);
        g.floats(&name("filter_bias"), &[f], &p(FILTER_BIAS)[w * f..(w + 1) * f]);
        let pad = width as i64 - 1;
        let attributes = vec![ints("kernel_shape", &[width as i64]), ints("pads", &[pad, pad])];
        g.node("Conv", &["channels", &name("filters"), &name("filter_bias")], &[&name("conv")], attributes);
        g.node("Relu", &[&name("conv")], &[&name("relu")], vec![]);
        g.node("ReduceMax", &[&name("relu")], &[&name("max")], vec![ints("axes", &[2]), int("keepdims", 0)]);
        parts.push(name("max"));
        first += width;
    }
    g.columns("scale", 0, 1, "scale_words");
    g.columns("scale", 1, 2, "scale_ngrams");
    g.node("Gather", &["ngrams", "bag"], &["ngram_rows"], vec![int("axis", 0)]);
    g.node("ReduceSum", &["ngram_rows", "axis_1"], &["ngram_sum"], vec![int("keepdims", 0)]);
    g.node("Mul", &["ngram_sum", "scale_ngrams"], &["ngram_vector"], vec![]);
    g.node("ReduceSum", &["embedded", "axis_1"], &["word_sum"], vec![int("keepdims", 0)]);
    g.node("Mul", &["word_sum", "scale_words"], &["word_vector"], vec![]);
    parts.extend(["ngram_vector".to_owned(), "word_vector".to_owned()]);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    g.node("Concat", &parts, &["pooled"], vec![int("axis", 1)]);
    g.floats("text", &[pooled(a), a.vector], &with_votes(a, p(TEXT), a.vector, None));
    g.floats("text_bias", &[a.vector], p(TEXT_BIAS));
    g.layer("pooled", "text", "text_bias", "dense");
    g.node("Tanh", &["dense"], &["text_vector"], vec![]);
    g.node("Concat", &["text_vector", "pooled"], &["vector"], vec![int("axis", 1)]);
    g.finish()
}

/// `sequence.onnx`; task `i` becomes the output `exported[i]`, or none.
pub fn sequence_graph(network: &Network, exported: &[Option<&str>]) -> Vec<u8> {
    let a = &network.architecture;
    let (s, p) = (a.sizes, |i: usize| network.parameters[i].values.as_slice());
    let (h, v, f) = (a.hidden, a.vector, a.features);
    let (widths, mean) = (widths(network), h + 2 * v);
    let mut g = Builder::new("sequence");
    let batch = Dim::Named("B");
    g.input("text", FLOAT, &[batch, Dim::Fixed(widths.vector)]);
    g.input("features", FLOAT, &[batch, Dim::Fixed(f)]);
    g.input("state", FLOAT, &[batch, Dim::Fixed(widths.state)]);
    g.output("state_out", &[batch, Dim::Fixed(widths.state)]);
    g.columns("text", 0, v, "now");
    g.columns("state", 0, h, "hidden_before");
    g.columns("state", h, h + v, "previous");
    g.columns("state", h + v, h + 2 * v, "before");
    g.columns("state", mean, mean + a.mean(), "mean_before");
    g.columns("state", mean + a.mean(), widths.state, "steps_before");
    g.node("Concat", &["now", "features"], &["step"], vec![int("axis", 1)]);
    g.ints("axis_0", &[0]);
    g.node("Unsqueeze", &["step", "axis_0"], &["steps"], vec![]);
    g.node("Unsqueeze", &["hidden_before", "axis_0"], &["initial"], vec![]);
    g.floats("gru_w", &[1, 3 * h, v + f], &transpose(p(GRU_INPUT), v + f, 3 * h));
    g.floats("gru_r", &[1, 3 * h, h], &transpose(p(GRU_HIDDEN), h, 3 * h));
    g.floats("gru_b", &[1, 6 * h], &[p(GRU_INPUT_BIAS), p(GRU_HIDDEN_BIAS)].concat());
    let attributes = vec![int("hidden_size", h as i64), int("linear_before_reset", 1)];
    g.node("GRU", &["steps", "gru_w", "gru_r", "gru_b", "", "initial"], &["", "hidden_after"], attributes);
    g.node("Squeeze", &["hidden_after", "axis_0"], &["hidden"], vec![]);
    let opinions = v + WIDTHS.len() * s.filters + s.bag + a.votes();
    g.columns("text", opinions, opinions + CLASSES, "of_customer");
    g.floats("one", &[1], &[1.0]);
    match a.customer {
        None => g.node("Identity", &["of_customer"], &["opinions"], vec![]),
        Some(column) => {
            // 1 where the feature is not negative, else 0.
            g.columns("text", opinions + CLASSES, opinions + SPOKEN, "of_others");
            g.columns("features", column, column + 1, "customer");
            g.node("Sign", &["customer"], &["sign"], vec![]);
            g.node("Add", &["sign", "one"], &["sign_up"], vec![]);
            g.node("Min", &["sign_up", "one"], &["is_customer"], vec![]);
            g.node("Sub", &["of_customer", "of_others"], &["between"], vec![]);
            g.node("Mul", &["between", "is_customer"], &["part"], vec![]);
            g.node("Add", &["of_others", "part"], &["opinions"], vec![]);
        }
    }
    g.node("Concat", &["hidden", "opinions"], &["seen"], vec![int("axis", 1)]);
    g.floats("span", &[1], &[SPAN]);
    g.node("Add", &["steps_before", "one"], &["steps_after"], vec![]);
    g.node("Min", &["steps_after", "span"], &["steps_under"], vec![]);
    g.node("Sub", &["seen", "mean_before"], &["news"], vec![]);
    g.node("Div", &["news", "steps_under"], &["share"], vec![]);
    g.node("Add", &["mean_before", "share"], &["mean"], vec![]);
    g.node("Concat", &["hidden", "now", "previous", "mean", "steps_under"], &["state_out"], vec![int("axis", 1)]);
    if a.satisfaction {
        g.output("satisfaction", &[batch, Dim::Fixed(3)]);
        g.columns("mean", 0, h, "mean_hidden");
        g.columns("mean", h, a.mean(), "mean_opinion");
        g.node("Sqrt", &["steps_under"], &["weight"], vec![]);
        g.node("Mul", &["mean_opinion", "weight"], &["opinion"], vec![]);
        g.node("Concat", &["hidden", "now", "features", "previous", "before", "mean_hidden"], &["head"], vec![int("axis", 1)]);
        g.floats("satisfaction_weight", &[a.head(), 3], p(SATISFACTION));
        g.floats("satisfaction_bias", &[3], p(SATISFACTION_BIAS));
        g.layer("head", "satisfaction_weight", "satisfaction_bias", "from_head");
        g.node("Add", &["from_head", "opinion"], &["satisfaction"], vec![]);
    }
    if exported.iter().any(Option::is_some) {
        g.columns("text", v, widths.vector, "pooled");
    }
    for (i, task) in exported.iter().enumerate() {
        let Some(task) = task else { continue };
        let (first, labels) = (TASKS + 3 * i, a.tasks[i].labels);
        let name = |part: &str| format!("class_{i}_{part}");
        g.output(task, &[batch, Dim::Fixed(labels)]);
        g.floats(&name("text"), &[pooled(a), labels], &with_votes(a, p(first), labels, a.first_vote(i)));
        g.floats(&name("hidden"), &[h, labels], p(first + 1));
        g.floats(&name("bias"), &[labels], p(first + 2));
        g.node("MatMul", &["pooled", &name("text")], &[&name("from_text")], vec![]);
        g.layer("hidden", &name("hidden"), &name("bias"), &name("from_hidden"));
        g.node("Add", &[&name("from_text"), &name("from_hidden")], &[task], vec![]);
    }
    g.finish()
}
