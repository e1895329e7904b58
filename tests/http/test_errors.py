"""What goes wrong: the shape of the answer, the connection afterwards, and requests whose framing is a lie."""

import html.parser
import re
import unittest

import raw_http
from depot_case import BROWSER, UNKNOWN_ID, DepotCase, pattern_bytes
from form_data import content_type, encode_form, file

# (what, method, target, headers, body, status): requests that are well framed and wrong.
REFUSALS = [
    ("an unknown path", "GET", "/nope", (), None, 404),
    ("a path below a file", "GET", "/files/%s/nope" % UNKNOWN_ID, (), None, 404),
    ("an unknown id", "GET", "/files/" + UNKNOWN_ID, (), None, 404),
    ("a malformed id", "GET", "/files/nonsense/metadata", (), None, 404),
    ("an id that is no text", "GET", "/files/%ff", (), None, 404),
    ("an id with a NUL", "DELETE", "/files/a%00b", (), None, 404),
    ("an id that is not percent-encoded", "GET", "/files/%zz/metadata", (), None, 404),
    ("a wrong parameter", "GET", "/files?limit=0", (), None, 400),
    ("a bad name", "PUT", "/files/a%00b", (), b"x", 400),
    ("a form that is none", "POST", "/files", (("Content-Type", content_type()),), b"x", 400),
    ("a method that is not for it", "DELETE", "/files", (), None, 405),
    ("a digest that does not match", "PUT", "/files/x", (("Content-Digest", "sha-256=:" + "A" * 43 + "=:"),), b"x", 400),
    ("a patch that is no JSON", "PATCH", "/files/%s/metadata" % UNKNOWN_ID, (), b"{", None),
]


class Text(html.parser.HTMLParser):
    """The text of a page, and the names of its elements."""

    def __init__(self, page):
        super().__init__()
        self.text, self.elements = "", []
        self.feed(page)
        self.close()

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)


class TheShapeOfAnError(DepotCase):
    def test_every_error_is_a_problem_document(self):
        for what, method, target, headers, body, status in REFUSALS:
            with self.subTest(what=what):
                response = self.request(method, target, headers, body)
                if status is not None:
                    self.assertEqual(response.status, status)
                self.assertGreaterEqual(response.status, 400)
                self.check_problem(response)

    def test_a_browser_gets_the_same_as_a_page(self):
        for what, method, target, headers, body, status in REFUSALS:
            with self.subTest(what=what):
                response = self.request(method, target, list(headers) + list(BROWSER.items()), body)
                self.assertEqual(response.media_type, "text/html")
                self.assertIn("utf-8", response.headers["Content-Type"].lower())
                page = Text(response.text)
                self.assertIn("html", page.elements)
                self.assertIn(str(response.status), page.text)
                self.assertIn(response.headers["Request-Id"], response.text)
                self.assertNotIn("script", page.elements)

    def test_html_is_for_those_who_prefer_it(self):
        for accept, type in (("text/html", "text/html"), ("*/*", "application/problem+json"),
                             ("application/json", "application/problem+json"),
                             ("application/json, text/html;q=0.9", "application/problem+json"),
                             ("text/html, application/json;q=0.9", "text/html"),
                             ("application/problem+json", "application/problem+json"),
                             ("text/html;q=0", "application/problem+json"), ("", "application/problem+json"),
                             ("nonsense;;,,;q", "application/problem+json"), ("TEXT/HTML", "text/html"),
                             ("text/html;q=0.5, application/json;q=0.8, */*;q=0.1", "application/problem+json")):
            with self.subTest(accept=accept):
                self.assertEqual(self.request("GET", "/nope", {"Accept": accept}).media_type, type)

    def test_what_the_client_sent_is_escaped_in_the_page(self):
        for target in ("/files?%3Cscript%3Ealert(1)%3C/script%3E=1", "/files?limit=%3Cimg%20src=x%20onerror=alert(1)%3E",
                       "/%3Cscript%3Ealert(1)%3C/script%3E", "/files?sort=%22%3E%3Cscript%3E"):
            with self.subTest(target=target):
                response = self.request("GET", target, BROWSER)
                self.assertGreaterEqual(response.status, 400)
                page = Text(response.text)
                self.assertNotIn("script", page.elements)
                self.assertNotIn("img", page.elements)
                self.assertEqual(response.headers["X-Content-Type-Options"].lower(), "nosniff")
                self.assertIn("Content-Security-Policy", response.headers)

    def test_what_the_client_sent_is_escaped_in_the_document(self):
        response = self.get("/files?%22%5C%0A%09%F0%9F%98%80=1")
        self.assertEqual(response.status, 400)
        self.check_problem(response)

    def test_request_ids_are_never_the_same(self):
        ids = [self.get(target).headers["Request-Id"] for target in ["/healthz", "/nope", "/files", "/"] * 50]
        self.assertEqual(len(set(ids)), len(ids))

    def test_head_of_an_error_has_its_status_and_no_body(self):
        for target, status in (("/nope", 404), ("/files/" + UNKNOWN_ID, 404), ("/files?limit=0", 400)):
            response = self.request("HEAD", target)
            self.assertEqual((response.status, response.body), (status, b""))


