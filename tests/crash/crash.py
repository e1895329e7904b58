#!/usr/bin/env python3
"""Breaks depotd in every way we know, and holds it against everything it had answered.

    tests/crash/crash.py check                the short plan, a part of `make check`
    tests/crash/crash.py all                  the long one: `make check-crash`
    tests/crash/crash.py kill --store sqlite --seed 7 --cycles 10      one run; a failure prints such a line
    tests/crash/crash.py --list               the scenarios; SCENARIO --help says what it takes

The daemon is build/depotd or $DEPOTD_TEST_BINARY. What a run does follows from its seed (its timing is the machine's). Mounts,
loop devices and processes are given back on every way out. Runs that need root and do not have it count as skipped.
Standard library and Debian's tools only.
"""
import argparse
import concurrent.futures
import importlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "http")]

import scene  # noqa: E402
from scene import Broken, Skipped  # noqa: E402

SCENARIOS = ("kill", "powercut", "syscalls", "device_fails", "outage", "promote", "network")
SKIPPED = 77

LONG = """The long plan. It takes about five hours on two processors. In pieces, each going on where the one before ended:

    tests/crash/crash.py all --results FILE --resume --minutes 30

or on several machines: --part 0/4, --part 1/4, ... Runs do not depend on one another; a failure prints the line that repeats it."""


def roomy_directory():
    """Where the data goes: memory where that takes extended attributes, else the usual place for temporaries."""
    if os.environ.get("TMPDIR"):
        return os.environ["TMPDIR"]
    try:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as probe:
            os.setxattr(probe.name, "user.depotd", b"probe")
        free = os.statvfs("/dev/shm")
        return "/dev/shm" if free.f_bavail * free.f_frsize > 3 << 30 else tempfile.gettempdir()
    except OSError:
        return tempfile.gettempdir()


# --- one run ---

def run_one(name, arguments):
    module = importlib.import_module(name)
    parser = argparse.ArgumentParser(prog="tests/crash/crash.py " + name, description=module.__doc__)
    scene.add_arguments(parser)
    module.add_arguments(parser)
    options = parser.parse_args(arguments)
    scene.on_terminate()
    try:
        print(module.run(options))
        return 0
    except Skipped as reason:
        print("skipped: %s" % reason)
        return SKIPPED
    except KeyboardInterrupt as problem:
        print("ended: %s" % problem)
        return 130
    except Broken as problem:
        print("BROKEN: %s" % problem)
    except Exception:
        traceback.print_exc(file=sys.stdout)
    print("Run it again:\n  %s" % command_line(name, arguments))
    return 1


def command_line(name, arguments):
    return " ".join(["tests/crash/crash.py", name, *arguments])


# --- many ---

