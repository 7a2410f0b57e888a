# `make` alone lists the targets. Each sets up what it needs: .venv with pinned versions.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready# with all that work on this repository needs
USABLE := $(if $(wildcard $(READY)),$(READY),.venv/.usable)# with what models need, half of that
PROTO := unroll/v1/text_generation.proto
TRITON := serving/triton/inference

# What to train, and what the run and its bundle are called.
CORPUS ?=
CELL ?=
MINUTES ?=
EPOCHS ?=
PRESET ?=
ARGS ?=
empty :=
chosen := $(strip $(PRESET) $(basename $(notdir $(CORPUS))) $(CELL))
NAME ?= $(or $(subst $(empty) ,-,$(chosen)),casebook-gru)
PRECISION ?= fp32
BUNDLE = $(NAME)$(if $(filter-out fp32,$(PRECISION)),-$(PRECISION))
length := $(foreach flag,--resume --config --epochs --minutes,$(findstring $(flag),$(ARGS)))
preset := $(or $(PRESET),$(if $(strip $(MINUTES) $(EPOCHS) $(length)),,quick))

# Where to serve and what to ask for.
TARGET ?= 127.0.0.1:50051
PROMPT ?= The
override PROMPT := $(value PROMPT)# dollar signs are the prompt's own
export PROMPT
DEVICE ?= cpu
HTTP_PORT ?= 8080

