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

SCENARIOS = ("kill", "powercut", "syscalls", "device_fails", "outage", "network")
SKIPPED = 77


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
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="say what happens, with times")
    parser.add_argument("--no-keys", dest="keys", action="store_false", help="without Idempotency-Key")
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
        self.arguments = [part for key, value in arguments.items() for part in ("--" + key.replace("_", "-"), str(value))]

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
                self.timeout, command_line(self.scenario, self.arguments).encode())
        verdict = {0: "ok", SKIPPED: "skipped"}.get(process.returncode, "FAILED")
        return verdict, time.monotonic() - began, output.decode("utf-8", "replace")


def kill_jobs(chance, cycles, per_run=10):
    return [Job("%d kill -9 under load on %s" % (per_run, store), "kill", 60 + 15 * per_run,
                store=store, cycles=per_run, seed=chance.randrange(1 << 30))
            for _ in range(cycles // per_run) for store in ("sqlite", "postgres")]


def plan(full, seed):
    chance = random.Random(seed)
    return kill_jobs(chance, 1000 if full else 60)


def run_plan(full, arguments):
    parser = argparse.ArgumentParser(prog="tests/crash/crash.py " + ("all" if full else "check"))
    parser.add_argument("--seed", type=int, default=20261122, help="the seeds of all runs follow from it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="runs at once")
    parser.add_argument("--only", default="", help="runs whose title contains it")
    parser.add_argument("--results", help="write a JSON line for each run: title, verdict, seconds, output")
    options = parser.parse_args(arguments)
    scene.on_terminate()
    environment = dict(os.environ, TMPDIR=roomy_directory(), PYTHONDONTWRITEBYTECODE="1")
    from postgres_cluster import ENVIRONMENT, PostgresCluster, binaries
    cluster = None
    if ENVIRONMENT not in environment and binaries():
        cluster = PostgresCluster()
        cluster.start()
        environment[ENVIRONMENT] = cluster.url()
    jobs = [job for job in plan(full, options.seed) if options.only in job.title]
    failed = 0
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        futures = {pool.submit(job.run, environment): job for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            job = futures[future]
            verdict, took, output = future.result()
            failed += verdict == "FAILED"
            print("%-7s %s (%.1f s): %s" % (verdict, job.title, took, output.strip() if verdict == "FAILED"
                                            else output.strip().splitlines()[-1] if output.strip() else ""), flush=True)
            if options.results:
                with open(options.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps([job.title, verdict, took, output]) + "\n")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if cluster is not None:
            cluster.remove()
    print("%d runs, %d failed" % (len(jobs), failed))
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
