# depotd. `make help` lists the targets; the README says how to use them.
#
#   make run      installs what is missing, builds, starts on the embedded default
#   make check    installs what is missing, builds, runs every test
#
# Honours CC, CFLAGS, LDFLAGS, WERROR, DESTDIR, PREFIX, SYSCONFDIR. BUILD is where everything generated goes; another set of
# flags in the same BUILD builds everything anew.

CC         ?= cc
CFLAGS     ?= -O2 -g
WERROR     ?=
DESTDIR    ?=
PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
SYSCONFDIR ?= /etc
BUILD      ?= build
PKG_CONFIG ?= pkg-config
PYTHON     ?= python3
INSTALL    ?= install
# make V=1 shows every command.
Q           = $(if $(V),,@)
say         = $(if $(V),,@printf '  %-6s %s\n' $(1) '$(2)')

# Debian's names. The first list is what a build takes, the second what the tests take besides.
DEBIAN_BUILD := gcc libc6-dev pkg-config python3 media-types libmicrohttpd-dev libpq-dev libsqlite3-dev uuid-dev \
                libssl-dev libjansson-dev libinih-dev libsystemd-dev zlib1g-dev
DEBIAN_CHECK := libcmocka-dev clang clang-tidy clang-format llvm libclang-rt-dev cppcheck gcovr postgresql \
                chromium chromium-driver nginx wrk curl systemd mandoc e2fsprogs xfsprogs nbdkit libnbd-bin fuse3 \
                slowhttptest wget

LIBRARIES  := libmicrohttpd libpq sqlite3 uuid libcrypto jansson inih libsystemd zlib
HAVE       := $(shell $(PKG_CONFIG) --exists $(LIBRARIES) 2>/dev/null && echo yes)
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
LIBS       := $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null) -lm -pthread

WARNINGS   := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
              -Wold-style-definition -Wvla
STANDARD   := -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fno-common
INCLUDES    = -Iinclude -I$(BUILD)/gen $(LIB_CFLAGS)
# Left out in a sanitizer's build (HARDEN=no); _FORTIFY_SOURCE wants optimisation, and may stand in CFLAGS already.
HARDEN     ?= yes
ifeq ($(HARDEN),yes)
OPTIMISED  := $(filter-out -O0,$(filter -O%,$(CFLAGS)))
HARDENING  := -fstack-protector-strong -fPIE \
              $(if $(OPTIMISED),$(if $(findstring FORTIFY_SOURCE,$(CFLAGS)),,-D_FORTIFY_SOURCE=2))
HARDENED_LINK := -pie -Wl,-z,relro -Wl,-z,now
endif
ALL_CFLAGS  = $(STANDARD) $(WARNINGS) $(WERROR) $(HARDENING) $(CFLAGS) -pthread $(INCLUDES)
ALL_LDFLAGS = $(HARDENED_LINK) $(LDFLAGS)

SOURCES    := $(sort $(shell find src -name '*.c'))
OBJECTS    := $(SOURCES:%.c=$(BUILD)/%.o)
MAIN       := $(BUILD)/src/main.o
LIBRARY    := $(BUILD)/libdepotd.a

.PHONY: all run check check-crash check-asan check-tsan fuzz lint format format-check bench install uninstall clean help \
        unit fuzzers shim docs style libraries bench-programs packages-build packages-check print-cflags FORCE
.DEFAULT_GOAL := all

all: $(BUILD)/depotd ## build the daemon, build/depotd

run: packages-build ## install what is missing, build, start on the embedded default
	@$(MAKE) --no-print-directory all
	@echo "Point a browser at the address below; Ctrl-C stops it. Files and database are in ./var/data."
	@exec $(BUILD)/depotd serve $(ARGS)

check: packages-build packages-check ## install what is missing, build, run every test
	@$(PYTHON) tests/run.py all

check-asan: packages-build packages-check ## unit and HTTP tests under AddressSanitizer and UBSan
	@$(PYTHON) tests/run.py asan

check-tsan: packages-build packages-check ## unit and HTTP tests under ThreadSanitizer
	@$(PYTHON) tests/run.py tsan

check-crash: packages-build packages-check ## thousands of crashes, power cuts and failures: hours
	@$(MAKE) --no-print-directory all shim
	@$(PYTHON) tests/crash/crash.py all $(ARGS)

fuzz: packages-build packages-check ## every fuzz target for FUZZ_SECONDS (60)
	@$(PYTHON) tests/run.py fuzz

