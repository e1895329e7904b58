-- 0002: the keys of requests that were answered, so that a repeat gets the first answer (Idempotency-Key).
--
-- Only adds: a program that does not know the table runs on. Runs in one transaction.

-- One row is one request that carried a key. It comes in the transaction that inserts the request's files, so one of two nodes
-- that have the same key at once finds it taken. What the answer said stands here whole: the files may have been changed or
-- removed since. Kept for limits.idempotency_ttl.
CREATE TABLE depot_internal.idempotency_key (
	owner       text   COLLATE "C" NOT NULL, -- '': nobody (access.mode = open)
	key         text   COLLATE "C" NOT NULL,
	fingerprint bytea  NOT NULL,             -- of what the request meant
	request     uuid   NOT NULL,             -- so that a request never stands in its own way
	answered_at bigint NOT NULL,             -- milliseconds since 1970, UTC
	answer      text   NOT NULL,             -- JSON: the files as they were answered
	CONSTRAINT idempotency_key_pkey PRIMARY KEY (owner, key),
	CONSTRAINT idempotency_key_key CHECK (char_length(key) BETWEEN 1 AND 255),
	CONSTRAINT idempotency_key_fingerprint CHECK (octet_length(fingerprint) = 32)
);

CREATE INDEX idempotency_key_by_time ON depot_internal.idempotency_key (answered_at);

-- What the insertion of a key comes to (named statement key_insert): an upsert that found another request's key changes no row,
-- and the transaction must not go on as if it had.
CREATE FUNCTION depot_internal.one_key(changed bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	IF changed <> 1 THEN
		RAISE unique_violation USING MESSAGE = 'another request has this idempotency key';
	END IF;
	RETURN changed;
END
$$;
