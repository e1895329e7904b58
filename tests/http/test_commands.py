"""check, reindex and migrate on what a real server stored."""
import os
import tempfile
import unittest

from depotd_server import DepotdServer, run_depotd

# Findings need not wait for the grace, nor uploads of the test be taken for garbage before they are looked at.
NO_GRACE = ["--storage.grace", "0s"]


class Commands(unittest.TestCase):
    def stored(self, server, *names):
        """Uploads files, stops the server; their file objects."""
        objects = [server.put(name, b"content of " + name.encode()) for name in names]
        server.stop()
        return objects

    def blob_path(self, server, file):
        paths = [p for p in server.stored_files() if file["id"].replace("-", "") in p.replace("-", "").replace("/", "")]
        self.assertEqual(len(paths), 1, server.stored_files())
        return os.path.join(server.data_dir, paths[0])

    def test_check_of_a_clean_depot_finds_nothing_and_exits_0(self):
        with DepotdServer() as server:
            self.stored(server, "a.txt", "b.txt")
            result = server.command("check", *NO_GRACE)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(result.stdout, "checked 2 rows and 2 files (32 bytes): 0 findings\n")

    def test_check_may_run_beside_a_serving_daemon(self):
        with DepotdServer() as server:
            server.put("a.txt", b"a")
            result = server.command("check")
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_check_names_a_row_whose_bytes_are_gone_and_exits_1(self):
        with DepotdServer() as server:
            lost, _ = self.stored(server, "a.txt", "b.txt")
            os.unlink(self.blob_path(server, lost))
            result = server.command("check", *NO_GRACE)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertRegex(result.stdout, r"(?m)^%s row without bytes: " % lost["id"])
            self.assertRegex(result.stdout, r"(?m): 1 findings$")

    def test_check_names_bytes_without_a_row_unless_they_are_young(self):
        with DepotdServer() as server:
            orphan, _ = self.stored(server, "a.txt", "b.txt")
            self.forget(server, orphan)
            young = server.command("check")
            self.assertEqual(young.returncode, 0, young.stdout)
            old = server.command("check", *NO_GRACE)
            self.assertEqual(old.returncode, 1, old.stdout)
            self.assertRegex(old.stdout, r"(?m)^%s bytes without row: " % orphan["id"])

    def test_check_names_a_file_of_another_size(self):
        with DepotdServer() as server:
            file, = self.stored(server, "a.txt")
            with open(self.blob_path(server, file), "ab") as blob:
                blob.write(b"more")
            result = server.command("check")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stdout, r"(?m)^%s size differs: " % file["id"])

    def test_only_verify_finds_bytes_that_changed_in_place(self):
        with DepotdServer() as server:
            file, = self.stored(server, "a.txt")
            with open(self.blob_path(server, file), "r+b") as blob:
                blob.write(b"C")
            self.assertEqual(server.command("check").returncode, 0)
            result = server.command("check", "--verify")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stdout, r"(?m)^%s digest differs: " % file["id"])

    def test_check_with_repair_exits_0_when_nothing_is_left_to_mend(self):
        with DepotdServer() as server:
            lost, orphan, _ = self.stored(server, "a.txt", "b.txt", "c.txt")
            os.unlink(self.blob_path(server, lost))
            self.forget(server, orphan)
            result = server.command("check", "--repair", *NO_GRACE)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertRegex(result.stdout, r"(?m): 2 findings, 2 repaired$")
            self.assertEqual(server.command("check", *NO_GRACE).returncode, 0)

    def test_check_that_cannot_run_exits_2(self):
        with tempfile.TemporaryDirectory() as directory:
            missing = os.path.join(directory, "missing")
            result = run_depotd("check", "--data-dir", missing)
            self.assertEqual(result.returncode, 2)
            self.assertEqual(result.stderr, "depotd: data directory %s: No such file or directory\n" % missing)
            self.assertFalse(os.path.exists(missing))
            away = run_depotd("check", "--data-dir", directory, "--database", "host=%s dbname=none" % directory)
            self.assertEqual(away.returncode, 2)
            self.assertEqual(run_depotd("check", "--config", missing).returncode, 2)

    def test_reindex_brings_an_emptied_database_back(self):
        with DepotdServer() as server:
            first = server.put("an ä.txt".replace(" ", "%20").replace("ä", "%C3%A4"), b"content",
                               "?tags=x,y&attr.project=apollo")
            second = server.put("b.txt", b"other")
            server.stop()
            for file in (first, second):
                self.forget(server, file)
            result = server.command("reindex")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(result.stdout, "reindexed 2 files: 2 registered, 0 had their row, 0 failed\n")
            server.start()
            for file in (first, second):
                self.assertEqual(server.request("GET", file["url"] + "/metadata").json(), file)

    def test_reindex_leaves_rows_alone_that_are_there(self):
        with DepotdServer() as server:
            self.stored(server, "a.txt", "b.txt")
            result = server.command("reindex")
            self.assertEqual(result.stdout, "reindexed 2 files: 0 registered, 2 had their row, 0 failed\n")

    def test_reindex_brings_back_what_a_patch_changed(self):
        with DepotdServer() as server:
            file = server.put("a.txt", b"content")
            patched = server.request("PATCH", file["url"] + "/metadata", body=b'{"name": "new.txt", "tags": ["t"]}',
                                     headers={"Content-Type": "application/merge-patch+json"})
            self.assertEqual(patched.status, 200)
            server.stop()
            self.forget(server, file)
            self.assertEqual(server.command("reindex").returncode, 0)
            server.start()
            self.assertEqual(server.request("GET", file["url"] + "/metadata").json(), patched.json())

    def test_migrate_makes_the_schema_once_and_then_says_so(self):
        with DepotdServer(start=False) as server:
            first = server.command("migrate")
            self.assertEqual((first.returncode, first.stderr), (0, ""))
            self.assertRegex(first.stdout, r"^the schema went from version 0 to version \d+\n$")
            self.assertRegex(server.command("migrate").stdout, r"^the schema is up to date \(version \d+\)\n$")
            server.start()

    def test_migrate_makes_the_data_directory_of_the_embedded_database(self):
        with tempfile.TemporaryDirectory() as directory:
            data = os.path.join(directory, "data")
            self.assertEqual(run_depotd("migrate", "--data-dir", data).returncode, 0)
            self.assertTrue(os.path.exists(os.path.join(data, "metadata.db")))

    def test_serve_without_migrating_refuses_a_schema_that_is_too_old(self):
        with DepotdServer(flags=["--database.migrate", "off"], start=False) as server:
            self.assertEqual(server.start(ready=False).wait(), 1)
            self.assertRegex(server.stderr, r"^depotd: .*migrate$")

    def forget(self, server, file):
        """Takes the row away behind the server's back."""
        tables = ["depot_internal.file"] if server.cluster is not None else ["file"]
        for table in tables:
            server.sql("DELETE FROM %s WHERE id = '%s'" % (table, file["id"]))


if __name__ == "__main__":
    unittest.main()
