"""The rows about the commit path: uploads whose bytes and rows are durable, beside the least that the disk allows, and beside a
server that syncs nothing. Each figure is a ratio to something measured right before or after on the same mount."""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile

import mounts
import peers


class Stage:
    """A mount with a PostgreSQL cluster on it, and what is measured there."""

    def __init__(self, bench, mount, postgres):
        self.bench, self.mount, self.postgres = bench, mount, postgres
        self.rounds = 0

    def fresh(self, name):
        self.rounds += 1
        return os.path.join(self.mount, f"{name}-{self.rounds}")

    def settle(self):
        """Nothing that a round left behind is still being written during the next one. It stays where it is: ext4 passes over each
        inode that was deleted within the last minutes whenever it looks for a free one, so a round after much deleting is slow."""
        subprocess.run(["sync", "-f", self.mount], check=True)

    def loop(self):
        """Files a second of the bare 64-thread loop."""
        bare = self.fresh("bare")
        os.mkdir(bare)
        rate = float(self.bench.tool("fsync_loop", bare, "64", str(self.bench.seconds)))
        self.settle()
        return rate

    @contextlib.contextmanager
    def depotd(self):
        """A depotd with an empty data directory and an empty database; checks at the end that it has a row for each file promised."""
        data, database = self.fresh("data"), self.postgres.create()
        promised = []
        with peers.depotd(self.bench.options.depotd, data, self.bench.run, self.postgres.url(database)) as server:
            yield server, promised
            rows = int(self.postgres.sql(database, "SELECT count(*) FROM depot_internal.file"))
            if rows != sum(promised):
                raise RuntimeError(f"{sum(promised):.0f} uploads were answered, and there are {rows} rows")
        self.settle()

    def uploads(self, connections, form=None):
        with self.depotd() as (server, promised):
            result = peers.load(self.bench.program("put_load"), server, connections, self.bench.seconds, form)
            promised.append(result["stored"])
        return result


@contextlib.contextmanager
def stage(bench, slow=False):
    """Data and PostgreSQL on one mount; the slow disk has the data alone, as a volume of a machine whose database is elsewhere."""
    size_mib = 2048 if bench.options.smoke else 24576
    with contextlib.ExitStack() as stack:
        mount = stack.enter_context(mounts.loop_mount(size_mib, bench.filesystem))
        postgres = stack.enter_context(peers.Postgres(os.path.join(mount, "postgres")))
        if slow:
            mount = stack.enter_context(mounts.slow_mount(min(size_mib, 8192), bench.filesystem))
        yield Stage(bench, mount, postgres)


def beside_the_loop(bench, slow, wanted):
    """Loop, depotd, loop, depotd …; wanted: {connections: ratio}."""
    pairs = {connections: [] for connections in wanted}
    answers = {connections: [] for connections in wanted}
    with stage(bench, slow) as here:
        for _ in range(bench.rounds):
            for connections in wanted:
                loop = here.loop()
                result = here.uploads(connections)
                pairs[connections].append((result["rate"], loop))
                answers[connections].append(result)
    disk = "a disk with 1 ms a write" if slow else "loop-mounted " + bench.filesystem
    for connections, ratio in wanted.items():
        middle = {key: statistics.median(a[key] for a in answers[connections]) for key in ("p50", "p99", "cpu")}
        bench.note(f"uploads/s {bench.list_of(pairs[connections], 0)}; bare loop {bench.list_of(pairs[connections], 1)}; "
                   f"p50 {middle['p50'] / 1000:.1f} ms, p99 {middle['p99'] / 1000:.1f} ms; client {middle['cpu']:.0f} µs each")
        bench.ratio(f"4 KiB durable uploads with rows in PostgreSQL, {disk}, {connections} connections, "
                    "beside a bare 64-thread fsync loop without HTTP and database", pairs[connections], ratio)


def durable(bench):
    beside_the_loop(bench, False, {64: 1.0, 256: 1.5})


def slow_disk(bench):
    beside_the_loop(bench, True, {64: 8.0, 256: 20.0})


# --- beside a server as people write it -----------------------------------------------------------------------------------------

@contextlib.contextmanager
def express_packages(bench):
    """A directory with express, multer and pg in it."""
    if not shutil.which("node"):
        raise mounts.Missing("node is not installed")
    if bench.options.express_modules:
        yield bench.options.express_modules
        return
    if bench.options.smoke:
        raise mounts.Missing("npm install wants the network, which the checks do without; --express-modules DIR has the packages")
    if not shutil.which("npm"):
        raise mounts.Missing("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="depotd-bench-") as directory:
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "express", "multer", "pg"],
                              cwd=directory, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise mounts.Missing("npm install failed: " + (done.stderr.strip().splitlines() or ["no reason given"])[0])
        yield directory


def express(bench):
    pairs = []
    with express_packages(bench) as modules, stage(bench) as here:
        for _ in range(bench.rounds):
            directory = here.fresh("express")
            os.mkdir(directory)
            with peers.express(modules, directory, os.path.join(bench.run, "express"), here.postgres, here.postgres.create()) as theirs:
                other = peers.load(bench.program("put_load"), theirs, 64, bench.seconds, "/upload")
            here.settle()
            pairs.append((here.uploads(64, "/files")["rate"], other["rate"]))
    bench.note(f"uploads/s {bench.list_of(pairs, 0)}; Express {bench.list_of(pairs, 1)}")
    bench.ratio("4 KiB uploads by form, durable, 64 connections, beside a hand-written Express + multer + pg server, which syncs nothing",
                pairs, 15.0)


# --- one after the other ----------------------------------------------------------------------------------------------------------

def latency(bench):
    pairs, parts = [], []
    with stage(bench) as here:
        for _ in range(bench.rounds):
            least = bench.tool("commit_yardstick", here.mount, here.postgres.url("postgres"), str(bench.seconds))
            least = {key: float(value) for key, value in (item.split("=") for item in least.split())}
            here.settle()
            pairs.append((here.uploads(1)["p50"], least["both"]))
            parts.append(least)
    bench.note(f"median µs: {bench.list_of(pairs, 0)}; fdatasync {statistics.median(p['sync'] for p in parts):.0f} + "
               f"commit {statistics.median(p['commit'] for p in parts):.0f}, together {bench.list_of(pairs, 1)}")
    bench.ratio("one client, one 4 KiB upload at a time: latency beside one fdatasync + one PostgreSQL commit", pairs, 1.2, at_most=True)


def durable_large(bench):
    path = bench.big_file()
    pairs = []
    try:
        with stage(bench) as here:
            target = os.path.join(here.mount, "dd")
            for turn in range(bench.rounds + 1):  # the first one warms up: the image's blocks, the connection
                with bench.timed() as theirs:
                    subprocess.run(["dd", f"if={path}", f"of={target}-{turn}", "bs=1M", "conv=fsync", "status=none"], check=True)
                here.settle()
                with here.depotd() as (server, promised):
                    ours = peers.put_file(server, path, "files/big")
                    promised.append(1)
                if turn or bench.options.smoke:
                    pairs.append((theirs.seconds, ours))
    finally:
        os.unlink(path)
    bench.note(f"seconds: dd {bench.list_of(pairs, 0, '.2f')}; PUT {bench.list_of(pairs, 1, '.2f')}")
    bench.ratio("1 GiB durable PUT, speed beside dd conv=fsync of the same bytes", pairs, 0.95)


ROWS = {"durable": durable, "slow-disk": slow_disk, "express": express, "latency": latency, "durable-large": durable_large}
