"""The harness of the HTTP tests: runs the real binary on a free loopback port and takes it down again.

    from depotd_server import DepotdServer, DepotdTestCase

    class Uploads(DepotdTestCase):                        # one server for the class, fresh data directory and database
        flags = ["--limits.max_upload", "1M"]             # optional: more flags, or environment = {...}

        def test_a_put_answers_with_the_file_object(self):
            answer = self.server.request("PUT", "/files/a.txt", body=b"hello")
            self.assertEqual(answer.status, 201)
            self.assertEqual(answer.json()["name"], "a.txt")

    with DepotdServer(flags=[...]) as server: ...         # or one of your own, inside a test

A server is told what to do by these attributes and methods: url, host, port, addresses (all ready lines), data_dir, process, stderr
(text so far), request(), connect() (a plain socket), signal(), stop() (SIGTERM, waits, asserts exit 0 and no sanitizer report),
kill() (kill -9), start() (again, same data and database), command("check") (runs another command on the same stores).

What it runs on comes from the environment, so that one suite serves every build and both stores:
    DEPOTD_TEST_BINARY      the binary; default build/depotd
    DEPOTD_TEST_DATABASE    sqlite (default) or postgres; a test that needs one kind names it: DepotdServer(database="postgres")
    DEPOTD_TEST_POSTGRES    a cluster to make databases in; default: a private one, see postgres_cluster.py
    DEPOTD_TEST_SLOW        factor for deadlines, for sanitizer builds; default 1

The server's ready line is `depotd: listening on http://ADDRESS:PORT/` on standard error, one for each listener. Nothing here
sleeps: everything waits on a condition with a deadline. Standard library only.
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from postgres_cluster import PostgresCluster

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.abspath(os.environ.get("DEPOTD_TEST_BINARY", os.path.join(ROOT, "build", "depotd")))
SLOW = float(os.environ.get("DEPOTD_TEST_SLOW", "1"))
READY = re.compile(r"^depotd: listening on http://(\S+):(\d+)/$")
SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): (Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:")


def seconds(n):
    """A deadline of n seconds on a fast build; more under a sanitizer."""
    return n * SLOW


def clean_environment(extra=None):
    """The environment without depotd's own variables, the proxy's and the service manager's."""
    drop = ("DEPOTD_", "PG", "NOTIFY_", "LISTEN_", "WATCHDOG_", "CREDENTIALS_", "JOURNAL_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    environment.update(extra or {})
    return environment


class Answer:
    """A response, read to its end. Header names are case-insensitive: answer.header("etag")."""

    def __init__(self, response):
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.body = response.read()

    def header(self, name, default=None):
        return self.headers.get(name, default)

    def json(self):
        return json.loads(self.body)

    def text(self):
        return self.body.decode("utf-8")


class DepotdServer:
    def __init__(self, flags=(), environment=None, database=None, listen="127.0.0.1:0", data_dir=None, pass_fds=(),
                 wrapper=(), start=True):
        self.flags = list(flags)
        self.environment = dict(environment or {})
        self.listen = [listen] if isinstance(listen, str) else list(listen)
        self.pass_fds = tuple(pass_fds)
        self.wrapper = list(wrapper)
        self.start_on_enter = start  # False: `with` only makes directory and database
        self.directory = tempfile.mkdtemp(prefix="depotd-test-")
        self.data_dir = data_dir or os.path.join(self.directory, "data")
        self.database_kind = database or os.environ.get("DEPOTD_TEST_DATABASE", "sqlite")
        self.cluster = None
        if self.database_kind == "postgres":
            self.cluster = PostgresCluster.shared()
            self.database = self.cluster.create_database()
        elif self.database_kind == "sqlite":
            self.database = "sqlite:%s/metadata.db" % self.directory
        else:
            self.database = self.database_kind  # a URL of the test's own
        self.process = None

    # --- life ---

    def __enter__(self):
        return self.start() if self.start_on_enter else self

    def __exit__(self, kind, value, traceback):
        try:
            if value is not None:
                self.explain(value)
            if self.process is not None and self.process.poll() is None:
                if kind is None:
                    self.stop()
                else:
                    self.kill()
        finally:
            self.remove()

    def explain(self, failure):
        """Adds to an exception what the server said: a test that fails may have met a server that died."""
        ended = "" if self.process is None or self.process.poll() is None else " (it ended with %s)" % self.process.returncode
        if hasattr(failure, "add_note") and self.process is not None:
            failure.add_note("the server's standard error%s:\n%s" % (ended, self.stderr))

    def command_line(self, command, *more):
        line = self.wrapper + [BINARY, command, "--data-dir", self.data_dir, "--database", self.database]
        if command == "serve":
            for address in self.listen:
                line += ["--listen", address]
        return line + self.flags + list(more)

    def start(self, ready=True):
        """Starts it and waits until it listens; ready=False: does not wait, for one that is expected to fail."""
        self._lines = []
        self._changed = threading.Condition()
        self._ended = False
        with open(os.path.join(self.directory, "stdout"), "ab") as stdout:
            self.process = subprocess.Popen(self.command_line("serve"), env=clean_environment(self.environment),
                                            cwd=self.directory, stdin=subprocess.DEVNULL, stdout=stdout,
                                            stderr=subprocess.PIPE, pass_fds=self.pass_fds)
        self._reader = threading.Thread(target=self._read_stderr, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        if ready:
            self.wait_until_ready()
        return self

    def _read_stderr(self, stream):
        for line in stream:
            with self._changed:
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        stream.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def stderr(self):
        with self._changed:
            return "\n".join(self._lines)

    @property
    def stdout(self):
        """What the server wrote to standard output so far (the access log)."""
        with open(os.path.join(self.directory, "stdout"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_stderr(self, pattern, timeout=20):
        """The first match of pattern (a regular expression) in a line of standard error; waits for it."""
        def find():
            return next((m for m in (re.search(pattern, line) for line in self._lines) if m), None)
        with self._changed:
            self._changed.wait_for(lambda: find() or self._ended, seconds(timeout))
            match = find()
        if match is None:
            raise AssertionError("no line matches %r in:\n%s" % (pattern, self.stderr))
        return match

    def wait_until_ready(self):
        """All lines of one announcement are written together, one for each listener."""
        expected = len(self.listen) if not self.pass_fds else 1

        def ready():
            return [m.groups() for m in map(READY.match, self._lines) if m]
        with self._changed:
            self._changed.wait_for(lambda: len(ready()) >= expected or self._ended, seconds(30))
            found = ready()
        if not found:
            if self.process.poll() is None:
                self.process.kill()
            raise AssertionError("the server did not start:\n" + self.stderr)
        self.addresses = [(host.strip("[]"), int(port)) for host, port in found]
        self.host, self.port = self.addresses[0]
        self.url = "http://%s:%s" % found[0]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=60):
        """Waits for the end by itself; returns the exit status. Asserts that no sanitizer had anything to say."""
        try:
            status = self.process.wait(seconds(timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self._reader.join()
            raise AssertionError("the server did not end in time:\n" + self.stderr)
        self._reader.join()
        if SANITIZER_REPORT.search(self.stderr):
            raise AssertionError("sanitizer report:\n" + self.stderr)
        return status

    def stop(self, timeout=60):
        """SIGTERM, and a clean end: exit 0."""
        self.signal(signal.SIGTERM)
        status = self.wait(timeout)
        if status != 0:
            raise AssertionError("exit status %s after SIGTERM:\n%s" % (status, self.stderr))

    def kill(self):
        """kill -9: a crash. start() brings it back on the same data."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def remove(self):
        """Gives back directory and database. The server must have ended."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.cluster is not None:
            self.cluster.drop_database(self.database)

    # --- talking to it ---

    def connect(self, timeout=20):
        """A plain TCP connection to the first listener."""
        return socket.create_connection((self.host, self.port), seconds(timeout))

    def http(self, timeout=30):
        """An http.client connection, kept alive between requests."""
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds(timeout))

    def request(self, method, target, body=None, headers=None, timeout=30):
        """One request on a connection of its own."""
        connection = self.http(timeout)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def put(self, name, body, query="", headers=None):
        """Stores a file; its file object."""
        answer = self.request("PUT", "/files/%s%s" % (name, query), body=body, headers=headers)
        if answer.status != 201:
            raise AssertionError("PUT %s: %d %s" % (name, answer.status, answer.body[:500]))
        return answer.json()

    def command(self, name, *arguments, timeout=60):
        """Runs `depotd NAME` on the same data and database: a CompletedProcess with text."""
        return run_depotd(*self.command_line(name, *arguments)[len(self.wrapper) + 1:], environment=self.environment,
                          cwd=self.directory, timeout=timeout)

    # --- looking at what it stored ---

    def stored_files(self):
        """Paths (relative) of regular files in the data directory, the database's, the journal's, lock and mark aside."""
        found = []
        for directory, _, names in os.walk(self.data_dir):
            for name in names:
                path = os.path.relpath(os.path.join(directory, name), self.data_dir)
                if not path.startswith((".", "metadata.db", "journal/")):
                    found.append(path)
        return sorted(found)

    def sql(self, statement):
        """Rows of a query on the server's own database, as tuples of text (PostgreSQL) or values (SQLite)."""
        if self.cluster is not None:
            name = self.database.split("///", 1)[1].split("?", 1)[0]
            return [tuple(line.split("|")) for line in self.cluster.execute(statement, name)]
        import sqlite3
        connection = sqlite3.connect(self.database.split(":", 1)[1], timeout=seconds(20))
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()


def run_depotd(*arguments, environment=None, cwd=None, timeout=60, stdin=None):
    """Runs the binary to its end: a CompletedProcess with text. Asserts that no sanitizer had anything to say."""
    result = subprocess.run([BINARY, *arguments], env=clean_environment(environment), cwd=cwd, input=stdin,
                            stdin=subprocess.DEVNULL if stdin is None else None, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, timeout=seconds(timeout))
    if SANITIZER_REPORT.search(result.stderr):
        raise AssertionError("sanitizer report:\n" + result.stderr)
    return result


class DepotdTestCase(unittest.TestCase):
    """One server for all tests of the class."""

    flags = ()
    environment = None
    database = None

    @classmethod
    def setUpClass(cls):
        cls.server = DepotdServer(cls.flags, cls.environment, cls.database)
        try:
            cls.server.start()
        except BaseException:
            cls.server.remove()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            if cls.server.process.poll() is None:
                cls.server.stop()
            else:
                raise AssertionError("the server ended by itself with %s:\n%s" % (cls.server.wait(), cls.server.stderr))
        finally:
            cls.server.remove()
