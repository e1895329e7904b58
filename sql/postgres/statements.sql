-- Named statements of the metadata store: PostgreSQL.
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
--   Parameters and results are int64 or text, or null; nothing else, but for the arrays of statements whose names end in _many.
--     uuid        text of 36 characters, lower case
--     time        int64, milliseconds since 1970 UTC
--     sha256      text of 64 lower case hexadecimal digits
--     tags        text, a JSON array of strings        attributes  text, a JSON object
--     facets      text, a JSON array of int64 without duplicates (below)
--     ids         text, a JSON array of uuids
--     flag        int64 0 or 1
--     bits        int64, a file's facet_bits: 0001_files.sql, facet_bits()
--   PostgreSQL cannot hold U+0000 in text or in JSON: refuse it before.
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

-- Once on every new connection, after which every statement may be prepared. The settings take guesses away
-- from the planner: each statement below has one intended plan, whatever the statistics say. Last but one, text: how commits end
-- unless we say something else. The last column, int64, is another one when the server is another one, or was started anew.
-- name: session_setup
SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('jit', 'off', false),
       set_config('max_parallel_workers_per_gather', '0', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('enable_material', 'off', false),
       set_config('enable_memoize', 'off', false),
       set_config('enable_sort', 'off', false),
       set_config('work_mem', '16MB', false),
       set_config('effective_io_concurrency', CASE current_setting('effective_io_concurrency') WHEN '0' THEN '0' ELSE '64' END, false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('timezone', 'UTC', false),
       current_setting('synchronous_commit'),
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint

-- name: ping
SELECT 1

-- ---------------------------------------------------------------------------------------------------------
-- Migrations. Under migrations_lock, which is held by the session, not by a transaction:
-- lock, prepare, list, then for each file that is not in the list BEGIN, the file, migration_record, COMMIT; unlock.

-- Waits for a node that migrates at the same time.
-- name: migrations_lock
SELECT 1 FROM (SELECT pg_advisory_lock(491913175)) AS held

-- name: migrations_unlock
SELECT pg_advisory_unlock(491913175)::int::bigint

-- A script.
-- name: migrations_prepare
DO $$
BEGIN
	IF to_regnamespace('depot_internal') IS NULL THEN
		CREATE SCHEMA depot_internal;
	END IF;
	IF to_regclass('depot_internal.migration') IS NULL THEN
		CREATE TABLE depot_internal.migration (
			version    bigint PRIMARY KEY,
			name       text   NOT NULL,
			checksum   text   NOT NULL,
			applied_at bigint NOT NULL
		);
	END IF;
END
$$;

-- 1 where there is a schema at all, else no row. For a program that may not migrate.
-- name: migrations_present
SELECT 1 WHERE to_regclass('depot_internal.migration') IS NOT NULL

-- 0 version  1 name  2 checksum  3 applied_at
-- name: migrations_list
SELECT version, name, checksum, applied_at FROM depot_internal.migration ORDER BY version

-- $1 version  $2 name (0001_files.sql)  $3 checksum (SHA-256 of the file)  $4 applied_at
-- name: migration_record
INSERT INTO depot_internal.migration (version, name, checksum, applied_at)
VALUES ($1::bigint, $2::text, $3::text, $4::bigint)

-- ---------------------------------------------------------------------------------------------------------
-- Changes

-- Each of these two is what a stored file costs the server (docs/schema.md, Figures). So there is nothing in them that a file
-- does not need: most have no tags, which then are not read as JSON, and the bits come ready.

-- $1 id  $2 created_at  $3 name  $4 name_folded  $5 size  $6 type  $7 sniffed|null  $8 sha256  $9 expires_at|null
-- $10 owner|null  $11 visibility  $12 tags  $13 attributes  $14 revision  $15 facets  $16 bits
-- One row `1`: inserted. No row: a file of this id is there already and is left as it is.
-- name: file_insert
WITH f AS (
	INSERT INTO depot_internal.file (id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner,
	                                 visibility, tags, attributes, revision, facets, facet_bits)
	VALUES ($1::uuid, $2::bigint, $3::text, $4::text, $5::bigint, $6::text, $7::text, decode($8::text, 'hex'),
	        $9::bigint, $10::text, $11::text,
	        CASE WHEN $12::text = '[]' THEN '{}'::text[] ELSE ARRAY(SELECT json_array_elements_text($12::json)) END,
	        $13::jsonb, $14::bigint, translate($15::text, '[]', '{}')::bigint[], $16::bigint)
	ON CONFLICT (id) DO NOTHING
	RETURNING id, created_at, size, name, facets, facet_bits
), k AS (
	INSERT INTO depot_internal.file_facet (facet, created_at, size, facet_bits, id, name)
	SELECT x.facet, f.created_at, f.size, f.facet_bits, f.id, f.name FROM f, unnest(f.facets) AS x(facet)
)
SELECT 1 FROM f

-- The same for many files: each parameter is an array with as many members as there are files.
-- One row `1` for each file that was inserted.
-- name: file_insert_many
WITH f AS (
	INSERT INTO depot_internal.file (id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner,
	                                 visibility, tags, attributes, revision, facets, facet_bits)
	SELECT r.id::uuid, r.created_at, r.name, r.name_folded, r.size, r.type, r.sniffed, decode(r.sha256, 'hex'),
	       r.expires_at, r.owner, r.visibility,
	       CASE WHEN r.tags = '[]' THEN '{}'::text[] ELSE ARRAY(SELECT json_array_elements_text(r.tags::json)) END,
	       r.attributes::jsonb, r.revision, translate(r.facets, '[]', '{}')::bigint[], r.facet_bits
	  FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
	              $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::bigint[])
	       AS r(id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner, visibility, tags,
	            attributes, revision, facets, facet_bits)
	ON CONFLICT (id) DO NOTHING
	RETURNING id, created_at, size, name, facets, facet_bits
), k AS (
	INSERT INTO depot_internal.file_facet (facet, created_at, size, facet_bits, id, name)
	SELECT x.facet, f.created_at, f.size, f.facet_bits, f.id, f.name FROM f, unnest(f.facets) AS x(facet)
)
SELECT 1 FROM f

-- Locks one of these files' rows, if there is any, which is a change as far as the commit is concerned: it writes out the log, and
-- with it whatever was committed before. $1 ids
-- name: files_hold_many
SELECT 1 FROM depot_internal.file f WHERE f.id = ANY ($1::text[]::uuid[]) LIMIT 1 FOR NO KEY UPDATE

-- What PATCH may change, where the row still has revision $2.
-- $1 id  $2 expected revision  $3 name  $4 name_folded  $5 expires_at|null  $6 visibility  $7 tags  $8 attributes  $9 facets
-- The file row as it is now (revision $2 + 1); no row: absent, or at another revision.
-- name: file_update
WITH old AS MATERIALIZED (
	SELECT id, created_at, name, facets, facet_bits FROM depot_internal.file
	 WHERE id = $1::uuid AND revision = $2::bigint FOR UPDATE
), f AS (
	UPDATE depot_internal.file u
	   SET name = $3::text, name_folded = $4::text, expires_at = $5::bigint, visibility = $6::text,
	       tags = ARRAY(SELECT json_array_elements_text($7::json)), attributes = $8::jsonb,
	       facets = translate($9::text, '[]', '{}')::bigint[],
	       revision = u.revision + 1
	  FROM old WHERE u.id = old.id
	RETURNING u.*
), gone AS (
	DELETE FROM depot_internal.file_facet k
	 USING old, f, unnest(old.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id
	   AND x.facet <> ALL (f.facets)
), kept AS (
	UPDATE depot_internal.file_facet k SET name = f.name, facet_bits = f.facet_bits
	  FROM old, f, unnest(old.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id
	   AND x.facet = ANY (f.facets) AND (old.name, old.facet_bits) <> (f.name, f.facet_bits)
), fresh AS (
	INSERT INTO depot_internal.file_facet (facet, created_at, size, facet_bits, id, name)
	SELECT x.facet, f.created_at, f.size, f.facet_bits, f.id, f.name FROM old, f, unnest(f.facets) AS x(facet)
	 WHERE x.facet <> ALL (old.facets)
	ON CONFLICT DO NOTHING
)
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM f

-- $1 id. The file row as it was; no row: absent.
-- name: file_delete
WITH f AS (
	DELETE FROM depot_internal.file WHERE id = $1::uuid RETURNING *
)
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM f

-- $1 id  $2 now. As file_delete, but only while it is past its expiry (a PATCH may have come between).
-- name: file_delete_expired
WITH f AS (
	DELETE FROM depot_internal.file WHERE id = $1::uuid AND expires_at <= $2::bigint RETURNING *
)
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM f

-- Tells the other nodes, when the transaction commits, to forget these ids. $1 ids joined by commas, at most 200.
-- name: notify
SELECT pg_notify('depot_files', $1::text)

-- name: listen
LISTEN depot_files

-- ---------------------------------------------------------------------------------------------------------
-- Look-ups

-- $1 id. A file row, past its expiry or not.
-- name: file_by_id
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM depot_internal.file f
 WHERE f.id = $1::uuid

-- $1 ids. 0 id, of those that have a row, past expiry or not; in no order.
-- name: files_present
SELECT f.id::text
  FROM json_array_elements_text($1::json) AS x(id)
  JOIN depot_internal.file f ON f.id = x.id::uuid

-- $1 ids. File rows, past their expiry or not; in no order.
-- name: files_by_ids
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM json_array_elements_text($1::json) AS x(id)
  JOIN depot_internal.file f ON f.id = x.id::uuid

-- Every file, past its expiry or not, in the order of ids. $1 id behind which to start (nil UUID: at the start)  $2 limit
-- name: files_walk
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM depot_internal.file f
 WHERE f.id > $1::uuid
 ORDER BY f.id LIMIT $2::bigint

-- Files past their expiry, the longest first. $1 now  $2 limit
-- name: files_expired
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM depot_internal.file f
 WHERE f.expires_at <= $1::bigint
 ORDER BY f.expires_at, f.id LIMIT $2::bigint

-- About how many files there are: cheap, from the planner's statistics.
-- name: files_estimate
SELECT greatest(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = 'depot_internal.file'::regclass

-- ---------------------------------------------------------------------------------------------------------
-- Idempotency keys. owner is '' for nobody.

-- $1 owner  $2 key  $3 fingerprint (as a sha256)  $4 request  $5 answered_at  $6 answer
-- In the transaction of the files, before them and in the order of (owner, key), so that nobody waits in a circle. A key that
-- another request has is a unique violation; one that this very request has stays as it is.
-- name: key_insert
WITH k AS (
	INSERT INTO depot_internal.idempotency_key (owner, key, fingerprint, request, answered_at, answer)
	VALUES ($1::text, $2::text, decode($3::text, 'hex'), $4::uuid, $5::bigint, $6::text)
	ON CONFLICT (owner, key) DO UPDATE SET request = excluded.request
	 WHERE idempotency_key.request = excluded.request
	RETURNING 1
)
SELECT depot_internal.one_key((SELECT count(*) FROM k))

-- The same for many keys, no two of which are the same: each parameter is an array.
-- name: key_insert_many
WITH k AS (
	INSERT INTO depot_internal.idempotency_key (owner, key, fingerprint, request, answered_at, answer)
	SELECT r.owner, r.key, decode(r.fingerprint, 'hex'), r.request::uuid, r.answered_at, r.answer
	  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
	       AS r(owner, key, fingerprint, request, answered_at, answer)
	ON CONFLICT (owner, key) DO UPDATE SET request = excluded.request
	 WHERE idempotency_key.request = excluded.request
	RETURNING 1
)
SELECT depot_internal.one_key(((SELECT count(*) FROM k) = cardinality($1))::int)

-- The same for one key, but a key that is taken is left to whom it belongs.
-- name: key_insert_if_free
INSERT INTO depot_internal.idempotency_key (owner, key, fingerprint, request, answered_at, answer)
VALUES ($1::text, $2::text, decode($3::text, 'hex'), $4::uuid, $5::bigint, $6::text)
ON CONFLICT (owner, key) DO NOTHING

-- $1 owner  $2 key. 0 fingerprint  1 request  2 answered_at  3 answer; no row: absent.
-- name: key_find
SELECT encode(k.fingerprint, 'hex'), k.request::text, k.answered_at, k.answer
  FROM depot_internal.idempotency_key k
 WHERE k.owner = $1::text AND k.key = $2::text

-- $1 answered before this time  $2 at most so many. One row `1` for each that was removed.
-- name: keys_delete
DELETE FROM depot_internal.idempotency_key k
 USING (SELECT o.owner, o.key FROM depot_internal.idempotency_key o
	 WHERE o.answered_at < $1::bigint
	 ORDER BY o.answered_at LIMIT $2::bigint
	   FOR UPDATE SKIP LOCKED) x
 WHERE k.owner = x.owner AND k.key = x.key
RETURNING 1

-- ---------------------------------------------------------------------------------------------------------
-- Scrub (src/metadata/scrub.c). file_scrub has a row for each file that the scrub knows; it makes them by walking ids.

-- $1 id behind which to start  $2 limit. Of the next files in the order of ids: 0 how many  1 how many lack their row in
-- file_scrub  2 the last id|null
-- name: scrub_walk
SELECT count(*), count(*) FILTER (WHERE s.id IS NULL), max(w.id::text COLLATE "C")
  FROM (SELECT f.id FROM depot_internal.file f WHERE f.id > $1::uuid ORDER BY f.id LIMIT $2::bigint) w
  LEFT JOIN depot_internal.file_scrub s ON s.id = w.id

-- $1, $2 as before. Gives those files their rows: a file counts as verified when it was stored.
-- name: scrub_enroll
INSERT INTO depot_internal.file_scrub (id, checked_at, verified_at)
SELECT w.id, w.created_at, w.created_at
  FROM (SELECT f.id, f.created_at FROM depot_internal.file f
         WHERE f.id > $1::uuid ORDER BY f.id LIMIT $2::bigint) w
ON CONFLICT (id) DO NOTHING

-- $1 looked at before  $2 the same of damaged ones  $3 limit
-- Whom to look at, the longest not looked at first: a file row (all null: that file is gone), 13 id
-- name: scrub_due
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision, d.id::text
  FROM ((SELECT s.checked_at, s.id FROM depot_internal.file_scrub s
          WHERE s.checked_at <= $1::bigint ORDER BY s.checked_at, s.id LIMIT $3::bigint)
        UNION
        (SELECT s.checked_at, s.id FROM depot_internal.file_scrub s
          WHERE s.damaged_at IS NOT NULL AND s.checked_at <= $2::bigint
          ORDER BY s.checked_at, s.id LIMIT $3::bigint)) d
  LEFT JOIN depot_internal.file f ON f.id = d.id
 ORDER BY d.checked_at, d.id LIMIT $3::bigint

-- $1 JSON array of {id, at, damage|null}: what was found of each file, and when.
-- name: scrub_record
INSERT INTO depot_internal.file_scrub AS s (id, checked_at, verified_at, damaged_at, damage)
SELECT f.id, r.at, CASE WHEN r.damage IS NULL THEN r.at ELSE f.created_at END,
       CASE WHEN r.damage IS NULL THEN NULL ELSE r.at END, r.damage
  FROM json_to_recordset($1::json) AS r(id uuid, at bigint, damage text)
  JOIN depot_internal.file f ON f.id = r.id
 ORDER BY f.id
ON CONFLICT (id) DO UPDATE
   SET checked_at = excluded.checked_at,
       verified_at = CASE WHEN excluded.damage IS NULL THEN excluded.verified_at ELSE s.verified_at END,
       damaged_at = CASE WHEN excluded.damage IS NULL THEN NULL ELSE coalesce(s.damaged_at, excluded.damaged_at) END,
       damage = excluded.damage

-- $1 ids. Forgets those whose file is gone.
-- name: scrub_forget
DELETE FROM depot_internal.file_scrub s
 USING json_array_elements_text($1::json) AS x(id)
 WHERE s.id = x.id::uuid
   AND NOT EXISTS (SELECT 1 FROM depot_internal.file f WHERE f.id = s.id)

-- 0 when the one was looked at that was not for the longest time|null
-- name: scrub_oldest
SELECT min(checked_at) FROM depot_internal.file_scrub

-- $1 limit. 0 id  1 damaged_at  2 damage, in no order
-- name: scrub_damaged
SELECT s.id::text, s.damaged_at, s.damage
  FROM depot_internal.file_scrub s JOIN depot_internal.file f ON f.id = s.id
 WHERE s.damaged_at IS NOT NULL LIMIT $1::bigint

-- ---------------------------------------------------------------------------------------------------------
-- Marks of data directories (src/metadata/marks.c)

-- $1 directory. 0 mark; no row: this database has never seen that directory.
-- name: mark_get
SELECT mark FROM depot_internal.directory_mark WHERE directory = $1::uuid

-- $1 directory  $2 mark; never back.
-- name: mark_set
INSERT INTO depot_internal.directory_mark AS m (directory, mark) VALUES ($1::uuid, $2::bigint)
ON CONFLICT (directory) DO UPDATE SET mark = greatest(m.mark, excluded.mark)

-- $1 directory  $2 the mark that the directory has. 0 the new mark; no row: this database is behind the directory.
-- name: mark_advance
UPDATE depot_internal.directory_mark SET mark = mark + 1
 WHERE directory = $1::uuid AND mark >= $2::bigint
RETURNING mark

-- Makes all that was committed before it durable, by a commit of its own that is (it writes a word into the log, which nobody
-- reads). 0 text: which life of the server this is; another one since it crashed, or another took its place. No row: ask again.
-- name: settle
WITH born AS (
	INSERT INTO depot_internal.server_life DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING id
), said AS MATERIALIZED (
	SELECT pg_logical_emit_message(true, 'depotd', '') AS at
)
SELECT l.id || ' ' || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, said.at::text
  FROM (SELECT id FROM depot_internal.server_life UNION ALL SELECT id FROM born) AS l, said

-- ---------------------------------------------------------------------------------------------------------
-- Lists
--
-- A page is rows in one of three orders, strictly behind a position, that pass every filter. All list statements take the
-- same twenty parameters and give the same columns; they differ in which rows they look at, and in which order.
--
--   $1 rows wanted          $2 budget, in rows               $3 now
--   $4 facet|null           the one to go by (walk_facet, fetch_facet_*)
--   $5 facets               all that a file must have, the one of $4 included; '[]' none
--   $6 from_number|null  $7 from_name|null  $8 from_id       where to start, below
--   $9 created_low, inclusive   $10 created_high, exclusive  (none: -2^63, 2^63-1)
--   $11 size_low  $12 size_high, both inclusive              (none: 0, 2^63-1)
--   $13 name|null  $14 sha256|null  $15 q|null, folded as name_folded is
--   $16 q's longest stretch of ASCII, or null: lets a walk pass over names without touching the table
--   $17 the time that a walk may take, in microseconds
--   $18 $19 $20 fetch search: patterns that q's names match, for the index
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
--   files_walk_SOURCE_SORT_DIR   reads an index in the order asked for: in PostgreSQL until $17 is over, in SQLite $2 rows.
--                                `end` set: go on behind that row with another run, or answer a short page whose cursor
--                                is that row.
--   files_page_SOURCE_SORT_DIR   the same as walk, for SOURCE all and facet where the index tells which rows pass, but for the expired.
--                                In PostgreSQL $1 + 16 such rows, or $2, are the most that one run takes.
--   files_fetch_SOURCE_SORT_DIR  reads all that SOURCE says, few as they are, sorts them, looks at the first $2.
--   SOURCE of walk:  all, facet ($4), same (name = $13; with SORT = name only), content (sha256 = $14; SORT = created only)
--   SOURCE of fetch: created, size (the range of all files), facet_created, facet_size (the range of facet $4; each without
--                    the sort of its own range), name (not with SORT = name), sha256 (not created), search (q)
--   SORT: created, name, size.  DIR: asc, desc.
--
-- In a depot of at most 20,000 files (files_count_some, counted once a second) no walk looks at the clock: its pages are full.
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

-- How many files there are. $1 most to count
-- name: files_count_some
SELECT count(*) FROM (SELECT 1 FROM depot_internal.file LIMIT $1::bigint) c

-- How q can be searched: 0 by walking only; else by fetch search where q has three of these in a row: 1 ASCII letters or
-- digits, 2 letters or digits, 3 characters.
-- name: search_index
SELECT CASE WHEN i.indexrelid IS NULL THEN 0 WHEN d.datctype IN ('C', 'POSIX') THEN 1 ELSE 2 END::bigint
  FROM pg_catalog.pg_database d
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = to_regclass('depot_internal.file_by_trigram') AND i.indisvalid
 WHERE d.datname = current_database()

-- About how many names hold q, all of some of its trigrams, and each of these: from one name of 2048.
-- $1 q  $2 … $9 trigrams|null. 0 q  1 all  2 … 9 each
-- name: files_probe_search
SELECT (count(*) FILTER (WHERE strpos(s.name_folded, $1::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (
		WHERE true
	          AND (strpos(s.name_folded, $2::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $3::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $4::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $5::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $6::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $7::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $8::text) > 0) IS NOT FALSE
	          AND (strpos(s.name_folded, $9::text) > 0) IS NOT FALSE) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $2::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $3::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $4::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $5::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $6::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $7::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $8::text) > 0) * max(s.scale))::bigint
       , (count(*) FILTER (WHERE strpos(s.name_folded, $9::text) > 0) * max(s.scale))::bigint
  FROM (SELECT f.name_folded, (
		SELECT greatest(2048, c.reltuples / 8000) FROM pg_catalog.pg_class c
		 WHERE c.oid = 'depot_internal.file'::regclass) AS scale
	  FROM depot_internal.file f
	 WHERE get_byte(uuid_send(f.id), 15) = 0 AND get_byte(uuid_send(f.id), 14) < 32
	 ORDER BY f.id DESC LIMIT 8000) s

-- How many names hold q. $1 q  $2 most to count  $3 time for it, in microseconds  $4 $5 $6 as $18 $19 $20 of the lists
-- 0 names; $2 where the time was too short
-- name: files_count_search
SELECT count(*) FROM (
	SELECT FROM (
		SELECT CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $3::bigint * interval '1 microsecond')
		            THEN $2::bigint
		            WHEN strpos(f.name_folded, $1::text) > 0 THEN 1 END AS names
		  FROM depot_internal.file f
		 WHERE f.name_folded LIKE $4::text AND f.name_folded LIKE $5::text AND f.name_folded LIKE $6::text) k
	 CROSS JOIN LATERAL generate_series(1, k.names)
	 LIMIT $2::bigint) c

-- Each row looked at is 1: it passes; 2: it does too, and the time is over; 0: it does not, and the time is over; or null, and
-- passed over. When the time is over one row is taken as often as it takes for the limit to end the scan there: to look at
-- more would take longer still. As the order of the rows is known to be the index's, so is where the scan stopped: at row $1.
-- fragment: walk_row
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision,
       least(w.ok, 1), (w.n = $1)::int::bigint
  FROM (SELECT p.*, row_number() OVER () AS n FROM (SELECT s.* FROM (

-- fragment: walk_named
	SELECT k.created_at, k.id, k.size, k.name,
	       CASE WHEN k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	             AND ~k.facet_bits & (
			SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	             AND ($13::text IS NULL OR k.name = $13) AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0)
	             AND (SELECT true FROM depot_internal.file f
	                   WHERE f.id = k.id AND (f.expires_at > $3::bigint) IS NOT FALSE
	                     AND ($13::text IS NULL OR f.name = $13)
	                     AND ($14::text IS NULL OR f.sha256 = (SELECT decode($14, 'hex')))
	                     AND ($15::text IS NULL OR strpos(f.name_folded, $15) > 0)
	                     AND f.facets @> (SELECT translate($5::text, '[]', '{}')::bigint[]))
	            THEN CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	                      THEN 2::bigint ELSE 1 END
	            WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	            THEN 0::bigint END AS ok

-- The indexes that do not have the name.
-- fragment: walk_bare
	SELECT k.created_at, k.id, k.size,
	       CASE WHEN k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	             AND ~k.facet_bits & (
			SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	             AND (SELECT true FROM depot_internal.file f
	                   WHERE f.id = k.id AND (f.expires_at > $3::bigint) IS NOT FALSE
	                     AND ($13::text IS NULL OR f.name = $13)
	                     AND ($14::text IS NULL OR f.sha256 = (SELECT decode($14, 'hex')))
	                     AND ($15::text IS NULL OR strpos(f.name_folded, $15) > 0)
	                     AND f.facets @> (SELECT translate($5::text, '[]', '{}')::bigint[]))
	            THEN CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	                      THEN 2::bigint ELSE 1 END
	            WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	            THEN 0::bigint END AS ok

-- fragment: walk_all_created_asc
	  FROM depot_internal.file k
	 WHERE (k.created_at, k.id) > ($6::bigint, $8::uuid) AND k.created_at < $10::bigint
	 ORDER BY k.created_at, k.id

-- fragment: walk_all_created_desc
	  FROM depot_internal.file k
	 WHERE (k.created_at, k.id) < ($6::bigint, $8::uuid) AND k.created_at >= $9::bigint
	 ORDER BY k.created_at DESC, k.id DESC

-- fragment: walk_all_name_asc
	  FROM depot_internal.file k
	 WHERE (k.name, k.id) > (coalesce($7::text, ''), $8::uuid)
	 ORDER BY k.name, k.id

-- fragment: walk_all_name_desc
	  FROM depot_internal.file k
	 WHERE (k.name, k.id) < (coalesce($7::text, repeat(chr(1114111), 256)), $8::uuid)
	 ORDER BY k.name DESC, k.id DESC

-- fragment: walk_all_size_asc
	  FROM depot_internal.file k
	 WHERE (k.size, k.id) > ($6::bigint, $8::uuid) AND k.size <= $12::bigint
	 ORDER BY k.size, k.id

-- fragment: walk_all_size_desc
	  FROM depot_internal.file k
	 WHERE (k.size, k.id) < ($6::bigint, $8::uuid) AND k.size >= $11::bigint
	 ORDER BY k.size DESC, k.id DESC

-- fragment: walk_facet_created_asc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.created_at, k.id) > ($6::bigint, $8::uuid) AND k.created_at < $10::bigint
	 ORDER BY k.created_at, k.id

-- fragment: walk_facet_created_desc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.created_at, k.id) < ($6::bigint, $8::uuid) AND k.created_at >= $9::bigint
	 ORDER BY k.created_at DESC, k.id DESC

-- fragment: walk_facet_name_asc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.name, k.id) > (coalesce($7::text, ''), $8::uuid)
	 ORDER BY k.name, k.id

-- fragment: walk_facet_name_desc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.name, k.id) < (coalesce($7::text, repeat(chr(1114111), 256)), $8::uuid)
	 ORDER BY k.name DESC, k.id DESC

-- fragment: walk_facet_size_asc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.size, k.id) > ($6::bigint, $8::uuid) AND k.size <= $12::bigint
	 ORDER BY k.size, k.id

-- fragment: walk_facet_size_desc
	  FROM depot_internal.file_facet k
	 WHERE k.facet = $4::bigint AND (k.size, k.id) < ($6::bigint, $8::uuid) AND k.size >= $11::bigint
	 ORDER BY k.size DESC, k.id DESC

-- fragment: walk_same_asc
	  FROM depot_internal.file k
	 WHERE k.name = $13::text AND k.id > $8::uuid
	 ORDER BY k.name, k.id

-- fragment: walk_same_desc
	  FROM depot_internal.file k
	 WHERE k.name = $13::text AND k.id < $8::uuid
	 ORDER BY k.name DESC, k.id DESC

-- fragment: walk_content_asc
	  FROM depot_internal.file k
	 WHERE k.sha256 = decode($14::text, 'hex') AND (k.created_at, k.id) > ($6::bigint, $8::uuid) AND k.created_at < $10::bigint
	 ORDER BY k.created_at, k.id

-- fragment: walk_content_desc
	  FROM depot_internal.file k
	 WHERE k.sha256 = decode($14::text, 'hex') AND (k.created_at, k.id) < ($6::bigint, $8::uuid) AND k.created_at >= $9::bigint
	 ORDER BY k.created_at DESC, k.id DESC

-- fragment: walk_end
       ) s
 CROSS JOIN LATERAL generate_series(1, CASE s.ok WHEN 1 THEN 1 ELSE $1::bigint END) AS times
 WHERE s.ok IS NOT NULL AND (true OR (
	$2::bigint, $4::bigint, $6::bigint, $7::text, $8::uuid, $16::text, $18::text, $19::text, $20::text) IS NULL)

-- fragment: walk_order_created_asc
 ORDER BY s.created_at, s.id

-- fragment: walk_order_created_desc
 ORDER BY s.created_at DESC, s.id DESC

-- fragment: walk_order_same_asc
 ORDER BY s.id

-- fragment: walk_order_same_desc
 ORDER BY s.id DESC

-- fragment: walk_order_name_asc
 ORDER BY s.name, s.id

-- fragment: walk_order_name_desc
 ORDER BY s.name DESC, s.id DESC

-- fragment: walk_order_size_asc
 ORDER BY s.size, s.id

-- fragment: walk_order_size_desc
 ORDER BY s.size DESC, s.id DESC

-- fragment: walk_page
 LIMIT $1::bigint) p) w
  JOIN depot_internal.file f ON f.id = w.id
 WHERE w.ok = 1 OR w.n = $1
 ORDER BY w.n

