"""Range requests: RFC 9110 §14. The same tests run over a file small enough for memory and one served from disk."""

import email
import email.policy
import re
import unittest

import raw_http
from depot_case import DepotCase, http_date, parse_time, pattern_bytes

MIB = 1 << 20
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")


def printable(n):
    """Bytes that email's parser leaves as they are."""
    return bytes(33 + byte % 90 for byte in pattern_bytes(n))


def parts_of(response):
    """(Content-Type, first, last, size, bytes) of each part, cut by hand and byte-exact."""
    match = re.fullmatch(r'multipart/byteranges; *boundary="?([^";]+)"?', response.headers["Content-Type"], re.I)
    mark = b"--" + match[1].encode()
    body = b"\r\n" + response.body if response.body.startswith(mark) else response.body
    preamble, *pieces = body.split(b"\r\n" + mark)
    if preamble.strip() or pieces[-1].rstrip(b"\r\n") != b"--":
        raise AssertionError("not a whole multipart body: %r … %r" % (preamble, pieces[-1]))
    found = []
    for piece in pieces[:-1]:
        if not piece.startswith(b"\r\n"):
            raise AssertionError("boundary line %r" % piece[:40])
        head, _, data = piece[2:].partition(b"\r\n\r\n")
        fields = raw_http.parse_fields(head.split(b"\r\n"))
        first, last, size = map(int, CONTENT_RANGE.match(fields["Content-Range"]).groups())
        found.append((fields.get("Content-Type"), first, last, size, data))
    return found


