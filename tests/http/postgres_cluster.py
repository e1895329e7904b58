"""A private PostgreSQL for tests: one cluster on a unix socket in a temporary directory, one database for each server.

    cluster = PostgresCluster.shared()      # started once a process, or the one that DEPOTD_TEST_POSTGRES names
    url = cluster.create_database()         # a connection string to a new, empty database
    cluster.stop(); cluster.start()         # an outage; connections end at once

DEPOTD_TEST_POSTGRES is a connection string (postgresql:///postgres?host=/socket/dir&user=postgres) to a cluster whose role may
create databases. tests/run.py sets it, so that all programs of one run share a cluster; C tests read it, too, and
skip where it is missing. Run alone, this file starts a cluster, prints that string and waits for Enter.

fsync is off: what these clusters hold is not meant to outlive the machine. Nobody but the process that started a cluster
stops it, and it stops when that process ends.
"""
import atexit
import glob
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import unittest
import urllib.parse

ENVIRONMENT = "DEPOTD_TEST_POSTGRES"


def binaries():
    """The directory of initdb and pg_ctl of the newest PostgreSQL that Debian's packages installed, or None."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    found.sort(key=lambda path: int(path.split("/")[4]))
    return os.path.dirname(found[-1]) if found else None


def as_postgres(command):
    """PostgreSQL refuses to run as root, so root runs it as Debian's user postgres."""
    if os.geteuid() != 0:
        return command
    return ["runuser", "-u", "postgres", "--"] + command


class PostgresCluster:
    _shared = None
    _numbers = itertools.count(1)

    def __init__(self, settings=()):
        self.bin = binaries()
        if self.bin is None:
            raise unittest.SkipTest("PostgreSQL is not installed")
        self.settings = {"fsync": "off", "listen_addresses": "''", "max_connections": "200", "shared_buffers": "64MB"}
        self.settings.update(settings)
        self.directory = tempfile.mkdtemp(prefix="depotd-pg-")
        self.data = os.path.join(self.directory, "data")
        self.running = False
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        atexit.register(self.remove)

    @classmethod
    def shared(cls):
        """The cluster of this process: the given one, or one started on first use."""
        if cls._shared is None:
            if os.environ.get(ENVIRONMENT):
                cls._shared = GivenCluster(os.environ[ENVIRONMENT])
            else:
                cls._shared = cls()
                cls._shared.start()
        return cls._shared

    def _run(self, program, *arguments):
        result = subprocess.run(as_postgres([os.path.join(self.bin, program), *arguments]), cwd="/",
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            raise RuntimeError("%s failed:\n%s" % (program, result.stdout))

    def start(self):
        options = " ".join("-c %s=%s" % pair for pair in self.settings.items())
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", self.data, "-l", os.path.join(self.directory, "log"),
                  "-o", "-k %s %s" % (self.directory, options))
        self.running = True

    def stop(self):
        if self.running:
            self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self.data)
            self.running = False

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database="postgres"):
        return "postgresql:///%s?host=%s&user=postgres" % (database, urllib.parse.quote(self.directory, safe="/"))

    def execute(self, sql, database="postgres"):
        """Runs SQL through psql; returns its rows as lines, columns separated by |."""
        result = subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return result.stdout.splitlines()

    def create_database(self):
        """The connection string of a new, empty database."""
        name = "depot_%d_%d" % (os.getpid(), next(self._numbers))
        self.execute("CREATE DATABASE %s" % name)
        return self.url(name)

    def drop_database(self, url):
        name = urllib.parse.urlsplit(url).path.lstrip("/")
        self.execute("DROP DATABASE IF EXISTS %s WITH (FORCE)" % name)


class GivenCluster(PostgresCluster):
    """Somebody else's cluster: databases are made in it, but it is neither started nor stopped here."""

    def __init__(self, url):
        self.given = urllib.parse.urlsplit(url)

    def url(self, database="postgres"):
        # urlunsplit drops the empty authority of postgresql:///…, which libpq asks for.
        return "%s://%s/%s?%s" % (self.given.scheme, self.given.netloc, database, self.given.query)

    def start(self):
        raise unittest.SkipTest("the shared cluster is not ours to start")

    def stop(self):
        raise unittest.SkipTest("the shared cluster is not ours to stop")


if __name__ == "__main__":
    own = PostgresCluster()
    own.start()
    print(own.url(), flush=True)
    try:
        input()
    except EOFError:
        pass
