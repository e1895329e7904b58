"""Large bodies from a client that sends as fast as it can: received into many buffers, hashed and written by two workers."""

import concurrent.futures
import unittest

import form_data
import raw_http
from depot_case import DepotCase, binary_is_sanitized, pattern_bytes, sha256, wait_until
from depotd_server import DepotdServer
from fault_shim import FaultShim
from form_data import field, file

KIB, MIB = 1 << 10, 1 << 20
# Instrumented it is the same code with fewer turns.
LARGE = (8 if binary_is_sanitized() else 40) * MIB


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class FastCase(DepotCase):
    def setUp(self):
        super().setUp()
        self.data = pattern_bytes(LARGE)

    def assert_stored(self, stored, data):
        self.assertEqual((stored["size"], stored["sha256"]), (len(data), sha256(data)))
        self.assertEqual(sha256(self.content(stored)), sha256(data))
        self.assertEqual(self.request("DELETE", stored["url"]).status, 204)

    def send_raw(self, data):
        with raw_http.Connection(self.address) as connection:
            connection.send(data)
            return self.check(connection.read_response("PUT"))


class WhatComesFast(FastCase):
    def test_a_put_of_any_size_round_its_buffers_comes_back_as_it_went(self):
        for size in (MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 100 * KIB, LARGE - 1, LARGE):
            with self.subTest(size=size):
                self.assert_stored(self.put("fast.bin", self.data[:size]), self.data[:size])

    def test_a_chunked_put_comes_back_as_it_went(self):
        for size in (3000, 20 * KIB, 64 * KIB, 300 * KIB + 1, 3 * MIB):
            with self.subTest(size=size):
                pieces = raw_http.in_pieces(self.data, size)
                head = raw_http.encode_request("PUT", "/files/chunks.bin", [("Transfer-Encoding", "chunked")])
                response = self.send_raw(head + raw_http.chunked(pieces))
                self.assertEqual(response.status, 201)
                self.assert_stored(response.json(), self.data)

    def test_files_of_a_form_end_and_begin_within_the_same_buffer(self):
        third = LARGE // 3
        files = [self.data[:third], b"small", self.data[third:third + 70 * KIB], b"", self.data[third:], b"\r\n" * 40000 + b"\r", self.data[:MIB]]
        parts = [file("f%d" % i, "part%d.bin" % i, data) for i, data in enumerate(files)]
        parts.insert(3, field("project", "fast"))
        for stored, data in zip(self.post_files(parts), files):
            self.assertEqual(stored["attributes"], {"project": "fast"})
            self.assert_stored(stored, data)

    def test_a_file_that_looks_like_delimiters_comes_back_as_it_went(self):
        """What may be the beginning of a delimiter at a buffer's end is not in that buffer any more when it turns out to be none."""
        line = b"\r\n--" + form_data.BOUNDARY.encode()[:-1] + b"!"
        data = (line * (LARGE // 2 // len(line) + 1))[:LARGE // 2] + self.data[:MIB + 17]
        self.assert_stored(self.post_files([file("f", "lines.txt", data)])[0], data)

    def test_the_next_request_on_the_connection_is_found_behind_the_body(self):
        with raw_http.Connection(self.address) as connection:
            for name in ("first", "second"):
                connection.send(raw_http.encode_request("PUT", "/files/" + name, body=self.data) +
                                raw_http.encode_request("PUT", "/files/behind", body=b"behind " + name.encode()))
                first, behind = (self.check(connection.read_response("PUT")) for _ in range(2))
                self.assertEqual((first.status, behind.status), (201, 201))
                self.assert_stored(first.json(), self.data)
                self.assert_stored(behind.json(), b"behind " + name.encode())

    def test_the_next_request_is_found_behind_a_chunked_body(self):
        with raw_http.Connection(self.address) as connection:
            for size in (64 * KIB, 2 * MIB):
                head = raw_http.encode_request("PUT", "/files/chunks", [("Transfer-Encoding", "chunked")])
                connection.send(head + raw_http.chunked(raw_http.in_pieces(self.data, size)) +
                                b"".join(raw_http.encode_request("PUT", "/files/behind", body=b"behind %d" % i) for i in range(50)))
                first = self.check(connection.read_response("PUT"))
                self.assertEqual(first.status, 201)
                self.assert_stored(first.json(), self.data)
                for i in range(50):
                    behind = self.check(connection.read_response("PUT"))
                    self.assertEqual(behind.status, 201)
                    self.assert_stored(behind.json(), b"behind %d" % i)

    def test_more_of_them_at_once_than_there_are_processors_do_not_mix(self):
        def upload(number):
            data = self.data[number * 1000:]
            with raw_http.Connection(self.address) as connection:
                if number % 2:
                    body = form_data.encode_form([file("f", "f%d" % number, data)])
                    answer = connection.exchange("POST", "/files", [("Content-Type", form_data.content_type())], body)
                    return answer.status, answer.json()["files"][0], data
                answer = connection.exchange("PUT", "/files/p%d" % number, [], data)
                return answer.status, answer.json(), data
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(upload, range(12)))
        for status, stored, data in answers:
            self.assertEqual(status, 201)
            self.assert_stored(stored, data)


class WhatBreaksOff(FastCase):
    def nothing_is_left(self):
        wait_until(lambda: not self.server.stored_files() and not self.open_temporaries(), "nothing is left", 20)

    def test_a_client_that_leaves_at_any_point_leaves_nothing(self):
        form = form_data.encode_form([file("f", "f.bin", self.data)])
        requests = (raw_http.encode_request("PUT", "/files/gone.bin", body=self.data),
                    raw_http.encode_request("POST", "/files", [("Content-Type", form_data.content_type())], form))
        for turn in range(12):
            request = requests[turn % 2]
            connection = raw_http.Connection(self.address)
            connection.send(request[:(turn + 1) * len(request) // 13])
            (connection.reset if turn % 3 else connection.close)()
        self.nothing_is_left()
        self.assert_stored(self.put("after.bin", self.data), self.data)

    def test_a_malformed_chunk_in_the_middle_is_400_and_stores_nothing(self):
        head = raw_http.encode_request("PUT", "/files/bad.bin", [("Transfer-Encoding", "chunked")])
        good = b"".join(chunk(piece) for piece in raw_http.in_pieces(self.data[:LARGE // 2], MIB))
        with raw_http.Connection(self.address) as connection:
            connection.send_until_answered([head + good, b"zz\r\n" + self.data[:MIB]])
            self.assertEqual(self.check(connection.read_response("PUT")).status, 400)
        self.nothing_is_left()

    def test_a_refusal_in_the_middle_leaves_the_connection_in_step(self):
        """What was received already behind the refusal is neither taken for a request nor waited for."""
        shim = self.enterContext(FaultShim())
        with DepotdServer(environment=shim.environment) as server, self.talking_to(server):
            for nth in range(1, 2 * LARGE // MIB, 5):
                with self.subTest(nth=nth):
                    shim.set("pwrite below=%s path=/objects/0 nth=%d error=ENOSPC" % (server.data_dir, nth))
                    with raw_http.Connection(self.address) as connection:
                        answer = connection.exchange("PUT", "/files/full.bin", [], self.data)
                        self.assertEqual((answer.status, shim.hits()[0] > 0), (507, True))
                        shim.clear()
                        if answer.keeps_alive:
                            self.assertEqual(connection.exchange("GET", "/healthz").status, 200)
            self.assert_stored(self.put("after.bin", self.data), self.data)

    def test_a_form_without_its_end_is_400_and_stores_nothing(self):
        body = form_data.encode_form([file("f", "f.bin", self.data)])[:-60]
        with raw_http.Connection(self.address) as connection:
            self.assertEqual(connection.exchange("POST", "/files", [("Content-Type", form_data.content_type())], body).status, 400)
        self.nothing_is_left()

    def test_a_digest_that_is_wrong_is_400_and_stores_nothing(self):
        with raw_http.Connection(self.address) as connection:
            answer = connection.exchange("PUT", "/files/wrong.bin", [("Content-Digest", "sha-256=:%s:" % ("A" * 43 + "="))], self.data)
            self.assertEqual(answer.status, 400)
        self.nothing_is_left()

    def test_a_chunked_body_that_grows_too_large_is_413_and_stores_nothing(self):
        with self.own_server({"limits.max_upload": "%dM" % (LARGE // 2 // MIB)}):
            head = raw_http.encode_request("PUT", "/files/grows.bin", [("Transfer-Encoding", "chunked")])
            with raw_http.Connection(self.address) as connection:
                connection.send_until_answered([head] + [chunk(piece) for piece in raw_http.in_pieces(self.data, MIB)])
                self.assertEqual(self.check(connection.read_response("PUT")).status, 413)
            self.nothing_is_left()


if __name__ == "__main__":
    unittest.main()
