"""POST /files with multipart/form-data: the parts and their order, names, labels, all or none, and broken forms."""

import unittest

import raw_http
from depot_case import (BROWSER, NO_SIGNATURE, PNG, DepotCase, binary_is_sanitized, digest_field, forget_peak_memory,
                        on_both_stores, parse_time, pattern_bytes, pattern_pieces, peak_memory, sha256)
from form_data import BOUNDARY, Part, content_type, encode_form, field, file, no_file_chosen

MIB = 1 << 20
MARK = ("--" + BOUNDARY).encode()


@on_both_stores
class WhatAFormStores(DepotCase):
    def test_one_file_is_answered_with_a_list_of_one_and_its_location(self):
        for target in ("/files", "/"):
            with self.subTest(target=target):
                response = self.post([file("file", "a.txt", b"hello", "text/plain")], target)
                self.assertEqual(response.status, 201)
                self.assertEqual(list(response.json()), ["files"])
                (stored,) = response.json()["files"]
                self.assert_file_object(stored)
                self.assertEqual((stored["name"], stored["size"], stored["sha256"]), ("a.txt", 5, sha256(b"hello")))
                self.assertTrue(response.headers["Location"].endswith(stored["url"]))
                self.assertEqual(self.content(stored), b"hello")

    def test_every_file_is_stored_in_the_order_of_the_form(self):
        names = ["z.txt", "a.txt", "m.txt", "a.txt"]
        stored = self.post_files([file("file", name, name.encode() + b"%d" % i) for i, name in enumerate(names)])
        self.assertEqual([f["name"] for f in stored], names)
        for i, f in enumerate(stored):
            self.assertEqual(self.content(f), names[i].encode() + b"%d" % i)

    def test_the_fields_of_files_may_have_any_names(self):
        stored = self.post_files([file("file", "1"), file("files[]", "2"), file("tags", "3"), file("été", "4"), file("", "5")])
        self.assertEqual([f["name"] for f in stored], ["1", "2", "3", "4", "5"])
        self.assertEqual([(f["tags"], f["attributes"]) for f in stored], [([], {})] * 5)

    def test_text_fields_hold_for_every_file_wherever_they_stand(self):
        stored = self.post_files([
            field("tags", "q4"), file("a", "a.txt"), field("project", "apollo"), file("b", "b.txt"),
            field("visibility", "public"),
            field("expires_in", "1h"), field("tags", "draft,late")])
        for f in stored:
            self.assertEqual((f["tags"], f["attributes"], f["visibility"]),
                             (["q4", "draft", "late"], {"project": "apollo"}, "public"))
            lasts = parse_time(f["expires_at"]) - parse_time(f["created_at"])
            self.assertAlmostEqual(lasts.total_seconds(), 3600, delta=5)
            self.assertEqual(self.metadata(f["id"]), f)

    def test_the_query_says_the_same_things_as_it_does_for_put(self):
        response = self.post([file("f", "a.txt"), field("tags", "field"), field("k", "field")],
                             target="/files?tags=one,two&attr.k=query&visibility=public&expires_in=1h")
        stored, = response.json()["files"]
        self.assertEqual((stored["tags"], stored["visibility"]), (["one", "two", "field"], "public"))
        self.assertEqual(stored["attributes"], {"k": ["query", "field"]})
        self.assertIsNotNone(stored["expires_at"])

    def test_a_query_that_says_something_else_is_refused(self):
        for query, mention in (("nonsense=1", "nonsense"), ("tags=" + "x" * 65, "tag"), ("attr.=1", "attr."), ("expires_in=soon", "expires_in")):
            with self.subTest(query=query), self.stores_nothing():
                self.assert_refused(self.post([file("f", "a.txt")], target="/files?" + query), mention)

    def test_any_other_text_field_becomes_an_attribute(self):
        (stored,) = self.post_files([file("f", "a.txt"), field("who", "ann"), field("who", "bob"), field("camera.lens.mm", "50"),
                                     field("note", "two\r\nlines – ünd"), field("n", "007"), field("empty", "")])
        self.assertEqual(stored["attributes"], {"who": ["ann", "bob"], "camera": {"lens": {"mm": "50"}},
                                                "note": "two\r\nlines – ünd", "n": "007", "empty": ""})
        self.assertEqual(self.metadata(stored["id"]), stored)

    def test_a_text_field_may_have_a_type(self):
        (stored,) = self.post_files([file("f", "a.txt"), Part("note", "ü", type="text/plain;charset=UTF-8")])
        self.assertEqual(stored["attributes"], {"note": "ü"})

    def test_labels_left_blank_are_as_if_they_were_not_there(self):
        """A browser sends every text input of a form, the blank ones too."""
        (stored,) = self.post_files([file("f", "a.txt"), field("tags", ""), field("expires_in", "")])
        self.assertEqual((stored["tags"], stored["expires_at"]), ([], None))

    def test_an_empty_file_is_a_file(self):
        (stored,) = self.post_files([file("f", "empty.txt", b"")])
        self.assertEqual((stored["name"], stored["size"], stored["sha256"]), ("empty.txt", 0, sha256(b"")))

    def test_a_file_input_that_was_left_alone_is_no_file(self):
        stored = self.post_files([no_file_chosen("a"), file("b", "b.txt"), no_file_chosen("c")])
        self.assertEqual([(f["name"], f["attributes"]) for f in stored], [("b.txt", {})])

    def test_hundreds_of_files_in_one_form_are_stored(self):
        parts = [file("f", "f%03d.txt" % i, b"%d" % i * i) for i in range(400)]
        stored = self.post_files(parts + [field("batch", "hundreds")])
        self.assertEqual([f["name"] for f in stored], ["f%03d.txt" % i for i in range(400)])
        self.assertEqual({f["attributes"]["batch"] for f in stored}, {"hundreds"})
        for i in (0, 1, 199, 399):
            self.assertEqual(self.content(stored[i]), b"%d" % i * i)

    def test_hundreds_of_text_fields_in_one_form_are_kept(self):
        (stored,) = self.post_files([field("k%d" % i, "v%d" % i) for i in range(300)] + [file("f", "a.txt")])
        self.assertEqual(stored["attributes"], {"k%d" % i: "v%d" % i for i in range(300)})

    def test_the_type_is_decided_as_for_a_put(self):
        stored = self.post_files([file("a", "lies.txt", PNG, "text/html"), file("b", "t.csv", b"a,b", "application/x-client"),
                                  file("c", "noextension", NO_SIGNATURE, "application/x-client"),
                                  Part("d", NO_SIGNATURE, filename="noextension")])
        self.assertEqual([f["type"] for f in stored], ["image/png", "text/csv", "application/x-client",
                                                       "application/octet-stream"])

    def test_several_files_have_no_single_location(self):
        response = self.post([file("a", "a.txt"), file("b", "b.txt")])
        self.assertEqual(response.status, 201)
        self.assertNotIn("Location", response.headers)


