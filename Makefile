# What people and CI run. Every target is a script in scripts/, which installs what it needs.
.DEFAULT_GOAL := help
steps := fmt lint unit store-test wasm-test size validate envoy-test
.PHONY: help wasm run demo test clean $(steps)

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

wasm: ## build the plugin: dist/mooring.wasm
	@scripts/wasm

run: ## run two Envoys with the plugin, hosts and a session store (STORE=redis: over Redis)
	@scripts/run

demo: ## show in a minute what the plugin does
	@scripts/demo

test: ## run everything that CI runs
	@scripts/test

fmt: ## check the formatting (cargo fmt puts it right)
lint: ## run clippy; a warning is an error
unit: ## run the native tests, without Envoy and Redis
store-test: ## run the session store's tests, over real Redis
wasm-test: ## run the core's unit tests as wasm, in Node
size: ## hold the plugin against its size budget
validate: ## check the configs in envoy/ with Envoy and Compose
envoy-test: ## run the black-box tests against a real Envoy
$(steps):
	@scripts/test $@

clean: ## remove what was built (tools stay in the cache folder)
	cargo clean
	rm -rf dist .run
