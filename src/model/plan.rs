//! The two graphs of a bundle as tract plans.
//!
//! A row's result must not depend on who else is in its batch, to the last bit. So every text runs alone, and every step runs in the one shape of
//! [`ROWS`] rows, short batches filled up with zeros: a GEMM of another shape would sum in another order.

use std::collections::HashMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::Context as _;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::framework::Framework;

use super::pool::Pool;
use super::{Manifest, Model, TextInput};

/// Rows of one run of the sequence graph.
pub const ROWS: usize = 8;

/// Optimised plans, shared by all threads.
pub struct Plans {
    /// The text graph, or what [`Pool::cut`] left of it.
    text: Arc<TypedRunnableModel>,
    pool: Option<Pool>,
    sequence: Arc<TypedRunnableModel>,
    /// Names of the sequence graph's outputs, in order.
    outputs: Vec<String>,
}

/// What one row of the sequence graph reads.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub text: &'a [f32],
    pub features: &'a [f32],
    pub state: &'a [f32],
}

impl Plans {
    /// # Errors
    /// The name of the file that is wrong, and how.
    pub fn build(manifest: &Manifest, text: &[u8], sequence: &[u8]) -> Result<Self, (&'static str, String)> {
        let (mut text, _) = read(text, &["tokens", "bag", "scale"]).map_err(|e| ("text_cnn.onnx", e))?;
        let (sequence, outputs) = read(sequence, &["text", "features", "state"]).map_err(|e| ("sequence.onnx", e))?;
        let mut pool = None;
        if let Some((cut, rest)) = Pool::cut(&text) {
            (pool, text) = (Some(cut), rest);
        }
        let text = plan(&text, 1).map_err(|e| ("text_cnn.onnx", e))?;
        let sequence = plan(&sequence, ROWS).map_err(|e| ("sequence.onnx", e))?;
        for name in
            manifest.satisfaction.iter().map(|_| "satisfaction").chain(manifest.classes.keys().map(String::as_str)).chain(["state_out"])
        {
            if !outputs.iter().any(|o| o == name) {
                return Err(("sequence.onnx", format!("there is no output {name:?}")));
            }
        }
        Ok(Self { text, pool, sequence, outputs })
    }
}

/// Reads a graph, checks the names of its inputs and returns those of its outputs.
pub(super) fn read(bytes: &[u8], inputs: &[&str]) -> Result<(pb::ModelProto, Vec<String>), String> {
    let proto = tract_onnx::onnx().proto_model_for_read(&mut Cursor::new(bytes)).map_err(|e| format!("{e:#}"))?;
    let graph = proto.graph.as_ref().ok_or("there is no graph")?;
    let found: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    if found != inputs {
        return Err(format!("its inputs are {found:?} instead of {inputs:?}"));
    }
    let outputs = graph.output.iter().map(|o| o.name.clone()).collect();
    Ok((proto, outputs))
}

/// Fixes the symbolic batch `B` and optimises. A graph that tract cannot type may panic inside it.
pub(super) fn plan(proto: &pb::ModelProto, batch: usize) -> Result<Arc<TypedRunnableModel>, String> {
    let build = || -> TractResult<_> {
        let typed = tract_onnx::onnx().model_for_proto_model(proto)?.into_typed()?.into_decluttered()?;
        let b = typed.symbols.sym("B");
        typed.set_symbols(&HashMap::from([(b, TDim::from(batch as i64))]))?.into_optimized()?.into_runnable()
    };
    catch_unwind(AssertUnwindSafe(build)).map_err(|_| "tract cannot read this graph".to_owned())?.map_err(|e| format!("{e:#}"))
}

/// Runs a model's graphs; one per thread.
pub struct Runner {
    model: Arc<Model>,
    text: TypedSimpleState,
    sequence: TypedSimpleState,
    future: Option<TypedSimpleState>,
    rows: [Vec<f32>; 3],
    ids: Vec<i64>,
}

