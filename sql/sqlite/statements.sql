-- Named statements of the metadata store: SQLite.
--
-- sql/postgres and sql/sqlite hold the same names with the same parameters in the same order and the same
-- result columns, so that the program has one implementation for both.
--
-- FORM
--   A line `-- name: NAME` begins a statement, a line `-- fragment: NAME` a piece of one; its text ends at the
--   next such line or at the end of the file. `-- name: NAME = A B C` is the statement that has the text of the fragments
--   A, B, C one behind the other. Other lines that begin with `--` are comments. No trailing semicolon, except
--   where a statement says that it is a script (several commands, no parameters).
--
-- VALUES
--   Parameters and results are int64 or text, or null; nothing else.
--     uuid        text of 36 characters, lower case
--     time        int64, milliseconds since 1970 UTC
--     sha256      text of 64 lower case hexadecimal digits
--     tags        text, a JSON array of strings        attributes  text, a JSON object
--     facets      text, a JSON array of int64 without duplicates (below)
--     ids         text, a JSON array of uuids
--     flag        int64 0 or 1
--
-- FILE ROWS, the thirteen columns wherever "file row" is written:
--   0 id  1 name  2 size  3 type  4 sniffed|null  5 sha256  6 created_at  7 expires_at|null  8 owner|null
--   9 visibility ('private' | 'public')  10 tags  11 attributes  12 revision
--
-- FACETS
--   A facet is one thing to filter by: a file has it or has it not. Its number is the first eight bytes,
--   most significant first, of SHA-256 over a kind letter and a text, as a signed 64-bit integer:
--     't' TYPE            image/png
--     'm' MAJOR           image            (of TYPE, before the slash)
--     'o' OWNER
--     'g' TAG             each tag
--     'a' PATH 0x00 VALUE each leaf of attributes: PATH is its keys joined by dots; VALUE the string itself, or the JSON
--                         text of a number, true or false. Each scalar member of an array counts under the array's
--                         path. null, and what lies inside an array's objects and arrays, has no facet.
--   At most 512 of a file, in that order. name_folded is the name with each code point in lower case.

-- ---------------------------------------------------------------------------------------------------------
-- Session, health

-- A script. Once on every new connection. Nothing is mapped into memory: a disk that fails to read would end the program with
-- a signal instead of the call with an error. A cache of 4 MiB each, since there is one for every reader.
-- name: session_setup
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -4096;
PRAGMA mmap_size = 0;
PRAGMA journal_size_limit = 67108864;

-- name: ping
SELECT 1

-- ---------------------------------------------------------------------------------------------------------
-- Migrations. On the one writing connection:
-- lock, prepare, list, then for each file that is not in the list BEGIN, the file, migration_record, COMMIT; unlock.

-- Here BEGIN IMMEDIATE is the lock: the program begins each migration so, and lists again under it.
-- name: migrations_lock
SELECT 1

-- name: migrations_unlock
SELECT 1

-- A script.
-- name: migrations_prepare
CREATE TABLE IF NOT EXISTS migration (
	version    INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL,
	checksum   TEXT    NOT NULL,
	applied_at INTEGER NOT NULL
) STRICT;

-- 1 where there is a schema at all, else no row. For a program that may not migrate.
-- name: migrations_present
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migration'

-- 0 version  1 name  2 checksum  3 applied_at
-- name: migrations_list
SELECT version, name, checksum, applied_at FROM migration ORDER BY version

-- ?1 version  ?2 name (0001_files.sql)  ?3 checksum (SHA-256 of the file)  ?4 applied_at
-- name: migration_record
INSERT INTO migration (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)

-- ---------------------------------------------------------------------------------------------------------
-- Changes. Triggers keep file_facet and file_search in step.

-- ?1 id  ?2 created_at  ?3 name  ?4 name_folded  ?5 size  ?6 type  ?7 sniffed|null  ?8 sha256  ?9 expires_at|null
-- ?10 owner|null  ?11 visibility  ?12 tags  ?13 attributes  ?14 revision  ?15 facets  ?16 bits, which only PostgreSQL keeps
-- One row `1`: inserted. No row: a file of this id is there already and is left as it is.
-- name: file_insert
INSERT INTO file (id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner, visibility, tags,
                  attributes, revision, facets)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15 WHERE true OR ?16
ON CONFLICT (id) DO NOTHING
RETURNING 1

-- What PATCH may change, where the row still has revision ?2.
-- ?1 id  ?2 expected revision  ?3 name  ?4 name_folded  ?5 expires_at|null  ?6 visibility  ?7 tags  ?8 attributes  ?9 facets
-- The file row as it is now (revision ?2 + 1); no row: absent, or at another revision.
-- name: file_update
UPDATE file
   SET name = ?3, name_folded = ?4, expires_at = ?5, visibility = ?6, tags = ?7, attributes = ?8, facets = ?9,
       revision = revision + 1
 WHERE id = ?1 AND revision = ?2
RETURNING id, name, size, type, sniffed, sha256, created_at, expires_at, owner, visibility, tags, attributes, revision