lint: packages-build packages-check ## style checks, clang-tidy, cppcheck, gcc -fanalyzer
	@$(PYTHON) tests/run.py style lint

bench: packages-build packages-check ## measure beside nginx, a bare fsync loop and Express; ARGS=--help
	@$(MAKE) --no-print-directory all bench-programs
	@$(PYTHON) tests/bench/bench.py --depotd $(BUILD)/depotd $(ARGS)

BENCH_PROGRAMS := $(patsubst tests/bench/%.c,$(BUILD)/%,$(sort $(wildcard tests/bench/*.c)))

bench-programs: $(BENCH_PROGRAMS)

$(BENCH_PROGRAMS): $(BUILD)/%: tests/bench/%.c $(BUILD)/flags | libraries
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(shell $(PKG_CONFIG) --libs libpq) -pthread

FORMATTED = $(shell find src include tests -name '*.[ch]')

format: ## lay the sources out as .clang-format says
	clang-format -i $(FORMATTED)

format-check: ## say which sources are laid out otherwise
	@clang-format --dry-run --Werror $(FORMATTED)

# --- what is generated at build: the SQL, the page and the table of name extensions, embedded as C ---

EMBED_SQL    := $(sort $(wildcard sql/postgres/*.sql sql/sqlite/*.sql))
EMBED_ASSETS := $(sort $(wildcard src/front/web/assets/*))
GENERATED    := $(BUILD)/gen/embedded_sql.c $(BUILD)/gen/embedded_assets.c $(BUILD)/gen/embedded_api.c \
                $(BUILD)/gen/media_extensions.c
GENERATED_OBJECTS := $(GENERATED:%.c=%.o)

# $(call keep,TEXT): a recipe that writes its target only where the text is another one than last time.
keep = @mkdir -p $(@D); echo '$(1)' | cmp -s - $@ || echo '$(1)' >$@

# A file that was removed or renamed is newer than nothing: these say what there was.
$(BUILD)/gen/names: FORCE
	$(call keep,$(EMBED_SQL) $(EMBED_ASSETS))

$(BUILD)/sources: FORCE
	$(call keep,$(SOURCES))

$(BUILD)/gen/embedded_sql.c: src/embed/embed.py $(EMBED_SQL) $(BUILD)/gen/names
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)$(PYTHON) src/embed/embed.py files embedded_sql $@ sql $(EMBED_SQL)

$(BUILD)/gen/embedded_assets.c: src/embed/embed.py $(EMBED_ASSETS) $(BUILD)/gen/names
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)$(PYTHON) src/embed/embed.py files embedded_assets $@ src/front/web/assets $(EMBED_ASSETS)

$(BUILD)/gen/embedded_api.c: src/embed/embed.py src/front/rest/openapi.json
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)$(PYTHON) src/embed/embed.py files embedded_api $@ src/front/rest src/front/rest/openapi.json

$(BUILD)/gen/media_extensions.c: src/embed/embed.py /etc/mime.types
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)$(PYTHON) src/embed/embed.py media_extensions $@ /etc/mime.types

# --- the program ---

libraries:
ifneq ($(HAVE),yes)
	@echo "Libraries are missing. As root: apt-get install $(DEBIAN_BUILD)" >&2
	@echo "(or let make run do it). $(PKG_CONFIG) says:" >&2
	@$(PKG_CONFIG) --print-errors --exists $(LIBRARIES)
endif

# Rewritten only when the compiler or its flags are others than last time.
$(BUILD)/flags: FORCE
	$(call keep,$(CC) $(ALL_CFLAGS))

$(BUILD)/link-flags: FORCE
	$(call keep,$(ALL_LDFLAGS) $(LIBS))

$(BUILD)/depotd: $(MAIN) $(LIBRARY) $(BUILD)/link-flags
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(MAIN) $(LIBRARY) $(LIBS)

$(LIBRARY): $(filter-out $(MAIN),$(OBJECTS)) $(GENERATED_OBJECTS) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/%.o: %.c $(BUILD)/flags | libraries $(GENERATED)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# --- tests: one program for each tests/unit/test_NAME.c and tests/fuzz/fuzz_NAME.c ---

# What a rule made on the way is kept, for the next build.
.SECONDARY:

UNIT_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(filter-out $(UNIT_SOURCES),$(sort $(wildcard tests/unit/*.c)))
UNIT_TESTS   := $(UNIT_SOURCES:%.c=$(BUILD)/%)
CMOCKA_LIBS   = $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(UNIT_HELPERS:%.c=$(BUILD)/%.o) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(CMOCKA_LIBS) $(LIBS)

unit: $(UNIT_TESTS) ## build the unit tests; run them, unless RUN=no
ifneq ($(RUN),no)
	@set -e; for t in $(UNIT_TESTS); do echo "== $$t"; $$t; done
endif

FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TARGETS := $(FUZZ_SOURCES:%.c=$(BUILD)/%)

# Wants CC=clang and CFLAGS with -fsanitize=fuzzer-no-link; tests/run.py knows.
$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

fuzzers: $(FUZZ_TARGETS)

# A library that stands before libc and makes calls fail; only tests load it, under an unchanged binary. Flags of its own: it
# defines both open() and open64(), which the macros for large files and fortified functions make one.
shim: $(BUILD)/fault_shim.so ## build the library that makes system calls fail, for tests

$(BUILD)/fault_shim.so: tests/shim/fault_shim.c
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) $(WERROR) -O2 -g -fPIC -shared -o $@ $< -ldl -pthread

style: ## the rules of the house that a script can check
	@$(PYTHON) tests/run.py style

print-cflags:
	@echo $(STANDARD) $(INCLUDES) -pthread

# --- documentation that is made from the table of configuration keys; a test compares ---

docs: $(BUILD)/depotd ## write docs/depotd.conf and docs/depotd.conf.5 anew from the table
	$(PYTHON) tests/style/generated_docs.py --write $(BUILD)/depotd

# --- installing ---

UNITDIR     = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
MANDIR      = $(PREFIX)/share/man
DOCDIR      = $(PREFIX)/share/doc/depotd

install: all ## install below DESTDIR and PREFIX
	$(INSTALL) -D -m 755 $(BUILD)/depotd $(DESTDIR)$(BINDIR)/depotd
	$(INSTALL) -d $(DESTDIR)$(UNITDIR)
	sed 's,/usr/local/bin/,$(BINDIR)/,' systemd/depotd.service >$(DESTDIR)$(UNITDIR)/depotd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/depotd.service
	$(INSTALL) -D -m 644 systemd/depotd.socket $(DESTDIR)$(UNITDIR)/depotd.socket
	$(INSTALL) -D -m 644 systemd/depotd.sysusers $(DESTDIR)$(SYSUSERSDIR)/depotd.conf
	$(INSTALL) -D -m 644 systemd/depotd.tmpfiles $(DESTDIR)$(TMPFILESDIR)/depotd.conf
	$(INSTALL) -D -m 644 docs/depotd.8 $(DESTDIR)$(MANDIR)/man8/depotd.8
	$(INSTALL) -D -m 644 docs/depotd.conf.5 $(DESTDIR)$(MANDIR)/man5/depotd.conf.5
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 644 README.md LICENSE docs/depotd.conf $(wildcard docs/*.md) $(DESTDIR)$(DOCDIR)
	test -e $(DESTDIR)$(SYSCONFDIR)/depotd/depotd.conf || \
		$(INSTALL) -D -m 644 docs/depotd.conf $(DESTDIR)$(SYSCONFDIR)/depotd/depotd.conf

uninstall: ## remove what install put there; the configuration and the data stay
	rm -f $(DESTDIR)$(BINDIR)/depotd $(DESTDIR)$(UNITDIR)/depotd.service $(DESTDIR)$(UNITDIR)/depotd.socket \
		$(DESTDIR)$(SYSUSERSDIR)/depotd.conf $(DESTDIR)$(TMPFILESDIR)/depotd.conf \
		$(DESTDIR)$(MANDIR)/man8/depotd.8 $(DESTDIR)$(MANDIR)/man5/depotd.conf.5
	rm -rf $(DESTDIR)$(DOCDIR)

# --- housekeeping ---

packages-build:
	@sh tests/packages.sh $(DEBIAN_BUILD)

packages-check:
	@sh tests/packages.sh $(DEBIAN_CHECK)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

clean: ## remove everything that was built
	rm -rf build build-*

-include $(OBJECTS:.o=.d) $(GENERATED:.c=.d) $(UNIT_TESTS:=.d) $(UNIT_HELPERS:%.c=$(BUILD)/%.d) $(FUZZ_TARGETS:=.d)
