"""kill -9 at any moment: what was answered is there, what was not leaves no half file. check finds, --repair mends, reindex brings back."""

import os
import random
import threading
import time
import unittest

import raw_http
from depot_case import DepotCase, environment_of, on_both_stores, pattern_bytes, query, sha256, wait_until
from depotd_server import run_depotd, seconds
from form_data import content_type, encode_form, field, file
from postgres_cluster import PostgresCluster

MIB = 1 << 20


class CrashCase(DepotCase):
    """A server of its own for each test."""

    @classmethod
    def setUpClass(cls):
        if cls.database == "postgres":
            PostgresCluster.shared()

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        super().setUp()
        context = self.own_server()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def crash(self):
        """kill -9, and a start on the same data."""
        self._drop_connection()
        self.server.kill()
        self.server.start()

    def assert_all_whole(self, answered=()):
        """Every listed file comes back whole, and everything that was answered is listed as it was answered."""
        listed = {f["id"]: f for f in self.all_files()}
        for f in answered:
            self.assertEqual(listed.get(f["id"]), f)
        for f in listed.values():
            self.content(f)
        return listed

    def assert_check(self, status, *arguments):
        result = self.server.command("check", *arguments)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stdout + result.stderr

    def stored_path(self, data):
        """Where in the data directory these bytes lie (the contract does not say how)."""
        for path in self.server.stored_files():
            whole = os.path.join(self.server.data_dir, path)
            if os.path.getsize(whole) == len(data):
                with open(whole, "rb") as stored:
                    if stored.read() == data:
                        return whole
        self.fail("the bytes are nowhere in the data directory")

    def forget_all_rows(self):
        """The database is lost: a new, empty one takes its place. The server must not run."""
        if self.server.cluster is not None:
            self.server.cluster.drop_database(self.server.database)
            name = self.server.database.split("///", 1)[1].split("?", 1)[0]
            self.server.cluster.execute("CREATE DATABASE %s" % name)
        else:
            path = self.server.database.split(":", 1)[1]
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(path + suffix):
                    os.unlink(path + suffix)


