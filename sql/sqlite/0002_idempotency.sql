-- 0002: the keys of requests that were answered, so that a repeat gets the first answer (Idempotency-Key).
--
-- Only adds: a program that does not know the table runs on. Runs in one transaction.

-- One row is one request that carried a key, inserted in the transaction that inserts the request's files. What the answer said
-- stands here whole: the files may have been changed or removed since. Kept for limits.idempotency_ttl.
CREATE TABLE idempotency_key (
	owner       TEXT    NOT NULL,           -- '': nobody (access.mode = open)
	key         TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
	fingerprint TEXT    NOT NULL CHECK (length(fingerprint) = 64), -- of what the request meant
	request     TEXT    NOT NULL,           -- so that a request never stands in its own way
	answered_at INTEGER NOT NULL,           -- milliseconds since 1970, UTC
	answer      TEXT    NOT NULL,           -- JSON: the files as they were answered
	PRIMARY KEY (owner, key)
) STRICT;

CREATE INDEX idempotency_key_by_time ON idempotency_key (answered_at);
