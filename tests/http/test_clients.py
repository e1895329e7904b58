"""Real clients as people have them: curl, wget, Node's fetch, Python's http.client and urllib. Skipped where not installed."""

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

from depot_case import PNG, DepotCase, pattern_bytes, sha256
from depotd_server import seconds

MIB = 1 << 20


class ClientCase(DepotCase):
    program = None

    @classmethod
    def setUpClass(cls):
        if cls.program and shutil.which(cls.program) is None:
            raise unittest.SkipTest("%s is not installed" % cls.program)
        super().setUpClass()

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="depotd-client-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            out.write(data)
        return path

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as stored:
            return stored.read()

    def run_client(self, *command, input=None, status=0, environment=None):
        """Runs a program in the test's folder, without proxies or anybody's configuration."""
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        clean.update({"HOME": self.folder, "LC_ALL": "C.UTF-8", **(environment or {})})
        result = subprocess.run(command, cwd=self.folder, env=clean, input=input,
                                stdin=None if input is not None else subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds(60))
        if status is not None:
            self.assertEqual(result.returncode, status, "%s\n%s" % (result.stdout[:2000], result.stderr[-2000:]))
        return result


class CurlCase(ClientCase):
    program = "curl"

    def curl(self, *arguments, input=None, status=0):
        return self.run_client("curl", "-q", "-sS", "--max-time", str(seconds(50)), *arguments, input=input, status=status)

    def url(self, path="/files"):
        return self.server.url + path

    def uploaded(self, *arguments, input=None):
        """The file object, or the list of them, that curl printed after a 201."""
        result = self.curl("-w", "\n%{http_code}", *arguments, input=input)
        body, _, code = result.stdout.rpartition(b"\n")
        self.assertEqual(code, b"201", body)
        answer = json.loads(body)
        return answer["files"] if "files" in answer else answer

    def assert_is(self, file, name, data):
        self.assertEqual((file["name"], file["size"], file["sha256"]), (name, len(data), sha256(data)))
        self.assertEqual(self.content(file), data)


