"""The database goes away in every way it can, under a daemon with its default timeouts.

To a client they are all the same: lists and changes are answered 503 with Retry-After within 5 s by the first request that finds
out, and at once from then on; files by id go on; uploads go on, as 202 with "registered": false; and when the database is back,
everything that was answered is listed within 2 s, once.

DEPOTD_TEST_PROMOTES    how often a standby is promoted under load; default 1
DEPOTD_TEST_TIMES       a file to which a line is appended for each fault: how long the first and later answers took
"""
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from depot_case import BROWSER, pattern_bytes, sha256, wait_until
from depotd_server import DepotdServer, seconds
from form_data import Part, content_type, encode_form
from postgres_cluster import PostgresCluster, tests_that_choose_their_store
from tcp_proxy import TcpProxy

STALL = 1.0             # how long the machine that runs the tests may hold anybody up
IN_TIME = 5.0 + STALL   # the contract's word
AT_ONCE = 1.0 + STALL   # once it is known: less than any of the daemon's timeouts
BACK = 2.0 + STALL      # rows follow within
BIG = 300_000   # is not kept in memory, nor in a journal

load_tests = tests_that_choose_their_store


class Upload:
    def __init__(self, name, data, answer, took):
        self.name, self.sha256, self.took = name, sha256(data), took
        self.status, self.file = answer.status, answer.json()


class Load:
    """Clients that upload, and read back what anybody uploaded, until they are told to stop, and remember every answer."""

    def __init__(self, server, label="load", clients=4, pause=0.01):
        self.server, self.label, self.pause = server, label, pause
        self.uploads, self.failures, self.reads = [], [], 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        chance = random.Random(number)
        i = 0
        while not self._stop.wait(self.pause):
            i += 1
            name = "%s-%d-%d" % (self.label, number, i)
            data = pattern_bytes(BIG if i % 50 == 0 else 1 + i % 5000, name.encode())
            begin = time.monotonic()
            answer = self._ask("PUT", "/files/" + name, data)
            if answer is not None and answer.status in (201, 202):
                with self._lock:
                    self.uploads.append(Upload(name, data, answer, time.monotonic() - begin))
            elif answer is not None:
                self._failed("PUT", name, answer.status, answer.body[:300])
            with self._lock:
                known = chance.choice(self.uploads) if self.uploads else None
            if known is not None:
                self._read(known)

    def _read(self, upload):
        answer = self._ask("GET", upload.file["url"])
        if answer is not None and (answer.status, sha256(answer.body)) != (200, upload.sha256):
            self._failed("GET", upload.name, answer.status, answer.body[:300])
        with self._lock:
            self.reads += 1

    def _ask(self, *request):
        try:
            return self.server.request(*request)
        except OSError as e:
            return self._failed(*request[:2], repr(e))

    def _failed(self, *what):
        with self._lock:
            self.failures.append(what)

    def count(self, status=None):
        with self._lock:
            return sum(1 for u in self.uploads if status in (None, u.status))


class OutageCase(unittest.TestCase):
    def metric(self, name):
        text = self.server.request("GET", "/metrics").body.decode()
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))

    def put(self, name, data):
        begin = time.monotonic()
        answer = self.server.request("PUT", "/files/" + name, data)
        self.assertIn(answer.status, (201, 202), answer.body)
        upload = Upload(name, data, answer, time.monotonic() - begin)
        self.assertEqual(upload.file.get("registered"), False if answer.status == 202 else None)
        return upload

    def wait_for_the_list(self, timeout):
        wait_until(lambda: self.server.request("GET", "/files?limit=1").status == 200, "there is a list", timeout)

    def all_files(self, deadline, after="1970-01-01T00:00:00Z"):
        """Every file of the list since then; asks again while the list is refused."""
        first = "/files?limit=1000&created_after=" + after
        files, target = [], first
        while target:
            answer = self.server.request("GET", target)
            if answer.status == 503 and time.monotonic() < deadline:
                files, target = [], first
                time.sleep(0.02)
                continue
            self.assertEqual(answer.status, 200, answer.body)
            page = answer.json()
            files += page["files"]
            cursor = page["next_cursor"]
            target = cursor and first + "&cursor=" + urllib.parse.quote(cursor)
        return files

    def assert_all_listed(self, uploads, since):
        """Each of them once, as it was answered, and registered, within 2 s of the database's return."""
        deadline, oldest = since + seconds(BACK), min(u.file["created_at"] for u in uploads)
        while True:
            files = self.all_files(deadline, oldest)
            listed = {f["id"]: f for f in files}
            missing = [u for u in uploads if u.file["id"] not in listed]
            if not missing:
                break
            if time.monotonic() > deadline:
                self.fail("%d of %d answered uploads are not listed %.1f s after the database's return; the first is %r" %
                          (len(missing), len(uploads), time.monotonic() - since, missing[0].file))
            time.sleep(0.02)
        took = time.monotonic() - since
        self.assertEqual(len(files), len(listed), "a file is listed twice")
        for u in uploads:
            expected = {k: v for k, v in u.file.items() if k != "registered"}
            self.assertEqual(listed[u.file["id"]], expected)
            self.assertEqual(listed[u.file["id"]]["sha256"], u.sha256)
        by_name = {}
        for f in files:
            by_name.setdefault(f["name"], []).append(f)
        for u in uploads:
            self.assertEqual(len(by_name[u.name]), 1, by_name[u.name])
        return took


