# depotd. `make help` lists the targets; the README says how to use them.
#
#   make run      installs what is missing, builds, starts on the embedded default
#   make check    installs what is missing, builds, runs every test
#
# Honours CC, CFLAGS, LDFLAGS, DESTDIR, PREFIX. BUILD is where everything generated goes.

CC       ?= cc
PREFIX   ?= /usr/local
DESTDIR  ?=
BUILD    ?= build
CFLAGS   ?= -O2 -g
PKG_CONFIG ?= pkg-config
PYTHON   ?= python3

PACKAGES := libmicrohttpd libpq sqlite3 uuid libcrypto jansson inih libsystemd
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wold-style-definition -Wvla
STD      := -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fno-common
ALL_CFLAGS = $(STD) $(WARNINGS) $(WERROR) $(CFLAGS) -pthread -Iinclude -I$(BUILD)/gen \
             $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
LIBS     = $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) -lm -pthread

SOURCES  := $(sort $(shell find src -name '*.c'))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o)
MAIN     := $(BUILD)/src/main.o
LIBRARY  := $(BUILD)/libdepotd.a

.PHONY: all help clean
.DEFAULT_GOAL := all

all: $(BUILD)/depotd ## build the daemon

# What is generated at build: the SQL, the page and the table of name extensions, embedded as C.
EMBED_SQL    := $(sort $(wildcard sql/postgres/*.sql sql/sqlite/*.sql))
EMBED_ASSETS := $(sort $(wildcard src/front/web/assets/*))
GENERATED    := $(BUILD)/gen/embedded_sql.c $(BUILD)/gen/embedded_assets.c $(BUILD)/gen/embedded_api.c \
                $(BUILD)/gen/media_extensions.c
GENERATED_OBJECTS := $(GENERATED:%.c=%.o)

$(BUILD)/gen/embedded_sql.c: src/embed/embed.py $(EMBED_SQL)
	@mkdir -p $(@D)
	$(PYTHON) src/embed/embed.py files embedded_sql $@ sql $(EMBED_SQL)

$(BUILD)/gen/embedded_assets.c: src/embed/embed.py $(EMBED_ASSETS)
	@mkdir -p $(@D)
	$(PYTHON) src/embed/embed.py files embedded_assets $@ src/front/web/assets $(EMBED_ASSETS)

$(BUILD)/gen/embedded_api.c: src/embed/embed.py src/front/rest/openapi.json
	@mkdir -p $(@D)
	$(PYTHON) src/embed/embed.py files embedded_api $@ src/front/rest src/front/rest/openapi.json

$(BUILD)/gen/media_extensions.c: src/embed/embed.py /etc/mime.types
	@mkdir -p $(@D)
	$(PYTHON) src/embed/embed.py media_extensions $@ /etc/mime.types

$(BUILD)/depotd: $(MAIN) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(LIBRARY): $(filter-out $(MAIN),$(OBJECTS)) $(GENERATED_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Unit and contract tests: one program per tests/unit/test_NAME.c.
UNIT_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
UNIT_TESTS   := $(UNIT_SOURCES:%.c=$(BUILD)/%)
CMOCKA_LIBS   = $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(CMOCKA_LIBS) $(LIBS)

unit: $(UNIT_TESTS) ## build and run the unit tests
	@set -e; for t in $(UNIT_TESTS); do echo "== $$t"; $$t; done

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

clean: ## remove everything that was built
	rm -rf build build-*

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
