//! A small bundle of real graphs with seeded random weights, for tests of what carries scores rather than of scores: it loads in a
//! millisecond, and every number in a score depends on every earlier interaction of the customer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

use rapport::customer::words::SPLITTER;
use rapport::features::{BEHAVIOUR, NEED_COLUMNS, NUMERIC};
use rapport::model::{
    BehaviourHead, BgNbd, ChurnHead, ClassHead, FORMAT, FutureGolden, FutureHead, Golden, GoldenRow, GoldenStep, Layout, Manifest, Model,
    Pipeline, SatisfactionHead, SegmentHead, SpendHead, TokenizerFile, Training, Transform, behaviour_hash, hex,
};

const VECTOR: usize = 12;
const STATE: usize = 16;
const CODE: usize = 4;
const WORDS: [&str; 12] = ["refund", "late", "thanks", "great", "broken", "again", "please", "help", "退", "款", "never", "order"];
const BAG_ROWS: u32 = 64;
const INTENTS: [&str; 3] = ["ask", "complain", "thank"];
const NEEDS: [&str; 3] = ["food", "tools", "toys"];

/// The directory of the bundle; written once per test process.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1);
        dir
    })
    .path()
}

pub fn model() -> Arc<Model> {
    Model::load(dir()).unwrap()
}

/// Writes a bundle of another seed, that is of another version.
pub fn write(dir: &Path, seed: u64) {
    write_parts(dir, seed, None);
}

/// As [`write`], with churn, spend and next need, for scores that look so far ahead.
pub fn write_ahead(dir: &Path, seed: u64, horizon_days: u32) {
    write_parts(dir, seed, Some(horizon_days));
}

