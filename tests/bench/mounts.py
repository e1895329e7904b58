"""File systems to measure on: a journaled one on a loop device, and the same on a disk that takes a millisecond for each write.
Root only; both are gone at the end of `with`."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time

MKFS = {
    # Nothing is left for the kernel to initialise in the background while something is being measured.
    "ext4": ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
}


class Missing(Exception):
    """What a row needs is not on this machine; the text says what."""


def quietly(*argv):
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def mounted(device, kind):
    """A new file system on a device."""
    if not shutil.which(MKFS[kind][0]):
        raise Missing(f"{MKFS[kind][0]} is not installed")
    subprocess.run([*MKFS[kind], device], check=True)
    mount = tempfile.mkdtemp(prefix="depotd-bench-", dir="/var/tmp")
    try:
        subprocess.run(["mount", device, mount], check=True)
        try:
            os.chmod(mount, 0o755)
            yield mount
        finally:
            # What is still dirty is not worth the time of writing it.
            quietly("xfs_io", "-x", "-c", "shutdown", mount)
            for _ in range(50):
                if quietly("umount", mount):
                    break
                time.sleep(0.1)
            else:
                subprocess.run(["umount", "-l", mount], check=True)
    finally:
        os.rmdir(mount)


@contextlib.contextmanager
def loop_device(path, request_kib):
    """The largest request is said, since a loop device keeps what an earlier user set."""
    device = subprocess.run(["losetup", "--find", "--show", path], check=True, capture_output=True, text=True).stdout.strip()
    try:
        with open(f"/sys/block/{os.path.basename(device)}/queue/max_sectors_kb", "w", encoding="ascii") as f:
            f.write(str(request_kib))
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


@contextlib.contextmanager
def loop_mount(size_mib, kind="ext4"):
    """On a loop device over an image file in /var/tmp."""
    with tempfile.NamedTemporaryFile(prefix="depotd-bench-", suffix=".img", dir="/var/tmp") as image:
        image.truncate(size_mib << 20)
        with loop_device(image.name, 1280) as device, mounted(device, kind) as mount:
            yield mount


@contextlib.contextmanager
def slow_mount(size_mib, kind="ext4"):
    """On a disk with 1 ms for each write: nbdkit's memory behind its delay filter, a file by nbdfuse, a loop device on that. It does one
    write after the other, of 128 KiB at the most (that is FUSE's)."""
    for tool in ("nbdkit", "nbdfuse", "losetup"):
        if not shutil.which(tool):
            raise Missing(f"{tool} is not installed")
    if not os.path.exists("/dev/fuse"):
        raise Missing("there is no /dev/fuse")
    run = tempfile.mkdtemp(prefix="depotd-bench-", dir="/var/tmp")
    disk = os.path.join(run, "disk")
    open(disk, "wb").close()
    server = subprocess.Popen(["nbdfuse", disk, "--command", "nbdkit", "-s", "--filter=delay", "memory", f"{size_mib}M", "wdelay=1ms"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while os.path.getsize(disk) == 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise Missing("nbdfuse shows no disk here")
            time.sleep(0.05)
        with loop_device(disk, 1280) as device, mounted(device, kind) as mount:
            yield mount
    finally:
        if not quietly("fusermount3", "-u", disk) and not quietly("umount", disk):
            quietly("umount", "-l", disk)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(run, ignore_errors=True)
