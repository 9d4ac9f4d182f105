# Every target does its own set-up: a machine needs Python 3.11+, make, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help

.PHONY: demo up test check races mutants matrices topics faults storm bench models openapi fuzz evidence sbom lock help

demo: $(VENV)/.runtime ## take sample quotes to fulfilled orders on the local stack; ARGS="--once --json" audits and exits
	@$(BIN)/q2o demo $(ARGS)

up: $(VENV)/.runtime ## the whole suite on this machine, until Ctrl-C
	@$(BIN)/q2o up

# Two at a time, each with services of its own: most tests wait for a database, an engine or a clock.
test: $(VENV)/.development ## every test but benchmarks and fuzz: unit, integration, contract, races, faults, browser
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.development ## formatting, lint, types, import contracts, models against workers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/q2o check

races: $(VENV)/.development ## commands that meet, in every order of their statements, then the forced races; ARGS="--help" for one world or schedule
	$(BIN)/python -m tests.races.explorer $(ARGS)
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest tests/races --ignore-glob='*/test_explored_*'
endif

mutants: $(VENV)/.development ## take every guard, state, constraint and lock away in turn: its story must miss it; docs/mutants.md lists them
	@$(BIN)/python -m tests.mutants.table > docs/mutants.md
	$(BIN)/python -m pytest tests/mutants $(ARGS)

matrices: $(VENV)/.development ## write every state machine, event by state, into docs/matrices.md
	@$(BIN)/python -m tests.support.state_machines > docs/matrices.md

topics: $(VENV)/.development ## write what every topic reads, sets and raises into docs/topics.md
	@$(BIN)/python -m tests.support.topics_page

faults: $(VENV)/.development ## lost answers, dead workers, killed processes
	$(BIN)/python -m pytest tests/faults $(ARGS)

storm: $(VENV)/.development ## the demo's disorder, larger: ARGS="--quotes 200"
	$(BIN)/q2o demo --once --quotes 100 $(ARGS)

bench: $(VENV)/.development ## ratios against a peer or a bound, in one run
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py -m benchmark -s $(ARGS)

models: $(VENV)/.development ## draw the models into docs/models
	$(BIN)/python -m tests.support.rendering

openapi: $(VENV)/.runtime ## write what the HTTP edge says of itself into docs/openapi.json
	@mkdir -p build
	@$(BIN)/q2o openapi > build/openapi.json && mv build/openapi.json docs/openapi.json

fuzz: $(VENV)/.development ## ten thousand requests that nobody would send, by the document; two tenants, every role
	$(BIN)/python -m pytest tests/contract/test_fuzz.py -m fuzz -s $(ARGS)

evidence: $(VENV)/.development ## what the last runs measured, as a table
	@$(BIN)/python -m tests.support.evidence

sbom: $(VENV)/.development ## bill of materials of what the product runs on
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.txt --output-file build/sbom.json
	@echo "build/sbom.json"

lock: $(VENV)/.development ## pin requirements anew, with hashes and without addresses
	$(BIN)/uv pip compile -q --generate-hashes --no-annotate --no-header --python-version 3.11 --universal --no-emit-index-url requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-annotate --no-header --python-version 3.11 --universal --no-emit-index-url requirements-dev.in -o requirements-dev.txt

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A set-up takes some minutes at the first time: it says at once what it does, and how far it is.
$(VENV)/.runtime: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("q2o needs Python 3.11 or newer: set PYTHON=… to one")'
	@echo "setting up $(VENV): some minutes at the first time" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -P workers/local/installing.py requirements.txt $(VENV)/set-up.log
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e . >&2
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	@$(BIN)/python -P workers/local/installing.py requirements-dev.txt $(VENV)/set-up.log
	@touch $@
