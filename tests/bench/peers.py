"""The servers that are measured: depotd and nginx, each a private instance on loopback, and what they cost in CPU and memory."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))
from postgres_cluster import PostgresCluster, free_port  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def processes_of(pid):
    """The process and all below it."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found += processes_of(int(entry))
    return found


def cpu_seconds(pid):
    total = 0
    for process in processes_of(pid):
        with contextlib.suppress(OSError), open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pid, field="VmRSS"):
    total = 0
    for process in processes_of(pid):
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as f:
            total += int(re.search(field + r":\s+(\d+)", f.read()).group(1))
    return total / 1024


def wait_for_port(port, process, deadline_s=30):
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("the server does not answer")


class Server:
    """A started process, its port and its log; stops by itself at the end of `with`."""

    def __init__(self, argv, port, log):
        self.port = port
        self.log = open(log, "wb")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        wait_for_port(self.port, self.process)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        return cpu_seconds(self.pid)


NGINX_CONFIGURATION = """
daemon off; master_process on; worker_processes {workers}; pid {run}/nginx.pid; error_log {run}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=60s; types {{ }} default_type application/octet-stream; client_max_body_size 0;
  client_body_temp_path {root}/.body; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  server {{ listen 127.0.0.1:{port} reuseport; root {root}; location / {{ dav_methods PUT DELETE; create_full_put_path on; dav_access user:rw; }} }}
}}
"""


def nginx(root, run, workers=2):
    """nginx from Debian: static files and DAV PUT of one folder, temporary bodies on the same file system."""
    port = free_port()
    os.makedirs(run, exist_ok=True)
    os.makedirs(root, exist_ok=True)
    path = os.path.join(run, "nginx.conf")
    with open(path, "w", encoding="ascii") as f:
        if os.getuid() == 0:
            f.write("user root;\n")
        f.write(NGINX_CONFIGURATION.format(root=root, run=run, port=port, workers=workers))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return Server([binary, "-p", run, "-c", path, "-e", os.path.join(run, "error.log")], port, os.path.join(run, "log"))


def depotd(binary, data, run, database=None, extra=()):
    port = free_port()
    os.makedirs(run, exist_ok=True)
    argv = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", data, "--log.access", "off", *extra]
    if database:
        argv += ["--database", database]
    return Server(argv, port, os.path.join(run, "log"))


class Postgres(PostgresCluster):
    """A private cluster that syncs, with PostgreSQL's defaults, in a directory of the caller's."""

    def __init__(self, directory):
        super().__init__({"fsync": "on", "max_connections": "100", "shared_buffers": "128MB"}, directory=directory)
        self.databases = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def sql(self, database, text):
        return "\n".join(self.execute(text, database))

    def create(self):
        """A new, empty database; its name. url() is what connects to it."""
        self.databases += 1
        name = f"depot{self.databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name


def express(modules, directory, run, postgres, database):
    """The hand-written peer of express_server.js, with the packages in `modules`/node_modules."""
    port = free_port()
    os.makedirs(run, exist_ok=True)
    program = os.path.join(modules, "express_server.js")
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "express_server.js"), program)
    return Server(["node", program, str(port), directory, postgres.directory, "postgres", database], port, os.path.join(run, "log"))


def load(program, server, connections, seconds, form=None):
    """What put_load says, as a dictionary; no upload may have failed."""
    argv = [program, str(server.port), str(connections), str(seconds), *(["--form", form] if form else [])]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=seconds + 120)
    result = {key: float(value) for key, value in (item.split("=") for item in done.stdout.split())}
    if result["errors"] or result["accepted"] or not result["created"]:
        raise RuntimeError(f"uploads failed: {done.stdout.strip()}\n{done.stderr.strip()}")
    return result


def curl(*arguments):
    """Seconds, by curl's own clock: starting it and waiting for its end (in steps of 50 ms) are no part of a transfer."""
    done = subprocess.run(["curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{time_total}", *arguments],
                          check=True, timeout=300, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def put_file(server, path, name):
    return curl("-H", "Expect:", "-T", path, f"{server.url}/{name}")


def send_form(server, path):
    return curl("-H", "Expect:", "-F", f"file=@{path}", f"{server.url}/files")


def get_file(server, target):
    return curl(f"{server.url}{target}")


def wrk(url, connections, seconds):
    """Requests per second."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", url]
    out = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=seconds + 120).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if failed:
        raise RuntimeError(f"{failed.group(1)} answers were no success")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def delete(url):
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30):
        pass
