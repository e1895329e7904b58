"""What every scenario stands on: a daemon of its own, a ledger, and the walk of a cycle (load, fault, restart, audit)."""
import contextlib
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import unittest

from depotd_server import DepotdServer
from fault_shim import FaultShim
from ledger import Ledger, Unanswered
from workload import Load, Mix

# A daemon ends with the harness, however that ends.
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18

TIED = ["setpriv", "--pdeathsig", "KILL", "--"]


class Skipped(Exception):
    """This cannot be tried here; the text says why."""


class Broken(Exception):
    """What was promised was not kept; the text says what."""


def root_only(what):
    if os.geteuid() != 0:
        raise Skipped("%s needs root" % what)


def program(*names):
    for name in names:
        if shutil.which(name) is None:
            raise Skipped("%s is not installed" % name)


def own_mounts():
    """A mount namespace of its own. Nobody else's copy of ours keeps a file system alive that was cut off and unmounted here, and
    what is mounted goes with this process, however it ends. Before any thread."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise Skipped("no mount namespace: %s" % os.strerror(ctypes.get_errno()))


def wait_until(condition, what, seconds=20.0, pause=0.005):
    """The first true value of condition(); Broken when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Broken("after %g s still not: %s" % (seconds, what))
        time.sleep(pause)


def on_terminate():
    """SIGTERM and SIGINT unwind the stack, so that every mount and process is given back."""
    def unwind(number, _):
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt("signal %d" % number)
    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGINT, unwind)


RESERVE = 4 << 20
MIXES = {"": {}, "small": {"small": True, "coarse": True},
         "churn": {"put": 50, "form": 8, "patch": 12, "delete": 30, "small": True, "coarse": True}}


def add_arguments(parser):
    """What every scenario takes."""
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="say what happens, with times")
    parser.add_argument("--no-keys", dest="keys", action="store_false", help="without Idempotency-Key")
    parser.add_argument("--clients", type=int, default=0, help="so many at once; 0: the scenario's own choice")
    parser.add_argument("--journal", default="", help="storage.journal_size: 3M, the smallest, has checkpoints all the time")
    parser.add_argument("--slow-checkpoints", type=int, default=0, metavar="MS",
                        help="each sync of the whole file system takes so much longer: small journals are full, crashes meet it half-way")
    parser.add_argument("--mix", choices=sorted(MIXES), default="",
                        help="small: what the journal takes; churn: that, and half of it is removed again")


