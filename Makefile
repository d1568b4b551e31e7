# What people and CI run. The work is done by scripts in scripts/, which install what they need.
.DEFAULT_GOAL := help
steps := fmt lint unit fuzz-test store-test wasm-test size artefact-test cost-test validate envoy-test clients-test deploy-test compose-test monitoring-test chaos-test
.PHONY: help wasm cli image run demo check test nightly fresh-test test-matrix bench bench-scale bench-core fleet fuzz chaos soak screenshots clean $(steps)

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 19

wasm: ## build the plugin: dist/mooring.wasm
	@scripts/wasm

cli: ## build the command line: dist/mooring
	@scripts/cli

image: ## pack the plugin into an OCI image for Istio and Envoy Gateway: dist/image
	@scripts/image

run: ## run two Envoys with the plugin, hosts and a session store (STORE=redis: over Redis)
	@scripts/run

demo: ## show in a minute what the plugin does
	@scripts/demo

check: ## run what takes a minute before a commit: fmt, lint, the core's tests on a fake proxy, and those of the documentation
	@scripts/test fmt lint core-test

test: ## run everything that CI runs
	@scripts/test

nightly: ## what is too long for make test: other Envoys, fuzzing, chaos at full size, the long run, a bare machine (5 hours)
	@scripts/nightly

fresh-test: ## clone into a bare Debian 12, and try run, image, test and bench there (an hour)
	@scripts/fresh

fmt: ## check the formatting of Rust and Python (cargo fmt and ruff format put it right)
lint: ## run clippy, rustdoc and cargo-deny, and check scripts, workflows and spelling; a warning is an error
unit: ## run the native tests, without Envoy and Redis
fuzz-test: ## replay what fuzzing saved
store-test: ## run the session store's tests, over real Redis
wasm-test: ## run the core's unit tests as wasm, in Node
size: ## hold the plugin against its size budget
artefact-test: ## look into the built plugin: what in it can trap, and from where that can be reached
cost-test: ## compare what a request costs the built plugin, in host calls and instructions (UPDATE_COSTS=1: write it down)
validate: ## check the configs in envoy/ with Envoy and Compose
envoy-test: ## run the black-box tests against a real Envoy
clients-test: ## run real clients through a real Envoy: a browser, curl, Python, Node.js, gRPC, WebSocket
deploy-test: ## check what deploy/ has: objects, images, and what Istio and Envoy Gateway make of them in a real Envoy
compose-test: ## try the compose file of envoy/ in real containers: Docker's, or those of a podman of its own
monitoring-test: ## try rules, alerts and dashboard on a real Prometheus that scrapes real Envoys
chaos-test: ## break hosts, Envoys, stores and clocks under load, in small
$(steps):
	@scripts/test $@

test-matrix: ## run the black-box tests on every Envoy from 1.36 to 1.40; writes docs/compatibility.md
	@scripts/matrix

bench: ## measure whole proxies, ours and others, side by side; writes the table into docs/performance.md
	@scripts/bench peers

bench-scale: ## measure what more sessions, keys, workers, hosts and routes cost; writes tables into docs/performance.md
	@scripts/bench scale

bench-core: ## time the core's parts, natively
	@cargo bench --locked --package benches --bench core

fleet: ## simulate 100 proxies with a session store: lookups, hits and renewals by ttl, entries, traffic (OPTIONS: scripts/fleet --help)
	@scripts/fleet $(OPTIONS)

fuzz: ## fuzz what reads bytes, and the filter as a whole (TIME: so many seconds for each target)
	@scripts/fuzz

chaos: ## chaos-test at full size; writes its table into docs/reliability.md
	@scripts/endurance chaos

soak: ## an hour of everything (TIME: so many seconds); writes its figures into docs/reliability.md
	@scripts/endurance soak

screenshots: ## take the pictures of docs/monitoring.md: Prometheus, and the dashboard (7 minutes)
	@scripts/screenshots

clean: ## remove what was built (tools stay in the cache folder)
	cargo clean
	rm -rf dist .run fuzz/target
