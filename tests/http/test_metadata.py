"""GET and PATCH of a file's metadata: merge patches, what they refuse, and lost updates."""

import concurrent.futures
import datetime
import json
import unittest

import raw_http
from depot_case import DepotCase, format_time, on_both_stores, query, wait_until
from depotd_server import DepotdServer
from fault_shim import FaultShim

TYPE = ("Content-Type", "application/merge-patch+json")


@on_both_stores
class Metadata(DepotCase):
    def setUp(self):
        super().setUp()
        self.file = self.put("before.txt", b"content", query(("tags", "a,b"), ("attr.project", "apollo"),
                                                             ("attr.camera.lens", "50"),
                                                            ("attr.camera.make", "x")))
        self.id = self.file["id"]

    def patched(self, changes, headers=()):
        """What a PATCH that must succeed answers, which is what GET says afterwards."""
        response = self.patch(self.id, changes, headers)
        self.assertEqual(response.status, 200, repr(response))
        self.assertEqual(response.media_type, "application/json")
        self.assertEqual(self.metadata(self.id), response.json())
        return response.json()

    def assert_unchanged_by(self, changes, *mentions, headers=(), status=400):
        before = self.get(self.file["url"] + "/metadata")
        self.assert_refused(self.patch(self.id, changes, headers), *mentions, status=status)
        after = self.get(self.file["url"] + "/metadata")
        self.assertEqual((after.body, after.headers["ETag"]), (before.body, before.headers["ETag"]))

    # --- GET ---

    def test_metadata_is_the_file_object(self):
        response = self.get(self.file["url"] + "/metadata")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.media_type, "application/json")
        self.assertEqual(response.json(), self.file)
        self.assert_file_object(response.json())

    def test_it_has_a_strong_etag_of_its_own(self):
        etag = self.get(self.file["url"] + "/metadata").headers["ETag"]
        self.assertRegex(etag, r'"[^"]+"\Z')
        self.assertNotEqual(etag, self.get(self.file["url"]).headers["ETag"])
        self.assertEqual(etag, self.get(self.file["url"] + "/metadata").headers["ETag"])

    def test_its_etag_changes_with_the_metadata_and_that_of_the_bytes_does_not(self):
        bytes_before = self.get(self.file["url"]).headers["ETag"]
        etags = [self.get(self.file["url"] + "/metadata").headers["ETag"]]
        for changes in ({"name": "x.txt"}, {"tags": ["c"]}, {"attributes": {"k": 1}}, {"visibility": "public"},
                        {"expires_at": "2099-01-01T00:00:00.000Z"}, {"name": "before.txt"}):
            self.patched(changes)
            etags.append(self.get(self.file["url"] + "/metadata").headers["ETag"])
        self.assertEqual(len(set(etags)), len(etags))
        self.assertEqual(self.get(self.file["url"]).headers["ETag"], bytes_before)

    def test_the_answer_to_a_patch_has_the_new_etag(self):
        response = self.patch(self.id, {"name": "x.txt"})
        if "ETag" in response.headers:
            self.assertEqual(response.headers["ETag"], self.get(self.file["url"] + "/metadata").headers["ETag"])

    # --- what a patch changes ---

    def test_a_patch_changes_the_name(self):
        after = self.patched({"name": "after – é.txt"})
        self.assertEqual(after, {**self.file, "name": "after – é.txt"})
        self.assertIn("after%20%E2%80%93%20%C3%A9.txt", self.get(self.file["url"]).headers["Content-Disposition"])

    def test_a_name_is_cut_like_every_name(self):
        self.assertEqual(self.patched({"name": "../../x/y.txt"})["name"], "y.txt")
        self.assertEqual(self.patched({"name": "C:\\x\\z.txt"})["name"], "z.txt")
        self.assertEqual(self.patched({"name": "é" * 255})["name"], "é" * 255)

    def test_tags_are_replaced_as_a_whole(self):
        self.assertEqual(self.patched({"tags": ["c", "é" * 64]}), {**self.file, "tags": ["c", "é" * 64]})
        self.assertEqual(self.patched({"tags": []})["tags"], [])

    def test_null_removes_the_tags(self):
        self.assertEqual(self.patched({"tags": None})["tags"], [])

    def test_attributes_are_merged_member_by_member(self):
        after = self.patched({"attributes": {"new": "n", "camera": {"lens": "85"}}})
        self.assertEqual(after["attributes"], {"project": "apollo", "camera": {"lens": "85", "make": "x"}, "new": "n"})

    def test_null_removes_a_member_at_any_depth(self):
        self.assertEqual(self.patched({"attributes": {"project": None, "camera": {"lens": None}, "nobody": None}})["attributes"],
                         {"camera": {"make": "x"}})

    def test_null_removes_all_attributes(self):
        self.assertEqual(self.patched({"attributes": None})["attributes"], {})

    def test_attributes_may_be_any_json(self):
        value = {"int": 42, "negative": -7, "real": 1.5, "yes": True, "no": False, "list": [1, "two", [3], {"four": 4}, True],
                 "empty": {},
                 "none": [], "text": "é 😀 \" \\ \n \u2028 </script>", "": "empty key", "dot.ted": "x",
                 "большой": 9007199254740991}
        after = self.patched({"attributes": value})
        self.assertEqual(after["attributes"], {**self.file["attributes"], **value})

    def test_an_array_is_replaced_and_keeps_its_nulls(self):
        self.patched({"attributes": {"list": [1, 2, 3]}})
        self.assertEqual(self.patched({"attributes": {"list": [None, 4]}})["attributes"]["list"], [None, 4])

    def test_an_object_replaces_a_string_and_the_other_way_round(self):
        self.assertEqual(self.patched({"attributes": {"project": {"name": "x", "gone": None}}})["attributes"]["project"],
                         {"name": "x"})
        self.assertEqual(self.patched({"attributes": {"project": "y"}})["attributes"]["project"], "y")

    def test_a_patch_changes_the_visibility(self):
        self.assertEqual(self.patched({"visibility": "public"}), {**self.file, "visibility": "public"})
        self.assertEqual(self.patched({"visibility": "private"})["visibility"], "private")

    def test_a_patch_changes_the_expiry(self):
        self.assertEqual(self.patched({"expires_at": "2099-12-31T23:59:59.123Z"})["expires_at"], "2099-12-31T23:59:59.123Z")
        self.assertEqual(self.patched({"expires_at": "2099-12-31T23:59:59Z"})["expires_at"], "2099-12-31T23:59:59.000Z")
        self.assertIsNone(self.patched({"expires_at": None})["expires_at"])

    def test_an_expiry_that_comes_makes_the_file_404(self):
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
        self.assertEqual(self.get(self.file["url"]).status, 200)
        self.patched({"expires_at": format_time(soon)})
        wait_until(lambda: self.get(self.file["url"]).status == 404, "the file is expired")
        self.assertEqual(self.get(self.file["url"] + "/metadata").status, 404)

    def test_a_patch_changes_several_members_at_once(self):
        after = self.patched({"name": "n.txt", "tags": ["t"], "attributes": {"project": None}, "visibility": "public",
                              "expires_at": "2099-01-01T00:00:00.000Z"})
        self.assertEqual((after["name"], after["tags"], after["attributes"], after["visibility"], after["expires_at"]),
                         ("n.txt", ["t"], {"camera": {"lens": "50", "make": "x"}}, "public", "2099-01-01T00:00:00.000Z"))
        for member in ("id", "size", "sha256", "created_at", "url", "owner"):
            self.assertEqual(after[member], self.file[member])

    def test_an_empty_patch_changes_nothing(self):
        self.assertEqual(self.patched({}), self.file)

    def test_the_type_of_the_patch_may_be_plain_json(self):
        response = self.request("PATCH", self.file["url"] + "/metadata", {"Content-Type": "application/json"},
                                b'{"name": "j.txt"}')
        self.assertEqual((response.status, response.json()["name"]), (200, "j.txt"))

    def test_a_patch_may_come_in_chunks(self):
        connection = self.connect()
        connection.send(raw_http.encode_request("PATCH", self.file["url"] + "/metadata", [
            ("Content-Type", "application/merge-patch+json"), ("Transfer-Encoding", "chunked")]) +
            raw_http.chunked([b'{"na', b'me": "', b'chunks.txt"}']))
        self.assertEqual(connection.read_response().json()["name"], "chunks.txt")

    def test_a_patch_is_there_after_a_restart(self):
        after = self.patched({"name": "kept.txt", "tags": ["kept"], "attributes": {"n": 1}})
        self._drop_connection()
        self.server.stop()
        self.server.start()
        self.assertEqual(self.metadata(self.id), after)

    # --- what a patch refuses ---

    def test_a_member_that_is_unknown_or_fixed_is_named(self):
        for member in ("nonsense", "id", "size", "sha256", "created_at", "owner", "url", "type", "Name", "tag"):
            self.assert_unchanged_by({"name": "x.txt", member: "1"}, member)

    def test_a_wrong_type_or_value_is_named(self):
        for member, values in {
                "name": (5, True, [], {}, "a\x01b", "é" * 256),
                "tags": ("a", 5, {}, [1], ["a", None], [["a"]], ["x" * 65], ["a,b"], ["a\nb"], [""]),
                "attributes": ("a", 5, [], True),
                "visibility": ("secret", 5, True, [], ""),
                "expires_at": (5, True, [], "tomorrow", "2026-13-01T00:00:00Z", "7d", "")}.items():
            for value in values:
                with self.subTest(member=member, value=value):
                    self.assert_unchanged_by({"name": "never.txt", member: value}, member.rstrip("s"))

    def test_a_body_that_is_no_json_object_is_refused(self):
        for body in (b"", b"{", b"[]", b'"text"', b"5", b"null", b"true", b"{'name': 'x'}", b'{"name": "x"} trailing',
                     b'{"name": "x",}',
                     b'{"name": "\xff"}', b'{"name": "\\ud800"}', b"\xef\xbb\xbf{", b'{"name": "x"', b"NaN",
                     b'{"attributes": {"x": NaN}}',
                     b"[" * 100_000, b'{"attributes": ' * 8000, b'{"attributes":' * 3000 + b"1" + b"}" * 3000,
                     b'{"name": "a\\u0000b"}'):
            with self.subTest(body=body[:30]):
                self.assert_unchanged_by(body)

    def test_why_it_is_none_is_said_without_a_librarys_words(self):
        for body in (b'{"name": "a\\u0000b"}', b'{"\\u0000": 1}'):
            problem = self.assert_refused(self.request("PATCH", self.file["url"] + "/metadata", (), body), "\\u0000 is not allowed")
            self.assertNotIn("JSON_", problem["detail"])

    def test_attributes_that_are_too_large_are_refused(self):
        for changes in ({"attributes": {"big": "x" * 2_000_000}}, {"attributes": {"k%d" % i: "v" for i in range(100_000)}}):
            response = self.assert_status(self.patch(self.id, changes), 400, 413)
            self.check_problem(response)
        self.assertEqual(self.metadata(self.id), self.file)

    def test_other_methods_are_405_and_name_those_that_are_allowed(self):
        for method in ("PUT", "POST", "DELETE"):
            response = self.request(method, self.file["url"] + "/metadata", (), b"")
            self.assert_refused(response, status=405)
            allowed = {m.strip() for m in response.headers["Allow"].split(",")}
            self.assertLessEqual({"GET", "HEAD", "PATCH"}, allowed)
            self.assertNotIn(method, allowed)

    # --- If-Match ---

    def test_if_match_holds_against_the_etag_of_the_metadata(self):
        url = self.file["url"] + "/metadata"
        old = self.get(url).headers["ETag"]
        self.patched({"name": "one.txt"}, {"If-Match": old})
        self.assert_unchanged_by({"name": "two.txt"}, headers={"If-Match": old}, status=412)
        self.patched({"name": "three.txt"}, {"If-Match": '"other", ' + self.get(url).headers["ETag"]})
        self.patched({"name": "four.txt"}, {"If-Match": "*"})

    def test_if_match_compares_strongly(self):
        etag = self.get(self.file["url"] + "/metadata").headers["ETag"]
        self.assert_unchanged_by({"name": "x.txt"}, headers={"If-Match": "W/" + etag}, status=412)

    def test_the_etag_of_the_bytes_does_not_match(self):
        self.assert_unchanged_by({"name": "x.txt"}, headers={"If-Match": '"%s"' % self.file["sha256"]}, status=412)

    def test_of_many_that_change_the_same_state_exactly_one_does(self):
        for round in range(3):
            etag = self.get(self.file["url"] + "/metadata").headers["ETag"]

            def change(i, etag=etag, round=round):
                with raw_http.Connection(self.address) as connection:
                    return connection.exchange("PATCH", self.file["url"] + "/metadata", [("If-Match", etag), TYPE],
                                               json.dumps({"attributes": {"winner": i},
                                                           "name": "%d-%d.txt" % (round, i)}).encode())
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(change, range(8)))
            self.assertEqual(sorted(a.status for a in answers), [200] + [412] * 7)
            (winner,) = [a.json() for a in answers if a.status == 200]
            self.assertEqual(self.metadata(self.id), winner)
            self.assertEqual(winner["name"], "%d-%d.txt" % (round, winner["attributes"]["winner"]))

    def test_unconditional_changes_of_different_members_at_once_are_all_kept(self):
        def change(i):
            with raw_http.Connection(self.address) as connection:
                return connection.exchange("PATCH", self.file["url"] + "/metadata", [TYPE],
                                           b'{"attributes": {"k%d": %d}}' % (i, i)).status
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(change, range(24)))
        kept = self.metadata(self.id)["attributes"]
        self.assertLessEqual(set(statuses), {200, 409, 412, 503})
        self.assertIn(200, statuses)
        for i, status in enumerate(statuses):
            if status == 200:
                self.assertEqual(kept.get("k%d" % i), i)