class Faults(OutageCase):
    """One PostgreSQL behind a proxy, both of the test's own; a daemon of its own for each fault."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster({"max_connections": "60"}, tcp=True)
        cls.addClassCleanup(cls.cluster.remove)
        cls.cluster.start()
        cls.cluster.execute("CREATE ROLE depotd LOGIN")

    def setUp(self):
        self.proxy = TcpProxy(("127.0.0.1", self.cluster.port))
        self.addCleanup(self.proxy.close)
        self.name = "outage_" + self.id().rpartition(".")[2][-50:]
        self.cluster.execute("CREATE DATABASE %s OWNER depotd" % self.name)
        self.server = DepotdServer(database="postgresql://depotd@127.0.0.1:%d/%s" % (self.proxy.port, self.name))
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)

    # --- what every fault must look like ---

    def ask(self, method, target, body=None, headers=None):
        begin = time.monotonic()
        answer = self.server.request(method, target, body, headers)
        return answer, time.monotonic() - begin

    def refused(self, file):
        """What needs the database."""
        return [("GET", "/files"), ("GET", "/files?q=cached&sort=name"), ("DELETE", file["url"]),
                ("PATCH", file["url"] + "/metadata", json.dumps({"name": "other"}),
                 {"Content-Type": "application/merge-patch+json"})]

    def assert_refused_all(self, file, limit):
        """All kinds at the same time. The longest took."""
        results = []
        threads = [threading.Thread(target=lambda r=r: results.append((r[:2], self.ask(*r)))) for r in self.refused(file)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), len(threads))
        for request, (answer, took) in results:
            self.assertEqual(answer.status, 503, (request, answer.body))
            self.assertRegex(answer.header("Retry-After", ""), r"\A[0-9]+\Z")
            self.assertLess(took, seconds(limit), request)
        return max(took for _, (_, took) in results)

    def assert_served(self, upload, limit):
        answer, took = self.ask("GET", upload.file["url"])
        self.assertEqual((answer.status, sha256(answer.body)), (200, upload.sha256))
        self.assertLess(took, seconds(limit))
        answer, more = self.ask("GET", upload.file["url"] + "/metadata")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json(), {k: v for k, v in upload.file.items()})
        return max(took, more)

    def run_fault(self, begin, end):
        cached, uncached, big = self.put("cached", b"cached"), self.put("uncached", b"u"), self.put("big", pattern_bytes(BIG))
        self.server.stop()
        self.server.start()
        victim = self.put("victim", b"asked to change")
        self.assert_served(cached, IN_TIME)
        uploads = [cached, uncached, big, victim]
        ended = False
        begin()
        try:
            first = self.assert_refused_all(victim.file, IN_TIME)
            later = self.assert_refused_all(victim.file, AT_ONCE)
            served = self.assert_served(cached, AT_ONCE)
            served = max(served, self.assert_served(uncached, AT_ONCE), self.assert_served(big, AT_ONCE))
            taken = [self.put("away-%d" % i, b"%d" % i) for i in range(5)] + [self.put("away-big", pattern_bytes(BIG))]
            for upload in taken:
                self.assertEqual(upload.status, 202)
                self.assertLess(upload.took, seconds(AT_ONCE))
                self.assert_served(upload, AT_ONCE)
            uploads += taken
            ready = wait_until(lambda: (lambda r: r if r.status == 503 else None)(self.ask("GET", "/readyz")[0]), "it is not ready")
            self.assertEqual(ready.json()["parts"]["database"]["status"], "failed", ready.body)
            self.assertEqual(self.ask("GET", "/healthz")[0].status, 200)
            end()
            ended = True
            back = self.assert_all_listed(uploads, time.monotonic())
        finally:
            if not ended:
                end()
        for upload in uploads:
            self.assertNotIn("registered", self.ask("GET", upload.file["url"] + "/metadata")[0].json())
        self.assertEqual(self.ask("DELETE", cached.file["url"])[0].status, 204)
        wait_until(lambda: self.ask("GET", "/readyz")[0].status == 200, "it is ready again", 10)
        self.note(first=first, later=later, served=served, upload=max(u.took for u in taken), back=back)

    def note(self, **times):
        if os.environ.get("DEPOTD_TEST_TIMES"):
            with open(os.environ["DEPOTD_TEST_TIMES"], "a", encoding="utf-8") as file:
                file.write("%-60s %s\n" % (self.id().rpartition(".")[2], "  ".join("%s %.2f" % pair for pair in times.items())))

    # --- the faults ---

    def test_the_server_is_stopped(self):
        self.run_fault(self.cluster.stop, self.cluster.start)

    def test_the_server_is_shut_down_politely(self):
        self.run_fault(lambda: self.cluster.stop("fast"), self.cluster.start)

    def test_the_server_is_frozen(self):
        self.run_fault(self.cluster.freeze, self.cluster.thaw)

    def test_a_black_hole_swallows_everything(self):
        self.run_fault(self.proxy.swallow, self.proxy.forward)

    def test_connections_reset_and_refused(self):
        self.run_fault(self.proxy.refuse, self.proxy.forward)

    def end_sessions(self):
        self.cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'depotd'")

    def test_the_server_is_out_of_connections(self):
        def begin():
            self.cluster.execute("ALTER DATABASE %s CONNECTION LIMIT 0" % self.name)
            self.end_sessions()
        self.run_fault(begin, lambda: self.cluster.execute("ALTER DATABASE %s CONNECTION LIMIT -1" % self.name))

    def test_read_only_for_new_sessions(self):
        def begin():
            self.cluster.execute("ALTER DATABASE %s SET default_transaction_read_only = on" % self.name)
            self.end_sessions()
        self.run_fault(begin, lambda: self.cluster.execute("ALTER DATABASE %s RESET default_transaction_read_only" % self.name))

    def test_read_only_under_sessions_that_stay(self):
        """The server reloads its configuration. A session says so with its next answer, which may still be a good one."""
        def set_to(what):
            self.cluster.execute("ALTER SYSTEM %s" % what)
            self.cluster.execute("SELECT pg_reload_conf()")

        def begin():
            set_to("SET default_transaction_read_only = on")
            wait_until(lambda: self.ask("GET", "/files")[0].status == 503, "every old connection is given up")
        self.run_fault(begin, lambda: set_to("RESET default_transaction_read_only"))

    def test_the_server_lets_us_in_no_more(self):
        def begin():
            self.cluster.execute("ALTER ROLE depotd NOLOGIN")
            self.end_sessions()
        self.run_fault(begin, lambda: self.cluster.execute("ALTER ROLE depotd LOGIN"))

    def test_readiness_is_down_for_whoever_was_told_that_the_database_is_away(self):
        """Not a second later, when the next look is due."""
        self.cluster.stop()
        try:
            self.assertEqual(self.put("waits", b"waits").status, 202)
            ready = self.ask("GET", "/readyz")[0]
            self.assertEqual((ready.status, ready.json()["parts"]["database"]["status"]), (503, "failed"), ready.body)
            self.assertEqual(self.metric("depotd_database_up"), 0)
        finally:
            self.cluster.start()
        wait_until(lambda: self.ask("GET", "/readyz")[0].status == 200, "it is ready", 10)

    def page_with(self, *texts):
        answer, _ = self.ask("GET", "/", headers=BROWSER)
        return answer.body if answer.status == 200 and all(text in answer.body for text in texts) else None

    def test_the_page_still_takes_uploads(self):
        """It was a page of three lines that said 503, though uploads go on. Now it says that the list is missing, and is whole else."""
        self.put("listed", b"listed")
        self.cluster.stop()
        try:
            for target in ("/", "/?q=listed&type=image/png", "/?tag=rare"):
                answer, took = self.ask("GET", target, headers=BROWSER)
                self.assertEqual((answer.status, answer.header("Content-Type")), (503, "text/html; charset=utf-8"))
                self.assertRegex(answer.header("Retry-After", ""), r"\A[0-9]+\Z")
                self.assertIn("script-src 'self'", answer.header("Content-Security-Policy"))
                self.assertLess(took, seconds(IN_TIME))
                self.assertIn(b'type="file"', answer.body)
                self.assertIn(b'data-state="unavailable"', answer.body)
                self.assertIn(b">The list is not available right now. Files can still be uploaded.<", answer.body)
                for text in (b">No files yet<", b">No file matches<", b">listed<"):
                    self.assertNotIn(text, answer.body)
            answer, _ = self.ask("GET", "/?q=listed&tag=rare", headers={**BROWSER, "Accept-Language": "pt"})
            self.assertIn("A lista não está disponível".encode(), answer.body)
            self.assertIn(b'name="q" value="listed"', answer.body)
            self.assertIn(b'name="tag" value="rare"', answer.body)
            form = encode_form([Part("file", b"form", filename="sent without scripts")])
            answer, _ = self.ask("POST", "/files", form, {**BROWSER, "Content-Type": content_type()})
            self.assertEqual((answer.status, answer.header("Location")), (303, "/"))
        finally:
            self.cluster.start()
        self.wait_for_the_list(10)
        page = wait_until(lambda: self.page_with(b">listed<", b">sent without scripts<"), "both files are on the page", BACK)
        self.assertIn(b'data-state="listed"', page)

    def test_a_program_that_asks_for_the_page_is_told_as_ever(self):
        self.cluster.stop()
        try:
            answer, _ = self.ask("GET", "/", headers={"Accept": "application/json"})
            self.assertEqual((answer.status, answer.header("Content-Type")), (503, "application/problem+json"))
        finally:
            self.cluster.start()
        self.wait_for_the_list(10)

    def test_a_database_that_is_dropped_and_made_anew_gets_its_schema_and_the_rows_that_wait(self):
        """There was no schema until the next start: readiness said nothing, and each request was a 500."""
        old = self.put("old", b"old")
        self.cluster.execute("DROP DATABASE %s WITH (FORCE)" % self.name)
        try:
            uploads = [self.put("small", b"small"), self.put("large", pattern_bytes(BIG))]
            self.assertEqual({u.status for u in uploads}, {202})
        finally:
            self.cluster.execute("CREATE DATABASE %s OWNER depotd" % self.name)
        for i in range(100):
            status = self.put("without-a-table-%d" % i, b"%d" % i).status
            self.assertIn(self.ask("GET", "/files?limit=1")[0].status, (200, 503))
            if status == 201:
                break
            time.sleep(0.1)
        self.assert_all_listed(uploads, time.monotonic())
        self.assertEqual(self.ask("GET", "/readyz")[0].status, 200)
        # Nothing of what the new one does not know is swept away: reindex brings its rows back.
        self.assertEqual(self.server.command("reindex").returncode, 0)
        self.assert_all_listed([old] + uploads, time.monotonic())

    # --- and the daemon goes away, too ---

    def test_uploads_taken_without_the_database_survive_the_daemon(self):
        """kill -9, a polite stop, a start without the database, all in one outage."""
        uploads = [self.put("before", b"before")]
        # Until then nobody knows whether its row outlived the database's end: the daemon that starts without it says so.
        wait_until(lambda: self.metric("depotd_files_unconfirmed") == 0, "the database has written its row out")
        self.cluster.stop()
        try:
            uploads += [self.put("first-%d" % i, b"%d" % i) for i in range(10)] + [self.put("first-big", pattern_bytes(BIG))]
            self.server.kill()
            self.server.start()
            for upload in uploads:
                self.assert_served(upload, IN_TIME)
            uploads += [self.put("second-%d" % i, b"%d" % i) for i in range(10)] + [self.put("second-big", pattern_bytes(BIG + 1))]
            self.server.stop()
            self.server.start()
            for upload in uploads:
                self.assert_served(upload, IN_TIME)
            uploads.append(self.put("third", b"third"))
        finally:
            self.cluster.start()
        self.assert_all_listed(uploads, time.monotonic())
        for upload in uploads:
            self.assertNotIn("registered", self.ask("GET", upload.file["url"] + "/metadata")[0].json())
        check = self.server.command("check", "--verify")
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    # --- starting without it ---

    def test_serve_starts_without_its_database_and_makes_the_schema_when_it_comes(self):
        self.server.stop()
        self.cluster.execute("DROP DATABASE %s" % self.name)
        self.cluster.execute("CREATE DATABASE %s OWNER depotd" % self.name)
        for begin, end in ((self.cluster.stop, self.cluster.start), (self.proxy.swallow, self.proxy.forward)):
            with self.subTest(begin=begin.__name__):
                begin()
                try:
                    since = time.monotonic()
                    self.server.start()
                    self.assertLess(time.monotonic() - since, seconds(IN_TIME))
                    self.server.wait_for_stderr(r"warning.*no database yet: PostgreSQL: .*")
                    self.assertEqual(self.ask("GET", "/healthz")[0].status, 200)
                    ready = self.ask("GET", "/readyz")[0]
                    self.assertEqual((ready.status, ready.json()["parts"]["database"]["status"]), (503, "failed"), ready.body)
                    answer, took = self.ask("GET", "/files")
                    self.assertEqual(answer.status, 503)
                    self.assertRegex(answer.header("Retry-After", ""), r"\A[0-9]+\Z")
                    self.assertLess(took, seconds(AT_ONCE))
                    uploads = [self.put("early-%s-%d" % (begin.__name__, i), b"%d" % i) for i in range(3)]
                    self.assertEqual({u.status for u in uploads}, {202})
                finally:
                    end()
                self.assert_all_listed(uploads, time.monotonic())
                self.server.wait_for_stderr(r"the database is there")
                wait_until(lambda: self.ask("GET", "/readyz")[0].status == 200, "it is ready", 10)
                self.server.stop()
        self.server.start()

    def test_serve_stops_at_once_while_it_waits_for_its_database(self):
        self.server.stop()
        self.proxy.swallow()
        self.server.start()
        since = time.monotonic()
        self.server.stop()
        self.assertLess(time.monotonic() - since, seconds(AT_ONCE))
        self.proxy.forward()
        self.server.start()

    def test_readiness_says_what_the_database_does_not_like(self):
        self.server.stop()
        self.cluster.execute("ALTER ROLE depotd NOLOGIN")
        try:
            self.server.start()
            self.server.wait_for_stderr(r"no database yet: .*not permitted to log in")
            detail = self.ask("GET", "/readyz")[0].json()["parts"]["database"]["detail"]
            self.assertIn("not permitted to log in", detail)
        finally:
            self.cluster.execute("ALTER ROLE depotd LOGIN")
        wait_until(lambda: self.ask("GET", "/files")[0].status == 200, "the list is there", 10)

    def test_what_mends_does_not_start_without_a_database(self):
        self.server.stop()
        self.proxy.refuse()
        for command, status in (("check", 2), ("reindex", 1), ("migrate", 1)):
            result = self.server.command(command)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertRegex(result.stderr, r"\Adepotd: [^\n]*refused[^\n]*\n\Z")
        self.proxy.forward()
        self.server.start()


class ASmallJournal(OutageCase):
    """What waits for the database is carried over into a journal that uploads fill many times while it is away."""

    CLIENTS, EACH = 8, 80

    def test_uploads_go_on_where_they_fill_it_again_and_again(self):
        """On a disk that is slower than they are they met a full journal, which no checkpoint could empty: each took 18 s."""
        cluster = PostgresCluster()
        self.addCleanup(cluster.remove)
        cluster.start()
        self.server = DepotdServer(["--storage.journal_size", "3M"], database=cluster.create_database())
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)
        self.put("before", b"so that there is a connection")
        cluster.stop()
        uploads, took, deadline = [], [], time.monotonic() + seconds(60)

        def client(number):
            for i in range(self.EACH):
                data, answer = os.urandom(30_000), None
                while (answer is None or answer.status == 503) and time.monotonic() < deadline:
                    begin = time.monotonic()
                    answer = self.server.request("PUT", "/files/%d-%d" % (number, i), data)
                    took.append(time.monotonic() - begin)
                    if answer.status == 503:
                        time.sleep(0.05)
                uploads.append(Upload("%d-%d" % (number, i), data, answer, took[-1]))
        threads = [threading.Thread(target=client, args=(i,)) for i in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([upload.status for upload in uploads], [202] * (self.CLIENTS * self.EACH))
        self.assertLess(max(took), seconds(IN_TIME))
        cluster.start()
        self.assert_all_listed(uploads, time.monotonic())


class ACrashThatForgets(OutageCase):
    """A server that dies at once forgets what it had committed and not written out; what was answered is there all the same."""

    ROUNDS = 10 # the database writes out what it has every half second, and then there is nothing to forget

    def setUp(self):
        # Nothing but a request writes the log out for ten seconds: a crash within that time takes along what nobody asked to keep.
        self.cluster = PostgresCluster({"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"})
        self.addCleanup(self.cluster.remove)
        self.cluster.start()
        self.server = DepotdServer(database=self.cluster.create_database())
        self.server.cluster = self.cluster  # for sql()
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)

    def rows(self):
        return int(self.server.sql("SELECT count(*) FROM depot.files")[0][0])

    def test_what_it_forgot_is_registered_again(self):
        wait_until(lambda: self.metric("depotd_database_lives_total") == 1, "the server is known")
        uploads, forgot = [], 0
        for turn in range(self.ROUNDS):
            uploads += [self.put("%d-%d" % (turn, i), pattern_bytes(1 + i * 10_000)) for i in range(10)]
            gone = self.put("gone-%d" % turn, b"removed")
            if turn % 2:
                self.assertEqual(self.server.request("DELETE", gone.file["url"]).status, 204)
            else:
                uploads.append(gone)
            after = [self.put("after-%d-%d" % (turn, i), b"%d" % i) for i in range(10)]
            uploads += after
            self.server.signal(signal.SIGSTOP)  # so that it is the database alone that one looks at
            try:
                self.cluster.kill()
                self.cluster.start()
                self.assertLessEqual(self.rows(), len(uploads))
                forgot += len(uploads) - self.rows()
            finally:
                self.server.signal(signal.SIGCONT)
            self.wait_for_the_list(seconds(10))
            self.assert_all_listed(uploads, time.monotonic())
            self.assertEqual(self.rows(), len(uploads))
            if forgot:
                break
        self.assertGreater(forgot, 0, "no crash was fast enough")
        for upload in uploads:
            answer = self.server.request("GET", upload.file["url"])
            self.assertEqual((answer.status, sha256(answer.body)), (200, upload.sha256))

    def test_the_daemon_that_dies_with_it_remembers(self):
        wait_until(lambda: self.metric("depotd_database_lives_total") == 1, "the server is known")
        uploads = [self.put("%d" % i, pattern_bytes(1 + i * 10_000)) for i in range(20)]
        self.server.kill()
        self.cluster.kill()
        self.cluster.start()
        self.server.start()
        self.assert_all_listed(uploads, time.monotonic())

    def test_what_a_frozen_server_committed_late_is_not_forgotten(self):
        """The daemon had given it up, and finds the row there when it registers the file: that alone writes out nothing."""
        wait_until(lambda: self.metric("depotd_database_lives_total") == 1, "the server is known")
        self.put("before", b"so that there is a connection")
        self.cluster.freeze()
        try:
            upload = self.put("x", b"hello")
        finally:
            self.cluster.thaw()
        self.assertFalse(upload.file["registered"])
        wait_until(lambda: self.metric("depotd_files_unregistered") == 0, "it is registered")
        self.cluster.kill()
        self.cluster.start()
        self.assert_all_listed([upload], time.monotonic())


class Promotion(OutageCase):
    """A standby takes over, under load; the daemon knows both hosts."""

    def test_a_standby_is_promoted_under_load(self):
        cycles = int(os.environ.get("DEPOTD_TEST_PROMOTES", "1"))
        primary = PostgresCluster(tcp=True)
        self.addCleanup(lambda: primary.remove())
        primary.start()
        primary.execute("CREATE ROLE depotd LOGIN")
        primary.execute("CREATE DATABASE depot OWNER depotd")
        standby = primary.standby()
        self.addCleanup(lambda: standby.remove())
        # The daemon's two hosts stay the same while clusters come and go behind them.
        proxies = [TcpProxy(("127.0.0.1", c.port)) for c in (primary, standby)]
        for proxy in proxies:
            self.addCleanup(proxy.close)
        url = "postgresql://depotd@127.0.0.1:%d,127.0.0.1:%d/depot?target_session_attrs=read-write" % tuple(p.port for p in proxies)
        ways = [primary.kill.__func__, primary.freeze.__func__, primary.stop.__func__]
        with DepotdServer(database=url) as self.server:
            uploads = [self.put("before", b"before")]
            for cycle in range(cycles):
                with self.subTest(cycle=cycle, way=ways[cycle % 3].__name__), Load(self.server, "cycle%d" % cycle) as load:
                    wait_until(lambda: load.count() >= 20, "the load runs")
                    ways[cycle % 3](primary)
                    time.sleep(0.2 * (cycle % 4))
                    standby.promote()
                    since = time.monotonic()
                    self.wait_for_the_list(BACK)
                    back = time.monotonic() - since
                    before = load.count()
                    wait_until(lambda: load.count() >= before + 20, "the load goes on")
                self.assertEqual(load.failures, [])
                uploads += load.uploads
                listed = self.assert_all_listed(load.uploads, time.monotonic())
                Faults.note(self, list_back=back, rows_back=listed, longest_upload=max(u.took for u in load.uploads),
                            deferred=load.count(202), uploads=load.count(), reads=load.reads)
                # The one that was killed is made anew as the standby of the new one, at its old place.
                old, primary = primary, standby
                if old.running:
                    old.kill()
                old.remove()
                standby = primary.standby()
                index = 0 if proxies[0].target == ("127.0.0.1", old.port) else 1
                proxies[index].refuse()
                proxies[index].target = ("127.0.0.1", standby.port)
                proxies[index].forward()
            self.assert_all_listed(uploads, time.monotonic() + seconds(60))
            check = self.server.command("check", "--verify", timeout=600)
            self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_a_standby_alone_is_no_database_until_it_is_promoted(self):
        primary = PostgresCluster(tcp=True)
        self.addCleanup(primary.remove)
        primary.start()
        primary.execute("CREATE ROLE depotd LOGIN")
        primary.execute("CREATE DATABASE depot OWNER depotd")
        standby = primary.standby(synchronous=False)
        self.addCleanup(standby.remove)
        with DepotdServer(database="postgresql://depotd@127.0.0.1:%d/depot" % standby.port) as self.server:
            self.server.wait_for_stderr("no database yet: .*read-only")
            self.assertEqual(self.server.request("GET", "/files").status, 503)
            uploads = [self.put("early", b"early")]
            self.assertEqual(uploads[0].status, 202)
            standby.promote()
            self.assert_all_listed(uploads, time.monotonic())

    def test_a_name_gets_another_address(self):
        """As managed databases fail over: one name, whose address changes; the old one is a black hole from then on."""
        if os.geteuid() != 0:
            self.skipTest("another /etc/hosts takes root")
        primary = PostgresCluster(tcp=True)
        self.addCleanup(primary.remove)
        primary.start()
        primary.execute("CREATE ROLE depotd LOGIN")
        primary.execute("CREATE DATABASE depot OWNER depotd")
        standby = primary.standby()
        self.addCleanup(standby.remove)
        old = TcpProxy(("127.0.0.1", primary.port), host="127.0.0.2")
        self.addCleanup(old.close)
        new = TcpProxy(("127.0.0.1", standby.port), host="127.0.0.3", port=old.port)
        self.addCleanup(new.close)
        directory = tempfile.mkdtemp(prefix="depotd-hosts-")
        self.addCleanup(shutil.rmtree, directory)
        hosts = os.path.join(directory, "hosts")

        def name_is(address):
            with open(hosts, "w", encoding="ascii") as file:
                file.write("127.0.0.1 localhost\n%s database.depotd.test\n" % address)
        name_is("127.0.0.2")
        wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c",
                   'mount --bind "$0" /etc/hosts && exec "$@"', hosts]
        if subprocess.run(wrapper + ["true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("no mount namespaces here")
        url = "postgresql://depotd@database.depotd.test:%d/depot" % old.port
        with DepotdServer(database=url, wrapper=wrapper) as self.server:
            uploads = [self.put("before", b"before")]
            with Load(self.server) as load:
                wait_until(lambda: load.count() >= 20, "the load runs")
                old.swallow()
                standby.promote()
                name_is("127.0.0.3")
                since = time.monotonic()
                # The black hole has to be found out first.
                self.wait_for_the_list(IN_TIME + BACK)
                back = time.monotonic() - since
            self.assertEqual(load.failures, [])
            uploads += load.uploads
            self.assert_all_listed(uploads, time.monotonic())
            Faults.note(self, list_back=back, longest_upload=max(u.took for u in load.uploads))


if __name__ == "__main__":
    unittest.main()
