"""The password of PostgreSQL: from a file, from a systemd credential, from libpq's own places, never shown."""
import os
import tempfile
import unittest

from depotd_server import run_depotd
from postgres_cluster import PostgresCluster

PASSWORD = r"it's a \ % & ? = secret"


class DatabasePassword(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster()
        cls.addClassCleanup(cls.cluster.remove)
        hba = os.path.join(cls.cluster.data, "pg_hba.conf")
        with open(hba, encoding="utf-8") as file:
            rules = file.read()
        with open(hba, "w", encoding="utf-8") as file:
            file.write("local all depotd scram-sha-256\n" + rules)
        cls.cluster.start()
        cls.cluster.execute("CREATE ROLE depotd LOGIN PASSWORD '%s'" % PASSWORD.replace("'", "''"))
        cls.cluster.execute("CREATE DATABASE depot OWNER depotd")
        cls.uri = "postgresql:///depot?user=depotd&host=" + cls.cluster.directory
        cls.string = "dbname=depot user=depotd host=" + cls.cluster.directory

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="depotd-password-")
        self.addCleanup(self.directory.cleanup)
        self.file = os.path.join(self.directory.name, "database-password")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(PASSWORD + "\n")

    def migrate(self, url, *flags, environment=None):
        return run_depotd("migrate", "--data-dir", self.directory.name, "--database", url, *flags, environment=environment)

    def test_without_a_password_the_database_refuses(self):
        for url in (self.uri, self.string):
            result = self.migrate(url)
            self.assertEqual(result.returncode, 1)
            self.assertIn("password", result.stderr)

    def test_a_password_file_serves_both_forms_of_connection_strings(self):
        for url in (self.uri, self.string, "postgresql://depotd@/depot?host=" + self.cluster.directory):
            result = self.migrate(url, "--database.password_file", self.file)
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_systemd_credential_is_found_by_its_name(self):
        result = self.migrate(self.uri, environment={"CREDENTIALS_DIRECTORY": self.directory.name})
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_the_password_of_the_environment_is_taken_as_libpq_does(self):
        result = self.migrate(self.uri, environment={"PGPASSWORD": PASSWORD})
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_credential_directory_without_a_password_is_fine(self):
        with tempfile.TemporaryDirectory() as empty:
            result = self.migrate(self.uri, environment={"CREDENTIALS_DIRECTORY": empty, "PGPASSWORD": PASSWORD})
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_password_file_that_is_missing_or_empty_is_named(self):
        missing = self.migrate(self.uri, "--database.password_file", "/nonexistent/password")
        self.assertEqual(missing.returncode, 1)
        self.assertEqual(missing.stderr, "depotd: database.password_file /nonexistent/password: no such file\n")
        with open(self.file, "w", encoding="utf-8"):
            pass
        empty = self.migrate(self.uri, "--database.password_file", self.file)
        self.assertEqual(empty.stderr, "depotd: database.password_file %s is empty\n" % self.file)

    def test_a_wrong_password_is_refused_and_not_shown(self):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("wr0ng\n")
        for url in (self.uri, self.string):
            result = self.migrate(url, "--database.password_file", self.file)
            self.assertEqual(result.returncode, 1)
            self.assertNotIn("wr0ng", result.stdout + result.stderr)


if __name__ == "__main__":
    unittest.main()