@on_both_stores
class Crashes(CrashCase):
    def test_everything_that_was_answered_is_there_after_a_crash(self):
        answered = [self.put("single-%d.txt" % i, pattern_bytes(i * 5000), query(("tags", "t%d" % i),
                                                                                 ("attr.i", str(i)))) for i in range(20)]
        answered += self.post_files([file("f", "form-%d" % i, b"%d" % i) for i in range(50)] + [field("from", "form")])
        self.crash()
        self.assertEqual(len(self.assert_all_whole(answered)), len(answered))
        self.assert_check(0, "--verify")

    def test_a_crash_in_the_middle_of_many_uploads(self):
        """Eight clients upload without pause; the server is killed at a moment of its own choosing, three times over."""
        chance = random.Random(7)
        answered, refused, lock, stop = [], [], threading.Lock(), threading.Event()

        def client(number):
            i = 0
            while not stop.is_set() and i < 5000:
                i += 1
                data = pattern_bytes(chance.choice((10, 3000, 70_000, 600_000)), b"%d-%d" % (number, i))
                try:
                    with raw_http.Connection(address, deadline=seconds(20)) as connection:
                        if i % 3:
                            response = connection.exchange("PUT", "/files/c%d-%d?attr.sum=%s" % (number, i, sha256(data)), (),
                                                           data)
                        else:
                            parts = [file("a", "a%d" % i, data), file("b", "b%d" % i, data[::-1]),
                                     field("pair", "%d-%d" % (number, i))]
                            response = connection.exchange("POST", "/files", [("Content-Type", content_type())],
                                                           encode_form(parts))
                        with lock:
                            if response.status == 201:
                                answered.extend(response.json().get("files", [response.json()]))
                            else:
                                refused.append(response)
                except (OSError, raw_http.ProtocolError, ValueError):
                    return  # the crash; what was not answered was not promised

        for round in range(3):
            stop.clear()
            address, before = self.address, len(answered)
            clients = [threading.Thread(target=client, args=(number + 10 * round,)) for number in range(8)]
            for thread in clients:
                thread.start()
            end = time.monotonic() + seconds(20)
            while len(answered) - before < 30 + chance.randrange(60) and time.monotonic() < end:
                time.sleep(0.002)
            self.crash()
            stop.set()
            for thread in clients:
                thread.join(seconds(30))
            with self.subTest(round=round):
                listed = self.assert_all_whole(answered)
                pairs = {}
                for f in listed.values():
                    if "pair" in f["attributes"]:
                        pairs.setdefault(f["attributes"]["pair"], []).append(f["name"][0])
                for names in pairs.values():
                    self.assertEqual(sorted(names), ["a", "b"])  # all files of a form, or none
                self.assert_check(0, "--verify")
        self.assertEqual(refused, [])
        self.assertGreater(len(answered), 20)

    def test_a_crash_in_the_middle_of_one_upload_leaves_nothing(self):
        kept = self.put("kept.txt", b"kept")
        before = self.server.stored_files()
        whole = encode_form([file("f", "first.bin", pattern_bytes(MIB)), file("g", "second.bin", pattern_bytes(MIB))])
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/half", [("Content-Length",
                                                                        str(8 * MIB))]) + pattern_bytes(4 * MIB))
        form = self.connect()
        form.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()),
                                                             ("Content-Length", str(len(whole)))]))
        form.send(whole[:-50])
        self.crash()
        self.assertEqual(set(self.assert_all_whole([kept])), {kept["id"]})
        self.assertEqual(self.server.stored_files(), before)
        self.assert_check(0)

    def test_changes_and_removals_that_were_answered_stay(self):
        changed, removed = self.put("before.txt", b"changed"), self.put("removed.txt", b"removed")
        after = self.patch(changed["id"], {"name": "after.txt", "tags": ["t"], "attributes": {"n": {"deep": [1, 2]}},
                                           "visibility": "public"})
        self.assertEqual(after.status, 200)
        self.assertEqual(self.request("DELETE", removed["url"]).status, 204)
        self.crash()
        self.assertEqual(set(self.assert_all_whole([after.json()])), {changed["id"]})
        self.assertEqual(self.get(removed["url"]).status, 404)
        self.assert_check(0)

    def test_a_crash_right_after_each_answer(self):
        answered = []
        for i in range(5):
            answered.append(self.put("after-%d" % i, pattern_bytes(100_000 * i, b"%d" % i)))
            self.crash()
        self.assert_all_whole(answered)

    def test_a_crash_in_the_middle_of_removals_leaves_no_row_without_bytes(self):
        files = [self.put("r%d" % i, b"%d" % i) for i in range(200)]
        address, gone = self.address, []

        def remove(mine):
            try:
                with raw_http.Connection(address, deadline=seconds(20)) as connection:
                    for f in mine:
                        if connection.exchange("DELETE", f["url"]).status == 204:
                            gone.append(f["id"])
            except (OSError, raw_http.ProtocolError):
                pass
        threads = [threading.Thread(target=remove, args=(files[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds(20)
        while len(gone) < 60 and time.monotonic() < end:
            time.sleep(0.001)
        self.crash()
        for thread in threads:
            thread.join(seconds(30))
        listed = self.assert_all_whole()
        self.assertFalse(set(gone) & set(listed))
        self.assert_check(0)  # bytes without a row are no finding while they are young


@on_both_stores
class CheckAndReindex(CrashCase):
    def files_of_every_kind(self):
        """Files with all that a file object can have, some of it changed after the upload."""
        files = [self.put("plain.txt", b"plain"), self.put("empty", b""), self.put("large.bin", pattern_bytes(2 * MIB)),
                 self.put("labels – é 😀.txt", b"labels", query(("tags", "a,b"), ("attr.camera.lens", "50"), ("attr.who", "ann"),
                                                               ("attr.who", "bob"),
                                                             ("visibility", "public"), ("expires_in", "7d")))]
        files += self.post_files([file("f", "form%d.txt" % i, b"%d" % i) for i in range(3)] + [field("note", "two\r\nlines")])
        changed = self.put("before.txt", b"changed", query(tags="old"))
        response = self.patch(changed["id"], {"name": "after.txt", "tags": ["new"],
                                              "attributes": {"n": 1.5, "list": [True, None, {"x": []}]},
                                              "visibility": "public", "expires_at": "2099-01-01T00:00:00.123Z"})
        self.assertEqual(response.status, 200)
        again = self.patch(changed["id"], {"attributes": {"n": 2}})
        self.assertEqual(again.status, 200)
        return files + [again.json()]

    def test_check_of_what_is_sound_is_clean_beside_the_server_and_without_it(self):
        self.files_of_every_kind()
        self.assert_check(0)
        self.assert_check(0, "--verify")
        self._drop_connection()
        self.server.stop()
        self.assert_check(0, "--verify")
        self.server.start()

    def test_check_finds_a_row_without_bytes_and_repair_mends_it(self):
        kept = self.put("kept.txt", b"kept")
        lost = self.put("lost.txt", b"the bytes of this one are lost")
        self._drop_connection()
        self.server.stop()
        os.unlink(self.stored_path(b"the bytes of this one are lost"))
        self.assertIn(lost["id"], self.assert_check(1))
        self.assert_check(0, "--repair")
        self.assert_check(0)
        self.server.start()
        self.assertEqual(set(self.assert_all_whole([kept])), {kept["id"]})

    def test_check_finds_bytes_that_changed(self):
        data = pattern_bytes(10_000)
        broken = self.put("broken.bin", data)
        self._drop_connection()
        self.server.stop()
        path = self.stored_path(data)
        with open(path, "r+b") as stored:
            stored.seek(5000)
            stored.write(bytes([data[5000] ^ 1]))
        self.assertIn(broken["id"], self.assert_check(1, "--verify"))
        with open(path, "r+b") as stored:
            stored.truncate(9000)
        self.assertIn(broken["id"], self.assert_check(1))
        self.server.start()

    def test_check_without_a_database_that_answers_could_not_run(self):
        self._drop_connection()
        self.server.stop()
        usual, self.server.database = self.server.database, "postgresql:///nobody?host=/nonexistent&connect_timeout=2"
        try:
            self.assert_check(2)
        finally:
            self.server.database = usual
        self.server.start()

    def test_reindex_brings_back_all_of_the_file_object_as_it_last_was(self):
        files = self.files_of_every_kind()
        removed = self.put("removed.txt", b"removed")
        self.assertEqual(self.request("DELETE", removed["url"]).status, 204)
        self._drop_connection()
        self.server.stop()
        self.forget_all_rows()
        result = self.server.command("reindex")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.server.start()
        listed = self.assert_all_whole(files)
        self.assertEqual(len(listed), len(files))
        for f in files:
            self.assertEqual(self.metadata(f["id"]), f)
        self.assert_check(0, "--verify")

    def test_reindex_of_what_is_sound_changes_nothing(self):
        files = self.files_of_every_kind()
        self._drop_connection()
        self.server.stop()
        for _ in range(2):
            self.assertEqual(self.server.command("reindex").returncode, 0)
        self.server.start()
        self.assertEqual(len(self.assert_all_whole(files)), len(files))

    def test_reindex_after_a_crash(self):
        files = self.files_of_every_kind()
        self._drop_connection()
        self.server.kill()
        self.forget_all_rows()
        self.assertEqual(self.server.command("reindex").returncode, 0)
        self.server.start()
        self.assertEqual(len(self.assert_all_whole(files)), len(files))

    def test_the_same_data_directory_cannot_be_served_twice(self):
        result = run_depotd("serve", "--listen", "127.0.0.1:0", "--data-dir", self.server.data_dir, "--database",
                            self.server.database)
        self.assertEqual(result.returncode, 1, result.stderr)


@on_both_stores
class Sweeps(CrashCase):
    def restart_with(self, settings):
        self._drop_connection()
        self.server.stop()
        self.server.environment.update(environment_of(settings))
        self.server.start()

    def test_the_bytes_of_an_expired_file_leave_the_disk(self):
        self.restart_with({"storage.grace": "200ms"})
        kept = self.put("kept.txt", b"kept")
        before = self.server.stored_files()
        self.put("expires.bin", pattern_bytes(100_000), query(expires_in="1"))
        wait_until(lambda: self.server.stored_files() == before, "the bytes of the expired file are removed", 20)
        self.assert_all_whole([kept])
        self.assert_check(0)

    def test_bytes_without_a_row_are_left_alone_while_they_are_young_and_swept_when_they_are_not(self):
        self.put("orphan.bin", pattern_bytes(100_000))
        stored = self.server.stored_files()
        self._drop_connection()
        self.server.stop()
        # Rows alone: a database that is new as a whole would keep the sweep from removing anything.
        self.server.sql("DELETE FROM depot_internal.file" if self.server.cluster else "DELETE FROM file")
        self.server.start()
        self.put("kept.txt", b"kept")
        self.assertLess(set(stored), set(self.server.stored_files()))
        self.assert_check(0)
        self.restart_with({"storage.grace": "100ms"})
        wait_until(lambda: not set(stored) & set(self.server.stored_files()), "the orphan is swept", 20)
        self.assertEqual([f["name"] for f in self.assert_all_whole().values()], ["kept.txt"])
        self.assert_check(0, "--verify")

    def test_check_finds_bytes_without_a_row_when_they_are_no_longer_young(self):
        self.put("orphan.bin", pattern_bytes(1000))
        self._drop_connection()
        self.server.stop()
        self.forget_all_rows()
        self.server.environment.update(environment_of({"storage.grace": "0s"}))
        self.assert_check(1)
        self.assert_check(0, "--repair")
        self.assert_check(0)
        self.server.start()


class Stored(CrashCase):
    def test_nobody_else_may_read_what_is_stored(self):
        self.put("secret.txt", b"secret")
        self.assertEqual(os.stat(self.server.data_dir).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(self.stored_path(b"secret")).st_mode & 0o077, 0)

    def test_names_never_touch_a_path(self):
        for name in ("passwd", "..", "a b", "é", "-rf", "CON"):
            self.request("PUT", "/files/%2e%2e%2f" + name.encode().hex(), (), b"x")
            self.post([file("f", "../../" + name, b"x")])
        for path in self.server.stored_files():
            self.assertRegex(path, r"\A[\w./-]+\Z")
            self.assertNotIn("passwd", path)


if __name__ == "__main__":
    unittest.main()
