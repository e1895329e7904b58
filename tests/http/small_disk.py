"""A small file system of its own on an image file, to be filled, used up and taken away under a running server.

    with SmallDisk("ext4", 48) as disk, DepotdServer(data_dir=disk.data_dir) as server:
        disk.fill()          # another program takes all that is left
        disk.empty()

Root is needed, and a loop device; where one is missing the test is skipped and says so.
"""
import os
import shutil
import subprocess
import tempfile
import time
import unittest


def run(*command, timeout=60):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    if result.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(command), result.stdout.decode("utf-8", "replace")))
    return result.stdout.decode("utf-8", "replace").strip()


def need(*programs):
    if os.geteuid() != 0:
        raise unittest.SkipTest("mounting a file system takes root")
    for program in programs:
        if shutil.which(program) is None:
            raise unittest.SkipTest("%s is not installed" % program)


class SmallDisk:
    MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
            "xfs": ["mkfs.xfs", "-q", "-f"], "tmpfs": []}

    def __init__(self, kind="ext4", megabytes=48, make=(), options=()):
        need("mount", "losetup", *self.MAKE[kind][:1])
        self.kind, self.megabytes, self.make, self.options = kind, megabytes, list(make), list(options)
        self.directory = tempfile.mkdtemp(prefix="depotd-disk-")
        self.path = os.path.join(self.directory, "mount")
        self.image = os.path.join(self.directory, "image")
        self.data_dir = os.path.join(self.path, "data")
        self.loop = None

    def __enter__(self):
        try:
            os.mkdir(self.path)
            if self.kind == "tmpfs":
                run("mount", "-t", "tmpfs", "-o", "size=%dm" % self.megabytes, "tmpfs", self.path)
                return self
            self.prepare()
            run(*self.MAKE[self.kind], *self.make, self.image)
            self.loop = run("losetup", "--find", "--show", self.image)
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def prepare(self):
        with open(self.image, "wb") as image:
            image.truncate(self.megabytes << 20)

    def mount(self, *options):
        extra = ["-o", ",".join([*self.options, *options])] if self.options or options else []
        run("mount", "-t", self.kind, *extra, self.loop, self.path)

    def repair(self):
        """Unmounted, checked by fsck, mounted again. Nobody may use it."""
        run("umount", self.path)
        result = subprocess.run(["fsck." + self.kind, "-f", "-y", self.loop], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=60)
        if result.returncode > 1:  # 1: errors were corrected
            raise RuntimeError("fsck: " + result.stdout.decode("utf-8", "replace"))
        self.mount()

    def __exit__(self, *_):
        end = time.monotonic() + 10
        while os.path.ismount(self.path):
            lazy = ["--lazy"] if time.monotonic() > end else []
            subprocess.run(["umount", *lazy, self.path], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
            time.sleep(0.02)
        if self.loop is not None:
            subprocess.run(["losetup", "--detach", self.loop], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def free(self):
        """Bytes that can still be written."""
        st = os.statvfs(self.path)
        return st.f_bavail * st.f_frsize

    def fill(self, leave=0):
        """Another program takes all but so many bytes."""
        block = bytes(65536)
        with open(os.path.join(self.path, "filler"), "ab") as filler:
            if leave:
                os.posix_fallocate(filler.fileno(), 0, max(self.free() - leave, 1))
                return
            for size in (len(block), 4096, 1):
                try:
                    while True:
                        os.write(filler.fileno(), block[:size])
                except OSError:
                    pass
            os.fsync(filler.fileno())

    def give_back(self, n):
        """The other program gives n bytes back."""
        filler = os.path.join(self.path, "filler")
        os.truncate(filler, os.path.getsize(filler) - n)
        os.sync()

    def empty(self):
        os.unlink(os.path.join(self.path, "filler"))


class FaultyDisk(SmallDisk):
    """On a device whose writes fail as long as a file exists, made by nbdkit: set_failing(True), set_failing(False)."""

    def __init__(self, *args, **kwargs):
        need("nbdkit", "nbdfuse", "mount", "losetup")
        if not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("there is no /dev/fuse")
        super().__init__(*args, **kwargs)
        self.trigger = os.path.join(self.directory, "failing")
        self.fuse = os.path.join(self.directory, "fuse")
        self.process = None

    def prepare(self):
        backing = os.path.join(self.directory, "backing")
        with open(backing, "wb") as image:
            image.truncate(self.megabytes << 20)
        os.mkdir(self.fuse)
        self.process = subprocess.Popen(
            ["nbdfuse", self.fuse + "/", "[", "nbdkit", "--filter=error", "file", "file=" + backing, "error-file=" + self.trigger,
             "error-pwrite=EIO", "error-pwrite-rate=100%", "]"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.image = os.path.join(self.fuse, "nbd")
        end = time.monotonic() + 20
        while not os.path.exists(self.image):
            if time.monotonic() > end or self.process.poll() is not None:
                raise unittest.SkipTest("nbdfuse does not come up here")
            time.sleep(0.02)

    def set_failing(self, failing):
        if failing:
            open(self.trigger, "w").close()
        else:
            os.unlink(self.trigger)

    def __exit__(self, *exception):
        if os.path.exists(self.trigger):
            os.unlink(self.trigger)
        end = time.monotonic() + 10
        while os.path.ismount(self.path) and time.monotonic() < end:
            subprocess.run(["umount", self.path], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
            time.sleep(0.02)
        if self.loop is not None:
            subprocess.run(["losetup", "--detach", self.loop], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.loop = None
        if self.process is not None:
            subprocess.run(["umount", self.fuse], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.process.terminate()
            self.process.wait(20)
        super().__exit__(*exception)
