# Needs nothing but Python 3.11 or newer, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --numprocesses 2

.PHONY: demo test test-isa docs bench bench-gpu torture clean

# Train the embedded default, score it, draw its frontier, cut one sub-model out, load it back.
demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash benchmarks/demo.sh

# Lint, types (of each system), the import contract, the site and every test; the kernels once more,
# as a processor with AVX2 alone takes them.
test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports
	$(BIN)/python -m docs.site
	$(PYTEST)
	ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) tests/laws/test_numerics.py

# Every test again on older processors, as oneDNN is told that this one is: x86 alone.
test-isa: $(VENV)/installed-dev
	ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST)
	ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST)

# The documentation as a site: open build/site/index.html.
docs: $(VENV)/installed-dev
	$(BIN)/python -m docs.site

# Most speed figures again: about an hour on one core, and 17 GB of room in BENCH.
BENCH ?= bench
bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.speed.shared_prefixes
	$(BIN)/python -m benchmarks.speed.engine_cost
	$(BIN)/python -m benchmarks.speed.compile_cost
	$(BIN)/python -m benchmarks.speed.fused_cost
	$(BIN)/python -m benchmarks.speed.narrow_models
	$(BIN)/python -m benchmarks.speed.memory_formats
	$(BIN)/python -m benchmarks.speed.start_up
	$(BIN)/python -m benchmarks.speed.host_waits
	$(BIN)/python -m benchmarks.speed.strided_step
	$(BIN)/python -m benchmarks.speed.checksum_cost
	$(BIN)/python -m benchmarks.speed.data_rate
	$(BIN)/python -m benchmarks.speed.soft_cost
	$(BIN)/python -m benchmarks.speed.plan_memory
	$(BIN)/python -m benchmarks.speed.exports
	$(BIN)/python -m benchmarks.speed.big_extract --folder $(BENCH)

# What only a GPU can show, in ten minutes; then as a share of plain modules, over more updates, and
# the wall time of the 160 networks on CIFAR-10.
bench-gpu: $(VENV)/installed-dev
	PATH="$(abspath $(BIN)):$$PATH" bash benchmarks/gpu.sh $(if $(DATA),--data $(DATA))
	$(BIN)/python -m benchmarks.speed.launches
	$(BIN)/python -m benchmarks.speed.engine_cost --device cuda --precision bf16
	$(BIN)/python -m benchmarks.speed.compile_cost --device cuda --precision bf16
	time $(BIN)/sortednet train --preset cifar10-mobilenetv2 $(if $(DATA),--data $(DATA))

# Trainings killed by the hundred and compared with those that were not, two thousand damaged
# inputs, and the tests that take too long for `make test`: three quarters of an hour on one core.
torture: $(VENV)/installed-dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m torture
	$(BIN)/python -m tests.torture.kills
	$(BIN)/python tests/torture/fuzz.py --cases 2000 --seed 0

$(VENV)/installed: pyproject.toml
	@echo "installing into $(VENV): torch is large, this takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml
	@echo "installing into $(VENV): torch is large, this takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo bench build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
