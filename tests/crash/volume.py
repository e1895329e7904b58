"""A file system on an image file, which can lose its power; and a device whose faults nbdkit makes.

    with Volume("xfs", 320) as volume:          # mounted at volume.path
        volume.cut(flush=False)                 # the file system is shut down at once: what it had not written is lost
        ... end what uses it ...
        volume.remount()                        # the journal of the file system is replayed

cut() is what `xfs_io -x -c shutdown` does (with -f: flush=True): the ioctl XFS_IOC_GOINGDOWN, which ext4 knows as well. Linux, root.
"""
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from small_disk import run
from scene import Broken, Skipped, TIED, own_mounts, program, root_only, wait_until

GOINGDOWN = 0x8004587D  # _IOR('X', 125, __u32)
FLUSH_LOG, NO_FLUSH = 1, 2


def mkfs(kind, device):
    if kind == "xfs":
        run("mkfs.xfs", "-q", "-f", "-s", "size=4096", device)
    else:
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "has_journal", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", device)


def is_mounted(path):
    """By the kernel's list: a file system that failed answers no stat()."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return any(line.split()[1] == path for line in mounts)


class Volume:
    def __init__(self, kind, megabytes=320, options=()):
        root_only("mounting a file system")
        own_mounts()
        program("losetup", "mount", "mkfs.xfs" if kind == "xfs" else "mkfs.ext4")
        self.kind = kind
        self.options = list(options)
        self.directory = tempfile.mkdtemp(prefix="depotd-crash-volume-")
        self.image = os.path.join(self.directory, "image")
        self.path = os.path.join(self.directory, "mount")
        self.megabytes = megabytes
        self.loop = None

    def __enter__(self):
        try:
            os.mkdir(self.path)
            os.chmod(self.directory, 0o755)  # PostgreSQL's user passes through
            with open(self.image, "wb") as image:
                image.truncate(self.megabytes << 20)
            mkfs(self.kind, self.backing())
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, traceback):
        self.unmount(forced=True)
        self.detach()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- parts that a device with faults has otherwise ---

    def backing(self):
        return self.image

    def attach(self):
        self.loop = run("losetup", "--find", "--show", self.backing())

    def detach(self):
        self.detach_loop()

    def detach_loop(self):
        if self.loop is not None:
            subprocess.run(["losetup", "--detach", self.loop], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.loop = None

    # --- what scenarios do ---

    def mount(self):
        """The loop device goes by itself with the mount, even where this process is killed."""
        self.attach()
        run("mount", "-t", self.kind, *(["-o", ",".join(self.options)] if self.options else []), self.loop, self.path)
        self.detach_loop()

    def unmount(self, forced=False):
        """Bounded; forced: whatever still uses it, lets go of it (lazily), so that nothing stays mounted."""
        end = time.monotonic() + 10
        while is_mounted(self.path):
            result = subprocess.run(["umount", self.path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, timeout=60)
            if result.returncode == 0:
                continue
            if time.monotonic() > end:
                if not forced:
                    raise Broken("umount: %s" % result.stdout.decode())
                subprocess.run(["umount", "--lazy", self.path], stdin=subprocess.DEVNULL, timeout=60)
                return
            time.sleep(0.02)

    def cut(self, flush=False):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, GOINGDOWN, struct.pack("I", FLUSH_LOG if flush else NO_FLUSH))
        finally:
            os.close(fd)

    def remount(self):
        self.unmount()
        self.mount()


class Memory:
    """A file system in memory that nobody else uses. It takes no cut."""

    def __init__(self, megabytes=512):
        root_only("mounting a file system")
        own_mounts()
        self.megabytes = megabytes
        self.path = tempfile.mkdtemp(prefix="depotd-crash-memory-")

    def __enter__(self):
        run("mount", "-t", "tmpfs", "-o", "size=%dm" % self.megabytes, "tmpfs", self.path)
        return self

    def __exit__(self, kind, value, traceback):
        subprocess.run(["umount", "--lazy", self.path], stdin=subprocess.DEVNULL, timeout=60)
        os.rmdir(self.path)


def descendants(pid):
    """The processes below one, from /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry, encoding="latin-1") as stat:
                    parents.setdefault(int(stat.read().rpartition(")")[2].split()[1]), []).append(int(entry))
            except (OSError, ValueError, IndexError):
                pass
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), ()):
            found.append(child)
            queue.append(child)
    return found


class Postgres:
    """A PostgreSQL whose crash is meant: fsync is on, its directory may lie on a volume, and kill() is kill -9 of all of it."""

    SETTINGS = {"fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "max_connections": "60",
                "shared_buffers": "16MB", "wal_init_zero": "off", "min_wal_size": "32MB", "max_wal_size": "64MB",
                "dynamic_shared_memory_type": "mmap", "autovacuum": "off", "restart_after_crash": "off", "log_min_messages": "warning"}

    def __init__(self, directory, settings=()):
        """directory: one that exists and will be PostgreSQL's. The socket lies elsewhere, so that it does not go with a volume."""
        import postgres_cluster
        self.bin = postgres_cluster.binaries()
        if self.bin is None:
            raise Skipped("PostgreSQL is not installed")
        self.as_postgres = postgres_cluster.as_postgres
        self.data = os.path.join(directory, "pgdata")
        self.sockets = tempfile.mkdtemp(prefix="depotd-crash-pg-")
        self.log = os.path.join(self.sockets, "log")
        self.settings = dict(self.SETTINGS, **dict(settings))
        self.process = None
        os.mkdir(self.data, 0o700)
        os.chmod(self.sockets, 0o755)
        os.chmod(directory, 0o755)
        for path in (self.data, self.sockets):
            if os.geteuid() == 0:
                shutil.chown(path, "postgres", "postgres")
        run(*self.as_postgres([os.path.join(self.bin, "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                               "--locale=C.UTF-8", "--wal-segsize=4"]), timeout=120)

    def __enter__(self):
        self.start()
        self.query("CREATE DATABASE depot")
        return self

    def __exit__(self, kind, value, traceback):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        shutil.rmtree(self.sockets, ignore_errors=True)

    @property
    def url(self):
        return "postgresql:///depot?host=%s&user=postgres" % self.sockets

    def start(self, ready=True):
        options = [part for pair in self.settings.items() for part in ("-c", "%s=%s" % pair)]
        wrapper = TIED
        if os.geteuid() == 0:
            wrapper = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--pdeathsig", "INT", "--"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*wrapper, os.path.join(self.bin, "postgres"), "-D", self.data, "-k", self.sockets,
                                             *options], cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if ready:
            wait_until(self._answers, "PostgreSQL answers", 30, pause=0.02)

    def _answers(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                raise Broken("PostgreSQL ended with %d:\n%s" % (self.process.returncode, log.read()[-2000:]))
        return subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", self.sockets, "-d", "postgres", "-U", "postgres"],
                              stdin=subprocess.DEVNULL).returncode == 0

    def query(self, sql, database="postgres"):
        return run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.sockets, "-U", "postgres", "-d", database,
                   "-c", sql).splitlines()

    def kill(self):
        """kill -9: the postmaster first stopped, so that it starts nobody new, then all at once."""
        if self.process is None:
            return
        pids = []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            pids = descendants(self.process.pid)
            self.process.kill()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        wait_until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), "PostgreSQL's processes are gone", 20)
        self.process = None

    def stop(self):
        """As an operator stops it: clients are cut off, what is committed stays."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def freeze(self, frozen):
        """SIGSTOP or SIGCONT of all of it."""
        number = signal.SIGSTOP if frozen else signal.SIGCONT
        for pid in [self.process.pid] + descendants(self.process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
