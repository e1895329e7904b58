-- 0001: files, their facets, and the views that people may rely on.
--
-- The views depot_* are the stable part (docs/schema.md); everything else may change with any
-- migration. Needs SQLite 3.37 (STRICT) with JSON, and FTS5 with its trigram tokenizer (3.34).
-- Runs in one transaction.

-- One row is one stored file. The id is a UUID in its text form (36 characters, lower case).
CREATE TABLE file (
	seq         INTEGER PRIMARY KEY,        -- the name this row has in file_search
	id          TEXT    NOT NULL UNIQUE,
	created_at  INTEGER NOT NULL,           -- milliseconds since 1970, UTC
	expires_at  INTEGER,                    -- the same; null: never
	size        INTEGER NOT NULL CHECK (size >= 0),
	revision    INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
	sha256      TEXT    NOT NULL CHECK (length(sha256) = 64),
	visibility  TEXT    NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'public')),
	name        TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
	name_folded TEXT    NOT NULL,           -- what search reads: the name in lower case
	type        TEXT    NOT NULL,
	sniffed     TEXT,                       -- what the signature says; null: it says nothing
	owner       TEXT,                       -- null: nobody (access.mode = open)
	tags        TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(tags) = 'array'),
	attributes  TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(attributes) = 'object'),
	facets      TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(facets) = 'array'),
	CHECK (length(id) = 36)
) STRICT;

-- The three orders of a list; each carries what the other two sort and filter by.
CREATE INDEX file_by_created ON file (created_at, id, name, size);
CREATE INDEX file_by_name ON file (name, id, created_at, size);
CREATE INDEX file_by_size ON file (size, id, created_at, name);
CREATE INDEX file_by_sha256 ON file (sha256, created_at, id);
CREATE INDEX file_by_expiry ON file (expires_at, id) WHERE expires_at IS NOT NULL;

-- A facet is one thing to filter by that a file either has or has not: its type, the type's family,
-- its owner, each tag, each attribute. The number is a hash that the program makes (see the head of
-- statements.sql). The triggers below keep these rows in step with file.facets.
CREATE TABLE file_facet (
	facet      INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	id         TEXT    NOT NULL,
	size       INTEGER NOT NULL,
	name       TEXT    NOT NULL,
	PRIMARY KEY (facet, created_at, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX file_facet_by_name ON file_facet (facet, name, id, created_at, size);
CREATE INDEX file_facet_by_size ON file_facet (facet, size, id, created_at, name);

-- Substring search over file.name_folded, by trigrams. It keeps no copy of the names.
CREATE VIRTUAL TABLE file_search USING fts5(
	name_folded,
	content = 'file',
	content_rowid = 'seq',
	tokenize = 'trigram case_sensitive 1',
	detail = full
);

CREATE TRIGGER file_inserted AFTER INSERT ON file BEGIN
	INSERT INTO file_search (rowid, name_folded) VALUES (new.seq, new.name_folded);
	INSERT OR IGNORE INTO file_facet (facet, created_at, id, size, name)
	SELECT value, new.created_at, new.id, new.size, new.name FROM json_each(new.facets);
END;

CREATE TRIGGER file_deleted AFTER DELETE ON file BEGIN
	INSERT INTO file_search (file_search, rowid, name_folded)
	VALUES ('delete', old.seq, old.name_folded);
	DELETE FROM file_facet
	 WHERE facet IN (SELECT value FROM json_each(old.facets))
	   AND created_at = old.created_at AND id = old.id;
END;

CREATE TRIGGER file_renamed AFTER UPDATE OF name_folded ON file
WHEN old.name_folded IS NOT new.name_folded BEGIN
	INSERT INTO file_search (file_search, rowid, name_folded)
	VALUES ('delete', old.seq, old.name_folded);
	INSERT INTO file_search (rowid, name_folded) VALUES (new.seq, new.name_folded);
END;

CREATE TRIGGER file_changed AFTER UPDATE OF name, facets ON file
WHEN old.name IS NOT new.name OR old.facets IS NOT new.facets BEGIN
	DELETE FROM file_facet
	 WHERE facet IN (SELECT value FROM json_each(old.facets))
	   AND created_at = old.created_at AND id = old.id;
	INSERT OR IGNORE INTO file_facet (facet, created_at, id, size, name)
	SELECT value, new.created_at, new.id, new.size, new.name FROM json_each(new.facets);
END;

-- The stable part.
CREATE VIEW depot_files AS
SELECT id,
       name,
       size,
       type,
       sniffed AS sniffed_type,
       sha256,
       strftime('%Y-%m-%dT%H:%M:%S', created_at / 1000, 'unixepoch')
           || printf('.%03dZ', created_at % 1000) AS created_at,
       strftime('%Y-%m-%dT%H:%M:%S', expires_at / 1000, 'unixepoch')
           || printf('.%03dZ', expires_at % 1000) AS expires_at,
       owner,
       visibility,
       tags,
       attributes,
       revision
  FROM file;

CREATE VIEW depot_file_tags AS
SELECT f.id AS file_id, t.value AS tag
  FROM file f, json_each(f.tags) t;
