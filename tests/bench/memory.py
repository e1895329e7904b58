"""The rows about memory: many uploads at once, many connections that idle, many that crawl."""

import contextlib
import json
import multiprocessing
import os
import resource
import selectors
import socket
import statistics
import time
import urllib.error
import urllib.request

import peers

K, M = 1024, 1024 * 1024

# (size, sent before the stall) of the uploads in flight; the groups repeat them. Small ones stall with nearly all sent: a server that
# keeps small bodies in memory until they are whole keeps most then.
GROUPS = {
    "small": [(60 * K, 59 * K)],
    "large": [(1 * M, 256 * K)],
    "mixed": [(100, 60), (4 * K, 4000), (30 * K, 30000), (64 * K, 64 * K - 1), (64 * K + 1, 64 * K), (200 * K, 100 * K), (4 * M, 300 * K)],
}


def raise_file_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))


def memory(bench):
    raise_file_limit()
    uploads_in_flight(bench, 70 if bench.options.smoke else 1000)


def connections(bench):
    raise_file_limit()
    n = 300 if bench.options.smoke else 10000
    idle_connections(bench, n)
    slow_connections(bench, n)


# --- uploads in flight --------------------------------------------------------------------------------------------------------

class Upload:
    """One PUT of `size` bytes; sends what the socket takes, up to a limit."""

    def __init__(self, port, number, size):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.sendall(b"PUT /files/m%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (number, size))
        self.socket.setblocking(False)
        self.size, self.sent = size, 0

    def send(self, body, limit):
        """True when `limit` bytes are sent."""
        while self.sent < limit:
            try:
                self.sent += self.socket.send(body[:min(limit - self.sent, len(body))])
            except BlockingIOError:
                return False
        return True


def send_all(uploads, limits, body):
    """All at once, until each has sent as much as its limit says."""
    with selectors.DefaultSelector() as selector:
        for upload, limit in zip(uploads, limits):
            if not upload.send(body, limit):
                selector.register(upload.socket, selectors.EVENT_WRITE, (upload, limit))
        while selector.get_map():
            for key, _ in selector.select(60):
                upload, limit = key.data
                if upload.send(body, limit):
                    selector.unregister(upload.socket)


def group_in_flight(bench, name, n):
    """MiB: the peak while all are stalled, and at the end, when all have run."""
    body = memoryview(os.urandom(256 * K))
    sizes = [GROUPS[name][i % len(GROUPS[name])] for i in range(n)]
    with peers.depotd(bench.options.depotd, os.path.join(bench.shm, "data-" + name), bench.run) as server:
        uploads = [Upload(server.port, i, size) for i, (size, _) in enumerate(sizes)]
        send_all(uploads, [stall for _, stall in sizes], body)
        wait_for_rest(server)
        stalled = peers.resident_mib(server.pid, "VmHWM")
        send_all(uploads, [size for size, _ in sizes], body)
        for upload in uploads:
            upload.socket.settimeout(120)
            answer = upload.socket.recv(4096)
            if not answer.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"an upload was answered {answer[:60]!r}")
            upload.socket.close()
        return stalled, peers.resident_mib(server.pid, "VmHWM")


def uploads_in_flight(bench, n):
    peaks = {name: group_in_flight(bench, name, n) for name in GROUPS}
    bench.note("MiB, all stalled in the middle of the body and then all running: " +
               "; ".join(f"{name} {stalled:.0f}, {running:.0f}" for name, (stalled, running) in peaks.items()))
    worst = max(max(pair) for pair in peaks.values())
    bench.row(f"memory with {n:,} uploads in flight of any size, stalled and running (peak)", f"{worst:.0f} MiB", "≤ 64 MiB", worst <= 64)


# --- connections that idle ------------------------------------------------------------------------------------------------------

def many_connections(bench, name):
    return peers.depotd(bench.options.depotd, os.path.join(bench.shm, "data-" + name), bench.run,
                        extra=("--server.max_connections", "20000"))


