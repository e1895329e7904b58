"""What operators and programs ask for: health, readiness, metrics, the description of the API, listeners, the end."""

import json
import re
import signal
import socket
import unittest

import raw_http
from depot_case import DepotCase, on_both_stores, pattern_bytes, wait_until
from depotd_server import DepotdServer, seconds
from postgres_cluster import PostgresCluster

METRIC = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? '
                    r'([+-]?(?:[0-9.]+(?:[eE][+-]?[0-9]+)?|Inf|NaN))(?: [0-9]+)?\Z')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')


def parse_metrics(text):
    """{(name, ((label, value), …)): number} of a Prometheus text exposition (0.0.4); AssertionError where it is none."""
    samples, types, helped, finished, current = {}, {}, set(), set(), None
    assert text.endswith("\n"), "the last line does not end"
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram", "summary", "untyped"), line
            assert name not in types, "a second TYPE: " + line
            types[name] = kind
        elif line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in helped, "a second HELP: " + line
            helped.add(name)
        elif line.startswith("#") or line == "":
            pass
        else:
            match = METRIC.match(line)
            assert match, "no sample: %r" % line
            labels = tuple(sorted(LABEL.findall(match[2] or "")))
            assert len({k for k, _ in labels}) == len(labels), "a label twice: " + line
            assert (match[1], labels) not in samples, "a sample twice: " + line
            base = re.sub(r"_(bucket|sum|count)\Z", "", match[1])
            family = base if types.get(base) in ("histogram", "summary") else match[1]
            assert family in types, "a sample before its TYPE: " + line
            if family != current:
                assert family not in finished, "a family in two places: " + line
                finished.add(current)
                current = family
            samples[match[1], labels] = float(match[3].replace("Inf", "inf"))
    for name, kind in types.items():
        if kind == "counter":
            assert all(v >= 0 for (n, _), v in samples.items() if n == name), name
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def check_histogram(name, samples):
    series = {}
    for (n, labels), value in samples.items():
        if n == name + "_bucket":
            rest = tuple(label for label in labels if label[0] != "le")
            (bound,) = [float(v.replace("Inf", "inf")) for k, v in labels if k == "le"]
            series.setdefault(rest, []).append((bound, value))
    for rest, buckets in series.items():
        buckets.sort()
        counts = [count for _, count in buckets]
        assert counts == sorted(counts), "%s%s does not add up" % (name, rest)
        assert buckets[-1][0] == float("inf"), "%s%s has no +Inf" % (name, rest)
        assert buckets[-1][1] == samples[name + "_count", rest], "%s%s: +Inf is not the count" % (name, rest)
        assert (name + "_sum", rest) in samples, "%s%s has no sum" % (name, rest)


@on_both_stores
class Health(DepotCase):
    def test_healthz_answers_while_the_server_lives(self):
        response = self.get("/healthz")
        self.assertEqual(response.status, 200)
        self.assertEqual(self.request("HEAD", "/healthz").status, 200)

    def test_readyz_names_each_part(self):
        response = self.get("/readyz")
        self.assertEqual((response.status, response.media_type), (200, "application/json"))
        text = response.text.lower()
        self.assertIn("data", text)
        self.assertIn("database", text)
        self.assertIsInstance(response.json(), dict)

    def test_health_and_readiness_are_not_kept_by_a_cache(self):
        for target in ("/healthz", "/readyz"):
            self.assertRegex(self.get(target).headers.get("Cache-Control", "no-store"), "no-store|no-cache|max-age=0")


