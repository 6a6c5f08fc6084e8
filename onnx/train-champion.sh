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
# Texts with people's ratings of their valence, -4 to 4: within half a point of 0 they are a 3, the rest 1 to 5.
python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" vaderSentiment==3.3.2
echo "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9  $work/vaderSentiment-3.3.2.tar.gz" | sha256sum --check --quiet
tar -xzf "$work/vaderSentiment-3.3.2.tar.gz" -C "$work"
tar -xzf "$work/vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz" -C "$work"
for set in amazonReviewSnippets tweets; do
  tr -d '"\r' < "$work/hutto_ICWSM_2014/${set}_GroundTruth.txt" |
    awk -F '\t' -v set="$set" -v OFS=, '{ print set "-" $1, set, ($2 > -.5 && $2 < .5 ? 3 : 3 + $2 / 2), "\"" $3 "\"" }'
done | sed '1i id,set,rating,text' > "$work/valence.csv"
"$rapport" import csv "$work/valence.csv" --map id=id --map customer_id=id --map channel=set --map text=text --label satisfaction=rating \
  --set kind=review --set actor=customer --set occurred_at=2020-01-02T00:00:00Z --out "$work/valence.jsonl" --labels "$work/valence.labels.jsonl"
"$rapport" train --config onnx/champion.toml --seed "${SEED:-3}" --out "${OUT:-onnx/champion}" \
  --interactions "$work/uss.jsonl" "$work/jddc.jsonl" "$work/multidogo.jsonl" "$work/valence.jsonl" \
  --labels "$work/uss.labels.jsonl" "$work/jddc.labels.jsonl" "$work/multidogo.labels.jsonl" "$work/valence.labels.jsonl"
for set in MWOZ SGD ReDial; do
  "$rapport" import uss "$data/uss/$set.valid.txt.gz" --out "$work/valid.jsonl" --labels "$work/valid.labels.jsonl"
  echo "$set valid:"
  "$rapport" evaluate --model "${OUT:-onnx/champion}" --interactions "$work/valid.jsonl" --labels "$work/valid.labels.jsonl"
done