class Curl(CurlCase):
    # --- -T ---

    def test_curl_t_to_a_folder_appends_the_name(self):
        data = pattern_bytes(100_000)
        self.write("report q4.bin", data)
        self.assert_is(self.uploaded("-T", "report q4.bin", self.url("/files/")), "report q4.bin", data)

    def test_curl_t_to_a_name_stores_under_that_name(self):
        self.write("a.txt", b"hello")
        self.assert_is(self.uploaded("-T", "a.txt", self.url("/files/other.txt")), "other.txt", b"hello")

    def test_curl_t_from_standard_input_is_chunked(self):
        data = pattern_bytes(3 * MIB)
        self.assert_is(self.uploaded("-T", "-", self.url("/files/stdin.bin"), input=data), "stdin.bin", data)
        self.assert_is(self.uploaded("-T", ".", self.url("/files/stdin.bin"), input=b""), "stdin.bin", b"")

    def test_curl_t_of_several_files_stores_each(self):
        self.write("one.txt", b"1")
        self.write("two.txt", b"2")
        result = self.curl("-T", "{one.txt,two.txt}", self.url("/files/"))
        self.assertEqual(result.stdout.count(b'"id"'), 2)

    def test_curl_t_of_an_empty_file_stores_an_empty_file(self):
        self.write("empty", b"")
        self.assert_is(self.uploaded("-T", "empty", self.url("/files/")), "empty", b"")

    def test_curl_t_with_names_of_any_kind_keeps_them(self):
        for name in ("résumé – 文書 😀.txt", "100%.txt", "a+b&c=d;e.txt", "quo\"te'.txt", "#hash?.txt"):
            with self.subTest(name=name):
                self.write(name, b"x")
                self.assert_is(self.uploaded("-T", os.path.join(self.folder, name), self.url("/files/")), name, b"x")

    def test_curl_t_speaks_http_1_0(self):
        data = pattern_bytes(200_000)
        self.write("a.bin", data)
        self.assert_is(self.uploaded("--http1.0", "-T", "a.bin", self.url("/files/")), "a.bin", data)

    def test_curl_t_works_with_expect_and_without(self):
        data = pattern_bytes(2 * MIB)
        self.write("a.bin", data)
        for expect in ("Expect: 100-continue", "Expect:"):
            self.assert_is(self.uploaded("-H", expect, "-T", "a.bin", self.url("/files/")), "a.bin", data)

    def test_curl_t_gives_labels_in_the_query(self):
        self.write("a.txt", b"x")
        file = self.uploaded("-T", "a.txt",
                             self.url("/files/a.txt?tags=q4,draft&attr.project=apollo&visibility=public&expires_in=7d"))
        self.assertEqual((file["tags"], file["attributes"], file["visibility"]),
                         (["q4", "draft"], {"project": "apollo"}, "public"))

    def test_curl_data_binary_with_put_stores_the_bytes(self):
        self.write("a.bin", b"a\r\nb\0c")
        self.assert_is(self.uploaded("-X", "PUT", "--data-binary", "@a.bin", self.url("/files/a.bin")), "a.bin", b"a\r\nb\0c")

    def test_curl_with_a_limited_rate_is_waited_for(self):
        data = pattern_bytes(300_000)
        self.write("slow.bin", data)
        self.assert_is(self.uploaded("--limit-rate", "1M", "-T", "slow.bin", self.url("/files/")), "slow.bin", data)

    # --- -F ---

    def test_curl_f_with_a_file_stores_it(self):
        self.write("photo.png", PNG)
        (file,) = self.uploaded("-F", "file=@photo.png", self.url())
        self.assert_is(file, "photo.png", PNG)
        self.assertEqual(file["type"], "image/png")

    def test_curl_f_gives_another_name_and_type(self):
        self.write("a", b"\1\2\3")
        (file,) = self.uploaded("-F", "file=@a;filename=b;type=application/x-thing", self.url())
        self.assert_is(file, "b", b"\1\2\3")
        self.assertEqual(file["type"], "application/x-thing")

    def test_curl_f_with_several_files_and_text_labels_all_of_them(self):
        self.write("1.txt", b"one")
        self.write("2.txt", b"two")
        files = self.uploaded("-F", "file=@1.txt", "-F", "tags=q4", "-F", "file=@2.txt", "-F", "project=apollo", "-F",
                              "tags=x,y", self.url())
        self.assertEqual([(f["name"], f["tags"], f["attributes"]) for f in files],
                         [(n, ["q4", "x", "y"], {"project": "apollo"}) for n in ("1.txt", "2.txt")])

    def test_curl_f_with_text_from_a_file_makes_an_attribute(self):
        self.write("a.txt", b"x")
        self.write("note.txt", "line one\nline two – é".encode())
        (file,) = self.uploaded("-F", "note=<note.txt", "-F", "file=@a.txt", self.url())
        self.assertEqual(file["attributes"], {"note": "line one\nline two – é"})

    def test_curl_f_from_standard_input_stores_what_was_piped(self):
        (file,) = self.uploaded("-F", "file=@-;filename=piped.txt", self.url(), input=b"piped")
        self.assert_is(file, "piped.txt", b"piped")

    def test_curl_form_string_is_text_whatever_it_begins_with(self):
        self.write("a.txt", b"x")
        (file,) = self.uploaded("--form-string", "handle=@ann;type=x", "-F", "file=@a.txt", self.url())
        self.assertEqual(file["attributes"], {"handle": "@ann;type=x"})

    def test_curl_f_with_names_of_any_kind_in_both_ways_of_quoting_keeps_them(self):
        for name in ("résumé 😀.txt", 'quo"te.txt', "100%.txt", "semi;colon.txt", "%41.txt"):
            for escape in ((), ("--form-escape",)):
                with self.subTest(name=name, escape=escape):
                    self.write("plain", b"x")
                    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
                    (file,) = self.uploaded(*escape, "-F", 'file=@plain;filename="%s"' % quoted, self.url())
                    self.assert_is(file, name, b"x")

    def test_curl_f_with_two_files_under_one_field_loses_nothing(self):
        """curl sends them as multipart/mixed inside the form, which RFC 7578 deprecates: stored as two, or refused."""
        self.write("1.txt", b"one")
        self.write("2.txt", b"two")
        result = self.curl("-w", "\n%{http_code}", "-F", "file=@1.txt,2.txt", self.url())
        body, _, code = result.stdout.rpartition(b"\n")
        self.assertIn(code, (b"201", b"400"))
        if code == b"201":
            self.assertEqual(len(json.loads(body)["files"]), 2)

    def test_curl_f_with_a_large_file_works_with_expect_and_chunked(self):
        data = pattern_bytes(5 * MIB)
        self.write("large.bin", data)
        for header in ("Expect: 100-continue", "Transfer-Encoding: chunked", "Expect:"):
            with self.subTest(header=header):
                (file,) = self.uploaded("-H", header, "-F", "file=@large.bin", self.url())
                self.assert_is(file, "large.bin", data)

    def test_curl_f_speaks_http_1_0(self):
        data = pattern_bytes(100_000)
        self.write("old.bin", data)
        (file,) = self.uploaded("--http1.0", "-F", "file=@old.bin", self.url())
        self.assert_is(file, "old.bin", data)

    def test_curl_f_with_many_files_stores_them_in_order(self):
        arguments = []
        for i in range(200):
            arguments += ["-F", "file=@" + self.write("many-%d.txt" % i, b"%d" % i)]
        files = self.uploaded(*arguments, self.url())
        self.assertEqual([f["name"] for f in files], ["many-%d.txt" % i for i in range(200)])

    def test_curl_f_with_headers_of_its_own_in_a_part_is_stored(self):
        self.write("a.txt", b"x")
        (file,) = self.uploaded("-F", "file=@a.txt;headers=\"X-Custom: y\"", self.url())
        self.assert_is(file, "a.txt", b"x")

    def test_curl_f_with_an_encoder_is_undone_or_refused(self):
        self.write("a.txt", b"hello")
        result = self.curl("-w", "\n%{http_code}", "-F", "file=@a.txt;encoder=base64", self.url())
        body, _, code = result.stdout.rpartition(b"\n")
        if code == b"201":
            self.assert_is(json.loads(body)["files"][0], "a.txt", b"hello")
        else:
            self.assertIn(code, (b"400", b"415", b"501"))

    # --- downloads ---

    def test_a_broken_download_is_resumed(self):
        data = pattern_bytes(3 * MIB)
        file = self.put("big.bin", data)
        self.write("big.bin", data[:1_234_567])
        result = self.curl("-C", "-", "-o", "big.bin", "-w", "%{http_code} %{size_download}", self.url(file["url"]))
        self.assertEqual(result.stdout.decode(), "206 %d" % (len(data) - 1_234_567))
        self.assertTrue(self.read("big.bin") == data)

    def test_the_name_comes_from_the_server(self):
        for name in ("from-the-server.bin", "with blank.bin"):
            file = self.put(name, b"bytes")
            self.curl("-OJ", self.url(file["url"]))
            self.assertEqual(self.read(name), b"bytes")

    def test_curl_r_gets_single_and_several_ranges(self):
        file = self.put("r.txt", b"0123456789")
        for asked, expected in (("2-4", b"234"), ("-3", b"789"), ("7-", b"789")):
            self.assertEqual(self.curl("-r", asked, self.url(file["url"])).stdout, expected)
        self.assertIn(b"multipart/byteranges", self.curl("-i", "-r", "0-1,4-5", self.url(file["url"])).stdout)

    def test_a_file_kept_by_etag_or_time_is_not_sent_again(self):
        file = self.put("cached.txt", b"cached")
        url = self.url(file["url"])
        self.curl("--etag-save", "etag", "-o", "copy", "-R", url)
        result = self.curl("--etag-compare", "etag", "-o", "other", "-w", "%{http_code}", url)
        self.assertEqual(result.stdout, b"304")
        result = self.curl("-z", "copy", "-o", "other", "-w", "%{http_code}", url)
        self.assertEqual(result.stdout, b"304")

    def test_curl_looks_at_a_file_and_removes_it(self):
        file = self.put("h.txt", b"x")
        self.assertIn(b"200", self.curl("-I", self.url(file["url"])).stdout.splitlines()[0])
        result = self.curl("-X", "DELETE", "-w", "%{http_code}", self.url(file["url"]))
        self.assertEqual(result.stdout, b"204")
        self.assertEqual(self.curl("-f", self.url(file["url"]), status=22).stdout, b"")

    def test_curl_changes_a_name_by_patch(self):
        file = self.put("p.txt", b"x")
        result = self.curl("-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "-d", '{"name": "q.txt"}',
                           self.url(file["url"] + "/metadata"))
        self.assertEqual(json.loads(result.stdout)["name"], "q.txt")

    def test_one_connection_serves_many_transfers(self):
        self.write("a.txt", b"x")
        arguments = []
        for i in range(5):
            arguments += ["-T", "a.txt", self.url("/files/n%d" % i)]
        result = self.curl("-v", *arguments)
        self.assertEqual(result.stderr.count(b"Re-using existing connection"), 4, result.stderr)