class TheAnswerForABrowser(DepotCase):
    def test_a_plain_form_is_answered_with_303_to_a_page(self):
        for target in ("/files", "/"):
            with self.subTest(target=target):
                response = self.post([file("file", "from-a-browser.txt")], target, BROWSER)
                self.assertEqual(response.status, 303)
                page = self.get(response.headers["Location"], BROWSER)
                self.assertEqual((page.status, page.media_type), (200, "text/html"))

    def test_what_does_not_prefer_html_gets_201(self):
        for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", None):
            with self.subTest(accept=accept):
                response = self.post([file("file", "a.txt")], headers=[("Accept", accept)] if accept else [])
                self.assertEqual(response.status, 201)

    def test_a_form_without_a_file_gets_a_page_with_400(self):
        response = self.post([no_file_chosen()], headers=BROWSER)
        self.assertEqual((response.status, response.media_type), (400, "text/html"))


class ContentOfAPart(DepotCase):
    def test_bytes_that_look_like_a_boundary_are_content(self):
        boundary = BOUNDARY.encode()
        for data in (b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n-", b"\r\n--", b"\r\n--" + boundary[:-1],
                     b"x" + MARK, b"\n" + MARK, b"\r" + MARK, b"\r\n-" + MARK, b"\r\n " + MARK,
                     b"\r\r\n--" + boundary[:-1] + b"\r\n",
                     b"\r\n--" + boundary[:20] + b"\r\n--" + boundary[:30], b"\r\n--\r\n--\r\n", b"\0" * 100, b"\r\n" * 1000,
                     b"\r" * 1000, (b"\r\n--" + boundary[:-1]) * 100, bytes(range(256)) * 300):
            with self.subTest(data=data[:60]):
                (stored,) = self.post_files([file("f", "tricky.bin", data)])
                self.assertEqual(stored["size"], len(data))
                self.assertEqual(self.content(stored), data)

    def test_content_that_begins_like_the_delimiter_without_its_line_break_is_content(self):
        data = MARK + b"\r\nnot a part"
        body = b"%s\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nx%s\r\n%s--\r\n" % (MARK, data, MARK)
        (stored,) = self.post_files(body)
        self.assertEqual(self.content(stored), b"x" + data)

    def test_every_size_round_the_buffers_comes_back(self):
        for size in (1, 2, 3, 4095, 4096, 4097, 16383, 16384, 16385, 65535, 65536, 65537, 524288, MIB + 1):
            with self.subTest(size=size):
                data = pattern_bytes(size)
                stored = self.post_files([file("f", "a", data), file("g", "b", data[::-1])])
                self.assertEqual([f["sha256"] for f in stored], [sha256(data), sha256(data[::-1])])

    def test_memory_stays_constant_while_a_large_form_comes(self):
        pid, size = self.server.process.pid, 64 * MIB
        self.post_files([file("f", "warm.bin", pattern_bytes(4 * MIB))])
        head = MARK + b"\r\nContent-Disposition: form-data; name=\"f\"; filename=\"big.bin\"\r\n\r\n"
        tail = b"\r\n" + MARK + b"--\r\n"
        forget_peak_memory(pid)
        before = peak_memory(pid)
        connection = self.connect()
        connection.send(raw_http.encode_request("POST", "/files", [
            ("Content-Type", content_type()), ("Content-Length", str(len(head) + size + len(tail)))]) + head)
        connection.send_pieces(pattern_pieces(size))
        connection.send(tail)
        response = connection.read_response()
        self.assertEqual(response.status, 201)
        self.assertEqual(response.json()["files"][0]["sha256"], sha256(b"".join(pattern_pieces(size))))
        if not binary_is_sanitized():
            self.assertLess(peak_memory(pid) - before, 24 * MIB)


