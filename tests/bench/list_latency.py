#!/usr/bin/env python3
"""Measures every list filter with every sort on a large table, on a private PostgreSQL.

    tests/bench/list_latency.py                     ten million rows (about 25 GB of disk, some ten minutes to load)
    tests/bench/list_latency.py --rows 200000       a quick look
    tests/bench/list_latency.py --keep DIR          keeps the cluster in DIR, and uses it again the next time
    … --keep DIR --save FILE --seconds 80           in pieces: each run measures what FILE has not yet, and the last prints all
    tests/bench/list_latency.py --check             no measurement: compares pages with a plain query, PostgreSQL and SQLite

The cluster lives in a temporary directory, listens on a Unix socket there, has PostgreSQL's own default settings, and is
removed at the end. The rows are made by SQL: types, owners, tags and attributes by zipf-like laws, sizes log-normal by
type, photographs named after their date (so that name and time go together), a tag that only a few weeks know.

The statements are those of sql/*/statements.sql, chosen as the head of their section "Lists" says; this file is that text in
Python. It talks to libpq through ctypes and needs nothing but the standard library.
"""
import argparse, ctypes, ctypes.util, hashlib, json, os, pathlib, pwd, random, re, shutil, sqlite3, subprocess, sys
import tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
NIL = "00000000-0000-0000-0000-000000000000"
LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
LOW, HIGH = -2**63, 2**63 - 1
NOW = 1_800_000_000_000
FIRST, SPAN = 1_700_000_000_000, 94_608_000_000  # the files were made in these three years

# What the choice of a way is made by; statements.sql says the same.
CAP_FETCH, CAP_FAR, CAP_PROBE, COUNTED, FAR_FEW, RAREST, WALK_ROWS = 12000, 2000, 24000, 4, 50, 200, 256
LIST_TRY, LIST_TIME, PAGE_TIME, FETCH_TIME, TOUCH_TIME, LEAST_TIME = 0.002, 0.006, 0.004, 0.007, 0.004, 0.0005
PIECE_FIRST, PIECE_GROWTH, PIECE_LEAST, PIECE_TIME, LARGE_TIME = 64, 2, 16, 0.005, 0.005
SEARCH_NAMES, SEARCH_LISTS, SEARCH_FETCH, SEARCH_COUNT, SEARCH_TIME, SEARCH_REST = 5000, 100_000, 2000, 0.030, 0.035, 0.008
HASTY = None  # a random.Random: the time of a page is then its choice, and often none, so that it stops anywhere


def statements(dialect):
    """Reads sql/DIALECT/statements.sql: names, fragments, and names made of fragments."""
    texts, composed, current = {}, {}, None
    for line in (ROOT / "sql" / dialect / "statements.sql").read_text().splitlines():
        head = re.match(r"-- (?:name|fragment): (\S+)(?: = (.*))?$", line)
        if head and head[2]:
            composed[head[1]], current = head[2].split(), None
        elif head:
            current = texts.setdefault(head[1], [])
        elif not line.startswith("--") and current is not None:
            current.append(line)
    texts = {name: "\n".join(lines).strip() for name, lines in texts.items()}
    for name, parts in composed.items():
        texts[name] = "\n".join(texts[part] for part in parts)
    return texts


def migrations(dialect):
    return [path.read_text() for path in sorted((ROOT / "sql" / dialect).glob("[0-9]*.sql"))]


def facet(kind, text):
    return int.from_bytes(hashlib.sha256((kind + text).encode()).digest()[:8], "big", signed=True)


# ---- the two databases -------------------------------------------------------------------------------------------

class Postgres:
    """One connection through libpq, statements prepared at first use, text parameters and results."""

    def __init__(self, conninfo):
        self.lib = lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
        for name in ("PQconnectdb", "PQprepare", "PQexecPrepared", "PQexec"):
            getattr(lib, name).restype = ctypes.c_void_p
        for name in ("PQerrorMessage", "PQresultErrorMessage", "PQgetvalue"):
            getattr(lib, name).restype = ctypes.c_char_p
        self.connection = ctypes.c_void_p(lib.PQconnectdb(conninfo.encode()))
        if lib.PQstatus(self.connection) != 0:
            raise RuntimeError(lib.PQerrorMessage(self.connection).decode())
        self.texts, self.prepared = statements("postgres"), set()
        self.run("session_setup")
        self.search_index = int(self.run("search_index")[0][0]) if self.has_schema() else 0

    def cpu_ms(self):
        """What the server's process has worked for this connection: what is left where the machine is busy with other things."""
        try:
            return int(pathlib.Path(f"/proc/{self.lib.PQbackendPID(self.connection)}/schedstat").read_text().split()[0]) / 1e6
        except OSError:
            return 0

    def has_schema(self):
        return bool(self.script("SELECT 1 WHERE to_regclass('depot_internal.file') IS NOT NULL"))

    def _rows(self, result):
        lib, result = self.lib, ctypes.c_void_p(result)
        if lib.PQresultStatus(result) not in (1, 2):
            raise RuntimeError(lib.PQresultErrorMessage(result).decode())
        width = lib.PQnfields(result)
        rows = [[None if lib.PQgetisnull(result, y, x) else lib.PQgetvalue(result, y, x).decode() for x in range(width)]
                for y in range(lib.PQntuples(result))]
        lib.PQclear(result)
        return rows

    def script(self, text):
        return self._rows(self.lib.PQexec(self.connection, text.encode()))

    def run(self, name, *values):
        if name not in self.prepared:
            self._rows(self.lib.PQprepare(self.connection, name.encode(), self.texts[name].encode(), 0, None))
            self.prepared.add(name)
        array = (ctypes.c_char_p * max(1, len(values)))(*[None if v is None else str(v).encode() for v in values])
        return self._rows(self.lib.PQexecPrepared(self.connection, name.encode(), len(values), array, None, None, 0))


class Sqlite:
    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.texts = statements("sqlite")
        self.script(self.texts["session_setup"])
        self.search_index = 3

    def script(self, text):
        self.connection.executescript(text)

    def run(self, name, *values):
        return self.connection.execute(self.texts[name], values).fetchall()


