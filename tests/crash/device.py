"""A volume on a device of nbdkit's, brought to the kernel by nbdfuse and a loop device: writes that fail for a moment and then
work again, and a write cache that a power cut empties. Linux, root, FUSE.

    with Device("ext4", "error") as volume:
        with volume.failing(): ...            # half of the device's writes fail with EIO; then it is well again
    with Device("xfs", "cache") as volume:
        volume.cut()                          # the device is gone, and with it what was written and not flushed
        volume.remount()
"""
import contextlib
import os
import subprocess

from scene import Skipped, TIED, program, wait_until
from volume import Volume, is_mounted, mkfs, run


class Device(Volume):
    def __init__(self, kind, filter_name, megabytes=320, options=()):
        super().__init__(kind, megabytes, options)
        program("nbdkit", "nbdfuse", "fusermount3")
        if not os.path.exists("/dev/fuse"):
            raise Skipped("there is no /dev/fuse")
        self.filter_name = filter_name
        self.fuse = os.path.join(self.directory, "fuse")
        self.socket = os.path.join(self.directory, "nbd")
        self.listens = os.path.join(self.directory, "nbdkit.pid")
        self.trigger = os.path.join(self.directory, "trigger")
        self.programs = []
        os.mkdir(self.fuse)

    def backing(self):
        return os.path.join(self.fuse, "disk")

    def __enter__(self):
        os.mkdir(self.path)
        os.chmod(self.directory, 0o755)
        try:
            with open(self.image, "wb") as image:
                image.truncate(self.megabytes << 20)
            mkfs(self.kind, self.image)
            self._connect()
            self.mount()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _connect(self):
        parameters = ["cache=writeback"] if self.filter_name == "cache" else [
            "error=EIO", "error-pwrite-rate=50%", "error-pwrite-file=" + self.trigger]
        self._spawn("nbdkit", "--foreground", "--pidfile", self.listens, "--unix", self.socket, "--filter=" + self.filter_name,
                    "file", self.image, *parameters)
        wait_until(lambda: os.path.exists(self.listens), "nbdkit listens")  # the socket's file is there before
        self._spawn("nbdfuse", os.path.join(self.fuse, "disk"), "--unix", self.socket)
        wait_until(lambda: is_mounted(self.fuse), "nbdfuse is mounted")

    def _spawn(self, *command):
        self.programs.append(subprocess.Popen([*TIED, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL))

    def attach(self):
        # One request of the loop device, page-aligned and not large, is one of FUSE's. Where it became several, one that fails
        # made a short write, and the loop driver takes that for a whole one: the device would lie about what it has.
        self.loop = run("losetup", "--find", "--show", "--sector-size", "4096", self.backing())
        with open("/sys/block/%s/queue/max_sectors_kb" % os.path.basename(self.loop), "w", encoding="ascii") as limit:
            limit.write("64")

    def detach(self):
        super().detach()
        if is_mounted(self.fuse):
            subprocess.run(["fusermount3", "-u", "-z", self.fuse], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for process in reversed(self.programs):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.programs = []
        for path in (self.socket, self.listens):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @contextlib.contextmanager
    def failing(self):
        with open(self.trigger, "wb"):
            pass
        try:
            yield
        finally:
            os.unlink(self.trigger)

    def cut(self, flush=False):
        self.programs[0].kill()
        self.programs[0].wait()

    def remount(self):
        self.unmount()
        self.detach()
        self._connect()
        self.mount()
