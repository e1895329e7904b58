"""The access log: one line for each request, in a form that programs which read such logs understand, and true."""

import json
import re
import unittest

import raw_http
from depot_case import DepotCase, wait_until

# Apache's "combined", with the request id and the seconds behind it.
COMBINED = re.compile(r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "([^"]*)" (\d{3}) (\d+) '
                      r'"([^"]*)" "([^"]*)" ([0-9a-f-]{36}) (\d+\.\d{6})\Z')


class AccessLog(DepotCase):
    def lines(self, server, n):
        return wait_until(lambda: (lambda all: all if len(all) >= n else None)(server.stdout.splitlines()),
                          "there are %d lines" % n)

    def test_a_combined_line_has_the_date_of_the_common_log_format(self):
        with self.own_server({"log.access": "combined"}) as server:
            self.request("GET", "/healthz", [("User-Agent", 'a "quoted" \\ agent')])
            line = self.lines(server, 1)[0]
        match = COMBINED.match(line)
        self.assertTrue(match, line)
        self.assertEqual(match[3], "GET /healthz HTTP/1.1")
        self.assertEqual(match[4], "200")
        self.assertEqual(match[7], "a \\x22quoted\\x22 \\x5C agent")

    # They were logged, and counted, as 200.
    def test_a_request_whose_client_left_before_the_answer_is_499_and_no_success(self):
        with self.own_server({"log.access": "json"}) as server:
            connection = self.connect()
            connection.send(raw_http.encode_request("PUT", "/files/half", [("Content-Length", "100000")]) + b"half of it")
            connection.close()
            line = json.loads(self.lines(server, 1)[0])
            metrics = self.request("GET", "/metrics").body.decode()
        self.assertEqual((line["method"], line["status"], line["complete"]), ("PUT", 499, False))
        self.assertIn('depotd_http_requests_total{method="PUT",code="499"} 1\n', metrics)
        self.assertIn('depotd_http_requests_total{method="PUT",code="200"} 0\n', metrics)


if __name__ == "__main__":
    unittest.main()