-- ?1 id. The file row as it was; no row: absent.
-- name: file_delete
DELETE FROM file WHERE id = ?1
RETURNING id, name, size, type, sniffed, sha256, created_at, expires_at, owner, visibility, tags, attributes, revision

-- ?1 id  ?2 now. As file_delete, but only while it is past its expiry (a PATCH may have come between).
-- name: file_delete_expired
DELETE FROM file WHERE id = ?1 AND expires_at <= ?2
RETURNING id, name, size, type, sniffed, sha256, created_at, expires_at, owner, visibility, tags, attributes, revision

-- Nobody to tell: one process has the file. ?1 ids joined by commas.
-- name: notify
SELECT 1 WHERE ?1 IS NULL

-- name: listen
SELECT 1

-- ---------------------------------------------------------------------------------------------------------
-- Look-ups

-- ?1 id. A file row, past its expiry or not.
-- name: file_by_id
SELECT f.id, f.name, f.size, f.type, f.sniffed, f.sha256, f.created_at, f.expires_at, f.owner, f.visibility, f.tags,
       f.attributes, f.revision
  FROM file f
 WHERE f.id = ?1

-- ?1 ids. 0 id, of those that have a row, past expiry or not; in no order.
-- name: files_present
SELECT f.id FROM json_each(?1) x JOIN file f ON f.id = x.value

-- ?1 ids. File rows, past their expiry or not; in no order.
-- name: files_by_ids
SELECT f.id, f.name, f.size, f.type, f.sniffed, f.sha256, f.created_at, f.expires_at, f.owner, f.visibility, f.tags,
       f.attributes, f.revision
  FROM json_each(?1) x JOIN file f ON f.id = x.value

-- Every file, past its expiry or not, in the order of ids. ?1 id behind which to start (nil UUID: at the start)  ?2 limit
-- name: files_walk
SELECT f.id, f.name, f.size, f.type, f.sniffed, f.sha256, f.created_at, f.expires_at, f.owner, f.visibility, f.tags,
       f.attributes, f.revision
  FROM file f
 WHERE f.id > ?1
 ORDER BY f.id LIMIT ?2

-- Files past their expiry, the longest first. ?1 now  ?2 limit
-- name: files_expired
SELECT f.id, f.name, f.size, f.type, f.sniffed, f.sha256, f.created_at, f.expires_at, f.owner, f.visibility, f.tags,
       f.attributes, f.revision
  FROM file f
 WHERE f.expires_at <= ?1
 ORDER BY f.expires_at, f.id LIMIT ?2

-- About how many files there are: cheap. Files that were removed may count.
-- name: files_estimate
SELECT coalesce(max(seq), 0) FROM file

-- ---------------------------------------------------------------------------------------------------------
-- Idempotency keys. owner is '' for nobody.

-- ?1 owner  ?2 key  ?3 fingerprint (as a sha256)  ?4 request  ?5 answered_at  ?6 answer
-- In the transaction of the files. A key that another request has is a unique violation; one that this very request has stays
-- as it is.
-- name: key_insert
INSERT INTO idempotency_key (owner, key, fingerprint, request, answered_at, answer)
SELECT ?1, ?2, ?3, ?4, ?5, ?6
 WHERE NOT EXISTS (SELECT 1 FROM idempotency_key k WHERE k.owner = ?1 AND k.key = ?2 AND k.request = ?4)

-- The same, but a key that is taken is left to whom it belongs.
-- name: key_insert_if_free
INSERT INTO idempotency_key (owner, key, fingerprint, request, answered_at, answer)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (owner, key) DO NOTHING

-- ?1 owner  ?2 key. 0 fingerprint  1 request  2 answered_at  3 answer; no row: absent.
-- name: key_find
SELECT k.fingerprint, k.request, k.answered_at, k.answer FROM idempotency_key k WHERE k.owner = ?1 AND k.key = ?2

-- ?1 answered before this time  ?2 at most so many. One row `1` for each that was removed.
-- name: keys_delete
DELETE FROM idempotency_key
 WHERE (owner, key) IN (SELECT o.owner, o.key FROM idempotency_key o WHERE o.answered_at < ?1 ORDER BY o.answered_at LIMIT ?2)
RETURNING 1

-- ---------------------------------------------------------------------------------------------------------
-- Scrub (src/metadata/scrub.c). file_scrub has a row for each file that the scrub knows; it makes them by walking ids.

-- ?1 id behind which to start  ?2 limit. Of the next files in the order of ids: 0 how many  1 how many lack their row in
-- file_scrub  2 the last id|null
-- name: scrub_walk
SELECT count(*), count(*) - count(s.id), max(w.id)
  FROM (SELECT f.id FROM file f WHERE f.id > ?1 ORDER BY f.id LIMIT ?2) w
  LEFT JOIN file_scrub s ON s.id = w.id

