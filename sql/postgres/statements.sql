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
--   Parameters and results are int64 or text, or null; nothing else.
--     uuid        text of 36 characters, lower case
--     time        int64, milliseconds since 1970 UTC
--     sha256      text of 64 lower case hexadecimal digits
--     tags        text, a JSON array of strings        attributes  text, a JSON object
--     facets      text, a JSON array of int64 without duplicates (below)
--     ids         text, a JSON array of uuids
--     flag        int64 0 or 1
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
-- from the planner: each statement below has one intended plan, whatever the statistics say.
-- name: session_setup
SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('jit', 'off', false),
       set_config('max_parallel_workers_per_gather', '0', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('enable_material', 'off', false),
       set_config('enable_memoize', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('timezone', 'UTC', false)

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

-- $1 id  $2 created_at  $3 name  $4 name_folded  $5 size  $6 type  $7 sniffed|null  $8 sha256  $9 expires_at|null
-- $10 owner|null  $11 visibility  $12 tags  $13 attributes  $14 revision  $15 facets
-- One row `1`: inserted. No row: a file of this id is there already and is left as it is.
-- name: file_insert
WITH f AS (
	INSERT INTO depot_internal.file (id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner,
	                                 visibility, tags, attributes, revision, facets)
	VALUES ($1::uuid, $2::bigint, $3::text, $4::text, $5::bigint, $6::text, $7::text, decode($8::text, 'hex'),
	        $9::bigint, $10::text, $11::text, ARRAY(SELECT json_array_elements_text($12::json)), $13::jsonb,
	        $14::bigint, translate($15::text, '[]', '{}')::bigint[])
	ON CONFLICT (id) DO NOTHING
	RETURNING id, created_at, size, name, facets
), k AS (
	INSERT INTO depot_internal.file_facet (facet, created_at, size, id, name)
	SELECT x.facet, f.created_at, f.size, f.id, f.name FROM f, unnest(f.facets) AS x(facet)
	ON CONFLICT DO NOTHING
)
SELECT 1 FROM f

-- What PATCH may change, where the row still has revision $2.
-- $1 id  $2 expected revision  $3 name  $4 name_folded  $5 expires_at|null  $6 visibility  $7 tags  $8 attributes  $9 facets
-- The file row as it is now (revision $2 + 1); no row: absent, or at another revision.
-- name: file_update
WITH old AS MATERIALIZED (
	SELECT id, created_at, name, facets FROM depot_internal.file
	 WHERE id = $1::uuid AND revision = $2::bigint FOR UPDATE
), f AS (
	UPDATE depot_internal.file u
	   SET name = $3::text, name_folded = $4::text, expires_at = $5::bigint, visibility = $6::text,
	       tags = ARRAY(SELECT json_array_elements_text($7::json)), attributes = $8::jsonb,
	       facets = translate($9::text, '[]', '{}')::bigint[], revision = u.revision + 1
	  FROM old WHERE u.id = old.id
	RETURNING u.*
), gone AS (
	DELETE FROM depot_internal.file_facet k
	 USING old, f, unnest(old.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id
	   AND x.facet <> ALL (f.facets)
), renamed AS (
	UPDATE depot_internal.file_facet k SET name = f.name
	  FROM old, f, unnest(old.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id
	   AND x.facet = ANY (f.facets) AND old.name <> f.name
), fresh AS (
	INSERT INTO depot_internal.file_facet (facet, created_at, size, id, name)
	SELECT x.facet, f.created_at, f.size, f.id, f.name FROM old, f, unnest(f.facets) AS x(facet)
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
), gone AS (
	DELETE FROM depot_internal.file_facet k
	 USING f, unnest(f.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = f.created_at AND k.id = f.id
)
SELECT f.id::text, f.name, f.size, f.type, f.sniffed, encode(f.sha256, 'hex'), f.created_at, f.expires_at, f.owner,
       f.visibility, array_to_json(f.tags)::text, f.attributes::text, f.revision
  FROM f

-- $1 id  $2 now. As file_delete, but only while it is past its expiry (a PATCH may have come between).
-- name: file_delete_expired
WITH f AS (
	DELETE FROM depot_internal.file WHERE id = $1::uuid AND expires_at <= $2::bigint RETURNING *
), gone AS (
	DELETE FROM depot_internal.file_facet k
	 USING f, unnest(f.facets) AS x(facet)
	 WHERE k.facet = x.facet AND k.created_at = f.created_at AND k.id = f.id
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
