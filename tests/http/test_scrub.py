"""The scrub finds bytes that changed on the disk, and nobody is served them; what `check --repair` makes of it; what the sweep
does with a database that was set back. Nothing sleeps: intervals are short, and the tests wait for metrics."""
import os
import re
import shutil
import unittest

from depot_case import DepotCase, on_both_stores, pattern_bytes, wait_until
from depotd_server import seconds

NO_GRACE = ["--storage.grace", "0s"]
QUICK = {"storage.scrub_interval": "200ms", "storage.scrub_rate": "1G"}
# Larger than what is kept in memory, so that only the scrub can know.
LARGE = pattern_bytes(300_000, b"large")


class ScrubCase(DepotCase):
    def metric(self, name):
        value = re.search(r"(?m)^%s (\S+)$" % re.escape(name), self.get("/metrics").body.decode())
        return float(value[1]) if value else None

    def wait_for(self, name, value):
        wait_until(lambda: self.metric(name) == value, "%s is %s" % (name, value))

    def path(self, file):
        path, = [p for p in self.server.stored_files() if os.path.basename(p) == file["id"]]
        return os.path.join(self.server.data_dir, path)

    def change_byte(self, file, at=0):
        """Flips a bit; doing it twice heals."""
        with open(self.path(file), "r+b") as blob:
            blob.seek(at)
            byte = blob.read(1)[0]
            blob.seek(at)
            blob.write(bytes([byte ^ 1]))

    def assert_damaged(self, file):
        for headers in ({}, {"Range": "bytes=0-0"}, {"Range": "bytes=5-6,9-10"}, {"If-None-Match": '"%s"' % file["sha256"]}):
            response = self.get(file["url"], headers)
            self.assertEqual(response.status, 500, repr(response))
            self.assertIn("the stored bytes are damaged", self.check_problem(response)["detail"])
        self.assertEqual(self.request("HEAD", file["url"]).status, 500)
        self.assertEqual(self.metadata(file["id"]), file)

    def error_lines(self, text):
        return [line for line in self.server.stderr.splitlines() if text in line and "GET " not in line]

    def table(self, name):
        return ("depot_internal." if self.server.cluster is not None else "") + name


@on_both_stores
class Damage(ScrubCase):
    def test_a_flipped_bit_is_found_marked_reported_and_healed(self):
        with self.own_server(QUICK) as server:
            small, large, sound = self.put("small", b"small"), self.put("large", LARGE), self.put("sound", LARGE)
            self.content(small), self.content(large)
            self.change_byte(small)
            self.change_byte(large, 200_000)
            self.wait_for("depotd_damaged_files", 2)
            self.assert_damaged(small)
            self.assert_damaged(large)
            self.content(sound)
            found = server.command("check")
            self.assertEqual(found.returncode, 1, found.stdout)
            for file in (small, large):
                self.assertRegex(found.stdout, r"(?m)^%s damaged: the bytes do not have the digest .* \(found 20" % file["id"])
                self.assertEqual(len(self.error_lines("file %s is damaged" % file["id"])), 1)
            server.stop()
            server.start()
            self.assert_damaged(large)  # from the first request on
            self.change_byte(small)
            self.change_byte(large, 200_000)
            self.wait_for("depotd_damaged_files", 0)
            self.content(small), self.content(large)
            self.assertEqual(server.command("check").returncode, 0)
            self.assertEqual(len(self.error_lines("file %s is right again" % large["id"])), 1)

    def test_wrong_bytes_of_a_small_file_are_noticed_when_they_are_read_even_without_a_scrub(self):
        with self.own_server({**QUICK, "storage.scrub_rate": "0"}):
            file = self.put("a.txt", b"content")
            self.change_byte(file)
            self.assert_refused(self.get(file["url"]), "the stored bytes are damaged", status=500)
            self.wait_for("depotd_damaged_files", 1)
            self.assert_damaged(file)
            self.assertEqual(self.metric("depotd_scrubbed_files_total"), 1)

    def test_nobody_waits_for_a_large_file_that_is_being_read(self):
        with self.own_server({"storage.scrub_interval": "100ms", "storage.scrub_rate": "10K"}) as server:
            large, small, other = self.put("large", LARGE), self.put("small", b"small"), self.put("other", b"other")
            self.change_byte(small)
            self.assert_refused(self.get(small["url"]), "the stored bytes are damaged", status=500)
            self.wait_for("depotd_damaged_files", 1)
            # The scrub makes a file's row when it comes by, and may not have come by this one.
            server.sql("INSERT INTO %s (id, checked_at, verified_at, damaged_at, damage) VALUES ('%s', 9999999999999, 1, 1, 'says somebody') "
                       "ON CONFLICT (id) DO UPDATE SET damaged_at = 1, damage = 'says somebody'" % (self.table("file_scrub"), other["id"]))
            wait_until(lambda: self.get(other["url"]).status == 500, "the other mark is seen")
            self.content(large)

    def test_cut_and_missing_files_are_damage_too(self):
        with self.own_server(QUICK) as server:
            cut, missing = self.put("cut", LARGE), self.put("missing", LARGE)
            os.truncate(self.path(cut), 1000)
            os.unlink(self.path(missing))
            self.wait_for("depotd_damaged_files", 2)
            self.assert_damaged(cut)
            self.assert_damaged(missing)
            self.assertEqual(self.request("DELETE", cut["url"]).status, 204)
            self.assertEqual(self.request("DELETE", missing["url"]).status, 204)
            self.wait_for("depotd_damaged_files", 0)
            self.assertEqual(server.sql("SELECT count(*) FROM %s" % self.table("file_scrub"))[0][0] in (0, "0"), True)

    def test_what_repair_marks_is_not_served_and_what_is_right_again_is(self):
        with self.own_server({**QUICK, "storage.scrub_rate": "0"}) as server:
            file = self.put("large", LARGE)
            self.change_byte(file)
            self.assertEqual(self.get(file["url"]).status, 200)  # nobody knows yet
            marked = server.command("check", "--verify", "--repair")
            self.assertEqual(marked.returncode, 1, marked.stdout)
            self.assertRegex(marked.stdout, r"(?m)^%s digest differs: " % file["id"])
            self.wait_for("depotd_damaged_files", 1)
            self.assert_damaged(file)
            self.change_byte(file)
            healed = server.command("check", "--repair")
            self.assertEqual(healed.returncode, 0, healed.stdout)
            self.assertRegex(healed.stdout, r"(?m)^%s no longer damaged: .*\(repaired\)$" % file["id"])
            self.wait_for("depotd_damaged_files", 0)
            self.content(file)

    def test_the_scrub_goes_round_and_says_how_old_the_oldest_is(self):
        with self.own_server(QUICK):
            for number in range(20):
                self.put("f%d" % number, b"x" * number)
            wait_until(lambda: self.metric("depotd_scrubbed_files_total") >= 60, "all were read three times")
            self.assertLess(self.metric("depotd_scrub_oldest_seconds"), seconds(30))
            self.assertEqual(self.metric("depotd_damaged_files"), 0)

    def test_what_was_not_verified_for_long_comes_first_after_a_restart(self):
        with self.own_server({"storage.scrub_interval": "30d"}) as server:
            new, old = self.put("new", LARGE), self.put("old", LARGE)
            server.stop()
            server.start()
            wait_until(lambda: len(server.sql("SELECT id FROM %s" % self.table("file_scrub"))) == 2,
                       "both are known to the scrub")
            server.sql("UPDATE %s SET checked_at = 1 WHERE id = '%s'" % (self.table("file_scrub"), old["id"]))
            self.change_byte(old), self.change_byte(new)
            server.stop()
            server.start()
            self.wait_for("depotd_damaged_files", 1)
            self.assert_damaged(old)
            self.assertEqual(self.get(new["url"]).status, 200)


