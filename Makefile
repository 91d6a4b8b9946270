# make demo: from a fresh clone to a compared distillation sweep. make test: the fast tests. make help lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
OPEN ?= false
SLOW ?= slow
KILLS ?= 300
SEED ?= 0
MINUTES ?= 30
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: kdlab needs Python 3.11 or newer; try make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: no venv; on Debian: apt-get install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[joblib]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: help demo bench test test-slow test-gpu test-kill test-browser test-wheel test-cluster lint docs clean
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ \t/' | expand -t 16

demo: $(VENV)/.core ## set up, train a teacher, sweep temperature x alpha x freezing policy, open the comparison
	$(BIN)/kdlab finetune experiment=movie_reviews_teacher
	$(BIN)/kdlab distill experiment=movie_reviews loss=ce datamodule.unlabelled=drop
	$(BIN)/kdlab distill -m experiment=movie_reviews loss.temperature=1,2,4 loss.alpha=0.5,0.9 freeze=none,embeddings
	$(BIN)/kdlab report select='movie_reviews' title='Film reviews: distilling with few labels' open=$(OPEN)
	@echo "next: $(BIN)/kdlab evaluate run=$$(ls -t outputs/distill | grep -m1 -- -kd-)"

bench: $(VENV)/.dev ## kdlab against its peers on this machine, hours; BENCH="--share 0.1 --points 2 --repeats 3" measures parts
	$(BIN)/python -m tests.benchmarks $(BENCH)

test: $(VENV)/.dev ## the fast tests
	$(BIN)/python -m pytest -n 2 tests

test-slow: $(VENV)/.dev ## tests that train for minutes, and all cases of tests that have very many; SLOW="slow and not rare" tries fewer
	$(BIN)/python -m pytest -n 2 -m "$(SLOW)" tests

test-kill: $(VENV)/.dev ## kill -9 at random moments, the same command again, and a table of what was lost; KILLS=300 SEED=0 MINUTES=30
	$(BIN)/python -m tests.fuzz.kill --kills $(KILLS) --seed $(SEED) --minutes $(MINUTES)

test-gpu: $(VENV)/.dev ## what only a GPU can show, on the first one of this machine; needs a torch for it
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest -m gpu tests

test-browser: $(VENV)/.dev ## the report in headless Chromium; installs Debian's chromium where it is missing
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }
	$(BIN)/python -m pytest -m browser tests

test-wheel: $(VENV)/.dev ## build the wheel, install it into an empty environment, distil from an empty folder
	$(BIN)/python -m pytest -m wheel tests

test-cluster: $(VENV)/.dev ## sweeps on a real SLURM cluster of two nodes, started on this machine (Debian, root)
	$(BIN)/python tests/cluster/sandbox.py install
	$(BIN)/python -m pytest -m cluster tests/cluster

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(VENV)/.dev ## write the tables of objectives in the guide from code, YAML and measured runs
	$(BIN)/python -m pytest -q tests/loss/test_loss_catalogue.py tests/report/test_report_objectives.py --docs-write

clean: ## remove the environment and the results
	rm -rf $(VENV) .venv-bench outputs/benchmark outputs/distill outputs/finetune outputs/evaluate outputs/store outputs/wandb outputs/report.html
