#!/usr/bin/env python3
"""Runs the checks, stage by stage, prints a line for each test, and ends with `N passed, N failed, N skipped`.

    tests/run.py all                 what `make check` does
    tests/run.py STAGE...            some of it; `tests/run.py --list` names the stages
    tests/run.py http --only SUBSTRING   tests whose name contains it

Each stage prints what it did and how long it took; a test that failed prints its output. The exit status is 0 when nothing failed.
The environment: FUZZ_SECONDS (60) for each fuzz target; JOBS (number of processors). A test counts where it ran: once in each build.
Every program started here has a deadline and a process group of its own, which is ended when the deadline is over.
Standard library only.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 2))
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
sys.path.insert(0, os.path.join(ROOT, "tests", "http"))

SUPPRESSIONS = os.path.join(ROOT, "tests", "sanitizers")


class Build:
    """One way to compile everything, in a directory of its own."""

    def __init__(self, name, directory, variables, environment=None, slow=1.0):
        self.name = name
        self.directory = directory
        self.variables = variables
        self.environment = dict(environment or {})
        self.slow = slow

    def make(self, *targets):
        return ["make", "-k", "-j%d" % JOBS, "--no-print-directory", "BUILD=" + self.directory, *self.variables, *targets]

    @property
    def binary(self):
        return os.path.join(ROOT, self.directory, "depotd")


def sanitizer_options(name, *options):
    path = os.path.join(SUPPRESSIONS, name + ".txt")
    return ":".join(options + (("suppressions=" + path,) if os.path.exists(path) else ()))


GCC = Build("gcc", "build", ["WERROR=-Werror"])
CLANG = Build("clang", "build-clang", ["CC=clang", "WERROR=-Werror"])
ASAN = Build("asan", "build-asan",
             ["CC=clang", "HARDEN=no", "WERROR=-Werror",
              "CFLAGS=-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"],
             {"ASAN_OPTIONS": sanitizer_options("asan", "detect_leaks=1", "detect_stack_use_after_return=1",
                                                "strict_string_checks=1", "exitcode=99"),
              "LSAN_OPTIONS": sanitizer_options("lsan", "exitcode=99"),
              "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}, slow=3.0)
TSAN = Build("tsan", "build-tsan",
             ["CC=clang", "HARDEN=no", "WERROR=-Werror", "CFLAGS=-O1 -g -fno-omit-frame-pointer -fsanitize=thread"],
             {"TSAN_OPTIONS": sanitizer_options("tsan", "second_deadlock_stack=1", "exitcode=66")}, slow=6.0)
FUZZ = Build("fuzz", "build-fuzz",
             ["CC=clang", "HARDEN=no",
              "CFLAGS=-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined"
              " -fno-sanitize-recover=undefined"],
             {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"})
COVERAGE = Build("coverage", "build-coverage", ["HARDEN=no", "CFLAGS=-O0 -g --coverage"], slow=2.0)


# --- running programs ---

class Outcome:
    def __init__(self, status, output, timed_out=False):
        self.status = status
        self.output = output
        self.timed_out = timed_out


def run(command, timeout, environment=None, cwd=ROOT):
    """Runs a program with no standard input to its end, or ends its whole group after the deadline."""
    env = dict(os.environ)
    env.update(environment or {})
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    timed_out = False
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return Outcome(process.returncode, output.decode("utf-8", "replace"), timed_out)


# --- counting and printing ---

class Report:
    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.durations = []

    def line(self, text):
        with self.lock:
            print(text, flush=True)

    def result(self, stage, name, verdict, duration=None, output=""):
        """verdict: ok, FAILED or skipped."""
        with self.lock:
            if verdict == "ok":
                self.passed += 1
            elif verdict == "skipped":
                self.skipped += 1
            else:
                self.failed += 1
                self.failures.append(("%s: %s" % (stage, name), output.rstrip().splitlines()[-6:]))
            took = "" if duration is None else " (%.1f s)" % duration
            print("  %-7s %s: %s%s" % (verdict, stage, name, took), flush=True)
            if output and verdict != "ok":
                print("\n".join("          | " + line for line in output.rstrip().splitlines()[-120:]), flush=True)

    def close(self):
        print("\n== durations")
        for name, duration in self.durations:
            print("  %6.1f s  %s" % (duration, name))
        if self.failures:
            print("\n== failed")
            for failure, last in self.failures:
                print("  " + failure)
                if len(self.failures) <= 5:  # what a log keeps is often its end alone
                    print("".join("    | %s\n" % line[:200] for line in last), end="")
        print("\n%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped), flush=True)
        return 1 if self.failed or not self.passed else 0


REPORT = Report()
ONLY = ""


def parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for future in [pool.submit(function, item) for item in items]:
            future.result()


def step(stage, name, command, timeout, environment=None):
    """One program that passes or fails as a whole."""
    start = time.monotonic()
    outcome = run(command, timeout, environment)
    good = outcome.status == 0 and not outcome.timed_out
    note = outcome.output + ("\n(ended after %d s)" % timeout if outcome.timed_out else "")
    REPORT.result(stage, name, "ok" if good else "FAILED", time.monotonic() - start, note)
    return good


def build(stage, kind, *targets, timeout=900):
    start = time.monotonic()
    outcome = run(kind.make(*targets), timeout)
    good = outcome.status == 0
    wanted = [line for line in outcome.output.splitlines() if not re.match(r"  (CC|AR|LINK|EMBED) ", line)]
    REPORT.result(stage, "builds with " + kind.name, "ok" if good else "FAILED", time.monotonic() - start, "\n".join(wanted))
    return good


# --- the shared PostgreSQL ---

class Postgres:
    """One private cluster for the whole run, started when the first stage wants it."""
    cluster = None
    lock = threading.Lock()

    @classmethod
    def environment(cls):
        import postgres_cluster
        if os.environ.get(postgres_cluster.ENVIRONMENT):
            return {}
        with cls.lock:
            if cls.cluster is None:
                cls.cluster = postgres_cluster.PostgresCluster()
                cls.cluster.start()
        return {postgres_cluster.ENVIRONMENT: cls.cluster.url()}


# --- unit tests: cmocka programs that speak TAP ---

TAP = re.compile(r"^(ok|not ok) \d+ - (.*?)(?: # SKIP.*)?$")


def run_unit_program(stage, kind, program):
    name = os.path.basename(program)
    environment = {"CMOCKA_MESSAGE_OUTPUT": "TAP", "DEPOTD_TEST_SLOW": str(kind.slow), **kind.environment,
                   **Postgres.environment()}
    start = time.monotonic()
    outcome = run([program], 180 * kind.slow, environment)
    took = time.monotonic() - start
    failed = 0
    for line in outcome.output.splitlines():
        match = TAP.match(line.strip())
        if match is None or ONLY not in match.group(2):
            continue
        if match.group(1) == "not ok":
            failed += 1
        verdict = "skipped" if "# SKIP" in line else "ok" if match.group(1) == "ok" else "FAILED"
        REPORT.result(stage, "%s: %s" % (name, match.group(2)), verdict, None,
                      outcome.output if verdict == "FAILED" and failed == 1 else "")
    if outcome.timed_out:
        REPORT.result(stage, name + " ends in time", "FAILED", took, outcome.output)
    elif outcome.status != 0 and failed == 0:
        REPORT.result(stage, name + " exits 0 (it gave %d)" % outcome.status, "FAILED", took, outcome.output)


def unit(stage, kind):
    build(stage, kind, "unit", "RUN=no")  # those that could be built are run even if others could not
    programs = sorted(p for p in glob.glob(os.path.join(ROOT, kind.directory, "tests/unit/test_*"))
                      if os.access(p, os.X_OK) and os.path.exists(os.path.join(ROOT, "tests/unit", os.path.basename(p) + ".c")))
    parallel(lambda program: run_unit_program(stage, kind, program), programs)


# --- HTTP and browser tests: unittest modules, each in a process of its own ---

def run_module(stage, kind, path, environment):
    name = os.path.splitext(os.path.basename(path))[0]
    start = time.monotonic()
    with tempfile.NamedTemporaryFile("r", suffix=".results") as results:
        command = [sys.executable, os.path.abspath(__file__), "--module", path, "--results", results.name, "--only", ONLY]
        outcome = run(command, 600 * max(1.0, kind.slow / 2), environment)
        lines = [json.loads(line) for line in results if line.endswith("\n")]
    bad = 0
    for test, verdict, duration, output in lines:
        bad += verdict == "FAILED"
        REPORT.result(stage, "%s: %s" % (name, test), verdict, duration, output)
    if outcome.timed_out:
        REPORT.result(stage, name + " ends in time", "FAILED", time.monotonic() - start, outcome.output)
    elif outcome.status != 0 and not bad:
        REPORT.result(stage, name + " runs", "FAILED", time.monotonic() - start, outcome.output)


def module_main(path, results):
    """The other side of run_module(): runs one module's tests and writes a JSON line for each."""
    import unittest

    class Result(unittest.TestResult):
        def startTest(self, test):
            super().startTest(test)
            self.began = time.monotonic()
            self.problem = None

        def _write(self, test, verdict, output=""):
            began = getattr(self, "began", None)
            case = getattr(test, "test_case", test)  # of a subtest
            name = getattr(case, "_testMethodName", None) or str(case)  # setUpClass has none
            name = "%s: %s" % (type(case).__name__, re.sub(r"^test_", "", name).replace("_", " "))
            record = [name, verdict, time.monotonic() - began if began else None, output]
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

        def _fail(self, test, error):
            self._write(test, "FAILED", self._exc_info_to_string(error, test))
            self.problem = True

        def addError(self, test, error):
            super().addError(test, error)
            self._fail(test, error)

        def addFailure(self, test, error):
            super().addFailure(test, error)
            self._fail(test, error)

        def addSubTest(self, test, subtest, error):
            super().addSubTest(test, subtest, error)
            if error is not None:
                self._write(subtest, "FAILED", self._exc_info_to_string(error, test))
                self.problem = True

        def addSuccess(self, test):
            if not self.problem:
                self._write(test, "ok")

        def addSkip(self, test, reason):
            self._write(test, "skipped", reason)

    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    loader = unittest.TestLoader()
    if ONLY:
        loader.testNamePatterns = ["*%s*" % ONLY.replace(" ", "_")]
    suite = loader.loadTestsFromName(os.path.splitext(os.path.basename(path))[0])
    result = Result()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