class CurlRefused(CurlCase):
    settings = {"limits.max_upload": "1M"}

    def test_an_upload_over_the_limit_reads_413_in_every_way_of_sending(self):
        data = pattern_bytes(20 * MIB)
        self.write("over.bin", data)
        for arguments in (("-T", "over.bin", self.url("/files/")), ("-H", "Expect:", "-T", "over.bin", self.url("/files/")),
                          ("-F", "file=@over.bin", self.url()), ("-H", "Expect:", "-F", "file=@over.bin", self.url()),
                          ("-H", "Transfer-Encoding: chunked", "-T", "over.bin", self.url("/files/")),
                          ("--http1.0", "-T", "over.bin", self.url("/files/"))):
            with self.subTest(arguments=arguments):
                result = self.curl("-w", "\n%{http_code}", *arguments)
                body, _, code = result.stdout.rpartition(b"\n")
                self.assertEqual(code, b"413", result.stderr)
                self.assertEqual(json.loads(body)["status"], 413)
        self.assertEqual(self.all_files(), [])


class Wget(ClientCase):
    program = "wget"

    def wget(self, *arguments, status=0):
        return self.run_client("wget", "--no-config", "-q", "-T", str(seconds(40)), "-t", "1", *arguments, status=status)

    def test_wget_gets_the_bytes_of_a_file(self):
        data = pattern_bytes(2 * MIB)
        file = self.put("w.bin", data)
        self.wget("-O", "w.bin", self.server.url + file["url"])
        self.assertTrue(self.read("w.bin") == data)

    def test_a_broken_download_is_resumed(self):
        data = pattern_bytes(2 * MIB)
        file = self.put("w.bin", data)
        self.write("w.bin", data[:700_001])
        self.wget("-c", "-O", "w.bin", self.server.url + file["url"])
        self.assertTrue(self.read("w.bin") == data)

    def test_the_name_comes_from_the_server(self):
        file = self.put("named by the server.bin", b"x")
        self.wget("--content-disposition", self.server.url + file["url"])
        self.assertEqual(self.read("named by the server.bin"), b"x")

    def test_wget_stores_a_file_by_put(self):
        path = self.write("up.txt", b"up")
        self.wget("--method=PUT", "--body-file=" + path, "-O", "answer", self.server.url + "/files/up.txt")
        file = json.loads(self.read("answer"))
        self.assertEqual((file["name"], self.content(file)), ("up.txt", b"up"))

    def test_what_is_not_there_is_an_error_of_the_server(self):
        self.wget("-O", "none", self.server.url + "/nope", status=8)


