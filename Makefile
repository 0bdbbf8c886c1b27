# One command each; continuous integration calls exactly these. `PYTHON=python3.12 make setup` picks an interpreter.
SHELL := /bin/bash
PYTHON ?= python3
# What alibi, alibi-detect and AIX360 need has wheels up to Python 3.11; whoever speaks with them may be newer.
LEGACY_PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo $(PYTHON))
VENV := .venv
BIN := $(VENV)/bin
DEMO := .venvs/demo
PEERS := .venvs/peers
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE  # else each process of the tests compiles all of them, and what they test, anew

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-demo setup-cloudevents setup-peers setup-profiles setup-detect-peers setup-explain-peers demo test test-profiles fast integration check bench docs notebooks clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## .venv with the project installed
	@scripts/environment $(VENV) locks/base.txt --editable '.[all]'

setup-test: setup
	@scripts/environment $(VENV) locks/base.txt --editable '.[all,kafka,kafka-pure]' --group lint --group test --group notebooks

setup-demo: setup
	@scripts/environment $(DEMO) locks/demo.txt '.' --requirement scripts/demo-requirements.txt --data 'nannyml==0.13.1'

setup-cloudevents: setup
	@for major in 1 2; do scripts/environment .venvs/cloudevents$$major locks/cloudevents$$major.txt \
	  --editable '.[cloudevents]' --requirement scripts/cloudevents$$major-requirements.txt || exit; done

setup-profiles: setup
	@scripts/environment .venvs/modern locks/base.txt --editable '.[all,captum,shap,art,aif360]' --group test
	@PYTHON=$(LEGACY_PYTHON) scripts/environment .venvs/legacy-explain locks/legacy-explain.txt --requirement scripts/legacy-explain-requirements.txt

demo: setup setup-demo ## the main job: a true drift alarm on real traffic to a real model server
	@$(BIN)/inferwatch demo

test: check fast integration ## everything that must pass

test-profiles: setup-profiles ## the heavy libraries, each in an environment of its own
	@.venvs/modern/bin/pytest -m profile tests/profiles tests/packaging/test_licences.py

check: setup-test ## lint, types, imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy && $(BIN)/mypy tests benchmarks
	@$(BIN)/lint-imports --no-cache

fast: setup-test
	@$(BIN)/pytest -m 'not integration and not slow and not profile' $(PARALLEL)

integration: setup-test setup-demo setup-cloudevents
	@scripts/components
	@$(BIN)/pytest -m 'slow and not integration and not profile' $(PARALLEL)
	@$(BIN)/pytest -m 'integration and not profile'

setup-peers: setup
	@scripts/environment $(PEERS) locks/peers.txt --requirement scripts/peers-requirements.txt

setup-detect-peers: setup
	@for peer in detect-peers evidently; do scripts/environment .venvs/$$peer locks/$$peer.txt \
	  --requirement scripts/$$peer-requirements.txt || exit; done
	@PYTHON=$(LEGACY_PYTHON) scripts/environment .venvs/legacy-detect locks/legacy-detect.txt --requirement scripts/legacy-detect-requirements.txt

setup-explain-peers: setup
	@PYTHON=$(LEGACY_PYTHON) scripts/environment .venvs/explain-peers locks/explain-peers.txt --requirement scripts/explain-peers-requirements.txt

bench: setup-test setup-peers ## the benchmark table, peers beside ours
	@$(BIN)/python -m benchmarks

docs: setup ## the pages of docs/ that are made from the code
	@$(BIN)/python scripts/docs.py

notebooks: setup-test ## run every notebook, executed copies in build/notebooks
	@$(BIN)/python scripts/run_notebooks.py

clean: ## back to a fresh clone
	@rm -rf .venv .venvs build dist data .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
