# Two commands matter: `make book` and `make test`. Each sets up what it needs in .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
NB ?= 22_cdcl_run
PRESET ?= quick
ARGS ?=
CORES ?= 2
PORT ?= 8000
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1

help:  ## Show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
env: .venv/.made  ## Set up the environment in .venv from requirements.lock
.venv/.made: pyproject.toml requirements.lock workflow/env.sh
	@sh workflow/env.sh $(PYTHON)
pair: env  ## Derive notebooks/*.ipynb from notebooks/*.py
	@$(BIN)/python workflow/pair.py
lint: env  ## Style, import floors, pairs in sync, the address in one place
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/python workflow/pair.py --check && $(BIN)/python workflow/address.py
book: env pair  ## Simulate, run every notebook with preset quick, render the HTML
	@$(BIN)/python workflow/book.py --preset $(PRESET)
test: env lint  ## Lint, run the notebooks with preset smoke, build strictly, run the tests
	@$(BIN)/python workflow/book.py --preset smoke && $(BIN)/pytest -n 2 $(ARGS)
bench: env  ## Measure what benchmarks/ measures
	@$(BIN)/python workflow/bench.py $(ARGS)
serve: env  ## Serve the built book on this machine (PORT=8000)
	@test -d build/html && $(BIN)/python -m http.server --directory build/html --bind 127.0.0.1 $(PORT) || echo "Nothing is built yet: make book"
run: env pair  ## Run one notebook: make run NB=22_cdcl_run PRESET=full ARGS="-p method cdcl"
	@mkdir -p build/notebooks && $(BIN)/papermill notebooks/$(NB).ipynb build/notebooks/$(NB)-$(PRESET).ipynb -f workflow/presets/$(PRESET).yaml $(ARGS)
grid: env pair  ## Methods x folds x seeds with Snakemake: make grid PRESET=quick ARGS="--dry-run"
	@$(BIN)/snakemake --snakefile workflow/Snakefile --profile workflow/profiles/local --cores $(CORES) --config preset=$(PRESET) $(ARGS)
clean:  ## Delete what was built; data/ and .venv stay
	@rm -rf build
.PHONY: help env pair lint book test bench serve run grid clean
