#!/usr/bin/env python3
"""Measures depotd beside nginx, beside bare system calls and beside a server as people write it, side by side in one run, and
prints the README's table.

  bench.py --depotd build/depotd [--rounds 5] [--seconds 5] [--smoke] [--only NAME ...] [--filesystem xfs]

Every figure is a ratio of two things measured in turn (A B A B …), the median over the rounds: absolute figures say more about
the machine than about the program. Needs curl, wrk, nginx and, for the durable rows, root (loop mounts) and PostgreSQL; what is
missing besides (nbdkit, node and npm) leaves its row out, and says so.
--smoke runs everything small and short: it shows that the benchmark works, not how fast anything is.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import beside_nginx  # noqa: E402
import durable  # noqa: E402
import memory  # noqa: E402
import mounts  # noqa: E402

PARTS = {**beside_nginx.ROWS, **durable.ROWS, **memory.ROWS}


class Bench:
    """What the parts share: the options, places to work in, and the table they fill."""

    def __init__(self, options):
        self.options = options
        self.filesystem = options.filesystem
        self.rows = []
        self.big = 16 << 20 if options.smoke else 1 << 30
        self.rounds = 1 if options.smoke else options.rounds
        self.seconds = 1 if options.smoke else options.seconds
        self.shm = tempfile.mkdtemp(prefix="depotd-bench-", dir="/dev/shm")
        self.run = tempfile.mkdtemp(prefix="depotd-bench-")

    def close(self):
        shutil.rmtree(self.shm, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)

    # --- what the parts call ---

    def row(self, name, value, wanted, met):
        self.rows.append((name, value, wanted, "met" if met else "missed"))
        print(f"  {name}: {value} (wanted {wanted}: {'met' if met else 'MISSED'})", flush=True)

    def ratio(self, name, pairs, wanted, at_most=False):
        """pairs: (ours, theirs) in one unit."""
        ratios = [a / b for a, b in pairs]
        middle = statistics.median(ratios)
        met = middle <= wanted if at_most else middle >= wanted
        if len(ratios) > 1:
            self.note("ratios " + " ".join(f"{r:.2f}" for r in ratios))
        self.row(name, f"{middle:.2f} ×", f"{'≤' if at_most else '≥'} {wanted:g} ×", met)

    @staticmethod
    def note(text):
        print(f"  ({text})", flush=True)

    @staticmethod
    def list_of(pairs, side, form=".0f"):
        """One side of the pairs: the median, and all of them."""
        values = [pair[side] for pair in pairs]
        middle = format(statistics.median(values), form)
        return middle if len(values) == 1 else f"{middle} [{' '.join(format(v, form) for v in values)}]"

    def program(self, name):
        return os.path.join(os.path.dirname(os.path.abspath(self.options.depotd)), name)

    def tool(self, name, *arguments):
        return subprocess.run([self.program(name), *arguments], check=True, capture_output=True, text=True, timeout=600).stdout

    @contextlib.contextmanager
    def timed(self):
        timing = argparse.Namespace(seconds=0)
        begun = time.monotonic()
        yield timing
        timing.seconds = time.monotonic() - begun

    def big_file(self):
        path = os.path.join(self.shm, "big")
        with open(path, "wb") as f:
            block = os.urandom(1 << 20)
            for _ in range(self.big >> 20):
                f.write(block)
        return path

    # --- the run ---

    def part(self, name):
        print(name, flush=True)
        try:
            if PARTS[name].__module__ == "durable" and os.getuid() != 0:
                raise mounts.Missing("loop mounts need root")
            PARTS[name](self)
        except mounts.Missing as why:
            self.rows.append((name, f"skipped: {why}", "", ""))
            print(f"  skipped: {why}", flush=True)

    def table(self):
        print("\n| property | measured | wanted | |\n|---|---|---|---|")
        for name, value, wanted, verdict in self.rows:
            print(f"| {name} | {value} | {wanted} | {verdict} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depotd", default="build/depotd", help="the programs that it is measured with stand beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement of a rate")
    parser.add_argument("--filesystem", choices=sorted(mounts.MKFS), default="ext4")
    parser.add_argument("--express-modules", metavar="DIR", help="where express, multer and pg are installed already")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), metavar="NAME", help=" ".join(PARTS))
    bench = Bench(parser.parse_args())
    try:
        for name in bench.options.only or PARTS:
            bench.part(name)
        bench.table()
    finally:
        bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