impl Runner {
    /// # Errors
    /// tract's own message; does not happen for a model that was loaded and checked.
    pub fn new(model: Arc<Model>) -> Result<Self, String> {
        let text = model.plans.text.spawn().map_err(|e| format!("{e:#}"))?;
        let sequence = model.plans.sequence.spawn().map_err(|e| format!("{e:#}"))?;
        let future = model.future.as_ref().map(|f| f.spawn()).transpose()?;
        Ok(Self { model, text, sequence, future, rows: Default::default(), ids: Vec::new() })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Writes the vector of a text to `out` ([`Manifest::vector`] long).
    ///
    /// # Errors
    /// tract's message, where the graph does not fit its manifest.
    pub fn encode(&mut self, text: &TextInput, out: &mut [f32]) -> Result<(), String> {
        self.encode_raw(text, out).map_err(|e| format!("text_cnn.onnx: {e:#}"))
    }

    fn encode_raw(&mut self, text: &TextInput, out: &mut [f32]) -> TractResult<()> {
        if let Some(pool) = &self.model.plans.pool {
            let pooled = &mut self.rows[0];
            pooled.clear();
            pooled.resize(pool.width(), 0.0);
            pool.run(text, pooled).map_err(anyhow::Error::msg)?;
            let pooled = Tensor::from_shape(&[1, pooled.len()], pooled)?;
            return copy(&self.text.run(tvec!(pooled.into_tvalue()))?[0], out);
        }
        // One row of padding at the end of each: the empty window is always among those that the maximum is over.
        let mut padded = |rows: &[u32]| {
            self.ids.clear();
            self.ids.extend(rows.iter().map(|&r| r as i64));
            self.ids.push(super::PAD as i64);
            Tensor::from_shape(&[1, self.ids.len()], &self.ids)
        };
        let (tokens, bag) = (padded(&text.tokens)?, padded(&text.bag)?);
        let scale = Tensor::from_shape(&[1, 2], &text.scale())?;
        let result = self.text.run(tvec!(tokens.into_tvalue(), bag.into_tvalue(), scale.into_tvalue()))?;
        copy(&result[0], out)
    }

    /// Advances any number of rows by one step. `take(row, output, values)` is called for every row and output, rows in order.
    ///
    /// # Errors
    /// tract's message, where the graph does not fit its manifest.
    pub fn step(&mut self, steps: &[Step<'_>], take: impl FnMut(usize, &str, &[f32])) -> Result<(), String> {
        self.step_raw(steps, take).map_err(|e| format!("sequence.onnx: {e:#}"))
    }

    /// Runs `future.onnx` over rows; see [`super::future::Future::run`]. Nothing happens where the bundle has none.
    ///
    /// # Errors
    /// tract's message, where the graph does not fit its manifest.
    pub fn future(&mut self, inputs: &[&[f32]], take: impl FnMut(usize, &str, &[f32])) -> Result<(), String> {
        match (&self.model.future, &mut self.future) {
            (Some(future), Some(state)) => future.run(state, inputs, take),
            _ => Ok(()),
        }
    }

    fn step_raw(&mut self, steps: &[Step<'_>], mut take: impl FnMut(usize, &str, &[f32])) -> TractResult<()> {
        let widths = [self.model.manifest.vector, self.model.manifest.features, self.model.manifest.state];
        for (chunk, first) in steps.chunks(ROWS).zip((0..).step_by(ROWS)) {
            let mut inputs = tvec!();
            for (buffer, width) in self.rows.iter_mut().zip(widths) {
                buffer.clear();
                buffer.resize(ROWS * width, 0.0);
            }
            for (i, step) in chunk.iter().enumerate() {
                for ((buffer, width), values) in self.rows.iter_mut().zip(widths).zip([step.text, step.features, step.state]) {
                    anyhow::ensure!(values.len() == width, "a row is {} wide instead of {width}", values.len());
                    buffer[i * width..(i + 1) * width].copy_from_slice(values);
                }
            }
            for (buffer, width) in self.rows.iter().zip(widths) {
                inputs.push(Tensor::from_shape(&[ROWS, width], buffer)?.into_tvalue());
            }
            let result = self.sequence.run(inputs)?;
            let views = result.iter().map(|r| r.to_plain_array_view::<f32>()).collect::<TractResult<Vec<_>>>()?;
            let slices = views.iter().map(|v| v.as_slice().context("an output is not contiguous")).collect::<TractResult<Vec<_>>>()?;
            for i in 0..chunk.len() {
                for (name, values) in self.model.plans.outputs.iter().zip(&slices) {
                    let width = values.len() / ROWS;
                    take(first + i, name, &values[i * width..(i + 1) * width]);
                }
            }
        }
        Ok(())
    }
}

fn copy(value: &TValue, out: &mut [f32]) -> TractResult<()> {
    let view = value.to_plain_array_view::<f32>()?;
    let values = view.as_slice().context("an output is not contiguous")?;
    anyhow::ensure!(values.len() == out.len(), "an output is {} wide instead of {}", values.len(), out.len());
    out.copy_from_slice(values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The graph as it is, without tables, is the reference: equal but for the order of sums.
    #[test]
    fn tables_compute_what_the_graph_does() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/champion");
        let model = Model::load(&dir).expect("the bundled model loads");
        assert!(model.plans.pool.is_some(), "the bundled text graph is one that can be cut");
        let mut runner = Runner::new(model.clone()).expect("runs");
        let bytes = std::fs::read(dir.join("text_cnn.onnx")).expect("readable");
        let (proto, _) = read(&bytes, &["tokens", "bag", "scale"]).expect("a graph");
        let whole = plan(&proto, 1).expect("tract reads it");
        let (mut worst, mut state) = (0.0f32, 1u64);
        for n in 0..300 {
            let tokens: Vec<u32> = (0..n % 129)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u32
                })
                .collect();
            // Half of the words are in the vocabulary: hashes are asked for by the words' rows.
            let mut text = model.tokenizer.encode(&tokens);
            text.tokens.iter_mut().zip(&tokens).for_each(|(row, t)| {
                if t % 2 == 0 {
                    *row = t % 1000
                }
            });
            let mut out = vec![0.0; model.manifest.vector];
            runner.encode(&text, &mut out).expect("runs");
            let padded = |rows: &[u32]| {
                let ids: Vec<i64> = rows.iter().map(|&r| r as i64).chain([0, 0, 0]).collect();
                Tensor::from_shape(&[1, ids.len()], &ids).expect("a row").into_tvalue()
            };
            let scale = Tensor::from_shape(&[1, 2], &text.scale()).expect("a row").into_tvalue();
            let mut reference = vec![0.0; out.len()];
            let result = whole.run(tvec!(padded(&text.tokens), padded(&text.bag), scale)).expect("runs");
            copy(&result[0], &mut reference).expect("as wide");
            worst = out.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
        }
        assert!(worst < 2e-5, "off by {worst}");
    }
}