-- ?1, ?2 as before. Gives those files their rows: a file counts as verified when it was stored.
-- name: scrub_enroll
INSERT INTO file_scrub (id, checked_at, verified_at)
SELECT w.id, w.created_at, w.created_at
  FROM (SELECT f.id, f.created_at FROM file f WHERE f.id > ?1 ORDER BY f.id LIMIT ?2) w
 WHERE true
ON CONFLICT (id) DO NOTHING

-- ?1 looked at before  ?2 the same of damaged ones  ?3 limit
-- Whom to look at, the longest not looked at first: a file row (all null: that file is gone), 13 id
-- name: scrub_due
SELECT f.id, f.name, f.size, f.type, f.sniffed, f.sha256, f.created_at, f.expires_at, f.owner, f.visibility, f.tags,
       f.attributes, f.revision, d.id
  FROM (SELECT * FROM (SELECT s.checked_at, s.id FROM file_scrub s
                        WHERE s.checked_at <= ?1 ORDER BY s.checked_at, s.id LIMIT ?3)
        UNION
        SELECT * FROM (SELECT s.checked_at, s.id FROM file_scrub s
                        WHERE s.damaged_at IS NOT NULL AND s.checked_at <= ?2
                        ORDER BY s.checked_at, s.id LIMIT ?3)) d
  LEFT JOIN file f ON f.id = d.id
 ORDER BY d.checked_at, d.id LIMIT ?3

-- ?1 JSON array of {id, at, damage|null}: what was found of each file, and when.
-- name: scrub_record
INSERT INTO file_scrub (id, checked_at, verified_at, damaged_at, damage)
SELECT f.id, r.at, iif(r.damage IS NULL, r.at, f.created_at), iif(r.damage IS NULL, NULL, r.at), r.damage
  FROM (SELECT value ->> '$.id' AS id, value ->> '$.at' AS at, value ->> '$.damage' AS damage FROM json_each(?1)) r
  JOIN file f ON f.id = r.id
 WHERE true
ON CONFLICT (id) DO UPDATE
   SET checked_at = excluded.checked_at,
       verified_at = iif(excluded.damage IS NULL, excluded.verified_at, verified_at),
       damaged_at = iif(excluded.damage IS NULL, NULL, coalesce(damaged_at, excluded.damaged_at)),
       damage = excluded.damage

-- ?1 ids. Forgets those whose file is gone.
-- name: scrub_forget
DELETE FROM file_scrub
 WHERE id IN (SELECT value FROM json_each(?1)) AND id NOT IN (SELECT f.id FROM file f WHERE f.id = file_scrub.id)

-- 0 when the one was looked at that was not for the longest time|null
-- name: scrub_oldest
SELECT min(checked_at) FROM file_scrub

-- ?1 limit. 0 id  1 damaged_at  2 damage, in no order
-- name: scrub_damaged
SELECT s.id, s.damaged_at, s.damage FROM file_scrub s JOIN file f ON f.id = s.id
 WHERE s.damaged_at IS NOT NULL LIMIT ?1

-- ---------------------------------------------------------------------------------------------------------
-- Marks of data directories (src/metadata/marks.c)

-- ?1 directory. 0 mark; no row: this database has never seen that directory.
-- name: mark_get
SELECT mark FROM directory_mark WHERE directory = ?1

-- ?1 directory  ?2 mark; never back.
-- name: mark_set
INSERT INTO directory_mark (directory, mark) VALUES (?1, ?2)
ON CONFLICT (directory) DO UPDATE SET mark = max(mark, excluded.mark)

-- ?1 directory  ?2 the mark that the directory has. 0 the new mark; no row: this database is behind the directory.
-- name: mark_advance
UPDATE directory_mark SET mark = mark + 1
 WHERE directory = ?1 AND mark >= ?2
RETURNING mark

