# SPDX-License-Identifier: Apache-2.0
# make demo | make test: each sets up what it needs. See README.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo demo-kernel test test-quick test-lab lint bench bench-nic soak fuzz lab clean

help:
	@echo "make demo        move a VM between two hosts with software NICs, three ways; needs no privileges"
	@echo "make demo-kernel move a VF between two igb hosts in the lab, with what the wire saw"
	@echo "make test        set up everything the tests need, run them all"
	@echo "make test-quick  the tests without the lab"
	@echo "make test-lab    only the tests in the lab"
	@echo "make soak        explore further, simulate 100,000 faulty migrations (hours)"
	@echo "make fuzz        feed decoders with nonsense for minutes"
	@echo "make bench       measure vferry beside its peers, in one lab run; writes docs/performance.md"
	@echo "make bench-nic   measure the software NIC; needs no lab; writes docs/performance.md"
	@echo "make lab         build the lab (kernel, QEMU, root image); cached"

demo: $(VENV)/.run
	$(BIN)/vferry demo

demo-kernel: $(VENV)/.run
	$(BIN)/python -m lab build
	$(BIN)/python -m lab.demo

# The lab's tests run one after the other: virtual hosts need the processors for themselves.
test: $(VENV)/.dev lab-if-possible
	$(PYTEST) tests -m "not lab" --numprocesses=auto
	$(PYTEST) tests -m lab

test-quick: $(VENV)/.dev
	$(PYTEST) tests -m "not lab and not slow" --numprocesses=auto

test-lab: $(VENV)/.dev lab-if-possible
	$(PYTEST) tests -m lab

lint: $(VENV)/.dev
	$(PYTEST) tests/test_lint.py

bench: $(VENV)/.dev lab
	$(BIN)/python -m bench

bench-nic: $(VENV)/.dev
	$(BIN)/python -m bench.software_nic

soak: $(VENV)/.dev
	$(BIN)/python -m vferry.testing.exploration --large
	$(BIN)/python -m vferry.testing.world --runs 100000

fuzz: $(VENV)/.dev
	$(PYTEST) tests -m fuzz --hypothesis-profile=fuzz --timeout=7200

lab: $(VENV)/.run
	$(BIN)/python -m lab build

# Where the lab cannot be built, its tests say so one by one; with VFERRY_REQUIRE_LAB=1 they fail.
.PHONY: lab-if-possible
lab-if-possible: $(VENV)/.run
	-$(BIN)/python -m lab build

$(VENV)/.run: pyproject.toml tools/make-venv
	tools/make-venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[sim]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
