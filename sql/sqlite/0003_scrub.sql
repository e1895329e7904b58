-- 0003: when each file's bytes were last found right, which were not, and how far each data directory has come.
--
-- Nothing of this is in the table of files: what the scrub writes touches none of the indexes that lists read.
-- Expand only: a program that does not know these tables works as before.

-- A file without a row here was never looked at since it was stored, which counts as verified: rows come with the scrub.
CREATE TABLE file_scrub (
	id          TEXT    NOT NULL PRIMARY KEY,
	checked_at  INTEGER NOT NULL,           -- when the scrub last looked, milliseconds since 1970
	verified_at INTEGER NOT NULL,           -- when the bytes were last right: since then they may have been damaged
	damaged_at  INTEGER,                    -- when damage was found; null: none
	damage      TEXT,                       -- what it is, for people
	CHECK ((damaged_at IS NULL) = (damage IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX file_scrub_by_checked ON file_scrub (checked_at, id);
CREATE INDEX file_scrub_damaged ON file_scrub (checked_at, id) WHERE damaged_at IS NOT NULL;

-- One row for each data directory that was served with this database; the directory has the same two values. See
-- docs/durability.md: a database that is behind its directory was restored to an earlier time.
CREATE TABLE directory_mark (
	directory TEXT    NOT NULL PRIMARY KEY,
	mark      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER file_scrub_deleted AFTER DELETE ON file BEGIN
	DELETE FROM file_scrub WHERE id = old.id;
END;

-- The stable part.
CREATE VIEW depot_file_health AS
SELECT f.id AS file_id,
       strftime('%Y-%m-%dT%H:%M:%S', coalesce(s.verified_at, f.created_at) / 1000, 'unixepoch')
           || printf('.%03dZ', coalesce(s.verified_at, f.created_at) % 1000) AS verified_at,
       strftime('%Y-%m-%dT%H:%M:%S', s.damaged_at / 1000, 'unixepoch')
           || printf('.%03dZ', s.damaged_at % 1000) AS damaged_at,
       s.damage
  FROM file f LEFT JOIN file_scrub s ON s.id = f.id;
