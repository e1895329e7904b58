#!/usr/bin/env python3
"""Measures depotd beside nginx and beside a bare loop of system calls, side by side in one run, and prints the README's table.

  bench.py --depotd build/depotd --loop build/fsync_loop [--rounds 5] [--smoke] [--only NAME ...]

Every figure is a ratio of two things measured in turn (A B A B …), the median over the rounds: absolute figures say more about
the machine than about the program. Needs curl, wrk, nginx and, for the durable rows, root (loop mounts) and PostgreSQL.
--smoke runs everything small and short: it shows that the benchmark works, not how fast anything is.
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers  # noqa: E402


class Bench:
    def __init__(self, options):
        self.options = options
        self.rows = []
        self.big = 16 << 20 if options.smoke else 1 << 30
        self.rounds = 1 if options.smoke else options.rounds
        self.seconds = 1 if options.smoke else 5
        self.shm = tempfile.mkdtemp(prefix="depotd-bench-", dir="/dev/shm")
        self.run = tempfile.mkdtemp(prefix="depotd-bench-")

    def close(self):
        shutil.rmtree(self.shm, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)

    def row(self, name, value, wanted, met):
        self.rows.append((name, value, wanted, met))
        print(f"  {name}: {value} (wanted {wanted}){'' if met else '  <-- missed'}", flush=True)

    def ratio(self, name, pairs, wanted, at_most=False):
        """pairs: (ours, theirs) in one unit."""
        ratios = [a / b for a, b in pairs]
        middle = statistics.median(ratios)
        met = middle <= wanted if at_most else middle >= wanted
        self.row(name, f"{middle:.2f} ×", f"{'≤' if at_most else '≥'} {wanted:.2f}", met)

    # --- large bodies -------------------------------------------------------------------------------------------------------

    def big_file(self):
        path = os.path.join(self.shm, "big")
        with open(path, "wb") as f:
            block = os.urandom(1 << 20)
            for _ in range(self.big >> 20):
                f.write(block)
        return path

    def sha_seconds(self, path):
        """What SHA-256 alone costs for these bytes, by the same library."""
        digest = hashlib.sha256()
        begun = time.process_time()
        with open(path, "rb") as f:
            while block := f.read(256 * 1024):
                digest.update(block)
        with_read = time.process_time() - begun
        begun = time.process_time()
        with open(path, "rb") as f:
            while f.read(256 * 1024):
                pass
        return with_read - (time.process_time() - begun)

    def large(self):
        path = self.big_file()
        data = os.path.join(self.shm, "data")
        root = os.path.join(self.shm, "nginx")
        puts, forms, gets, cpu = [], [], [], []
        with peers.nginx(root, os.path.join(self.run, "nginx")) as theirs, \
                peers.depotd(self.options.depotd, data, os.path.join(self.run, "depotd")) as ours:
            sha = self.sha_seconds(path)
            for turn in range(self.rounds + 1):  # the first one warms up
                before = ours.cpu()
                put = peers.put_file(ours, path, "files/big")
                our_cpu = ours.cpu() - before
                listed = json.load(urllib.request.urlopen(ours.url + "/files?limit=1", timeout=30))["files"][0]
                before = theirs.cpu()
                nginx_put = peers.put_file(theirs, path, "big")
                nginx_cpu = theirs.cpu() - before
                nginx_get = peers.get_file(theirs, "/big")
                get = peers.get_file(ours, listed["url"])
                peers.delete(ours.url + listed["url"])
                form = peers.send_form(ours, path)
                listed = json.load(urllib.request.urlopen(ours.url + "/files?limit=1", timeout=30))["files"][0]
                peers.delete(ours.url + listed["url"])
                os.unlink(os.path.join(root, "big"))
                if turn or self.options.smoke:
                    puts.append((nginx_put, put))
                    forms.append((put, form))
                    gets.append((nginx_get, get))
                    cpu.append((our_cpu, nginx_cpu + sha))
        os.unlink(path)
        print(f"  (seconds: PUT {statistics.median(p[1] for p in puts):.2f}, nginx {statistics.median(p[0] for p in puts):.2f}; "
              f"GET {statistics.median(p[1] for p in gets):.2f}, nginx {statistics.median(p[0] for p in gets):.2f}; "
              f"CPU {statistics.median(p[0] for p in cpu):.2f}, nginx + SHA-256 {statistics.median(p[1] for p in cpu):.2f}, SHA-256 {sha:.2f})")
        self.ratio("1 GiB PUT, speed beside nginx's DAV PUT", puts, 1.0)
        self.ratio("1 GiB form, speed beside PUT", forms, 0.95)
        self.ratio("1 GiB PUT, server CPU beside nginx's + SHA-256's own", cpu, 1.0, at_most=True)
        self.ratio("1 GiB GET, speed beside nginx", gets, 1.0)

    # --- small bodies -------------------------------------------------------------------------------------------------------

    def small_get(self):
        data = os.path.join(self.shm, "data-small")
        root = os.path.join(self.shm, "nginx-small")
        pairs = []
        with peers.nginx(root, os.path.join(self.run, "nginx-small")) as theirs, \
                peers.depotd(self.options.depotd, data, os.path.join(self.run, "depotd-small")) as ours:
            content = os.urandom(4096)
            with open(os.path.join(root, "small.bin"), "wb") as f:
                f.write(content)
            request = urllib.request.Request(ours.url + "/files/small.bin", data=content, method="PUT")
            url = json.load(urllib.request.urlopen(request, timeout=30))["url"]
            for turn in range(self.rounds + 1):
                mine = peers.wrk(ours.url + url, 64, self.seconds)
                nginx = peers.wrk(theirs.url + "/small.bin", 64, self.seconds)
                if turn or self.options.smoke:
                    pairs.append((mine, nginx))
        print(f"  (requests/s: {statistics.median(p[0] for p in pairs):.0f}, nginx {statistics.median(p[1] for p in pairs):.0f})")
        self.ratio("4 KiB GET by id, 64 keep-alive connections, beside nginx's static file", pairs, 0.9)

    # --- durable uploads ----------------------------------------------------------------------------------------------------

    def durable(self):
        if os.getuid() != 0:
            self.skip("durable uploads", "loop mounts need root")
            return
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "put_4k.lua")
        pairs = []
        with peers.loop_mount(2048 if self.options.smoke else 8192) as mount, \
                peers.Postgres(os.path.join(mount, "postgres")) as postgres:
            for turn in range(self.rounds):
                data = os.path.join(mount, f"data-{turn}")
                bare = os.path.join(mount, f"bare-{turn}")
                os.mkdir(bare)
                with peers.depotd(self.options.depotd, data, self.run, postgres.url) as ours:
                    mine = peers.wrk(ours.url, 64, self.seconds, script)
                loop = float(subprocess.run([self.options.loop, bare, "64", str(self.seconds)], check=True,
                                            capture_output=True, text=True).stdout)
                pairs.append((mine, loop))
                shutil.rmtree(bare)
                shutil.rmtree(data)
        print(f"  (files/s: {statistics.median(p[0] for p in pairs):.0f}, bare loop {statistics.median(p[1] for p in pairs):.0f})")
        self.ratio("4 KiB durable uploads, 64 connections, PostgreSQL, journaled ext4, beside a bare 64-thread fsync loop",
                   pairs, 0.5)

    def skip(self, name, why):
        print(f"  skipped: {name}: {why}", flush=True)

    # --- memory -------------------------------------------------------------------------------------------------------------

    def memory(self):
        uploads, idle = (50, 200) if self.options.smoke else (1000, 10000)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
        self.uploads_in_flight(uploads)
        self.idle_connections(idle)

    def uploads_in_flight(self, n):
        with peers.depotd(self.options.depotd, os.path.join(self.shm, "data-m"), self.run) as ours:
            sockets = []
            body = os.urandom(256 * 1024)
            for i in range(n):
                s = socket.create_connection(("127.0.0.1", ours.port), 30)
                s.sendall(b"PUT /files/m%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n" % i)
                s.sendall(body)
                sockets.append(s)
            self.wait_for_rest(ours)
            resident = peers.resident_mib(ours.pid, "VmHWM")
            for s in sockets:
                s.close()
        self.row(f"memory with {n:,} uploads in flight (peak)", f"{resident:.0f} MiB", "≤ 64 MiB", resident <= 64)

    def idle_connections(self, n):
        with peers.depotd(self.options.depotd, os.path.join(self.shm, "data-i"), self.run,
                          extra=("--server.max_connections", "20000")) as ours:
            sockets = []
            for _ in range(n):
                s = socket.create_connection(("127.0.0.1", ours.port), 30)
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise RuntimeError("an idle connection was not served")
                sockets.append(s)
            self.wait_for_rest(ours)
            resident = peers.resident_mib(ours.pid)
            for s in sockets:
                s.close()
        self.row(f"memory with {n:,} idle connections, each after one request", f"{resident:.0f} MiB", "≤ 64 MiB", resident <= 64)

    @staticmethod
    def wait_for_rest(server):
        """Until the server has used no CPU for half a second: everything that was sent has been taken in."""
        last, still = server.cpu(), 0
        for _ in range(600):
            time.sleep(0.1)
            now = server.cpu()
            still = still + 1 if now == last else 0
            last = now
            if still == 5:
                return

    def table(self):
        print("\n| property | measured | wanted |\n|---|---|---|")
        for name, value, wanted, _ in self.rows:
            print(f"| {name} | {value} | {wanted} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depotd", default="build/depotd")
    parser.add_argument("--loop", default="build/fsync_loop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", nargs="*")
    bench = Bench(parser.parse_args())
    try:
        for part in (bench.large, bench.small_get, bench.durable, bench.memory):
            name = part.__name__.replace("_", "-")
            if not bench.options.only or name in bench.options.only:
                print(name, flush=True)
                part()
        bench.table()
    finally:
        bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
