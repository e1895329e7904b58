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

-- A script. Once on every new connection.
-- name: session_setup
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
PRAGMA mmap_size = 268435456;
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
-- ?10 owner|null  ?11 visibility  ?12 tags  ?13 attributes  ?14 revision  ?15 facets
-- One row `1`: inserted. No row: a file of this id is there already and is left as it is.
-- name: file_insert
INSERT INTO file (id, created_at, name, name_folded, size, type, sniffed, sha256, expires_at, owner, visibility, tags,
                  attributes, revision, facets)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
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
