"""GET and HEAD of a file: the bytes, the headers that describe them, and the ones that keep them harmless."""

import concurrent.futures
import re
import time
import unittest
import urllib.parse

import raw_http
from depot_case import (BROWSER, GIF, JPEG, MP4, PDF, PNG, UNKNOWN_ID, WAV, WEBP, DepotCase, binary_is_sanitized, digest_field,
                        forget_peak_memory, http_date, is_expired, parse_time, pattern_bytes, peak_memory, query, sha256,
                        wait_until)

MIB = 1 << 20


def disposition(response):
    """("inline" or "attachment", the file name as a client that knows RFC 8187 has it)."""
    value = response.headers["Content-Disposition"]
    kind = value.split(";")[0].strip().lower()
    star = re.search(r"; *filename\*=UTF-8''([^;\s]*)", value, re.I)
    if star:
        return kind, urllib.parse.unquote(star[1], errors="strict")
    plain = re.search(r'; *filename="((?:[^"\\]|\\.)*)"', value) or re.search(r'; *filename=([^";\s]+)', value)
    return kind, re.sub(r"\\(.)", r"\1", plain[1])


class WhatADownloadSays(DepotCase):
    def test_the_bytes_and_their_validators(self):
        file = self.put("a.csv", b"a,b\n1,2\n")
        response = self.get(file["url"])
        self.assertEqual(response.status, 200)
        self.assertEqual(response.body, b"a,b\n1,2\n")
        self.assertEqual(response.headers["Content-Length"], "8")
        self.assertEqual(response.media_type, "text/csv")
        self.assertEqual(response.headers["ETag"], '"%s"' % file["sha256"])
        self.assertEqual(response.headers["Last-Modified"], http_date(parse_time(file["created_at"])))
        self.assertEqual(response.headers["Accept-Ranges"], "bytes")
        self.assertEqual(response.headers["Repr-Digest"], digest_field(b"a,b\n1,2\n"))
        self.assertNotIn("Content-Encoding", response.headers)

    def test_the_same_bytes_have_the_same_etag_and_others_another(self):
        etags = [self.get(self.put("e", data)["url"]).headers["ETag"] for data in (b"one", b"one", b"two")]
        self.assertEqual(etags[0], etags[1])
        self.assertNotEqual(etags[0], etags[2])

    def test_head_says_what_get_says_without_the_bytes(self):
        for name, data in (("a.txt", b"hello"), ("empty", b""), ("big.bin", pattern_bytes(MIB)), ("i.png", PNG),
                           ("x.html", b"<p>")):
            file = self.put(name, data)
            for target in (file["url"], file["url"] + "?download", file["url"] + "/metadata"):
                with self.subTest(target=target, name=name):
                    changing = ("date", "request-id")
                    got = [(k.lower(), v) for k, v in self.get(target).headers if k.lower() not in changing]
                    head = self.request("HEAD", target)
                    self.assertEqual(head.body, b"")
                    self.assertEqual(sorted((k.lower(), v) for k, v in head.headers if k.lower() not in changing), sorted(got))

    def test_nothing_is_compressed_on_the_way(self):
        data = b"compressible " * 10_000
        response = self.request("GET", self.put("a.txt", data)["url"], {"Accept-Encoding": "gzip, deflate, br"})
        self.assertEqual(response.body, data)

    def test_sizes_from_memory_and_from_disk_come_whole(self):
        for size in (0, 1, 4096, 16384, 65535, 65536, 65537, 200_000, MIB, 5 * MIB + 3):
            data = pattern_bytes(size)
            file = self.put("sized", data)
            for _ in range(3):
                self.assertEqual(self.content(file), data)

    def test_http_1_0_gets_the_bytes_and_a_closed_connection(self):
        file = self.put("old.txt", b"old")
        connection = self.connect()
        connection.send(b"GET %s HTTP/1.0\r\n\r\n" % file["url"].encode())
        response = connection.read_response()
        self.assertEqual((response.status, response.body), (200, b"old"))
        connection.wait_for_end()

    def test_http_1_0_may_ask_to_keep_the_connection(self):
        file = self.put("old.txt", b"old")
        connection = self.connect()
        connection.send(b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % file["url"].encode())
        self.assertEqual(connection.read_response().body, b"old")

    def test_pipelined_downloads_are_answered_in_order(self):
        files = [self.put("p%d" % i, b"%d" % i * 1000 * i) for i in range(20)]
        connection = self.connect()
        connection.send(b"".join(raw_http.encode_request("GET", f["url"]) for f in files))
        for i in range(20):
            self.assertEqual(connection.read_response().body, b"%d" % i * 1000 * i)

    def test_many_readers_of_many_files_at_once(self):
        files = [(self.put("r%d" % i, data)["url"], sha256(data)) for i in range(8) for data in [pattern_bytes(50_000 * i,
                                                                                                               b"%d" % i)]]

        def read(i):
            with raw_http.Connection(self.address) as connection:
                for round in range(10):
                    url, digest = files[(i + round) % len(files)]
                    if sha256(connection.exchange("GET", url).body) != digest:
                        return "wrong bytes"
            return None
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(set(pool.map(read, range(32))), {None})

    def test_a_query_that_means_nothing_here_is_let_be(self):
        file = self.put("a.txt", b"x")
        self.assertEqual(self.get(file["url"] + "?v=3").body, b"x")


