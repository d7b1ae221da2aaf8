# quire - builds with GNU make and nothing else; sources are found, not listed.
#
#   make            the programs, in build/bin
#   make check      everything that is tested, ends in "N passed, N failed"
#   make demo       two hosts, real mail, a crash; make bench: the table of the README
#   make asan       unit tests, transcripts, simulator and kill loop under ASan and UBSan
#   make fuzz-NAME  one fuzz target, FUZZ_SECONDS long
#   make install DESTDIR= PREFIX=

BUILD   ?= build
PREFIX  ?= /usr/local
SAN     ?=
CC      = gcc
CLANG   ?= clang-14
VERSION := $(shell sed -n '1s/^\#\# *\([0-9][^ ]*\).*/\1/p' CHANGES.md 2>/dev/null || echo 0)

CFLAGS  ?= -O2 -g
WARN    = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wvla \
          -Wno-unused-parameter -Wno-missing-field-initializers -Werror
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DQUIRE_VERSION='"$(VERSION)"' -DQUIRE_PREFIX='"$(PREFIX)"' \
          -Isrc -I. $(WARN) $(CFLAGS) -fno-strict-aliasing -fno-omit-frame-pointer -MMD -MP
LIBS    = -luring -lzstd -lldns -lcdb -lpthread
ifneq ($(SAN),)
ALL_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -DQUIRE_SANITIZED
LDSAN   = -fsanitize=address,undefined
else
ALL_CFLAGS += -fstack-protector-strong -D_FORTIFY_SOURCE=2
LIBS   += -ljemalloc
endif

SRCS   := $(sort $(wildcard src/*/*.c))
TOOLS  := $(sort $(wildcard tools/*.c bench/*.c))
MAINS  := $(filter %_main.c,$(SRCS) $(TOOLS))
LIBSRC := $(filter-out %_main.c,$(SRCS))
TOOLLIB:= $(filter-out %_main.c,$(TOOLS))
OBJ     = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
PROGS  := $(patsubst %_main.c,$(BUILD)/bin/%,$(notdir $(MAINS)))
UNITS  := $(sort $(wildcard tests/unit/test_*.c))
UNITBIN:= $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNITS))
FUZZES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZBIN:= $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZES))
DAMAGE := $(sort $(wildcard tests/sim/damage*.c))
SIMSRC := $(filter-out $(DAMAGE),$(sort $(wildcard tests/sim/*.c)))
FUZZ_SECONDS ?= 15
# V=1 shows the commands.
Q      := $(if $(V),,@)
say     = $(if $(V),,@echo "  $(1)")

.PHONY: all lib clean
.DELETE_ON_ERROR:
.SECONDARY:
all: $(PROGS)
lib: $(BUILD)/lib.a

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC   $<)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A partly built archive must never look finished, and a removed source must leave it.
$(BUILD)/lib.a: $(call OBJ,$(LIBSRC) $(TOOLLIB))
	@rm -f $@
	$(Q)ar rcs $@ $^

define PROG_RULE
$(BUILD)/bin/$(patsubst %_main.c,%,$(notdir $(1))): $(call OBJ,$(1)) $(BUILD)/lib.a
	@mkdir -p $$(@D)
	$(call say,LINK $$@)
	$(Q)$(CC) $(LDSAN) -o $$@ $$^ $(LIBS) $$(LIBS_$(patsubst %_main.c,%,$(notdir $(1))))
endef
$(foreach m,$(MAINS),$(eval $(call PROG_RULE,$(m))))
LIBS_quire = -ljansson

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/lib.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(LDSAN) -o $@ $^ -lcmocka $(LIBS) -ljansson

.PHONY: unit test-unit
unit: $(UNITBIN)
# make test-unit T=span: one of them, seen
test-unit: $(BUILD)/unit/test_$(T)
	$(BUILD)/unit/test_$(T)

# Fuzz targets are built whole by clang, with its own copy of the library.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(LIBSRC) $(TOOLLIB)
	@mkdir -p $(@D)
	$(call say,CLANG $@)
	$(Q)$(CLANG) -std=gnu11 -D_GNU_SOURCE -DQUIRE_SANITIZED -DQUIRE_VERSION='"$(VERSION)"' -DQUIRE_PREFIX='"$(PREFIX)"' \
	  -Isrc -I. -O1 -g -fno-strict-aliasing -w -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined -o $@ $< $(BUILD)/fuzz/lib.a -luring -lzstd -lldns -lcdb -lpthread
$(FUZZBIN): $(BUILD)/fuzz/lib.a
$(BUILD)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CLANG $@)
	$(Q)$(CLANG) -std=gnu11 -D_GNU_SOURCE -DQUIRE_SANITIZED -DQUIRE_VERSION='"$(VERSION)"' -DQUIRE_PREFIX='"$(PREFIX)"' \
	  -Isrc -I. -O1 -g -fno-strict-aliasing -w -MMD -MP -fsanitize=fuzzer-no-link,address,undefined \
	  -fno-sanitize-recover=undefined -c -o $@ $<
$(BUILD)/fuzz/lib.a: $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(LIBSRC) $(TOOLLIB))
	@rm -f $@
	$(Q)ar rcs $@ $^
fuzz-%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/fuzz/corpus/$* tests/fuzz/corpus/$*
	$(BUILD)/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/corpus/$* tests/fuzz/corpus/$*

# The simulator: the unmodified library, a world of its own.
$(BUILD)/sim: $(call OBJ,$(SIMSRC)) $(BUILD)/lib.a
	$(call say,LINK $@)
	$(Q)$(CC) $(LDSAN) -o $@ $^ $(LIBS)

# Every kind of damage to journals that the real writer made: how much of it is found.
$(BUILD)/damage: $(call OBJ,$(DAMAGE) tests/sim/disk.c) $(BUILD)/lib.a
	$(call say,LINK $@)
	$(Q)$(CC) $(LDSAN) -o $@ $^ $(LIBS)

# A file system that forgets what was not synced, for tests/sys; no program of ours needs libfuse.
$(BUILD)/forgetfs: tests/sys/forgetfs.c
	@mkdir -p $(@D)
	$(call say,CC   $@)
	$(Q)$(CC) $(filter-out -Isrc -I. -MMD -MP,$(ALL_CFLAGS)) $(LDSAN) -D_FILE_OFFSET_BITS=64 -I/usr/include/fuse3 -o $@ $< -lfuse3 -lpthread

clean:
	rm -rf $(BUILD)

-include $(wildcard Makefile.d/*.mk)
-include $(shell find $(BUILD)/obj $(BUILD)/fuzz/obj -name '*.d' 2>/dev/null)
