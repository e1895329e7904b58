"""The release before still runs on the schema after, so that nodes can be upgraded one by one: expand, then contract.

tests/releases/NNNN is what the release whose newest migration was NNNN said to its database:

    DIALECT/statements.sql      its named statements, as they were
    scenario.json               [statement, parameters] in order; a name with * or [ is every statement that matches, or none
    migrations.sha256           its migrations, which nobody may edit any more

Each scenario runs on two databases, one with the schema of its release and one with that of today, and every answer must be the
same. Then this daemon and that release's statements work on one database. Before a release, its folder is added: copy the
statements, extend the scenario by what is new. A folder goes when a breaking migration ends the support of its release.
"""
import ctypes
import ctypes.util
import fnmatch
import functools
import hashlib
import json
import os
import re
import sqlite3
import tempfile
import unittest

from depotd_server import ROOT, DepotdServer, run_depotd
from postgres_cluster import PostgresCluster, tests_that_choose_their_store

RELEASES = os.path.join(ROOT, "tests", "releases")
# Their rows are in no order, or say something of the server and not of its schema.
UNORDERED = re.compile(r"files_present|files_by_ids|files_probe_.*")
PASSED_OVER = re.compile(r"session_setup")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def parse_statements(text):
    """By name, as src/metadata/statements.c reads them."""
    texts, composed, lines = {}, {}, None
    for line in text.splitlines():
        head = re.match(r"-- (?:name|fragment): (\w+)(?: = (.*))?$", line)
        if head and head[2]:
            composed[head[1]], lines = head[2].split(), None
        elif head:
            lines = texts.setdefault(head[1], [])
        elif lines is not None and not line.startswith("--"):
            lines.append(line)
    texts = {name: "\n".join(lines).strip() for name, lines in texts.items()}
    texts.update({name: "\n".join(texts[part] for part in parts) for name, parts in composed.items()})
    return texts

load_tests = tests_that_choose_their_store


