-- 0005: what tells a server that crashed since (docs/durability.md, "Rows that the database may still forget").
--
-- One row with a random id. The table is unlogged: PostgreSQL empties it when it recovers from a crash, and a standby that is
-- promoted has it empty, which is just when commits that it had not written out yet may be lost. Expand only.
CREATE UNLOGGED TABLE depot_internal.server_life (
	one boolean NOT NULL DEFAULT true,
	id  uuid    NOT NULL DEFAULT gen_random_uuid(),
	CONSTRAINT server_life_pkey PRIMARY KEY (one),
	CONSTRAINT server_life_one CHECK (one)
);
