# What a newcomer needs: `make demo` and `make test`; both set up whatever is missing and are quick when run again.
#
#   LIBTORCH=/path/to/site-packages/torch   use an installed torch 2.11.0 instead of downloading one
#   CUDA=0|1                                leave out or ask for the CUDA half (default: 1 where nvidia-smi finds a GPU)
#   JOBS=N                                  compile N files at a time (default: the cores, 2 GiB of memory each)
#   PROMPT="..."                            what the demo shows
.DEFAULT_GOAL := help
.PHONY: help setup configure build demo test test-browser asan presets tidy format format-check clean

CUDA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo 1 || echo 0)
PRESET := $(if $(filter 1,$(CUDA)),cuda,cpu)
JOBS ?= $(shell awk -v cores="$$(nproc)" '/MemAvailable/ {n = int($$2 / 2097152); print n < 1 ? 1 : n < cores ? n : cores}' \
          /proc/meminfo)
PROMPT ?= a large yellow star spinning on a plain navy background
export LIBTORCH
export CCACHE_DIR ?= $(CURDIR)/.cache/ccache

help:
	@echo "make demo      set up, build, and make demo.mp4 with the shipped model"
	@echo "make test      set up, build everything and run all tests and checks"
	@echo "make test-browser  the page of the server in Chromium, which it sets up"
	@echo "make setup     system packages and LibTorch only"
	@echo "make build     the program only: build/$(PRESET)/ospnext"
	@echo "make asan      the tests under address and undefined-behaviour sanitizers"
	@echo "make presets   configure and compile every preset, the CUDA one too (no GPU needed)"
	@echo "make format    lay out the sources with clang-format 14; format-check only looks"
	@echo "make tidy      clang-tidy over all sources (half a minute for each)"
	@echo "make clean     remove build/ (LibTorch in .deps/ stays)"

setup:
	@tools/setup.sh $(PRESET)

configure: setup
	@cmake --preset $(PRESET) $(if $(LIBTORCH),-DLIBTORCH=$(LIBTORCH)) >/dev/null

build: configure
	cmake --build --preset $(PRESET) --parallel $(JOBS) --target ospnext

demo: build
	build/$(PRESET)/ospnext generate --model models/tiny --prompt "$(PROMPT)" --output demo.mp4
	@echo "The video of \"$(PROMPT)\" is $(CURDIR)/demo.mp4"

test: configure
	cmake --build --preset $(PRESET) --parallel $(JOBS)
	@tools/run_tests.sh $(PRESET) $(JOBS)

test-browser: build
	@tools/setup_browser.sh
	python3 tests/browser/page_test.py build/$(PRESET)/ospnext

asan: setup
	cmake --preset asan $(if $(LIBTORCH),-DLIBTORCH=$(LIBTORCH))
	cmake --build --preset asan --parallel $(JOBS)
	@tools/run_tests.sh asan $(JOBS)

presets:
	@JOBS=$(JOBS) tools/check_presets.sh

tidy: configure
	@tools/tidy.sh

format:
	@tools/format.sh --write

format-check:
	@tools/format.sh

clean:
	rm -rf build