TRAIN := $(BIN)/unroll train --name $(NAME) \
	$(if $(preset),--preset $(preset)) $(if $(CORPUS),--corpus '$(CORPUS)') \
	$(if $(CELL),--cell $(CELL)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(EPOCHS),--epochs $(EPOCHS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo train export serve generate report test test-quick clients kernels test-kernels-sanitized test-harness test-cuda-structure fuzz soak histories bench bench-served bench-bulk bench-filters bench-training bench-report check fix stubs setup clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(USABLE) ## Train a small GRU for a minute or MINUTES=, export, prove, serve and stream text
	@BIN=$(BIN) MINUTES=$(MINUTES) sh examples/demo.sh

train: $(USABLE) ## Train a model: CORPUS= CELL= NAME= PRESET= MINUTES= or EPOCHS= ARGS=
	$(TRAIN) $(ARGS)

export: $(USABLE) ## Compile the run NAME= and prove it: PRECISION=fp32|int8|fp16 DEVICE=cpu|cuda
	$(BIN)/unroll export --checkpoint runs/$(NAME) --bundle bundles/$(BUNDLE) \
		--device $(DEVICE) --precision $(PRECISION)

serve: $(USABLE) ## Serve the bundle NAME= over gRPC and HTTP: PRECISION= DEVICE=cpu|cuda HTTP_PORT= ARGS=
	$(BIN)/unroll serve --model $(BUNDLE)=bundles/$(BUNDLE) --device $(DEVICE) --http-port $(HTTP_PORT) $(ARGS)

generate: $(USABLE) ## Continue PROMPT= through the server at TARGET=: ARGS=
	$(BIN)/unroll generate --target $(TARGET) --prompt "$$PROMPT" $(ARGS)

report: $(USABLE) ## Train an RNN, a GRU and an LSTM and write a page about them: CORPUS= MINUTES= each PRESET= ARGS=
	$(BIN)/unroll report $(if $(CORPUS),--corpus '$(CORPUS)') $(if $(PRESET),--training-preset $(PRESET)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

# Three processes, each with whole files, the long ones first: on two cores, as a quarter of the time
# is waiting. What pytest makes of the asserts is kept; it takes each process seconds to make.
TESTS := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
test: $(READY) ## Run the tests: ARGS=
	$(TESTS) $(ARGS)

test-quick: $(READY) ## Run the tests that take a moment: ARGS=
	$(TESTS) -m 'not slow and not cuda' $(ARGS)

# Whatever is not Python's: `make test` uses what is there, and REQUIRE_NODE=1 insists on it.
CLIENTS := build/node
clients: $(CLIENTS)/.ready ## Install the clients in JavaScript that the tests let ask the server

$(CLIENTS)/.ready: $(wildcard tests/serving/http/node/*.json)
	@rm -rf $(CLIENTS) && mkdir -p $(CLIENTS)
	cp $^ $(CLIENTS)
	npm ci --prefix $(CLIENTS) --no-audit --no-fund --loglevel error
	@touch $@

# g++ and, for CUDA, nvcc; half a minute. `unroll serve --kernels native` uses what it makes.
kernels: $(USABLE) ## Compile the loops in C++ and for CUDA, which are faster
	$(BIN)/python -m serving.runtime.native

# GCC takes some ten minutes for them; afterwards the kernels are as before.
SANITIZED = '-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
SANITIZER = $(shell g++ -print-file-name=lib$(1).so)
test-kernels-sanitized: $(READY) ## Test the loop in C++ with the sanitizers of addresses and of undefined behaviour: ARGS=
	CXX=g++ CXXFLAGS=$(SANITIZED) \
		$(BIN)/python -c 'from serving.runtime.native.library import build; build()'
	CXXFLAGS=$(SANITIZED) LD_PRELOAD='$(call SANITIZER,asan) $(call SANITIZER,ubsan)' ASAN_OPTIONS=detect_leaks=0 REQUIRE_KERNELS=1 \
		$(BIN)/python -m pytest tests/serving/runtime/native/test_loop.py tests/serving/runtime/native/test_library.py tests/serving/runtime/native/test_drawing.py \
		-k 'not server and not compile' $(ARGS); status=$$?; \
	$(BIN)/python -c 'from serving.runtime.native.library import build; build()' && exit $$status

# lm-eval brings some 150 packages: minutes to install, in an environment of its own.
HARNESS := build/lm-eval
test-harness: $(READY) $(HARNESS)/.ready ## Let lm-eval ask the server, and compare its figures with ours: ARGS=
	REQUIRE_LM_EVAL=1 $(BIN)/python -m pytest tests/serving/http/test_lm_eval.py $(ARGS)

$(HARNESS)/.ready:
	@rm -rf $(HARNESS)
	$(PYTHON) -m venv $(HARNESS)
	$(HARNESS)/bin/pip install --quiet --disable-pip-version-check 'lm-eval[api]==0.4.13'
	@touch $@

# ONNX Runtime for GPUs lies beside .venv and is found first; the toolkit is there for its headers.
STANDIN := build/cuda
test-cuda-structure: $(STANDIN)/.ready ## Test the CUDA path on stand-ins of CUDA's libraries, without a GPU: ARGS=
	PYTHONPATH=$(STANDIN)/site LD_LIBRARY_PATH=$(CURDIR)/$(STANDIN)/lib REQUIRE_CUDA=1 REQUIRE_STANDIN=1 \
		$(BIN)/python -m pytest tests/cuda/test_structure.py tests/cuda/test_device_runner.py \
		--deselect tests/cuda/test_device_runner.py::test_device_is_near_the_cpu \
		--deselect tests/cuda/test_device_runner.py::test_what_is_drawn_is_near_the_cpu $(ARGS)

$(STANDIN)/.ready: $(READY) $(wildcard tests/cuda/standin/*.*)
	@rm -rf $(STANDIN)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt \
		--target $(STANDIN)/site onnxruntime-gpu
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(STANDIN)/toolkit \
		'nvidia-cuda-runtime==13.*' 'nvidia-cuda-crt==13.*'
	bash tests/cuda/standin/build.sh $(STANDIN)/lib $(STANDIN)/toolkit/nvidia/cu13/include
	@touch $@

# A tenth of a million inputs takes several minutes.
INPUTS ?= 100000
fuzz: $(READY) ## Send INPUTS= messages, bytes and damaged files that nobody should send
	UNROLL_FUZZ_INPUTS=$(INPUTS) $(BIN)/python -m pytest tests/serving/rpc/test_fuzz.py tests/serving/http/test_fuzz.py \
		tests/serving/triton/test_fuzz.py $(ARGS)

# One minute by default; a report of ten: MINUTES=10 ARGS='--json soak.json'
soak: $(READY) ## Clients of every kind while servers and clients are killed: MINUTES= ARGS=
	$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

histories: $(READY) ## Servers over one store that both are harmed: is what clients saw possible? MINUTES= ARGS=
	$(BIN)/python -m tests.histories $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

# ARGS="--config benchmarks/native.toml": the whole grid into docs/figures, in six minutes; peers come with the extra `bench`.
bench: $(READY) ## The decode loop beside its limits, torch and ONNX operators: DEVICE=cpu|cuda ARGS=
	$(BIN)/python -m benchmarks.decode --device $(DEVICE) $(ARGS)

# Two models, about twelve minutes; ARGS="--json docs/figures" writes them down.
bench-served: $(READY) ## The real server under load beside its engine alone, on two cores: ARGS=
	$(BIN)/python -m benchmarks.served $(ARGS)

# Two minutes; ARGS="--json docs/figures" writes it down, ARGS="--kernels native --json docs/figures" beside it.
bench-bulk: $(READY) ## Many short texts beside the engine's steady rate: ARGS=
	$(BIN)/python -m benchmarks.bulk $(ARGS)

# Two minutes for each kind of kernels; ARGS="--kernels native --json docs/figures" writes it down.
bench-filters: $(READY) ## Processor time of filters beside a plain step: ARGS=
	$(BIN)/python -m benchmarks.filters $(ARGS)

# ARGS="--json docs/figures" writes it down.
bench-training: $(READY) ## The trainer beside its products, torch and the lab's loop: ARGS=
	$(BIN)/python -m benchmarks.training $(ARGS)

bench-report: $(READY) ## Write docs/notes/performance.md from docs/figures
	$(BIN)/python -m benchmarks.report

check: $(READY) ## Check format, lint, types, protos, stubs and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/unasync.py --check
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code
	$(MAKE) --no-print-directory stubs OUT=build/stubs
	diff -r -x __init__.py -x __pycache__ build/stubs/unroll/v1 unroll/v1
	for kind in pyi binpb; do diff build/stubs/$(TRITON)_pb2.$$kind $(TRITON)_pb2.$$kind || exit 1; done

fix: $(READY) ## Mend what check finds and can be mended by a tool
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/unasync.py
	$(BIN)/buf format protos --write
	$(MAKE) --no-print-directory stubs

OUT ?= .
stubs: $(READY) ## Generate the gRPC stubs from the proto
	@mkdir -p $(OUT)/$(dir $(TRITON))
	@$(BIN)/python -m grpc_tools.protoc --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		-Iprotos --python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) --mypy_grpc_out=$(OUT) protos/$(PROTO)
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --pyi_out=$(OUT) \
		--descriptor_set_out=$(OUT)/$(TRITON)_pb2.binpb protos/$(TRITON).proto

setup: $(READY) ## Make .venv; RUNTIME=gpu for an NVIDIA GPU

# Which ONNX Runtime: cpu, or gpu with the CUDA libraries. The driver is the machine's.
RUNTIME ?= cpu
$(READY): EXTRAS := dev
.venv/.usable: EXTRAS := report,export
$(READY) .venv/.usable: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name it with PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS),$(RUNTIME)]'
	@touch $@

clean: ## Remove .venv, caches and build results; runs and bundles stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
