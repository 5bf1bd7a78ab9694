# Entry points for people and for CI. `.ci/in-build-env` installs what the build needs when it is missing, and sets
# the environment that all builds share, so that RocksDB compiles once for all of them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

IN_ENV := .ci/in-build-env
# All commands select the whole workspace: a smaller selection can change the features of shared dependencies, and
# so compile them again.
SELECTION := --workspace --locked

.PHONY: bench help run test verify

help:
	@echo 'make run     build, and run a cluster of three nodes on this machine until Ctrl-C'
	@echo 'make test    build, and run all tests'
	@echo 'make bench   build for release, and measure it, with etcd beside it where there is one; takes an hour.'
	@echo '             BENCH selects: make bench BENCH="put get --seconds 5"; BENCH=--help tells more'
	@echo 'make verify  check format, lints, documentation and the shape of the project; changes nothing'

run:
	@$(IN_ENV) cargo build $(SELECTION) --bin holdfast
	@.ci/run-holdfast dev --data-dir .holdfast

test:
	@$(IN_ENV) .ci/run-tests $(SELECTION)

bench:
	@$(IN_ENV) .ci/run-bench $(BENCH)

verify:
	@$(IN_ENV) cargo fmt --all --check
	@$(IN_ENV) cargo clippy $(SELECTION) --all-targets -- -D warnings
	@$(IN_ENV) cargo clippy $(SELECTION) --all-targets --features holdfast/seeded-bugs -- -D warnings
	@$(IN_ENV) env RUSTDOCFLAGS='-D warnings' cargo doc $(SELECTION) --no-deps --document-private-items
	@$(IN_ENV) cargo test $(SELECTION) --test tidy