-- A page of what the index alone tells: the walk takes some more rows than are wanted, and all of them are read from the table at
-- once, by a bitmap: what has to come from the disk comes side by side instead of one by one. The condition of two halves, of which the
-- second finds nothing, is what makes the planner do so.
-- fragment: page_row
WITH c AS MATERIALIZED (
	SELECT least($2::bigint, $1::bigint + 16)::int AS most, ARRAY(
		SELECT s.id FROM (

-- fragment: page_bare
	SELECT k.created_at, k.id, k.size,
	       CASE WHEN k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	             AND ~k.facet_bits & (
			SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	            THEN 1::bigint
	            WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	            THEN 0::bigint END AS ok

-- fragment: page_named
	SELECT k.created_at, k.id, k.size, k.name,
	       CASE WHEN k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	             AND ~k.facet_bits & (
			SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	            THEN 1::bigint
	            WHEN clock_timestamp() > (SELECT statement_timestamp() + $17::bigint * interval '1 microsecond')
	            THEN 0::bigint END AS ok

-- fragment: page_end
		       ) s
		 CROSS JOIN LATERAL generate_series(1, CASE s.ok WHEN 0 THEN least($2::bigint, $1::bigint + 16) ELSE 1 END) AS times
		 WHERE s.ok IS NOT NULL AND (true OR (
			$4::bigint, $6::bigint, $7::text, $8::uuid, $16::text, $18::text, $19::text, $20::text) IS NULL)

-- fragment: page_read
		 LIMIT least($2::bigint, $1::bigint + 16)) AS ids)
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision,
       r.ok::int::bigint, r.last::int::bigint
  FROM (
	SELECT * FROM depot_internal.file k
	 WHERE k.id = ANY ((SELECT c.ids FROM c)::uuid[]) OR k.id = (SELECT c.ids[0] FROM c)
	OFFSET 0) f
 CROSS JOIN LATERAL (
	SELECT f.created_at >= $9::bigint AND f.created_at < $10::bigint AND f.size BETWEEN $11::bigint AND $12::bigint
	   AND ($13::text IS NULL OR f.name = $13)
	   AND ($14::text IS NULL OR f.sha256 = decode($14, 'hex'))
	   AND ($15::text IS NULL OR strpos(f.name_folded, $15) > 0)
	   AND f.facets @> (SELECT translate($5::text, '[]', '{}')::bigint[])
	   AND (f.expires_at > $3::bigint) IS NOT FALSE AS ok,
	       (f.id = (SELECT c.ids[c.most] FROM c)) IS TRUE AS last
       ) r
 WHERE r.ok OR r.last

-- fragment: page_order_created_asc
 ORDER BY f.created_at, f.id LIMIT $1::bigint

-- fragment: page_order_created_desc
 ORDER BY f.created_at DESC, f.id DESC LIMIT $1::bigint

-- fragment: page_order_name_asc
 ORDER BY f.name, f.id LIMIT $1::bigint

-- fragment: page_order_name_desc
 ORDER BY f.name DESC, f.id DESC LIMIT $1::bigint

-- fragment: page_order_size_asc
 ORDER BY f.size, f.id LIMIT $1::bigint

-- fragment: page_order_size_desc
 ORDER BY f.size DESC, f.id DESC LIMIT $1::bigint

-- fragment: fetch_row
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision,
       r.ok::int::bigint, (w.n = $2)::int::bigint
  FROM (

-- fragment: fetch_count_created_asc
	SELECT k.*, row_number() OVER (ORDER BY k.created_at, k.id) AS n FROM (

-- fragment: fetch_count_created_desc
	SELECT k.*, row_number() OVER (ORDER BY k.created_at DESC, k.id DESC) AS n FROM (

-- fragment: fetch_count_name_asc
	SELECT k.*, row_number() OVER (ORDER BY k.name, k.id) AS n FROM (

-- fragment: fetch_count_name_desc
	SELECT k.*, row_number() OVER (ORDER BY k.name DESC, k.id DESC) AS n FROM (

-- fragment: fetch_count_size_asc
	SELECT k.*, row_number() OVER (ORDER BY k.size, k.id) AS n FROM (

-- fragment: fetch_count_size_desc
	SELECT k.*, row_number() OVER (ORDER BY k.size DESC, k.id DESC) AS n FROM (

-- fragment: fetch_created
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file k
			 WHERE k.created_at >= $9::bigint AND k.created_at < $10::bigint
			OFFSET 0) k

-- fragment: fetch_size
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file k
			 WHERE k.size BETWEEN $11::bigint AND $12::bigint
			OFFSET 0) k

-- fragment: fetch_name
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file k
			 WHERE k.name = $13::text
			OFFSET 0) k

-- fragment: fetch_sha256
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file k
			 WHERE k.sha256 = decode($14::text, 'hex')
			OFFSET 0) k

-- fragment: fetch_search
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file k
			 WHERE k.name_folded LIKE $18::text AND k.name_folded LIKE $19::text AND k.name_folded LIKE $20::text
			   AND strpos(k.name_folded, $15::text) > 0
			OFFSET 0) k

-- fragment: fetch_facet_created
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, NULL::text AS name FROM depot_internal.file_facet k
			 WHERE k.facet = $4::bigint AND k.created_at >= $9::bigint AND k.created_at < $10::bigint
			OFFSET 0) k

-- Of the indexes file_facet_by_name alone has the name, but to go by it reads all of the facet: asking for the ctid, which
-- no index has, keeps the planner from it.
-- fragment: fetch_facet_created_named
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file_facet k
			 WHERE k.facet = $4::bigint AND k.created_at >= $9::bigint AND k.created_at < $10::bigint
			   AND k.ctid <> '(0,0)'::tid
			OFFSET 0) k

-- fragment: fetch_facet_size
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, NULL::text AS name FROM depot_internal.file_facet k
			 WHERE k.facet = $4::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
			OFFSET 0) k

-- fragment: fetch_facet_size_named
		SELECT * FROM (
			SELECT k.created_at, k.id, k.size, k.facet_bits, k.name FROM depot_internal.file_facet k
			 WHERE k.facet = $4::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
			   AND k.ctid <> '(0,0)'::tid
			OFFSET 0) k

-- fragment: pick_created_asc
	 WHERE (k.created_at, k.id) > ($6::bigint, $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.created_at, k.id LIMIT $2::bigint

-- fragment: pick_created_desc
	 WHERE (k.created_at, k.id) < ($6::bigint, $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.created_at DESC, k.id DESC LIMIT $2::bigint

-- fragment: pick_name_asc
	 WHERE (k.name, k.id) > (coalesce($7::text, ''), $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.name, k.id LIMIT $2::bigint

-- fragment: pick_name_desc
	 WHERE (k.name, k.id) < (coalesce($7::text, repeat(chr(1114111), 256)), $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.name DESC, k.id DESC LIMIT $2::bigint

-- fragment: pick_size_asc
	 WHERE (k.size, k.id) > ($6::bigint, $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.size, k.id LIMIT $2::bigint

-- fragment: pick_size_desc
	 WHERE (k.size, k.id) < ($6::bigint, $8::uuid)
	   AND k.created_at >= $9::bigint AND k.created_at < $10::bigint AND k.size BETWEEN $11::bigint AND $12::bigint
	   AND ~k.facet_bits & (
		SELECT depot_internal.facet_bits(translate($5::text, '[]', '{}')::bigint[], decode($14::text, 'hex'))) = 0
	   AND ($13::text IS NULL OR k.name = $13) IS NOT FALSE
	   AND ($16::text IS NULL OR strpos(lower(k.name), $16) > 0) IS NOT FALSE
	 ORDER BY k.size DESC, k.id DESC LIMIT $2::bigint

-- fragment: fetch_check
	) k
       ) w
  JOIN depot_internal.file f ON f.id = w.id
 CROSS JOIN LATERAL (
	SELECT ($13::text IS NULL OR f.name = $13)
	   AND ($14::text IS NULL OR f.sha256 = decode($14, 'hex'))
	   AND ($15::text IS NULL OR strpos(f.name_folded, $15) > 0)
	   AND f.facets @> translate($5::text, '[]', '{}')::bigint[]
	   AND (f.expires_at > $3::bigint) IS NOT FALSE
	   AND (true OR (
		$4::bigint, $6::bigint, $7::text, $8::uuid, $17::bigint, $18::text, $19::text, $20::text) IS NULL) AS ok
       ) r
 WHERE r.ok OR w.n = $2

-- fragment: fetch_order_created_asc
 ORDER BY w.created_at, w.id LIMIT $1::bigint

-- fragment: fetch_order_created_desc
 ORDER BY w.created_at DESC, w.id DESC LIMIT $1::bigint

-- fragment: fetch_order_name_asc
 ORDER BY w.name, w.id LIMIT $1::bigint

-- fragment: fetch_order_name_desc
 ORDER BY w.name DESC, w.id DESC LIMIT $1::bigint

-- fragment: fetch_order_size_asc
 ORDER BY w.size, w.id LIMIT $1::bigint

-- fragment: fetch_order_size_desc
 ORDER BY w.size DESC, w.id DESC LIMIT $1::bigint

-- name: files_page_all_created_asc = page_row page_bare walk_all_created_asc page_end walk_order_created_asc page_read page_order_created_asc
-- name: files_page_all_created_desc = page_row page_bare walk_all_created_desc page_end walk_order_created_desc page_read page_order_created_desc
-- name: files_page_all_name_asc = page_row page_named walk_all_name_asc page_end walk_order_name_asc page_read page_order_name_asc
-- name: files_page_all_name_desc = page_row page_named walk_all_name_desc page_end walk_order_name_desc page_read page_order_name_desc
-- name: files_page_all_size_asc = page_row page_bare walk_all_size_asc page_end walk_order_size_asc page_read page_order_size_asc
-- name: files_page_all_size_desc = page_row page_bare walk_all_size_desc page_end walk_order_size_desc page_read page_order_size_desc
-- name: files_page_facet_created_asc = page_row page_bare walk_facet_created_asc page_end walk_order_created_asc page_read page_order_created_asc
-- name: files_page_facet_created_desc = page_row page_bare walk_facet_created_desc page_end walk_order_created_desc page_read page_order_created_desc
-- name: files_page_facet_name_asc = page_row page_named walk_facet_name_asc page_end walk_order_name_asc page_read page_order_name_asc
-- name: files_page_facet_name_desc = page_row page_named walk_facet_name_desc page_end walk_order_name_desc page_read page_order_name_desc
-- name: files_page_facet_size_asc = page_row page_bare walk_facet_size_asc page_end walk_order_size_asc page_read page_order_size_asc
-- name: files_page_facet_size_desc = page_row page_bare walk_facet_size_desc page_end walk_order_size_desc page_read page_order_size_desc
-- name: files_walk_all_created_asc = walk_row walk_named walk_all_created_asc walk_end walk_order_created_asc walk_page
-- name: files_walk_all_created_desc = walk_row walk_named walk_all_created_desc walk_end walk_order_created_desc walk_page
-- name: files_walk_all_name_asc = walk_row walk_named walk_all_name_asc walk_end walk_order_name_asc walk_page
-- name: files_walk_all_name_desc = walk_row walk_named walk_all_name_desc walk_end walk_order_name_desc walk_page
-- name: files_walk_all_size_asc = walk_row walk_named walk_all_size_asc walk_end walk_order_size_asc walk_page
-- name: files_walk_all_size_desc = walk_row walk_named walk_all_size_desc walk_end walk_order_size_desc walk_page
-- name: files_walk_facet_created_asc = walk_row walk_bare walk_facet_created_asc walk_end walk_order_created_asc walk_page
-- name: files_walk_facet_created_desc = walk_row walk_bare walk_facet_created_desc walk_end walk_order_created_desc walk_page
-- name: files_walk_facet_name_asc = walk_row walk_named walk_facet_name_asc walk_end walk_order_name_asc walk_page
-- name: files_walk_facet_name_desc = walk_row walk_named walk_facet_name_desc walk_end walk_order_name_desc walk_page
-- name: files_walk_facet_size_asc = walk_row walk_bare walk_facet_size_asc walk_end walk_order_size_asc walk_page
-- name: files_walk_facet_size_desc = walk_row walk_bare walk_facet_size_desc walk_end walk_order_size_desc walk_page
-- name: files_walk_same_name_asc = walk_row walk_named walk_same_asc walk_end walk_order_same_asc walk_page
-- name: files_walk_same_name_desc = walk_row walk_named walk_same_desc walk_end walk_order_same_desc walk_page
-- name: files_walk_content_created_asc = walk_row walk_named walk_content_asc walk_end walk_order_created_asc walk_page
-- name: files_walk_content_created_desc = walk_row walk_named walk_content_desc walk_end walk_order_created_desc walk_page
-- name: files_fetch_created_name_asc = fetch_row fetch_count_name_asc fetch_created pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_created_name_desc = fetch_row fetch_count_name_desc fetch_created pick_name_desc fetch_check fetch_order_name_desc
-- name: files_fetch_created_size_asc = fetch_row fetch_count_size_asc fetch_created pick_size_asc fetch_check fetch_order_size_asc
-- name: files_fetch_created_size_desc = fetch_row fetch_count_size_desc fetch_created pick_size_desc fetch_check fetch_order_size_desc
-- name: files_fetch_size_created_asc = fetch_row fetch_count_created_asc fetch_size pick_created_asc fetch_check fetch_order_created_asc
-- name: files_fetch_size_created_desc = fetch_row fetch_count_created_desc fetch_size pick_created_desc fetch_check fetch_order_created_desc
-- name: files_fetch_size_name_asc = fetch_row fetch_count_name_asc fetch_size pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_size_name_desc = fetch_row fetch_count_name_desc fetch_size pick_name_desc fetch_check fetch_order_name_desc
-- name: files_fetch_name_created_asc = fetch_row fetch_count_created_asc fetch_name pick_created_asc fetch_check fetch_order_created_asc
-- name: files_fetch_name_created_desc = fetch_row fetch_count_created_desc fetch_name pick_created_desc fetch_check fetch_order_created_desc
-- name: files_fetch_name_size_asc = fetch_row fetch_count_size_asc fetch_name pick_size_asc fetch_check fetch_order_size_asc
-- name: files_fetch_name_size_desc = fetch_row fetch_count_size_desc fetch_name pick_size_desc fetch_check fetch_order_size_desc
-- name: files_fetch_sha256_name_asc = fetch_row fetch_count_name_asc fetch_sha256 pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_sha256_name_desc = fetch_row fetch_count_name_desc fetch_sha256 pick_name_desc fetch_check fetch_order_name_desc
-- name: files_fetch_sha256_size_asc = fetch_row fetch_count_size_asc fetch_sha256 pick_size_asc fetch_check fetch_order_size_asc
-- name: files_fetch_sha256_size_desc = fetch_row fetch_count_size_desc fetch_sha256 pick_size_desc fetch_check fetch_order_size_desc
-- name: files_fetch_search_created_asc = fetch_row fetch_count_created_asc fetch_search pick_created_asc fetch_check fetch_order_created_asc
-- name: files_fetch_search_created_desc = fetch_row fetch_count_created_desc fetch_search pick_created_desc fetch_check fetch_order_created_desc
-- name: files_fetch_search_name_asc = fetch_row fetch_count_name_asc fetch_search pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_search_name_desc = fetch_row fetch_count_name_desc fetch_search pick_name_desc fetch_check fetch_order_name_desc
-- name: files_fetch_search_size_asc = fetch_row fetch_count_size_asc fetch_search pick_size_asc fetch_check fetch_order_size_asc
-- name: files_fetch_search_size_desc = fetch_row fetch_count_size_desc fetch_search pick_size_desc fetch_check fetch_order_size_desc
-- name: files_fetch_facet_created_name_asc = fetch_row fetch_count_name_asc fetch_facet_created_named pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_facet_created_name_desc = fetch_row fetch_count_name_desc fetch_facet_created_named pick_name_desc fetch_check fetch_order_name_desc
-- name: files_fetch_facet_created_size_asc = fetch_row fetch_count_size_asc fetch_facet_created pick_size_asc fetch_check fetch_order_size_asc
-- name: files_fetch_facet_created_size_desc = fetch_row fetch_count_size_desc fetch_facet_created pick_size_desc fetch_check fetch_order_size_desc
-- name: files_fetch_facet_size_created_asc = fetch_row fetch_count_created_asc fetch_facet_size pick_created_asc fetch_check fetch_order_created_asc
-- name: files_fetch_facet_size_created_desc = fetch_row fetch_count_created_desc fetch_facet_size pick_created_desc fetch_check fetch_order_created_desc
-- name: files_fetch_facet_size_name_asc = fetch_row fetch_count_name_asc fetch_facet_size_named pick_name_asc fetch_check fetch_order_name_asc
-- name: files_fetch_facet_size_name_desc = fetch_row fetch_count_name_desc fetch_facet_size_named pick_name_desc fetch_check fetch_order_name_desc

-- Of several facets, the one that goes farthest in $2 rows behind a position, the list's: the rarest thereabouts, to walk by.
-- $1 facets  $2 rows  $3 from_number|null  $4 from_name|null  $5 from_id. 0 facet
-- name: files_rarest_created_asc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $4::text IS NULL
 ORDER BY (
	SELECT k.created_at FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.created_at, k.id) > ($3::bigint, $5::uuid)
	 ORDER BY k.created_at, k.id OFFSET $2::bigint LIMIT 1) DESC NULLS FIRST, x.place LIMIT 1

-- name: files_rarest_created_desc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $4::text IS NULL
 ORDER BY (
	SELECT k.created_at FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.created_at, k.id) < ($3::bigint, $5::uuid)
	 ORDER BY k.created_at DESC, k.id DESC OFFSET $2::bigint LIMIT 1) NULLS FIRST, x.place LIMIT 1

-- name: files_rarest_name_asc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $3::bigint IS NULL
 ORDER BY (
	SELECT k.name FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.name, k.id) > (coalesce($4::text, ''), $5::uuid)
	 ORDER BY k.name, k.id OFFSET $2::bigint LIMIT 1) DESC NULLS FIRST, x.place LIMIT 1

-- name: files_rarest_name_desc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $3::bigint IS NULL
 ORDER BY (
	SELECT k.name FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.name, k.id) < (coalesce($4::text, repeat(chr(1114111), 256)), $5::uuid)
	 ORDER BY k.name DESC, k.id DESC OFFSET $2::bigint LIMIT 1) NULLS FIRST, x.place LIMIT 1

