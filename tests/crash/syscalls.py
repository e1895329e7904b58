"""One system call (or allocation) after the other fails, or is the last one: of uploads, changes, removals, downloads, of a start.

A short script of requests runs against a fresh store, and the Nth call below the data directory (--call says which count) meets
--fault: an error once, an error from then on, a short write, or SIGKILL before or after it. --points: `all`, or how many N to
draw by the seed. Then the daemon is held against its answers as it is, killed, started anew and held against them again; --cut:
the volume loses its power in between, so that what was said to be synced and was not is gone.

--phase start: the fault strikes a start on a store that was killed under load, and the start after it has to bring back everything.
"""
import contextlib
import math
import os
import random
import shutil
import tempfile
import time
import unittest

from fault_shim import FaultShim
from postgres_cluster import PostgresCluster
from scene import Broken, Scene, Skipped
from volume import Memory, Volume
from workload import Load, Mix

FAULTS = {"kill": "kill", "kill-after": "kill after", "eio": "times=1 error=EIO", "enospc": "times=1 error=ENOSPC",
          "eintr": "times=1 error=EINTR", "emfile": "times=1 error=EMFILE", "full": "error=ENOSPC", "broken": "error=EIO",
          "short": "short=7", "lie": "times=1 error=EIO after", "enomem": "times=1 error=ENOMEM", "nothing": ""}
SCRIPT = {"put": 40, "form": 15, "patch": 20, "delete": 10, "get": 15, "coarse": True}


def add_arguments(parser):
    parser.add_argument("--phase", choices=("requests", "start"), default="requests")
    parser.add_argument("--call", default="any", help="functions of tests/shim/fault_shim.c, separated by commas; alloc")
    parser.add_argument("--where", default="", help="a rule's path=: a part of the path (of alloc: of the library that asks)")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="kill")
    parser.add_argument("--points", default="all")
    parser.add_argument("--nth", type=int, default=0, help="this point alone")
    parser.add_argument("--share", default="0/1", help="I/N: every Nth point, from the Ith")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of the points, whose order follows from the seed")
    parser.add_argument("--seconds", type=float, default=0, help="no new point after so long; says how to go on from there")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--requests", type=int, default=14, help="so many per point; 250 small ones make a small journal turn")
    parser.add_argument("--cut", choices=("", "ext4", "xfs"), default="", help="a power cut of such a volume after the fault")


