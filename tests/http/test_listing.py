"""GET /files: filters, orders, pages, and parameters that are wrong."""

import re
import unittest
import urllib.parse

from depot_case import MEMBERS, PNG, DepotCase, is_expired, on_both_stores, query, quote, sha256, wait_until
from form_data import field, file


def names(page):
    return [f["name"] for f in page["files"]]


@on_both_stores
class Filters(DepotCase):
    """A fixed collection of files; every test only reads."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        put = cls.server.put
        cls.files = {f["name"]: f for f in [
            put("Report%20Q4.pdf", b"%PDF-1.4 one", query(("tags", "q4,final"), ("attr.project", "apollo"),
                                                          ("attr.phase.no", "1"))),
            put("report%20q3.txt", b"third quarter", query(("tags", "q3"), ("attr.project", "gemini"))),
            put("photo.png", PNG, query(("tags", "q4,holiday"), ("visibility", "public"))),
            put("%C3%89T%C3%89%20photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\1",
                query(("attr.project", "apollo"), ("attr.phase.no", "2"))),
            put("100%25_sure.bin", b"\0" * 100),
            put("empty", b""),
            put("zero.bin", b"\0" * 1000, query(("attr.a_b", "x"))),
        ]}

    def listed(self, *pairs):
        page = self.get_json("/files" + (query(*pairs) if pairs else ""))
        self.assertEqual(sorted(page), ["files", "next_cursor"])
        for f in page["files"]:
            self.assertEqual(f, self.files[f["name"]])
        return sorted(names(page))

    def test_without_filters_all_are_listed_newest_first(self):
        page = self.get_json("/files")
        self.assertEqual(names(page), list(reversed(list(self.files))))
        self.assertIsNone(page["next_cursor"])
        self.assertEqual([sorted(f) for f in page["files"]], [sorted(MEMBERS)] * len(self.files))

    def test_a_listed_file_is_what_its_upload_and_its_metadata_say(self):
        for f in self.get_json("/files")["files"]:
            self.assertEqual(f, self.files[f["name"]])
            self.assertEqual(f, self.metadata(f["id"]))

    def test_q_is_a_substring_of_the_name_in_any_case(self):
        for q in ("report", "REPORT", "RePoRt", "port Q"):
            self.assertEqual(self.listed(("q", q)), ["Report Q4.pdf", "report q3.txt"])
        self.assertEqual(self.listed(("q", "q4")), ["Report Q4.pdf"])
        self.assertEqual(self.listed(("q", "pdf")), ["Report Q4.pdf"])
        self.assertEqual(self.listed(("q", "no such thing")), [])

    def test_q_may_have_one_or_two_characters(self):
        self.assertEqual(self.listed(("q", "Q")), ["Report Q4.pdf", "report q3.txt"])
        self.assertEqual(self.listed(("q", "q3")), ["report q3.txt"])

    def test_q_ignores_case_beyond_ascii(self):
        for q in ("été", "ÉTÉ", "Été PHOTO"):
            with self.subTest(q=q):
                self.assertEqual(self.listed(("q", q)), ["ÉTÉ photo.jpg"])

    def test_q_has_no_wildcards(self):
        self.assertEqual(self.listed(("q", "%")), ["100%_sure.bin"])
        self.assertEqual(self.listed(("q", "_")), ["100%_sure.bin"])
        self.assertEqual(self.listed(("q", "0%_s")), ["100%_sure.bin"])
        for q in ("*", "?", "r%t", "r_port", "\\", ".*", "[a-z]", "\\%"):
            self.assertEqual(self.listed(("q", q)), [])

    def test_name_is_the_whole_name(self):
        self.assertEqual(self.listed(("name", "photo.png")), ["photo.png"])
        self.assertEqual(self.listed(("name", "ÉTÉ photo.jpg")), ["ÉTÉ photo.jpg"])
        for name in ("photo", "Photo.png", "photo.png ", "%", "*"):
            self.assertEqual(self.listed(("name", name)), [])

    def test_type_is_a_type_or_all_of_a_kind(self):
        self.assertEqual(self.listed(("type", "image/png")), ["photo.png"])
        self.assertEqual(self.listed(("type", "image/*")), ["photo.png", "ÉTÉ photo.jpg"])
        self.assertEqual(self.listed(("type", "application/pdf")), ["Report Q4.pdf"])
        self.assertEqual(self.listed(("type", "imag/*")), [])
        self.assertEqual(self.listed(("type", "video/mp4")), [])

    def test_a_repeated_tag_means_all_of_them(self):
        self.assertEqual(self.listed(("tag", "q4")), ["Report Q4.pdf", "photo.png"])
        self.assertEqual(self.listed(("tag", "q4"), ("tag", "holiday")), ["photo.png"])
        self.assertEqual(self.listed(("tag", "holiday"), ("tag", "q4")), ["photo.png"])
        self.assertEqual(self.listed(("tag", "q3"), ("tag", "q4")), [])
        self.assertEqual(self.listed(("tag", "q")), [])

    def test_sha256_finds_by_content(self):
        self.assertEqual(self.listed(("sha256", sha256(PNG))), ["photo.png"])
        self.assertEqual(self.listed(("sha256", sha256(b"nobody has this"))), [])

    def test_filters_by_size_are_inclusive(self):
        self.assertEqual(self.listed(("min_size", "100")), ["100%_sure.bin", "zero.bin"])
        self.assertEqual(self.listed(("min_size", "101")), ["zero.bin"])
        self.assertEqual(self.listed(("max_size", "0")), ["empty"])
        self.assertEqual(self.listed(("max_size", "100"), ("min_size", "100")), ["100%_sure.bin"])
        self.assertEqual(self.listed(("min_size", "5"), ("max_size", "4")), [])

    def test_created_after_is_inclusive_and_created_before_exclusive(self):
        for f in self.files.values():
            moment = f["created_at"]
            ids = [g["id"] for g in self.files.values() if g["created_at"] >= moment]
            self.assertEqual(sorted(g["id"] for g in self.get_json("/files" + query(created_after=moment))["files"]), sorted(ids))
            ids = [g["id"] for g in self.files.values() if g["created_at"] < moment]
            self.assertEqual(sorted(g["id"] for g in self.get_json("/files" + query(created_before=moment))["files"]),
                             sorted(ids))

    def test_times_may_come_without_their_fraction(self):
        self.assertEqual(len(self.listed(("created_after", "2001-01-01T00:00:00Z"), ("created_before", "2099-12-31T23:59:59Z"))),
                         len(self.files))
        self.assertEqual(self.listed(("created_after", "2099-12-31T23:59:59Z")), [])

    def test_attributes_are_found_at_the_top_and_deeper(self):
        self.assertEqual(self.listed(("attr.project", "apollo")), ["Report Q4.pdf", "ÉTÉ photo.jpg"])
        self.assertEqual(self.listed(("attr.phase.no", "2")), ["ÉTÉ photo.jpg"])
        self.assertEqual(self.listed(("attr.project", "apollo"), ("attr.phase.no", "1")), ["Report Q4.pdf"])
        for pair in (("attr.project", "Apollo"), ("attr.project", ""), ("attr.nobody", "x"), ("attr.phase", "1"),
                     ("attr.project.x", "apollo")):
            self.assertEqual(self.listed(pair), [])

    def test_owner_of_nobody_finds_nothing(self):
        self.assertEqual(self.listed(("owner", "ann")), [])

    def test_several_filters_hold_all_together(self):
        self.assertEqual(self.listed(("q", "photo"), ("tag", "q4"), ("type", "image/*"), ("min_size", "1")), ["photo.png"])
        self.assertEqual(self.listed(("q", "photo"), ("tag", "q4"), ("type", "image/*"), ("max_size", "1")), [])

    def test_every_filter_goes_with_every_sort(self):
        some = self.files["Report Q4.pdf"]
        filters = [("q", "e"), ("q", "report"), ("name", "photo.png"), ("type", "image/png"), ("type", "image/*"), ("tag", "q4"),
                   ("owner", "ann"), ("sha256", some["sha256"]), ("min_size", "1"), ("max_size", "500"),
                   ("created_after", some["created_at"]), ("created_before", "2099-01-01T00:00:00Z"), ("attr.project", "apollo")]
        for pair in filters:
            expected = None
            for sort in ("created_at", "-created_at", "name", "-name", "size", "-size"):
                with self.subTest(filter=pair, sort=sort):
                    got = self.listed(pair, ("sort", sort))
                    expected = got if expected is None else expected
                    self.assertEqual(got, expected)
                    paged, cursor = [], None
                    for _ in range(len(self.files) + 2):
                        page = self.get_json("/files" + query(pair, ("sort", sort), ("limit", "1"),
                                                              *([("cursor", cursor)] if cursor else [])))
                        paged += names(page)
                        cursor = page["next_cursor"]
                        if cursor is None:
                            break
                    self.assertEqual(sorted(paged), expected)

    def test_values_that_look_like_sql_are_values(self):
        for value in ("' OR '1'='1", "'; DROP TABLE files; --", '" OR 1=1 --', "\\' OR 1=1", "$1", "?1", ":name", "%s",
                      "1; SELECT 1"):
            for key in ("q", "name", "type", "tag", "owner", "attr.project"):
                with self.subTest(key=key, value=value):
                    response = self.assert_status(self.get("/files" + query((key, value))), 200, 400)
                    if response.status == 200:
                        self.assertEqual(response.json()["files"], [])
            response = self.assert_status(self.get("/files" + query(("attr." + value, "x"))), 200, 400)
            if response.status == 200:
                self.assertEqual(response.json()["files"], [])
        self.assertEqual(len(self.get_json("/files")["files"]), len(self.files))

    def test_head_says_what_get_says(self):
        got = self.get("/files?q=report")
        head = self.request("HEAD", "/files?q=report")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["Content-Type"], got.headers["Content-Type"])


@on_both_stores
class Orders(DepotCase):
    # By code point: ASCII, Latin-1, Greek, private use (U+FF5E before U+1F600, which UTF-16 would turn round).
    NAMES = ["!.txt", "10.txt", "9.txt", "A.txt", "B.txt", "Z.txt", "_.txt", "a b.txt", "a.txt", "ab.txt", "b.txt", "z.txt",
             "À.txt", "é.txt", "Ω.txt",
             "文.txt", "\uff5e.txt", "😀.txt"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        shuffled = sorted(cls.NAMES, key=lambda name: sha256(name.encode()))
        cls.files = [cls.server.put(quote(name), b"x" * (i * 7 % 5)) for i, name in enumerate(shuffled)]

    def order(self, sort):
        return self.get_json("/files" + query(sort=sort))["files"]

    def test_names_are_sorted_by_code_point(self):
        self.assertEqual([f["name"] for f in self.order("name")], self.NAMES)
        self.assertEqual([f["name"] for f in self.order("-name")], self.NAMES[::-1])

    def test_files_are_sorted_by_time_of_creation(self):
        ids = [f["id"] for f in self.files]
        self.assertEqual([f["id"] for f in self.order("created_at")], ids)
        self.assertEqual([f["id"] for f in self.order("-created_at")], ids[::-1])
        self.assertEqual([f["id"] for f in self.get_json("/files")["files"]], ids[::-1])

    def test_files_are_sorted_by_size(self):
        sizes = sorted(f["size"] for f in self.files)
        self.assertEqual([f["size"] for f in self.order("size")], sizes)
        self.assertEqual([f["size"] for f in self.order("-size")], sizes[::-1])

    def test_equal_values_have_a_fixed_order_that_turns_round(self):
        up, down = [f["id"] for f in self.order("size")], [f["id"] for f in self.order("-size")]
        self.assertEqual(up, [f["id"] for f in self.order("size")])
        self.assertEqual(sorted(up), sorted(down))

    def test_pages_of_every_sort_and_size_cover_everything_once(self):
        for sort in ("created_at", "-created_at", "name", "-name", "size", "-size"):
            whole = [f["id"] for f in self.order(sort)]
            for limit in (1, 2, 5, len(whole) - 1, len(whole), len(whole) + 1):
                with self.subTest(sort=sort, limit=limit):
                    found, cursor = [], None
                    for _ in range(len(whole) + 2):
                        page = self.get_json("/files" + query(*([("cursor", cursor)] if cursor else []), sort=sort, limit=limit))
                        self.assertLessEqual(len(page["files"]), limit)
                        found += [f["id"] for f in page["files"]]
                        cursor = page["next_cursor"]
                        if cursor is None:
                            break
                    self.assertIsNone(cursor)
                    self.assertEqual(found, whole)


@on_both_stores
class Pages(DepotCase):
    def fill(self, n, prefix="p"):
        """n files in one form: one created_at for many, which only the id tells apart."""
        return self.post_files([file("f", "%s%03d.txt" % (prefix, i), b"%d" % i) for i in range(n)] + [field("set", prefix)])

    def next_link(self, response):
        links = [m[1] for m in re.finditer(r'<([^>]*)>\s*;\s*rel="?next"?', response.headers.get("Link", ""))]
        self.assertLessEqual(len(links), 1)
        return links[0] if links else None

    def test_link_next_leads_through_all_pages_with_the_same_filters(self):
        self.fill(23, "link")
        response = self.get("/files" + query(("attr.set", "link"), limit=5, sort="name"))
        found = []
        for _ in range(10):
            self.assertEqual(response.status, 200)
            found += names(response.json())
            link = self.next_link(response)
            self.assertEqual(link is None, response.json()["next_cursor"] is None)
            if link is None:
                break
            url = urllib.parse.urlsplit(urllib.parse.urljoin("http://depot.example/files", link))
            self.assertEqual(url.path, "/files")
            response = self.get(url.path + "?" + url.query)
        self.assertEqual(found, ["link%03d.txt" % i for i in range(23)])

    def test_fifty_are_on_a_page_that_does_not_say_otherwise(self):
        self.fill(60, "fifty")
        page = self.get_json("/files")
        self.assertEqual(len(page["files"]), 50)
        self.assertIsNotNone(page["next_cursor"])

    def test_a_thousand_may_be_on_a_page(self):
        for i in range(4):
            self.fill(260, "thousand%d-" % i)
        page = self.get_json("/files" + query(q="thousand", limit=1000))
        self.assertEqual(len(page["files"]), 1000)
        rest = self.get_json("/files" + query(q="thousand", limit=1000, cursor=page["next_cursor"]))
        self.assertEqual(len(rest["files"]), 40)
        self.assertEqual(len({f["id"] for f in page["files"] + rest["files"]}), 1040)

    def test_what_is_added_between_two_pages_moves_nothing(self):
        for sort in ("-created_at", "created_at", "name", "-name", "size", "-size"):
            with self.subTest(sort=sort):
                prefix = "add" + sort
                expected = {f["id"] for f in self.fill(20, prefix)}
                found, cursor = [], None
                for i in range(40):
                    page = self.get_json("/files" + query(("attr.set", prefix), *([("cursor", cursor)] if cursor else []),
                                                          sort=sort, limit=3))
                    found += [f["id"] for f in page["files"]]
                    cursor = page["next_cursor"]
                    if cursor is None:
                        break
                    self.put("%s%03d.between" % (prefix, i % 7 * 3), b"y" * (i % 4), query(("attr.set", prefix)))
                    if i > 25:
                        self.fail("the pages have no end")
                    if sort == "created_at" and i >= 8:
                        break  # what is added comes behind: such a list grows while it is read
                self.assertEqual(len(found), len(set(found)))
                self.assertLessEqual(expected, set(found))

    def test_what_is_removed_between_two_pages_moves_nothing(self):
        for sort in ("-created_at", "name", "size"):
            with self.subTest(sort=sort):
                prefix = "del" + sort
                self.fill(20, prefix)
                whole = [f["id"] for f in self.get_json("/files" + query(("attr.set", prefix), sort=sort))["files"]]
                first = self.get_json("/files" + query(("attr.set", prefix), sort=sort, limit=5))
                for id in (whole[0], whole[4], whole[7]):  # seen; the very place of the cursor; not yet seen
                    self.assertEqual(self.request("DELETE", "/files/" + id).status, 204)
                rest = self.get_json("/files" + query(("attr.set", prefix), sort=sort, limit=50, cursor=first["next_cursor"]))
                self.assertEqual([f["id"] for f in rest["files"]], [id for id in whole[5:] if id != whole[7]])

    def test_a_file_that_is_renamed_is_listed_under_its_new_name(self):
        stored = self.put("before-renaming.txt", b"x")
        self.assertEqual(self.patch(stored["id"], {"name": "After-Renaming.txt", "tags": ["renamed"]}).status, 200)
        self.assertEqual(self.get_json("/files?q=before-renaming")["files"], [])
        for pair in (("q", "after-renaming"), ("name", "After-Renaming.txt"), ("tag", "renamed")):
            self.assertEqual([f["id"] for f in self.get_json("/files" + query(pair))["files"]], [stored["id"]])

    def test_what_is_expired_is_not_listed(self):
        stored = self.put("expires.txt", b"x", query(expires_in="1"))
        listed = self.get_json("/files?name=expires.txt")["files"]
        if not is_expired(stored):
            self.assertEqual(listed, [stored])
        wait_until(lambda: not self.get_json("/files?name=expires.txt")["files"], "the expired file is no longer listed")
        self.assertTrue(is_expired(stored))


@on_both_stores
class WrongParameters(DepotCase):
    def assert_names(self, target, parameter):
        with self.subTest(target=target):
            self.assert_refused(self.get(target), parameter)

    def test_an_unknown_parameter_is_refused_by_name(self):
        for key in ("nonsense", "Q", "Limit", "offset", "page", "min-size", "attr", "tags", "<script>"):
            self.assert_names("/files" + query((key, "1")), key)

    def test_a_wrong_value_is_refused_by_its_parameter_s_name(self):
        for key, values in {
                "limit": ("0", "1001", "-1", "abc", "", "1.5", "99999999999999999999", " 5", "5x"),
                "sort": ("nonsense", "-", "--name", "Name", "id", "name,size", "owner"),
                "cursor": ("nonsense", "!", "AAAA", "a" * 5000, "..", "é"),
                "min_size": ("abc", "-1", "", "1.5", "9" * 30), "max_size": ("abc", "-1", "", "9" * 30),
                "created_after": ("yesterday", "", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "1764000000"),
                "created_before": ("yesterday", "2026-01-01T25:00:00Z"),
                "sha256": ("abc", "", "g" * 64, "0" * 63, "0" * 65)}.items():
            for value in values:
                self.assert_names("/files" + query((key, value)), key)

    def test_a_repeated_parameter_is_refused_by_name(self):
        for key, value in (("q", "a"), ("name", "a"), ("type", "image/png"), ("owner", "a"), ("limit", "5"), ("sort", "name"),
                           ("min_size", "1"),
                           ("max_size", "1"), ("sha256", "0" * 64), ("created_after", "2026-01-01T00:00:00Z"), ("attr.k", "v")):
            self.assert_names("/files" + query((key, value), (key, value)), key)

    def test_broken_encoding_is_refused(self):
        for text in ("q=%zz", "q=%", "q=%4", "q=%ff", "q=%c0%af", "q=a%00b", "%ff=1", "tag=%ed%a0%80"):
            with self.subTest(text=text):
                self.assert_refused(self.get("/files?" + text))

    def test_the_connection_lives_on_after_a_wrong_parameter(self):
        connection = self.connect()
        for _ in range(3):
            response = connection.exchange("GET", "/files?limit=0")
            self.assertEqual(response.status, 400)
            self.assertTrue(response.keeps_alive)
        self.assertEqual(connection.exchange("GET", "/files").status, 200)

    def test_hundreds_of_parameters_are_answered(self):
        for text in ("&".join("tag=t%d" % i for i in range(300)), "&".join("x%d=1" % i for i in range(300)), "&" * 500,
                     "=&" * 300, "q"):
            with self.subTest(text=text[:20]):
                self.assert_status(self.get("/files?" + text), 200, 400, 414)

    def test_a_plus_is_a_blank_and_percent_2b_a_plus(self):
        stored = self.put("one+one is two.txt", b"x")
        for text in ("q=one%2Bone+is+two", "q=one%2bone%20is%20two"):
            self.assertEqual([f["id"] for f in self.get_json("/files?" + text)["files"]], [stored["id"]])


if __name__ == "__main__":
    unittest.main()