def idle_connections(bench, n):
    with many_connections(bench, "idle") as server:
        sockets = []
        for _ in range(n):
            s = socket.create_connection(("127.0.0.1", server.port), 30)
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("an idle connection was not served")
            sockets.append(s)
        wait_for_rest(server)
        resident = peers.resident_mib(server.pid)
        for s in sockets:
            s.close()
    bench.row(f"memory with {n:,} idle connections, each after one request", f"{resident:.0f} MiB", "≤ 64 MiB", resident <= 64)


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


# --- connections that crawl -----------------------------------------------------------------------------------------------------

HEAD, BODY, READ = range(3)
MIX = (HEAD, HEAD, BODY, BODY, READ)  # a reader takes two descriptors of the server's, an upload one, beside the connection's


def crawl(port, n, big, ready, stop):
    """A process of its own, whose connections crawl through a head, a body, an answer: a little each second."""
    raise_file_limit()
    begins = {HEAD: b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ",
              BODY: b"PUT /files/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
              READ: b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % big.encode()}
    more = {HEAD: b"x", BODY: b"x" * 200}
    crawlers = []
    for i in range(n):
        kind = MIX[i % len(MIX)]
        s = socket.socket()
        if kind == READ:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", port))
        s.sendall(begins[kind])
        s.setblocking(False)
        crawlers.append((kind, s))
    ready.set()
    while not stop.is_set():
        begun = time.monotonic()
        for i, (kind, s) in enumerate(crawlers):
            if i % 100 == 0:
                stop.wait(max(0, begun + i / n - time.monotonic()))
            with contextlib.suppress(BlockingIOError):
                if kind == READ:
                    s.recv(1)
                else:
                    s.send(more[kind])
        stop.wait(max(0, begun + 1 - time.monotonic()))


def ask(url, content=None):
    """The answer's bytes; a refusal with its own words. With content it is a PUT."""
    request = urllib.request.Request(url, data=content, method="GET" if content is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        raise RuntimeError(f"{request.method} {url}: {refused.read().decode()}") from None


def put(server, name, content):
    return json.loads(ask(f"{server.url}/files/{name}", content))["url"]


def probe(bench, server, small):
    """Seconds each of a GET and an upload took, by turns on new connections."""
    times = {"GET": [], "PUT": []}
    for i in range(20 if bench.options.smoke else 400):
        begun = time.monotonic()
        if i % 2:
            put(server, f"probe-{i}", b"%04096d" % i)
        else:
            ask(small)
        times["PUT" if i % 2 else "GET"].append(time.monotonic() - begun)
        time.sleep(0.02)
    return times


def slow_connections(bench, n):
    with many_connections(bench, "slow") as server:
        small, big = server.url + put(server, "small", b"s" * 4096), put(server, "big", os.urandom(8 * M))
        ready, stop = multiprocessing.Event(), multiprocessing.Event()
        crawler = multiprocessing.Process(target=crawl, args=(server.port, n, big, ready, stop))
        crawler.start()
        try:
            if not ready.wait(120):
                raise RuntimeError("the slow connections were not taken")
            times = probe(bench, server, small)
            if not crawler.is_alive():
                raise RuntimeError("a slow connection was dropped")
            resident = peers.resident_mib(server.pid, "VmHWM")
        finally:
            stop.set()
            crawler.join(30)
            crawler.kill()
    p99 = {kind: statistics.quantiles(values, n=100)[98] * 1000 for kind, values in times.items()}
    worst = max(p99.values())
    bench.note(f"new connection each, p99: GET {p99['GET']:.1f} ms, PUT {p99['PUT']:.1f} ms")
    bench.row(f"memory with {n:,} slow connections", f"{resident:.0f} MiB", "≤ 64 MiB", resident <= 64)
    bench.row(f"p99 of a probe beside {n:,} slow connections", f"{worst:.0f} ms", "≤ 100 ms", worst <= 100)


ROWS = {"memory": memory, "connections": connections}