def modules(stage, kind, pattern, databases):
    if not build(stage, kind, "all", "shim"):
        return
    paths = sorted(glob.glob(os.path.join(ROOT, pattern)))
    work = []
    for database in databases:
        environment = {"DEPOTD_TEST_BINARY": kind.binary, "DEPOTD_TEST_DATABASE": database,
                       "DEPOTD_TEST_SLOW": str(kind.slow), **kind.environment, **Postgres.environment()}
        work += [("%s on %s" % (stage, database), kind, path, environment) for path in paths]
    parallel(lambda item: run_module(*item), work)


# --- the stages ---

def stage_build():
    build("build", GCC, "all", "bench-programs")
    build("build", CLANG, "all")


def stage_style():
    for path in sorted(glob.glob(os.path.join(ROOT, "tests/style/[a-z]*.py"))):
        arguments = [GCC.binary] if "generated" in path else []
        if arguments and not os.path.exists(GCC.binary):
            build("style", GCC, "all")
        step("style", os.path.splitext(os.path.basename(path))[0].replace("_", " "), [sys.executable, path, *arguments], 120)
    step("style", "sources are laid out as clang-format says", ["make", "--no-print-directory", "format-check"], 300)
    if shutil.which("mandoc"):
        step("style", "manual pages have no fault", ["mandoc", "-T", "lint", "-W", "warning", "docs/depotd.8", "docs/depotd.conf.5"], 60)


