# The two commands for a fresh machine are `make demo` and `make test`. Everything they need beyond Python 3.11, pip and
# gcc they install into .venv.
PYTHON ?= python3
# How many processes the tests run in. They are dealt file by file, in order: those that take long come first.
JOBS ?= 2
# A test that takes this long hangs: its process prints all stacks and ends, and the run with it.
HANGS_AFTER_S := 900
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := meson.build $(shell find src -type f -not -name '*.pyc')

.PHONY: demo test test-long faults fuzz bench docs lint sanitize build clean

demo: build
	$(RUN) examples/corpus.py

# Those of other libraries by themselves: with these in its memory every process is slower to fork and to look through.
TEST := $(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0 -o faulthandler_timeout=$(HANGS_AFTER_S) -o faulthandler_exit_on_timeout=true

test: build lint
	$(TEST) --ignore tests/interop
	$(TEST) tests/interop

# The same tests with 50,000 examples to a comparison of arrays, 2,000 to one of statistics.
test-long: build
	NDFILE_EXAMPLES=50000 $(RUN) -m pytest tests/parity/test_against_numpy.py
	NDFILE_EXAMPLES=2000 $(RUN) -m pytest tests/parity/test_statistics_against_numpy.py

# The fault campaigns at full length, about half an hour. As root, or those that mount are skipped. The figures go to
# build/faults and from there into docs/reliability.md.
faults: build
	NDFILE_ROUNDS_SCALE=1 NDFILE_FAULT_RESULTS=build/faults $(RUN) -m pytest tests/faults

# Coverage-guided fuzzing of the parsers. The figures go to build/fuzz and from there into docs/reliability.md.
fuzz: build
	$(RUN) tests/fuzz/fuzz_formats.py

bench: build $(VENV)/.peers
	$(RUN) benchmarks/run.py

# The documentation as HTML, into build/docs/index.html. A warning is an error.
docs: build
	$(RUN) -m sphinx -W --keep-going -q -b html docs build/docs

lint: build
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(RUN) -m mypy.stubtest --allowlist tests/typing/stubtest-allowlist.txt --ignore-unused-allowlist ndfile._core
	PYTHONPATH=src $(VENV)/bin/lint-imports --no-cache

# The core's tests under the address and undefined-behaviour sanitizers. `make test` runs each with a few of its sets of
# parameters.
sanitize: build
	NDFILE_ROUNDS_SCALE=1 $(RUN) -m pytest tests/faults/test_sanitizers.py

build: $(VENV)/.built

$(VENV)/.tools: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*p['dependencies'], *sum((e for n, e in p['optional-dependencies'].items() if n not in ('all', 'bench')), []), sep='\n')" \
	> $(VENV)/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r $(VENV)/requirements.txt
	touch $@

# Large ones, and one that has no wheel for this Python is no reason not to have the others.
$(VENV)/.peers: $(VENV)/.tools
	$(RUN) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*p['optional-dependencies']['bench'], sep='\n')" > $(VENV)/peers.txt
	while read -r peer; do \
	$(RUN) -m pip install --quiet --disable-pip-version-check "$$peer" || echo "not installed: $$peer"; \
	done < $(VENV)/peers.txt
	touch $@

$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	PATH="$(abspath $(VENV))/bin:$$PATH" $(RUN) -m pip install --quiet --disable-pip-version-check \
	--no-build-isolation --no-deps --force-reinstall \
	-Cbuild-dir=build/release -Csetup-args=-Dwerror=true .
	touch $@

clean:
	rm -rf build $(VENV) demo-data
