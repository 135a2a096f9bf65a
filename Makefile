# Everything here makes its own `.venv` first, from the pinned requirements, and again whenever these change.
# `make PYTHON=/path/to/python` chooses the interpreter it is made with.

IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(IS_NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
FOR_RUN := .venv/.installed-run
FOR_DEV := .venv/.installed-dev

# A dot for each package; what goes wrong stands on standard error. $@ is there once everything is.
define install
@rm -f $@
@printf 'Installing the pinned requirements, which takes about a minute ' >&2
@{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r $< && touch $@; } | \
	while read -r line; do case "$$line" in Collecting*) printf . ;; Installing*) printf ' installing' ;; esac; done >&2; echo >&2
@test -e $@
endef

# Where the environment forbids bytecode, each of the tests' processes compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

# What each half of `make test` ran.
COUNTS := .pytest_cache/core.xml .pytest_cache/rest.xml

BENCHMARKS := ack polling batches latency memory cpu cold_start

# What is drawn by chance in the crash tests; `make crash-test CRASH_SEED=…` draws the same again.
CRASH_SEED := $(or $(CRASH_SEED),$(shell date +%s))
CRASH_KILLS := $(or $(CRASH_KILLS),100)

COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --annotation-style line --quiet

# What is pinned with an extra is pinned without it as well: older pips (23.2) know a hash by the very form it stands in.
BOTH_FORMS := awk 'function out() { if (block ~ /^[^ ]*\[/) { plain = block; sub(/\[[^]]*\]/, "", plain); printf "%s", plain } \
	printf "%s", block; block = "" } !/^ / { out() } { block = block $$0 "\n" } END { out() }'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo run doctor dead policy audit manifest test coverage lint check crash-test chaos-test format docs picture bench bench-check requirements package clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(FOR_RUN) ## try it: a story against local simulators, without Slack, OpenHands or a key; API=agent
	@$(BIN)/python -m bot demo $(if $(API),--api $(API))

run: $(FOR_RUN) ## run the bot with the settings of the environment and .env
	@$(BIN)/python -m bot run

doctor: $(FOR_RUN) ## look at everything the bot needs from outside, and say how to mend what is wrong
	@$(BIN)/python -m bot doctor

dead: $(FOR_RUN) ## list what could never be posted or done; make dead ARGS='retry 3', ARGS='drop --all'
	@$(BIN)/python -m bot dead $(ARGS)

policy: $(FOR_RUN) ## what POLICY_FILE says: make policy ARGS='check', ARGS='explain @bob "#dev" org/repo approve'
	@$(BIN)/python -m bot policy $(ARGS)

audit: $(FOR_RUN) ## who did what, by which rule: make audit ARGS='--since 2026-01-01 --json', ARGS='verify'
	@$(BIN)/python -m bot audit $(ARGS)

manifest: $(FOR_RUN) ## print what Slack makes the app from; make manifest ARGS='--command /agent --link'
	@$(BIN)/python -m bot manifest $(ARGS)

test: $(FOR_DEV) ## run the tests; the core modules must be covered by their own, to the last branch
	@rm -f $(COUNTS)
	@echo "make test: first the core by its own tests, with coverage"
	$(BIN)/python -m pytest --numprocesses=2 --cov --cov-report= --junitxml=$(word 1,$(COUNTS)) tests/core
	@$(BIN)/python -m coverage report --include="bot/core/*" --fail-under=100
	@echo "make test: then everything else"
	$(BIN)/python -m pytest --numprocesses=4 --dist=worksteal --junitxml=$(word 2,$(COUNTS)) --ignore=tests/core --ignore=tests/test_benchmarks.py
	@grep -ho '<testsuite .* skipped="[0-9]*" tests="[0-9]*"' $(COUNTS) | awk -F '"' '{ passed += $$(NF - 1) - $$(NF - 3) } END { print "make test: " passed " passed" }'

coverage: $(FOR_DEV) ## show which lines and branches of the bot no test reaches; slower than `make test`
	$(BIN)/python -m pytest --numprocesses=4 --dist=worksteal --cov --cov-report=
	@$(BIN)/python -m coverage report

lint: $(FOR_DEV) ## check format, style, types and who imports whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint bench-check test ## everything that must hold before a change goes in

crash-test: $(FOR_DEV) ## kill the bot at 100 random moments on each database and server, and at every call of journeys
	@echo "CRASH_SEED=$(CRASH_SEED) CRASH_KILLS=$(CRASH_KILLS)"
	@calls="$$($(BIN)/python -m tests.crash.wire)" && \
		CRASH_SEED=$(CRASH_SEED) CRASH_KILLS=$(CRASH_KILLS) CRASH_CALLS="$$calls" \
		$(BIN)/python -m pytest --numprocesses=4 --dist=loadgroup tests/crash

chaos-test: $(FOR_DEV) ## fifty runs through a day in which all goes wrong, for each seed, and thousands of requests for what grows
	CHAOS_SEEDS="$(or $(CHAOS_SEEDS),$(CRASH_SEED))" CHAOS_RUNS=50 CHAOS_HOURS=24 SOAK_REQUESTS=1000 \
		$(BIN)/python -m pytest --numprocesses=4 tests/stories/test_chaos.py tests/stories/test_soak.py

format: $(FOR_DEV) ## format the code and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(FOR_DEV) ## write the tables of words and buttons from their declarations
	$(BIN)/python -m tests.docs

picture: $(FOR_DEV) ## draw the README's picture again, from the bot's own messages
	$(BIN)/python -m tests.picture

bench: $(FOR_DEV) ## measure speed and memory, beside references; takes about half an hour
	@set -e; for script in $(BENCHMARKS); do echo "benchmarks/$$script.py"; echo; $(BIN)/python benchmarks/$$script.py; done

bench-check: $(FOR_DEV) ## run each benchmark in small: its tables are whole, and nothing gets lost
	$(BIN)/python -m pytest --numprocesses=2 tests/test_benchmarks.py

requirements: ## pin what pyproject.toml allows (needs uv); UPGRADE=--upgrade for the newest versions
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(COMPILE) $(UPGRADE) -o requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(COMPILE) $(UPGRADE) --group dev -o requirements-dev.txt
	@for file in requirements.txt requirements-dev.txt; do $(BOTH_FORMS) $$file > $$file.new && mv $$file.new $$file; done

package: $(BIN)/python ## build the wheel, install it in an empty environment and try it there
	@.ci/package $(BIN)/python

clean: ## remove what these commands made: .venv, caches, coverage
	rm -rf .venv build *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find bot tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@"$(PYTHON)" $(IS_NEW_ENOUGH) 2>/dev/null || { \
		echo "Python 3.11 or newer is needed. Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "Making .venv, once." >&2
	@"$(PYTHON)" -m venv .venv

$(FOR_RUN): requirements.txt | $(BIN)/python
	$(install)

$(FOR_DEV): requirements-dev.txt | $(BIN)/python
	$(install)