class HowAFormArrives(DepotCase):
    PARTS = [field("tags", "a"), file("f", "one.txt", b"one\r\n-"), file("f", "two.txt", b"\r\n--two"), field("tags", "b")]

    def assert_stored(self, response):
        self.assertEqual(response.status, 201, repr(response))
        files = response.json()["files"]
        self.assertEqual([(f["name"], f["sha256"], f["tags"]) for f in files],
                         [("one.txt", sha256(b"one\r\n-"), ["a", "b"]), ("two.txt", sha256(b"\r\n--two"), ["a", "b"])])

    def test_a_form_sent_byte_by_byte_is_stored(self):
        body = encode_form(self.PARTS)
        connection = self.connect()
        connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()),
                                                                   ("Content-Length", str(len(body)))]))
        connection.send_pieces(raw_http.in_pieces(body, 1))
        self.assert_stored(connection.read_response())

    def test_a_form_split_at_every_place_is_stored(self):
        body = encode_form([self.PARTS[0], self.PARTS[2]], "b0undary")
        connection = self.connect()
        head = raw_http.encode_request("POST", "/files", [("Content-Type", content_type("b0undary")),
                                                          ("Transfer-Encoding", "chunked")])
        for at in range(1, len(body)):
            connection.send(head + raw_http.chunked([body[:at], body[at:]]))
            response = connection.read_response()
            self.assertEqual(response.status, 201, "split at %d: %r" % (at, response))
            (stored,) = response.json()["files"]
            self.assertEqual((stored["name"], stored["sha256"], stored["tags"]), ("two.txt", sha256(b"\r\n--two"), ["a"]))

    def test_a_form_in_chunks_of_every_small_size_is_stored(self):
        body = encode_form(self.PARTS)
        connection = self.connect()
        for size in range(1, 40):
            connection.send(raw_http.encode_request("POST", "/files", [
                ("Content-Type", content_type()), ("Transfer-Encoding", "chunked")]) +
                raw_http.chunked(raw_http.in_pieces(body, size)))
            self.assert_stored(connection.read_response())

    def test_a_form_in_http_1_0_is_stored(self):
        body = encode_form(self.PARTS)
        connection = self.connect()
        connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type())], body, version="1.0"))
        self.assert_stored(connection.read_response())

    def test_a_form_with_expect_100_continue_is_stored(self):
        body = encode_form(self.PARTS)
        connection = self.connect()
        connection.send(raw_http.encode_request("POST", "/files", [
            ("Content-Type", content_type()), ("Content-Length", str(len(body))), ("Expect", "100-continue")]))
        self.assertEqual(connection.read_head().status, 100)
        connection.send(body)
        self.assert_stored(connection.read_response())

    def test_pipelined_forms_are_answered_in_order(self):
        connection = self.connect()
        request = raw_http.encode_request("POST", "/files", [("Content-Type", content_type())], encode_form(self.PARTS))
        connection.send(request * 10)
        for _ in range(10):
            self.assert_stored(connection.read_response())