-- ---------------------------------------------------------------------------------------------------------
-- Lists
--
-- A page is rows in one of three orders, strictly behind a position, that pass every filter. All list statements take the
-- same twenty parameters and give the same columns; they differ in which rows they look at, and in which order.
--
--   ?1 rows wanted          ?2 budget, in rows               ?3 now
--   ?4 facet|null           the one to go by (walk_facet, fetch_facet_*)
--   ?5 facets               all that a file must have, the one of ?4 included; '[]' none
--   ?6 from_number|null  ?7 from_name|null  ?8 from_id       where to start, below
--   ?9 created_low, inclusive   ?10 created_high, exclusive  (none: -2^63, 2^63-1)
--   ?11 size_low  ?12 size_high, both inclusive              (none: 0, 2^63-1)
--   ?13 name|null  ?14 sha256|null  ?15 q|null, folded as name_folded is
--   ?16 q's longest stretch of ASCII, or null: lets a walk pass over names without touching the table
--   ?17 the time that a walk may take, in microseconds
--   ?18 ?19 ?20 fetch search: patterns that q's names match, for the index
--
--   Columns: a file row, then 13 ok (flag: it passes the filters)  14 end (flag: go on behind this row).
--   Every row is ok but perhaps the last: where the page is short and the budget is spent, its last row is the one with
--   `end`, whether it passes or not, so that the program knows where to go on. Rows with ok = 0 are not shown.
--   No `end` and fewer rows than wanted: there are no more. As many as wanted: go on behind the last.
--
-- Where to start: behind the cursor's (value, id) if there is one, else
--   created asc  (created_low, nil)      desc (created_high, nil)
--   size    asc  (size_low, nil)         desc (size_high + 1 but at most 2^63-1, nil)
--   name    asc  (null, nil)             desc (null, last)
--   nil: 00000000-0000-0000-0000-000000000000, last: ffffffff-ffff-ffff-ffff-ffffffffffff
--
-- Three kinds:
--   files_walk_SOURCE_SORT_DIR   reads an index in the order asked for: in PostgreSQL until ?17 is over, in SQLite ?2 rows.
--                                `end` set: go on behind that row with another run, or answer a short page whose cursor
--                                is that row.
--   files_page_SOURCE_SORT_DIR   the same as walk, for SOURCE all and facet where the index tells which rows pass, but for the expired.
--                                In PostgreSQL ?1 + 16 such rows, or ?2, are the most that one run takes.
--   files_fetch_SOURCE_SORT_DIR  reads all that SOURCE says, few as they are, sorts them, looks at the first ?2.
--   SOURCE of walk:  all, facet (?4), same (name = ?13; with SORT = name only), content (sha256 = ?14; SORT = created only)
--   SOURCE of fetch: created, size (the range of all files), facet_created, facet_size (the range of facet ?4; each without
--                    the sort of its own range), name (not with SORT = name), sha256 (not created), search (q)
--   SORT: created, name, size.  DIR: asc, desc.
--
-- HOW TO CHOOSE. tests/bench/list_latency.py is the same in Python, with the constants; docs/schema.md has the figures.
--   F   the facets asked for: of attributes, tags, owner, type or its family, in this order.
--   R   the ranges (created, size) that are given and not of the sort key: that one is an index bound anyway.
--   1. name given, sort name: walk same.  sha256 given, sort created: walk content.
--   2. F has at most one, and no q, name, sha256, R: page facet or all, nothing to count; budget rows wanted + 16. On as
--      in 5.
--   3. What name, sha256 and R leave is counted, by files_probe_all; R with each of the first 4 facets of F, if there is any, by
--      files_probe_facets, which counts at most 24000 rows in all, as many for each facet and range. Fetch the least,
--      where it is at most 12000 and, beyond 2000, elapsed plus twice what the count took is at most FETCH_TIME (7 ms). For
--      sha256, and for facet_* with SORT = name, each row is looked up in its table: where there are at most 2000; beyond 50
--      only after files_touch_SOURCE could read them all in TOUCH_TIME (4 ms).
--   4. F has several: files_rarest with 200 rows says by which of the first 4 to walk.
--   5. Walk by that facet (F empty: all); without q for LIST_TIME (6 ms; 5 where more than 64 rows are wanted), else for
--      LIST_TRY (2 ms). Before that, a page until PAGE_TIME (4 ms) where F has at most one and there is no q, name, sha256; out of
--      time, that is all.
--   6. A page that is still short with a q that search_index says is indexed: of its trigrams take eight (if there are more,
--      spread evenly) to files_probe_search. Where at most 5000 names have q by that, the patterns are the three rarest
--      trigrams (without those that are 32 times as frequent as the rarest and as 2048) if at most 5000 names have all of the
--      eight; else q itself if it is one word and the trigrams' counts sum up to at most 100,000; else there are none (the
--      beginnings of words are trigrams too, and in millions of names). files_count_search with
--      these, until SEARCH_COUNT (30 ms); fetch search where at most 2000 have it. Otherwise walk on for SEARCH_TIME (35 ms),
--      or 8 ms if that is later.
--   All times are since the page was begun, but a walk has 0.5 ms at the least. The first budget of walks with filters is 1000
--   rows; 200 where the walk has to look at the table for each row: sha256, and q if it has no ASCII or F is not empty. Walks go
--   on behind `end` while the page is short and there is time. The next budget is what the time left allows at the pace of
--   the last run, from 200 (less: stop) to 16000. Out of time, the page stays short, and has a cursor like any other: only the lack
--   of a cursor ends a list.
--   A run of a walk is asked for 256 rows at the most, since to read them once more is not in its time; one that gave them all has
--   looked at so many, for all that is known.
--   Fetches have the budget 4 * rows wanted, then 100000 behind `end`.
--   Where more than 64 rows are wanted, page and fetch read them in pieces (the budget): 64, then at the pace of the last piece
--   what is done PIECE_TIME (5 ms) after the page was begun, or FETCH_TIME, or with q what a walk would have; twice as many as
--   before at the most, and less than 16: stop.

-- How many files there are. ?1 most to count
-- name: files_count_some
SELECT count(*) FROM (SELECT 1 FROM file LIMIT ?1) c

-- How q can be searched: 0 by walking only; else by fetch search where q has three of these in a row: 1 ASCII letters or
-- digits, 2 letters or digits, 3 characters.
-- name: search_index
SELECT 3