def lint_flags():
    return run(["make", "-s", "--no-print-directory", "print-cflags"], 60).output.split()


def stage_lint():
    if not build("lint", GCC, "all"):
        return
    flags = lint_flags()
    sources = sorted(glob.glob(os.path.join(ROOT, "src/**/*.c"), recursive=True))
    names = [os.path.relpath(path, ROOT) for path in sources]
    parallel(lambda name: step("lint", "clang-tidy " + name, ["clang-tidy", "--quiet", name, "--", *flags], 300), names)
    # gcc 12 calls memory leaked that was stored behind a pointer into an array or to a struct's first member; LeakSanitizer and
    # clang's analyser look for leaks instead.
    step("lint", "cppcheck", ["cppcheck", "-j%d" % JOBS, "--quiet", "--std=c11", "--enable=warning,performance,portability",
                              "--inline-suppr", "--error-exitcode=1", "--suppress=missingIncludeSystem",
                              "--suppressions-list=tests/style/cppcheck.txt", "-D_GNU_SOURCE", "-Iinclude", "src"], 600)
    parallel(lambda name: step("lint", "gcc -fanalyzer " + name,
                               ["gcc", *flags, "-O2", "-fanalyzer", "-Wno-analyzer-malloc-leak", "-Werror", "-c", "-o", "/dev/null", name], 300), names)


def stage_unit():
    unit("unit", GCC)


def stage_http():
    modules("http", GCC, "tests/http/test_*.py", ["sqlite", "postgres"])


