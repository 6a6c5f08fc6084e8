#!/usr/bin/env python3
"""Runs a bundle's graphs in ONNX Runtime on the inputs that tract read and compares every output.

Each line of --inputs: tokens, bag, scale → vector (text_cnn.onnx); vector, features, state → outputs (sequence.onnx).
The graphs from rows to rows (autoencoder.onnx, tabular.onnx) are run on their rows of golden.json, where the bundle has them, and future.onnx on
those of golden_future.json.
A difference above 1e-5 (of the value, where it is above 1) fails: the largest is printed, exit 1.
"""

import argparse
import json
import os
import sys

import numpy as np
import onnxruntime

TOLERANCE = 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--inputs", help="without: the rows of golden.json alone")
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    load = lambda name: onnxruntime.InferenceSession(f"{args.bundle}/{name}", options, providers=["CPUExecutionProvider"])
    text, sequence = load("text_cnn.onnx"), load("sequence.onnx")
    names = [output.name for output in sequence.get_outputs()]
    row = lambda values, kind: np.array([values], dtype=kind)

    worst, lines = {}, 0

    def compare(name, expected, found):
        expected = np.array(expected, dtype=np.float64)
        found = found[0].astype(np.float64)
        if expected.shape != found.shape:
            sys.exit(f"{name}: shape {found.shape} in ONNX Runtime, {expected.shape} in tract")
        difference = np.abs(expected - found) / np.maximum(1.0, np.abs(expected))
        # A value that is no number differs.
        largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
        worst[name] = max(worst.get(name, 0.0), largest)

    with open(f"{args.bundle}/golden.json", encoding="utf-8") as file:
        golden = json.load(file).get("rows", {})
    for name, rows in sorted(golden.items()):
        lines += 1
        graph = load(name)
        outputs = [output.name for output in graph.get_outputs()]
        if sorted(outputs) != sorted(rows["outputs"]):
            sys.exit(f"{name}: outputs {sorted(outputs)} in ONNX Runtime, {sorted(rows['outputs'])} in golden.json")
        for output, found in zip(outputs, graph.run(None, {"features": row(rows["input"], np.float32)})):
            compare(f"{name}:{output}", rows["outputs"][output], found)
    if os.path.exists(f"{args.bundle}/golden_future.json"):
        lines += 1
        with open(f"{args.bundle}/golden_future.json", encoding="utf-8") as file:
            golden = json.load(file)
        graph = load("future.onnx")
        inputs = {i.name: np.array(golden["inputs"][i.name], np.float32).reshape(-1, i.shape[1]) for i in graph.get_inputs()}
        names_of_future = [output.name for output in graph.get_outputs()]
        if sorted(names_of_future) != sorted(golden["outputs"]):
            sys.exit(f"future.onnx: outputs {sorted(names_of_future)} in ONNX Runtime, {sorted(golden['outputs'])} in golden_future.json")
        for output, found in zip(names_of_future, graph.run(None, inputs)):
            compare(f"future.onnx:{output}", golden["outputs"][output], found.reshape(1, -1))
    with open(args.inputs or "/dev/null", encoding="utf-8") as file:
        for line in map(json.loads, file):
            lines += 1
            inputs = {"tokens": row(line["tokens"], np.int64), "bag": row(line["bag"], np.int64), "scale": row(line["scale"], np.float32)}
            compare("vector", line["vector"], text.run(None, inputs)[0])
            inputs = {key: row(line[name], np.float32) for key, name in [("text", "vector"), ("features", "features"), ("state", "state")]}
            if sorted(names) != sorted(line["outputs"]):
                sys.exit(f"outputs {sorted(names)} in ONNX Runtime, {sorted(line['outputs'])} in tract")
            for name, found in zip(names, sequence.run(names, inputs)):
                compare(name, line["outputs"][name], found)
    shown = ", ".join(f"{name} {largest:.1e}" for name, largest in sorted(worst.items()))
    if lines == 0 or max(worst.values()) > TOLERANCE:
        sys.exit(f"{lines} inputs; largest differences above {TOLERANCE:.0e}: {shown}")
    print(f"tract and ONNX Runtime agree on {lines} inputs; largest differences: {shown}")


if __name__ == "__main__":
    main()
