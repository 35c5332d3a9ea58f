# `make run` and `make test` need Python 3.11+, pip and make; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install run study test test-all test-processors lint generated site clean

install: $(STAMP)

# A torch that is already installed (with CUDA, say) is used as it is: the environment then sees
# the machine's packages, and the pin of torch gives way to what is there.
$(STAMP): pyproject.toml constraints.txt .ci/install
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/install
	touch $(STAMP)

run: install
	$(BIN)/fnl run --engine flower --figures --set evaluation.shadow=true

# A few minutes: a small grid of budgets and clipping bounds, then its report.
study: install
	$(BIN)/fnl grid run experiments/grids/quick.toml
	$(BIN)/fnl report results/quick

test: install
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow"

test-all: install
	$(BIN)/python -m pytest -q -n auto --dist worksteal

# The numerical tests as older x86-64 processors compute them: other widths of vectors, other orders
# of additions, other last places of functions. MKL's switch shows what an AMD EPYC showed.
NUMERICAL := $(addprefix tests/,snn training metrics privacy audit fidelity planning interchange wire clients server \
	test_weights.py test_extending.py test_randomness.py)
SSE := ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41 \
	OPENBLAS_CORETYPE=Nehalem GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F
AVX2 := ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 \
	OPENBLAS_CORETYPE=Haswell

test-processors: install
	$(SSE) $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow" $(NUMERICAL)
	$(AVX2) $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow" $(NUMERICAL)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# tables of the documents and defaults in pyproject.toml, from their declarations
generated: install
	$(BIN)/python docs/generate.py

# the documentation as pages, in site/: offline, links checked, warnings are errors
site: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[site]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .ruff_cache .hypothesis
