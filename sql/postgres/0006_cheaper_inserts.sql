-- 0006: what storing a file costs the server.
--
-- A generated column by a function and six constraints were a fifth of the work of a single insert, as each execution of a statement
-- makes their expressions ready anew. The program sends the bits now, and sees to five of the constraints itself (rows.c); for
-- all others, the release before and people, a trigger does both. Expand only. No row is read or written and no index is built:
-- the locks that this takes on the table of files are held for a moment.

ALTER TABLE depot_internal.file
	ALTER COLUMN facet_bits DROP EXPRESSION,
	DROP CONSTRAINT file_revision,
	DROP CONSTRAINT file_sha256,
	DROP CONSTRAINT file_visibility,
	DROP CONSTRAINT file_name,
	DROP CONSTRAINT file_attributes;

CREATE FUNCTION depot_internal.file_made_right() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	wrong text := CASE
		WHEN new.revision < 1 THEN 'file_revision'
		WHEN octet_length(new.sha256) <> 32 THEN 'file_sha256'
		WHEN new.visibility NOT IN ('private', 'public') THEN 'file_visibility'
		WHEN char_length(new.name) NOT BETWEEN 1 AND 255 THEN 'file_name'
		WHEN jsonb_typeof(new.attributes) <> 'object' THEN 'file_attributes' END;
BEGIN
	IF wrong IS NOT NULL THEN
		RAISE check_violation USING
			MESSAGE = format('row for table "file" violates constraint "%s"', wrong), CONSTRAINT = wrong;
	END IF;
	new.facet_bits := depot_internal.facet_bits(new.facets, new.sha256);
	RETURN new;
END
$$;

-- The program's own inserts come with their bits, and pass by for the price of this condition.
CREATE TRIGGER file_inserted BEFORE INSERT ON depot_internal.file
	FOR EACH ROW WHEN (new.facet_bits IS NULL) EXECUTE FUNCTION depot_internal.file_made_right();
CREATE TRIGGER file_updated BEFORE UPDATE ON depot_internal.file
	FOR EACH ROW EXECUTE FUNCTION depot_internal.file_made_right();

-- Trigrams wait unsorted until there are so many KiB of them, and one insert sorts them in: the more wait, the more of them go to the
-- same place. With 2 MiB instead of 512 KiB this costs 2 µs less a file; the insert that does it takes 20 ms, once in 6,000; and
-- a search reads what waits, at most 1.2 ms.
DO $$
BEGIN
	IF to_regclass('depot_internal.file_by_trigram') IS NOT NULL THEN
		ALTER INDEX depot_internal.file_by_trigram SET (gin_pending_list_limit = 2048);
	END IF;
END
$$;
