"""Requests that are damaged at random, the same way every time: each is answered or ended in time, none stops the server."""

import random
import unittest

import raw_http
from depot_case import UNKNOWN_ID, DepotCase, pattern_bytes
from depotd_server import seconds
from form_data import content_type, encode_form, field, file

SPLICES = [b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b"=", b'"', b"\\", b"%", b"%00", b"%2f",
           b"?", b"#", b"&", b"+", b"-", b"--",
           b"\xff", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"0", b"-1", b"99999999999999999999", b"ffffffffffffffff", b"HTTP/1.1",
           b"HTTP/1.0",
           b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"Expect: 100-continue\r\n",
           b"Connection: close\r\n",
           b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"A" * 5000, b"{", b"}", b"[", b"null"]


def sound_requests():
    form = encode_form([field("tags", "a"), file("f", "a.txt", b"one"), file("g", "b.txt", pattern_bytes(300))])
    return [
        raw_http.encode_request("GET", "/files?q=a&sort=name&limit=5&tag=x&attr.k=v"),
        raw_http.encode_request("GET", "/files/" + UNKNOWN_ID, [
            ("Range", "bytes=0-5,10-20"), ("If-Range", '"x"'), ("If-None-Match", 'W/"a", "b"'),
            ("If-Modified-Since", "Sun, 22 Nov 2026 10:00:00 GMT")]),
        raw_http.encode_request("PUT", "/files/a%20b.txt?tags=a,b&attr.k.l=v&expires_in=1h", [
            ("Content-Type", "text/plain"), ("Content-Digest", "sha-256=:AAAA:")], b"body"),
        raw_http.encode_request("PUT", "/files/c", [("Transfer-Encoding", "chunked")]) +
        raw_http.chunked([b"hello", b"world"], b";x=y", b"T: u\r\n"),
        raw_http.encode_request("POST", "/files", [("Content-Type", content_type())], form),
        raw_http.encode_request("POST", "/", [("Content-Type", content_type()), ("Accept", "text/html, */*;q=0.1")], form),
        raw_http.encode_request("PATCH", "/files/%s/metadata" % UNKNOWN_ID, [("If-Match", '"x"')],
                                b'{"name": "x", "tags": ["a"], "attributes": {"k": [1, null, {"a": "b"}]}}'),
        raw_http.encode_request("GET", "/", [("Accept-Language", "pt-BR,pt;q=0.9,en;q=0.8"), ("Accept", "text/html")]),
        raw_http.encode_request("DELETE", "/files/" + UNKNOWN_ID),
        raw_http.encode_request("GET", "/metrics") + raw_http.encode_request("GET", "/healthz"),
    ]


def damaged(request, chance):
    data = bytearray(request)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        way = chance.randrange(5)
        if way == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif way == 1:
            data[at:at] = chance.choice(SPLICES)
        elif way == 2:
            del data[at:at + chance.choice((1, 2, 5, 40))]
        elif way == 3:
            data[at:at] = data[max(0, at - chance.choice((1, 10, 60))):at]
        else:
            splice = chance.choice(SPLICES)
            data[at:at + len(splice)] = splice
    return bytes(data)


class DamagedRequests(DepotCase):
    settings = {"server.header_timeout": "200ms", "server.idle_timeout": "200ms", "limits.max_upload": "1M"}

    def get(self, target, headers=()):
        """Asks again where this client itself was held up for longer than the server's short timeouts."""
        for again in (True, True, False):
            try:
                answer = super().get(target, headers)
                if answer.status != 408 or not again:
                    return answer
            except (raw_http.ConnectionEnded, ConnectionError):
                if not again:
                    raise
            self._drop_connection()

    def answers_to(self, request, chance):
        """The answers until the connection ends; ProtocolError where they are no HTTP, or where it does not end."""
        found = []
        with raw_http.Connection(self.address, deadline=seconds(15)) as connection:
            try:
                connection.send_pieces(raw_http.in_pieces(request, chance.choice((7, 100, 1 << 20))))
                connection.finish_sending()
            except OSError:
                pass  # it was ended before all of it was sent
            connection.wait_for_end()
            for _ in range(100):
                if not connection.buffer:
                    return found
                found.append(connection.read_response())
        raise raw_http.ProtocolError("no end of answers")

    def test_each_is_answered_in_sound_http_or_ended_in_time(self):
        chance = random.Random(20261122)
        requests = sound_requests()
        for number in range(1500):
            request = damaged(requests[number % len(requests)], chance)
            with self.subTest(number=number, request=request[:300]):
                for answer in self.answers_to(request, chance):
                    self.check(answer, headers={"Accept": "text/html"})  # one of the sound requests asks for pages
                    self.assertIn(answer.status, (200, 201, 303, 304, 400, 404, 405, 408, 411, 412, 413, 414, 415, 416, 417, 431,
                                                  501, 505))
            if number % 100 == 99:
                self.assertEqual(self.get("/healthz").status, 200)
        self.all_files()

    def test_a_request_cut_off_at_every_place_leaves_the_server_in_order(self):
        for request in sound_requests():
            for at in range(0, len(request), max(1, len(request) // 40)):
                with raw_http.Connection(self.address, deadline=seconds(15)) as connection:
                    connection.send(request[:at])
                    connection.finish_sending()
                    connection.wait_for_end()
        self.assertEqual(self.get("/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