class Sweep:
    def __init__(self, options, directory, shim, volume, alone):
        self.options = options
        self.alone = alone
        self.data = os.path.join(directory, "data")
        self.shim = shim
        self.volume = volume
        self.template = self.database = None  # a killed store, and what it had answered: for --phase start
        self.ledger = None
        self.audits = self.hits = 0

    def rule(self, nth, fault):
        words = [self.options.call]
        if self.options.call != "alloc":
            words.append("below=" + self.data)
        if self.options.where:
            words.append("path=" + self.options.where)
        return " ".join(words + ["nth=%d" % nth, fault])

    def scene(self):
        shutil.rmtree(self.data, ignore_errors=True)
        return Scene(self.options, self.options.database, self.data, environment=self.shim.environment, grace_ms=1,
                     alone=self.alone)

    def script(self, scene, cycle, requests):
        """The same requests each time; until they are answered or the daemon is gone."""
        scene.ledger.cycle = cycle
        load = Load(scene.server, scene.ledger, "%d-%d" % (self.options.seed, cycle), scene.clients or 1,
                    Mix(**dict(SCRIPT, **scene.mix), keys=scene.keys), tolerant=True)
        load.limit = requests  # not more: many clients would do the most of it while this one looks
        load.start()
        end = time.monotonic() + 30
        while load.answers < requests and scene.server.process.poll() is None and time.monotonic() < end:
            load.wait(answers=requests, seconds=0.05)
        if scene.server.process.poll() is not None:
            load.broken.set()
        load.stop()
        if load.answers < requests and scene.server.process.poll() is None:
            raise Broken("after 30 s %d of %d requests are answered" % (load.answers, requests))

    def begin(self, scene):
        self.shim.clear()
        scene.start()
        self.script(scene, 0, 6)
        scene.judge()

    # --- where the calls are ---

    def count(self):
        """How many calls there are to hit: as many as are made without a fault."""
        if self.options.phase == "start":
            self.make_template()
        with self.scene() as scene:
            if self.options.phase == "start":
                self.from_template(scene)
                self.shim.set(self.rule(1, ""))
                scene.start()
            else:
                self.begin(scene)
                self.shim.set(self.rule(1, ""))
                self.script(scene, 1, self.options.requests)
            n = self.shim.calls()[0]
            scene.server.kill()
        return n

    def make_template(self):
        self.template = tempfile.mkdtemp(prefix="depotd-crash-template-")
        with self.scene() as scene:
            self.shim.clear()
            scene.start()
            load = scene.load(0, clients=8)
            load.wait(answers=60, seconds=5)
            scene.kill(load)
            scene.judge()
            shutil.copytree(self.data, os.path.join(self.template, "data"), symlinks=True)
            if scene.server.cluster is not None:
                self.database = scene.server.cluster.copy_database(scene.server.database)
            self.ledger = scene.ledger

    def from_template(self, scene):
        shutil.copytree(os.path.join(self.template, "data"), self.data, symlinks=True)
        if self.database:
            scene.server.cluster.drop_database(scene.server.database)
            scene.server.database = scene.server.cluster.copy_database(self.database)
        scene.ledger = self.ledger.copy()

    def close(self):
        if self.template:
            shutil.rmtree(self.template, ignore_errors=True)
        if self.database:
            PostgresCluster.shared().drop_database(self.database)

    # --- one point ---

    def point(self, nth):
        with self.scene() as scene:
            if self.options.phase == "start":
                self.start_phase(scene, nth)
            else:
                self.request_phase(scene, nth)
            self.shim.clear()
            self.settle(scene)

    def request_phase(self, scene, nth):
        self.begin(scene)
        self.shim.set(self.rule(nth, FAULTS[self.options.fault]))
        self.script(scene, 1, self.options.requests)
        self.hits += self.shim.hits()[0] > 0
        ended = scene.server.process.poll()
        if ended is not None and not self.options.fault.startswith("kill"):
            raise Broken("the daemon ended with %d" % ended)
        if self.options.fault in ("eintr", "short", "nothing") and any(s.startswith("5") for s in scene.ledger.counts):
            raise Broken("requests failed: %s" % dict(scene.ledger.counts))
        scene.judge()

    def start_phase(self, scene, nth):
        self.from_template(scene)
        self.shim.set(self.rule(nth, FAULTS[self.options.fault]))
        scene.server.start(ready=False)
        with scene.server._changed:
            scene.server._changed.wait_for(lambda: scene.server._ended or any("listening on" in line for line in scene.server._lines), 30)
        self.hits += self.shim.hits()[0] > 0
        if scene.server._ended:
            status = scene.server.process.wait(30)
            if status not in (1, -9):
                raise Broken("the start ended with %d" % status)
        else:
            scene.server.wait_until_ready()

    def settle(self, scene):
        server = scene.server
        if self.volume is not None:
            self.volume.cut()
        elif self.options.phase == "requests" and self.options.fault not in ("kill", "kill-after", "nothing"):
            scene.audit_answers()  # as it is, with all that it remembers of the failure
        server.kill()
        if self.volume is not None:
            self.volume.remount()
        scene.start()
        scene.audit(everything=True, repeats=3)
        scene.server.kill()
        self.audits += 1


def points(options, total):
    """In an order that follows from the seed: a part of a sweep is a sample of it."""
    if options.nth:
        return [options.nth]
    first, step = map(int, options.share.split("/"))
    everything = list(range(1, total + 1))[first::step]
    random.Random(options.seed).shuffle(everything)
    if options.points != "all":
        everything = everything[:int(options.points)]
    return everything[options.skip:]


def run(options):
    end = time.monotonic() + (options.seconds or math.inf)
    with contextlib.ExitStack() as stack:
        try:
            shim = stack.enter_context(FaultShim())
        except unittest.SkipTest as reason:
            raise Skipped(str(reason)) from reason
        if options.database == "postgres":
            PostgresCluster.shared()
        if options.cut:
            volume = stack.enter_context(Volume(options.cut))
            directory = volume.path
        else:
            volume = None
            directory = (stack.enter_context(Memory()).path if os.geteuid() == 0 else
                         stack.enter_context(tempfile.TemporaryDirectory(prefix="depotd-crash-calls-")))
        sweep = Sweep(options, directory, shim, volume, alone=os.geteuid() == 0)
        stack.callback(sweep.close)
        total = sweep.count()
        todo = points(options, total)
        done = 0
        for nth in todo:
            if time.monotonic() > end:
                break
            try:
                sweep.point(nth)
            except Broken as problem:
                raise Broken("at call %d of %d (--nth %d): %s" % (nth, total, nth, problem)) from problem
            done += 1
        if done and total and not sweep.hits and not options.nth:
            raise Broken("no fault was ever hit")
        said = "%d calls, %d points, %d of them hit, %d audits" % (total, done, sweep.hits, sweep.audits)
        return said if done == len(todo) else "%s; to be continued: --skip %d" % (said, options.skip + done)
