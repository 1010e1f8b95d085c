# Every target sets up what it needs; the second time there is nothing left to do.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup label-studio browser redis haproxy demo test check docs serve bench compare prove prove-card audit

PYTHON := .venv/bin/python
SITE := .cache/docs
QUICK := $(wildcard $(addprefix tests/,unit contract http architecture parity adapter))

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: .venv/.ready ## install the project and its tools into .venv

label-studio: .venv-label-studio/.ready ## install Label Studio into .venv-label-studio

browser: ## see that Chromium, which the tests start, is there
	@scripts/debian.sh chromium:chromium chromedriver:chromium-driver

redis: ## see that Redis, which the tests start, is there
	@scripts/debian.sh redis-server:redis-server

haproxy: ## see that haproxy, which the tests start, is there
	@PATH="$$PATH:/usr/sbin" scripts/debian.sh haproxy:haproxy

demo: setup label-studio ## the whole chain on storybook scenes; ONCE=1 ends after the report
	$(PYTHON) -m backend demo $(if $(ONCE),--once) $(ARGS)

test: setup label-studio browser redis haproxy ## every test, with a real Label Studio, Chromium, Redis and haproxy
	$(PYTHON) $(if $(ARGS),-m pytest tests $(ARGS),scripts/side_by_side.py)

check: setup redis ## style, types and the quick tests
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest $(QUICK) $(ARGS)

docs: setup ## build the documentation into .cache/docs; warnings are errors
	$(PYTHON) -m sphinx -W --keep-going -n -q -b html -d $(SITE)/.doctrees -c docs . $(SITE)

serve: setup ## answer Label Studio on PORT (9090) with PROFILE
	$(PYTHON) -m backend serve $(ARGS)

bench: setup ## what a prediction costs here, and benchmarks/README.md with plots; minutes
	$(PYTHON) -m benchmarks.bench $(ARGS)
	$(PYTHON) -m benchmarks.scaling --repeats 3
	$(PYTHON) -m benchmarks.readme

compare: setup ## every method on held-out drawn scenes, a student included; half an hour
	$(PYTHON) -m benchmarks.student --keep .cache/student.safetensors
	$(PYTHON) -m benchmarks.compare --processes 2 --student .cache/student.safetensors $(ARGS)
	$(PYTHON) scripts/write_method_docs.py

prove: setup label-studio browser redis haproxy ## full-size proofs, written to benchmarks/results/proof-*.json
	$(PYTHON) -m benchmarks.prove $(ARGS)

prove-card: setup ## what a CUDA card does: kernels, speed, precision, in benchmarks/results/*-cuda.json
	$(PYTHON) -m pytest $(addprefix tests/unit/cliper_model/test_,kernels.py on_card.py recordings.py)
	missed=0; for proof in 'speed --rows standard best' precision bench; do \
	  $(PYTHON) -m benchmarks.$$proof --device cuda || missed=1; done; exit $$missed

audit: setup .cache/audit/.ready ## known vulnerabilities, bill of materials, licences; status 2: could not be found out
	$(PYTHON) scripts/audit.py .cache/audit

.cache/audit/.ready:
	@scripts/venv.sh .cache/audit 'pip-audit>=2.10,<3' 'cyclonedx-bom>=7,<8'

.venv/.ready: pyproject.toml constraints.txt
	@scripts/venv.sh .venv -c constraints.txt -e '.[all,ray,dev]'

.venv-label-studio/.ready: constraints-label-studio.txt
	@scripts/venv.sh .venv-label-studio -r constraints-label-studio.txt
