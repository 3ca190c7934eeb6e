# The only entry to everything a developer does. Recipes are single commands, so that Ctrl-C reaches the program.

PYTHON ?= python3
VENV := .venv/bin
# What `make breaking` compares with: the newest tag, else the commit before the last.
AGAINST ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-parse --quiet --verify HEAD~1 || echo HEAD)

# Two files at a time: tests wait more than they work. PYTEST_ARGS="-n 0": one after the other, on this terminal.
PYTEST := $(VENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo recording test test-containers bench attack mutants fuzz fuzz-full faults faults-full audit lint format generate generate-check breaking requirements spire spire-up spire-down clean
.NOTPARALLEL:

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make or refresh .venv from the pinned requirements (nothing to do: instant)
	@$(PYTHON) deploy/bootstrap.py

demo: setup ## Watch an agent get a credential, use it, and lose it
	@PYTHONPATH=. $(VENV)/python examples/support-desk/demo.py

recording: setup ## Run the demo, and draw what it says: docs/images/demo.svg
	@$(VENV)/python deploy/recording.py

test: setup spire ## Run the whole test suite, against a real SPIRE too
	@$(PYTEST) $(PYTEST_ARGS)

test-containers: setup spire ## Run the tests on SPIRE in containers, where there is a Docker engine or root can start one
	@$(VENV)/python deploy/engine.py $(VENV)/python -m pytest -m containers tests/containers

bench: setup ## Measure what an exchange costs, as ratios of sides measured in one run (under a minute)
	@$(VENV)/python -m tests.bench $(BENCH_ARGS)

fuzz: setup ## Fuzz every parser of strangers' bytes, 20 s each (FUZZ_ARGS=token: one of them)
	@$(VENV)/python -m tests.fuzz $(FUZZ_ARGS)

fuzz-full: setup ## Fuzz as long as said (SECONDS=600 each), keep what reaches new code, and add up the counts
	@$(VENV)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --record --keep $(FUZZ_ARGS)

mutants: setup ## Take out one safeguard after the other, and see its test fail (MUTANTS_ARGS="--part 1/3", or names)
	@$(VENV)/python -m tests.mutants $(MUTANTS_ARGS)

attack: setup ## Try every attack of docs/threat-model.md at every entrance that it can reach
	@$(PYTEST) tests/attacks tests/properties $(PYTEST_ARGS)

audit: setup ## Look for known weaknesses: in our code (bandit), in what is pinned, in the bill of materials
	@$(VENV)/python -m deploy.audit

faults: setup ## Kill it, cut its power, fill its disk, and compare with what was acknowledged (part of `make test`)
	@$(PYTEST) tests/faults $(PYTEST_ARGS)

faults-full: setup ## The same by the hundred, as root (COUNT=500 of each kind), and add up the counts
	@$(VENV)/python -m tests.faults --count $(or $(COUNT),500) --page $(FAULTS_ARGS)

lint: setup ## Check style, types, proto files and import directions
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy
	@$(VENV)/buf lint proto
	@$(VENV)/lint-imports

format: setup ## Bring the code into the house's form
	@$(VENV)/ruff check --fix
	@$(VENV)/ruff format

generate: setup ## Generate broker/v1 and broker/issuer/v1 from proto/
	@$(VENV)/python deploy/generate.py

generate-check: setup ## See whether the committed generated code is what proto/ gives
	@$(VENV)/python deploy/generate.py --check

breaking: setup ## See whether proto/ still understands what the newest tag (or commit) said
	@if git cat-file -e '$(AGAINST):proto/buf.yaml' 2>/dev/null; \
	then exec $(VENV)/buf breaking proto --against '.git#ref=$(AGAINST),subdir=proto'; \
	else echo 'nothing to compare with: $(AGAINST) has no proto/'; fi

requirements: setup ## Pin again what pyproject.toml asks for (needs the network)
	@$(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--upgrade --all-extras --group dev pyproject.toml --output-file requirements.txt
	@$(VENV)/python -m deploy.sbom

spire: setup
	@$(VENV)/python deploy/spire/build.py

spire-up: setup ## Start SPIRE for two trust domains on this machine
	@$(VENV)/python deploy/spire/deployment.py up

spire-down: setup ## Stop it again
	@$(VENV)/python deploy/spire/deployment.py down

clean: ## Remove what was made in this checkout (the shared cache stays)
	@rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