class BoundariesAndWrapping(DepotCase):
    def post_with(self, type, body):
        return self.request("POST", "/files", [("Content-Type", type)], body)

    def test_preamble_and_epilogue_are_skipped(self):
        for preamble, epilogue in ((b"\r\n", b""), (b"This is a multi-part message.\r\n", b""), (b"", b"\r\nepilogue\r\n" * 10),
                                   (b"--no boundary\r\n" * 5, b"\r\n" + MARK + b"\r\nmore"), (b"", b""),
                                   (b"p" * 5000 + b"\r\n", b"")):
            with self.subTest(preamble=preamble[:20], epilogue=epilogue[:20]):
                (stored,) = self.post_files([file("f", "a.txt", b"x")], preamble=preamble, epilogue=epilogue)
                self.assertEqual(self.content(stored), b"x")

    def test_blanks_after_a_boundary_are_skipped(self):
        for padding in (b" ", b"\t", b"  \t "):
            with self.subTest(padding=padding):
                (stored,) = self.post_files([file("f", "a.txt", b"x")], padding=padding)
                self.assertEqual(self.content(stored), b"x")

    def test_the_boundary_may_be_quoted_or_not_and_its_parameter_in_any_case(self):
        body = encode_form([file("f", "a.txt")], "xyz")
        for type in ("multipart/form-data; boundary=xyz", "multipart/form-data; boundary=\"xyz\"",
                     "multipart/form-data;boundary=xyz",
                     "Multipart/Form-Data ; BOUNDARY=xyz", "multipart/form-data; charset=utf-8; boundary=xyz",
                     "multipart/form-data; boundary=xyz; charset=utf-8", "multipart/form-data; boundary=\"xyz\"; a=\"b;c\""):
            with self.subTest(type=type):
                self.assertEqual(self.post_with(type, body).status, 201)

    def test_a_quoted_boundary_may_have_every_character_that_rfc_2046_gives_it(self):
        for boundary in ("gc0pJq0M:08jU534c0p", "'()+_,-./:=?", "a b c", "=_NextPart_000_0001", "x" * 70, "0", "--", "----"):
            with self.subTest(boundary=boundary):
                response = self.post_with("multipart/form-data; boundary=\"%s\"" % boundary,
                                          encode_form([file("f", "a")], boundary))
                self.assertEqual(response.status, 201, repr(response))

    def test_a_bad_or_missing_boundary_is_refused(self):
        for type in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
                     "multipart/form-data; boundary=" + "x" * 71, "multipart/form-data; boundry=xyz"):
            with self.subTest(type=type), self.stores_nothing():
                self.assert_refused(self.post_with(type, encode_form([file("f", "a")], "x" * 71)))

    def test_another_type_of_body_is_refused(self):
        for type in ("application/x-www-form-urlencoded", "text/plain", "multipart/mixed; boundary=xyz", "application/json",
                     "multipart/form-datax; boundary=xyz"):
            with self.subTest(type=type), self.stores_nothing():
                self.assert_status(self.post_with(type, encode_form([file("f", "a")], "xyz")), 400, 415)

    def test_a_body_without_a_type_is_refused(self):
        with self.stores_nothing():
            self.assert_status(self.request("POST", "/files", (), encode_form([file("f", "a")])), 400, 415)


