# Every way to build, try and check rapport. Each target installs what it needs first (see .ci/install).
# CARGO_TARGET_DIR is honoured; downloads for the tests go to $XDG_CACHE_HOME/rapport (default ~/.cache/rapport).

.PHONY: help demo build test lint bench deps champion

help:
	@echo 'make demo   build the service and watch bundled real interactions being scored (no broker, no install)'
	@echo 'make test   every test, with a real Apache Kafka, Prometheus and ONNX Runtime'
	@echo 'make lint   formatting and clippy, warnings are errors'
	@echo 'make bench  the benchmarks'
	@echo 'make champion  train the bundled model again (DATA=../shared/data)'
	@echo 'make deps   install what the tests need, and nothing that is there already'

build:
	@.ci/install build
	cargo build --release

demo: build
	cargo run --release --quiet -- demo $(ARGS)

deps:
	@.ci/install test

# The service must build without what training needs. Then library and binary tests first, the integration tests last; one profile for everything.
# `make test ARGS='exactly_once -- --nocapture'` runs a part.
test: deps
	cargo check --release
	cargo test --release --features train --lib --bins --tests $(ARGS)

lint:
	@.ci/install build
	cargo fmt --check
	cargo clippy --release --all-targets --features train -- -D warnings

bench:
	@.ci/install build
	cargo bench $(ARGS)

# Needs the public sets; see onnx/README.md.
champion:
	@.ci/install build
	cargo build --release --features train
	onnx/train-champion.sh $(DATA)
