"""PUT /files/NAME: what is stored, under which name and type, and what is refused so that nothing is stored."""

import concurrent.futures
import datetime
import select
import unittest

import form_data
import raw_http
from depot_case import (GIF, JPEG, MEMBERS, NO_SIGNATURE, PDF, PNG, WEBP, DepotCase, binary_is_sanitized, digest_field,
                        forget_peak_memory, on_both_stores, parse_time, pattern_bytes, pattern_pieces, peak_memory,
                        query, quote, sha256, wait_until)

MIB = 1 << 20


@on_both_stores
class WhatAPutStores(DepotCase):
    def test_the_answer_is_the_file_object_and_where_it_is(self):
        before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
        response = self.request("PUT", "/files/report.pdf", (), PDF)
        self.assertEqual(response.status, 201)
        self.assertEqual(response.media_type, "application/json")
        file = response.json()
        self.assert_file_object(file)
        self.assertEqual(file["name"], "report.pdf")
        self.assertEqual(file["size"], len(PDF))
        self.assertEqual(file["type"], "application/pdf")
        self.assertEqual(file["sha256"], sha256(PDF))
        self.assertEqual(file["visibility"], "private")
        self.assertEqual(file["tags"], [])
        self.assertEqual(file["attributes"], {})
        self.assertIsNone(file["expires_at"])
        self.assertIsNone(file["owner"])
        self.assertTrue(response.headers["Location"].endswith(file["url"]))
        self.assertLessEqual(before, parse_time(file["created_at"]))
        self.assertLessEqual(parse_time(file["created_at"]),
                             datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1))

    def test_the_members_come_in_the_order_of_the_documentation(self):
        response = self.request("PUT", "/files/order.txt", (), b"x")
        self.assertEqual(list(response.json()), MEMBERS)

    def test_ids_are_uuids_ordered_by_time(self):
        ids = [self.put("ordered", b"%d" % i)["id"] for i in range(5)]
        self.assertEqual([id[14] for id in ids], ["7"] * 5)
        self.assertEqual(ids, sorted(ids))

    def test_every_size_comes_back_as_it_went(self):
        for size in (0, 1, 2, 1023, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 524287, 524289, MIB + 1, 3 * MIB):
            with self.subTest(size=size):
                data = pattern_bytes(size)
                file = self.put("sized.bin", data)
                self.assertEqual(file["size"], size)
                self.assertEqual(file["sha256"], sha256(data))
                self.assertEqual(self.content(file), data)

    def test_an_empty_body_is_an_empty_file(self):
        file = self.put("empty.txt", b"")
        self.assertEqual((file["size"], file["sha256"]), (0, sha256(b"")))
        self.assertEqual(self.content(file), b"")

    def test_the_same_name_twice_makes_two_files(self):
        first, second = self.put("same.txt", b"one"), self.put("same.txt", b"two")
        self.assertNotEqual(first["id"], second["id"])
        self.assertEqual((self.content(first), self.content(second)), (b"one", b"two"))

    def test_the_same_bytes_twice_make_two_files(self):
        first, second = self.put("a.txt", b"twin"), self.put("b.txt", b"twin")
        self.assertNotEqual(first["id"], second["id"])
        self.assertEqual(first["sha256"], second["sha256"])

    def test_many_uploads_at_once_do_not_mix(self):
        def upload(i):
            data = pattern_bytes(100_000 + 7 * i, b"%d" % i)
            with raw_http.Connection(self.address) as connection:
                response = connection.exchange("PUT", "/files/at-once-%d" % i, (), data)
                return response.status, response.json(), data
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(upload, range(64)))
        self.assertEqual({status for status, _, _ in answers}, {201})
        self.assertEqual(len({file["id"] for _, file, _ in answers}), 64)
        for i, (_, file, data) in enumerate(answers):
            self.assertEqual((file["name"], file["sha256"]), ("at-once-%d" % i, sha256(data)))
            self.assertEqual(self.content(file), data)

    def test_what_was_stored_is_there_after_a_restart(self):
        file = self.put("kept.txt", b"kept", query(("tags", "a,b"), ("attr.k", "v")))
        self._drop_connection()
        self.server.stop()
        self.server.start()
        self.assertEqual(self.metadata(file["id"]), file)
        self.assertEqual(self.content(file), b"kept")