class HeadersOfAPart(DepotCase):
    def stored(self, *lines, data=b"x"):
        body = MARK + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + data + b"\r\n" + MARK + b"--\r\n"
        (stored,) = self.post_files(body)
        self.assertEqual(self.content(stored), data)
        return stored

    def name_of(self, disposition):
        if isinstance(disposition, str):
            disposition = disposition.encode("utf-8")
        return self.stored(b"Content-Disposition: " + disposition)["name"]

    def test_names_in_every_notation_are_understood(self):
        for disposition, name in (
                ('form-data; name="f"; filename="plain.txt"', "plain.txt"),
                ('form-data; name=f; filename=token.txt', "token.txt"),
                ('form-data;name="f";filename="tight.txt"', "tight.txt"),
                ('form-data; filename="first.txt"; name="f"', "first.txt"),
                ('FORM-DATA; NAME="f"; FILENAME="case.txt"', "case.txt"),
                ('form-data; name="f"; filename="semi;colon=x.txt"', "semi;colon=x.txt"),
                ('form-data; name="f"; filename="name=\'x\'.txt"', "name='x'.txt"),
                ('form-data; name="f"; filename="résumé – 文書 😀.txt"', "résumé – 文書 😀.txt"),
                ('form-data; name="f"; filename="e\u0301.txt"', "e\u0301.txt"),
                ('form-data; name="f"; filename="100%.txt"', "100%.txt"),
                ('form-data; name="f"; filename="%41%2F%00.txt"', "%41%2F%00.txt"),
                ('form-data; name="f"; filename="quo%22te.txt"', 'quo"te.txt'),
                ('form-data; name="f"; filename="quo\\"te.txt"', 'quo"te.txt'),
                ('form-data; name="f"; filename=" blanks .txt "', " blanks .txt "),
                ("form-data; name=\"f\"; filename*=UTF-8''r%C3%A9sum%C3%A9.txt", "résumé.txt"),
                ("form-data; name=\"f\"; filename*=utf-8'en'%e2%82%ac%20rates.txt", "€ rates.txt"),
                ("form-data; name=\"f\"; filename=\"resume.txt\"; filename*=UTF-8''r%C3%A9sum%C3%A9.txt", "résumé.txt"),
                ("form-data; name=\"f\"; filename*=UTF-8''r%C3%A9sum%C3%A9.txt; filename=\"resume.txt\"", "résumé.txt")):
            with self.subTest(disposition=disposition):
                self.assertEqual(self.name_of(disposition), name)

    def test_of_a_path_the_last_component_counts(self):
        for path, name in (("C:\\Documents and Settings\\me\\temp\\new.txt", "new.txt"), ("/var/tmp/b.txt", "b.txt"),
                           ("..\\..\\up.txt", "up.txt"), ("../../up.txt", "up.txt"), ("photos/2026/c.jpg", "c.jpg"),
                           ("\\\\server\\share\\x.doc", "x.doc"), ("folder/", "unnamed")):
            with self.subTest(path=path):
                self.assertEqual(self.name_of(b'form-data; name="f"; filename="%s"' % path.encode()), name)

    def test_a_path_in_filename_star_is_cut_as_well(self):
        self.assertEqual(self.name_of("form-data; name=\"f\"; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"), "passwd")
        self.assertEqual(self.name_of("form-data; name=\"f\"; filename*=UTF-8''C%3A%5Cx%5Cy.txt"), "y.txt")

    def test_bad_names_are_refused(self):
        for filename in (b"a\x01b", b"a\x7fb", b"a\tb", b"a\xc2\x85b", b"caf\xe9.txt", b"\xc0\xaf", b"\xed\xa0\x80", b"x" * 256,
                         "😀".encode() * 256):
            with self.subTest(filename=filename[:20]), self.stores_nothing():
                body = b'%s\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\nx\r\n%s--\r\n' % (MARK, filename,
                                                                                                                MARK)
                self.assert_refused(self.post(body))

    def test_bad_names_in_filename_star_are_refused(self):
        for value in ("UTF-8''a%00b", "UTF-8''%ff", "UTF-8''%0d%0aX: y", "UTF-8''%", "UTF-8''%4", "UTF-8''" + "a" * 256):
            with self.subTest(value=value[:20]), self.stores_nothing():
                body = ("--%s\r\nContent-Disposition: form-data; name=\"f\"; filename*=%s\r\n\r\nx\r\n--%s--\r\n"
                        % (BOUNDARY, value, BOUNDARY)).encode()
                self.assert_refused(self.post(body))

    def test_255_characters_are_a_name_whatever_their_bytes(self):
        for character in ("a", "é", "😀"):
            with self.subTest(character=character):
                name = character * 255
                self.assertEqual(self.name_of('form-data; name="f"; filename="%s"' % name), name)

    def test_line_breaks_that_a_browser_encodes_never_become_part_of_a_name(self):
        body = encode_form([file("f", "a\r\nb.txt")])
        self.assertIn(b"a%0D%0Ab.txt", body)
        response = self.assert_status(self.post(body), 201, 400)
        if response.status == 201:
            self.assertNotRegex(response.json()["files"][0]["name"], "[\r\n]")

    def test_headers_of_a_part_come_in_any_case_and_order_and_unknown_ones_are_skipped(self):
        stored = self.stored(b"content-type: application/x-client", b"X-Unknown: y; filename=\"no.txt\"", b"content-LENGTH: 7",
                             b"content-disposition:form-data; name=\"f\"; filename=\"yes\"", data=NO_SIGNATURE)
        self.assertEqual((stored["name"], stored["type"]), ("yes", "application/x-client"))

    def test_a_folded_header_is_one_line(self):
        self.assertEqual(self.stored(b"Content-Disposition: form-data;", b" name=\"f\";", b"\tfilename=\"folded.txt\"")["name"],
                         "folded.txt")

    def test_an_encoding_that_changes_nothing_is_taken(self):
        for encoding in (b"binary", b"8bit", b"7bit", b"BINARY"):
            with self.subTest(encoding=encoding):
                self.stored(b'Content-Disposition: form-data; name="f"; filename="a"', b"Content-Transfer-Encoding: " + encoding)

    def test_an_encoding_that_would_have_to_be_undone_is_not_stored_as_it_is(self):
        body = (b'%s\r\nContent-Disposition: form-data; name="f"; filename="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
                b'aGVsbG8=\r\n%s--\r\n' % (MARK, MARK))
        response = self.assert_status(self.post(body), 201, 400, 415, 501)
        if response.status == 201:
            self.assertEqual(self.content(response.json()["files"][0]), b"hello")

    def test_headers_of_a_part_are_bounded(self):
        for line in (b"X-Long: " + b"x" * MIB, b"\r\n".join(b"X-%d: y" % i for i in range(20000))):
            with self.stores_nothing():
                body = (b'%s\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n%s\r\n\r\nx\r\n%s--\r\n'
                        % (MARK, line, MARK))
                self.assert_status(self.post(body), 400, 413, 431)


