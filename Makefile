# Every target sets up what it needs: `make run` on a fresh machine with Python 3.11 and make is enough.
PYTHON ?= python3
BIN := .venv/bin

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

run: .venv/ready ## the main study: which positional priors let exact inference extrapolate?
	$(BIN)/windtunnel run +sweep=extrapolation

test: .venv/ready ## the fast tests, under five minutes on two cores with empty caches
	$(BIN)/pytest

test-slow: .venv/ready ## the long tests: whole trainings, a wheel in an empty environment, a real SLURM
	$(BIN)/pytest -m slow -rs --dist loadfile --timeout 1800

check: .venv/ready ## lint, format and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyrefly check

bench: .venv/ready ## measure this machine into docs/benchmarks.md: against PyTorch, oracles, long evaluations
	$(BIN)/pip install -q -e '.[bench]'
	$(BIN)/python scripts/benchmark.py
	$(BIN)/python scripts/benchmark_oracles.py
	$(BIN)/python scripts/benchmark_reach.py

cost: .venv/ready ## what long attention costs and how wrong approximations are (hours), into docs/cost.md
	$(BIN)/python scripts/cost.py

figures: .venv/ready ## the README's table and figure, from the records of `make run`
	$(BIN)/python scripts/readme.py

tunnels: .venv/ready ## what every tunnel's preset reaches: trains them all (forty minutes), fills docs/tunnels.md
	$(BIN)/windtunnel run +sweep=tunnels
	$(BIN)/python scripts/tunnels.py

verdicts: .venv/ready ## the rules of a verdict on planted models (seconds), into docs/verdicts.md
	$(BIN)/python scripts/verdicts.py

recovery: .venv/ready ## is the data's own prior found? (twenty minutes) into docs/recovery.md
	$(BIN)/windtunnel run +sweep=recovery
	$(BIN)/python scripts/recovery.py runs/recovery

instruments: run ## what the instruments see (half an hour), into docs/instruments.md
	for sweep in convergence em em_adaptive; do $(BIN)/windtunnel run +sweep=$$sweep || exit 1; done
	$(BIN)/windtunnel run probe.every=50
	for sweep in extrapolation convergence; do $(BIN)/windtunnel probe runs/$$sweep || exit 1; done
	$(BIN)/windtunnel run +sweep=inside
	$(BIN)/windtunnel probe runs/inside beliefs exchangeability implied convergence
	$(BIN)/python scripts/instruments.py
	$(BIN)/python scripts/inside.py

docs-figures: ## every figure of README and docs/ again: hours; what was cut off goes on where it was
	for page in run figures tunnels verdicts external recovery instruments extrapolation primitives architectures reproduce bench; do \
	  $(MAKE) $$page || exit 1; done

extrapolation: .venv/ready ## every position on every primitive, to 500 horizons (an hour), into docs/extrapolation.md
	$(BIN)/windtunnel run +sweep=extrapolation_full
	$(BIN)/python scripts/extrapolation.py

primitives: .venv/ready ## what is exact to 500 horizons, from five seeds (ten minutes), into docs/extrapolation.md
	for setting in "tunnel=recall seed=0,1,2,3,4" "tunnel=die seed=0,1,2,3,4" \
	    "tunnel=hmm_far model=gru train.steps=2000 seed=0,1,2,3,4" \
	    "tunnel=hmm_far model=belief train.steps=2000 train.learning_rate=0.02 seed=11,12,13,14,15"; do \
	  $(BIN)/windtunnel run -m $$setting evaluate.reach=500 evaluate.examples=32 runs=runs/primitives || exit 1; done
	$(BIN)/python scripts/primitives.py

architectures: .venv/ready ## six architectures at equal parameters (an hour), into docs/architectures.md
	$(BIN)/windtunnel run +sweep=architectures
	$(BIN)/windtunnel run +sweep=architectures_hmm
	$(BIN)/python scripts/architectures.py

binding: .venv/ready ## how much is bound, by the memory there is? (ninety minutes, or one ROW=…) into docs/architectures.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/binding.py $(if $(ROW),"$(ROW)")

depth: .venv/ready ## what carries belief past the horizon? (at most ninety minutes) into docs/depth.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/depth.py

mixed: .venv/ready ## what helps where domains want opposite priors? (at most ninety minutes) into docs/mixed.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/mixed.py

acting: .venv/ready ## what is a posterior worth to who acts on it? (at most ninety minutes) into docs/acting.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/acting.py

block: .venv/ready ## what the block `bayesian_attention` does (an hour at most), into docs/bayesian-attention.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/block.py

monitoring: .venv/ready ## what monitors tell, and what recovery saves (an hour at most), into docs/monitoring.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/monitoring.py

next: .venv/ready ## priors that are learned, data that change (at most ninety minutes), into docs/next.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/next.py

external: .venv/ready ## models from outside beside native ones (five minutes), into docs/external.md
	$(BIN)/pip install -q -e '.[external]'
	$(BIN)/windtunnel run +sweep=external_native
	$(BIN)/python examples/torch_transformer.py tunnel=die evaluate.reach=8 --seeds 3
	$(BIN)/windtunnel export tunnel=die evaluate.reach=8 train=1000 to=runs/die
	$(BIN)/python examples/llama.py runs/die --seeds 3
	for seed in 0 1 2; do $(BIN)/windtunnel judge runs/die runs/die/predictions-$$seed.npz name=llama seed=$$seed; done
	$(BIN)/python scripts/external.py

reproduce: .venv/ready ## the published claims at a size for two cores (half an hour, or one ROW=…) into docs/reproduction.md
	$(BIN)/python scripts/reproduce.py $(ROW)

reproduce-long: .venv/ready ## published results that take hours, one at a time with ROW=…, into docs/reproduction.md
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/reproduce_long.py $(ROW)

reproduce-paper: .venv/ready ## the same at the published sizes: for a GPU
	$(BIN)/python scripts/reproduce.py --paper

wheel: .venv/ready ## a wheel in dist/
	$(BIN)/pip wheel -q --no-deps -w dist .

clean: ## remove what make made, but not the records in runs/
	rm -rf .venv dist .pytest_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[report,test,dev]'
	touch $@

.PHONY: help run test test-slow check bench cost figures tunnels verdicts recovery instruments docs-figures extrapolation primitives architectures binding depth mixed acting block monitoring next external reproduce reproduce-long reproduce-paper wheel clean
