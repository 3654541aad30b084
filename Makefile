# Two commands do all the set-up on a machine with python3, make and git: `make demo` and `make test`.

VENV ?= .venv
PYTHON ?= python3
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
RUN := PATH="$(BIN):$$PATH"
# A process for each core, at most four, since each holds torch and two models; a file's tests share what it makes.
PYTEST := OMP_NUM_THREADS=1 pytest -n auto --maxprocesses 4 --dist loadfile
NUM ?= 64
KILLS ?= 150
GENERATED := docs/api.md docs/cli.md docs/database.md docs/experiments.md docs/metrics.md docs/models.md

.PHONY: demo test postgres soak bench quick lint unit docs docs-check migration lock train-shapes clean

$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@# uv installs in a minute what pip takes several for; without it pip does the same.
	command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv || true
	@if PATH="$(BIN):$$PATH" command -v uv >/dev/null; then \
		echo "uv pip install -r requirements-dev.txt"; \
		PATH="$(BIN):$$PATH" uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-dev.txt && \
		PATH="$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	else \
		echo "pip install -r requirements-dev.txt"; \
		$(BIN)/python -m pip install --quiet -r requirements-dev.txt && \
		$(BIN)/python -m pip install --quiet --no-deps -e .; \
	fi
	touch $@

demo: $(READY)
	@$(RUN) sh experiments/demo.sh $(NUM)

test: lint docs-check unit

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports --no-logo

unit: $(READY)
	$(RUN) $(PYTEST)

# All tests but those that start whole programs, or make and score whole runs.
quick: $(READY)
	$(RUN) $(PYTEST) -m "not slow"

# All of them again, each home with a PostgreSQL database instead of a file: of a server of its own, or of
# T2I_TEST_POSTGRES. Left out are those about the file itself, with their reasons at the end.
postgres: $(READY)
	$(RUN) T2I_TEST_DATABASE=postgresql .ci/with-postgres env $(PYTEST) -rs

# Many more kills than `make test` tries, for a machine that is free for a quarter of an hour.
soak: $(READY)
	$(RUN) T2I_TEST_KILLS=$(KILLS) $(PYTEST) --dist load tests/faults tests/test_db_files.py
	$(RUN) T2I_TEST_RAY_IMAGES=256 $(PYTEST) -n 0 tests/test_ray.py

# The short ones of benchmarks/, each a ratio against a peer in the same run; for a machine that does nothing else.
bench: $(READY)
	$(RUN) python -m benchmarks.start
	$(RUN) OMP_NUM_THREADS=1 python -m benchmarks.compare --runs 1000 --repeats 7
	$(RUN) python -m benchmarks.workers

docs: $(READY)
	$(RUN) cog -r $(GENERATED)

docs-check: $(READY)
	$(RUN) cog --check $(GENERATED)

# What t2i_track/db/models.py says and the last migration does not: make migration m="runs have a clip_skip"
migration: $(READY)
	$(RUN) python migrations/new.py "$(m)"
	$(RUN) ruff format --quiet migrations

lock: $(READY)
	$(RUN) uv pip compile --quiet pyproject.toml -o requirements.txt --no-annotate --no-header
	$(RUN) uv pip compile --quiet pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt \
		--no-annotate --no-header

train-shapes: $(READY)
	$(RUN) python -m experiments.shapes.train

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