class Scene:
    """One daemon, one ledger, one seed."""

    def __init__(self, options, database="sqlite", data_dir=None, flags=(), environment=None, grace_ms=None,
                 alone=False):
        """options: those of every scenario, see add_arguments(). alone: nobody else uses the data directory's file system."""
        self.seed = seed = options.seed
        self.chance = random.Random(seed)
        self.clients = options.clients
        self.mix = MIXES[options.mix]
        grace_ms = grace_ms or self.chance.choice((1, 200))
        self.ledger = Ledger()
        self.verbose = options.verbose
        self.keys = 0.3 if options.keys else 0.0
        self.began = time.monotonic()
        directory = None
        if database == "sqlite":
            directory = None if data_dir else tempfile.mkdtemp(prefix="depotd-crash-data-")
            data_dir = data_dir or os.path.join(directory, "data")
            database = "sqlite:%s/metadata.db" % data_dir
        self.directory = directory
        self.alone = alone
        self.shim = None
        if options.slow_checkpoints and environment is None:
            try:
                self.shim = FaultShim("syncfs delay=%d" % options.slow_checkpoints)
            except unittest.SkipTest as reason:
                raise Skipped(str(reason)) from reason
            environment = self.shim.environment
        self.lives = []  # what each daemon before this one said
        if options.journal:
            flags = [*flags, "--storage.journal_size", options.journal]
        self.server = DepotdServer(
            ["--storage.grace", "%dms" % grace_ms, "--storage.reserve", str(RESERVE), "--server.drain_timeout", "5s", *flags],
            environment, database, data_dir=data_dir, wrapper=TIED)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        server = self.server
        if server.process is not None and server.process.poll() is None:
            server.kill()
        if kind is not None and server.process is not None and not issubclass(kind, (Skipped, KeyboardInterrupt)):
            for said in self.lives[-3:] + [server.stderr]:
                lines = said.splitlines()
                shown = lines[:12] + ["..."] + lines[-12:] if len(lines) > 25 else lines
                print("what a daemon said:\n  " + "\n  ".join(line[:240] for line in shown), file=sys.stderr)
        server.remove()
        if self.shim is not None:
            self.shim.close()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def say(self, text, *arguments):
        if self.verbose:
            print("%6.2f  %s" % (time.monotonic() - self.began, text % arguments if arguments else text), flush=True)

    def _remember(self):
        """What is judged after a restart has often happened before it."""
        if self.server.process is not None:
            self.lives = self.lives[-2:] + [self.server.stderr]

    def start(self):
        began = time.monotonic()
        self._remember()
        try:
            self.server.start()
        except AssertionError as problem:
            raise Broken(str(problem)) from problem
        self.say("started in %.0f ms", (time.monotonic() - began) * 1000)

    def load(self, cycle, clients=16, tolerant=False):
        self.ledger.cycle = cycle
        load = Load(self.server, self.ledger, "%s-%d" % (self.seed, cycle), self.clients or clients,
                    Mix(keys=self.keys, **self.mix), tolerant)
        load.start()
        return load

    def run_for_a_while(self, load, longest=0.9):
        """To a moment that the seed chooses: so much time, or so many answers and then at once."""
        if self.chance.random() < 0.5:
            load.wait(seconds=self.chance.uniform(0.02, longest))
        else:
            load.wait(answers=self.chance.randrange(1, 500), seconds=longest * 1.5)

    def freeze(self):
        """No thread of the daemon comes back from the kernel any more: a machine without power answers nothing."""
        self.server.signal(signal.SIGSTOP)
        tasks = "/proc/%d/task" % self.server.process.pid

        def stopped():
            states = []
            for task in os.listdir(tasks):
                with contextlib.suppress(OSError), open("%s/%s/stat" % (tasks, task), encoding="latin-1") as stat:  # it may just end
                    states.append(stat.read().rpartition(")")[2].split()[0])
            return all(state in "TD" for state in states)
        wait_until(stopped, "the daemon stands still")

    def kill(self, load=None):
        """kill -9 under load; the clients end."""
        if load is not None:
            load.broken.set()
        self.server.process.send_signal(signal.SIGKILL)
        self.server.kill()
        if load is not None:
            load.stop()

    def kill_in_start_up(self, times, longest=0.08):
        """Kills again while it recovers: what replays half-way replays again."""
        for _ in range(times):
            self._remember()
            self.server.start(ready=False)
            time.sleep(self.chance.uniform(0, longest))
            self.server.kill()

    def audit(self, everything=False, sweep=None, repeats=12):
        """All promises, on the daemon that was started anew. Broken with all that was found."""
        sweep = everything or self.chance.random() < 0.4 if sweep is None else sweep
        try:
            listed = self.ledger.audit(self.server, self.chance, everything=everything)
            if self.keys and repeats:
                self.ledger.repeat_keys(self.server, self.chance, repeats)
                listed = self.ledger.audit(self.server, self.chance, everything=False)
        except Unanswered as problem:
            raise Broken("\n".join(self.ledger.violations + [str(problem)])) from problem
        if sweep:
            self.ledger.audit_disk(self.server, listed)
        self.audit_space()
        # What the sweep has not come to yet is no finding: it is inside the grace.
        self.ledger.audit_check(self.server, *([] if sweep else ["--storage.grace", "1h"]),
                                *(["--verify"] if everything or self.chance.random() < 0.3 else []))
        self.judge()
        self.say("audited: %d listed, %s", len(listed), dict(self.ledger.counts))

    def audit_answers(self):
        """What was answered, on a daemon that goes on after a failure: nothing is waited for, nothing swept."""
        ledger = self.ledger.copy()  # what is open stays open for the audit after the restart
        ledger.audit(self.server, self.chance, everything=True)
        self.ledger.violations = ledger.violations
        self.audit_space()
        self.judge()

    def audit_space(self):
        if self.alone:
            self.ledger.audit_space(self.server, RESERVE)

    def judge(self):
        if self.ledger.violations:
            shown = self.ledger.violations[:15]
            rest = len(self.ledger.violations) - len(shown)
            raise Broken("\n".join(shown) + ("\n... and %d more" % rest if rest else ""))

    def finish(self):
        """A clean stop, and a last look at what it left."""
        try:
            self.server.stop()
        except AssertionError as problem:
            raise Broken(str(problem)) from problem
        self.ledger.audit_check(self.server, "--verify", "--storage.grace", "1h")
        self.judge()

    def summary(self):
        counts = self.ledger.counts
        return "%d uploads asked, %d files kept, %d deleted, %d found unanswered and whole, %d keys repeated, 202: %d, 5xx: %d" % (
            counts["asked"], counts["kept"], counts["deleted"], counts["adopted"], counts["repeated"], counts["202"],
            sum(n for status, n in counts.items() if status.startswith("5")))