class FilesThatAreNotThere(DepotCase):
    METHODS = (("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "/metadata"), ("HEAD", "/metadata"), ("PATCH", "/metadata"))

    def assert_absent(self, url):
        for method, rest in self.METHODS:
            with self.subTest(method=method, url=url + rest):
                self.assertEqual(self.request(method, url + rest, (), b"{}" if method == "PATCH" else None).status, 404)

    def test_an_unknown_id_is_404(self):
        self.assert_absent("/files/" + UNKNOWN_ID)
        self.assert_absent("/files/00000000-0000-0000-0000-000000000000")

    def test_a_malformed_id_is_404(self):
        for id in ("abc", "0192f0c1", UNKNOWN_ID[:-1], UNKNOWN_ID + "0", UNKNOWN_ID.replace("-", ""), "%%7B%s%%7D" % UNKNOWN_ID,
                   "g" * 36,
                   "'; DROP TABLE files; --".replace(" ", "%20"), "%F0%9F%98%80", "*", "-", "a" * 2000, UNKNOWN_ID + "%20",
                   "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2fmetadata.db"):
            self.assert_absent("/files/" + id)

    def test_an_expired_file_is_404_at_every_door(self):
        file = self.put("soon.txt", b"gone", query(expires_in="1"))
        answer = self.get(file["url"])
        if not is_expired(file):
            self.assertEqual((answer.status, answer.body), (200, b"gone"))
        wait_until(lambda: self.get(file["url"]).status == 404, "the file is expired")
        self.assert_absent(file["url"])
        self.assertNotIn(file["id"], [f["id"] for f in self.all_files()])

    def test_a_file_is_404_from_its_expiry_on_though_it_was_read_all_the_time(self):
        file = self.put("soon.txt", b"gone", query(expires_in="1"))

        def gone():
            expired_before = is_expired(file)
            status = self.get(file["url"]).status
            if expired_before:
                self.assertEqual(status, 404)
            elif not is_expired(file):
                self.assertEqual(status, 200)
            return expired_before
        wait_until(gone, "the file is expired")


class Dispositions(DepotCase):
    def test_what_may_be_shown_inline(self):
        for name, data in (("a.png", PNG), ("a.gif", GIF), ("a.jpg", JPEG), ("a.webp", WEBP), ("a.pdf", PDF), ("a.wav", WAV),
                           ("a.mp4", MP4), ("a.txt", b"plain text\n")):
            with self.subTest(name=name):
                self.assertEqual(disposition(self.get(self.put(name, data)["url"])), ("inline", name))

    def test_all_else_is_an_attachment(self):
        for name, data in (("a.html", b"<!DOCTYPE html><script>alert(1)</script>"),
                           ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
                           ("a.xhtml", b"<html xmlns='http://www.w3.org/1999/xhtml'/>"), ("a.xml", b"<?xml version='1.0'?><a/>"),
                           ("a.js", b"alert(1)"), ("a.zip", b"PK\3\4" + b"\0" * 26), ("a.bin", b"\0\1\2"),
                           ("noextension", b"\0\1\2"),
                           ("a.swf", b"FWS\5" + b"\0" * 20), ("a.mht", b"MIME-Version: 1.0\r\n\r\n"), ("a.css", b"a{}")):
            with self.subTest(name=name):
                self.assertEqual(disposition(self.get(self.put(name, data)["url"])), ("attachment", name))

    def test_the_client_s_word_and_the_name_never_make_a_file_inline(self):
        page = b"<!DOCTYPE html><script>alert(1)</script>"
        for name, client in (("a.png", "image/png"), ("a", "image/png"), ("a.pdf", "application/pdf"), ("a.mp4", "video/mp4")):
            with self.subTest(name=name):
                file = self.put(name, page, headers=[("Content-Type", client)])
                self.assertEqual(disposition(self.get(file["url"]))[0], "attachment")

    def test_html_is_never_shown_whatever_its_name(self):
        for name in ("a.txt", "a", "a.html", "a.htm", "a.png"):
            for client in ("text/html", "text/plain", None):
                with self.subTest(name=name, client=client):
                    file = self.put(name, b"<html><script>alert(1)</script></html>",
                                    headers=[("Content-Type", client)] if client else [])
                    response = self.get(file["url"])
                    if disposition(response)[0] == "inline":
                        self.assertEqual(response.media_type, "text/plain")

    def test_download_in_the_query_makes_everything_an_attachment(self):
        file = self.put("a.png", PNG)
        for suffix in ("?download", "?download=", "?download=1", "?x=y&download"):
            with self.subTest(suffix=suffix):
                response = self.get(file["url"] + suffix)
                self.assertEqual(disposition(response), ("attachment", "a.png"))
                self.assertEqual(response.body, PNG)

    def test_a_name_of_any_characters_comes_back(self):
        for name in ("plain.txt", "with blank.txt", 'quo"te.txt', "semi;colon.txt", "comma,.txt", "100%.txt", "%41.txt",
                     "résumé.txt",
                     "文書 😀.txt", "e\u0301.txt", "it's.txt", "a=b.txt", "<b>.txt", "\u202etxt.exe", " blanks ", "é" * 255,
                     "😀" * 255, "\u00a0.txt",
                     "*.txt", "a&b.txt"):
            with self.subTest(name=name):
                response = self.get(self.put(name, b"x")["url"])
                raw = response.headers["Content-Disposition"]
                self.assertEqual(disposition(response)[1], name)
                self.assertTrue(raw.isascii(), raw)

    def test_names_beyond_ascii_have_a_fallback_for_old_clients(self):
        raw = self.get(self.put("résumé.txt", b"x")["url"]).headers["Content-Disposition"]
        self.assertRegex(raw, r'filename="[\x20-\x7e]*\.txt"')
        self.assertIn("filename*=UTF-8''r%C3%A9sum%C3%A9.txt", raw)


class HarmlessBytes(DepotCase):
    def test_served_bytes_can_never_act_as_the_site(self):
        for name, data in (("a.html", b"<script>alert(1)</script>"), ("a.svg", b"<svg/>"), ("a.png", PNG), ("a.txt", b"x"),
                           ("a.pdf", PDF)):
            file = self.put(name, data)
            for target, headers in ((file["url"], {}), (file["url"] + "?download", {}), (file["url"], {"Range": "bytes=0-0"}),
                                    (file["url"], {"Range": "bytes=0-0,2-2"}), (file["url"], BROWSER)):
                with self.subTest(name=name, headers=headers):
                    response = self.request("GET", target, headers)
                    self.assertEqual(response.headers["X-Content-Type-Options"].lower(), "nosniff")
                    directives = [d.strip().split(" ")[0] for d in response.headers["Content-Security-Policy"].split(";")]
                    self.assertIn("sandbox", directives)
                    self.assertNotIn("allow-scripts", response.headers["Content-Security-Policy"])
                    self.assertNotIn("allow-same-origin", response.headers["Content-Security-Policy"])

    def test_a_type_of_the_client_cannot_break_the_header(self):
        file = self.put("noextension", b"\0\1", headers=[("Content-Type", 'text/x; a="b\tc"')])
        response = self.get(file["url"])
        self.assertEqual(response.status, 200)
        self.assertEqual(len(response.headers.get_all("Content-Type")), 1)


class LargeDownloads(DepotCase):
    SIZE = 64 * MIB

    def test_memory_stays_constant_and_a_slow_reader_holds_up_nobody(self):
        pid = self.server.process.pid
        data = b"".join(pattern_bytes(MIB, b"%d" % i) for i in range(self.SIZE // MIB))
        file = self.put("big.bin", data)
        forget_peak_memory(pid)
        before = peak_memory(pid)
        slow = []
        for _ in range(8):
            connection = self.connect(receive_buffer=4096)
            connection.send(raw_http.encode_request("GET", file["url"]))
            self.assertEqual(connection.read_head().status, 200)
            slow.append(connection)
        self.assertEqual(sha256(self.get(file["url"]).body), file["sha256"])
        small = self.put("small.txt", b"small")
        for _ in range(20):
            self.assertEqual(self.content(small), b"small")
        if not binary_is_sanitized():
            self.assertLess(peak_memory(pid) - before, 32 * MIB)

    def test_readers_that_go_away_leave_nothing_open(self):
        file = self.put("big.bin", pattern_bytes(8 * MIB))
        for _ in range(30):
            connection = self.connect(receive_buffer=4096)
            connection.send(raw_http.encode_request("GET", file["url"]))
            connection.read_head()
            connection.reset()
        self.assertEqual(len(self.content(file)), 8 * MIB)
        wait_until(lambda: not self.open_stored_files(8 * MIB), "the descriptors of readers that left are closed")


class SlowReaders(DepotCase):
    """While a client takes nothing the memory of its connection is given back, and what was in it comes back when it goes on."""
    settings = {"server.event_threads": "1"}
    SIZE = 8 * MIB  # more than the kernel takes for a client that does not read

    def begin(self, file):
        connection = self.connect(receive_buffer=65536)
        connection.send(raw_http.encode_request("GET", file["url"]))
        self.assertEqual(connection.read_head().status, 200)
        return connection

    def test_a_file_that_is_read_with_pauses_arrives_as_it_is(self):
        data = pattern_bytes(self.SIZE, b"slow")
        file = self.put("big.bin", data)
        crowd = [self.begin(file) for _ in range(90)]
        readers, rest = crowd[::15], crowd[1::15]
        bodies = [connection.read(len(data) // 8) for connection in readers]
        for _ in range(7):
            time.sleep(0.15)  # only the pause that it is about: nothing depends on how long it is
            bodies = [body + connection.read(len(data) // 8) for body, connection in zip(bodies, readers)]
        for body, connection in zip(bodies, readers):
            self.assertEqual(sha256(body), file["sha256"])
            connection.send(raw_http.encode_request("GET", file["url"], [("Range", "bytes=-5")]))
            self.assertEqual(connection.read_response("GET").body, data[-5:])
        for connection in rest:
            connection.reset()
        self.assertEqual(sha256(self.content(file)), file["sha256"])

    def test_a_file_that_is_removed_while_it_is_read_arrives_and_then_its_space_comes_back(self):
        data = pattern_bytes(self.SIZE, b"gone")
        file = self.put("big.bin", data)
        whole, broken = self.begin(file), self.begin(file)
        self.assertEqual(self.request("DELETE", file["url"]).status, 204)
        self.assertEqual(sha256(whole.read(len(data))), file["sha256"])
        broken.reset()
        wait_until(lambda: not self.open_stored_files(self.SIZE), "the descriptors of a removed file are closed")
        self.assertEqual(whole.exchange("GET", file["url"]).status, 404)


class ReadersThatLeave(DepotCase):
    settings = {"server.idle_timeout": "10m"}

    def test_a_client_whose_end_comes_with_its_request_is_let_go_before_the_idle_timeout(self):
        """The end of the stream was seen together with the request, and then forgotten until the idle timeout."""
        file = self.put("a.txt", b"x")
        connections = [self.connect() for _ in range(60)]
        for number, connection in enumerate(connections):
            connection.send(raw_http.encode_request("GET", (file["url"], "/healthz", "/files?limit=0")[number % 3]))
            connection.finish_sending()
        for connection in connections:
            self.assertRegex(connection.wait_for_end(), rb"\AHTTP/1\.1 (200|400) ")


class ReadersThatStall(DepotCase):
    settings = {"server.idle_timeout": "500ms"}

    def test_a_reader_that_takes_nothing_is_given_up(self):
        file = self.put("big.bin", pattern_bytes(8 * MIB))
        connection = self.connect(receive_buffer=4096)
        connection.send(raw_http.encode_request("GET", file["url"]))
        wait_until(lambda: not self.open_stored_files(8 * MIB), "the descriptor of a reader that stalls is closed")


if __name__ == "__main__":
    unittest.main()
