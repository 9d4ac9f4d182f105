# Every target does its own set-up: a machine needs only Python 3.11 or later, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help

.PHONY: demo up test check races mutants matrices topics rights settings invariants faults storm pgbouncer bench soak models openapi register fuzz evidence sbom lock help retries

demo: $(VENV)/.runtime ## take sample quotes to fulfilled orders while faults happen, audit, stay up; ARGS="--once --json" exits with the result as JSON
	@$(BIN)/q2o demo $(ARGS)

up: $(VENV)/.runtime ## run the whole suite on this machine until Ctrl-C
	@$(BIN)/q2o up

# Four workers, also on two processors: most tests wait for a database, an engine or a clock. Bytecode is kept even where the shell
# forbids it; otherwise every worker, and every process that a test starts, would compile everything again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.development ## run every test except benchmarks and fuzz: unit, integration, contract, races, faults, browser
	$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

check: $(VENV)/.development ## check formatting, lint, types, import contracts, and the models against the workers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/q2o check

races: $(VENV)/.development ## run commands that meet, in every order of their statements, then the forced races; ARGS="--help" tells how to run one world
	$(BIN)/python -m tests.races.explorer $(ARGS)
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest tests/races --ignore-glob='*/test_explored_*'
endif

mutants: $(VENV)/.development ## remove every guard, state, constraint and lock in turn: a story must notice it; build/mutants.md lists them
	@$(BIN)/python -m tests.mutants.table
	$(BIN)/python -m pytest tests/mutants $(ARGS)

matrices: $(VENV)/.development ## write the state machines, event by state, to docs/matrices.md
	@$(BIN)/python -m tests.support.state_machines > docs/matrices.md

topics: $(VENV)/.development ## write what every topic reads, sets and raises to docs/topics.md
	@$(BIN)/python -m tests.support.topics_page

retries: $(VENV)/.development ## write what is tried again, how often and how it ends to docs/retries.md
	@$(BIN)/python -m tests.support.retries_page

rights: $(VENV)/.development ## write what every process may do to docs/rights.md and docs/rights-engine.md
	@$(BIN)/python -m tests.support.rights_page
	@$(BIN)/python -m tests.support.engine_rights_page

invariants: $(VENV)/.development ## write what the audit looks up, and what to do about it, to docs/audit.md
	@$(BIN)/python -m tests.support.audit_page

settings: $(VENV)/.development ## write the tables of settings to docs/settings.md
	@$(BIN)/python -m tests.support.settings_page

faults: $(VENV)/.development ## crash every command, sweep and process at every gate, then run the tests of faults: lost replies, dead workers, killed processes
	$(BIN)/python -m tests.faults.crashes
	$(BIN)/python -m pytest tests/faults $(ARGS)

storm: $(VENV)/.development ## cause faults of every kind while clients work, heal, then judge what they have seen; ARGS="--seconds 900 --seed 7"
	$(BIN)/python -m tests.faults.storm $(ARGS)

pgbouncer: $(VENV)/.development ## install PgBouncer 1.24 and 1.18 below build/ (as root, with debootstrap), and run the suite by way of them
	$(BIN)/python -m tests.support.pgbouncer_install
	$(BIN)/python -m pytest tests/pgbouncer $(ARGS)

bench: $(VENV)/.development ## run the benchmarks: each prints its ratio to a peer or a bound
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py -m benchmark -s $(ARGS)

soak: $(VENV)/.development ## take 2,000 orders through the suite while retention runs: tables and indexes must level off; takes an hour
	$(BIN)/python -m pytest tests/benchmarks/soak.py -m benchmark -s $(ARGS)

models: $(VENV)/.development ## draw the models and forms to docs/models
	$(BIN)/python -m tests.support.rendering

openapi: $(VENV)/.runtime ## write the OpenAPI description of the HTTP API to docs/openapi.json
	@mkdir -p build
	@$(BIN)/q2o openapi > build/openapi.json && mv build/openapi.json docs/openapi.json

register: $(VENV)/.development ## write the register of races to docs/races.md, and the metrics to docs/metrics.md
	@$(BIN)/python -m tests.support.races_page
	@$(BIN)/python -m tests.support.metrics_page

fuzz: $(VENV)/.development ## send ten thousand generated requests to the HTTP API, for two tenants and every role
	$(BIN)/python -m pytest tests/contract/test_fuzz.py -m fuzz -s $(ARGS)

evidence: $(VENV)/.development ## print what the last runs measured, as a table
	@$(BIN)/python -m tests.support.evidence

sbom: $(VENV)/.development ## write the bill of materials of the dependencies to build/sbom.json
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.txt --output-file build/sbom.json
	@echo "build/sbom.json"

lock: $(VENV)/.development ## pin the requirements again, with hashes and without addresses of registries
	$(BIN)/uv pip compile -q --generate-hashes --no-annotate --no-header --python-version 3.11 --universal --no-emit-index-url requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-annotate --no-header --python-version 3.11 --universal --no-emit-index-url requirements-dev.in -o requirements-dev.txt

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The first set-up takes some minutes, so it says at once what it does, and shows its progress.
$(VENV)/.runtime: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("q2o needs Python 3.11 or newer: set PYTHON=… to one")'
	@echo "setting up $(VENV): this takes some minutes the first time" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -P workers/local/installing.py requirements.txt $(VENV)/set-up.log
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e . >&2
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	@$(BIN)/python -P workers/local/installing.py requirements-dev.txt $(VENV)/set-up.log
	@touch $@
