#!/bin/sh
# Trains onnx/champion from the public sets under $1 (default ../shared/data): the same seed, data and build give the same bytes.
set -eu
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
rapport=${RAPPORT:-target/release/rapport}
[ -x "$rapport" ] || cargo build --release --features train
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$rapport" import uss "$data"/uss/MWOZ.train.txt.gz "$data"/uss/SGD.train.txt.gz "$data"/uss/ReDial.train.txt.gz \
  "$data"/uss/CCPE.train.txt.gz --from-turn 1 --actions --out "$work/uss.jsonl" --labels "$work/uss.labels.jsonl"
"$rapport" import jddc "$data"/uss/JDDC.prefix-examples.txt.gz --actions --out "$work/jddc.jsonl" --labels "$work/jddc.labels.jsonl"
"$rapport" import multidogo "$data"/multidogo/*_train.tsv.gz --out "$work/multidogo.jsonl" --labels "$work/multidogo.labels.jsonl"
"$rapport" train --config onnx/champion.toml --seed "${SEED:-2}" --out "${OUT:-onnx/champion}" \
  --interactions "$work/uss.jsonl" "$work/jddc.jsonl" "$work/multidogo.jsonl" \
  --labels "$work/uss.labels.jsonl" "$work/jddc.labels.jsonl" "$work/multidogo.labels.jsonl"
for set in MWOZ SGD ReDial; do
  "$rapport" import uss "$data/uss/$set.valid.txt.gz" --out "$work/valid.jsonl" --labels "$work/valid.labels.jsonl"
  echo "$set valid:"
  "$rapport" evaluate --model "${OUT:-onnx/champion}" --interactions "$work/valid.jsonl" --labels "$work/valid.labels.jsonl"
done