def stage_crash():
    """The short plan of tests/crash; `make check-crash` runs the long one."""
    if not build("crash", GCC, "all", "shim"):
        return
    start = time.monotonic()
    with tempfile.NamedTemporaryFile("r", suffix=".results") as results:
        outcome = run([sys.executable, "tests/crash/crash.py", "check", "--results", results.name, "--only", ONLY], 1800,
                      {"DEPOTD_TEST_BINARY": GCC.binary, **Postgres.environment()})
        lines = [json.loads(line) for line in results if line.endswith("\n")]
    for title, verdict, duration, output, _ in lines:
        REPORT.result("crash", title, verdict, duration, output)
    if outcome.status != 0 and not any(line[1] == "FAILED" for line in lines):
        REPORT.result("crash", "the plan runs to its end", "FAILED", time.monotonic() - start, outcome.output)


def stage_browser():
    modules("browser", GCC, "tests/browser/test_*.py", ["sqlite"])


def stage_asan():
    unit("asan unit", ASAN)
    modules("asan http", ASAN, "tests/http/test_*.py", ["sqlite", "postgres"])


def stage_tsan():
    unit("tsan unit", TSAN)
    modules("tsan http", TSAN, "tests/http/test_*.py", ["sqlite", "postgres"])


def fuzz_target(program):
    name = os.path.basename(program)
    kept = os.path.join(ROOT, "tests/fuzz/corpus", name)
    found = os.path.join(ROOT, FUZZ.directory, "corpus", name)
    os.makedirs(found, exist_ok=True)
    os.makedirs(kept, exist_ok=True)
    dictionary = os.path.join(ROOT, "tests/fuzz", name + ".dict")
    command = [program, "-max_total_time=%d" % FUZZ_SECONDS, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
               "-artifact_prefix=%s/" % os.path.join(ROOT, FUZZ.directory)]
    if os.path.exists(dictionary):
        command.append("-dict=" + dictionary)
    step("fuzz", "%s for %d s" % (name, FUZZ_SECONDS), command + [found, kept], FUZZ_SECONDS + 120, FUZZ.environment)


def stage_fuzz():
    if not build("fuzz", FUZZ, "fuzzers"):
        return
    parallel(fuzz_target, sorted(p for p in glob.glob(os.path.join(ROOT, FUZZ.directory, "tests/fuzz/fuzz_*")) if "." not in os.path.basename(p)))


def stage_coverage():
    for path in glob.glob(os.path.join(ROOT, COVERAGE.directory, "**/*.gcda"), recursive=True):
        os.unlink(path)
    unit("coverage unit", COVERAGE)
    modules("coverage http", COVERAGE, "tests/http/test_*.py", ["sqlite"])
    outcome = run(["gcovr", "--root", ROOT, "--filter", "src/", "--gcov-ignore-parse-errors", "-j%d" % JOBS,
                   "--exclude-unreachable-branches", COVERAGE.directory], 600)
    REPORT.line(outcome.output)
    match = re.search(r"^TOTAL\s+\d+\s+\d+\s+(\d+)%", outcome.output, re.M)
    percent = int(match.group(1)) if match else 0
    REPORT.result("coverage", "85%% of the lines are covered (%d%%)" % percent, "ok" if percent >= 85 else "FAILED")


def stage_bench():
    if os.path.exists(os.path.join(ROOT, "tests/bench/bench.py")):
        if build("bench", GCC, "all", "bench-programs"):
            step("bench", "the benchmark runs, small", [sys.executable, "tests/bench/bench.py", "--depotd", GCC.binary,
                                                        "--smoke"], 600)
    step("bench", "random lists of both dialects are right, small", [sys.executable, "tests/bench/list_latency.py", "--check",
                                                                     "--rows", "3000", "--lists", "60"], 400)


STAGES = {name[len("stage_"):]: function for name, function in list(globals().items()) if name.startswith("stage_")}


def main():
    global ONLY
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    ONLY = options.only
    if options.module:
        return module_main(options.module, options.results)
    if options.list:
        print("\n".join(STAGES))
        return 0
    wanted = list(STAGES) if options.stages in ([], ["all"]) else options.stages
    unknown = [name for name in wanted if name not in STAGES]
    if unknown:
        parser.error("no stage %s; there are: %s" % (", ".join(unknown), ", ".join(STAGES)))
    os.chdir(ROOT)
    began = time.monotonic()
    for name in wanted:
        start = time.monotonic()
        print("\n== " + name, flush=True)
        try:
            STAGES[name]()
        except Exception as problem:  # a stage that cannot run is a failure, not the end of the others
            REPORT.result(name, "runs", "FAILED", None, repr(problem))
        REPORT.durations.append((name, time.monotonic() - start))
    REPORT.durations.append(("all together", time.monotonic() - began))
    if Postgres.cluster is not None:
        Postgres.cluster.remove()
    return REPORT.close()


if __name__ == "__main__":
    sys.exit(main())
