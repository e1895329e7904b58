-- 0001: files, their facets, and the views that people may rely on.
--
-- depot_internal holds the tables and may change with any migration; depot holds views and is the
-- stable part (docs/schema.md). Works without superuser (Amazon RDS, Aurora) from PostgreSQL 13 on.
-- Runs in one transaction, after the named statement migrations_prepare has made depot_internal.

DO $$
BEGIN
	IF to_regnamespace('depot') IS NULL THEN
		CREATE SCHEMA depot;
	END IF;
END
$$;

-- A Bloom filter of a file's facets (see file_facet) and its digest, two bits for each. Lists carry it in their indexes: a
-- list by one facet that asks for another one, or for a digest, reads the index alone and passes over most of the rows
-- without it. The filter of a list is made by the same function: this is the only place that knows the bits.
CREATE FUNCTION depot_internal.facet_bits(facets bigint[], digest bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
	bits bigint := 0;
	facet bigint;
BEGIN
	FOREACH facet IN ARRAY facets LOOP
		bits := bits | (1::bigint << (facet & 63)::int) | (1::bigint << (facet >> 6 & 63)::int);
	END LOOP;
	IF digest IS NOT NULL THEN
		bits := bits | (1::bigint << get_byte(digest, 0) % 64) | (1::bigint << get_byte(digest, 1) % 64);
	END IF;
	RETURN bits;
END
$$;

-- One row is one stored file. Ids are time-ordered (UUID version 7), so the primary key grows at its
-- right edge only.
CREATE TABLE depot_internal.file (
	id          uuid   NOT NULL,
	created_at  bigint NOT NULL,            -- milliseconds since 1970, UTC
	expires_at  bigint,                     -- the same; null: never
	size        bigint NOT NULL,
	revision    bigint NOT NULL DEFAULT 1,  -- +1 with every change
	sha256      bytea  NOT NULL,
	visibility  text   COLLATE "C" NOT NULL DEFAULT 'private',
	name        text   COLLATE "C" NOT NULL,
	name_folded text   COLLATE "C" NOT NULL, -- what search reads: the name in lower case
	type        text   COLLATE "C" NOT NULL,
	sniffed     text   COLLATE "C",         -- what the signature says; null: it says nothing
	owner       text   COLLATE "C",         -- null: nobody (access.mode = open)
	tags        text[] COLLATE "C" NOT NULL DEFAULT '{}',
	attributes  jsonb  NOT NULL DEFAULT '{}',
	facets      bigint[] NOT NULL DEFAULT '{}', -- the rows this file has in file_facet
	facet_bits  bigint NOT NULL GENERATED ALWAYS AS (depot_internal.facet_bits(facets, sha256)) STORED,
	CONSTRAINT file_pkey PRIMARY KEY (id),
	CONSTRAINT file_size CHECK (size >= 0),
	CONSTRAINT file_revision CHECK (revision >= 1),
	CONSTRAINT file_sha256 CHECK (octet_length(sha256) = 32),
	CONSTRAINT file_visibility CHECK (visibility IN ('private', 'public')),
	CONSTRAINT file_name CHECK (char_length(name) BETWEEN 1 AND 255),
	CONSTRAINT file_attributes CHECK (jsonb_typeof(attributes) = 'object')
) WITH (
	-- Index-only scans need the visibility map, so vacuum follows inserts closely.
	autovacuum_vacuum_insert_scale_factor = 0.01,
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_analyze_scale_factor = 0.02
);

-- The three orders of a list. Each carries what the other two sort and filter by, so that a walk in
-- one order under a range of another reads the index alone.
CREATE INDEX file_by_created ON depot_internal.file (created_at, id)
	INCLUDE (size, facet_bits, name);
CREATE INDEX file_by_name ON depot_internal.file (name, id)
	INCLUDE (created_at, size, facet_bits);
CREATE INDEX file_by_size ON depot_internal.file (size, id)
	INCLUDE (created_at, facet_bits, name);
CREATE INDEX file_by_sha256 ON depot_internal.file (sha256, created_at, id);
CREATE INDEX file_by_expiry ON depot_internal.file (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX file_by_attributes ON depot_internal.file USING gin (attributes jsonb_path_ops);
-- For people: ranges of created_at in depot.files. Rows lie in order of creation, so this is tiny.
CREATE INDEX file_by_created_brin ON depot_internal.file
	USING brin (to_timestamp(created_at / 1000.0::float8));

-- A facet is one thing to filter by that a file either has or has not: its type, the type's family,
-- its owner, each tag, each attribute. The number is a hash that the program makes (see the head of
-- statements.sql). Three orders of the same narrow rows make every such filter with every sort one
-- stretch of one index, whatever the data looks like.
CREATE TABLE depot_internal.file_facet (
	facet      bigint NOT NULL,
	created_at bigint NOT NULL,
	size       bigint NOT NULL,
	facet_bits bigint NOT NULL,
	id         uuid   NOT NULL,
	name       text   COLLATE "C" NOT NULL,
	CONSTRAINT file_facet_pkey PRIMARY KEY (facet, created_at, id) INCLUDE (size, facet_bits)
) WITH (
	autovacuum_vacuum_insert_scale_factor = 0.01,
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_analyze_scale_factor = 0.02
);

CREATE INDEX file_facet_by_name ON depot_internal.file_facet (facet, name, id)
	INCLUDE (created_at, size, facet_bits);
CREATE INDEX file_facet_by_size ON depot_internal.file_facet (facet, size, id)
	INCLUDE (created_at, facet_bits);

-- A file's facets go with it, whoever deletes it: a person's DELETE or TRUNCATE too, so that reindex finds no remains.
CREATE FUNCTION depot_internal.file_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM depot_internal.file_facet; -- not TRUNCATE: one command may name both tables
	ELSE
		DELETE FROM depot_internal.file_facet k
		 USING unnest(old.facets) AS x(facet)
		 WHERE k.facet = x.facet AND k.created_at = old.created_at AND k.id = old.id;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER file_deleted AFTER DELETE ON depot_internal.file
	FOR EACH ROW EXECUTE FUNCTION depot_internal.file_deleted();
CREATE TRIGGER file_truncated AFTER TRUNCATE ON depot_internal.file
	FOR EACH STATEMENT EXECUTE FUNCTION depot_internal.file_deleted();

-- Substring search. pg_trgm is trusted from PostgreSQL 13 on, so the owner of the database may
-- create it, RDS included; where that is forbidden or the files are missing, search walks instead.
-- The short pending list keeps the pauses short in which an insert sorts it in (and searches read it through).
DO $$
DECLARE
	home text;
BEGIN
	BEGIN
		CREATE EXTENSION IF NOT EXISTS pg_trgm;
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE 'pg_trgm is not available (%): names are searched without an index', SQLERRM;
	END;
	SELECT n.nspname INTO home
	  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
	 WHERE e.extname = 'pg_trgm';
	IF home IS NOT NULL THEN
		EXECUTE format('CREATE INDEX file_by_trigram ON depot_internal.file
		                USING gin (name_folded %I.gin_trgm_ops) WITH (gin_pending_list_limit = 512)', home);
	END IF;
END
$$;

-- The stable part.
CREATE VIEW depot.files AS
SELECT f.id,
       f.name,
       f.size,
       f.type,
       f.sniffed AS sniffed_type,
       f.sha256,
       to_timestamp(f.created_at / 1000.0::float8) AS created_at,
       to_timestamp(f.expires_at / 1000.0::float8) AS expires_at,
       f.owner,
       f.visibility,
       f.tags,
       f.attributes,
       f.revision
  FROM depot_internal.file f;

CREATE VIEW depot.file_tags AS
SELECT f.id AS file_id, t.tag
  FROM depot_internal.file f CROSS JOIN LATERAL unnest(f.tags) AS t(tag);

COMMENT ON SCHEMA depot IS 'depotd: views for people; stable. See docs/schema.md';
COMMENT ON SCHEMA depot_internal IS 'depotd: tables; change with any version';
COMMENT ON VIEW depot.files IS 'one row per stored file; expired files stay until they are swept';
COMMENT ON VIEW depot.file_tags IS 'one row per file and tag';
