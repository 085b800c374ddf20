# Each target does its own set-up: a virtual environment in .venv, from a bare Python >= 3.10.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# `make gpu` runs with the machine's own Python, where that has torch: a CUDA build, of whatever version. Elsewhere in .venv.
ifneq ($(filter gpu,$(MAKECMDGOALS)),)
GPU_PYTHON ?= $(shell $(PYTHON) -c 'import torch' 2>/dev/null && echo $(PYTHON) || echo $(BIN)/python)
endif
OUT ?= out
PARTS := tests/kernels tests/memory tests/sched tests/engine/simulator

.PHONY: demo test test-parts test-engine long check bench gpu format clean

$(READY): requirements-dev.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

# The scale of 0.05 shortens contexts to a twentieth, so a smaller block keeps the number of blocks in a request near what it
# is in earnest. The pool holds a few requests of thirty-two conversations: they must be switched.
demo: $(READY)
	mkdir -p $(OUT)
	$(BIN)/fastswitch bench --conversations 32 --device-tokens 640 --block-size 4 --json $(OUT)/demo.json --plot $(OUT)/demo.png

# Two halves side by side, a core each: their dots come mixed, each half ends with its own count.
test: $(READY)
	@$(MAKE) --no-print-directory -j2 test-parts test-engine

# The kernels twice: TRITON_INTERPRET acts when they are imported.
test-parts: $(READY)
	$(BIN)/python -m pytest -m "not long" $(PARTS)
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -m interpret tests/kernels

test-engine: $(READY)
	$(BIN)/python -m pytest -m "not long" -o cache_dir=.pytest_cache/engine $(addprefix --ignore=,$(PARTS)) tests

# What takes over 20 s, and the property tests with other, and more, examples than in `make test`.
long: $(READY)
	$(BIN)/python -m pytest -m long
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest tests/memory tests/sched tests/engine/test_random_walks.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	mkdir -p $(OUT)
	$(BIN)/python -m pytest benchmarks/bench_*.py --benchmark-only --benchmark-json=$(OUT)/bench.json

# At most nine minutes on a GPU (or MINUTES; all or some PHASES); elsewhere the same in miniature. Eight files into $$OUT if
# that is set.
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(READY))
	$(GPU_PYTHON) benchmarks/gpu_suite.py $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PHASES),--phases $(PHASES))

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