class Postgres:
    """One session through libpq: statements prepared at first use, text parameters and results."""

    def __init__(self, url, statements):
        self.texts, self.prepared = statements, set()
        self.lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
        for name in ("PQconnectdb", "PQprepare", "PQexecPrepared", "PQexec"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        for name in ("PQerrorMessage", "PQresultErrorMessage", "PQgetvalue"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        self.connection = ctypes.c_void_p(self.lib.PQconnectdb(url.encode()))
        if self.lib.PQstatus(self.connection) != 0:
            raise RuntimeError(self.lib.PQerrorMessage(self.connection).decode())

    def close(self):
        self.lib.PQfinish(self.connection)

    def rows(self, result, what):
        result = ctypes.c_void_p(result)
        try:
            if self.lib.PQresultStatus(result) not in (1, 2):
                raise AssertionError("%s: %s" % (what, self.lib.PQresultErrorMessage(result).decode()))
            return [tuple(None if self.lib.PQgetisnull(result, y, x) else self.lib.PQgetvalue(result, y, x).decode()
                          for x in range(self.lib.PQnfields(result))) for y in range(self.lib.PQntuples(result))]
        finally:
            self.lib.PQclear(result)

    def script(self, text):
        return self.rows(self.lib.PQexec(self.connection, text.encode()), "script")

    def run(self, name, parameters):
        if name not in self.prepared:
            self.rows(self.lib.PQprepare(self.connection, name.encode(), self.texts[name].encode(), 0, None), name)
            self.prepared.add(name)
        values = (ctypes.c_char_p * max(1, len(parameters)))(*[None if p is None else str(p).encode() for p in parameters])
        return self.rows(self.lib.PQexecPrepared(self.connection, name.encode(), len(parameters), values, None, None, 0), name)


class Sqlite:
    def __init__(self, url, statements):
        self.texts = statements
        self.connection = sqlite3.connect(url.split(":", 1)[1], isolation_level=None)

    def close(self):
        self.connection.close()

    def script(self, text):
        self.connection.executescript(text)

    def run(self, name, parameters):
        if name == "session_setup":
            return self.script(self.texts[name])
        # "?1" used twice is one parameter; a statement need not use all that its kind has.
        highest = max([int(n) for n in re.findall(r"\?(\d+)", self.texts[name])], default=0)
        return self.connection.execute(self.texts[name], parameters[:highest]).fetchall()


class Release:
    def __init__(self, version, dialect):
        self.version, self.dialect = version, dialect
        self.folder = os.path.join(RELEASES, version)
        self.statements = parse_statements(read(self.folder, dialect, "statements.sql"))
        self.scenario = json.loads(read(self.folder, "scenario.json"))

    def migrations(self):
        folder = os.path.join(ROOT, "sql", self.dialect)
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if re.match(r"\d{4}_", name)]

    def session(self, url):
        return (Postgres if self.dialect == "postgres" else Sqlite)(url, self.statements)

    def make_schema(self, url):
        """As that release made it."""
        session = self.session(url)
        try:
            session.script(self.statements["migrations_prepare"])
            for path in self.migrations():
                name = os.path.basename(path)
                if name[:4] <= self.version:
                    session.script(read(path))
                    session.run("migration_record", [int(name[:4]), name, hashlib.sha256(read(path).encode()).hexdigest(), 0])
        finally:
            session.close()

    def steps(self):
        for name, parameters in self.scenario:
            names = [n for n in self.statements if fnmatch.fnmatchcase(n, name)]
            if not names and "*" not in name and "[" not in name:
                raise AssertionError("no statement %s in release %s" % (name, self.version))
            for n in names:
                yield n, parameters

    def play(self, url):
        """Everything that the database answers."""
        session = self.session(url)
        try:
            answers = []
            for name, parameters in self.steps():
                rows = session.run(name, parameters)
                if not PASSED_OVER.fullmatch(name):
                    answers.append((name, parameters, sorted(rows) if UNORDERED.fullmatch(name) else rows))
            return answers
        finally:
            session.close()


def for_every_release(test):
    @functools.wraps(test)
    def run(self):
        for version in sorted(os.listdir(RELEASES)):
            for dialect in ("sqlite", "postgres"):
                with self.subTest(release=version, dialect=dialect):
                    test(self, Release(version, dialect))
    return run


class Releases(unittest.TestCase):
    maxDiff = 2000

    def database(self, dialect):
        if dialect == "postgres":
            cluster = PostgresCluster.shared()
            url = cluster.create_database()
            self.addCleanup(cluster.drop_database, url)
            return url
        directory = tempfile.TemporaryDirectory(prefix="depotd-release-")
        self.addCleanup(directory.cleanup)
        return "sqlite:%s/metadata.db" % directory.name

    def migrate(self, url):
        with tempfile.TemporaryDirectory() as data:
            result = run_depotd("migrate", "--data-dir", data, "--database", url)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_migrations_of_a_release_are_never_edited(self):
        for version in sorted(os.listdir(RELEASES)):
            for line in read(RELEASES, version, "migrations.sha256").splitlines():
                expected, path = line.split()
                self.assertEqual(hashlib.sha256(read(ROOT, "sql", path).encode()).hexdigest(), expected, path)

    @for_every_release
    def test_no_migration_since_a_release_is_a_breaking_one(self, release):
        for path in release.migrations():
            if os.path.basename(path)[:4] > release.version:
                self.assertNotIn(".breaking.", path)

    @for_every_release
    def test_a_release_gets_the_same_answers_from_the_schema_of_today(self, release):
        then, now = self.database(release.dialect), self.database(release.dialect)
        release.make_schema(then)
        self.migrate(now)
        expected, answers = release.play(then), release.play(now)
        self.assertGreater(sum(len(rows) for _, _, rows in expected), 100)
        for old, new in zip(expected, answers, strict=True):
            self.assertEqual(new, old)

    @for_every_release
    def test_a_database_that_a_release_has_filled_is_migrated(self, release):
        url = self.database(release.dialect)
        release.make_schema(url)
        before = release.play(url)[-1]
        self.assertRegex(self.migrate(url), r"from version %d to|up to date" % int(release.version))
        session = release.session(url)
        self.assertEqual(session.run(*before[:2]), before[2])
        session.close()

    @for_every_release
    def test_a_release_and_this_daemon_share_a_database(self, release):
        url = self.database(release.dialect)
        self.migrate(url)
        release.play(url)
        with DepotdServer(database=url) as server:
            listed = server.request("GET", "/files?limit=1000")
            self.assertEqual(listed.status, 200, listed.body)
            theirs = {f["name"] for f in listed.json()["files"]}
            self.assertLessEqual({"renamed.pdf", "übergröße.txt", "z.txt"}, theirs)
            mine = server.put("mine.txt", b"mine", "?tags=q4&attr.project=apollo")
            session = release.session(url)
            try:
                row = session.run("file_by_id", [mine["id"]])[0]
                self.assertEqual((row[0], row[1], int(row[2]), row[5]), (mine["id"], "mine.txt", 4, mine["sha256"]))
                self.assertEqual(len(session.run("file_update", [mine["id"], int(row[12]), "theirs.txt", "theirs.txt", None, "public",
                                                                 "[]", "{}", "[]"])), 1)
                patched = server.request("PATCH", mine["url"] + "/metadata", json.dumps({"tags": ["both"]}),
                                         {"Content-Type": "application/merge-patch+json"})
                self.assertEqual((patched.status, patched.json()["name"], patched.json()["tags"]), (200, "theirs.txt", ["both"]))
                self.assertEqual(len(session.run("file_delete", [mine["id"]])), 1)
            finally:
                session.close()
            names = {f["name"] for f in server.request("GET", "/files?limit=1000").json()["files"]}
            self.assertEqual(names, theirs)


if __name__ == "__main__":
    unittest.main()
