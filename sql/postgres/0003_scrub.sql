-- 0003: when each file's bytes were last found right, which were not, and how far each data directory has come.
--
-- Nothing of this is in the table of files: what the scrub writes touches none of the indexes that lists read.
-- Expand only: a program that does not know these tables works as before.

-- A file without a row here was never looked at since it was stored, which counts as verified: rows come with the scrub.
CREATE TABLE depot_internal.file_scrub (
	id          uuid   NOT NULL,
	checked_at  bigint NOT NULL,            -- when the scrub last looked, milliseconds since 1970
	verified_at bigint NOT NULL,            -- when the bytes were last right: since then they may have been damaged
	damaged_at  bigint,                     -- when damage was found; null: none
	damage      text   COLLATE "C",         -- what it is, for people
	CONSTRAINT file_scrub_pkey PRIMARY KEY (id),
	CONSTRAINT file_scrub_damage CHECK ((damaged_at IS NULL) = (damage IS NULL))
) WITH (
	autovacuum_vacuum_scale_factor = 0.05
);
CREATE INDEX file_scrub_by_checked ON depot_internal.file_scrub (checked_at, id);
CREATE INDEX file_scrub_damaged ON depot_internal.file_scrub (checked_at, id) WHERE damaged_at IS NOT NULL;

-- One row for each data directory that was served with this database; the directory has the same two values. See
-- docs/durability.md: a database that is behind its directory was restored to an earlier time.
CREATE TABLE depot_internal.directory_mark (
	directory uuid   NOT NULL,
	mark      bigint NOT NULL,
	CONSTRAINT directory_mark_pkey PRIMARY KEY (directory)
);

-- As before, and what is known of the bytes goes with the file, too.
CREATE OR REPLACE FUNCTION depot_internal.file_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM depot_internal.file_facet; -- not TRUNCATE: one command may name both tables
		DELETE FROM depot_internal.file_scrub;
	ELSE
		DELETE FROM depot_internal.file_facet k
		 USING unnest(old.facets) AS x(facet)
		 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id;
		DELETE FROM depot_internal.file_scrub WHERE id = old.id;
	END IF;
	RETURN NULL;
END
$$;

-- The stable part.
CREATE VIEW depot.file_health AS
SELECT f.id AS file_id,
       to_timestamp(coalesce(s.verified_at, f.created_at) / 1000.0::float8) AS verified_at,
       to_timestamp(s.damaged_at / 1000.0::float8) AS damaged_at,
       s.damage
  FROM depot_internal.file f LEFT JOIN depot_internal.file_scrub s ON s.id = f.id;

COMMENT ON VIEW depot.file_health IS 'one row per file: when its bytes were last found right, and what is wrong with them';
