# The project's entry points. Each installs what it needs first; what they do in detail is in tools/.
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

.PHONY: help build test lab check clean
help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

build: ## Binaries, static guest programs and the guest kernel
	@tools/setup
	@cargo build --release --package cli --package enclave-hypervisor
	@tools/build-guest-programs
	@enclave-init/kernel/build >/dev/null

test: build ## All tests, the boots of a real Linux guest included
	@tools/run-tests

lab: ## Run CMD='...' where KVM can run a kernel: on this machine if it can, else in the nested lab
	@tools/setup
	@tools/lab sh -c "$$LAB_COMMAND"
lab: export LAB_COMMAND := $(value CMD)

check: ## Format, lints, licences, bans, sources, links
	@tools/setup check
	@tools/check

clean: ## Remove what was built here; the cache stays
	cargo clean