# ---- the list, as the program does it ------------------------------------------------------------------------------

class Query:
    def __init__(self, sort="-created", limit=50, **filters):
        self.descending, self.sort, self.limit = sort[0] == "-", sort.lstrip("-"), limit
        self.q = self.name = self.type = self.owner = self.sha256 = None
        self.tags, self.attributes = [], {}
        self.min_size, self.max_size, self.after, self.before = 0, HIGH, LOW, HIGH
        self.position = None  # (value, id) of the cursor
        for key, value in filters.items():
            assert hasattr(self, key), key
            setattr(self, key, value)

    def facets(self):
        """The most telling kind first."""
        found = [facet("a", f"{path}\0{value}") for path, value in self.attributes.items()]
        found += [facet("g", tag) for tag in self.tags]
        if self.owner is not None:
            found.append(facet("o", self.owner))
        if self.type is not None:
            found.append(facet("m", self.type[:-2]) if self.type.endswith("/*") else facet("t", self.type))
        return found


INDEXED = {0: r"(?!)", 1: r"[A-Za-z0-9]", 2: r"[^\W_]", 3: r"(?s:.)"}


def trigrams(level, q):
    """What the index can be asked for, none twice."""
    return list(dict.fromkeys(q[i:i + 3] for i in range(len(q) - 2) if re.fullmatch(INDEXED[level] + "{3}", q[i:i + 3])))


def one_word(level, q):
    return re.fullmatch(INDEXED[level] + "+", q) is not None


def longest_ascii(q):
    """What lower() of any database finds of q, whatever it makes of the rest."""
    return max(re.split(r"[^\x00-\x7f]+", q), key=len) or None if q else None


