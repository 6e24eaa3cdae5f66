# The project's entry points. Each installs what it needs first; what they do in detail is in tools/.
target := $(or $(CARGO_TARGET_DIR),target)
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

.PHONY: help build release run test lab bench check lines soak fuzz clean
help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

build: ## The programs of host and guest, static but for one, and the guest kernel
	@tools/setup
	@tools/build-programs
	@enclave-init/kernel/build >/dev/null

release: ## The same and an archive with hashes in target/dist; the same bytes from the same source and compiler
	@tools/setup
	@tools/release

run: build ## A demo: build an image, boot it, verify its attestation document, terminate it
	@tools/lab tools/run-demo "$(target)/release"

test: ## All tests, the boots of a real Linux guest included
	@tools/setup
	@tools/run-tests

lab: ## Run CMD='...' where KVM can run a kernel: on this machine if it can, else in the nested lab
	@tools/setup
	@tools/lab sh -c "$$LAB_COMMAND"
lab: export LAB_COMMAND := $(value CMD)

bench: build ## The benchmarks, peers measured in the same session (PARTS='boot vsock' for some)
	@tools/bench $(PARTS)

check: ## Format, lints, licences, bans, sources, links, what documents say of the source
	@tools/setup check
	@tools/check

lines: ## How many lines a reviewer reads: on the measured-boot path, in each process
	@tools/lines

soak: build ## The long forms of the tests, for SOAK_HOURS (4)
	@tools/soak

fuzz: ## The fuzz targets, for TIME (60) seconds each (TARGETS='nsm eif' for some)
	@tools/fuzz $(TARGETS)
fuzz: export FUZZ_SECONDS := $(or $(TIME),$(FUZZ_SECONDS),60)

clean: ## Remove what was built here; the cache stays
	cargo clean