@on_both_stores
class Repair(ScrubCase):
    def forget(self, server, *files):
        for file in files:
            server.sql("DELETE FROM %s WHERE id = '%s'" % (self.table("file"), file["id"]))

    def test_a_row_whose_bytes_are_gone_is_removed_and_printed_whole(self):
        with self.own_server() as server:
            file, _ = self.put("lost.txt", b"lost", "?tags=precious"), self.put("other")
            os.unlink(self.path(file))
            result = server.command("check", "--repair")
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r"(?m)^%s row without bytes: the row is removed; it was \{.*lost\.txt.*precious.*\}"
                                            r" \(repaired\)$" % file["id"])
            self.assertEqual(self.get(file["url"]).status, 404)

    def test_bytes_without_a_row_are_moved_aside_while_nobody_serves(self):
        with self.own_server() as server:
            orphan, stays = self.put("orphan", b"orphan"), self.put("stays")
            server.stop()
            self.forget(server, orphan)
            result = server.command("check", "--repair", *NO_GRACE)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r"(?m)^%s bytes without row: .* aside .*\(repaired\)$" % orphan["id"])
            with open(os.path.join(server.data_dir, "aside", orphan["id"]), "rb") as aside:
                self.assertEqual(aside.read(), b"orphan")
            clean = server.command("check", *NO_GRACE)
            self.assertEqual((clean.returncode, clean.stdout), (0, "checked 1 rows and 1 files (7 bytes): 0 findings\n"))
            server.start()
            self.content(stays)

    def test_beside_a_daemon_bytes_without_a_row_are_its_sweeps(self):
        with self.own_server() as server:
            orphan, _ = self.put("orphan", b"orphan"), self.put("stays")
            self.forget(server, orphan)
            self.assertEqual(server.command("check", "--repair").returncode, 0)  # younger than the grace
            result = server.command("check", "--repair", *NO_GRACE)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertRegex(result.stdout, r"(?m)^%s bytes without row: .*sweep of the daemon" % orphan["id"])
            self.assertTrue(os.path.exists(self.path(orphan)))

    def test_what_a_crash_left_in_the_journal_is_not_mended_away(self):
        with self.own_server() as server:
            file = self.put("small", b"small")
            path = self.path(file)
            server.kill()
            os.unlink(path)  # what a power cut does to a file that only the journal has yet
            result = server.command("check", "--repair", *NO_GRACE)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            server.start()
            self.assertEqual(self.metadata(file["id"]), file)
            self.content(file)

    def test_a_description_without_bytes_is_removed(self):
        with self.own_server() as server:
            file = self.put("a.txt", b"a")
            stray = os.path.join(os.path.dirname(self.path(file)), "0192f0c1-0000-7000-8000-000000000000.meta")
            with open(stray, "w", encoding="ascii") as meta:
                meta.write("{}")
            result = server.command("check", "--repair", *NO_GRACE)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r", 1 leftovers removed$")
            self.assertFalse(os.path.exists(stray))
            self.content(file)