class Node(ClientCase):
    program = "node"

    SCRIPT = r"""
const [url] = process.argv.slice(1);
const { createHash } = require('crypto');
const sha = (b) => createHash('sha256').update(b).digest('hex');
(async () => {
  if (typeof fetch !== 'function' || typeof FormData !== 'function') { console.log(JSON.stringify({skip: process.version})); return; }
  const out = {};
  const big = Buffer.alloc(3_000_000, 'node ');
  const form = new FormData();
  form.append('tags', 'q4');
  form.append('file', new Blob(['hello'], {type: 'text/plain'}), 'quo"te résumé 😀.txt');
  form.append('file', new Blob([big]));
  form.append('note', 'a\nb');
  let answer = await fetch(url + '/files', {method: 'POST', body: form});
  out.form = [answer.status, await answer.json()];
  out.big = sha(big);
  answer = await fetch(url + '/files/put.bin?tags=a', {method: 'PUT', body: big});
  out.put = [answer.status, await answer.json()];
  const stream = new ReadableStream({
    start(c) { for (let i = 0; i < 10; i++) c.enqueue(new Uint8Array(10000).fill(i)); c.close(); }});
  answer = await fetch(url + '/files/stream.bin', {method: 'PUT', body: stream, duplex: 'half'});
  out.stream = [answer.status, await answer.json()];
  answer = await fetch(url + out.put[1].url);
  out.get = sha(Buffer.from(await answer.arrayBuffer()));
  answer = await fetch(url + out.put[1].url, {headers: {Range: 'bytes=10-19'}});
  out.range = [answer.status, await answer.text()];
  answer = await fetch(url + out.put[1].url + '/metadata', {method: 'PATCH', body: JSON.stringify({tags: ['b']}),
    headers: {'Content-Type': 'application/merge-patch+json'}});
  out.patch = [answer.status, await answer.json()];
  answer = await fetch(url + out.put[1].url, {method: 'DELETE'});
  out.remove = answer.status;
  answer = await fetch(url + '/files?limit=0');
  out.refused = [answer.status, answer.headers.get('content-type')];
  console.log(JSON.stringify(out));
})().catch((e) => { console.error(e); process.exit(1); });
"""

    def test_fetch_with_formdata_buffers_and_streams(self):
        result = self.run_client("node", "-e", self.SCRIPT, "--", self.server.url)
        out = json.loads(result.stdout)
        if "skip" in out:
            self.skipTest("node %s has no fetch" % out["skip"])
        status, answer = out["form"]
        self.assertEqual(status, 201, answer)
        first, second = answer["files"]
        self.assertEqual((first["name"], first["sha256"], first["tags"]), ('quo"te résumé 😀.txt', sha256(b"hello"), ["q4"]))
        self.assertEqual((second["name"], second["sha256"]), ("blob", out["big"]))
        self.assertEqual(first["attributes"], {"note": "a\r\nb"})  # fetch sends line breaks as CR LF
        self.assertEqual((out["put"][0], out["put"][1]["sha256"]), (201, out["big"]))
        self.assertEqual((out["stream"][0], out["stream"][1]["size"]), (201, 100_000))
        self.assertEqual(out["get"], out["big"])
        self.assertEqual(out["range"], [206, "node node "])
        self.assertEqual((out["patch"][0], out["patch"][1]["tags"]), (200, ["b"]))
        self.assertEqual(out["remove"], 204)
        self.assertEqual(out["refused"], [400, "application/problem+json"])


