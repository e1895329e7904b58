-- 0004: a sample of the names, one file of 2048, for guesses at how many names hold a word (files_probe_search).
--
-- The last bits of a version 7 id are random; a partial index of them costs an insert a comparison, and keeps itself.
CREATE INDEX file_sample ON depot_internal.file (id) INCLUDE (name_folded)
 WHERE get_byte(uuid_send(id), 15) = 0 AND get_byte(uuid_send(id), 14) < 32;
