# Every target does all of its own set-up from a bare clone.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/digits

.PHONY: run test test-slow mutants check format docs figures dist clean

run: .venv/ready  ## learn the digits, a few minutes, and write runs/digits/report.html
	$(BIN)/tiltflow fit digits --out $(RUN) --overwrite

# Files are given out in their order: the long ones are not the last, and no worker idles at the end.
TESTS := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/ready  ## the tests that every change needs, about eight minutes on two cores
	$(TESTS) --durations=25

test-slow: .venv/ready  ## what takes minutes each: kills, damaged files, coverage, memory
	$(TESTS) --durations=0 --durations-min=20 -m slow

mutants: .venv/ready  ## faults in a copy of the code, one by one: do the tests notice each?
	$(BIN)/python tests/mutants/run.py

check: .venv/ready  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(MAKE) docs

docs: .venv/ready  ## build/docs/index.html, without a warning
	$(BIN)/sphinx-build -W --keep-going -q docs build/docs

figures: .venv/ready  ## the figures of docs/idea.md, some minutes
	$(BIN)/python docs/figures/idea.py

format: .venv/ready  ## put the code into its house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: .venv/ready  ## wheel and sdist, installed into empty environments, their command run
	.ci/dist $(BIN)/python

clean:
	rm -rf .venv build dist

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("tiltflow needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch .venv/ready