@on_both_stores
class SetBack(ScrubCase):
    """A database that is older than its data directory: nothing is removed until the two agree again."""

    settings = {"storage.grace": "0s"}

    def set_back(self, server, *files):
        """What restoring an earlier state does: rows are gone, and the mark is what it was."""
        mark, = server.sql("SELECT mark FROM %s" % self.table("directory_mark"))[0]
        for file in files:
            server.sql("DELETE FROM %s WHERE id = '%s'" % (self.table("file"), file["id"]))
        server.sql("UPDATE %s SET mark = %d" % (self.table("directory_mark"), int(mark) - 1))

    def prepare(self, server):
        old, new = self.put("old", b"old"), self.put("new", b"new", "?tags=t&attr.k=v")
        server.stop()
        self.set_back(server, new)
        return old, new

    def test_the_sweep_removes_nothing_and_says_why(self):
        with self.own_server(self.settings) as server:
            old, new = self.prepare(server)
            server.start()
            self.wait_for("depotd_sweep_blocked", 1)
            wait_until(lambda: self.metric("depotd_sweep_failures_total") >= 2, "it swept twice")
            self.assertTrue(os.path.exists(self.path(new)))
            self.assertIn("the database is behind the data directory", server.stderr)
            self.assertIn("reindex", server.stderr)
            later = self.put("later", b"later")  # the daemon goes on otherwise
            found = server.command("check")
            self.assertEqual(found.returncode, 1, found.stdout)
            self.assertRegex(found.stdout, r"(?m)^database behind: ")
            server.stop()
            self.assertEqual(server.command("reindex").returncode, 0)
            server.start()
            wait_until(lambda: self.metric("depotd_swept_total") is None and self.metric("depotd_sweep_blocked") == 0,
                       "it sweeps again")
            for file in (old, new, later):
                self.assertEqual(self.metadata(file["id"]), file)
                self.content(file)
            self.assertEqual(server.command("check", "--verify").returncode, 0)

    def test_repair_brings_the_rows_back(self):
        with self.own_server(self.settings) as server:
            _, new = self.prepare(server)
            result = server.command("check", "--repair")
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertRegex(result.stdout, r"(?m)^%s bytes without row: its row is made again .*\(repaired\)$" % new["id"])
            self.assertRegex(result.stdout, r"(?m)^database behind: .*\(repaired\)$")
            self.assertEqual(server.command("check", "--verify").returncode, 0)
            server.start()
            self.assertEqual(self.metadata(new["id"]), new)

    def test_a_file_that_lived_longer_by_a_patch_is_not_swept_by_its_old_row(self):
        with self.own_server(self.settings) as server:
            file = self.put("f", b"f", "?expires_in=1h")
            patched = self.patch(file["id"], {"expires_at": None, "name": "kept"}).json()
            server.stop()
            self.set_back(server)
            server.sql("UPDATE %s SET expires_at = created_at + 1, name = 'f', revision = 1" % self.table("file"))
            server.start()
            self.wait_for("depotd_sweep_blocked", 1)
            server.stop()
            result = server.command("reindex")
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn("1 rows were older than their files", result.stdout)
            server.start()
            self.assertEqual(self.metadata(file["id"]), patched)

    def test_a_database_that_does_not_know_the_directory_is_another_one(self):
        with self.own_server(self.settings) as server:
            file = self.put("f", b"f")
            self.put("g", b"g")
            server.stop()
            server.sql("DELETE FROM %s" % self.table("directory_mark"))
            server.sql("DELETE FROM %s WHERE id = '%s'" % (self.table("file"), file["id"]))
            server.start()
            self.wait_for("depotd_sweep_blocked", 1)
            self.assertTrue(os.path.exists(self.path(file)))


class RealCopy(ScrubCase):
    """The same with the copy of a database file that it is meant for."""

    def test_files_stored_after_the_copy_survive_its_return(self):
        with self.own_server({"storage.grace": "0s"}, database="sqlite") as server:
            self.put("before")
            server.stop()
            path = server.database.split(":", 1)[1]
            shutil.copy(path, path + ".copy")
            server.start()
            file = self.put("after", b"after")
            server.stop()
            for end in ("", "-wal", "-shm"):
                if os.path.exists(path + end):
                    os.unlink(path + end)
            shutil.copy(path + ".copy", path)
            server.start()
            self.wait_for("depotd_sweep_blocked", 1)
            self.assertTrue(os.path.exists(self.path(file)))


if __name__ == "__main__":
    unittest.main()
