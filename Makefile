# Two commands for a newcomer: `make demo` and `make test`. Both set everything up first.
# Needs Python 3.11+ and make; uv is installed into .uv/ where it is missing.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# Which faiss to install: cpu, or gpu for a CUDA machine (EXTRA=gpu make demo).
EXTRA ?= cpu
SYNCED := .venv/.synced-$(EXTRA)

export UV_COMPILE_BYTECODE ?= 1
export DO_NOT_TRACK := 1

.PHONY: demo test test-slow check format sync clean

sync: $(SYNCED)

# Curate the bundled noisy sample with the bundled model, offline; compare the verdicts with the truth.
demo: $(SYNCED)
	@$(RUN) winnow run pipelines/recipes/quickstart.yaml
	@echo; echo "Three of the rows that clear.filter dropped:"; echo
	@$(RUN) winnow show --dropped clear.filter --sample 3
	@echo; echo "The verdicts against the truth, which no stage has read:"; echo
	@$(RUN) python data/compare_with_truth.py

test: $(SYNCED)
	$(RUN) pytest -m "not slow and not gpu"

# The rest: minutes each on 2 cores (real servers, kills, the whole demo).
test-slow: $(SYNCED)
	$(RUN) pytest -m "slow and not gpu"

check: $(SYNCED)
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

format: $(SYNCED)
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

$(SYNCED): pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --extra $(EXTRA)
	@touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .uv .winnow out
