# Needs Python >= 3.11 and make, nothing else. Each target makes its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests share the cores file by file; one computing thread each, for two-thread jobs side by side slow each other down manyfold.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile
OUT ?= demo-run

.PHONY: demo demo-quick test clients check types unit format clean

demo: $(READY)  ## a real RFT job from dataset to expert model, with the evidence
	$(BIN)/pinetune demo --out $(OUT)

demo-quick: $(READY)  ## the same path in under a minute
	$(BIN)/pinetune demo --quick --out $(OUT)

check: $(READY)  ## format, lint, types, layers, fast unit tests
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	@$(MAKE) --no-print-directory -j2 types unit  # side by side: each alone would leave a core idle

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(PYTEST) -m "not slow and not gpu" tests/unit tests/test_*.py

test: $(READY)  ## everything a laptop can test
	$(PYTEST) -m "not gpu"

# Each in a place of its own: they are tested against ours, not installed beside it.
clients: $(READY)  ## the API's tests with older Python clients and Node's, our logs in inspect_ai; all brought from their registries
	@for version in 1.109.1 2.54.0; do test -x .venv-openai-$$version/bin/openai || { $(PYTHON) -m venv .venv-openai-$$version && \
	  .venv-openai-$$version/bin/pip install -q --disable-pip-version-check openai==$$version; }; done
	@test -x .venv-inspect-ai/bin/inspect || { $(PYTHON) -m venv .venv-inspect-ai && \
	  .venv-inspect-ai/bin/pip install -q --disable-pip-version-check inspect_ai==0.3.285; }
	@! command -v npm >/dev/null || npm install --silent --no-fund --no-audit --prefix build/node openai@6.49.0
	PINETUNE_TEST_OPENAI_PYTHONS=.venv-openai-1.109.1/bin/python:.venv-openai-2.54.0/bin/python \
	  PINETUNE_TEST_OPENAI_NODE=$$(test -d build/node/node_modules/openai && echo $(CURDIR)/build/node) $(BIN)/pytest tests/api/test_api_other_clients*.py
	INSPECT_AI_PYTHON=$(CURDIR)/.venv-inspect-ai/bin/python $(BIN)/pytest tests/unit/test_evals_inspect_log.py

format: $(READY)
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

# torch is installed first and exactly: an open range can pull gigabytes of CUDA onto a CPU machine.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pinetune needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) $(OUT) build dist
