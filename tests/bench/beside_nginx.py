"""The rows beside nginx: large bodies both ways, and small ones out."""

import hashlib
import json
import os
import statistics
import time
import urllib.request

import peers


def sha_seconds(path):
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


def newest(server):
    with urllib.request.urlopen(server.url + "/files?limit=1", timeout=30) as answer:
        return json.load(answer)["files"][0]["url"]


def timed_put(server, path, name):
    """Seconds, and seconds of the server's processors."""
    before = server.cpu()
    seconds = peers.put_file(server, path, name)
    return seconds, server.cpu() - before


def large(bench):
    path = bench.big_file()
    data = os.path.join(bench.shm, "data")
    root = os.path.join(bench.shm, "nginx")
    puts, forms, gets, cpu = [], [], [], []
    with peers.nginx(root, os.path.join(bench.run, "nginx")) as theirs, \
            peers.depotd(bench.options.depotd, data, os.path.join(bench.run, "depotd")) as ours:
        sha = sha_seconds(path)
        for server, name in ((theirs, "big"), (ours, "files/big")):  # for the downloads
            peers.put_file(server, path, name)
        url = newest(ours)
        for turn in range(bench.rounds + 1):  # the first one warms up
            # Where memory that was just freed comes first, who comes later finds less of it: they take turns, and leave nothing.
            order = ["ours", "theirs", "form"][turn % 3:] + ["ours", "theirs", "form"][:turn % 3]
            put = {}
            for what in order:
                if what == "theirs":
                    put[theirs] = timed_put(theirs, path, "put")
                    os.unlink(os.path.join(root, "put"))
                    continue
                if what == "form":
                    form = peers.send_form(ours, path)
                else:
                    put[ours] = timed_put(ours, path, "files/put")
                peers.delete(ours.url + newest(ours))
            get = {server: peers.get_file(server, url if server is ours else "/big")
                   for server in ((ours, theirs) if turn % 2 else (theirs, ours))}
            if turn or bench.options.smoke:
                puts.append((put[theirs][0], put[ours][0]))
                forms.append((put[ours][0], form))
                gets.append((get[theirs], get[ours]))
                cpu.append((put[ours][1], put[theirs][1] + sha))
    os.unlink(path)
    bench.note(f"seconds: PUT {bench.list_of(puts, 1, '.2f')}, nginx {bench.list_of(puts, 0, '.2f')}; "
               f"GET {bench.list_of(gets, 1, '.2f')}, nginx {bench.list_of(gets, 0, '.2f')}; "
               f"CPU {statistics.median(p[0] for p in cpu):.2f}, nginx + SHA-256 {statistics.median(p[1] for p in cpu):.2f}, SHA-256 {sha:.2f}")
    bench.ratio("1 GiB PUT, speed beside nginx's DAV PUT, which neither syncs nor hashes", puts, 1.0)
    bench.ratio("1 GiB form, speed beside PUT", forms, 0.95)
    bench.ratio("1 GiB PUT, server CPU beside nginx's + SHA-256's own", cpu, 1.0, at_most=True)
    bench.ratio("1 GiB GET, speed beside nginx", gets, 1.0)


def small_get(bench):
    data = os.path.join(bench.shm, "data-small")
    root = os.path.join(bench.shm, "nginx-small")
    pairs = []
    with peers.nginx(root, os.path.join(bench.run, "nginx-small")) as theirs, \
            peers.depotd(bench.options.depotd, data, os.path.join(bench.run, "depotd-small")) as ours:
        content = os.urandom(4096)
        with open(os.path.join(root, "small.bin"), "wb") as f:
            f.write(content)
        request = urllib.request.Request(ours.url + "/files/small.bin", data=content, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            url = json.load(answer)["url"]
        for turn in range(bench.rounds + 1):
            mine = peers.wrk(ours.url + url, 64, bench.seconds)
            nginx = peers.wrk(theirs.url + "/small.bin", 64, bench.seconds)
            if turn or bench.options.smoke:
                pairs.append((mine, nginx))
    bench.note(f"requests/s {bench.list_of(pairs, 0)}; nginx {bench.list_of(pairs, 1)}")
    bench.ratio("4 KiB GET by id, 64 keep-alive connections, beside nginx's static file", pairs, 0.9)


ROWS = {"large": large, "small-get": small_get}