class Job:
    def __init__(self, title, scenario, timeout, **arguments):
        self.title = title
        self.scenario = scenario
        self.timeout = timeout
        self.arguments = []
        for key, value in arguments.items():
            if value is True:
                self.arguments += ["--" + key.replace("_", "-")]
            elif value != "" and value is not False:
                self.arguments += ["--" + key.replace("_", "-"), str(value)]

    @property
    def line(self):
        return command_line(self.scenario, self.arguments)

    def run(self, environment):
        """(verdict, seconds, output)"""
        began = time.monotonic()
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", sys.executable, os.path.abspath(__file__),
                                    self.scenario, *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            output = process.communicate(timeout=self.timeout)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                output = process.communicate(timeout=60)[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output = process.communicate()[0]
            output += b"\nended after %d s. Run it again:\n  %s\n" % (
                self.timeout, self.line.encode())
        verdict = {0: "ok", SKIPPED: "skipped"}.get(process.returncode, "FAILED")
        return verdict, time.monotonic() - began, output.decode("utf-8", "replace")


def variety(chance):
    """How a load is: half of them with a journal that has checkpoints all the time, some of few clients or with many removals."""
    how = {"journal": chance.choice(("", "3M")), "mix": chance.choice(("", "", "small", "churn")),
           "clients": chance.choice(("", "", "", 1, 2, 4)), "slow_checkpoints": chance.choice(("", 300))}
    if not how["journal"]:
        how["slow_checkpoints"] = ""
    return how


def told(how):
    words = [how["mix"], how["clients"] and "%d client%s" % (how["clients"], "s" if how["clients"] > 1 else ""),
             how["journal"] and "a small journal", how["slow_checkpoints"] and "slow checkpoints"]
    return "".join(", " + word for word in words if word)


def kill_jobs(chance, cycles, per_run=10):
    jobs = []
    for _ in range(cycles // per_run):
        for store in ("sqlite", "postgres"):
            how = variety(chance)
            jobs.append(Job("%d kill -9 under load on %s%s" % (per_run, store, told(how)), "kill", 60 + 15 * per_run, store=store,
                            cycles=per_run, **how, seed=chance.randrange(1 << 30)))
    return jobs


def powercut_jobs(chance, cycles, per_run=5):
    ways = [("ext4", "sqlite", 0), ("xfs", "outside", 0), ("ext4", "inside", 0), ("xfs", "sqlite", 0), ("ext4", "outside", 0),
            ("xfs", "inside", 0), ("ext4", "sqlite", 1), ("xfs", "inside", 1), ("ext4", "inside", 1), ("xfs", "outside", 1)]
    jobs = []
    for i in range(cycles // per_run):
        fs, database, flush = ways[i % len(ways)]
        how = variety(chance)
        jobs.append(Job("%d power cuts of %s, rows %s%s%s" % (per_run, fs, database, ", log flushed" if flush else "", told(how)),
                        "powercut", 60 + 30 * per_run, fs=fs, database=database, flush=flush, cycles=per_run, **how,
                        seed=chance.randrange(1 << 30)))
    return jobs


def syscall_jobs(full, chance):
    """fault, call, where, phase, database, cut, how many in the short plan."""
    sync, opens = "fsync,fdatasync,syncfs", "open,openat,openat2"
    sweeps = [
        ("kill", "any", "", "requests", "sqlite", "", 30), ("kill-after", "any", "", "requests", "postgres", "", 20),
        ("eio", "any", "", "requests", "sqlite", "", 25), ("eio", "any", "", "requests", "postgres", "", 15),
        ("enospc", "any", "", "requests", "sqlite", "", 20), ("full", "any", "objects", "requests", "postgres", "", 10),
        ("full", "any", "metadata.db", "requests", "sqlite", "", 5),
        ("broken", "any", "", "requests", "sqlite", "", 10), ("emfile", opens, "", "requests", "sqlite", "", 15),
        ("eintr", "any", "", "requests", "postgres", "", 25), ("short", "any", "", "requests", "sqlite", "", 3),
        ("lie", "any", "", "requests", "sqlite", "", 10), ("kill-after", "any", "", "requests", "sqlite", "xfs", 10),
        ("kill", "any", "", "start", "sqlite", "", 25), ("eio", "any", "", "start", "sqlite", "", 20),
        ("enospc", "any", "", "start", "sqlite", "", 15), ("emfile", opens, "", "start", "sqlite", "", 10),
        ("eio", sync, "", "requests", "sqlite", "ext4", 0), ("eio", sync, "", "requests", "postgres", "xfs", 0),
        ("lie", sync, "", "requests", "sqlite", "ext4", 0), ("enomem", "alloc", "", "start", "sqlite", "", 15),
        ("enomem", "alloc", "", "requests", "sqlite", "", 15), ("enomem", "alloc", "depotd", "requests", "postgres", "", 25),
    ]
    turns = {"requests": 250, "clients": 4, "mix": "small", "journal": "3M"}  # so that checkpoints are hit
    sweeps += [("eio", "syncfs", "", "requests", "sqlite", "ext4", 0, turns), ("broken", "syncfs", "", "requests", "postgres", "xfs", 0, turns),
               ("eio", "any", "journal", "requests", "sqlite", "ext4", 3, turns), ("kill", "any", "journal", "requests", "postgres", "", 5, turns),
               ("enospc", "any", "journal", "requests", "postgres", "", 3, turns), ("kill-after", "any", "journal", "requests", "sqlite", "xfs", 3, turns)]
    if full:  # every N of each of these on both stores
        have = {sweep[:6] for sweep in sweeps}
        more = [(fault, opens if fault == "emfile" else "any", "", phase, database, "")
                for fault in ("kill", "kill-after", "eio", "enospc", "eintr", "emfile", "lie", "short")
                for phase in ("requests", "start") for database in ("sqlite", "postgres")]
        sweeps += [sweep + (1,) for sweep in more if sweep not in have]
    jobs = []
    for fault, call, where, phase, database, cut, sample, *how in sweeps:
        title = "%s at %s of %s%s%s%s, %s" % (fault, "call N" if call == "any" else call.replace(",", "/") + " N",
                                            "the start" if phase == "start" else "requests", " and checkpoints" if how else "",
                                            " in " + where if where else "",
                                            ", then a power cut of " + cut if cut else "", database)
        shares = (8 if call == "alloc" else 4) if full and sample else 1
        for i in range(shares):
            jobs.append(Job(title + (": part %d of %d" % (i + 1, shares) if shares > 1 else ""), "syscalls", 7200 if full else 200,
                            fault=fault, call=call, where=where, phase=phase, database=database, cut=cut,
                            points="all" if full or not sample else sample, share="%d/%d" % (i, shares), **(how[0] if how else {}),
                            seed=chance.randrange(1 << 30)))
    return jobs


def device_jobs(full, chance):
    return [Job("a device of %s: %s, rows in %s" % (fs, "writes fail, then heal" if fault == "error" else "its write cache is lost",
                                                   store), "device_fails", 300, fs=fs, fault=fault, store=store,
                cycles=10 if full else 2, seed=chance.randrange(1 << 30))
            for _ in range(10 if full else 1) for fs, fault, store in (("ext4", "error", "sqlite"), ("xfs", "error", "postgres"),
                                                                       ("ext4", "cache", "postgres"), ("xfs", "cache", "sqlite"))]


def outage_jobs(full, chance):
    return [Job("the database goes away, the daemon is killed meanwhile", "outage", 400, cycles=10 if full else 5,
                seed=chance.randrange(1 << 30)) for _ in range(50 if full else 2)] + [
        Job("the database goes away, forgets what it can, and crashes again when it is hardly back", "outage", 400,
            cycles=10 if full else 3, forgetful=True, seed=chance.randrange(1 << 30)) for _ in range(25 if full else 1)]


def promote_jobs(full, chance):
    return [Job("a standby is promoted%s, the daemon is killed meanwhile" % (" that lacks what was not written out" if forgetful else ""),
                "promote", 400, cycles=10 if full else 2, forgetful=forgetful, seed=chance.randrange(1 << 30))
            for _ in range(5 if full else 1) for forgetful in (False, True)]


def network_jobs(full, chance):
    return [Job("network: " + what, "network", 300, part=part, store=store, step=step, seed=chance.randrange(1 << 30))
            for what, part, store, step in (("clients die at every offset", "offsets", "sqlite", 1),
                                            ("clients die at every offset, rows in PostgreSQL", "offsets", "postgres", 1),
                                            ("10,000 slow connections", "slow", "sqlite", 1),
                                            ("1,000 uploads in flight", "uploads", "sqlite", 1),
                                            ("slowhttptest", "slowhttptest", "sqlite", 1))]


def plan(full, seed):
    """Latencies are measured first and alone; see run_plan()."""
    chance = random.Random(seed)
    return network_jobs(full, chance), (kill_jobs(chance, 1000 if full else 60) + powercut_jobs(chance, 1000 if full else 40)
                                        + syscall_jobs(full, chance) + device_jobs(full, chance) + outage_jobs(full, chance)
                                        + promote_jobs(full, chance))


def passed_before(path):
    """The command lines that a file of --results says were ok; its last line may be half of one."""
    try:
        with open(path, encoding="utf-8") as file:
            results = [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return set()
    return {line for _, verdict, _, _, line in results if verdict == "ok"}


def run_plan(full, arguments):
    parser = argparse.ArgumentParser(prog="tests/crash/crash.py " + ("all" if full else "check"),
                                     description=LONG if full else None, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20261122, help="the seeds of all runs follow from it")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1, help="runs at once")
    parser.add_argument("--only", default="", help="runs whose title contains it")
    parser.add_argument("--results", help="add a JSON line for each run to this file: title, verdict, seconds, output, command")
    parser.add_argument("--resume", action="store_true", help="leave out the runs that --results says were ok")
    parser.add_argument("--part", default="0/1", help="I/N: every Nth run, from the Ith (0 to N-1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    options = parser.parse_args(arguments)
    if options.resume and not options.results:
        parser.error("--resume needs --results")
    end = time.monotonic() + options.minutes * 60
    scene.on_terminate()
    environment = dict(os.environ, TMPDIR=roomy_directory(), PYTHONDONTWRITEBYTECODE="1")
    from postgres_cluster import ENVIRONMENT, PostgresCluster, binaries
    cluster = None
    pool = None
    if ENVIRONMENT not in environment and binaries():
        cluster = PostgresCluster()
        cluster.start()
        environment[ENVIRONMENT] = cluster.url()
    failed = done = left = 0
    passed = passed_before(options.results) if options.resume else ()
    first, step = map(int, options.part.split("/"))
    alone, together = ([job for job in jobs[first::step] if options.only in job.title and job.line not in passed]
                       for jobs in plan(full, options.seed))
    try:
        for jobs, workers in ((alone, 1), (together, options.jobs)):
            pool = concurrent.futures.ThreadPoolExecutor(workers)
            futures = {pool.submit(lambda job: job.run(environment) if time.monotonic() < end else None, job): job for job in jobs}
            for future in concurrent.futures.as_completed(futures):
                job = futures[future]
                if future.result() is None:
                    left += 1
                    continue
                verdict, took, output = future.result()
                done += 1
                failed += verdict == "FAILED"
                print("%-7s %s (%.1f s): %s" % (verdict, job.title, took, output.strip() if verdict == "FAILED"
                                                else output.strip().splitlines()[-1] if output.strip() else ""), flush=True)
                if options.results:
                    with open(options.results, "a", encoding="utf-8") as file:
                        file.write(json.dumps([job.title, verdict, took, output, job.line]) + "\n")
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        if cluster is not None:
            cluster.remove()
    print("%d runs, %d failed%s" % (done, failed, ", %d not begun" % left if left else ""))
    return 1 if failed else 0


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    if sys.argv[1] == "--list":
        for name in SCENARIOS:
            print("%-10s %s" % (name, importlib.import_module(name).__doc__.splitlines()[0]))
        return 0
    if sys.argv[1] in ("check", "all"):
        return run_plan(sys.argv[1] == "all", sys.argv[2:])
    if sys.argv[1] not in SCENARIOS:
        print("no scenario %s; there are: %s" % (sys.argv[1], ", ".join(SCENARIOS)), file=sys.stderr)
        return 2
    return run_one(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