fn write_parts(dir: &Path, seed: u64, horizon_days: Option<u32>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut layout =
        Layout::new(vec![0.0; NUMERIC.len()], vec![2.0; NUMERIC.len()], vec!["message".into(), "purchase".into()], vec!["web".into()]);
    let features = layout.width();
    let n = BEHAVIOUR.len();
    layout.behaviour = Some(Pipeline { steps: vec![Transform::Standard { mean: vec![1.0; n], deviation: vec![2.0; n] }] });
    let mut weights = |rows, columns, scale| Matrix::draw(&mut random, rows, columns, scale);
    let (embedding, bags) = (weights(WORDS.len() + 2, VECTOR, 1.0), weights(BAG_ROWS as usize, VECTOR, 1.0));
    let text = graph(
        vec![ids("tokens", "T"), ids("bag", "U"), rows("scale", 2)],
        vec![rows("vector", VECTOR)],
        vec![embedding.tensor("words"), bags.tensor("bags"), whole("from", &[1]), whole("to", &[2]), whole("axis", &[1])],
        vec![
            node("Gather", &["words", "tokens"], "embedded", vec![]),
            node("ReduceMax", &["embedded"], "best", vec![axes(1), keep(0)]),
            node("Gather", &["bags", "bag"], "bagged", vec![]),
            node("ReduceSum", &["bagged", "axis"], "sum", vec![keep(0)]),
            node("Slice", &["scale", "from", "to", "axis"], "by", vec![]),
            node("Mul", &["sum", "by"], "mean", vec![]),
            node("Add", &["best", "mean"], "both", vec![]),
            node("Tanh", &["both"], "vector", vec![]),
        ],
    );
    let step = weights(VECTOR + features + STATE, STATE, 0.5);
    let (to_satisfaction, to_intent) = (weights(STATE, 3, 1.5), weights(STATE, INTENTS.len(), 1.0));
    let sequence = graph(
        vec![rows("text", VECTOR), rows("features", features), rows("state", STATE)],
        vec![rows("satisfaction", 3), rows("intent", INTENTS.len()), rows("state_out", STATE)],
        vec![step.tensor("step"), to_satisfaction.tensor("to_satisfaction"), to_intent.tensor("to_intent")],
        vec![
            node("Concat", &["text", "features", "state"], "all", vec![integer("axis", 1)]),
            node("MatMul", &["all", "step"], "stepped", vec![]),
            node("Tanh", &["stepped"], "state_out", vec![]),
            node("MatMul", &["state_out", "to_satisfaction"], "satisfaction", vec![]),
            node("MatMul", &["state_out", "to_intent"], "intent", vec![]),
        ],
    );
    let (to_code, from_code) = (weights(n, CODE, 0.5), weights(CODE, n, 0.5));
    let code = graph(
        vec![rows("features", n)],
        vec![rows("code", CODE), rows("reconstruction", n)],
        vec![to_code.tensor("to_code"), from_code.tensor("from_code")],
        vec![node("MatMul", &["features", "to_code"], "code", vec![]), node("MatMul", &["code", "from_code"], "reconstruction", vec![])],
    );
    let words = TokenizerFile { splitter: SPLITTER, words: WORDS.map(String::from).to_vec(), bag_rows: BAG_ROWS };

    // What the graphs compute, by hand: one text of one word, of which each graph reads a row of padding too.
    let vector: Vec<f32> =
        (0..VECTOR).map(|i| (embedding.row(2)[i].max(embedding.row(0)[i]) + bags.row(1)[i] + bags.row(0)[i]).tanh()).collect();
    let given = vec![0.5; features];
    let state = step.times(&[vector, given.clone(), vec![0.0; STATE]].concat()).into_iter().map(f32::tanh).collect::<Vec<f32>>();
    let outputs = [("satisfaction", to_satisfaction.times(&state)), ("intent", to_intent.times(&state)), ("state_out", state)];
    let coded = to_code.row(0).to_vec();
    let row = GoldenRow { input: first(n), outputs: named([("reconstruction", from_code.times(&coded)), ("code", coded)]) };
    let golden = Golden {
        steps: vec![GoldenStep { tokens: vec![2], bag: vec![1], features: given }],
        outputs: named(outputs),
        rows: BTreeMap::from([("autoencoder.onnx".into(), row)]),
    };
    let mut contents = vec![
        ("text_cnn.onnx", text),
        ("sequence.onnx", sequence),
        ("autoencoder.onnx", code),
        ("tokenizer.json", serde_json::to_vec(&words).unwrap()),
        ("preprocessing.json", serde_json::to_vec(&layout).unwrap()),
        ("golden.json", serde_json::to_vec(&golden).unwrap()),
    ];
    let future = horizon_days.map(|days| {
        let (graph, golden) = ahead(&mut weights);
        contents.extend([("future.onnx", graph), ("golden_future.json", serde_json::to_vec(&golden).unwrap())]);
        future(days)
    });
    let mut files = BTreeMap::new();
    for (name, bytes) in contents {
        files.insert(name.to_string(), hex(&Sha256::digest(&bytes)));
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let end = "2026-01-31T00:00:00Z";
    let mut manifest = Manifest {
        format: FORMAT,
        version: String::new(),
        splitter: SPLITTER,
        vector: VECTOR,
        features,
        state: STATE,
        feature_hash: layout.hash(),
        satisfaction: Some(SatisfactionHead { scale: 1.0, bias: [0.0; 3], class_values: [1.5, 3.0, 4.6], mean: 3.4 }),
        classes: BTreeMap::from([(
            "intent".to_string(),
            ClassHead { labels: INTENTS.map(String::from).to_vec(), scale: 1.0, unknown_below: Some(0.4) },
        )]),
        future,
        behaviour: Some(behaviour()),
        training: Training {
            from: "2026-01-01T00:00:00Z".into(),
            to: end.into(),
            customers: 0,
            interactions: 0,
            data: None,
            seed,
            vectors: None,
            parent: None,
            horizon_days: horizon_days.unwrap_or(90),
            code: "random weights".into(),
        },
        metrics: serde_json::json!({}),
        files,
    };
    manifest.version = manifest.content_version().unwrap();
    std::fs::write(dir.join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

/// `future.onnx`, which reads the state of `sequence.onnx` too, and what it computes of the first unit vector.
fn ahead(weights: &mut impl FnMut(usize, usize, f32) -> Matrix) -> (Vec<u8>, FutureGolden) {
    let (n, k) = (BEHAVIOUR.len(), NEEDS.len());
    let (survival, spend, need) = (weights(n + STATE, 2, 0.3), weights(n + STATE, 3, 0.3), weights(n + NEED_COLUMNS * k, k, 0.5));
    let graph = graph(
        vec![rows("behaviour", n), rows("needs", NEED_COLUMNS * k), rows("state", STATE)],
        vec![rows("survival", 2), rows("spend", 3), rows("next_need", k)],
        vec![survival.tensor("to_survival"), spend.tensor("to_spend"), need.tensor("to_need")],
        vec![
            node("Concat", &["behaviour", "state"], "known", vec![integer("axis", 1)]),
            node("MatMul", &["known", "to_survival"], "survival", vec![]),
            node("MatMul", &["known", "to_spend"], "spend", vec![]),
            node("Concat", &["behaviour", "needs"], "both", vec![integer("axis", 1)]),
            node("MatMul", &["both", "to_need"], "next_need", vec![]),
        ],
    );
    let inputs = named([("behaviour", first(n)), ("needs", vec![0.0; NEED_COLUMNS * k]), ("state", vec![0.0; STATE])]);
    let outputs = [("survival", survival), ("spend", spend), ("next_need", need)].map(|(name, m)| (name, m.row(0).to_vec()));
    (graph, FutureGolden { inputs, outputs: named(outputs) })
}

fn future(horizon_days: u32) -> FutureHead {
    FutureHead {
        horizon_days,
        behaviour_hash: behaviour_hash(),
        mean: vec![0.0; BEHAVIOUR.len()],
        deviation: vec![1.0; BEHAVIOUR.len()],
        churn: Some(ChurnHead { scale: 1.0, bias: 0.0 }),
        visits: BgNbd::USUAL,
        spend: Some(SpendHead { of_visit: 1.0, value: 10.0, purchases: 1.0, amount: 1.0, purchases_error: 0.1, amount_error: 0.1 }),
        next_need: Some(ClassHead { labels: NEEDS.map(String::from).to_vec(), scale: 1.0, unknown_below: None }),
        state: STATE,
    }
}

fn named<const N: usize>(values: [(&str, Vec<f32>); N]) -> BTreeMap<String, Vec<f32>> {
    values.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

/// The first unit vector.
fn first(width: usize) -> Vec<f32> {
    (0..width).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect()
}

/// Weights, row after row.
struct Matrix {
    columns: usize,
    data: Vec<f32>,
}

impl Matrix {
    fn draw(random: &mut StdRng, rows: usize, columns: usize, scale: f32) -> Self {
        Matrix { columns, data: (0..rows * columns).map(|_| random.random_range(-scale..scale)).collect() }
    }

    fn tensor(&self, name: &str) -> pb::TensorProto {
        floats(name, &[(self.data.len() / self.columns) as i64, self.columns as i64], &self.data)
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.columns..(i + 1) * self.columns]
    }

    /// x · self
    fn times(&self, x: &[f32]) -> Vec<f32> {
        (0..self.columns).map(|j| x.iter().enumerate().map(|(i, x)| x * self.row(i)[j]).sum()).collect()
    }
}

/// Three segments around corners of the code.
fn behaviour() -> BehaviourHead {
    let segment = |i: usize| SegmentHead {
        label: format!("segment {i}"),
        center: (0..CODE).map(|j| if i == j { 1.0 } else { -0.5 }).collect(),
        share: 0.25,
        profile: BTreeMap::new(),
    };
    BehaviourHead {
        feature_hash: behaviour_hash(),
        error_quantiles: (0..20).map(|i| i as f32 * 0.2).collect(),
        segments: (0..3).map(segment).collect(),
        profile: BTreeMap::new(),
    }
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn graph(
    input: Vec<pb::ValueInfoProto>,
    output: Vec<pb::ValueInfoProto>,
    initializer: Vec<pb::TensorProto>,
    node: Vec<pb::NodeProto>,
) -> Vec<u8> {
    let graph = pb::GraphProto { name: "g".into(), input, output, initializer, node, ..Default::default() };
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
    pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() }.encode_to_vec()
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    let input = inputs.iter().map(ToString::to_string).collect();
    pb::NodeProto { op_type: op.into(), name: output.into(), input, output: vec![output.into()], attribute, ..Default::default() }
}

fn integer(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: 2, i, ..Default::default() }
}

fn keep(i: i64) -> pb::AttributeProto {
    integer("keepdims", i)
}

fn axes(axis: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: "axes".into(), r#type: 7, ints: vec![axis], ..Default::default() }
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> pb::TensorProto {
    let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    pb::TensorProto { name: name.into(), dims: dims.to_vec(), data_type: FLOAT, raw_data, ..Default::default() }
}

fn whole(name: &str, data: &[i64]) -> pb::TensorProto {
    let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    pb::TensorProto { name: name.into(), dims: vec![data.len() as i64], data_type: INT64, raw_data, ..Default::default() }
}

/// `[B, width]` of f32.
fn rows(name: &str, width: usize) -> pb::ValueInfoProto {
    value(name, FLOAT, dimension::Value::DimValue(width as i64))
}

/// `[B, length]` of i64, the length a symbol.
fn ids(name: &str, length: &str) -> pb::ValueInfoProto {
    value(name, INT64, dimension::Value::DimParam(length.into()))
}

fn value(name: &str, elem_type: i32, second: dimension::Value) -> pb::ValueInfoProto {
    let dim = |value| Dimension { value: Some(value), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: vec![dim(dimension::Value::DimParam("B".into())), dim(second)] };
    let tensor = pb::type_proto::Tensor { elem_type, shape: Some(shape) };
    let of = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(of), ..Default::default() }
}
