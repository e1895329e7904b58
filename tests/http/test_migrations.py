"""Migrations: any number of nodes at once, killed in the middle, and always the same schema in the end."""
import os
import random
import subprocess
import tempfile
import threading
import time
import unittest

from depotd_server import BINARY, ROOT, DepotdServer, clean_environment, run_depotd, seconds
from postgres_cluster import PostgresCluster, binaries, tests_that_choose_their_store

# Makes each command of a migration take a while, so that a kill hits it in the middle.
SLOW_DDL = """
CREATE FUNCTION public.dawdle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); END $$;
CREATE EVENT TRIGGER dawdle ON ddl_command_end EXECUTE FUNCTION public.dawdle();
"""
QUICK_DDL = "DROP EVENT TRIGGER dawdle; DROP FUNCTION public.dawdle()"

load_tests = tests_that_choose_their_store


class Migrations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster()
        cls.addClassCleanup(cls.cluster.remove)
        cls.cluster.start()
        cls.known = cls.migrations("postgres")
        cls.expected = cls.schema_after_one_quiet_migration()

    @staticmethod
    def migrations(dialect):
        return [name for name in sorted(os.listdir(os.path.join(ROOT, "sql", dialect))) if name[:4].isdigit()]

    @classmethod
    def schema_after_one_quiet_migration(cls):
        url = cls.cluster.create_database()
        with tempfile.TemporaryDirectory() as data:
            run_depotd("migrate", "--data-dir", data, "--database", url).check_returncode()
        return cls.schema(url)

    @classmethod
    def schema(cls, url):
        """The whole of it as SQL."""
        dump = subprocess.run([os.path.join(binaries(), "pg_dump"), "--schema-only", "--no-owner", "-d", url],
                              stdout=subprocess.PIPE, text=True, check=True).stdout
        return "\n".join(line for line in dump.splitlines() if line and not line.startswith(("--", "\\")))

    def setUp(self):
        self.url = self.cluster.create_database()
        self.name = self.url.split("///", 1)[1].split("?", 1)[0]
        self.directory = tempfile.TemporaryDirectory(prefix="depotd-migrate-")
        self.addCleanup(self.directory.cleanup)

    def start_migrate(self):
        return subprocess.Popen([BINARY, "migrate", "--data-dir", self.directory.name, "--database", self.url],
                                env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def applied(self):
        if self.cluster.execute("SELECT to_regclass('depot_internal.migration') IS NOT NULL", self.name) == ["f"]:
            return []
        return self.cluster.execute("SELECT name FROM depot_internal.migration ORDER BY version", self.name)

    def assert_migrated(self):
        self.assertEqual(self.applied(), self.known)
        self.assertEqual(self.schema(self.url), self.expected)

    def test_eight_programs_that_start_at_once_migrate_once(self):
        self.cluster.execute(SLOW_DDL, self.name)
        servers = [DepotdServer(database=self.url, start=False) for _ in range(4)]
        try:
            for server in servers:
                server.start(ready=False)
            migrations = [self.start_migrate() for _ in range(4)]
            outputs = [m.communicate(timeout=seconds(60))[0] for m in migrations]
            self.assertEqual([m.returncode for m in migrations], [0] * 4, outputs)
            for server in servers:
                server.wait_until_ready()
                self.assertEqual(server.request("GET", "/files").status, 200)
            self.assertLessEqual(sum("went from" in o and "from version 0" in o for o in outputs), 4)
            self.cluster.execute(QUICK_DDL, self.name)
            self.assert_migrated()
            # They are four nodes of one depot now.
            file = servers[0].put("one.txt", b"for all")
            for server in servers:
                self.assertEqual(server.request("GET", "/files").json()["files"], [file])
                server.stop()
        finally:
            for server in servers:
                if server.process is not None and server.process.poll() is None:
                    server.kill()
                server.remove()

    def test_a_migration_that_is_killed_at_any_moment_is_made_by_the_next(self):
        chance = random.Random(3)
        self.cluster.execute(SLOW_DDL, self.name)
        kills, longest = 0, 1.0
        for _ in range(10):
            process = self.start_migrate()
            end = time.monotonic() + chance.uniform(0, longest)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.005)
            kills += process.poll() is None
            process.kill()
            process.communicate()
            # All of a migration or nothing of it.
            applied = self.applied()
            self.assertEqual(applied, self.known[:len(applied)])
            self.assertEqual(self.cluster.execute("SELECT to_regclass('depot_internal.file') IS NOT NULL", self.name),
                             ["t" if applied else "f"])
        self.assertGreater(kills, 3)
        result = self.start_migrate()
        self.assertIn("the schema ", result.communicate(timeout=seconds(60))[0])
        self.assertEqual(result.returncode, 0)
        self.cluster.execute(QUICK_DDL, self.name)
        self.assert_migrated()

    def test_a_server_that_is_killed_while_it_migrates_is_made_up_for_by_another_node(self):
        self.cluster.execute(SLOW_DDL, self.name)
        with DepotdServer(database=self.url, start=False) as first, DepotdServer(database=self.url, start=False) as second:
            first.start(ready=False)
            threading.Event().wait(0.3)
            second.start(ready=False)
            first.kill()
            second.wait_until_ready()
            self.assertEqual(second.request("GET", "/files").status, 200)
            self.cluster.execute(QUICK_DDL, self.name)
            self.assert_migrated()

    def test_a_database_that_dies_in_the_middle_of_a_migration_is_migrated_when_it_is_back(self):
        self.cluster.execute(SLOW_DDL, self.name)
        with DepotdServer(database=self.url, start=False) as server:
            server.start(ready=False)
            threading.Event().wait(0.3)
            self.cluster.stop()
            server.wait_until_ready()  # it serves what it can
            self.assertEqual(server.request("GET", "/files").status, 503)
            self.cluster.start()
            server.wait_for_stderr("the database is there", 30)
            self.assertEqual(server.request("GET", "/files").status, 200)
            self.cluster.execute(QUICK_DDL, self.name)
            self.assert_migrated()

    def test_sqlite_too_is_migrated_once_by_many_and_after_kills(self):
        chance = random.Random(5)
        self.url = "sqlite:%s/metadata.db" % self.directory.name
        for _ in range(10):
            processes = [self.start_migrate() for _ in range(4)]
            end = time.monotonic() + chance.uniform(0, 0.03)
            while time.monotonic() < end:
                time.sleep(0.001)
            for process in processes[:2]:
                process.kill()
            outputs = [process.communicate(timeout=seconds(60))[0] for process in processes]
            self.assertEqual([p.returncode for p in processes[2:]], [0, 0], outputs)
            self.assertEqual(self.start_migrate().communicate()[0],
                             "the schema is up to date (version %d)\n" % int(self.migrations("sqlite")[-1][:4]))
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self.directory.name + "/metadata.db" + suffix):
                    os.unlink(self.directory.name + "/metadata.db" + suffix)


if __name__ == "__main__":
    unittest.main()