class Methods(DepotCase):
    RESOURCES = {
        "/": {"GET", "HEAD", "POST"},
        "/files": {"GET", "HEAD", "POST"},
        "/files/" + UNKNOWN_ID: {"GET", "HEAD", "PUT", "DELETE"},
        "/files/%s/metadata" % UNKNOWN_ID: {"GET", "HEAD", "PATCH"},
        "/healthz": {"GET", "HEAD"}, "/readyz": {"GET", "HEAD"}, "/metrics": {"GET", "HEAD"}, "/openapi.json": {"GET", "HEAD"},
    }

    def test_a_method_that_is_not_for_a_resource_is_405_with_allow(self):
        for target, methods in self.RESOURCES.items():
            for method in sorted({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - methods):
                with self.subTest(target=target, method=method):
                    body = b"" if method in ("POST", "PUT", "PATCH") else None
                    response = self.request(method, target, (), body)
                    self.assertEqual(response.status, 405)
                    self.assertEqual({m.strip() for m in response.headers["Allow"].split(",")} - {"OPTIONS"}, methods)

    def test_a_method_that_nobody_knows_is_refused(self):
        for method in ("BREW", "get", "Get", "G", "X" * 100):
            with self.subTest(method=method):
                self.assert_status(self.connect().exchange(method, "/files"), 400, 405, 501)

    def test_options_says_what_is_allowed(self):
        for target in ("/files", "/files/" + UNKNOWN_ID):
            response = self.assert_status(self.request("OPTIONS", target), 200, 204, 405)
            self.assertIn("GET", response.headers["Allow"])

    def test_trace_never_reflects_the_request(self):
        response = self.connect().exchange("TRACE", "/files", [("X-Secret", "s3cr3t")])
        self.assertGreaterEqual(response.status, 400)
        self.assertNotIn(b"s3cr3t", response.body)


class TheConnectionAfterAnError(DepotCase):
    def test_it_lives_on_when_the_framing_was_sound(self):
        connection = self.connect()
        for what, method, target, headers, body, _ in REFUSALS * 3:
            with self.subTest(what=what):
                response = connection.exchange(method, target, headers, body)
                self.assertGreaterEqual(response.status, 400)
                self.assertTrue(response.keeps_alive)
        self.assertEqual(connection.exchange("GET", "/healthz").status, 200)

    def test_refused_bodies_of_some_size_leave_the_connection_in_order(self):
        connection = self.connect()
        for size in (0, 1, 1000, 60_000, 200_000):
            for method, target in (("PUT", "/files/a%00b"), ("POST", "/files?"), ("POST", "/nope"),
                                   ("PATCH", "/files/nonsense/metadata")):
                with self.subTest(size=size, method=method, target=target):
                    if connection.ended:
                        connection = self.connect()
                    connection.send(raw_http.encode_request(method, target, (), pattern_bytes(size)))
                    response = connection.read_response()
                    self.assertGreaterEqual(response.status, 400)
                    if not response.keeps_alive:
                        connection = self.connect()
        self.assertEqual(connection.exchange("GET", "/healthz").status, 200)

    def test_a_pipelined_error_does_not_disturb_its_neighbours(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/one", (), b"1") + raw_http.encode_request("PUT", "/files/a%00b",
                                                                                                         (), b"bad") +
                        raw_http.encode_request("GET", "/nope") + raw_http.encode_request("PUT", "/files/two", (), b"2") +
                        raw_http.encode_request("POST", "/files", [("Content-Type", content_type())],
                                                encode_form([file("f", "three")])))
        answers = [connection.read_response() for _ in range(5)]
        self.assertEqual([a.status for a in answers], [201, 400, 404, 201, 201])

    def test_connection_close_is_obeyed(self):
        connection = self.connect()
        response = connection.exchange("GET", "/nope", [("Connection", "close")])
        self.assertEqual(response.status, 404)
        self.assertFalse(response.keeps_alive)
        connection.wait_for_end()

    def test_a_get_with_a_body_leaves_the_connection_in_order(self):
        connection = self.connect()
        response = connection.exchange("GET", "/healthz", (), b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        if response.keeps_alive:
            self.assertEqual(connection.exchange("GET", "/openapi.json").media_type, "application/json")


class BrokenFraming(DepotCase):
    """A request whose end two readers would see in different places is refused, and nothing after it is read."""

    HIDDEN = b"PUT /files/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"

    def assert_ends(self, request):
        """One error at most, then the end of the connection; whatever hides in the request is not obeyed."""
        with self.stores_nothing():
            connection = self.connect()
            connection.send(request)
            try:
                connection.finish_sending()
            except OSError:
                pass
            answers = connection.wait_for_end()
            self.assertLessEqual(len(re.findall(rb"HTTP/1\.[01] \d\d\d ", answers)), 1, answers[:2000])
            if answers:
                self.assertRegex(answers, rb"\AHTTP/1\.[01] (4|5)\d\d ")
        self.assertEqual(self.get("/healthz").status, 200)

    def test_content_length_and_transfer_encoding_together(self):
        for head in (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
                     b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"content-length: 500\r\ntransfer-encoding: Chunked"):
            with self.subTest(head=head):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n0\r\n\r\n" + self.HIDDEN)

    def test_lengths_that_differ_or_are_none(self):
        for head in (b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: 1, 2", b"Content-Length: -1",
                     b"Content-Length: +1",
                     b"Content-Length: 0x1", b"Content-Length: 1 1", b"Content-Length: abc", b"Content-Length: 1.0",
                     b"Content-Length: 18446744073709551617", b"Content-Length : 1", b"Content-Length\t: 1",
                     b" Content-Length: 1"):
            with self.subTest(head=head):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + self.HIDDEN)

    def test_transfer_codings_that_are_none(self):
        for head in (b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity",
                     b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                     b"Transfer-Encoding: \x0bchunked",
                     b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5"):
            with self.subTest(head=head):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n0\r\n\r\n" + self.HIDDEN)

    def test_chunks_that_are_none(self):
        for body in (b"x\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5hello\r\n0\r\n\r\n",
                     b"5\r\nhelloX\r\n0\r\n\r\n", b"\r\n\r\n",
                     b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel"):
            with self.subTest(body=body):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    def test_host_must_be_there_once(self):
        for head in (b"", b"Host: x\r\nHost: y\r\n", b"Host: x\r\nhost: x\r\n"):
            with self.subTest(head=head):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\n" + head + b"Content-Length: 1\r\n\r\na" + self.HIDDEN)

    def test_header_lines_that_are_none(self):
        for line in (b"No colon here", b": no name", b"Na me: x", b"N\xe4me: x", b"Name: a\0b", b"Name: a\rb", b"Na(me: x"):
            with self.subTest(line=line):
                self.assert_ends(b"PUT /files/a HTTP/1.1\r\nHost: x\r\n" + line + b"\r\nContent-Length: 1\r\n\r\na" + self.HIDDEN)

    def test_request_lines_that_are_none(self):
        for line in (b"GARBAGE", b"GET", b"GET /files", b"GET /files HTTP/9.9", b"GET /files HTTP/1.1 x", b"GET /files FTP/1.1",
                     b"\0\0\0\0",
                     b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"GET  HTTP/1.1", b"GET /fi les HTTP/1.1", b"PRI * HTTP/2.0"):
            with self.subTest(line=line):
                self.assert_ends(line + b"\r\nHost: x\r\n\r\n")

    def test_heads_without_end_are_refused(self):
        for request in (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                        b"GET /files?" + b"a=b&" * 75_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                        b"GET /files HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 300_000 + b"\r\n\r\n",
                        b"GET /files HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(30_000)) + b"\r\n"):
            with self.subTest(request=request[:20]):
                connection = self.connect()
                connection.send_until_answered([request])
                answers = connection.wait_for_end()
                if answers:
                    self.assertRegex(answers, rb"\AHTTP/1\.[01] (400|413|414|431) ")
        self.assertEqual(self.get("/healthz").status, 200)

    def test_blank_lines_before_a_request_are_skipped(self):
        """RFC 9112 §2.2: a server should ignore at least one empty line before the request line."""
        connection = self.connect()
        connection.send(b"\r\n" + raw_http.encode_request("GET", "/healthz"))
        self.assertEqual(connection.read_response().status, 200)

    def test_an_absolute_target_is_understood(self):
        """RFC 9112 §3.2.2: a server must accept the absolute form."""
        self.assertEqual(self.connect().exchange("GET", "http://depot.example/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
