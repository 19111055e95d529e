# `make help` lists what there is. STACK=blue works on another stack, NODE=core-02 names a node.
export STACK ?= dev
export TARGET ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
# Two targets at once would work on the same stack.
.NOTPARALLEL:
.PHONY: help up check e2e life chaos preview pr-preview down status repair ssh logs env bench plot docs fmt lock

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.* ## (.*)/\1\t\2/p' Makefile | expand -t 12

up: ## everything that is missing, then the stack; ends with the url and the page
	@tools/setup up && . ./.env && python -m tools.up

check: ## everything that is missing, then format, lint, types and the fast tests
	@tools/check

e2e: ## the real engine on real nodes, start to end (TARGET=libvirt: virtual machines, TARGET=ssh: hosts that exist)
	@tools/e2e

life: ## of those, the ones about the life of a node: rebuilt, added, removed, dead, changed by hand, cut off
	@SELECT=life tools/e2e

chaos: ## cuts up, rebuild and down off at N random moments each, and goes on (make chaos N=20 SEED=1)
	@CHAOS_N="$(or $(N),20)" CHAOS_SEED="$(SEED)" SELECT=life tools/e2e -s -k test_chaos

preview: ## what `make up` would change; needs no Docker and no node
	@tools/setup preview && . ./.env && pulumi preview --diff --stack "$$STACK"

pr-preview: ## what a change does to a stack, in Markdown for a pull request: make pr-preview BASE=origin/main
	@tools/setup engine && . ./.env && python -m tools.preview

down: ## takes the stack away, to the last file
	@tools/setup down && . ./.env && python -m tools.down

status: ## nodes, services, tasks and the release being served; each ok, or what to do
	@tools/setup preview && . ./.env && python -m tools.status

repair: ## brings back what is dead, missing or changed by hand
	@tools/setup up && . ./.env && python -m tools.repair

ssh: ## a shell on a node: make ssh NODE=core-01
	@tools/setup preview && . ./.env && tools/ssh $(NODE)

logs: ## all proxies' and backends' logs, with the nodes' names
	@tools/setup preview && . ./.env && tools/logs

env: ## the exports for plain pulumi, to be read by eval
	@tools/setup env

bench: ## figures, against a plain shell script in the same run
	@trap 'tools/setup stop-daemon' EXIT; tools/setup up && . ./.env && python -m tests.bench

plot: ## draws docs/answers.svg from a run's records (E2E_LOGS=FOLDER make e2e; make plot LOGS=FOLDER)
	@tools/setup preview && . ./.env && python -m tools.plot --output docs/answers.svg \
	  "$(LOGS)/test_main_job/load-node-killed.json" "$(LOGS)/test_life/load-rebuild-of-all.json"

docs: ## writes the settings reference, in docs/settings.md and Pulumi.yaml, from components/config.py
	@tools/setup preview && . ./.env && python -m tools.docs

fmt: ## formats the Python sources
	@tools/setup preview && . ./.env && ruff format . && ruff check --fix .

lock: ## compiles requirements.txt from pyproject.toml
	@tools/setup preview && . ./.env && CUSTOM_COMPILE_COMMAND="make lock" pip-compile --quiet --upgrade --output-file requirements.txt pyproject.toml