class WithoutMemory(DepotCase):
    """Each allocation of a PATCH fails, one after the other."""

    def test_a_patch_is_stored_whole_or_not_at_all(self):
        """jansson's reader drops a character that finds no room, and says nothing: "Ümlaut" was stored as "Ümlau"."""
        shim = FaultShim()
        self.addCleanup(shim.close)
        with DepotdServer(environment=shim.environment) as server, self.talking_to(server):
            file = self.put("before")
            refused = 0
            for nth in range(1, 400):
                changes = {"name": "a name of more than sixteen bytes %d" % nth,
                           "attributes": {"another long name": ["and a value as long", nth], "Ümlaut-Ümlaut-": "abcdefghijklmno"[nth % 15:]}}
                shim.set("alloc path=/depotd nth=%d times=1 error=ENOMEM" % nth)
                try:
                    answer = self.patch(file["id"], changes)
                except (raw_http.ConnectionEnded, ConnectionError):
                    answer = None  # there was no memory for one
                hit = shim.hits()[0]
                shim.clear()
                wanted = {**file, **changes}
                if answer is not None:
                    self.assert_status(answer, 200, 500, 503)
                    refused += answer.status != 200
                self.assertIn(self.metadata(file["id"]), (wanted,) if answer is not None and answer.status == 200 else (file, wanted))
                file = self.metadata(file["id"])
                if not hit:
                    break
            self.assertGreater(refused, 10)


if __name__ == "__main__":
    unittest.main()
