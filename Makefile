# Every target explains itself: `make help`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the engine without its examples, tools and server: half the build time
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF
# llama.cpp's code for AMX dies of a segmentation fault on some machines; it is compiled where the compiler has AMX
NO_AMX := $(shell c++ -mno-amx-tile -mno-amx-int8 -mno-amx-bf16 -x c++ -E /dev/null >/dev/null 2>&1 && echo -mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
# of two processes of tests on two cores, threads of the models would wait for each other: a third less processor time
ONE_THREAD := OMP_NUM_THREADS=1 PRECEDENT_THREADS=1
# several gigabytes come over the network on the first run
export UV_HTTP_TIMEOUT ?= 300

.PHONY: help demo serve chat test torture fuzz audit wheelhouse golden check lint types docs site bench bench-redaction bench-ollama bench-quality bench-speed models requirements install extras clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: models ## install, get the models, learn the demo source, judge unseen records, show the figures
	@$(BIN)/precedent demo

serve: models ## serve chat playground, REST and documentation on http://127.0.0.1:8000
	@$(BIN)/precedent serve

chat: models ## chat with the agent in this terminal
	@$(BIN)/precedent chat

test: $(VENV)/.dev ## install and run all tests
	@$(BIN)/precedent doctor --fetch
	@$(BIN)/python -m tests.models
	@$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not ollama and not browser"
	@$(BIN)/python -m pytest -m "ollama or browser"

torture: $(VENV)/.dev $(VENV)/audit/.made models ## the tests of docs/promises.md in their long form, about an hour (make torture ASK=--write)
	@$(BIN)/python -m tests.torture $(ASK)

fuzz: $(VENV)/.dev $(VENV)/audit/.made ## fuzzing guided by coverage, a quarter of an hour (make fuzz ASK="--seconds 60 masking")
	@$(BIN)/python -m tests.models
	@$(BIN)/python -m tests.torture.fuzz $(ASK)

audit: $(VENV)/.runtime $(VENV)/audit/.made ## licences, known vulnerabilities, a bill of materials (build/sbom.cdx.json), a reproducible wheel
	@$(BIN)/python -m tests.torture.supply_chain

# llama.cpp is built for the processor of this machine; for older ones: CMAKE_ARGS="-DGGML_NATIVE=OFF" make wheelhouse
wheelhouse: requirements/runtime.txt | $(VENV)/.uv ## all packages as wheels in build/wheelhouse, to install where there is no network
	@CFLAGS="$$CFLAGS $(NO_AMX)" CXXFLAGS="$$CXXFLAGS $(NO_AMX)" $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --require-hashes --no-deps --wheel-dir build/wheelhouse -r requirements/runtime.txt
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheelhouse .
	@cd build/wheelhouse && sha256sum *.whl > SHA256SUMS
	@echo "build/wheelhouse holds all packages; there: sha256sum --check SHA256SUMS && python3 -m venv .venv && .venv/bin/pip install --no-index --find-links . precedent-agent"

$(VENV)/audit/.made: requirements/audit.txt | $(VENV)/.uv
	@$(BIN)/uv venv --quiet --clear $(VENV)/audit
	@$(BIN)/uv pip install --quiet --python $(VENV)/audit/bin/python --require-hashes -r requirements/audit.txt
	@touch $@

golden: $(VENV)/.dev models ## are the verdicts of 2,700 fixed records those that were recorded, by every entry point? (make golden ASK=--write)
	@$(BIN)/python -m tests.golden $(ASK)

check: lint types docs ## the slower checks: lint, types, generated documentation

lint: $(VENV)/.dev ## style, formatting, and which package imports which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev ## static types
	@$(BIN)/mypy

docs: $(VENV)/.dev ## is the generated documentation what the code says? (make docs WRITE=1 writes it)
	@$(BIN)/python -m docs.generate $(if $(WRITE),--write)

site: $(VENV)/.dev ## the documentation as a site in build/site, which loads nothing from elsewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev models ## cost of a verdict against bare llama.cpp, and hostile records: ratios of one run
	@$(BIN)/python -m benchmarks.verdict_cost
	@$(BIN)/python -m benchmarks.hostile

bench-redaction: $(VENV)/.dev ## precision and recall of redaction on generated lines, and its cost
	@$(BIN)/python -m benchmarks.redaction $(ASK)
	@$(BIN)/python -m benchmarks.redaction_verdicts

bench-ollama: $(VENV)/.dev models ## the same weights embedded and through Ollama: agreement, latency, throughput (needs an ollama)
	@$(BIN)/python -m benchmarks.ollama_parity
	@$(BIN)/python -m benchmarks.ollama_run

bench-quality: $(VENV)/.dev models ## verdicts on public data, beside each signal alone and plain baselines (make bench-quality ASK="bgl-time --limit 200")
	@$(BIN)/python -m benchmarks.quality $(ASK)

bench-speed: $(VENV)/.dev $(VENV)/cordon/.made models ## a million lines, a server under load, a large casebook, beside bare engines, cordon and a RAG chain (make bench-speed ASK="--write")
	@$(BIN)/python -m benchmarks.speed --cordon $(VENV)/cordon/bin/cordon $(ASK)

$(VENV)/cordon/.made: | $(VENV)/.uv
	@$(BIN)/uv venv --quiet --clear $(VENV)/cordon
	@$(BIN)/uv pip install --quiet --python $(VENV)/cordon/bin/python cordon==1.1.1
	@touch $@

models: install ## get the embedding model and the language model, checked by SHA-256
	@$(BIN)/precedent doctor --fetch

requirements: ## compile the pinned requirements anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml $(COMPILE) -o requirements/runtime.txt
	@$(BIN)/uv pip compile pyproject.toml $(COMPILE) --group dev -c requirements/runtime.txt -o requirements/dev.txt
	@$(BIN)/uv pip compile --group pyproject.toml:audit $(COMPILE) -o requirements/audit.txt
	@$(BIN)/uv pip compile pyproject.toml $(COMPILE) --extra openai --extra ray --extra classical --extra timeseries --extra tune -c requirements/dev.txt -o requirements/extras.txt

COMPILE := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

install: $(VENV)/.runtime ## the environment in .venv

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 …"; exit 3; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { echo "a C++ compiler is needed to build llama.cpp (Debian: apt install g++)"; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed (Debian: apt install python3-venv)"; exit 3; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/.uv
	@echo "installing (the first time builds llama.cpp: about 5 minutes on 2 cores) …"
	@CFLAGS="$$CFLAGS $(NO_AMX)" CXXFLAGS="$$CXXFLAGS $(NO_AMX)" $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/runtime.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@# a third of a second of each start, where PYTHONDONTWRITEBYTECODE is set
	@$(BIN)/python -m compileall -q agent llm retrieval server.py
	@touch $@

extras: $(VENV)/.runtime requirements/extras.txt ## install all extras: langchain-openai, Ray, PyOD, stumpy, statsmodels, accelerate, peft
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/extras.txt

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	@touch $@

clean: ## remove the environment and caches (models and cases are kept)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
