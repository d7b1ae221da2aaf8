# Everything that is tested.  Each runner ends in "N passed, N failed" on a line of its own; the
# last line of `make check` is their sum.

# The runners are Python; they leave nothing in the tree.
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: deps deps-demo deps-test peers sim check asan soak demo bench lint fmt
deps:
	@tools/install-deps build
deps-demo:
	@tools/install-deps demo
deps-test:
	@tools/install-deps test
peers: deps-test
	@tools/fetch-peers $(BUILD)/peers

check: deps-test peers
	@tests/run check $(BUILD)
asan: deps-test peers
	@tests/run asan $(BUILD)
soak: deps-test peers
	@tests/run soak $(BUILD)
# make sim SEED=n repeats one world, of the journal alone and of each guest; GUEST=name: of that one
SEED ?= 1
sim: $(BUILD)/sim
	$(BUILD)/sim --seeds 1 --seed $(SEED) $(if $(GUEST),--guest $(GUEST))
demo: deps-demo
	@tools/fetch-peers $(BUILD)/peers nsd
	@$(MAKE) --no-print-directory -s -j$$(nproc) all BUILD=$(BUILD)
	@tools/demo $(BUILD)
bench: deps-test peers
	@bench/run $(BUILD)
lint:
	@tools/lint
fmt:
	clang-format -i $(shell git ls-files '*.c' '*.h')