-- Guesses that PostgreSQL needs. ?1 q  ?2 … ?9 trigrams|null. 0 q  1 all  2 … 9 each
-- name: files_probe_search
SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 WHERE true OR ?9 IS NULL

-- How many names hold q. ?1 q  ?2 most to count  ?3 ?4 ?5 ?6 matters of PostgreSQL
-- 0 names
-- name: files_count_search
SELECT count(*) FROM (
	SELECT 1 FROM file_search WHERE file_search MATCH '"' || replace(?1, '"', '""') || '"' AND (true OR ?6 IS NULL) LIMIT ?2)

-- fragment: list_row
SELECT r.id, r.name, r.size, r.type, r.sniffed, r.sha256, r.created_at, r.expires_at, r.owner, r.visibility, r.tags,
       r.attributes, r.revision, r.ok, r.n = ?2
  FROM (SELECT f.*, w.n,
               f.created_at >= ?9 AND f.created_at < ?10 AND f.size BETWEEN ?11 AND ?12
               AND (?13 IS NULL OR f.name = ?13)
               AND (?14 IS NULL OR f.sha256 = ?14)
               AND (?15 IS NULL OR instr(f.name_folded, ?15) > 0)
               AND (f.expires_at > ?3) IS NOT FALSE AND (true OR ?20 IS NULL)
               AND NOT EXISTS (
			SELECT 1 FROM json_each(?5) q
			 WHERE NOT EXISTS (
				SELECT 1 FROM file_facet t
				 WHERE t.facet = q.value AND t.created_at = f.created_at AND t.id = f.id)) AS ok
          FROM (

-- fragment: list_count_created_asc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.created_at, k.id) AS n FROM (

-- fragment: list_count_created_desc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.created_at DESC, k.id DESC) AS n FROM (

-- fragment: list_count_name_asc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.name, k.id) AS n FROM (

-- fragment: list_count_name_desc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.name DESC, k.id DESC) AS n FROM (

-- fragment: list_count_size_asc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.size, k.id) AS n FROM (

-- fragment: list_count_size_desc
	SELECT * FROM (SELECT k.*, row_number() OVER (ORDER BY k.size DESC, k.id DESC) AS n FROM (

-- fragment: walk_all_created_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.created_at, k.id) > (?6, ?8) AND k.created_at < ?10
		 ORDER BY k.created_at, k.id LIMIT ?2

-- fragment: walk_all_created_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.created_at, k.id) < (?6, ?8) AND k.created_at >= ?9
		 ORDER BY k.created_at DESC, k.id DESC LIMIT ?2

-- fragment: walk_all_name_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.name, k.id) > (coalesce(?7, ''), ?8)
		 ORDER BY k.name, k.id LIMIT ?2

-- fragment: walk_all_name_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.name, k.id) < (coalesce(?7, x'ff'), ?8)
		 ORDER BY k.name DESC, k.id DESC LIMIT ?2

-- fragment: walk_all_size_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.size, k.id) > (?6, ?8) AND k.size <= ?12
		 ORDER BY k.size, k.id LIMIT ?2

-- fragment: walk_all_size_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE (k.size, k.id) < (?6, ?8) AND k.size >= ?11
		 ORDER BY k.size DESC, k.id DESC LIMIT ?2

-- fragment: walk_facet_created_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.created_at, k.id) > (?6, ?8) AND k.created_at < ?10
		 ORDER BY k.created_at, k.id LIMIT ?2

-- fragment: walk_facet_created_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.created_at, k.id) < (?6, ?8) AND k.created_at >= ?9
		 ORDER BY k.created_at DESC, k.id DESC LIMIT ?2

-- fragment: walk_facet_name_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.name, k.id) > (coalesce(?7, ''), ?8)
		 ORDER BY k.name, k.id LIMIT ?2

-- fragment: walk_facet_name_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.name, k.id) < (coalesce(?7, x'ff'), ?8)
		 ORDER BY k.name DESC, k.id DESC LIMIT ?2

-- fragment: walk_facet_size_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.size, k.id) > (?6, ?8) AND k.size <= ?12
		 ORDER BY k.size, k.id LIMIT ?2

-- fragment: walk_facet_size_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
		 WHERE k.facet = ?4 AND (k.size, k.id) < (?6, ?8) AND k.size >= ?11
		 ORDER BY k.size DESC, k.id DESC LIMIT ?2

-- fragment: walk_same_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE k.name = ?13 AND k.id > ?8
		 ORDER BY k.name, k.id LIMIT ?2

-- fragment: walk_same_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE k.name = ?13 AND k.id < ?8
		 ORDER BY k.name DESC, k.id DESC LIMIT ?2

-- fragment: walk_content_asc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE k.sha256 = ?14 AND (k.created_at, k.id) > (?6, ?8) AND k.created_at < ?10
		 ORDER BY k.created_at, k.id LIMIT ?2

