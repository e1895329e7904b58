"""A private PostgreSQL for tests: one cluster on a unix socket in a temporary directory, one database for each server.

    cluster = PostgresCluster.shared()      # started once a process, or the one that DEPOTD_TEST_POSTGRES names
    url = cluster.create_database()         # a connection string to a new, empty database
    cluster.stop(); cluster.start()         # an outage; connections end at once
    cluster.freeze(); cluster.thaw()        # SIGSTOP to all of its processes: nobody is refused, nobody is answered
    cluster = PostgresCluster(tcp=True)     # one that listens on cluster.port of 127.0.0.1, too
    cluster = PostgresCluster(directory=…)  # one that lies where a test wants it
    standby = cluster.standby()             # another one that follows it; standby.promote()

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
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
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


def tests_that_choose_their_store(loader, tests, pattern):
    """`load_tests` of a module whose tests do so: a run for both stores runs them once."""
    return unittest.TestSuite() if os.environ.get("DEPOTD_TEST_DATABASE") == "sqlite" else tests


def free_port():
    """One that the kernel gives to no outgoing connection: a server that is stopped finds it free when it is started again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as given:
        lowest = int(given.read().split()[0])
    while True:
        port = random.randrange(10_000, lowest) if lowest > 11_000 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue


class PostgresCluster:
    _shared = None
    _numbers = itertools.count(1)

    def __init__(self, settings=(), tcp=False, directory=None):
        self._prepare(settings, tcp, directory)
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")

    def _prepare(self, settings, tcp, directory=None):
        self.bin = binaries()
        if self.bin is None:
            raise unittest.SkipTest("PostgreSQL is not installed")
        self.port = free_port() if tcp else None
        self.settings = {"fsync": "off", "listen_addresses": "127.0.0.1" if tcp else "''", "max_connections": "200",
                         "shared_buffers": "64MB"}
        self.settings.update(settings)
        if tcp:
            self.settings["port"] = str(self.port)
        if directory is not None:
            os.makedirs(directory, exist_ok=True)
        self.directory = directory or tempfile.mkdtemp(prefix="depotd-pg-")
        self.data = os.path.join(self.directory, "data")
        self.running = self.frozen = False
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
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

    def stop(self, mode="immediate"):
        if self.running and self.frozen:
            self.kill()
        elif self.running:
            self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.data)
            self.running = False

    def processes(self):
        """The postmaster first, then its children."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
            postmaster = int(file.readline())
        children = []
        for name in os.listdir("/proc"):
            try:
                with open("/proc/%d/stat" % int(name), encoding="ascii", errors="replace") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == postmaster:
                        children.append(int(name))
            except (ValueError, OSError):
                continue
        return [postmaster] + children

    def kill(self):
        """kill -9 to all of them: a machine that is gone. start() brings it back."""
        os.kill(self.processes()[0], signal.SIGSTOP)  # it starts nobody new, and whoever ends by himself stays a zombie of it
        processes = self.processes()
        for process in reversed(processes):
            os.kill(process, signal.SIGKILL)
        while any(os.path.exists("/proc/%d" % process) for process in processes):
            time.sleep(0.01)
        self.running = self.frozen = False

    def freeze(self):
        """The postmaster before its children, so that there are no new ones."""
        self.frozen = True
        os.kill(self.processes()[0], signal.SIGSTOP)
        for process in self.processes()[1:]:
            os.kill(process, signal.SIGSTOP)

    def thaw(self):
        if self.frozen:
            for process in reversed(self.processes()):
                os.kill(process, signal.SIGCONT)
            self.frozen = False

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database="postgres"):
        port = "" if self.port is None else "&port=%d" % self.port
        return "postgresql:///%s?host=%s&user=postgres%s" % (database, urllib.parse.quote(self.directory, safe="/"), port)

    # --- a standby ---

    def standby(self, synchronous=True, directory=None):
        """A new cluster that streams from this one and lets nobody write until promote()."""
        other = StandbyCluster(self, directory)
        if synchronous:
            self.wait_for_standby()
        return other

    def wait_for_standby(self, timeout=30):
        """From here on what is committed is on the standby, too: an answer is never lost by promoting it."""
        end = time.monotonic() + timeout
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("SELECT pg_reload_conf()")
        while self.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'") != ["1"]:
            if time.monotonic() > end:
                raise RuntimeError("the standby does not follow")
            time.sleep(0.02)

    def promote(self):
        """Returns when it takes writes."""
        self._run("pg_ctl", "promote", "-w", "-t", "60", "-D", self.data)

    def execute(self, sql, database="postgres"):
        """Runs SQL through psql; returns its rows as lines, columns separated by |."""
        result = subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return result.stdout.splitlines()

    def copy_database(self, url, timeout=30):
        """The URL of a new database with all that is in another one; those who have just left that one are waited for."""
        end = time.monotonic() + timeout
        name = "depot_%d_%d" % (os.getpid(), next(self._numbers))
        while True:
            try:
                self.execute("CREATE DATABASE %s TEMPLATE %s" % (name, urllib.parse.urlsplit(url).path.lstrip("/")))
                return self.url(name)
            except RuntimeError as problem:
                if "other user" not in str(problem) or time.monotonic() > end:
                    raise
            time.sleep(0.02)

    def create_database(self):
        """The connection string of a new, empty database."""
        name = "depot_%d_%d" % (os.getpid(), next(self._numbers))
        self.execute("CREATE DATABASE %s" % name)
        return self.url(name)

    def drop_database(self, url):
        name = urllib.parse.urlsplit(url).path.lstrip("/")
        self.execute("DROP DATABASE IF EXISTS %s WITH (FORCE)" % name)


class StandbyCluster(PostgresCluster):
    """Made from a base backup of a running primary, and started."""

    def __init__(self, primary, directory=None):
        settings = {k: v for k, v in primary.settings.items() if k != "port"}
        self._prepare(settings, tcp=primary.port is not None, directory=directory)
        self._run("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d",
                  primary.url())
        self.start()


class GivenCluster(PostgresCluster):
    """Somebody else's cluster: databases are made in it, but it is neither started nor stopped here."""

    def __init__(self, url):
        self.given = urllib.parse.urlsplit(url)
        self.port = None

    def url(self, database="postgres"):
        # urlunsplit drops the empty authority of postgresql:///…, which libpq asks for.
        return "%s://%s/%s?%s" % (self.given.scheme, self.given.netloc, database, self.given.query)

    def start(self):
        raise unittest.SkipTest("the shared cluster is not ours to start")

    def stop(self, mode="immediate"):
        raise unittest.SkipTest("the shared cluster is not ours to stop")


if __name__ == "__main__":
    own = PostgresCluster()
    own.start()
    print(own.url(), flush=True)
    try:
        input()
    except EOFError:
        pass
