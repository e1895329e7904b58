"""What the black-box tests share: a test case that holds every answer against what the contract promises everywhere.

    @on_both_stores                       # what the store decides: run by itself, a module tests both
    class Listing(DepotCase):
        settings = {"limits.max_upload": "1M"}

        def test_a_file_is_listed(self):
            file = self.put("a.txt", b"hello")
            self.assertEqual(self.get_json("/files")["files"], [file])

Every answer that passes through request() or check() has a Request-Id; every error is a problem document (or a page) of the
right shape.
"""

import base64
import contextlib
import datetime
import email.utils
import hashlib
import os
import re
import sys
import time
import unittest
import urllib.parse

import form_data
import raw_http
from depotd_server import BINARY, DepotdServer, DepotdTestCase, seconds

UNKNOWN_ID = "0192f0c1-0000-7000-8000-000000000000"
MEMBERS = ["id", "name", "size", "type", "sha256", "created_at", "expires_at", "owner", "visibility", "tags",
           "attributes", "url"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}

# The smallest things that carry the signature of their kind.
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89" \
      b"\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\5\xfe\2\xfe\xa7\x9a\x81N\0\0\0\0IEND\xaeB`\x82"
GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + b"\xff\xd9"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\7\x10\x11\x11\x88\x88\xfe\7\0"
PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"
WAV = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0D\xac\0\0\x88X\1\0\2\0\x10\0data\0\0\0\0"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x08free"
NO_SIGNATURE = b"\x01\x02\x03\xfe\xfd\x80plain bytes of no kind\x00\x05"


def on_both_stores(case):
    """Runs the class against PostgreSQL, too, unless DEPOTD_TEST_DATABASE says that the whole run is for one store."""
    if "DEPOTD_TEST_DATABASE" not in os.environ:
        module = sys.modules[case.__module__]
        name = case.__name__ + "OnPostgres"
        setattr(module, name, type(name, (case,), {"database": "postgres", "__module__": case.__module__}))
    return case


def environment_of(settings):
    """{"limits.max_upload": "1M"} as the environment has it."""
    return {"DEPOTD_" + key.replace(".", "_").upper(): value for key, value in settings.items()}


def wait_until(condition, what, timeout=30):
    """Polls until condition() holds, and gives its value."""
    end = time.monotonic() + seconds(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError("waited %g s in vain until %s" % (seconds(timeout), what))
        time.sleep(0.01)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digest_field(data, algorithm="sha256", label="sha-256"):
    return "%s=:%s:" % (label, base64.b64encode(hashlib.new(algorithm, data).digest()).decode())


def quote(text):
    """A path segment; bytes may be broken UTF-8."""
    return urllib.parse.quote(text, safe="")


def query(*pairs, **named):
    return "?" + urllib.parse.urlencode(list(pairs) + list(named.items()), doseq=True, encoding="utf-8")


def parse_time(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)


def format_time(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (moment.microsecond // 1000)


def is_expired(file):
    """By this machine's clock, which is the server's."""
    return parse_time(file["expires_at"]) <= datetime.datetime.now(datetime.timezone.utc)


def http_date(moment):
    return email.utils.format_datetime(moment.replace(microsecond=0), usegmt=True)


def pattern_bytes(n, seed=b"depot"):
    """n bytes that look like noise and are the same every time."""
    return hashlib.shake_128(seed).digest(n)


def pattern_pieces(total, piece=1 << 20):
    """The same, for more than fits well in memory: one megabyte that shifts."""
    block = pattern_bytes(piece)
    at = 0
    while at < total:
        n = min(piece, total - at)
        yield block[:n] if n < piece else block
        at += n
        block = block[7919:] + block[:7919]


def binary_is_sanitized():
    with open(BINARY, "rb") as binary:
        return any(mark in binary.read() for mark in (b"__asan_init", b"__tsan_init"))


def peak_memory(pid):
    """Most memory (bytes) the process had resident since forget_peak_memory()."""
    with open("/proc/%d/status" % pid, encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024


def forget_peak_memory(pid):
    with open("/proc/%d/clear_refs" % pid, "w", encoding="ascii") as clear:
        clear.write("5")


class DepotCase(DepotdTestCase):
    settings = {}
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        if cls.settings:
            cls.environment = {**(cls.environment or {}), **environment_of(cls.settings)}
        super().setUpClass()

    def setUp(self):
        self._connection = None
        self.addCleanup(self._drop_connection)

    def _drop_connection(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- servers of a test's own ---

    @contextlib.contextmanager
    def own_server(self, settings=None, **options):
        """A server beside the class's: fresh data, its own settings. The test talks to it inside the with."""
        options.setdefault("database", self.database)
        with DepotdServer(environment=environment_of(settings or {}), **options) as server:
            with self.talking_to(server):
                yield server

    @contextlib.contextmanager
    def talking_to(self, server):
        usual = self.__dict__.get("server")
        self._drop_connection()
        self.server = server
        try:
            yield server
        finally:
            self._drop_connection()
            if usual is None:
                del self.server
            else:
                self.server = usual

    # --- requests ---

    @property
    def address(self):
        return (self.server.host, self.server.port)

    def connect(self, **options):
        """A connection of the test's own, closed after it."""
        connection = raw_http.Connection(self.address, deadline=seconds(raw_http.DEADLINE), **options)
        self.addCleanup(connection.close)
        return connection

    def _exchange(self, request, method):
        """
        Sends a request on the test's kept-alive connection. The server may close an idle one at any moment: a GET that finds it
        closed goes out once more on a new one, as every client does it (RFC 9110 §9.2.2).
        """
        kept = self._connection is not None and self._connection.is_open() and not self._connection.buffer
        if not kept:
            self._drop_connection()
            self._connection = raw_http.Connection(self.address, deadline=seconds(raw_http.DEADLINE))
        try:
            self._connection.send(request)
            return self._connection.read_response(method)
        except (raw_http.ConnectionEnded, ConnectionError) as ended:
            if not kept or method not in ("GET", "HEAD") or getattr(ended, "got", b""):
                raise
            self._drop_connection()
            return self._exchange(request, method)

    def request(self, method, target, headers=(), body=None, version="1.1"):
        """One request on the test's kept-alive connection; the checked answer."""
        response = self._exchange(raw_http.encode_request(method, target, headers, body, version=version), method)
        if not response.keeps_alive:
            self._drop_connection()
        return self.check(response, method, headers)

    def check(self, response, method="GET", headers=()):
        """What holds for every answer."""
        pairs = dict(headers.items() if hasattr(headers, "items") else headers)
        self.assertTrue(response.headers.get("Request-Id"), "no Request-Id: %r" % response)
        if response.status >= 400 and method != "HEAD":
            if response.media_type == "text/html":
                self.assertIn("text/html", pairs.get("Accept", "").lower(), "a page for one who did not ask for it")
            else:
                self.check_problem(response)
        return response

    def check_problem(self, response):
        self.assertEqual(response.media_type, "application/problem+json", repr(response))
        problem = response.json()
        self.assertIsInstance(problem["title"], str)
        self.assertTrue(problem["title"])
        self.assertEqual(problem["status"], response.status)
        self.assertIsInstance(problem["detail"], str)
        self.assertEqual(problem["request_id"], response.headers["Request-Id"])
        return problem

    def get(self, target, headers=()):
        return self.request("GET", target, headers)

    def get_json(self, target, status=200):
        response = self.get(target)
        self.assertEqual(response.status, status, repr(response))
        return response.json()

    def put(self, name="file.bin", data=b"content", query="", headers=()):
        """Stores a file by PUT: its file object."""
        response = self.request("PUT", "/files/" + quote(name) + query, headers, data)
        self.assertEqual(response.status, 201, repr(response))
        return response.json()

    def post(self, parts, target="/files", headers=(), boundary=form_data.BOUNDARY, **encoding):
        """Sends a form; parts are form_data.Part, or a whole body as bytes."""
        body = parts if isinstance(parts, bytes) else form_data.encode_form(parts, boundary, **encoding)
        pairs = [("Content-Type", form_data.content_type(boundary))]
        pairs += headers.items() if hasattr(headers, "items") else headers
        return self.request("POST", target, pairs, body)

    def post_files(self, parts, **options):
        """Sends a form that must succeed: the file objects."""
        response = self.post(parts, **options)
        self.assertEqual(response.status, 201, repr(response))
        return response.json()["files"]

    def metadata(self, id):
        return self.get_json("/files/%s/metadata" % id)

    def content(self, file):
        """The bytes of a file object, which must be there and whole."""
        response = self.get("/files/" + file["id"])
        self.assertEqual(response.status, 200, repr(response))
        self.assertEqual(len(response.body), file["size"])
        self.assertEqual(sha256(response.body), file["sha256"])
        return response.body

    def patch(self, id, changes, headers=()):
        import json
        body = changes if isinstance(changes, bytes) else json.dumps(changes).encode()
        pairs = [("Content-Type", "application/merge-patch+json")]
        pairs += headers.items() if hasattr(headers, "items") else headers
        return self.request("PATCH", "/files/%s/metadata" % id, pairs, body)

    def all_files(self, extra=""):
        """Every listed file, over all pages."""
        files, cursor = [], None
        for _ in range(1000):
            page = self.get_json("/files?limit=1000%s%s" % (extra, "&cursor=" + quote(cursor) if cursor else ""))
            files += page["files"]
            cursor = page["next_cursor"]
            if cursor is None:
                return files
        self.fail("the list has no end")

    # --- assertions ---

    def assert_status(self, response, *allowed):
        self.assertIn(response.status, allowed, repr(response))
        return response

    def assert_refused(self, response, *mentions, status=400):
        """A problem of that status whose title or detail names each of `mentions`."""
        self.assertEqual(response.status, status, repr(response))
        problem = self.check_problem(response)
        for mention in mentions:
            self.assertIn(mention.lower(), (problem["title"] + " " + problem["detail"]).lower())
        return problem

    def assert_file_object(self, file):
        self.assertEqual(sorted(file), sorted(MEMBERS))
        self.assertRegex(file["id"], UUID)
        self.assertRegex(file["created_at"], TIME)
        self.assertRegex(file["sha256"], r"[0-9a-f]{64}\Z")
        self.assertIn(file["visibility"], ("private", "public"))
        self.assertIsInstance(file["tags"], list)
        self.assertIsInstance(file["attributes"], dict)
        self.assertEqual(file["url"], "/files/" + file["id"])

    @contextlib.contextmanager
    def stores_nothing(self):
        """Afterwards the same files are listed as before, and no bytes were left in the data directory."""
        ids = {file["id"] for file in self.all_files()}
        stored = self.server.stored_files()
        yield
        self.assertEqual({file["id"] for file in self.all_files()}, ids)
        wait_until(lambda: self.server.stored_files() == stored and not self.open_temporaries(),
                   "the space of what was refused is given back")

    def open_in_data_directory(self):
        """(path, size) of each file of the data directory that the server holds open; nameless ones end in " (deleted)"."""
        held, folder = [], "/proc/%d/fd" % self.server.process.pid
        for number in os.listdir(folder):
            path = os.path.join(folder, number)
            try:
                target, size = os.readlink(path), os.stat(path).st_size
            except FileNotFoundError:
                continue
            if target.startswith(self.server.data_dir + "/"):
                held.append((target, size))
        return held

    def open_temporaries(self):
        return [(path, size) for path, size in self.open_in_data_directory() if path.endswith(" (deleted)") and size]

    def open_stored_files(self, size):
        return [path for path, n in self.open_in_data_directory() if n == size and "/journal/" not in path]


if __name__ == "__main__":
    unittest.main()