class TheDatabaseAway(DepotCase):
    """With a PostgreSQL of its own, stopped and started again under the running server."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster()
        cls.cluster.start()
        cls.database = cls.cluster.create_database()
        cls.settings = {"database.connect_timeout": "500ms", "database.statement_timeout": "1s"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.cluster.remove()

    def test_readiness_goes_down_and_comes_back_and_life_goes_on(self):
        file = self.put("before.txt", b"before")
        self.assertEqual(self.get("/readyz").status, 200)
        self.cluster.stop()
        try:
            response = wait_until(lambda: (lambda r: r if r.status == 503 else None)(self.request("GET", "/readyz")),
                                  "readiness is down")
            self.assertIn("database", response.text.lower())
            self.assertEqual(self.get("/healthz").status, 200)
            for method, target in (("GET", "/files"), ("DELETE", file["url"])):
                refused = self.request(method, target)
                self.assert_refused(refused, status=503)
                self.assertRegex(refused.headers["Retry-After"], r"\A[0-9]+\Z")
        finally:
            self.cluster.start()
        wait_until(lambda: self.get("/readyz").status == 200, "readiness is back", 30)
        wait_until(lambda: self.get("/files").status == 200, "the list is back", 30)
        self.assertEqual(self.content(file), b"before")
        self.put("after.txt", b"after")

    # A 503 of /readyz is an answer, not an error document of the API.
    def check_problem(self, response):
        return {} if response.status == 503 and response.media_type == "application/json" else super().check_problem(response)


@on_both_stores
class Metrics(DepotCase):
    def samples(self):
        response = self.get("/metrics")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.media_type, "text/plain")
        return parse_metrics(response.text)

    def test_metrics_are_prometheus_text(self):
        self.assertIn("version=0.0.4", self.get("/metrics").headers["Content-Type"])
        for _ in range(2):
            self.assertGreater(len(self.samples()), 10)

    def test_metrics_stay_well_formed_while_all_kinds_of_requests_are_made(self):
        file = self.put("metrics.txt", b"x" * 1000)
        for method, target in (("GET", file["url"]), ("GET", "/nope"), ("GET", "/files?limit=0"), ("GET", "/files"),
                               ("GET", "/"), ("BREW", "/"),
                               ("GET", "/%3C%22%5C%0A"), ("DELETE", file["url"])):
            self.connect().exchange(method, target)
            self.samples()

    def test_counters_count_the_requests_made(self):
        before = self.samples()
        for _ in range(10):
            self.put("counted.txt", pattern_bytes(1000))
        def grown():
            after = self.samples()
            return [key for key in after if "request" in key[0] and after[key] - before.get(key, 0) >= 10]
        wait_until(grown, "the requests are counted")

    def test_an_id_or_a_name_is_no_label_of_a_metric(self):
        for i in range(5):
            file = self.put("label-%d.txt" % i, b"x")
            self.get(file["url"])
            self.get("/scan-%d" % i)
        text = self.get("/metrics").text
        for word in (file["id"], "label-", "scan-"):
            self.assertNotIn(word, text)


class OpenApi(DepotCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = cls.server.request("GET", "/openapi.json").json()

    def test_the_description_is_openapi_3_1(self):
        response = self.get("/openapi.json")
        self.assertEqual((response.status, response.media_type), (200, "application/json"))
        self.assertRegex(self.document["openapi"], r"\A3\.1\.\d+\Z")
        self.assertTrue(self.document["info"]["title"])
        self.assertTrue(self.document["info"]["version"])

    def test_every_endpoint_is_in_the_description(self):
        paths = {re.sub(r"\{[^}]*\}", "{}", path): {method for method in item if method in
                 ("get", "put", "post", "delete", "patch", "head", "options", "trace")} for path,
                 item in self.document["paths"].items()}
        for path, methods in (("/", {"get", "post"}), ("/files", {"get", "post"}), ("/files/{}", {"get", "put", "delete"}),
                              ("/files/{}/metadata", {"get", "patch"}), ("/healthz", {"get"}), ("/readyz", {"get"}),
                              ("/metrics", {"get"}),
                              ("/openapi.json", {"get"})):
            with self.subTest(path=path):
                found = set().union(*[m for p, m in paths.items() if p == path])
                self.assertLessEqual(methods, found)

    def test_every_reference_of_the_description_leads_somewhere(self):
        def walk(node):
            if isinstance(node, dict):
                if isinstance(node.get("$ref"), str):
                    target = self.document
                    self.assertTrue(node["$ref"].startswith("#/"))
                    for step in node["$ref"][2:].split("/"):
                        target = target[step.replace("~1", "/").replace("~0", "~")]
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for value in node:
                    walk(value)
        walk(self.document)

    def test_operation_ids_are_unique_and_every_operation_has_answers(self):
        ids = []
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method in ("get", "put", "post", "delete", "patch", "head"):
                    self.assertTrue(operation["responses"], path)
                    if "operationId" in operation:
                        ids.append(operation["operationId"])
        self.assertEqual(len(set(ids)), len(ids))

    def test_path_parameters_are_declared(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method not in ("get", "put", "post", "delete", "patch", "head"):
                    continue
                declared = set()
                for parameter in item.get("parameters", []) + operation.get("parameters", []):
                    if "$ref" in parameter:
                        parameter = self.document["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
                    if parameter["in"] == "path":
                        declared.add(parameter["name"])
                        self.assertTrue(parameter["required"])
                self.assertEqual(declared, set(re.findall(r"\{([^}]*)\}", path)), "%s %s" % (method, path))

    def test_the_file_object_it_describes_is_the_one_that_is_answered(self):
        file = self.put("described.txt", b"x")
        text = json.dumps(self.document)
        for member in file:
            self.assertIn('"%s"' % member, text)


class TheEnd(DepotCase):
    def running_upload(self, server):
        connection = raw_http.Connection((server.host, server.port), deadline=seconds(20))
        self.addCleanup(connection.close)
        connection.send(raw_http.encode_request("PUT", "/files/draining", [("Content-Length", "200000"),
                                                                           ("Expect", "100-continue")]))
        self.assertEqual(connection.read_head().status, 100)  # the server has it: it does not wait to be accepted
        connection.send(b"x" * 100_000)
        return connection

    def refuses_connections(self, server):
        try:
            with raw_http.Connection((server.host, server.port), deadline=seconds(5)) as connection:
                connection.send(raw_http.encode_request("GET", "/healthz"))
                return not connection.wait_for_end(seconds(5))
        except (ConnectionError, raw_http.ProtocolError):
            return True

    def test_a_running_upload_finishes_after_sigterm_and_new_connections_are_refused(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number), DepotdServer() as server:
                connection = self.running_upload(server)
                server.signal(number)
                wait_until(lambda: self.refuses_connections(server), "new connections are refused")
                connection.send(b"x" * 100_000)
                response = connection.read_response()
                self.assertEqual((response.status, response.json()["size"]), (201, 200_000))
                self.assertEqual(server.wait(), 0)
                server.start()
                self.assertEqual(server.request("GET", response.json()["url"]).body, b"x" * 200_000)

    def test_an_idle_connection_does_not_hold_up_the_end(self):
        with DepotdServer() as server:
            with raw_http.Connection((server.host, server.port)) as connection:
                self.assertEqual(connection.exchange("GET", "/healthz").status, 200)
                server.stop(20)

    def test_a_second_signal_ends_at_once(self):
        with DepotdServer() as server:
            self.running_upload(server)
            server.signal(signal.SIGTERM)
            wait_until(lambda: self.refuses_connections(server), "new connections are refused")
            server.signal(signal.SIGTERM)
            server.wait(20)

    def test_after_the_drain_timeout_what_still_runs_is_ended(self):
        with DepotdServer(flags=["--server.drain_timeout", "500ms"]) as server:
            connection = self.running_upload(server)
            server.signal(signal.SIGTERM)
            self.assertIsNotNone(server.wait(20))
            connection.wait_for_end()


class Listeners(unittest.TestCase):
    def test_several_addresses_are_served_ipv6_among_them(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as error:
            self.skipTest("no IPv6 loopback here: %s" % error)
        with DepotdServer(listen=["127.0.0.1:0", "[::1]:0"]) as server:
            self.assertEqual(len(server.addresses), 2)
            for address in server.addresses:
                with raw_http.Connection(address) as connection:
                    self.assertEqual(connection.exchange("GET", "/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