class FramingOfABody(DepotCase):
    def send_raw(self, data):
        connection = self.connect()
        connection.send(data)
        return self.check(connection.read_response("PUT"))

    def test_a_chunked_body_is_stored_without_its_chunking(self):
        data = pattern_bytes(200_000)
        for size in (1 << 20, 65536, 4096, 1000, 17):
            with self.subTest(size=size):
                pieces = raw_http.in_pieces(data[:size * 2000], size)
                head = raw_http.encode_request("PUT", "/files/chunks", [("Transfer-Encoding", "chunked")])
                response = self.send_raw(head + raw_http.chunked(pieces))
                self.assertEqual(response.status, 201)
                self.assertEqual(response.json()["sha256"], sha256(b"".join(pieces)))

    def test_chunks_of_one_byte_in_segments_of_their_own_are_put_together(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/drip", [("Transfer-Encoding", "chunked")]))
        connection.send_pieces(b"1\r\n%c\r\n" % byte for byte in b"drip by drip")
        connection.send(b"0\r\n\r\n")
        self.assertEqual(connection.read_response().json()["sha256"], sha256(b"drip by drip"))

    def test_chunk_extensions_and_trailers_are_no_content(self):
        head = raw_http.encode_request("PUT", "/files/trailers", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
        response = self.send_raw(head + raw_http.chunked([b"hello ", b"world"], b';name="va;lue"', b"X-Sum: 1\r\n"))
        self.assertEqual(response.status, 201)
        self.assertEqual(response.json()["sha256"], sha256(b"hello world"))

    def test_an_empty_chunked_body_is_an_empty_file(self):
        response = self.send_raw(raw_http.encode_request("PUT", "/files/none", [("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n")
        self.assertEqual((response.status, response.json()["size"]), (201, 0))

    def test_http_1_0_with_a_length_is_served(self):
        response = self.send_raw(b"PUT /files/old.txt HTTP/1.0\r\nContent-Length: 3\r\n\r\nold")
        self.assertEqual((response.status, response.json()["size"]), (201, 3))
        self.assertFalse(response.keeps_alive)

    def test_a_request_that_says_no_length_is_refused_and_what_follows_is_no_request(self):
        for version, more in ((b"1.0", b""), (b"1.0", b"Connection: keep-alive\r\n"), (b"1.1", b"Host: h\r\n"),
                              (b"1.1", b"Host: h\r\nExpect: 100-continue\r\n")):
            for line in (b"PUT /files/old.txt", b"POST /files"):
                with self.subTest(version=version, line=line, more=more), self.stores_nothing():
                    connection = self.connect()
                    connection.send(line + b" HTTP/" + version + b"\r\n" + more + b"\r\n" + raw_http.encode_request("PUT", "/files/hidden", [], b"x"))
                    response = connection.read_response()
                    self.assert_refused(response, "Content-Length", status=411)
                    self.assertFalse(response.keeps_alive)
                    self.assertEqual(connection.wait_for_end(), b"")

    def test_expect_100_continue_is_answered_before_the_body(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/expected", [("Content-Length", "5"), ("Expect", "100-continue")]))
        self.assertEqual(connection.read_head().status, 100)
        connection.send(b"hello")
        response = connection.read_response()
        self.assertEqual((response.status, response.json()["sha256"]), (201, sha256(b"hello")))

    def test_a_client_that_does_not_wait_for_the_100_is_served(self):
        response = self.send_raw(raw_http.encode_request("PUT", "/files/eager", [("Expect", "100-continue")], b"hello"))
        self.assertEqual(response.status, 201)

    def test_a_small_body_sent_byte_by_byte_arrives(self):
        connection = self.connect()
        request = raw_http.encode_request("PUT", "/files/bytes.txt", (), b"byte by byte")
        connection.send_pieces(raw_http.in_pieces(request, 1))
        self.assertEqual(connection.read_response().json()["sha256"], sha256(b"byte by byte"))

    def test_pipelined_uploads_are_answered_in_order(self):
        connection = self.connect()
        connection.send(b"".join(raw_http.encode_request("PUT", "/files/p%d" % i, (), b"body %d" % i) for i in range(20)))
        for i in range(20):
            response = connection.read_response()
            self.assertEqual((response.status, response.json()["name"]), (201, "p%d" % i))
            self.assertEqual(response.json()["sha256"], sha256(b"body %d" % i))

    def test_a_client_that_half_closes_after_its_body_reads_the_answer(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/half.txt", (), b"half"))
        connection.finish_sending()
        self.assertEqual(connection.read_response().status, 201)

    def test_many_uploads_go_over_one_connection(self):
        connection = self.connect()
        for i in range(200):
            response = connection.exchange("PUT", "/files/k%d" % i, (), b"%d" % i)
            self.assertEqual(response.status, 201)
            self.assertTrue(response.keeps_alive)


class AbandonedUploads(DepotCase):
    def test_a_client_that_goes_away_leaves_nothing(self):
        for ending in ("close", "reset", "half-close"):
            for framing in ("length", "chunked"):
                with self.subTest(ending=ending, framing=framing), self.stores_nothing():
                    connection = self.connect()
                    if framing == "length":
                        connection.send(raw_http.encode_request("PUT", "/files/gone", [("Content-Length", str(8 * MIB))]))
                        connection.send(pattern_bytes(2 * MIB))
                    else:
                        connection.send(raw_http.encode_request("PUT", "/files/gone", [("Transfer-Encoding", "chunked")]))
                        connection.send(b"%x\r\n%s\r\n" % (2 * MIB, pattern_bytes(2 * MIB)))
                    if ending == "close":
                        connection.close()
                    elif ending == "reset":
                        connection.reset()
                    else:
                        connection.finish_sending()
                        connection.wait_for_end()
                    self.assertEqual(self.get("/healthz").status, 200)

    def test_a_client_that_goes_away_after_a_few_bytes_leaves_nothing(self):
        with self.stores_nothing():
            for _ in range(50):
                connection = self.connect()
                connection.send(raw_http.encode_request("PUT", "/files/few", [("Content-Length", "100")]) + b"few")
                connection.reset()


class SlowUploads(DepotCase):
    settings = {"server.idle_timeout": "500ms", "server.header_timeout": "500ms"}

    def test_a_body_that_stalls_is_given_up_and_leaves_nothing(self):
        with self.stores_nothing():
            connection = self.connect()
            connection.send(raw_http.encode_request("PUT", "/files/stalls", [("Content-Length", "1000000")]) + b"x" * 1000)
            rest = connection.wait_for_end()
            if rest:
                self.assertEqual(raw_http.parse_head(rest.split(b"\r\n\r\n")[0]).status, 408)

    def test_headers_that_never_end_are_given_up(self):
        connection = self.connect()
        connection.send(b"PUT /files/never HTTP/1.1\r\nHost: x\r\nX-")
        rest = connection.wait_for_end()
        if rest:
            self.assertEqual(raw_http.parse_head(rest.split(b"\r\n\r\n")[0]).status, 408)

    def test_headers_that_drip_are_given_up_though_something_always_comes(self):
        connection = self.connect()

        def dripped():
            try:
                connection.send(b"a")
            except ConnectionError:
                return True
            return not connection.is_open() or bool(connection.buffer)
        connection.send(b"GET /files HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        wait_until(dripped, "a request whose headers drip is ended", 15)


    def test_a_connection_that_nobody_uses_is_closed(self):
        connection = self.connect()
        self.assertEqual(connection.exchange("GET", "/healthz").status, 200)
        self.assertEqual(connection.wait_for_end(), b"")


class DrippingUploads(DepotCase):
    settings = {"server.idle_timeout": "500ms", "limits.min_rate": "1M"}

    def test_a_body_that_drips_below_the_least_rate_is_given_up_and_leaves_nothing(self):
        with self.stores_nothing():
            connection = self.connect()
            connection.send(raw_http.encode_request("PUT", "/files/drips", [("Content-Length", "1000000")]))

            def ended():
                try:
                    connection.send(b"x")
                except ConnectionError:
                    return True
                return bool(connection.buffer) or not connection.is_open() or select.select([connection.socket], [], [], 0)[0]
            wait_until(ended, "an upload that drips is ended")
            rest = connection.wait_for_end()
            if rest:
                self.assertEqual(raw_http.parse_head(rest.split(b"\r\n\r\n")[0]).status, 408)


class NamesOfAPut(DepotCase):
    def name_of(self, segment):
        response = self.request("PUT", "/files/" + segment, (), b"x")
        self.assertEqual(response.status, 201, repr(response))
        name = response.json()["name"]
        self.assertEqual(self.metadata(response.json()["id"])["name"], name)
        return name

    def test_a_name_is_kept_as_the_person_gave_it(self):
        for name in ("plain.txt", "with blank.txt", "a+b.txt", "100%.txt", "%41.txt", "q?uestion#hash&amp=1;2.txt", ".htaccess",
                     "no-extension", "résumé.pdf", "e\u0301 decomposed.txt", "文書.txt", "Ελληνικά", "שלום.txt",
                     "😀 family 👨‍👩‍👧.png", "quo\"te'.txt", "<b>&.txt", "CON", "a..b", "...", "semi;colon=x.txt", "$(id)`id`",
                     "' OR 1=1; --", "%s%n%x", "{\"a\": 1}", "~", "-rf"):
            with self.subTest(name=name):
                self.assertEqual(self.name_of(quote(name)), name)

    def test_characters_that_need_no_escape_may_come_bare(self):
        self.assertEqual(self.name_of("a+b,c;d=e!f$g'h(i)j*k~l@m:n&o.txt"), "a+b,c;d=e!f$g'h(i)j*k~l@m:n&o.txt")

    def test_of_a_path_the_last_component_counts(self):
        for segment, name in (("dir%2Ffile.txt", "file.txt"), ("%2Fetc%2Fpasswd", "passwd"), ("..%2F..%2Fup.txt", "up.txt"),
                              ("C%3A%5CUsers%5Cme%5Cdoc.txt", "doc.txt"), ("%5C%5Cserver%5Cshare%5Cx.doc", "x.doc"),
                              ("mixed%2Fand%5Cback.txt", "back.txt"), ("a%5Cb%2Fc.txt", "c.txt"), ("%2F%2F%2Fthree", "three"),
                              ("dir/file.txt", "file.txt"), ("a/b/c/d/e/f/g/h/i/deep%20er.txt", "deep er.txt"), ("/x.txt", "x.txt"),
                              ("../../etc/passwd", "passwd"), ("metadata", "metadata"), ("a/metadata", "metadata"), ("mixed/and%5Cback.txt", "back.txt")):
            with self.subTest(segment=segment):
                self.assertEqual(self.name_of(segment), name)

    def test_where_no_name_is_left_or_given_it_is_unnamed(self):
        for segment in ("", "dir%2F", "dir%5C", "%2F", "%5C%5C", "/", "dir/", "dir/.."):
            with self.subTest(segment=segment):
                self.assertEqual(self.name_of(segment), "unnamed")

    def test_a_slash_at_the_end_makes_no_difference_at_any_door(self):
        """PUT has one there (curl adds the name to it), so people write one with GET and POST, too."""
        stored = self.put("slash.txt", b"x")
        listed = self.get("/files/?name=slash.txt")
        self.assertEqual([f["id"] for f in listed.json()["files"]], [stored["id"]])
        posted = self.post_files([form_data.file("f", "a.txt", b"x")], target="/files/")
        self.assertEqual(self.content(posted[0]), b"x")
        refused = self.request("DELETE", "/files/")
        self.assert_status(refused, 405)
        self.assertEqual(refused.headers.get("Allow"), "GET, HEAD, POST, PUT, OPTIONS")

    def test_a_name_never_becomes_a_path(self):
        for segment in ("..", "%2e%2e", "%2e", "..%2f..", "..%5c.."):
            with self.subTest(segment=segment):
                response = self.request("PUT", "/files/" + segment, (), b"x")
                self.assert_status(response, 201, 400, 404, 405)
                if response.status == 201:
                    self.assertNotIn("/", response.json()["name"])
        for path in self.server.stored_files():
            self.assertNotIn("..", path)

    def test_controls_in_a_name_are_refused(self):
        for code in list(range(0x20)) + [0x7f, 0x80, 0x85, 0x9f]:
            with self.subTest(code=hex(code)), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/" + quote("a%sb.txt" % chr(code)), (), b"x"))

    def test_a_name_may_have_what_is_no_control(self):
        for code in (0xa0, 0x200b, 0x2028, 0x2029, 0x202e, 0xfeff, 0xffff, 0x10ffff):
            with self.subTest(code=hex(code)):
                name = "a%sb.txt" % chr(code)
                response = self.request("PUT", "/files/" + quote(name), (), b"x")
                self.assert_status(response, 201)
                self.assertEqual(response.json()["name"], name)
                self.assertEqual([one["name"] for one in self.get("/files?name=" + quote(name)).json()["files"]], [name])

    def test_broken_utf_8_is_refused(self):
        for broken in (b"\xff", b"a\xe9b", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
                       b"\x80",
                       b"\xf8\x88\x80\x80\x80"):
            with self.subTest(broken=broken), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/x" + quote(broken), (), b"x"))

    def test_broken_percent_encoding_is_refused(self):
        for segment in ("100%.txt", "a%zz", "a%4", "%"):
            with self.subTest(segment=segment), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/" + segment, (), b"x"))

    def test_255_characters_are_a_name_whatever_their_bytes(self):
        for character in ("a", "é", "文", "😀"):
            with self.subTest(character=character):
                self.assertEqual(self.name_of(quote(character * 255)), character * 255)

    def test_256_characters_are_too_many(self):
        for character in ("a", "é", "文", "😀"):
            with self.subTest(character=character), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/" + quote(character * 256), (), b"x"))

    def test_only_the_last_component_is_held_against_the_length(self):
        self.assertEqual(self.name_of(quote("d" * 300 + "/short.txt")), "short.txt")


class TypesOfAPut(DepotCase):
    def type_of(self, name, data, client=None):
        file = self.put(name, data, headers=[("Content-Type", client)] if client else [])
        response = self.request("HEAD", file["url"])
        self.assertEqual(response.headers["Content-Type"].split(";")[0], file["type"].split(";")[0])
        return file["type"]

    def test_the_signature_of_the_bytes_comes_first(self):
        for data, type in ((PNG, "image/png"), (GIF, "image/gif"), (JPEG, "image/jpeg"), (WEBP, "image/webp"),
                           (PDF, "application/pdf")):
            with self.subTest(type=type):
                self.assertEqual(self.type_of("lies.csv", data, "text/html"), type)

    def test_without_a_signature_the_extension_decides(self):
        for name, type in (("table.csv", "text/csv"), ("style.css", "text/css"), ("data.json", "application/json"),
                           ("UPPER.CSV", "text/csv"), ("two.dots.csv", "text/csv")):
            with self.subTest(name=name):
                self.assertEqual(self.type_of(name, b"a,b\n1,2\n", "application/x-client"), type)

    def test_without_signature_and_extension_the_client_is_believed(self):
        for name in ("noextension", "unknown.xyzzy123", ".hidden"):
            with self.subTest(name=name):
                self.assertEqual(self.type_of(name, NO_SIGNATURE, "application/x-client"), "application/x-client")

    def test_where_nothing_is_known_it_is_an_octet_stream(self):
        self.assertEqual(self.type_of("noextension", NO_SIGNATURE), "application/octet-stream")

    def test_a_client_type_that_is_none_harms_nothing(self):
        for client in ("nonsense", "a/b/c", "/", "text/", "image/*", ";", "x" * 300 + "/y"):
            with self.subTest(client=client):
                response = self.request("PUT", "/files/noextension", [("Content-Type", client)], NO_SIGNATURE)
                self.assert_status(response, 201, 400)
                if response.status == 201:
                    self.assertRegex(response.json()["type"], r"\A[^\s/;,]+/[^\s/;,]+")


@on_both_stores
class LabelsOfAPut(DepotCase):
    def labelled(self, *pairs):
        file = self.put("labelled.txt", b"x", query(*pairs))
        self.assertEqual(self.metadata(file["id"]), file)
        return file

    def refused(self, *pairs, mentions):
        with self.stores_nothing():
            self.assert_refused(self.request("PUT", "/files/refused.txt" + query(*pairs), (), b"x"), mentions)

    def test_tags_are_separated_by_commas_and_a_repeat_adds(self):
        self.assertEqual(self.labelled(("tags", "q4,draft"), ("tags", "été"))["tags"], ["q4", "draft", "été"])

    def test_a_tag_may_have_64_characters_but_not_65(self):
        self.assertEqual(self.labelled(("tags", "é" * 64))["tags"], ["é" * 64])
        self.refused(("tags", "é" * 65), mentions="tag")

    def test_a_tag_has_no_controls(self):
        for control in "\x01", "\n", "\x7f", "\u0085":
            with self.subTest(control=control):
                self.refused(("tags", "a%sb" % control), mentions="tag")

    def test_attributes_of_a_query_are_strings(self):
        file = self.labelled(("attr.project", "apollo"), ("attr.n", "1"), ("attr.yes", "true"), ("attr.empty", ""))
        self.assertEqual(file["attributes"], {"project": "apollo", "n": "1", "yes": "true", "empty": ""})

    def test_a_repeated_attribute_makes_an_array(self):
        file = self.labelled(("attr.who", "ann"), ("attr.who", "bob"), ("attr.who", "ann"))
        self.assertEqual(file["attributes"], {"who": ["ann", "bob", "ann"]})

    def test_a_dot_in_the_key_nests(self):
        file = self.labelled(("attr.camera.lens.mm", "50"), ("attr.camera.make", "x"))
        self.assertEqual(file["attributes"], {"camera": {"lens": {"mm": "50"}, "make": "x"}})

    def test_keys_may_be_of_any_language(self):
        self.assertEqual(self.labelled(("attr.проект", "союз 🚀"))["attributes"], {"проект": "союз 🚀"})

    def test_a_key_that_is_both_value_and_object_is_no_server_error(self):
        for pairs in ((("attr.a", "1"), ("attr.a.b", "2")), (("attr.a.b", "1"), ("attr.a", "2")), (("attr.", "1"),),
                      (("attr..a", "1"),), (("attr.a.", "1"),)):
            with self.subTest(pairs=pairs):
                self.assert_status(self.request("PUT", "/files/odd.txt" + query(*pairs), (), b"x"), 201, 400)

    def test_expires_in_takes_seconds_minutes_hours_and_days(self):
        for text, expected in (("90", 90), ("90m", 5400), ("36h", 36 * 3600), ("7d", 7 * 86400), ("30s", 30)):
            with self.subTest(text=text):
                file = self.labelled(("expires_in", text))
                lasts = parse_time(file["expires_at"]) - parse_time(file["created_at"])
                self.assertAlmostEqual(lasts.total_seconds(), expected, delta=5)

    def test_an_expiry_that_is_none_is_refused(self):
        for text in ("tomorrow", "-1", "1y", "5 apples", "1.5.2", "99999999999999999999", "9" * 30 + "d", "h", "0x10"):
            with self.subTest(text=text):
                self.refused(("expires_in", text), mentions="expires_in")

    def test_visibility_is_private_or_public(self):
        for text in ("private", "public"):
            self.assertEqual(self.labelled(("visibility", text))["visibility"], text)
        for text in ("secret", "PUBLIC", "true"):
            self.refused(("visibility", text), mentions="visibility")

    def test_broken_utf_8_in_a_label_is_refused(self):
        for pair in ("tags=%ff", "attr.a=%c0%af", "attr.%ff=1"):
            with self.subTest(pair=pair), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/broken.txt?" + pair, (), b"x"))

    def test_a_nul_in_a_label_is_refused(self):
        for pair in ("tags=a%00b", "attr.a=a%00b", "attr.a%00b=1"):
            with self.subTest(pair=pair), self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/nul.txt?" + pair, (), b"x"))


@on_both_stores
class DigestsOfAPut(DepotCase):
    DATA = b"what the digest is of"

    def with_digest(self, field, value):
        return self.request("PUT", "/files/digest.txt", [(field, value)], self.DATA)

    def test_a_digest_that_matches_is_taken(self):
        for field in ("Content-Digest", "Repr-Digest"):
            with self.subTest(field=field):
                self.assertEqual(self.with_digest(field, digest_field(self.DATA)).status, 201)

    def test_a_digest_that_does_not_match_stores_nothing(self):
        for field in ("Content-Digest", "Repr-Digest"):
            with self.subTest(field=field), self.stores_nothing():
                self.assert_refused(self.with_digest(field, digest_field(b"something else")))

    def test_one_wrong_digest_of_two_is_enough(self):
        with self.stores_nothing():
            self.assert_refused(self.request("PUT", "/files/digest.txt", [
                ("Content-Digest", digest_field(self.DATA)), ("Repr-Digest", digest_field(b"else"))], self.DATA))

    def test_sha_256_is_found_among_other_algorithms(self):
        others = digest_field(self.DATA, "sha512", "sha-512")
        self.assertEqual(self.with_digest("Repr-Digest", others + ", " + digest_field(self.DATA)).status, 201)
        with self.stores_nothing():
            self.assert_refused(self.with_digest("Repr-Digest", others + ", " + digest_field(b"else")))

    def test_a_digest_of_an_unknown_algorithm_alone_is_let_be(self):
        self.assertEqual(self.with_digest("Repr-Digest", "unixsum=:AAAA:").status, 201)

    def test_a_malformed_digest_is_refused(self):
        for value in ("sha-256", "sha-256=abc", "sha-256=:not base64!:", "sha-256=:AAAA:", "=:AAAA:", "sha-256=:" + "A" * 43,
                      "sha-256=\"" + "0" * 64 + "\""):
            with self.subTest(value=value), self.stores_nothing():
                self.assert_refused(self.with_digest("Content-Digest", value))

    def test_the_connection_lives_on_after_a_mismatch(self):
        connection = self.connect()
        headers = [("Content-Digest", digest_field(b"else"))]
        self.assertEqual(connection.exchange("PUT", "/files/digest.txt", headers, self.DATA).status, 400)
        self.assertEqual(connection.exchange("PUT", "/files/digest.txt", (), self.DATA).status, 201)

    def test_a_digest_covers_a_chunked_body_as_well(self):
        for data, status in ((self.DATA, 201), (b"else", 400)):
            connection = self.connect()
            connection.send(raw_http.encode_request("PUT", "/files/digest.txt", [
                ("Transfer-Encoding", "chunked"), ("Repr-Digest", digest_field(self.DATA))]) + raw_http.chunked([data]))
            self.assertEqual(connection.read_response().status, status)


class PartsOfAFileByPut(DepotCase):
    def test_a_put_of_a_part_is_not_taken_for_the_whole(self):
        """RFC 9110 §14.5: a Content-Range on PUT that is not understood must not be stored as if it were the file."""
        with self.stores_nothing():
            response = self.request("PUT", "/files/part", [("Content-Range", "bytes 100-104/200")], b"parts")
            self.assert_status(response, 400, 501)


class LimitedUploads(DepotCase):
    settings = {"limits.max_upload": "1M"}

    def test_a_body_of_exactly_the_limit_is_taken(self):
        self.assertEqual(self.put("limit.bin", pattern_bytes(MIB))["size"], MIB)

    def test_a_body_of_one_byte_more_is_413(self):
        with self.stores_nothing():
            self.assert_refused(self.request("PUT", "/files/over.bin", (), pattern_bytes(MIB + 1)), status=413)

    def test_a_length_over_the_limit_is_refused_before_the_body(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/over.bin", [("Content-Length", str(1 << 40))]))
        self.assert_refused(self.check(connection.read_response()), status=413)

    def test_a_client_that_expects_100_gets_413_instead(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/over.bin", [("Content-Length", str(1 << 40)),
                                                                          ("Expect", "100-continue")]))
        response = connection.read_response()
        self.assertEqual((response.status, response.interim), (413, []))

    def test_a_client_that_is_still_sending_reads_413(self):
        for framing in ("length", "chunked"):
            with self.subTest(framing=framing), self.stores_nothing():
                connection = self.connect()
                size = 64 * MIB
                if framing == "length":
                    connection.send(raw_http.encode_request("PUT", "/files/over.bin", [("Content-Length", str(size))]))
                    pieces = pattern_pieces(size)
                else:
                    connection.send(raw_http.encode_request("PUT", "/files/over.bin", [("Transfer-Encoding", "chunked")]))
                    pieces = (b"%x\r\n%s\r\n" % (len(p), p) for p in pattern_pieces(size))
                connection.send_until_answered(pieces)
                response = self.check(connection.read_response())
                self.assert_refused(response, status=413)
                self.assertFalse(response.keeps_alive)

    def test_a_client_that_reads_only_after_sending_reads_413(self):
        for framing in ("length", "chunked"):
            with self.subTest(framing=framing), self.stores_nothing():
                connection = self.connect()
                size = 16 * MIB
                if framing == "length":
                    connection.send(raw_http.encode_request("PUT", "/files/over.bin", (), pattern_bytes(size)))
                else:
                    connection.send(raw_http.encode_request("PUT", "/files/over.bin", [("Transfer-Encoding", "chunked")]) +
                                    raw_http.chunked(pattern_pieces(size)))
                self.assert_refused(self.check(connection.read_response()), status=413)

    def test_a_refusal_for_another_reason_is_read_by_a_client_that_sends_a_large_body(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PUT", "/files/x?expires_in=never", (), pattern_bytes(1000_000)))
        self.assert_refused(self.check(connection.read_response()), "expires_in")

    def test_the_server_goes_on_after_413(self):
        self.request("PUT", "/files/over.bin", (), pattern_bytes(MIB + 1))
        self.assertEqual(self.put("fits.bin", b"fits")["size"], 4)


class ReservedSpace(DepotCase):
    def test_below_the_reserve_uploads_are_507_and_the_rest_goes_on(self):
        with self.own_server() as server:
            kept, removed = self.put("kept.txt", b"kept"), self.put("removed.txt", b"removed")
            self._drop_connection()
            server.stop()
            server.environment["DEPOTD_STORAGE_RESERVE"] = "1000T"
            server.start()
            with self.stores_nothing():
                self.assert_refused(self.request("PUT", "/files/full.txt", (), b"no room"), status=507)
                self.assert_refused(self.post([form_data.file("f", "a.txt")]), status=507)
                connection = self.connect()
                connection.send(raw_http.encode_request("PUT", "/files/full", [("Content-Length", str(32 * MIB))]))
                connection.send_until_answered(pattern_pieces(32 * MIB))
                self.assert_refused(self.check(connection.read_response()), status=507)
                connection = self.connect()
                connection.send(raw_http.encode_request("PUT", "/files/full", [("Transfer-Encoding", "chunked")]))
                connection.send(raw_http.chunked([b"no room"]))
                self.assert_refused(self.check(connection.read_response()), status=507)
            self.assertEqual(self.content(kept), b"kept")
            self.assertEqual(self.request("DELETE", removed["url"]).status, 204)
            self.assertEqual(self.get(removed["url"]).status, 404)


class LargeUploads(DepotCase):
    SIZE = 64 * MIB

    def test_memory_stays_constant_while_a_large_body_comes(self):
        pid = self.server.process.pid
        self.put("warm.bin", pattern_bytes(4 * MIB))
        for framing in ("length", "chunked"):
            with self.subTest(framing=framing):
                forget_peak_memory(pid)
                before = peak_memory(pid)
                connection = self.connect()
                if framing == "length":
                    connection.send(raw_http.encode_request("PUT", "/files/big", [("Content-Length", str(self.SIZE))]))
                    connection.send_pieces(pattern_pieces(self.SIZE))
                else:
                    connection.send(raw_http.encode_request("PUT", "/files/big", [("Transfer-Encoding", "chunked")]))
                    connection.send_pieces(b"%x\r\n%s\r\n" % (len(p), p) for p in pattern_pieces(self.SIZE))
                    connection.send(b"0\r\n\r\n")
                response = connection.read_response()
                self.assertEqual(response.status, 201)
                self.assertEqual(response.json()["size"], self.SIZE)
                self.assertEqual(response.json()["sha256"], sha256(b"".join(pattern_pieces(self.SIZE))))
                if not binary_is_sanitized():
                    self.assertLess(peak_memory(pid) - before, 24 * MIB)

    def test_the_access_to_small_things_goes_on_while_a_large_body_stands_still(self):
        connections = []
        for _ in range(100):
            connection = self.connect()
            connection.send(raw_http.encode_request("PUT", "/files/waits", [("Content-Length", "200000")]) + b"x" * 100_000)
            connections.append(connection)
        file = self.put("small.txt", b"small")
        self.assertEqual(self.content(file), b"small")
        for connection in connections:
            connection.send(b"x" * 100_000)
        for connection in connections:
            self.assertEqual(connection.read_response().status, 201)


@on_both_stores
class RepeatedRequests(DepotCase):
    """Idempotency-Key: a repeat of a request that was answered gets the first answer and stores nothing twice."""

    def test_a_repeat_with_the_same_key_gets_the_first_answer(self):
        headers = [("Idempotency-Key", '"8e03978e-40d5-43dd-bc93-6894a57f9324"')]
        first = self.request("PUT", "/files/once.txt", headers, b"once")
        self.assertEqual(first.status, 201)
        with self.stores_nothing():
            again = self.request("PUT", "/files/once.txt", headers, b"once")
        self.assertEqual((again.status, again.json()), (201, first.json()))
        self.assertEqual(again.headers["Location"], first.headers["Location"])

    def test_another_key_is_another_upload(self):
        ids = {self.put("twice.txt", b"x", headers=[("Idempotency-Key", '"key-%d"' % i)])["id"] for i in range(2)}
        self.assertEqual(len(ids), 2)

    def test_a_repeat_after_a_restart_gets_the_first_answer(self):
        headers = [("Idempotency-Key", '"over-a-restart"')]
        first = self.request("PUT", "/files/once.txt", headers, b"once")
        self.assertEqual(first.status, 201)
        self._drop_connection()
        self.server.stop()
        self.server.start()
        with self.stores_nothing():
            again = self.request("PUT", "/files/once.txt", headers, b"once")
        self.assertEqual((again.status, again.json()["id"]), (201, first.json()["id"]))


if __name__ == "__main__":
    unittest.main()
