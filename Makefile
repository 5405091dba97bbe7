# weighin: `make demo` weighs this machine in, `make test` runs every test this machine can run.
# Needs python3 (3.11 or newer, with venv) and make; everything it installs lies in .venv/.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MEMBERS := -e proto -e 'analysis[report]' -e agent -e aggregator
BUF := .venv/buf/node_modules/.bin/buf
AXE := .venv/axe/node_modules/axe-core/axe.min.js
NODE_CLIENT := .venv/node-client/node_modules/@grpc/grpc-js/package.json
DEMO := .demo

.PHONY: help setup demo test check generate lock check-inputs bench-accuracy bench-check bench-weights bench-trained bench-memory bench-fleet bench-ingest bundle faults clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(BIN)/.dev ## build .venv with the four members and the development tools

$(BIN)/.members: constraints.txt $(wildcard */pyproject.toml)
	@echo "setup: installing weighin into .venv (about a minute the first time)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) $(MEMBERS)
	@touch $@

$(BIN)/.dev: $(BIN)/.members pyproject.toml
	@echo "setup: installing the development tools" >&2
	@$(PIP) --group dev
	@touch $@

demo: $(BIN)/.members ## weigh this machine in and write the report to .demo/report/index.html
	@$(BIN)/python tools/demo.py $(DEMO)

# What measures has the machine for itself; all others share the cores. First those that are long or set much up, so that
# no core is left with one of them at the end.
MEASURING := $(wildcard tests/agent/test_bench_*.py) \
  $(addprefix tests/agent/test_,cli_run.py probe_bandwidth.py shared_weights.py verify.py) \
  $(addprefix tests/end_to_end/test_,bench_accuracy.py bench_check.py demo.py standard_suite.py weigh_in.py)
LONG := tests/end_to_end/test_deploy.py tests/test_docs.py tests/end_to_end/test_privacy.py tests/faults
SHARING := $(LONG) $(filter-out $(MEASURING) $(LONG),$(wildcard tests/end_to_end/test_*.py tests/test_*.py)) \
  $(filter-out $(MEASURING),$(wildcard tests/agent/test_*.py)) tests/aggregator tests/analysis tests/proto
test: $(BIN)/.dev $(AXE) $(NODE_CLIENT) ## run every test that this machine can run
	@$(BIN)/python -m pytest -n auto --dist worksteal $(SHARING); shared=$$?; \
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SHARING)) && exit $$shared

# The rules of accessibility that a program can check, for the tests of the report. Without npm they are left out.
$(AXE):
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix .venv/axe axe-core@4.14.1; fi

# What a device in another language needs. Without npm its test is left out.
$(NODE_CLIENT):
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-audit --no-fund --prefix .venv/node-client @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1; fi

check: $(BIN)/.dev ## lint, types, import rules, spelling, contract lint, generated code current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy proto/weighin analysis/weighin_analysis agent/weighin_agent aggregator/weighin_aggregator tools tests
	$(BIN)/lint-imports
	$(BIN)/codespell
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate.py --check
	$(BIN)/python tools/views_doc.py --check
	$(BIN)/python tools/data_dictionary.py --check
	@$(MAKE) --no-print-directory lint-contract

.PHONY: lint-contract
lint-contract:
	@if command -v npm >/dev/null; then \
	  test -x $(BUF) || npm install --silent --no-audit --no-fund --prefix .venv/buf @bufbuild/buf@1.75.0; \
	  echo "buf lint proto"; $(BUF) lint proto; \
	elif [ "$$WEIGHIN_REQUIRE_ALL" = 1 ]; then echo "check: buf needs npm, which is not installed" >&2; exit 1; \
	else echo "check: buf lint skipped, npm is not installed" >&2; fi

generate: $(BIN)/.dev ## regenerate the code of the contract
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate.py

bench-accuracy: $(BIN)/.members ## hold predictions against full models and write docs/accuracy.md (about 45 minutes)
	@$(BIN)/python tools/bench_accuracy.py $(ARGS)

bench-check: $(BIN)/.members ## hold what `check` says of 14 models against their full models (about 15 minutes)
	@$(BIN)/python tools/bench_check.py $(ARGS)

check-inputs: $(BIN)/.members ## are the models the same bytes with the oldest and the newest numpy and onnx?
	@$(BIN)/python tools/check_inputs.py

bench-trained: $(BIN)/.members ## compare the speed of synthesised weights with that of a trained model
	@$(BIN)/python tools/bench_trained.py

bench-weights: $(BIN)/.members ## compare the speed of pinned weights with that of a long random stream
	@$(BIN)/python tools/bench_weights.py

bench-memory: $(BIN)/.members ## compare the memory that is predicted with the measured peaks of full models (4 GB of disk)
	@$(BIN)/python tools/bench_memory.py

bench-fleet: $(BIN)/.members ## time tiers, coverage, report and SQL over made fleets of up to a million devices (3 GB of disk)
	@$(BIN)/python tools/bench_fleet.py $(ARGS)

bench-ingest: $(BIN)/.members ## time how fast a server stores runs, plain and with mutual TLS, against its store alone (3 minutes)
	@PYTHONPATH=tools:tests $(BIN)/python tools/bench_ingest.py $(ARGS)

bundle: $(BIN)/.members ## make the archives that install the agent on devices without internet (dist/, 60 MB each)
	@$(BIN)/python tools/bundle.py $(ARGS)

# The fuzzer has no wheel for every Python; without it, that one fault is left out.
faults: $(BIN)/.dev ## kill, cut off, fill up and fuzz, and write docs/reliability.md (hours; ARGS="--size ci" minutes)
	@$(PIP) --only-binary :all: atheris==3.0.0 || true
	@PYTHONPATH=tools:tests $(BIN)/python -m faults $(ARGS)

lock: ## write constraints.txt anew (needs uv)
	tools/lock.sh

clean: ## remove .venv, .demo and caches
	rm -rf .venv $(DEMO) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