-- fragment: walk_content_desc
		SELECT k.created_at, k.id, k.size, k.name FROM file k
		 WHERE k.sha256 = ?14 AND (k.created_at, k.id) < (?6, ?8) AND k.created_at >= ?9
		 ORDER BY k.created_at DESC, k.id DESC LIMIT ?2

-- fragment: fetch_created
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file k
			 WHERE k.created_at >= ?9 AND k.created_at < ?10
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_size
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file k
			 WHERE k.size BETWEEN ?11 AND ?12
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_name
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file k
			 WHERE k.name = ?13
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_sha256
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file k
			 WHERE k.sha256 = ?14
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_search
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file k
			 WHERE k.seq IN (
				SELECT rowid FROM file_search
				 WHERE file_search MATCH '"' || replace(?15, '"', '""') || '"')
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_facet_created
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
			 WHERE k.facet = ?4 AND k.created_at >= ?9 AND k.created_at < ?10
			 LIMIT -1 OFFSET 0) k

-- fragment: fetch_facet_size
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.name FROM file_facet k
			 WHERE k.facet = ?4 AND k.size BETWEEN ?11 AND ?12
			 LIMIT -1 OFFSET 0) k

-- fragment: pick_created_asc
		 WHERE (k.created_at, k.id) > (?6, ?8)
		 ORDER BY k.created_at, k.id LIMIT ?2

-- fragment: pick_created_desc
		 WHERE (k.created_at, k.id) < (?6, ?8)
		 ORDER BY k.created_at DESC, k.id DESC LIMIT ?2

-- fragment: pick_name_asc
		 WHERE (k.name, k.id) > (coalesce(?7, ''), ?8)
		 ORDER BY k.name, k.id LIMIT ?2

-- fragment: pick_name_desc
		 WHERE (k.name, k.id) < (coalesce(?7, x'ff'), ?8)
		 ORDER BY k.name DESC, k.id DESC LIMIT ?2

-- fragment: pick_size_asc
		 WHERE (k.size, k.id) > (?6, ?8)
		 ORDER BY k.size, k.id LIMIT ?2

-- fragment: pick_size_desc
		 WHERE (k.size, k.id) < (?6, ?8)
		 ORDER BY k.size DESC, k.id DESC LIMIT ?2

-- fragment: list_check
	) k) c
	 WHERE c.created_at >= ?9 AND c.created_at < ?10 AND c.size BETWEEN ?11 AND ?12
	   AND (c.name = ?13) IS NOT FALSE AND (instr(lower(c.name), ?16) > 0) IS NOT FALSE
	    OR c.n = ?2
               ) w CROSS JOIN file f ON f.id = w.id) r
 WHERE r.ok OR r.n = ?2

-- fragment: list_order_created_asc
 ORDER BY r.created_at, r.id LIMIT ?1

-- fragment: list_order_created_desc
 ORDER BY r.created_at DESC, r.id DESC LIMIT ?1

-- fragment: list_order_name_asc
 ORDER BY r.name, r.id LIMIT ?1

-- fragment: list_order_name_desc
 ORDER BY r.name DESC, r.id DESC LIMIT ?1

-- fragment: list_order_size_asc
 ORDER BY r.size, r.id LIMIT ?1

-- fragment: list_order_size_desc
 ORDER BY r.size DESC, r.id DESC LIMIT ?1

