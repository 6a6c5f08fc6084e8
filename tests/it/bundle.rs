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
use rapport::features::{BEHAVIOUR, NUMERIC};
use rapport::model::{
    BehaviourHead, ClassHead, FORMAT, Golden, GoldenRow, Layout, Manifest, Model, Pipeline, SatisfactionHead, SegmentHead, TokenizerFile,
    Training, Transform, behaviour_hash, hex,
};

const VECTOR: usize = 12;
const STATE: usize = 16;
const CODE: usize = 4;
const WORDS: [&str; 12] = ["refund", "late", "thanks", "great", "broken", "again", "please", "help", "退", "款", "never", "order"];
const BAG_ROWS: u32 = 64;
const INTENTS: [&str; 3] = ["ask", "complain", "thank"];

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
    let mut random = StdRng::seed_from_u64(seed);
    let mut layout =
        Layout::new(vec![0.0; NUMERIC.len()], vec![2.0; NUMERIC.len()], vec!["message".into(), "purchase".into()], vec!["web".into()]);
    let features = layout.width();
    let n = BEHAVIOUR.len();
    layout.behaviour = Some(Pipeline { steps: vec![Transform::Standard { mean: vec![1.0; n], deviation: vec![2.0; n] }] });
    let mut weights = |name: &str, rows: usize, columns: usize, scale: f32| {
        let data: Vec<f32> = (0..rows * columns).map(|_| random.random_range(-scale..scale)).collect();
        floats(name, &[rows as i64, columns as i64], &data)
    };
    let text = graph(
        vec![ids("tokens", "T"), ids("bag", "U"), rows("scale", 2)],
        vec![rows("vector", VECTOR)],
        vec![
            weights("words", WORDS.len() + 2, VECTOR, 1.0),
            weights("bags", BAG_ROWS as usize, VECTOR, 1.0),
            whole("from", &[1]),
            whole("to", &[2]),
            whole("axis", &[1]),
        ],
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
    let sequence = graph(
        vec![rows("text", VECTOR), rows("features", features), rows("state", STATE)],
        vec![rows("satisfaction", 3), rows("intent", INTENTS.len()), rows("state_out", STATE)],
        vec![
            weights("step", VECTOR + features + STATE, STATE, 0.5),
            weights("to_satisfaction", STATE, 3, 1.5),
            weights("to_intent", STATE, INTENTS.len(), 1.0),
        ],
        vec![
            node("Concat", &["text", "features", "state"], "all", vec![integer("axis", 1)]),
            node("MatMul", &["all", "step"], "stepped", vec![]),
            node("Tanh", &["stepped"], "state_out", vec![]),
            node("MatMul", &["state_out", "to_satisfaction"], "satisfaction", vec![]),
            node("MatMul", &["state_out", "to_intent"], "intent", vec![]),
        ],
    );
    let code = graph(
        vec![rows("features", BEHAVIOUR.len())],
        vec![rows("code", CODE), rows("reconstruction", BEHAVIOUR.len())],
        vec![weights("to_code", BEHAVIOUR.len(), CODE, 0.5), weights("from_code", CODE, BEHAVIOUR.len(), 0.5)],
        vec![node("MatMul", &["features", "to_code"], "code", vec![]), node("MatMul", &["code", "from_code"], "reconstruction", vec![])],
    );
    let words = TokenizerFile { splitter: SPLITTER, words: WORDS.map(String::from).to_vec(), bag_rows: BAG_ROWS };
    let row = GoldenRow { input: vec![0.0; BEHAVIOUR.len()], outputs: BTreeMap::from([("code".into(), vec![0.0; CODE])]) };
    let golden = Golden { steps: Vec::new(), outputs: BTreeMap::new(), rows: BTreeMap::from([("autoencoder.onnx".into(), row)]) };
    let contents = [
        ("text_cnn.onnx", text),
        ("sequence.onnx", sequence),
        ("autoencoder.onnx", code),
        ("tokenizer.json", serde_json::to_vec(&words).unwrap()),
        ("preprocessing.json", serde_json::to_vec(&layout).unwrap()),
        ("golden.json", serde_json::to_vec(&golden).unwrap()),
    ];
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
        future: None,
        behaviour: Some(behaviour()),
        training: Training {
            from: "2026-01-01T00:00:00Z".into(),
            to: end.into(),
            customers: 0,
            interactions: 0,
            seed,
            vectors: None,
            horizon_days: 90,
            code: "random weights".into(),
        },
        metrics: serde_json::json!({}),
        files,
    };
    manifest.version = manifest.content_version().unwrap();
    std::fs::write(dir.join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
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
