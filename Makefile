# One command per intention. Every target makes what it needs: `make demo` and `make test` work on a fresh machine with Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# `make demo TORCH=cpu` installs torch's CPU build, for a Linux machine without a GPU
TORCH ?=

.PHONY: demo test lint types docs check hostile laws blocks looks budget scale dist figures clean

demo: $(VENV)/.installed  ## audit the two embedded models on the embedded images; ends by naming the report
	$(BIN)/vitals demo --out runs/demo

test: $(VENV)/.installed  ## every test that this machine can run; the others are skipped with their reason
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

types: $(VENV)/.installed
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the site, in site/: open site/index.html
	$(BIN)/python docs/make_site.py

hostile: $(VENV)/.installed  ## every hostile input, kill -9 at random moments, a flipped bit at every position; before a release
	$(BIN)/python tests/hostile/run.py
	$(BIN)/python tests/hostile/kills.py
	$(BIN)/python tests/hostile/kill_shares.py
	$(BIN)/python tests/hostile/flips.py

laws: $(VENV)/.installed  ## the contract of a study, on every condition of every preset; before a release
	VISIONVITALS_LAWS=1000 $(BIN)/python -m pytest tests/contracts/test_every_study.py

blocks: $(VENV)/.installed  ## the blocks of a network of every module of timm and transformers, against the table that is kept
	$(BIN)/python benchmarks/blocks.py

looks: $(VENV)/.installed  ## how often a rule is decided wrongly under repeated looking, and what that saves; written into docs/statistics.md
	$(BIN)/python benchmarks/looks.py --write docs/statistics.md

budget: $(VENV)/.installed  ## what a half-width saves, and how often its intervals miss; written into docs/statistics.md
	$(BIN)/python benchmarks/budget.py --write docs/statistics.md

scale: $(VENV)/.installed  ## what a run costs on many GPUs, modelled and simulated; written into docs/scale.md
	$(BIN)/python benchmarks/scale.py --write docs/scale.md

dist: $(VENV)/.installed  ## the files of a release, checked; see CONTRIBUTING.md
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m pip install --quiet --group release
	$(BIN)/twine check --strict dist/*

check: test lint types docs  ## what a contribution must pass

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(if $(filter cpu,$(TORCH)),$(BIN)/python -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu torch torchvision)
	$(BIN)/python -m pip install --quiet --editable ".[hf,fast]" --group dev
	touch $@

$(VENV)/.docs: pyproject.toml  # the site needs neither torch nor the package
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

clean:
	rm -rf $(VENV) runs site
