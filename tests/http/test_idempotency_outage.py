"""Idempotency-Key while the database is away, and on several nodes of one database."""

import concurrent.futures
import threading
import unittest

import raw_http
from depot_case import pattern_bytes, wait_until
from depotd_server import DepotdServer, seconds
from form_data import field, file
from postgres_cluster import PostgresCluster, tests_that_choose_their_store
from tcp_proxy import TcpProxy
from test_idempotency import KeyedCase, fresh_key

load_tests = tests_that_choose_their_store


class WithoutTheDatabase(KeyedCase):
    """Uploads go on while the database is away, and so does what a key promises, as far as this node can know."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster(tcp=True)
        cls.addClassCleanup(cls.cluster.remove)
        cls.cluster.start()
        cls.proxy = TcpProxy(("127.0.0.1", cls.cluster.port))
        cls.addClassCleanup(cls.proxy.close)
        cls.database = "postgresql://postgres@127.0.0.1:%d/postgres" % cls.proxy.port
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.back)

    def away(self):
        self.proxy.refuse()
        wait_until(lambda: self.get("/files").status == 503, "the database is missed")

    def back(self):
        self.proxy.forward()
        wait_until(lambda: self.get("/files").status == 200, "the database is back")

    def pending(self, key, name, data=b"away"):
        response = self.keyed(key, name, data)
        self.assertEqual((response.status, response.json().get("registered")), (202, False), repr(response))
        return response

    def assert_registers(self, key, name, file, data=b"away"):
        """Once the database is back: one file, and the first answer as 201."""
        wait_until(lambda: self.named(name), "the row follows")
        wait_until(lambda: self.keyed(key, name, data).status == 201, "the answer is 201")
        self.assertEqual(self.keyed(key, name, data).json(), {k: v for k, v in file.items() if k != "registered"})
        self.assertEqual(self.named(name), [file["id"]])
        self.assert_another(self.keyed(key, name, data + b"!"))

    def test_a_repeat_of_what_waits_for_the_database_gets_the_same_202(self):
        key = fresh_key()
        self.away()
        stored = self.server.stored_files()
        first = self.pending(key, "away.txt")
        for _ in range(3):
            self.assert_repeats(self.keyed(key, "away.txt", b"away"), first)
        self.assert_another(self.keyed(key, "away.txt", b"other"))
        files = [name for name in self.server.stored_files() if name not in stored and name.startswith("objects/")]
        self.assertEqual(len(files), 1)
        self.back()
        self.assert_registers(key, "away.txt", first.json())

    def test_it_does_so_after_a_crash_too(self):
        keys = [fresh_key(), fresh_key("large")]
        contents = [b"small", pattern_bytes(300_000)]
        self.away()
        first = [self.pending(key, "crash-away", data) for key, data in zip(keys, contents)]
        self.server.kill()
        self._drop_connection()
        self.server.start()
        for key, data, answer in zip(keys, contents, first):
            self.assert_repeats(self.keyed(key, "crash-away", data), answer)
            self.assert_another(self.keyed(key, "crash-away", b"other"))
        self.back()
        wait_until(lambda: len(self.named("crash-away")) == 2, "the rows follow")
        for key, data, answer in zip(keys, contents, first):
            wait_until(lambda: self.keyed(key, "crash-away", data).status == 201, "the answer is 201")
            self.assertEqual(self.keyed(key, "crash-away", data).json()["id"], answer.json()["id"])
        self.assertEqual(len(self.named("crash-away")), 2)

    def test_a_form_of_several_files_is_one_request_all_the_way(self):
        headers = [("Idempotency-Key", fresh_key())]
        parts = [field("tags", "t"), file("f", "away-a", b"a"), file("f", "away-b", b"b"), file("f", "away-c", pattern_bytes(100_000))]
        self.away()
        first = self.post(parts, headers=headers)
        self.assertEqual(first.status, 202)
        self.assert_repeats(self.post(parts, headers=headers), first)
        self.server.kill()
        self._drop_connection()
        self.server.start()
        self.assert_repeats(self.post(parts, headers=headers), first)
        self.back()
        wait_until(lambda: self.post(parts, headers=headers).status == 201, "the answer is 201")
        again = self.post(parts, headers=headers).json()["files"]
        self.assertEqual([f["id"] for f in again], [f["id"] for f in first.json()["files"]])
        for name in ("away-a", "away-b", "away-c"):
            self.assertEqual(len(self.named(name)), 1)

    def test_an_answer_of_before_is_remembered(self):
        key = fresh_key()
        first = self.first(key, "before.txt", b"before")
        self.away()
        self.assert_repeats(self.keyed(key, "before.txt", b"before"), first)
        self.assert_another(self.keyed(key, "before.txt", b"other"))
        self.back()
        self.assert_repeats(self.keyed(key, "before.txt", b"before"), first)

    def test_of_a_crowd_without_the_database_one_is_stored(self):
        key = fresh_key()
        self.away()

        def send(_):
            with raw_http.Connection(self.address, deadline=seconds(30)) as connection:
                connection.send(raw_http.encode_request("PUT", "/files/away-crowd", [("Idempotency-Key", key)], b"away"))
                return self.check(connection.read_response())

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(send, range(32)))
        self.assertEqual({(answer.status, answer.json()["id"]) for answer in answers}, {(202, answers[0].json()["id"])})
        self.back()
        self.assert_registers(key, "away-crowd", answers[0].json())


class TwoNodes(KeyedCase):
    """Two servers with a directory each on one PostgreSQL."""

    @classmethod
    def setUpClass(cls):
        cls.database = PostgresCluster.shared().create_database()
        super().setUpClass()
        cls.other = DepotdServer(database=cls.database).start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.other.stop()
        finally:
            cls.other.remove()
            super().tearDownClass()
            PostgresCluster.shared().drop_database(cls.database)

    def test_a_repeat_on_another_node_gets_the_first_answer(self):
        key = fresh_key()
        first = self.first(key, "node.txt", query="?tags=x")
        with self.talking_to(self.other), self.stores_nothing():
            self.assert_repeats(self.keyed(key, "node.txt", query="?tags=x"), first)
            self.assert_another(self.keyed(key, "node.txt"))

    def test_of_two_nodes_at_once_one_stores_and_both_answer_the_same(self):
        keys = [fresh_key("race") for _ in range(60)]
        gate = threading.Barrier(2)

        def send(server):
            answers = []
            with raw_http.Connection((server.host, server.port), deadline=seconds(30)) as connection:
                for i, key in enumerate(keys):
                    gate.wait(seconds(30))
                    request = raw_http.encode_request("PUT", "/files/race-%d" % i, [("Idempotency-Key", key)], b"%d" % i)
                    connection.send(request)
                    answers.append(connection.read_response())
            return answers

        stored = [self.server.stored_files(), self.other.stored_files()]
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            here, there = threads.map(send, (self.server, self.other))
        for i in range(len(keys)):
            self.assertEqual((here[i].status, there[i].status), (201, 201))
            self.assert_repeats(there[i], here[i])
            self.assertEqual(self.named("race-%d" % i), [here[i].json()["id"]])

        def count():
            return sum(len(server.stored_files()) for server in (self.server, self.other)) - sum(map(len, stored))
        wait_until(lambda: count() == len(keys), "the losers' files are gone")


if __name__ == "__main__":
    unittest.main()
