# umqtt5. Two commands for a fresh Debian machine: `make demo` and `make test`; each installs what it lacks.
# Everything that is made lands in build/, which git ignores.

BOARD ?= UNIX
PYTHON ?= /usr/bin/python3
VENV := build/venv
PY := $(VENV)/bin/python
# The interpreter under test. PyPI's build is for x86-64 only: elsewhere name your own, `make test MICROPYTHON=/path`.
export MICROPYTHON ?= $(abspath $(VENV)/bin/micropython)
export PYTHONPATH := $(CURDIR):$(CURDIR)/tools/shims:$(CURDIR)/lib

APT_PACKAGES := python3 python3-venv gcc libc6-dev pkg-config mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev \
    libsasl2-dev libsasl2-modules libgsasl-dev openssl

.PHONY: help setup lint test

help:
	@sed -n 's/^## //p' Makefile

setup: build/.apt build/venv/.ready

build/.apt: Makefile tools/apt.sh
	@mkdir -p build
	@tools/apt.sh $(APT_PACKAGES)
	@touch $@

build/venv/.ready: build/.apt tools/requirements.txt
	@echo "Installing Python packages into $(VENV) (tools/requirements.txt)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r tools/requirements.txt
	@touch $@

## make lint                       ruff: style and format
lint: setup
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

## make test                       everything, as CI runs it
test: setup lint
	@$(PY) -m pytest $(PYTEST)