@on_both_stores
class AllOrNone(DepotCase):
    GOOD = [file("a", "good.txt", b"good" * 50_000), file("b", "also good.txt", b"small")]

    def refuse(self, parts, *mentions, status=400):
        with self.stores_nothing():
            self.assert_refused(self.post(parts), *mentions, status=status)

    def test_a_bad_name_after_good_files_stores_none_of_them(self):
        self.refuse(self.GOOD + [file("c", "bad\x01.txt")])

    def test_a_bad_digest_after_good_files_stores_none_of_them(self):
        self.refuse(self.GOOD + [file("c", "c.txt", b"c", headers=["Content-Digest: " + digest_field(b"else")])])

    def test_a_bad_label_after_good_files_stores_none_of_them(self):
        self.refuse(self.GOOD + [field("expires_in", "never again")], "expires_in")
        self.refuse(self.GOOD + [field("visibility", "secret")], "visibility")
        self.refuse(self.GOOD + [field("tags", "x" * 65)], "tag")
        self.refuse(self.GOOD + [Part("note", b"caf\xe9")], "note")
        self.refuse(self.GOOD + [Part("note", b"a\0b")], "note")

    def test_a_form_that_ends_too_early_stores_nothing(self):
        whole = encode_form(self.GOOD)
        for cut in (len(MARK) + 6, len(MARK) + 4, len(MARK) // 2 + 5, 10, 4, 3):
            with self.subTest(cut=cut):
                self.refuse(whole[:-cut])
        self.refuse(whole[:len(whole) // 2])

    def test_a_part_that_is_no_form_data_spoils_the_whole_form(self):
        self.refuse(encode_form(self.GOOD)[:-len(MARK) - 4] + MARK + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n" + MARK + b"--\r\n")
        self.refuse(self.GOOD + [Part(disposition='attachment; filename="x.txt"', data=b"x")])
        self.refuse(self.GOOD + [Part(disposition='form-data; filename="x.txt"', data=b"x")])

    def test_a_header_line_without_colon_spoils_the_whole_form(self):
        self.refuse(encode_form(self.GOOD)[:-len(MARK) - 4] + MARK + b"\r\nnonsense\r\n\r\nx\r\n" + MARK + b"--\r\n")

    def test_a_client_that_goes_away_after_whole_files_leaves_none_of_them(self):
        whole = encode_form(self.GOOD)
        with self.stores_nothing():
            connection = self.connect()
            connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()),
                                                                       ("Content-Length", str(len(whole)))]))
            connection.send(whole[:-10])
            connection.reset()


