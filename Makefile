PYTHON ?= python3
JOBS ?= 2
JAX ?= pinned
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# XLA's former code generator compiles a tiny network in half the time. Its programs are slower and round differently.
QUICK ?= XLA_FLAGS=--xla_cpu_use_fusion_emitters=false
PYTEST := $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal --durations=15

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs bench aot parity nano pictures clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 16

demo: $(STAMP)  ## Track two objects in a clip; writes a video, a GIF and scores to edgetam-demo/
	$(BIN)/edgetam-jax demo --force

parity: $(STAMP)  ## Compare the full network with PyTorch, component by component, with random weights
	$(BIN)/python -m benchmarks.parity

nano: $(STAMP)  ## Train a small network from scratch on DATA=FOLDER (docs/training.md); needs a GPU; resumes
	$(BIN)/python recipes/nano/make.py $(or $(DATA),$(error set DATA to the folder of pictures, see docs/training.md))

test: $(STAMP)  ## Run the tests of every component, in ten minutes on two cores
	$(QUICK) $(PYTEST) -m "not slow"

test-all: $(STAMP)  ## Run all tests, including slow ones
	$(QUICK) $(PYTEST) tests/unit
	$(PYTEST) tests/parity tests/e2e tests/browser

lint: $(STAMP)  ## Check style, formatting, types, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(STAMP)  ## Build the documentation into site/; a warning is an error
	$(BIN)/mkdocs build --strict

bench: $(STAMP)  ## Benchmark against PyTorch, Hugging Face and ONNX Runtime at all sizes; takes an hour
	-$(PIP) install -q -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.compare --objects 1 2 4 8 16 --batches 2 --rounds 6
	for size in 512 768; do $(BIN)/python -m benchmarks.compare --size $$size --batches --rounds 6 \
		--systems ours-tuned ours-bf16 original-tuned hugging-face-tuned onnx || exit; done
	for what in parts forms compiling plots; do $(BIN)/python -m benchmarks.$$what || exit; done

aot:  ## Compile for GPUs and TPUs that are not here, in an environment of its own; takes an hour
	$(PYTHON) -m venv $(VENV)-aot
	$(VENV)-aot/bin/python -m pip --disable-pip-version-check install -q -e ".[aot]"
	$(VENV)-aot/bin/python -m benchmarks.aot

pictures: $(STAMP)  ## Redraw the pictures in docs/
	$(BIN)/python tools/draw_synthetic.py
	$(BIN)/python tools/draw_demo.py
	$(BIN)/python tools/draw_app.py

clean:  ## Remove the environment and all caches
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that a broken installation is made again. The reference implementation, timm and
# torchvision come without their dependencies: what they need here is in the dev extra, and their own lists would
# pull in another torch. JAX=newest lets pip choose jax and the packages that depend on its version; TORCH_INDEX is the
# package index that torch and torchvision come from, for example https://download.pytorch.org/whl/cpu.
FOLLOW_JAX := jax|jaxlib|flax|optax|orbax-checkpoint|grain|ml_dtypes|numpy|scipy
$(STAMP): pyproject.toml constraints.txt Makefile
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	grep -vE '$(if $(filter newest,$(JAX)),^($(FOLLOW_JAX))==,^$$)' constraints.txt > $(VENV)/constraints.txt
	$(if $(TORCH_INDEX),$(PIP) install -q -c $(VENV)/constraints.txt --no-deps --index-url $(TORCH_INDEX) torch torchvision)
	$(PIP) install -q -c $(VENV)/constraints.txt -e ".[dev]"
	$(PIP) install -q -c $(VENV)/constraints.txt --no-deps edgetam-dimos timm torchvision
	touch $@