-- name: files_page_all_created_asc = list_row list_count_created_asc walk_all_created_asc list_check list_order_created_asc
-- name: files_page_all_created_desc = list_row list_count_created_desc walk_all_created_desc list_check list_order_created_desc
-- name: files_page_all_name_asc = list_row list_count_name_asc walk_all_name_asc list_check list_order_name_asc
-- name: files_page_all_name_desc = list_row list_count_name_desc walk_all_name_desc list_check list_order_name_desc
-- name: files_page_all_size_asc = list_row list_count_size_asc walk_all_size_asc list_check list_order_size_asc
-- name: files_page_all_size_desc = list_row list_count_size_desc walk_all_size_desc list_check list_order_size_desc
-- name: files_page_facet_created_asc = list_row list_count_created_asc walk_facet_created_asc list_check list_order_created_asc
-- name: files_page_facet_created_desc = list_row list_count_created_desc walk_facet_created_desc list_check list_order_created_desc
-- name: files_page_facet_name_asc = list_row list_count_name_asc walk_facet_name_asc list_check list_order_name_asc
-- name: files_page_facet_name_desc = list_row list_count_name_desc walk_facet_name_desc list_check list_order_name_desc
-- name: files_page_facet_size_asc = list_row list_count_size_asc walk_facet_size_asc list_check list_order_size_asc
-- name: files_page_facet_size_desc = list_row list_count_size_desc walk_facet_size_desc list_check list_order_size_desc
-- name: files_walk_all_created_asc = list_row list_count_created_asc walk_all_created_asc list_check list_order_created_asc
-- name: files_walk_all_created_desc = list_row list_count_created_desc walk_all_created_desc list_check list_order_created_desc
-- name: files_walk_all_name_asc = list_row list_count_name_asc walk_all_name_asc list_check list_order_name_asc
-- name: files_walk_all_name_desc = list_row list_count_name_desc walk_all_name_desc list_check list_order_name_desc
-- name: files_walk_all_size_asc = list_row list_count_size_asc walk_all_size_asc list_check list_order_size_asc
-- name: files_walk_all_size_desc = list_row list_count_size_desc walk_all_size_desc list_check list_order_size_desc
-- name: files_walk_facet_created_asc = list_row list_count_created_asc walk_facet_created_asc list_check list_order_created_asc
-- name: files_walk_facet_created_desc = list_row list_count_created_desc walk_facet_created_desc list_check list_order_created_desc
-- name: files_walk_facet_name_asc = list_row list_count_name_asc walk_facet_name_asc list_check list_order_name_asc
-- name: files_walk_facet_name_desc = list_row list_count_name_desc walk_facet_name_desc list_check list_order_name_desc
-- name: files_walk_facet_size_asc = list_row list_count_size_asc walk_facet_size_asc list_check list_order_size_asc
-- name: files_walk_facet_size_desc = list_row list_count_size_desc walk_facet_size_desc list_check list_order_size_desc
-- name: files_walk_same_name_asc = list_row list_count_name_asc walk_same_asc list_check list_order_name_asc
-- name: files_walk_same_name_desc = list_row list_count_name_desc walk_same_desc list_check list_order_name_desc
-- name: files_walk_content_created_asc = list_row list_count_created_asc walk_content_asc list_check list_order_created_asc
-- name: files_walk_content_created_desc = list_row list_count_created_desc walk_content_desc list_check list_order_created_desc
-- name: files_fetch_created_name_asc = list_row list_count_name_asc fetch_created pick_name_asc list_check list_order_name_asc
-- name: files_fetch_created_name_desc = list_row list_count_name_desc fetch_created pick_name_desc list_check list_order_name_desc
-- name: files_fetch_created_size_asc = list_row list_count_size_asc fetch_created pick_size_asc list_check list_order_size_asc
-- name: files_fetch_created_size_desc = list_row list_count_size_desc fetch_created pick_size_desc list_check list_order_size_desc
-- name: files_fetch_size_created_asc = list_row list_count_created_asc fetch_size pick_created_asc list_check list_order_created_asc
-- name: files_fetch_size_created_desc = list_row list_count_created_desc fetch_size pick_created_desc list_check list_order_created_desc
-- name: files_fetch_size_name_asc = list_row list_count_name_asc fetch_size pick_name_asc list_check list_order_name_asc
-- name: files_fetch_size_name_desc = list_row list_count_name_desc fetch_size pick_name_desc list_check list_order_name_desc
-- name: files_fetch_name_created_asc = list_row list_count_created_asc fetch_name pick_created_asc list_check list_order_created_asc
-- name: files_fetch_name_created_desc = list_row list_count_created_desc fetch_name pick_created_desc list_check list_order_created_desc
-- name: files_fetch_name_size_asc = list_row list_count_size_asc fetch_name pick_size_asc list_check list_order_size_asc
-- name: files_fetch_name_size_desc = list_row list_count_size_desc fetch_name pick_size_desc list_check list_order_size_desc
-- name: files_fetch_sha256_name_asc = list_row list_count_name_asc fetch_sha256 pick_name_asc list_check list_order_name_asc
-- name: files_fetch_sha256_name_desc = list_row list_count_name_desc fetch_sha256 pick_name_desc list_check list_order_name_desc
-- name: files_fetch_sha256_size_asc = list_row list_count_size_asc fetch_sha256 pick_size_asc list_check list_order_size_asc
-- name: files_fetch_sha256_size_desc = list_row list_count_size_desc fetch_sha256 pick_size_desc list_check list_order_size_desc
-- name: files_fetch_search_created_asc = list_row list_count_created_asc fetch_search pick_created_asc list_check list_order_created_asc
-- name: files_fetch_search_created_desc = list_row list_count_created_desc fetch_search pick_created_desc list_check list_order_created_desc
-- name: files_fetch_search_name_asc = list_row list_count_name_asc fetch_search pick_name_asc list_check list_order_name_asc
-- name: files_fetch_search_name_desc = list_row list_count_name_desc fetch_search pick_name_desc list_check list_order_name_desc
-- name: files_fetch_search_size_asc = list_row list_count_size_asc fetch_search pick_size_asc list_check list_order_size_asc
-- name: files_fetch_search_size_desc = list_row list_count_size_desc fetch_search pick_size_desc list_check list_order_size_desc
-- name: files_fetch_facet_created_name_asc = list_row list_count_name_asc fetch_facet_created pick_name_asc list_check list_order_name_asc
-- name: files_fetch_facet_created_name_desc = list_row list_count_name_desc fetch_facet_created pick_name_desc list_check list_order_name_desc
-- name: files_fetch_facet_created_size_asc = list_row list_count_size_asc fetch_facet_created pick_size_asc list_check list_order_size_asc
-- name: files_fetch_facet_created_size_desc = list_row list_count_size_desc fetch_facet_created pick_size_desc list_check list_order_size_desc
-- name: files_fetch_facet_size_created_asc = list_row list_count_created_asc fetch_facet_size pick_created_asc list_check list_order_created_asc
-- name: files_fetch_facet_size_created_desc = list_row list_count_created_desc fetch_facet_size pick_created_desc list_check list_order_created_desc
-- name: files_fetch_facet_size_name_asc = list_row list_count_name_asc fetch_facet_size pick_name_asc list_check list_order_name_asc
-- name: files_fetch_facet_size_name_desc = list_row list_count_name_desc fetch_facet_size pick_name_desc list_check list_order_name_desc