class RangesOfASmallFile(DepotCase):
    SIZE = 1000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = printable(cls.SIZE)
        cls.file = cls.server.put("ranges.bin", cls.data)

    def ranged(self, value, headers=(), method="GET"):
        return self.request(method, self.file["url"], [("Range", value)] + list(headers))

    def assert_whole(self, response):
        self.assertEqual(response.status, 200, repr(response.headers))
        self.assertNotIn("Content-Range", response.headers)
        self.assertTrue(response.body == self.data)

    def assert_part(self, response, first, last):
        self.assertEqual(response.status, 206, repr(response.headers))
        self.assertEqual(response.headers["Content-Range"], "bytes %d-%d/%d" % (first, last, self.SIZE))
        self.assertEqual(response.headers["Content-Length"], str(last - first + 1))
        self.assertTrue(response.body == self.data[first:last + 1])
        self.assertEqual(response.media_type, self.file["type"])

    def test_a_single_range_gets_its_bytes(self):
        n = self.SIZE
        for value, first, last in (("0-0", 0, 0), ("0-99", 0, 99), ("1-1", 1, 1), ("100-", 100, n - 1), ("0-", 0, n - 1),
                                   ("-1", n - 1, n - 1),
                                   ("-100", n - 100, n - 1), ("-%d" % n, 0, n - 1), ("-%d" % (n + 1), 0, n - 1),
                                   ("-99999999", 0, n - 1),
                                   ("%d-%d" % (n - 1, n - 1), n - 1, n - 1), ("%d-" % (n - 1), n - 1, n - 1),
                                   ("990-99999999", 990, n - 1),
                                   ("0-%d" % (n - 1), 0, n - 1), ("0-%d" % n, 0, n - 1), ("007-0009", 7, 9)):
            with self.subTest(value=value):
                self.assert_part(self.ranged("bytes=" + value), first, last)

    def test_a_part_has_the_validators_of_the_whole(self):
        whole, part = self.get(self.file["url"]), self.ranged("bytes=1-2")
        for name in ("ETag", "Last-Modified", "Content-Disposition", "X-Content-Type-Options", "Content-Security-Policy"):
            self.assertEqual(part.headers.get(name), whole.headers.get(name))

    def test_a_range_beyond_the_end_is_416(self):
        n = self.SIZE
        for value in ("%d-" % n, "%d-%d" % (n, n + 5), "%d-" % (n + 1), "99999999-", "-0"):
            with self.subTest(value=value):
                response = self.ranged("bytes=" + value)
                self.assert_refused(response, status=416)
                self.assertEqual(response.headers["Content-Range"], "bytes */%d" % n)

    def test_what_is_no_valid_byte_range_is_ignored(self):
        for value in ("bytes=", "bytes=-", "bytes=abc", "bytes=5-2", "bytes", "bytes 0-5", "items=0-5", "=0-5", "",
                      "bytes=0-5-7", "bytes=0x0-5",
                      "bytes=+1-5", "bytes=1-+5", "bytes=--5", "bytes=1.0-5", "bytes=0-5;", "bytes=0-5,abc", "bytes=0-5, 9-7",
                      "seconds=1-2",
                      "bytes=5", "bytes=0-٣", "none"):
            with self.subTest(value=value):
                self.assert_whole(self.ranged(value))

    def test_numbers_beyond_64_bits_do_not_wrap(self):
        for value in ("0-18446744073709551616", "0-9223372036854775808", "0-" + "9" * 40, "-18446744073709551616",
                      "-" + "9" * 40):
            with self.subTest(value=value):
                response = self.assert_status(self.ranged("bytes=" + value), 200, 206)
                self.assertTrue(response.body == self.data)
        for value in ("18446744073709551616-", "9223372036854775807-", "18446744073709551617-18446744073709551618",
                      "9" * 40 + "-"):
            with self.subTest(value=value):
                self.assert_status(self.ranged("bytes=" + value), 200, 416)

    def test_several_ranges_come_as_byteranges_in_the_order_asked_for(self):
        for value, expected in (("0-9,20-29", [(0, 9), (20, 29)]), ("0-0,-1", [(0, 0), (self.SIZE - 1, self.SIZE - 1)]),
                                ("500-599 , 0-99", [(500, 599), (0, 99)]), ("0-1,3-4,6-7,9-10",
                                                                            [(0, 1), (3, 4), (6, 7), (9, 10)])):
            with self.subTest(value=value):
                response = self.ranged("bytes=" + value)
                self.assertEqual(response.status, 206)
                self.assertNotIn("Content-Range", response.headers)
                parts = parts_of(response)
                self.assertEqual([(first, last) for _, first, last, _, _ in parts], expected)
                for type, first, last, size, data in parts:
                    self.assertEqual((type, size), (self.file["type"], self.SIZE))
                    self.assertTrue(data == self.data[first:last + 1])

    def test_each_part_has_the_content_type_of_the_whole(self):
        file = self.put("grüße.txt", "grüße aus köln\n".encode())
        whole = self.get(file["url"]).headers["Content-Type"]
        parts = parts_of(self.request("GET", file["url"], [("Range", "bytes=0-1,4-5")]))
        self.assertEqual([type for type, *_ in parts], [whole, whole])

    def test_byteranges_are_read_by_an_ordinary_mime_parser(self):
        response = self.ranged("bytes=10-19,30-39,-5")
        message = email.message_from_bytes(b"Content-Type: %s\r\n\r\n" % response.headers["Content-Type"].encode() + response.body,
                                           policy=email.policy.HTTP)
        self.assertTrue(message.is_multipart())
        self.assertEqual(message.defects, [])
        parts = message.get_payload()
        self.assertEqual([part.get_payload(decode=True) for part in parts], [self.data[10:20], self.data[30:40], self.data[-5:]])
        self.assertEqual(parts[0]["Content-Range"], "bytes 10-19/%d" % self.SIZE)

    def test_of_several_ranges_those_beyond_the_end_are_left_out(self):
        response = self.ranged("bytes=0-9,%d-%d" % (self.SIZE, self.SIZE + 10))
        self.assertEqual(response.status, 206)
        if response.media_type == "multipart/byteranges":
            ((_, first, last, _, data),) = parts_of(response)
        else:
            first, last, _ = map(int, CONTENT_RANGE.match(response.headers["Content-Range"]).groups())
            data = response.body
        self.assertEqual((first, last, data), (0, 9, self.data[:10]))

    def test_several_ranges_all_beyond_the_end_are_416(self):
        response = self.ranged("bytes=%d-,%d-" % (self.SIZE, self.SIZE + 1))
        self.assert_refused(response, status=416)
        self.assertEqual(response.headers["Content-Range"], "bytes */%d" % self.SIZE)

    def test_empty_elements_of_the_list_are_skipped_or_the_whole_is_sent(self):
        response = self.assert_status(self.ranged("bytes=,0-1,,"), 200, 206)
        if response.status == 206:
            self.assertEqual(response.body, self.data[:2])

    def test_many_or_overlapping_ranges_never_cost_more_than_the_file(self):
        for value in ("0-," * 300 + "0-", ",".join("%d-%d" % (i, i) for i in range(0, 900, 2)), "0-,1-,2-,3-", "5-9,5-9,5-9,5-9",
                      ",".join(["-%d" % self.SIZE] * 500)):
            with self.subTest(value=value[:30]):
                response = self.assert_status(self.ranged("bytes=" + value), 200, 206, 400, 416, 431)
                if response.status in (200, 206):
                    self.assertLessEqual(len(response.body), self.SIZE + 65536)

    def test_a_head_request_ignores_range(self):
        for value in ("bytes=0-0", "bytes=%d-" % self.SIZE, "bytes=0-0,2-2"):
            response = self.ranged(value, method="HEAD")
            self.assertEqual(response.status, 200)
            self.assertEqual(response.headers["Content-Length"], str(self.SIZE))
            self.assertNotIn("Content-Range", response.headers)

    def test_if_range_with_the_current_etag_lets_the_range_stand(self):
        self.assert_part(self.ranged("bytes=1-2", [("If-Range", '"%s"' % self.file["sha256"])]), 1, 2)

    def test_if_range_with_anything_else_sends_the_whole(self):
        modified = parse_time(self.file["created_at"])
        etag = '"%s"' % self.file["sha256"]
        for value in ('"other"', "W/" + etag, "*", "nonsense", etag[1:-1], http_date(modified.replace(year=2001)),
                      http_date(modified.replace(year=2037)), "", etag + ', "other"'):
            with self.subTest(value=value):
                self.assert_whole(self.ranged("bytes=1-2", [("If-Range", value)]))

    def test_if_range_without_range_changes_nothing(self):
        self.assert_whole(self.request("GET", self.file["url"], {"If-Range": '"other"'}))

    def test_a_range_that_cannot_be_met_is_no_error_when_if_range_fails(self):
        self.assert_whole(self.ranged("bytes=%d-" % self.SIZE, [("If-Range", '"other"')]))

    def test_conditionals_come_before_ranges(self):
        etag = '"%s"' % self.file["sha256"]
        self.assertEqual(self.ranged("bytes=0-0", [("If-None-Match", etag)]).status, 304)
        self.assertEqual(self.ranged("bytes=0-0", [("If-Match", '"other"')]).status, 412)
        self.assertEqual(self.ranged("bytes=%d-" % self.SIZE, [("If-None-Match", etag)]).status, 304)
        self.assert_part(self.ranged("bytes=0-0", [("If-Match", etag), ("If-None-Match", '"other"')]), 0, 0)

    def test_a_download_is_resumed_where_it_broke_off(self):
        for cut in (1, 7, self.SIZE // 2, self.SIZE - 1):
            rest = self.ranged("bytes=%d-" % cut, [("If-Range", '"%s"' % self.file["sha256"])])
            self.assert_part(rest, cut, self.SIZE - 1)

    def test_every_range_of_a_few_bytes_round_a_place(self):
        middle = self.SIZE // 2
        for first in range(middle - 3, middle + 3):
            for last in range(first, middle + 3):
                self.assert_part(self.ranged("bytes=%d-%d" % (first, last)), first, last)

    def test_ranges_are_taken_with_download_as_well(self):
        response = self.request("GET", self.file["url"] + "?download", {"Range": "bytes=0-4"})
        self.assert_part(response, 0, 4)


class RangesOfALargeFile(RangesOfASmallFile):
    SIZE = 3 * MIB + 17

    def test_large_parts_of_several_ranges(self):
        response = self.ranged("bytes=0-999999,1500000-2999999")
        self.assertEqual(response.status, 206)
        for _, first, last, _, data in parts_of(response):
            self.assertTrue(data == self.data[first:last + 1])


class RangesOfBinaryAndEmptyFiles(DepotCase):
    def test_bytes_of_every_value_come_exactly_in_several_ranges(self):
        data = bytes(range(256)) * 40 + b"\r\n--boundary\r\n\r\n" * 20
        file = self.put("binary.bin", data)
        response = self.request("GET", file["url"], {"Range": "bytes=0-4999,5001-%d" % (len(data) - 1)})
        self.assertEqual([part[4] for part in parts_of(response)], [data[:5000], data[5001:]])

    def test_an_empty_file_has_no_satisfiable_range(self):
        file = self.put("empty.bin", b"")
        for value in ("bytes=0-0", "bytes=0-", "bytes=5-9"):
            response = self.assert_status(self.request("GET", file["url"], {"Range": value}), 200, 416)
            if response.status == 416:
                self.assertEqual(response.headers["Content-Range"], "bytes */0")
        self.assert_status(self.request("GET", file["url"], {"Range": "bytes=-5"}), 200, 206, 416)


if __name__ == "__main__":
    unittest.main()