-- name: files_rarest_size_asc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $4::text IS NULL
 ORDER BY (
	SELECT k.size FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.size, k.id) > ($3::bigint, $5::uuid)
	 ORDER BY k.size, k.id OFFSET $2::bigint LIMIT 1) DESC NULLS FIRST, x.place LIMIT 1

-- name: files_rarest_size_desc
SELECT x.facet FROM unnest(translate($1::text, '[]', '{}')::bigint[]) WITH ORDINALITY AS x(facet, place)
 WHERE true OR $4::text IS NULL
 ORDER BY (
	SELECT k.size FROM depot_internal.file_facet k WHERE k.facet = x.facet AND (k.size, k.id) < ($3::bigint, $5::uuid)
	 ORDER BY k.size DESC, k.id DESC OFFSET $2::bigint LIMIT 1) NULLS FIRST, x.place LIMIT 1

-- Reads what a fetch will read in the table itself: where that is not in memory, a fetch would take too long, and each try makes it
-- shorter. $1 facet|null  $2 most  $3 time for it, in microseconds  $4 low|null  $5 high|null  $6 sha256|null
-- 0 rows; $2 where the time was too short
-- name: files_touch_facet_created
SELECT count(*) FROM (
	SELECT FROM (
		SELECT CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $3::bigint * interval '1 microsecond')
		            THEN $2::bigint ELSE 1 END AS rows
		  FROM depot_internal.file_facet k
		 WHERE k.facet = $1::bigint AND k.created_at >= $4::bigint AND k.created_at < $5::bigint AND k.ctid <> '(0,0)'::tid AND (true OR ($6::text) IS NULL)) k
	 CROSS JOIN LATERAL generate_series(1, k.rows)
	 LIMIT $2::bigint) c

