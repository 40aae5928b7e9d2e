# umqtt5. Two commands for a fresh Debian machine: `make demo` and `make test`. Each target installs what it lacks, and
# says what. Everything that is made lands in build/, which git ignores.
#
## make demo [TLS=1]               the main job: broker up, provision, flash the virtual board, watch it log in and publish
## make test [PYTEST='-k ...']     everything, as CI runs it
## make broker                     the dev broker in the foreground (add users: see what it prints)
## make provision BOARD=...        boards/secrets.toml -> build/secrets/<BOARD>.json, the broker proven
## make flash BOARD=... PORT=...   the library, main.py and the secrets onto a board, by mpremote
## make size                       bytes of flash and RAM, exact
## make bench                      speed, as ratios
## make instructions               the same in machine instructions a message, by valgrind
## make readme                     today's figures of these three into README.md
## make conformance                MQTT 5.0 statement by statement: which test proves it, or whose duty it is
## make lint                       ruff: style and format

BOARD ?= UNIX
PYTHON ?= /usr/bin/python3
VENV := build/venv
PY := $(VENV)/bin/python
# The interpreter under test. PyPI's build is for x86-64 only: elsewhere name your own, `make test MICROPYTHON=/path`.
export MICROPYTHON ?= $(abspath $(VENV)/bin/micropython)
export PYTHONPATH := $(CURDIR):$(CURDIR)/tools/shims:$(CURDIR)/lib

APT_PACKAGES := python3 python3-venv gcc libc6-dev pkg-config mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev \
    libsasl2-dev libsasl2-modules libgsasl-dev openssl netbase

.PHONY: help setup demo test broker provision flash size bench instructions conformance readme lint

help:
	@sed -n 's/^## //p' Makefile

setup: build/.apt build/venv/.ready build/vendor/umqtt/simple.py build/node/.ready

build/.apt: Makefile tools/apt.sh
	@mkdir -p build
	@tools/apt.sh $(APT_PACKAGES)
	@touch $@

build/venv/.ready: tools/requirements.txt | build/.apt
	@echo "Installing Python packages into $(VENV) (tools/requirements.txt)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps -r tools/requirements.txt || \
	    { echo "pip could not fetch them: is there a network? The index is the one of \`pip config list\`." >&2; exit 1; }
	@touch $@

# The reference of the drop-in test and of the benchmark; also for boards whose board.toml says `umqtt = true`.
build/vendor/umqtt/simple.py: build/venv/.ready tools/vendor.py
	@$(PY) -m tools.vendor
	@touch $@

# MicroPython on a 32-bit heap, for the sizes. node and npm come with the Python packages.
NPM_FILES := tools/size/package.json tools/size/package-lock.json tools/size/.npmrc

build/node/.ready: build/venv/.ready $(NPM_FILES)
	@echo "Installing MicroPython's WebAssembly build into build/node (tools/size/package.json)"
	@mkdir -p build/node && cp $(NPM_FILES) build/node/
	@cd build/node && PATH="$(abspath $(VENV)/bin):$$PATH" npm ci --loglevel=error --no-audit --no-fund
	@touch $@

demo: setup
	@$(PY) -m tools.demo $(if $(TLS),--tls)

test: lint
	@$(PY) -m pytest -n 2 $(PYTEST)

broker: setup
	@$(PY) -m tools.devbroker run

provision: setup
	@$(PY) -m tools.provision $(BOARD)

flash: setup
	@$(PY) -m tools.flash $(BOARD) $(if $(PORT),--port $(PORT))

size: setup
	@$(PY) -m tools.size

bench: setup
	@$(PY) -m tools.bench

instructions: setup
	@tools/apt.sh valgrind
	@$(PY) -m tools.bench.instructions

conformance: setup
	@$(PY) -m tools.conformance $(CONFORMANCE)

readme: setup
	@$(PY) -m tools.readme

lint: setup
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