class FormsWithoutAFile(DepotCase):
    def test_a_form_without_a_file_is_refused(self):
        for what, parts in (("only text", [field("tags", "a")]), ("no file chosen", [no_file_chosen()]),
                            ("text and no file chosen", [field("tags", "a"), no_file_chosen()]), ("no parts", [])):
            with self.subTest(what=what), self.stores_nothing():
                self.assert_refused(self.post(parts))

    def test_an_empty_body_is_refused(self):
        with self.stores_nothing():
            self.assert_refused(self.post(b""))

    def test_a_body_that_is_no_form_is_refused(self):
        for body in (b"hello", b"\r\n" * 100, b"--", MARK, MARK + b"--", MARK + b"\r\n", b"x" * MIB, b"a=b&c=d"):
            with self.subTest(body=body[:20]), self.stores_nothing():
                self.assert_refused(self.post(body))

    def test_the_connection_lives_on_after_a_broken_form(self):
        connection = self.connect()
        for body in (b"hello", encode_form([field("tags", "a")]), encode_form([file("f", "a\x01")]), b"x" * 100_000,
                     encode_form([file("f", "a\x01"), file("g", "b", b"x" * 100_000)])):
            response = connection.exchange("POST", "/files", [("Content-Type", content_type())], body)
            self.assertEqual(response.status, 400)
            self.assertTrue(response.keeps_alive)
        self.assertEqual(connection.exchange("GET", "/healthz").status, 200)


