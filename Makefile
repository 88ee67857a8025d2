# make book: execute the notebooks that changed and render them.  make test: lint, tests (which
# check the records too), notebooks.
# Both set up .venv first, from the versions of constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CUT    := $(VENV)/.installing# left by a set-up that was cut off: the next one starts anew
# a process a core, at most eight (one more takes longer); the tests that share something costly
# run in one of them
PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder

.PHONY: book test coverage bench paper clean setup

book: $(STAMP)
	$(BIN)/pruning book $(if $(ONLY),--only $(ONLY)) $(if $(PROFILE),--profile $(PROFILE))

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest $(PARALLEL) --durations 10
	$(BIN)/python -m pytest -c notebooks/pytest.ini --rootdir notebooks notebooks

# lines and branches that no test reaches: a table, and book/_build/coverage/index.html
coverage: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report term --cov-report html

bench: $(STAMP)
	$(BIN)/python -m benchmarks

paper: $(STAMP)
	for chapter in $$($(BIN)/pruning chapters --names); do \
		$(BIN)/pruning sweep $$chapter --profile paper || exit; done
	$(BIN)/pruning readme

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): the first time this downloads about 1 GB of packages and takes some minutes."
	test ! -e $(CUT) && $(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV)
	touch $(CUT)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[book,test]"
	rm $(CUT)
	touch $@

clean:
	rm -rf book/_build book/chapters .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage \
		.coverage.* mutants
	@echo "Left in place: .venv (the environment), data/cache (downloads and checkpoints) and" \
		"book/records (the evidence, under version control, and lists of failed runs beside it)."