class PythonHttpClient(ClientCase):
    def connection(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=seconds(30))
        self.addCleanup(connection.close)
        return connection

    def test_http_client_sends_bytes_files_and_iterables(self):
        data = pattern_bytes(500_000)
        path = self.write("a.bin", data)
        connection = self.connection()
        with open(path, "rb") as stored:
            for body in (data, stored, iter([data[:1000], data[1000:]])):
                connection.request("PUT", "/files/a.bin", body)
                response = connection.getresponse()
                self.assertEqual(response.status, 201)
                self.assertEqual(json.loads(response.read())["sha256"], sha256(data))

    def test_one_connection_for_everything(self):
        connection = self.connection()
        connection.request("PUT", "/files/one.txt", b"one")
        file = json.loads(connection.getresponse().read())
        for method, target, status in (("GET", file["url"], 200), ("HEAD", file["url"], 200),
                                       ("GET", file["url"] + "/metadata", 200), ("GET", "/files", 200),
                                       ("GET", "/nope", 404), ("GET", "/", 200), ("GET", "/metrics", 200),
                                       ("DELETE", file["url"], 204), ("GET", file["url"], 404)):
            connection.request(method, target)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status, (method, target))
            self.assertFalse(response.will_close, (method, target))

    def test_urllib_reads_a_file(self):
        file = self.put("u.txt", b"urllib")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.server.url + file["url"], timeout=seconds(20)) as response:
            self.assertEqual(response.read(), b"urllib")
            self.assertEqual(response.info().get_content_disposition(), "inline")


class PythonRefused(ClientCase):
    settings = {"limits.max_upload": "1M"}

    def test_a_client_that_sends_everything_before_it_reads_gets_413(self):
        for size in (MIB + 1, 4 * MIB):
            connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=seconds(30))
            self.addCleanup(connection.close)
            connection.request("PUT", "/files/over.bin", pattern_bytes(size))
            response = connection.getresponse()
            self.assertEqual(response.status, 413)
            self.assertEqual(json.loads(response.read())["status"], 413)


if __name__ == "__main__":
    unittest.main()