@on_both_stores
class DigestsOfAForm(DepotCase):
    def digested(self, line, data=b"part"):
        return [file("f", "a.txt", data, headers=[line]), file("g", "b.txt", b"other")]

    def test_the_digest_of_a_part_covers_the_part(self):
        for name in ("Content-Digest", "Repr-Digest"):
            with self.subTest(name=name):
                self.post_files(self.digested("%s: %s" % (name, digest_field(b"part"))))
                with self.stores_nothing():
                    self.assert_refused(self.post(self.digested("%s: %s" % (name, digest_field(b"tarp")))))

    def test_the_digest_of_a_field_covers_the_field(self):
        for name in ("Content-Digest", "Repr-Digest"):
            def with_digest_of(data):
                return [file("f", "a.txt"), Part("tags", "x,y", headers=["%s: %s" % (name, digest_field(data))])]
            with self.subTest(name=name):
                self.assertEqual(self.post_files(with_digest_of(b"x,y"))[0]["tags"], ["x", "y"])
                with self.stores_nothing():
                    self.assert_refused(self.post(with_digest_of(b"x,z")))

    def test_the_content_digest_of_the_request_covers_the_whole_body(self):
        body = encode_form([file("f", "a.txt", b"part"), file("g", "b.txt", b"other")])
        self.post_files(body, headers=[("Content-Digest", digest_field(body))])
        for wrong in (b"part", b"other", body + b" "):
            with self.stores_nothing():
                self.assert_refused(self.post(body, headers=[("Content-Digest", digest_field(wrong))]))

    def test_a_malformed_digest_of_a_part_is_refused(self):
        for value in ("sha-256=abc", "sha-256=:AAAA:", "nonsense here"):
            with self.subTest(value=value), self.stores_nothing():
                self.assert_refused(self.post(self.digested("Content-Digest: " + value)))


class LimitedForms(DepotCase):
    settings = {"limits.max_upload": "1M"}

    def test_a_body_over_the_limit_is_413_and_stores_nothing(self):
        with self.stores_nothing():
            self.assert_refused(self.post([file("a", "small.txt"), file("b", "large.bin", pattern_bytes(2 * MIB))]), status=413)

    def test_a_client_that_is_still_sending_reads_413(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()),
                                                                   ("Content-Length", str(64 * MIB))]))
        connection.send(MARK + b'\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n')
        connection.send_until_answered(pattern_pieces(63 * MIB))
        self.assert_refused(self.check(connection.read_response()), status=413)

    def test_a_chunked_form_over_the_limit_is_413_and_stores_nothing(self):
        """However its bytes are spread, it is the body that has a limit."""
        small, noise = file("a", "small.txt"), pattern_bytes(2 * MIB)
        for what, body in (("one file", encode_form([small, file("b", "large.bin", noise)])),
                           ("many files", encode_form([file("f%d" % i, "f%d" % i, noise[:100_000]) for i in range(20)])),
                           ("a preamble", encode_form([small], preamble=noise)), ("an epilogue", encode_form([small], epilogue=noise))):
            with self.subTest(what=what), self.stores_nothing():
                connection = self.connect()
                connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()),
                                                                           ("Transfer-Encoding", "chunked")]))
                connection.send_until_answered([raw_http.chunked(raw_http.in_pieces(body, 65536))])
                response = self.check(connection.read_response())
                self.assert_refused(response, status=413)
                self.assertFalse(response.keeps_alive)

    def test_a_chunked_form_of_exactly_the_limit_is_taken(self):
        rest = MIB - len(encode_form([file("a", "a.bin", b"")]))
        for more, status in ((0, 201), (1, 413)):
            with self.subTest(more=more):
                body = encode_form([file("a", "a.bin", pattern_bytes(rest + more))])
                connection = self.connect()
                connection.send(raw_http.encode_request("POST", "/files", [("Content-Type", content_type()), ("Transfer-Encoding", "chunked")]) +
                                raw_http.chunked(raw_http.in_pieces(body, 65536)))
                self.assertEqual(connection.read_response().status, status)


class RepeatedForms(DepotCase):
    def test_a_repeat_with_the_same_idempotency_key_gets_the_first_answer(self):
        headers = [("Idempotency-Key", '"form-once"')]
        parts = [file("a", "a.txt"), file("b", "b.txt")]
        first = self.post(parts, headers=headers)
        self.assertEqual(first.status, 201)
        with self.stores_nothing():
            again = self.post(parts, headers=headers)
        self.assertEqual((again.status, again.json()), (201, first.json()))


if __name__ == "__main__":
    unittest.main()