-- Of several facets, the one that goes farthest in ?2 rows behind a position, the list's: the rarest thereabouts, to walk by.
-- ?1 facets  ?2 rows  ?3 from_number|null  ?4 from_name|null  ?5 from_id. 0 facet
-- name: files_rarest_created_asc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.created_at FROM file_facet k WHERE k.facet = x.value AND (k.created_at, k.id) > (?3, ?5)
	 ORDER BY k.created_at, k.id LIMIT 1 OFFSET ?2) DESC NULLS FIRST, x.key LIMIT 1

-- name: files_rarest_created_desc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.created_at FROM file_facet k WHERE k.facet = x.value AND (k.created_at, k.id) < (?3, ?5)
	 ORDER BY k.created_at DESC, k.id DESC LIMIT 1 OFFSET ?2) NULLS FIRST, x.key LIMIT 1

-- name: files_rarest_name_asc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.name FROM file_facet k WHERE k.facet = x.value AND (k.name, k.id) > (coalesce(?4, ''), ?5)
	 ORDER BY k.name, k.id LIMIT 1 OFFSET ?2) DESC NULLS FIRST, x.key LIMIT 1

-- name: files_rarest_name_desc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.name FROM file_facet k WHERE k.facet = x.value AND (k.name, k.id) < (coalesce(?4, x'ff'), ?5)
	 ORDER BY k.name DESC, k.id DESC LIMIT 1 OFFSET ?2) NULLS FIRST, x.key LIMIT 1

-- name: files_rarest_size_asc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.size FROM file_facet k WHERE k.facet = x.value AND (k.size, k.id) > (?3, ?5)
	 ORDER BY k.size, k.id LIMIT 1 OFFSET ?2) DESC NULLS FIRST, x.key LIMIT 1

-- name: files_rarest_size_desc
SELECT x.value FROM json_each(?1) x
 ORDER BY (
	SELECT k.size FROM file_facet k WHERE k.facet = x.value AND (k.size, k.id) < (?3, ?5)
	 ORDER BY k.size DESC, k.id DESC LIMIT 1 OFFSET ?2) NULLS FIRST, x.key LIMIT 1

-- A matter of PostgreSQL, where a fetch may have to wait for the disk. ?1 facet|null  ?2 most  ?3 time  ?4 low|null  ?5 high|null
-- ?6 sha256|null. 0 rows
-- name: files_touch_facet_created
SELECT 0 WHERE true OR ?6 IS NULL

-- name: files_touch_facet_size
SELECT 0 WHERE true OR ?6 IS NULL

-- name: files_touch_sha256
SELECT 0 WHERE true OR ?6 IS NULL

-- Bounded counts, to choose the way of a list by. ?1 facets  ?2 most to count  ?3 created_low  ?4 created_high  ?5 size_low
-- ?6 size_high. A row for each facet: 0 facet  1 files with it, created in that range  2 files with it, of that size
-- name: files_probe_facets
SELECT x.value,
       (SELECT count(*) FROM (
		SELECT 1 FROM file_facet k
		 WHERE k.facet = x.value AND k.created_at >= ?3 AND k.created_at < ?4 LIMIT ?2)),
       (SELECT count(*) FROM (
		SELECT 1 FROM file_facet k
		 WHERE k.facet = x.value AND k.size BETWEEN ?5 AND ?6 LIMIT ?2))
  FROM json_each(?1) x

-- The same of all files. ?1 name|null  ?2 most to count  ?3 created_low  ?4 created_high  ?5 size_low  ?6 size_high
-- ?7 sha256|null. 0 files created in that range  1 of that size  2 of that name  3 of that content
-- name: files_probe_all
SELECT (SELECT count(*) FROM (
		SELECT 1 FROM file k WHERE k.created_at >= ?3 AND k.created_at < ?4 LIMIT ?2)),
       (SELECT count(*) FROM (
		SELECT 1 FROM file k WHERE k.size BETWEEN ?5 AND ?6 LIMIT ?2)),
       (SELECT count(*) FROM (
		SELECT 1 FROM file k WHERE k.name = ?1 LIMIT ?2)),
       (SELECT count(*) FROM (
		SELECT 1 FROM file k WHERE k.sha256 = ?7 LIMIT ?2))
