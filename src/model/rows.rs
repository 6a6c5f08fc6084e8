//! Graphs from one row of numbers to others, as tract plans: `autoencoder.onnx`, `tabular.onnx`.
//!
//! As the sequence graph they run in one shape of [`ROWS`] rows, so that a row's result does not depend on its neighbours. Knows no names but those
//! of the graph's input and outputs.

use std::sync::Arc;

use anyhow::Context as _;
use tract_onnx::prelude::*;

use super::plan::{ROWS, plan, read};

/// An optimised plan, shared by all threads: `features` f32 [B, width] → outputs f32 [B, …].
pub struct RowGraph {
    plan: Arc<TypedRunnableModel>,
    width: usize,
    /// Names and widths of the outputs, in the graph's order.
    outputs: Vec<(String, usize)>,
}

impl RowGraph {
    /// Reads a graph that takes rows of `width` numbers and checks that it gives `outputs` of these widths.
    ///
    /// # Errors
    /// How the graph differs, or tract's message.
    pub fn build(bytes: &[u8], width: usize, outputs: &[(&str, usize)]) -> Result<Self, String> {
        let (proto, found) = read(bytes, &["features"])?;
        if found.len() != outputs.len() || !found.iter().zip(outputs).all(|(f, o)| f == o.0) {
            let names: Vec<&str> = outputs.iter().map(|o| o.0).collect();
            return Err(format!("its outputs are {found:?} instead of {names:?}"));
        }
        let graph = Self { plan: plan(&proto, ROWS)?, width, outputs: outputs.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect() };
        let facts =
            |fact: TractResult<&TypedFact>| fact.map(|f| f.shape.as_concrete().map(<[usize]>::to_vec)).map_err(|e| format!("{e:#}"));
        let shapes = std::iter::once((facts(graph.plan.model().input_fact(0))?, "features", width)).chain(
            outputs
                .iter()
                .enumerate()
                .map(|(i, o)| Ok((facts(graph.plan.model().output_fact(i))?, o.0, o.1)))
                .collect::<Result<Vec<_>, String>>()?,
        );
        for (shape, name, width) in shapes {
            if shape.as_deref() != Some(&[ROWS, width]) {
                return Err(format!("{name} has the shape {shape:?} for {ROWS} rows instead of {:?}", [ROWS, width]));
            }
        }
        Ok(graph)
    }
}

/// Runs a [`RowGraph`]; one per thread.
pub struct RowRunner {
    graph: Arc<RowGraph>,
    state: TypedSimpleState,
    input: Vec<f32>,
}

impl RowRunner {
    /// # Errors
    /// tract's message; does not happen for a graph that was built.
    pub fn new(graph: Arc<RowGraph>) -> Result<Self, String> {
        let state = graph.plan.spawn().map_err(|e| format!("{e:#}"))?;
        Ok(Self { graph, state, input: Vec::new() })
    }

    /// Runs any number of rows. `take(row, output, values)` is called for every row and output, rows in order.
    ///
    /// # Errors
    /// A row of another width; tract's message.
    pub fn run(&mut self, rows: &[impl AsRef<[f32]>], take: impl FnMut(usize, &str, &[f32])) -> Result<(), String> {
        self.run_raw(rows, take).map_err(|e| format!("{e:#}"))
    }

    fn run_raw(&mut self, rows: &[impl AsRef<[f32]>], mut take: impl FnMut(usize, &str, &[f32])) -> TractResult<()> {
        let width = self.graph.width;
        for (chunk, first) in rows.chunks(ROWS).zip((0..).step_by(ROWS)) {
            self.input.clear();
            for row in chunk {
                anyhow::ensure!(row.as_ref().len() == width, "a row is {} wide instead of {width}", row.as_ref().len());
                self.input.extend_from_slice(row.as_ref());
            }
            self.input.resize(ROWS * width, 0.0);
            let result = self.state.run(tvec!(Tensor::from_shape(&[ROWS, width], &self.input)?.into_tvalue()))?;
            let views = result.iter().map(|r| r.to_plain_array_view::<f32>()).collect::<TractResult<Vec<_>>>()?;
            let slices = views.iter().map(|v| v.as_slice().context("an output is not contiguous")).collect::<TractResult<Vec<_>>>()?;
            for i in 0..chunk.len() {
                for ((name, width), values) in self.graph.outputs.iter().zip(&slices) {
                    take(first + i, name, &values[i * width..(i + 1) * width]);
                }
            }
        }
        Ok(())
    }
}