class Lister:
    def __init__(self, store):
        self.store, self.runs = store, []

    def page(self, query):
        """(rows, position of the next page or None)"""
        self.query, self.found, self.runs, self.patterns = query, [], [], [None] * 3
        self.wanted = query.limit + 1
        self.facets = query.facets()
        self.start, self.ended = query.position or self.first_position(), False
        self.began = time.perf_counter()
        self.choose()
        rows = self.found[:query.limit]
        if len(self.found) > query.limit:
            return rows, self.key(rows[-1])
        return rows, None if self.ended else self.start

    def first_position(self):
        query = self.query
        if query.sort == "created":
            return (query.before if query.descending else query.after), NIL
        if query.sort == "size":
            return (min(query.max_size + 1, HIGH) if query.descending else query.min_size), NIL
        return None, LAST if query.descending else NIL

    def key(self, row):
        return (row[1] if self.query.sort == "name" else int(row[{"created": 6, "size": 2}[self.query.sort]])), row[0]

    def run(self, source, budget, one=None, limit=0, most=10**9):
        """Whether it gave all the rows that it was asked for"""
        query, by_name = self.query, self.query.sort == "name"
        asked = min(most, self.wanted - len(self.found))
        name = f"files_{source}_{query.sort}_{'desc' if query.descending else 'asc'}"
        time_us = int(1e6 * max(LEAST_TIME, limit - (time.perf_counter() - self.began)))
        if HASTY and not source.startswith("walk_"):
            time_us = HASTY.choice((0, 0, 100, 200, 300, 500, 1000, 3000))
        rows = self.store.run(
            name, asked, budget, NOW, one, json.dumps(self.facets, separators=(",", ":")),
            None if by_name else self.start[0], self.start[0] if by_name else None, self.start[1],
            query.after, query.before, query.min_size, query.max_size, query.name, query.sha256, query.q,
            longest_ascii(query.q), time_us, *self.patterns)
        self.runs.append((name, budget))
        passed = [row for row in rows if int(row[13])]
        self.found += passed
        full = len(passed) == asked
        if full or rows and int(rows[-1][14]):
            self.start = self.key(rows[-1])
        else:
            self.ended = True
        return full

    def done(self):
        return self.ended or len(self.found) >= self.wanted

    def walk(self, source, one, budget, limit):
        """Until the page is full, the list ends, or `limit` seconds have gone since the page was begun."""
        while not self.done():
            began = time.perf_counter()
            if self.run(source, budget, one, limit, WALK_ROWS):
                budget = WALK_ROWS
            now = time.perf_counter()
            budget = min(16000, int(budget * (limit - (now - self.began)) / (now - began)))
            if budget < 200:
                return

    def next_piece(self, piece, began, limit):
        """How many rows may be read until `limit` at the pace of those that were read since `began`."""
        now = time.perf_counter()
        return min(PIECE_GROWTH * piece, int(piece * (limit - (now - self.began)) / (now - began)))

    def is_last_piece(self, piece):
        return self.wanted - len(self.found) <= piece

    def read_page(self, kind, one, budget):
        """Whether that took all of the time"""
        piece, limit = PIECE_FIRST, PAGE_TIME
        while not self.is_last_piece(piece) and not self.done() and piece >= PIECE_LEAST:
            began = time.perf_counter()
            self.run("page_" + kind, piece, one, limit)
            piece, limit = self.next_piece(piece, began, PIECE_TIME), PIECE_TIME
        if self.is_last_piece(piece) and not self.done() and piece >= PIECE_LEAST:
            self.run("page_" + kind, budget, one, limit)
        return time.perf_counter() - self.began >= PAGE_TIME

    def fetch(self, source, one=None):
        budget, piece = 4 * self.wanted, PIECE_FIRST
        limit = FETCH_TIME if self.query.q is None else self.search_limit()
        while not self.done() and piece >= PIECE_LEAST:
            began = time.perf_counter()
            if self.is_last_piece(piece):
                self.run(source, budget, one)
                budget = 100000
            else:
                self.run(source, piece, one)
                piece = self.next_piece(piece, began, limit)

    def search_limit(self):
        return max(SEARCH_TIME, time.perf_counter() - self.began + SEARCH_REST)

    def choose(self):
        query = self.query
        created = query.sort != "created" and (query.after, query.before) != (LOW, HIGH)
        size = query.sort != "size" and (query.min_size, query.max_size) != (0, HIGH)
        one = self.facets[0] if self.facets else None
        list_time = LIST_TIME if self.is_last_piece(PIECE_FIRST) else LARGE_TIME
        if query.name is not None and query.sort == "name":
            return self.walk("walk_same", None, 1000, list_time)
        if query.sha256 is not None and query.sort == "created":
            return self.walk("walk_content", None, 1000, list_time)
        narrow = query.name is not None or query.sha256 is not None or created or size
        told = query.q is None and query.name is None and query.sha256 is None and len(self.facets) < 2
        kind = "facet" if self.facets else "all"
        walk, budget = "walk_" + kind, 1000
        if told and not narrow:
            return self.read_page(kind, one, self.wanted + 16) or self.walk(walk, one, budget, list_time)
        if narrow and self.fetch_few(created, size):
            return
        if len(self.facets) > 1:
            by_name = query.sort == "name"
            one = int(self.store.run(f"files_rarest_{query.sort}_{'desc' if query.descending else 'asc'}", json.dumps(self.facets[:COUNTED]),
                                     RAREST, None if by_name else self.start[0], self.start[0] if by_name else None,
                                     self.start[1])[0][0])
            self.runs.append((f"files_rarest_{query.sort}_{'desc' if query.descending else 'asc'}", one))
        table = query.sha256 is not None or query.q is not None and (self.facets or not query.q.isascii())
        budget = 200 if table else 1000
        if told and self.read_page(kind, one, budget):
            return
        self.walk(walk, one, budget, list_time if query.q is None else LIST_TRY)
        if query.q is None or self.done():
            return
        if self.search():
            return self.fetch("fetch_search")
        self.walk(walk, one, budget, self.search_limit())

    def search(self):
        """Whether the trigram index has few names with q; sets self.patterns."""
        q, run = self.query.q, self.store.run
        known = trigrams(self.store.search_index, q)
        if not known:
            return False
        known = [known[i * (len(known) - 1) // 7] for i in range(8)] if len(known) > 8 else known
        names, all_of, *each = [int(v or 0) for v in run("files_probe_search", q, *(known + [None] * 8)[:8])[0]]
        each = sorted(zip(each, known))
        self.runs.append(("files_probe_search", (names, all_of, each)))
        if names > SEARCH_NAMES or (all_of > SEARCH_NAMES and (sum(n for n, _ in each) > SEARCH_LISTS
                                                               or not one_word(self.store.search_index, q))):
            return False
        if all_of > SEARCH_NAMES:
            chosen = [re.sub(r"([\\%_])", r"\\\1", q)] * 3
        else:
            chosen = [text for n, text in each[:3] if n <= 32 * max(each[0][0], 2048)]
            chosen += chosen[:1] * (3 - len(chosen))
        self.patterns = [f"%{text}%" for text in chosen]
        left = int(1e6 * max(LEAST_TIME, SEARCH_COUNT - (time.perf_counter() - self.began)))
        n = int(run("files_count_search", q, SEARCH_FETCH + 1, left, *self.patterns)[0][0])
        self.runs.append(("files_count_search", n))
        return n <= SEARCH_FETCH

    def fetch_few(self, created, size):
        """Fetches what is narrowed down to a few files, by a name, a digest or a range."""
        query, ranges, began = self.query, [], time.perf_counter()
        nothing = (HIGH, LOW)
        times, sizes = (query.after, query.before) if created else nothing, (query.min_size, query.max_size) if size else nothing
        cap = CAP_FAR if self.facets and query.sort == "name" else CAP_FETCH
        if self.facets and (created or size):
            cap = min(cap, CAP_PROBE // (len(self.facets[:COUNTED]) * (created + size)))
        if query.name is not None or query.sha256 is not None or not self.facets:
            n = [int(v) for v in self.store.run("files_probe_all", query.name, CAP_FETCH + 1, *(nothing if self.facets else times),
                                                *(nothing if self.facets else sizes), query.sha256)[0]]
            self.runs.append(("files_probe_all", n))
            ranges += [(n[3], "fetch_sha256", None)] if query.sha256 is not None else []
            ranges += [(n[2], "fetch_name", None)] if query.name is not None else []
            ranges += [(n[0], "fetch_created", None)] if created and not self.facets else []
            ranges += [(n[1], "fetch_size", None)] if size and not self.facets else []
        if self.facets and (created or size):
            counts = [[int(v) for v in row] for row in
                      self.store.run("files_probe_facets", json.dumps(self.facets[:COUNTED]), cap + 1, *times, *sizes)]
            self.runs.append(("files_probe_facets", [row[1:] for row in counts]))
            ranges += [(row[1], "fetch_facet_created", row[0]) for row in counts if created]
            ranges += [(row[2], "fetch_facet_size", row[0]) for row in counts if size]
        caps = {"fetch_sha256": CAP_FAR, "fetch_facet_created": cap, "fetch_facet_size": cap}
        ranges = [one for one in ranges if one[0] <= caps.get(one[1], CAP_FETCH)]
        if not ranges:
            return False
        n, source, one = min(ranges, key=lambda r: r[0])
        far = source == "fetch_sha256" or "facet" in source and query.sort == "name"
        if far and n > FAR_FEW:
            low, high = {"fetch_facet_created": times, "fetch_facet_size": sizes}.get(source, (None, None))
            left = int(1e6 * max(LEAST_TIME, TOUCH_TIME - (time.perf_counter() - self.began)))
            touched = int(self.store.run(source.replace("fetch", "files_touch"), one, n + 1, left, low, high, query.sha256)[0][0])
            self.runs.append((source.replace("fetch", "files_touch"), touched))
            if touched > n:
                return False
        now = time.perf_counter()
        if n > CAP_FAR and now - self.began + 2 * (now - began) > FETCH_TIME:
            return False
        self.fetch(source, one)
        return True


# ---- the rows --------------------------------------------------------------------------------------------------------

TYPES = [  # type, extension, weight, mean and deviation of ln(size)
    ("image/jpeg", "jpg", 40, 14.5, 0.7), ("application/pdf", "pdf", 15, 12.5, 1.5), ("image/png", "png", 12, 12.0, 1.6),
    ("text/plain", "txt", 6, 8.0, 2.0), ("video/mp4", "mp4", 5, 17.5, 1.2),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx", 4, 11.0, 1.2),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", 3, 11.0, 1.3),
    ("application/zip", "zip", 3, 15.0, 2.5), ("application/octet-stream", "bin", 3, 13.0, 3.0),
    ("image/heic", "heic", 2, 14.3, 0.4), ("text/csv", "csv", 1.5, 11.0, 2.5), ("audio/mpeg", "mp3", 1.2, 15.4, 0.6),
    ("application/json", "json", 1, 8.5, 2.0), ("image/gif", "gif", 0.8, 12.0, 1.5), ("image/webp", "webp", 0.6, 11.5, 1.0),
    ("text/html", "html", 0.5, 9.5, 1.2), ("text/markdown", "md", 0.5, 8.0, 1.3), ("video/quicktime", "mov", 0.4, 18.0, 1.0),
    ("application/gzip", "gz", 0.3, 15.5, 2.2), ("video/webm", "webm", 0.3, 16.0, 1.3),
    ("image/svg+xml", "svg", 0.2, 8.5, 1.2), ("audio/flac", "flac", 0.1, 17.2, 0.4), ("application/x-tar", "tar", 0.08, 17.0, 2.0),
    ("application/epub+zip", "epub", 0.05, 13.5, 1.0), ("image/tiff", "tif", 0.03, 17.0, 0.8), ("font/woff2", "woff2", 0.02, 10.5, 0.4),
    ("application/x-7z-compressed", "7z", 0.01, 16.0, 2.0), ("model/stl", "stl", 0.003, 14.0, 1.5)]

PREPARE_ROWS = r"""
CREATE FUNCTION pg_temp.facet(kind text, a text, b text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
	SELECT ('x' || encode(substr(sha256(convert_to(kind || a, 'UTF8') || coalesce('\x00'::bytea || convert_to(b, 'UTF8'), '')),
	                             1, 8), 'hex'))::bit(64)::bigint $$;
CREATE TEMP TABLE kind (i int, type text, ext text, w float8, mu float8, sigma float8);
INSERT INTO kind VALUES %s;
CREATE TEMP TABLE pick AS SELECT s AS slot, k.*
  FROM (SELECT *, sum(w) OVER (ORDER BY i) - w AS lo, sum(w) OVER (ORDER BY i) AS hi, sum(w) OVER () AS total FROM kind) k,
       LATERAL generate_series(ceil(lo / total * 100000)::int, ceil(hi / total * 100000)::int - 1) s;
CREATE UNIQUE INDEX ON pick (slot);
CREATE TEMP TABLE word AS  -- English, from PostgreSQL's own comments; the shorter ones are the more frequent
SELECT row_number() OVER (ORDER BY length(w), md5(w)) - 1 AS i, w COLLATE "default" AS w
  FROM (SELECT DISTINCT lower((regexp_matches(description, '[A-Za-z]{4,}', 'g'))[1]) AS w FROM pg_description) x;
CREATE UNIQUE INDEX ON word (i);
ANALYZE pick; ANALYZE word;
SELECT setseed(0.42);
"""

INSERT_ROWS = r"""
INSERT INTO depot_internal.file (id, created_at, expires_at, size, sha256, visibility, name, name_folded, type, sniffed, owner,
                                 tags, attributes, facets, facet_bits)
SELECT id, ms, CASE WHEN r6 < 0.02 THEN 1900000000000 WHEN r6 < 0.0202 THEN 1750000000000 END, size,
       sha, CASE WHEN r5 < 0.8 THEN 'private' ELSE 'public' END,
       name, lower(name), type, CASE WHEN r5 < 0.7 THEN type END, owner, tags, attributes,
       facets, depot_internal.facet_bits(facets, sha)
  FROM (
	SELECT g.i, ms, (lpad(to_hex(ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id, h, p.type,
	       least(exp(p.mu + p.sigma * sqrt(-2 * ln(1 - r1)) * cos(2 * pi() * r2)), 5e12)::bigint AS size,
	       CASE WHEN p.ext IN ('jpg', 'heic', 'mp4', 'mov') AND r3 < 0.7
	            THEN CASE WHEN p.ext IN ('jpg', 'heic') THEN 'IMG_' ELSE 'VID_' END
	                 || to_char(to_timestamp(ms / 1000) AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MISS')
	                 || '.' || CASE WHEN r4 < 0.3 THEN upper(p.ext) ELSE p.ext END
	            WHEN p.ext = 'png' AND r3 < 0.5
	            THEN 'Screenshot from ' || to_char(to_timestamp(ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24-MI-SS') || '.png'
	            WHEN r3 > 0.985 THEN 'unnamed'
	            WHEN r3 > 0.98 THEN 'Relatório ' || w1.w || ' ÁÉ ' || (r4 * 1000)::int || '.' || p.ext
	            ELSE initcap(w1.w) || (ARRAY['_', '-', ' '])[1 + floor(r4 * 3)::int] || w2.w
	                 || CASE WHEN r4 < 0.8 THEN '_' || (r5 * 10000)::int ELSE '' END || '.' || p.ext END AS name,
	       'user' || floor(2000 * power(r7, 4))::int AS owner,
	       CASE WHEN r8 < 0.5 THEN '{}' WHEN r8 < 0.65 THEN ARRAY['inbox']
	            WHEN r8 < 0.67 AND ms BETWEEN 1750000000000 AND 1755000000000 THEN ARRAY['holiday-2025', 'inbox']
	            ELSE ARRAY['t' || floor(50000 * power(r9, 6))::int, 't' || floor(50000 * power(r10, 4))::int] END AS tags,
	       CASE WHEN r11 < 0.55 THEN '{}'
	            WHEN r11 < 0.8 THEN jsonb_build_object('project', 'p' || floor(1000 * power(r9, 5))::int)
	            WHEN r11 < 0.9 THEN jsonb_build_object('project', 'p' || floor(1000 * power(r9, 5))::int, 'ticket', 'T-' || g.i)
	            ELSE jsonb_build_object('camera', jsonb_build_object('model', 'M' || floor(100 * power(r10, 3))::int))
	       END AS attributes, r5, r6
	  FROM (SELECT i, %(first)s + (i * (%(span)s.0 / %(rows)s))::bigint AS ms, md5(i::text) AS h, random() r1, random() r2,
	               random() r3, random() r4, random() r5, random() r6, random() r7, random() r8, random() r9, random() r10,
	               random() r11, floor(random() * 100000)::int AS slot, floor(%(words)s * power(random(), 2))::int i1,
	               floor(%(words)s * power(random(), 3))::int i2
	          FROM generate_series(1, %(rows)s) i OFFSET 0) g
	  JOIN pick p ON p.slot = g.slot JOIN word w1 ON w1.i = g.i1 JOIN word w2 ON w2.i = g.i2
	 ORDER BY g.i) x,
  LATERAL (SELECT ARRAY[pg_temp.facet('t', type, NULL), pg_temp.facet('m', split_part(type, '/', 1), NULL), pg_temp.facet('o', owner, NULL)]
               || ARRAY(SELECT DISTINCT pg_temp.facet('g', t, NULL) FROM unnest(tags) t)
               || CASE WHEN attributes ? 'project' THEN ARRAY[pg_temp.facet('a', 'project', attributes->>'project')] ELSE '{}' END
               || CASE WHEN attributes ? 'ticket' THEN ARRAY[pg_temp.facet('a', 'ticket', attributes->>'ticket')] ELSE '{}' END
               || CASE WHEN attributes ? 'camera'
               THEN ARRAY[pg_temp.facet('a', 'camera.model', attributes->'camera'->>'model')] ELSE '{}' END AS facets,
               CASE WHEN r5 < 0.01 THEN sha256('') ELSE sha256(h::bytea) END AS sha) y;
INSERT INTO depot_internal.file_facet (facet, created_at, size, facet_bits, id, name)
SELECT x, created_at, size, facet_bits, id, name FROM depot_internal.file, unnest(facets) x;
"""


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def load(store, rows):
    """Fills an empty schema; the indexes are dropped for it and built again from their own definitions."""
    store.script("SET client_min_messages = warning")
    indexes = store.script("""
        SELECT i.indexrelid::regclass, i.indrelid::regclass, pg_get_indexdef(i.indexrelid), coalesce(c.conname, ''),
               coalesce(pg_get_constraintdef(c.oid), '')
          FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'p'
         WHERE i.indrelid IN ('depot_internal.file'::regclass, 'depot_internal.file_facet'::regclass)""")
    for index, table, _, constraint, _ in indexes:
        store.script(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}")
    store.script("SET enable_hashjoin = on; SET enable_seqscan = on; SET synchronous_commit = off")
    store.script(PREPARE_ROWS % ", ".join(f"({i}, '{t}', '{e}', {w}, {m}, {s})" for i, (t, e, w, m, s) in enumerate(TYPES)))
    words = store.script("SELECT count(*) FROM word")[0][0]
    store.script(INSERT_ROWS % {"rows": rows, "first": FIRST, "span": SPAN, "words": words})
    say("rows are in; indexes")
    store.script("SET maintenance_work_mem = '1GB'")
    for index, table, definition, constraint, text in indexes:
        store.script(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {text}" if constraint else definition)
    store.script("VACUUM ANALYZE depot_internal.file")
    store.script("VACUUM ANALYZE depot_internal.file_facet")
    store.script("CHECKPOINT")


# ---- what is measured ------------------------------------------------------------------------------------------------

SORTS = ["-created", "created", "-name", "name", "-size", "size"]


def samples(store, rows):
    """Values to filter by: what random files have."""
    ids = [store.script(f"SELECT id FROM depot_internal.file WHERE created_at >= {FIRST + random.randrange(SPAN)}"
                        " ORDER BY created_at, id LIMIT 1") for _ in range(300)]
    found = [store.run("file_by_id", one[0][0])[0] for one in ids if one]
    return [row for row in found if row]


def cases(files):
    """(title, function that makes one query's filters)"""
    pick = lambda: random.choice(files)
    def tags():
        while True:
            tags = json.loads(pick()[10])
            if tags:
                return tags
    def attribute(key, inner=None):
        while True:
            value = json.loads(pick()[11]).get(key)
            if value:
                return value[inner] if inner else value
    def word(low, high):
        while True:
            name = pick()[1].lower()
            n = random.randint(low, high)
            if len(name) >= n:
                at = random.randrange(len(name) - n + 1)
                return name[at:at + n]
    def period(days):
        after = FIRST + random.randrange(SPAN - days * 86_400_000)
        return {"after": after, "before": after + days * 86_400_000}
    def near(size):
        return {"min_size": int(size), "max_size": int(size) + int(size) // 100}
    def all_of(row):
        """Every filter but those that one file alone has: q, type, owner, its tags, sizes, times."""
        return {"q": row[1].lower()[1:5], "type": row[3], "owner": row[8], "tags": json.loads(row[10]),
                "min_size": int(row[2]) // 2, "max_size": int(row[2]) * 2,
                "after": int(row[6]) - 86_400_000 * 200, "before": int(row[6]) + 86_400_000 * 200}
    return [
        ("no filter", lambda: {}),
        ("type", lambda: {"type": pick()[3]}),
        ("type, any of 28", lambda: {"type": random.choice(TYPES)[0]}),
        ("type image/*", lambda: {"type": random.choice(("image", "video", "audio", "text", "application", "model")) + "/*"}),
        ("owner", lambda: {"owner": pick()[8]}),
        ("tag, common", lambda: {"tags": ["inbox"]}),
        ("tag, of some weeks", lambda: {"tags": ["holiday-2025"]}),
        ("tag, of a file", lambda: {"tags": [random.choice(tags())]}),
        ("tag, any", lambda: {"tags": [f"t{random.randrange(50000)}"]}),
        ("attr.project", lambda: {"attributes": {"project": attribute("project")}}),
        ("attr.ticket (unique)", lambda: {"attributes": {"ticket": attribute("ticket")}}),
        ("attr.camera.model", lambda: {"attributes": {"camera.model": attribute("camera", "model")}}),
        ("name", lambda: {"name": pick()[1]}),
        ("name, common", lambda: {"name": "unnamed"}),
        ("sha256", lambda: {"sha256": pick()[5]}),
        ("sha256 of the empty file", lambda: {"sha256": hashlib.sha256(b"").hexdigest()}),
        ("min_size", lambda: {"min_size": int(pick()[2])}),
        ("max_size", lambda: {"max_size": int(pick()[2])}),
        ("size, narrow", lambda: near(pick()[2])),
        ("size, above 10^k", lambda: {"min_size": 10 ** random.randrange(3, 12)}),
        ("created_after", lambda: {"after": FIRST + random.randrange(SPAN)}),
        ("created, a day", lambda: period(1)),
        ("created, a month", lambda: period(30)),
        ("created, a year", lambda: period(365)),
        ("sha256 and type", lambda: {"sha256": hashlib.sha256(b"").hexdigest(), "type": pick()[3]}),
        ("name and type", lambda: {"name": "unnamed", "type": pick()[3]}),
        ("name and a month", lambda: {"name": "unnamed", **period(30)}),
        ("two tags", lambda: {"tags": [random.choice(tags()), random.choice(tags())]}),
        ("two tags of a file", lambda: {"tags": tags()}),
        ("type and tag", lambda: {"type": pick()[3], "tags": [random.choice(tags())]}),
        ("owner and type", lambda: {"owner": pick()[8], "type": pick()[3]}),
        ("type and min_size", lambda: {"type": pick()[3], "min_size": int(pick()[2])}),
        ("type and a month", lambda: {"type": pick()[3], **period(30)}),
        ("tag and a month", lambda: {"tags": [random.choice(tags())], **period(30)}),
        ("project and owner", lambda: {"attributes": {"project": attribute("project")}, "owner": pick()[8]}),
        ("owner and a month", lambda: {"owner": pick()[8], **period(30)}),
        ("owner and a size", lambda: {"owner": pick()[8], **near(pick()[2])}),
        ("project and a day", lambda: {"attributes": {"project": attribute("project")}, **period(1)}),
        ("owner, type and tag", lambda: {"owner": pick()[8], "type": pick()[3], "tags": [random.choice(tags())]}),
        ("type, tag and a month", lambda: {"type": pick()[3], "tags": [random.choice(tags())], **period(30)}),
        ("type, a month, min_size", lambda: {"type": pick()[3], "min_size": int(pick()[2]), **period(30)}),
        ("all of a file", lambda: all_of(pick())),
        ("many tags, size, a month", lambda: {"tags": ["inbox", *(f"t{i}" for i in range(14)), random.choice(tags())],
                                              "attributes": {"project": attribute("project")}, "owner": pick()[8], "type": pick()[3],
                                              "min_size": int(pick()[2]), **period(30)}),
        ("size and a month", lambda: {"min_size": int(pick()[2]), **period(30)}),
        ("a size and a day", lambda: {**near(pick()[2]), **period(1)}),
        ("q, 1-2 characters", lambda: {"q": word(1, 2)}),
        ("q, 3-5 characters", lambda: {"q": word(3, 5)}),
        ("q, 6-12 characters", lambda: {"q": word(6, 12)}),
        ("q, not there", lambda: {"q": "qz" + word(3, 5) + "xj"}),
        ("q, accented", lambda: {"q": random.choice(("relatório", "áé", "ório re", "é 12"))}),
        ("q and type", lambda: {"q": word(3, 8), "type": pick()[3]}),
        ("q and image/*", lambda: {"q": word(3, 8), "type": "image/*"}),
        ("q and owner", lambda: {"q": word(3, 8), "owner": pick()[8]}),
        ("q and tag", lambda: {"q": word(3, 8), "tags": [random.choice(tags())]}),
        ("q and a month", lambda: {"q": word(3, 8), **period(30)}),
        ("q and min_size", lambda: {"q": word(3, 8), "min_size": int(pick()[2])}),
        ("q, owner and type", lambda: {"q": word(3, 8), "owner": pick()[8], "type": pick()[3]}),
        ("q, tag and a month", lambda: {"q": word(3, 8), "tags": [random.choice(tags())], **period(30)}),
    ]


def deep(lister, query):
    """A position somewhere inside the order, as a cursor has it."""
    store, sort = lister.store, query.sort
    at = FIRST + random.randrange(SPAN)
    row = store.script(f"SELECT created_at, size, name, id FROM depot_internal.file WHERE created_at >= {at}"
                       " ORDER BY created_at, id LIMIT 1")
    if not row:
        return None
    created, size, name, one = row[0]
    if sort == "created" and not query.after <= int(created) < query.before:
        return None
    if sort == "size" and not query.min_size <= int(size) <= query.max_size:
        return None
    if sort == "name" and query.name is not None:
        return None
    return ({"created": int(created), "size": int(size), "name": name}[sort]), one


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


def measure_one(store, lister, make, sort, options):
    """(wall and server's CPU milliseconds of each page, rows of each, how many were short, the slowest one's way)"""
    times, works, counts, short, slowest = [], [], [], 0, (0, "")
    for i in range(options.requests + 5):
        query = Query(sort, options.limit, **make())
        if i % 2:
            query.position = deep(lister, query)
        took = work = 1e9
        for _ in range(options.best_of):
            cpu, began = store.cpu_ms(), time.perf_counter()
            page, cursor = lister.page(query)
            took = min(took, (time.perf_counter() - began) * 1000)
            work = min(work, store.cpu_ms() - cpu)
        if i < 5:
            continue
        times.append(took)
        works.append(work)
        counts.append(len(page))
        short += cursor is not None and len(page) < options.limit
        way = " ".join(name.removeprefix("files_") for name, _ in lister.runs[-4:])
        slowest = max(slowest, (took, f"{way} {query.q or ''}"))
    return times, works, counts, short, slowest[1]


def measure(store, options):
    saved = pathlib.Path(options.save) if options.save else None
    done = json.loads(saved.read_text()) if saved and saved.exists() else {}
    random.seed(len(done) + 1)
    made, lister, began = cases(samples(store, options.rows)), Lister(store), time.monotonic()
    wanted = [(f"{title}  {sort}", make, sort) for title, make in made for sort in SORTS
              if re.search(options.only or "", title) and re.search(options.sorts or "", sort)]
    print(f"{'filter and sort':38} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} {'cpu p50':>7} {'cpu p99':>7} {'rows':>5} {'short':>6}   slowest")
    for title, make, sort in wanted:
        if title in done:
            continue
        if options.seconds and time.monotonic() - began > options.seconds:
            print(f"{sum(one[0] not in done for one in wanted)} of {len(wanted)} are left")
            return
        times, works, counts, short, slowest = measure_one(store, lister, make, sort, options)
        done[title] = [percentile(values, p) for values in (times, works) for p in (0.5, 0.99)] + [100 * short / len(times)]
        p50, p99, cpu50, cpu99, cut = done[title]
        print(f"{title:38} {p50:7.2f} {p99:7.2f} {max(times):7.2f} {cpu50:7.2f} {cpu99:7.2f} {sum(counts) / len(counts):5.1f} {cut:5.1f}%"
              f"   {slowest}", flush=True)
        if saved:
            saved.write_text(json.dumps(done))
    print_worst(done, [title for title, _ in made])


def print_worst(done, titles):
    print("\nThe worst of six sorts:\n| filter | p50 ms | p99 ms | p50 of the server's CPU | p99 | pages that were short |\n|---|---|---|---|---|---|")
    for title in titles:
        figures = [done[f"{title}  {sort}"] for sort in SORTS if f"{title}  {sort}" in done]
        if figures:
            print(f"| {title} | " + " | ".join(f"{max(column):.1f}" for column in zip(*figures)) + " % |")


# ---- what is checked -------------------------------------------------------------------------------------------------

def passes(row, query):
    size, created, expires = int(row[2]), int(row[6]), row[7]
    attributes = json.loads(row[11])
    def leaf(path):
        value = attributes
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value
    return ((expires is None or int(expires) > NOW) and query.min_size <= size <= query.max_size
            and query.after <= created < query.before and (query.q is None or query.q in row[1].lower())
            and query.name in (None, row[1]) and query.owner in (None, row[8]) and query.sha256 in (None, row[5])
            and (query.type is None or row[3] == query.type or query.type[-2:] == "/*" and row[3].startswith(query.type[:-1]))
            and set(query.tags) <= set(json.loads(row[10])) and all(leaf(p) == v for p, v in query.attributes.items()))


def check(store, rows, n):
    """Walks lists of random filters from end to end and holds them against the same list made in Python."""
    sort_key = {"created": lambda r: (int(r[6]), r[0]), "size": lambda r: (int(r[2]), r[0]), "name": lambda r: (r[1].encode(), r[0])}
    made, ways = cases(rows), {}
    for i in range(n):
        filters = {}
        for _, make in random.sample(made, random.choice((1, 1, 2, 3))):
            filters.update(make())
        query = Query(random.choice(SORTS), random.choice((1, 3, 50, 1000)), **filters)
        expected = sorted((r for r in rows if passes(r, query)), key=sort_key[query.sort], reverse=query.descending)
        if len(expected) // query.limit > 400:
            query.limit = 50
        got, lister = [], Lister(store)
        while True:
            page, query.position = lister.page(query)
            got += page
            for name, _ in lister.runs:
                ways[name] = ways.get(name, 0) + 1
            if query.position is None:
                break
        if [r[0] for r in got] != [r[0] for r in expected] or [[str(v) for v in r[:9]] for r in got] != [[str(v) for v in r[:9]] for r in expected]:
            sys.exit(f"{query.__dict__}\ngave {len(got)} rows, not {len(expected)}; by {lister.runs}")
    unused = [name for name in store.texts if re.match("files_(page|walk|fetch|probe|rarest|count|touch)_", name) and name not in ways]
    say(f"{n} lists are right; {len(ways)} ways taken, never: {' '.join(unused) or 'none'}")


INDEX_OF = {"page_all": "file_by_", "page_facet": "file_facet_by_", "walk_all": "file_by_", "walk_facet": "file_facet_by_", "walk_same": "file_by_name", "walk_content": "file_by_sha256",
            "fetch_created": "file_by_created", "fetch_size": "file_by_size", "fetch_name": "file_by_name",
            "fetch_sha256": "file_by_sha256", "fetch_search": "file_by_trigram", "fetch_facet_created": "file_facet_pkey",
            "fetch_facet_size": "file_facet_by_size"}


def check_plans(store):
    """Every list statement has the one plan it is meant to have, whatever the planner knows of the tables."""
    wrong = []
    for name, text in store.texts.items():
        meant = re.match("files_((?:page|walk|fetch)_.+)_(created|name|size)_(asc|desc)$", name)
        if not meant:
            continue
        index = INDEX_OF[meant[1]]
        index = (index + meant[2] if index.endswith("_by_") else index).replace("file_facet_by_created", "file_facet_pkey")
        store.script("PREPARE one AS " + text)
        plan = "\n".join(row[0] for row in store.script(f"EXPLAIN EXECUTE one({', '.join(['NULL'] * 20)})"))
        store.script("DEALLOCATE one")
        used = {a or b for a, b in re.findall(r"using (\w+) on|Bitmap Index Scan on (\w+)", plan)}
        if index not in used or used - {index, "file_pkey"} or "Seq Scan" in plan or "Index Only Scan" not in plan and "_page_" in name \
                or not "_fetch_" in name and re.search(r"Sort Key: (?!w\.n|f\.)", plan):
            wrong.append(f"{name} uses {sorted(used)}")
    if wrong:
        sys.exit("\n".join(wrong))


# ---- the cluster -----------------------------------------------------------------------------------------------------

class Cluster:
    def __init__(self, binaries, directory):
        self.binaries, self.directory = pathlib.Path(binaries), pathlib.Path(directory)
        self.data = self.directory / "data"
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def command(self, *words):
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, *map(str, words)], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)

    def start(self):
        fresh = not self.data.exists()
        if fresh:
            self.directory.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(self.directory, "postgres")
            self.command(self.binaries / "initdb", "-D", self.data, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
            with open(self.data / "postgresql.conf", "a") as conf:
                conf.write(f"listen_addresses = ''\nunix_socket_directories = '{self.directory}'\n"
                           "fsync = off\nwal_level = minimal\nmax_wal_senders = 0\nmax_wal_size = '4GB'\n")  # for loading
        self.command(self.binaries / "pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "-t", "300", "start")
        return fresh

    def stop(self):
        self.command(self.binaries / "pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")

    def connect(self, database="postgres"):
        return Postgres(f"host={self.directory} user={self.user} dbname={database}")


def find_binaries():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else os.path.dirname(shutil.which("initdb") or sys.exit("no initdb found; --pg-bin"))


def schema(store):
    store.script(store.texts["migrations_prepare"])
    for text in migrations("postgres"):
        store.script("BEGIN;" + text + ";COMMIT")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=200, help="for each filter and sort")
    parser.add_argument("--limit", type=int, default=50, help="rows of a page")
    parser.add_argument("--only", help="filters whose title matches this regular expression")
    parser.add_argument("--sorts", help="sorts that match this regular expression")
    parser.add_argument("--save", metavar="FILE", help="keeps figures in FILE, and does not measure again what is there")
    parser.add_argument("--seconds", type=float, help="begin no filter and sort after so long")
    parser.add_argument("--best-of", type=int, default=1, help="run each request so often and take the best: what is left is the "
                        "work itself, where the machine is busy with other things")
    parser.add_argument("--keep", metavar="DIR", help="directory of a cluster to keep and to use again")
    parser.add_argument("--pg-bin", default=None)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lists", type=int, default=2000, help="how many lists --check walks")
    parser.add_argument("--conninfo", help="measure in a database that is there and filled already")
    options = parser.parse_args()
    if options.check and options.rows == 10_000_000:
        options.rows = 10_000
    if options.conninfo:
        return measure(Postgres(options.conninfo), options)
    directory = options.keep or tempfile.mkdtemp(prefix="list-latency-")
    os.chmod(directory, 0o755) if not options.keep else None
    cluster = Cluster(options.pg_bin or find_binaries(), directory)
    cluster.start()
    try:
        name = f"rows{options.rows}"
        admin = cluster.connect()
        if not admin.script(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            admin.script("DROP DATABASE IF EXISTS loading")
            admin.script("CREATE DATABASE loading")
            store = cluster.connect("loading")
            schema(store)
            if options.check:
                check_plans(store)
            say(f"making {options.rows} rows")
            load(store, options.rows)
            if options.check:  # that more than some expired: wherever a piece of a page ends, its last row may be one
                store.script("UPDATE depot_internal.file SET expires_at = 1750000000000 WHERE id::text ~ '[0-3]$'")
                store.script("VACUUM ANALYZE depot_internal.file")
            del store.connection
            store.lib = None
            admin.script("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'loading'")
            time.sleep(0.5)
            admin.script(f"ALTER DATABASE loading RENAME TO {name}")
        store = cluster.connect(name)
        if options.check:
            run_checks(store, options)
        else:
            measure(store, options)
    finally:
        cluster.stop()
        if not options.keep:
            shutil.rmtree(directory)


def run_checks(store, options):
    check_plans(store)
    global CAP_FETCH, CAP_FAR, CAP_PROBE, COUNTED, FAR_FEW, RAREST, WALK_ROWS, LIST_TRY, LIST_TIME, PAGE_TIME, FETCH_TIME, TOUCH_TIME, LEAST_TIME
    global HASTY, SEARCH_NAMES, SEARCH_LISTS, SEARCH_FETCH, SEARCH_COUNT, SEARCH_TIME, SEARCH_REST
    global PIECE_FIRST, PIECE_GROWTH, PIECE_LEAST, PIECE_TIME
    rows, after = [], NIL
    while True:
        some = store.run("files_walk", after, 1000)
        if not some:
            break
        rows += some
        after = some[-1][0]
    facets = dict(store.script("SELECT id, to_json(facets)::text FROM depot_internal.file"))
    with tempfile.TemporaryDirectory() as directory:
        lite = Sqlite(directory + "/metadata.db")
        lite.script(lite.texts["migrations_prepare"])
        for text in migrations("sqlite"):
            lite.script(text)
        lite.connection.execute("BEGIN")
        for r in rows:
            lite.run("file_insert", r[0], int(r[6]), r[1], r[1].lower(), int(r[2]), r[3], r[4], r[5], r[7] and int(r[7]), r[8],
                     r[9], r[10], r[11], int(r[12]), facets[r[0]], 0)
        lite.connection.execute("COMMIT")
        for turn, constants in enumerate(((12000, 2000, 24000, 4, 50, 200, 256, 0.002, 0.006, 0.004, 0.007, 0.004, 0.0005, 5000, 100_000, 2000, 0.030, 0.035, 0.008,
                           64, 2, 16, 0.005),
                          (300, 60, 400, 2, 5, 10, 20, 0.0002, 0.0004, 0.0003, 1, 0.0001, 0.00005, 3000, 6000, 20, 1, 0.001, 0,
                           3, 4, 2, 0.002),
                          (12000, 2000, 24000, 4, 50, 200, 256, 0.002, 0.006, 0.004, 0.007, 0.004, 0.0005, 5000, 100_000, 2000, 0.030, 0.035, 0.008,
                           64, 2, 16, 0.005))):
            (CAP_FETCH, CAP_FAR, CAP_PROBE, COUNTED, FAR_FEW, RAREST, WALK_ROWS, LIST_TRY, LIST_TIME, PAGE_TIME, FETCH_TIME, TOUCH_TIME, LEAST_TIME,
             SEARCH_NAMES, SEARCH_LISTS, SEARCH_FETCH, SEARCH_COUNT, SEARCH_TIME, SEARCH_REST,
             PIECE_FIRST, PIECE_GROWTH, PIECE_LEAST, PIECE_TIME) = constants
            HASTY = random.Random(7) if turn == 2 else None
            for one in (store, lite) if not HASTY else (store,):
                random.seed(11 + turn)
                check(one, rows, options.lists)


if __name__ == "__main__":
    main()
