# make demo      : set everything up, go from training to the report on digits, end with its path
# make test      : set everything up, run every test that takes no minutes
# make test-full : set everything up, run every test
# make check     : formatting, lint, types and import contracts; tests do not repeat them
PYTHON ?= python3.11
PIP     = .venv/bin/python -m pip --disable-pip-version-check
BIN     = .venv/bin

.PHONY: setup demo test test-full check clean
.DELETE_ON_ERROR:

setup: .venv/.ready .venv-finn/.ready

# torch first and alone: a resolver that meets it by name later keeps this build.
.venv/.ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found; install Python 3.11 or say make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; v=sys.version_info[:2]; sys.exit(0 if v==(3,11) else "error: $(PYTHON) is Python %d.%d; 3.11 is needed: make PYTHON=/path/to/python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install -q 'setuptools>=77,<81' torch==2.13.0
	$(PIP) install -q -e '.[test]'
	@touch $@

.venv-finn/.ready: .venv/.ready flows/requirements-finn.txt
	$(BIN)/adaqat-hw env create --folder .venv-finn
	@touch $@

demo: setup
	$(BIN)/adaqat-hw run configs/demo.toml

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-full: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