-- name: files_touch_facet_size
SELECT count(*) FROM (
	SELECT FROM (
		SELECT CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $3::bigint * interval '1 microsecond')
		            THEN $2::bigint ELSE 1 END AS rows
		  FROM depot_internal.file_facet k
		 WHERE k.facet = $1::bigint AND k.size BETWEEN $4::bigint AND $5::bigint AND k.ctid <> '(0,0)'::tid AND (true OR ($6::text) IS NULL)) k
	 CROSS JOIN LATERAL generate_series(1, k.rows)
	 LIMIT $2::bigint) c

-- name: files_touch_sha256
SELECT count(*) FROM (
	SELECT FROM (
		SELECT CASE WHEN clock_timestamp() > (SELECT statement_timestamp() + $3::bigint * interval '1 microsecond')
		            THEN $2::bigint ELSE 1 END AS rows
		  FROM depot_internal.file k
		 WHERE k.sha256 = decode($6::text, 'hex') AND k.ctid <> '(0,0)'::tid AND (true OR ($1::bigint, $4::bigint, $5::bigint) IS NULL)) k
	 CROSS JOIN LATERAL generate_series(1, k.rows)
	 LIMIT $2::bigint) c

-- Bounded counts, to choose the way of a list by. $1 facets  $2 most to count  $3 created_low  $4 created_high  $5 size_low
-- $6 size_high. A row for each facet: 0 facet  1 files with it, created in that range  2 files with it, of that size
-- name: files_probe_facets
SELECT x.facet,
       (SELECT count(*) FROM (
		SELECT FROM depot_internal.file_facet k
		 WHERE k.facet = x.facet AND k.created_at >= $3::bigint AND k.created_at < $4::bigint
		 LIMIT $2::bigint) c),
       (SELECT count(*) FROM (
		SELECT FROM depot_internal.file_facet k
		 WHERE k.facet = x.facet AND k.size BETWEEN $5::bigint AND $6::bigint
		 LIMIT $2::bigint) c)
  FROM unnest(translate($1::text, '[]', '{}')::bigint[]) AS x(facet)

-- The same of all files. $1 name|null  $2 most to count  $3 created_low  $4 created_high  $5 size_low  $6 size_high
-- $7 sha256|null. 0 files created in that range  1 of that size  2 of that name  3 of that content
-- name: files_probe_all
SELECT (SELECT count(*) FROM (
		SELECT FROM depot_internal.file k
		 WHERE k.created_at >= $3::bigint AND k.created_at < $4::bigint LIMIT $2::bigint) c),
       (SELECT count(*) FROM (
		SELECT FROM depot_internal.file k
		 WHERE k.size BETWEEN $5::bigint AND $6::bigint LIMIT $2::bigint) c),
       (SELECT count(*) FROM (
		SELECT FROM depot_internal.file k WHERE k.name = $1::text LIMIT $2::bigint) c),
       (SELECT count(*) FROM (
		SELECT FROM depot_internal.file k WHERE k.sha256 = decode($7::text, 'hex') LIMIT $2::bigint) c)
