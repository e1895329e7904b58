"""Conditional requests: RFC 9110 §13, and the precedence of §13.2.2 as a table."""

import datetime
import time
import unittest

from depot_case import DepotCase, http_date, parse_time

OTHER = '"0000000000000000000000000000000000000000000000000000000000000000"'


class ConditionalDownloads(DepotCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.server.put("conditional.txt", b"conditional")
        cls.etag = '"%s"' % cls.file["sha256"]
        moment = parse_time(cls.file["created_at"]).replace(microsecond=0)
        cls.now = http_date(moment)
        cls.before = http_date(moment - datetime.timedelta(seconds=1))
        cls.long_before = http_date(moment - datetime.timedelta(days=400))
        cls.after = http_date(moment + datetime.timedelta(seconds=1))
        cls.moment = moment

    def status(self, *headers, method="GET"):
        return self.request(method, self.file["url"], headers).status

    def assert_table(self, rows):
        for *headers, expected in rows:
            for method in ("GET", "HEAD"):
                with self.subTest(headers=headers, method=method):
                    self.assertEqual(self.status(*headers, method=method), expected)

    def test_if_match_compares_strongly_over_a_list(self):
        self.assert_table([
            (("If-Match", self.etag), 200), (("If-Match", "*"), 200), (("If-Match", OTHER), 412),
            (("If-Match", OTHER + ", " + self.etag), 200), (("If-Match", OTHER + "," + self.etag + ","), 200),
            (("If-Match", "W/" + self.etag), 412), (("If-Match", OTHER), ("If-Match", self.etag), 200),
            (("If-Match", OTHER + ', "a,b"'), 412)])

    def test_if_none_match_compares_weakly_over_a_list(self):
        self.assert_table([
            (("If-None-Match", self.etag), 304), (("If-None-Match", "W/" + self.etag), 304), (("If-None-Match", "*"), 304),
            (("If-None-Match", OTHER), 200), (("If-None-Match", OTHER + ", W/" + self.etag), 304),
            (("If-None-Match", '"a,b" , ' + self.etag), 304), (("If-None-Match", OTHER), ("If-None-Match", self.etag), 304),
            (("If-None-Match", '"a,%s,b"' % self.etag[1:-1]), 200)])

    def test_if_modified_since_compares_with_last_modified(self):
        self.assert_table([
            (("If-Modified-Since", self.now), 304), (("If-Modified-Since", self.after), 304),
            (("If-Modified-Since", self.before), 200),
            (("If-Modified-Since", self.long_before), 200)])

    def test_if_unmodified_since_compares_with_last_modified(self):
        self.assert_table([
            (("If-Unmodified-Since", self.now), 200), (("If-Unmodified-Since", self.after), 200),
            (("If-Unmodified-Since", self.before), 412),
            (("If-Unmodified-Since", self.long_before), 412)])

    def test_the_four_conditionals_have_the_precedence_of_rfc_9110(self):
        yes, no = ("If-Match", self.etag), ("If-Match", OTHER)
        same, changed = ("If-None-Match", self.etag), ("If-None-Match", OTHER)
        since_now, since_before = ("If-Modified-Since", self.now), ("If-Modified-Since", self.before)
        unmodified_now, unmodified_before = ("If-Unmodified-Since", self.now), ("If-Unmodified-Since", self.before)
        self.assert_table([
            (yes, unmodified_before, 200),                        # If-Match hides If-Unmodified-Since
            (no, unmodified_now, 412),
            (changed, since_now, 200),                            # If-None-Match hides If-Modified-Since
            (same, since_before, 304),
            (yes, same, 304), (yes, changed, 200), (no, same, 412), (no, changed, 412),
            (unmodified_now, same, 304), (unmodified_before, same, 412), (unmodified_before, changed, 412),
            (unmodified_now, since_now, 304), (unmodified_now, since_before, 200), (unmodified_before, since_now, 412),
            (yes, since_now, 304), (yes, since_before, 200), (no, since_now, 412),
            (yes, unmodified_before, changed, since_now, 200), (yes, unmodified_before, same, since_before, 304),
            (no, unmodified_now, same, since_now, 412)])

    def test_dates_in_all_three_formats_are_understood(self):
        rfc850 = self.moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")
        asctime = time.asctime(self.moment.timetuple())
        old = self.moment - datetime.timedelta(days=400)
        for format in (rfc850, asctime):
            with self.subTest(format=format):
                self.assertEqual(self.status(("If-Modified-Since", format)), 304)
                self.assertEqual(self.status(("If-Unmodified-Since", format)), 200)
        for format in (old.strftime("%A, %d-%b-%y %H:%M:%S GMT"), time.asctime(old.timetuple())):
            with self.subTest(format=format):
                self.assertEqual(self.status(("If-Modified-Since", format)), 200)
                self.assertEqual(self.status(("If-Unmodified-Since", format)), 412)

    def test_dates_that_are_none_are_ignored(self):
        for date in ("yesterday", "", "Thu, 32 Jan 2026 00:00:00 GMT", "2026-11-22T00:00:00Z", "0",
                     "Mon, 01 Foo 2026 00:00:00 GMT", "x" * 2000,
                     "Thu, 01 Jan 1970 25:00:00 GMT", "1764000000"):
            with self.subTest(date=date):
                self.assertEqual(self.status(("If-Modified-Since", date)), 200)
                self.assertEqual(self.status(("If-Unmodified-Since", date)), 200)

    def test_a_malformed_if_none_match_harms_nothing(self):
        for value in ("", ",", "unquoted", '"open', 'W/', '""', self.etag[1:-1], '"' * 100):
            with self.subTest(value=value):
                self.assertEqual(self.status(("If-None-Match", value)), 200)

    def test_304_has_the_validators_and_no_body(self):
        connection = self.connect()
        response = connection.exchange("GET", self.file["url"], [("If-None-Match", self.etag)])
        self.check(response)
        self.assertEqual(response.status, 304)
        self.assertEqual(response.headers["ETag"], self.etag)
        whole = connection.exchange("GET", self.file["url"])
        for name in ("Cache-Control", "Content-Location", "Expires", "Vary"):
            self.assertEqual(response.headers.get(name), whole.headers.get(name))
        self.assertEqual(whole.body, b"conditional")

    def test_412_is_a_problem_document(self):
        self.assert_refused(self.request("GET", self.file["url"], {"If-Match": OTHER}), status=412)

    def test_of_what_is_not_there_no_condition_is_true(self):
        url = "/files/0192f0c1-0000-7000-8000-000000000000"
        for header in (("If-Match", "*"), ("If-None-Match", "*"), ("If-None-Match", OTHER), ("If-Modified-Since", self.now)):
            self.assert_status(self.request("GET", url, [header]), 404, 412)


if __name__ == "__main__":
    unittest.main()
