"""The page at / as a browser without scripts has it: the form, the list, redirects, errors, and headers that protect it."""

import html.parser
import re
import unittest
import urllib.parse

from depot_case import BROWSER, DepotCase, query
from form_data import BOUNDARY, Part, content_type, encode_form, field


class Page(html.parser.HTMLParser):
    """Forms with their controls, links, references to other resources, and what a script might be run from."""

    VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.forms, self.links, self.references, self.scripts = [], [], [], []
        self.handlers, self.styles, self.elements, self.text, self.title = [], [], [], "", ""
        self.language = None
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        self.handlers += [(tag, name) for name in attrs if name.startswith("on")]
        if "style" in attrs:
            self.styles.append((tag, attrs["style"]))
        if tag == "html":
            self.language = attrs.get("lang")
        elif tag == "form":
            self.forms.append((attrs, []))
        elif tag in ("input", "select", "textarea", "button") and self.forms:
            self.forms[-1][1].append((tag, attrs))
        elif tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        elif tag == "script":
            self.scripts.append(attrs)
        if tag in ("script", "img", "source", "video", "audio", "iframe", "embed") and attrs.get("src"):
            self.references.append(attrs["src"])
        if tag == "link" and attrs.get("href"):
            self.references.append(attrs["href"])
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text += data
        if self._open and self._open[-1] == "title":
            self.title += data

    def upload_form(self):
        """(attributes, controls) of the form that sends files."""
        return next((attrs, controls) for attrs, controls in self.forms
                    if any(c.get("type") == "file" for _, c in controls))


class ThePage(DepotCase):
    def page(self, target="/", headers=()):
        response = self.request("GET", target, {**BROWSER, **dict(headers)})
        self.assertEqual(response.status, 200, repr(response))
        self.assertEqual(response.media_type, "text/html")
        return Page(response.text)

    def submit(self, files, **values):
        """Sends the page's own upload form as a browser would: every control, those left alone with their defaults."""
        attrs, controls = self.page().upload_form()
        self.assertEqual(attrs["method"].lower(), "post")
        self.assertEqual(attrs["enctype"].lower(), "multipart/form-data")
        parts = []
        for tag, control in controls:
            name = control.get("name")
            if not name or tag == "button" or control.get("type") in ("submit", "button", "checkbox", "radio"):
                continue
            if control.get("type") == "file":
                parts += [Part(name, data, filename=n, type="application/octet-stream") for n, data in files] or \
                    [Part(name, b"", filename="", type="application/octet-stream")]
            else:
                parts.append(field(name, values.get(name, control.get("value", ""))))
        return self.request("POST", urllib.parse.urljoin("/", attrs.get("action") or "/"),
                            [("Content-Type", content_type())] + list(BROWSER.items()) +
                            [("Origin", "http://depot.example"), ("Sec-Fetch-Site", "same-origin")], encode_form(parts, BOUNDARY))

    def test_it_is_html_in_utf_8_with_a_title(self):
        for headers in (BROWSER, {}, {"Accept": "*/*"}):
            response = self.request("GET", "/", headers)
            self.assertEqual((response.status, response.media_type), (200, "text/html"))
            self.assertIn("utf-8", response.headers["Content-Type"].lower())
        self.assertTrue(self.page().title.strip())
        self.assertTrue(response.text.lstrip().lower().startswith("<!doctype html"))

    def test_head_of_the_page_is_answered(self):
        response = self.request("HEAD", "/", BROWSER)
        self.assertEqual((response.status, response.media_type, response.body), (200, "text/html", b""))

    def test_it_has_a_form_for_several_files_that_works_without_scripts(self):
        attrs, controls = self.page().upload_form()
        self.assertEqual((attrs["method"].lower(), attrs["enctype"].lower()), ("post", "multipart/form-data"))
        self.assertIn(urllib.parse.urljoin("/", attrs.get("action") or "/"), ("/", "/files"))
        (chooser,) = [c for _, c in controls if c.get("type") == "file"]
        self.assertTrue(chooser.get("name"))
        self.assertIn("multiple", chooser)
        buttons = [c.get("type", "submit" if tag == "button" else "text") for tag, c in controls]
        self.assertIn("submit", buttons)

    def test_the_form_with_files_leads_by_303_to_the_list_that_shows_them(self):
        response = self.submit([("from the form – é.txt", b"one"), ("second.txt", b"two")])
        self.assertEqual(response.status, 303, repr(response))
        page = self.page(response.headers["Location"])
        self.assertIn("from the form – é.txt", page.text)
        self.assertIn("second.txt", page.text)
        (stored,) = self.get_json("/files" + query(name="from the form – é.txt"))["files"]
        self.assertEqual(self.content(stored), b"one")
        self.assertEqual((stored["tags"], stored["attributes"], stored["expires_at"]), ([], {}, None))
        self.assertTrue([link for link in page.links if link.startswith(stored["url"])])

    def test_the_form_without_a_file_gets_a_page_that_says_so(self):
        response = self.submit([])
        self.assertEqual((response.status, response.media_type), (400, "text/html"))
        self.assertIn("/", Page(response.text).links)

    def test_names_are_escaped_in_the_list(self):
        name = "<script>alert(1)<b>\"'&amp; <img src=x onerror=alert(1)>.txt"
        stored = self.put(name, b"x")
        page = self.page()
        self.assertIn(name, page.text)
        self.assertNotIn(("img", "onerror"), page.handlers)
        self.assertEqual([s for s in page.scripts if not s.get("src") and s.get("type") != "application/json"], [])
        self.assertEqual(self.metadata(stored["id"])["name"], name)

    def test_sizes_are_told_in_the_units_that_they_name(self):
        for size, text in ((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (91_628, "92 kB"), (999_499, "999 kB"), (999_500, "1.0 MB")):
            with self.subTest(size=size):
                self.put("of-a-size", b"x" * size)
                page = self.request("GET", "/", BROWSER).text
                self.assertEqual(re.search('class="size">([^<]*)<', page)[1], text)

    def test_tags_and_types_are_escaped_in_the_list(self):
        self.put("tagged.txt", b"x", query(("tags", "<i>t&g"), ("attr.<u>", "<u>")))
        self.assertEqual([t for t, _ in self.page().elements if t in ("i", "u")], [])

    def test_every_link_to_a_file_works(self):
        self.put("linked.txt", b"x")
        links = [link for link in self.page().links if link.startswith("/files/")]
        self.assertTrue(links)
        for link in links[:20]:
            self.assertEqual(self.request("GET", link, BROWSER).status, 200)

    def test_what_it_refers_to_is_there_and_from_here(self):
        for reference in self.page().references:
            with self.subTest(reference=reference):
                if reference.startswith("data:"):
                    continue
                url = urllib.parse.urlsplit(urllib.parse.urljoin("http://depot.example/", reference))
                self.assertEqual(url.netloc, "depot.example")
                response = self.get(url.path + ("?" + url.query if url.query else ""))
                self.assertEqual(response.status, 200)
                self.assertEqual(response.headers["X-Content-Type-Options"].lower(), "nosniff")

    def test_assets_have_the_types_that_nosniff_asks_for(self):
        page = self.page()
        for script in page.scripts:
            if script.get("src"):
                self.assertIn(self.get(urllib.parse.urljoin("/", script["src"])).media_type,
                              ("text/javascript", "application/javascript"))
        for tag, attrs in page.elements:
            if tag == "link" and attrs.get("rel") == "stylesheet":
                self.assertEqual(self.get(urllib.parse.urljoin("/", attrs["href"])).media_type, "text/css")

    def test_its_policy_lets_no_foreign_or_inline_script_run(self):
        response = self.request("GET", "/", BROWSER)
        policy = {}
        for directive in response.headers["Content-Security-Policy"].split(";"):
            name, *values = directive.split()
            policy[name.lower()] = values
        scripts = policy.get("script-src", policy.get("default-src"))
        self.assertIsNotNone(scripts)
        for value in ("'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:", "data:"):
            self.assertNotIn(value, scripts)
        for value in ("*", "http:", "https:", "data:"):
            self.assertNotIn(value, policy.get("object-src", policy.get("default-src")))
        self.assertIn(policy.get("base-uri"), (["'none'"], ["'self'"]))
        self.assertIn(policy.get("frame-ancestors"), (["'none'"], ["'self'"]))
        self.assertIn("form-action", policy)
        self.assertEqual(response.headers["X-Content-Type-Options"].lower(), "nosniff")
        self.assertIn("Referrer-Policy", response.headers)

    def test_it_has_no_handlers_or_scripts_that_the_policy_would_stop(self):
        page = self.page()
        self.assertEqual(page.handlers, [])
        for script in page.scripts:
            self.assertTrue(script.get("src") or script.get("nonce") or script.get("type") == "application/json")

    def test_it_speaks_english_and_portuguese(self):
        self.assertTrue(self.page().language.lower().startswith("en"))
        for accepted, language in (("pt-BR,pt;q=0.9,en;q=0.8", "pt"), ("pt", "pt"), ("en-GB,en;q=0.9,pt;q=0.8", "en"),
                                   ("de,fr", "en"),
                                   ("fr, pt;q=0.5, en;q=0.1", "pt"), ("", "en"), ("*", "en"), (";;;,q=", "en")):
            with self.subTest(accepted=accepted):
                self.assertTrue(self.page(headers={"Accept-Language": accepted}).language.lower().startswith(language))

    def test_a_proxy_that_caches_is_told_what_it_depends_on(self):
        response = self.request("GET", "/", BROWSER)
        if not re.search("no-store|no-cache|private", response.headers.get("Cache-Control", "")):
            self.assertIn("accept-language", response.headers.get("Vary", "").lower())

    def test_controls_of_the_form_have_labels(self):
        page = self.page()
        labelled = {attrs.get("for") for tag, attrs in page.elements if tag == "label"}
        _, controls = page.upload_form()
        for tag, control in controls:
            if tag != "button" and control.get("type") not in ("submit", "hidden"):
                with self.subTest(control=control.get("name")):
                    self.assertTrue(control.get("id") in labelled or control.get("aria-label") or control.get("aria-labelledby") or
                                    any(t == "label" and "for" not in a for t, a in page.elements))

    def test_pictures_that_browsers_show_have_thumbnails_and_others_have_none(self):
        self.put("shown.png", b"\x89PNG\r\n\x1a\n")
        self.put("not-shown.tiff", b"II*\0\x08\0\0\0")
        pictures = [attrs["src"] for tag, attrs in self.page("/?q=shown.").elements if tag == "img"]
        self.assertEqual(pictures, [self.get_json("/files?name=shown.png")["files"][0]["url"]])

    def test_it_says_that_there_is_a_list(self):
        (files,) = [attrs for _, attrs in self.page().elements if attrs.get("id") == "files"]
        self.assertEqual(files["data-state"], "listed")

    def test_many_files_do_not_make_the_page_endless(self):
        for i in range(120):
            self.put("many-%d.txt" % i, b"x")
        response = self.request("GET", "/", BROWSER)
        self.assertEqual(response.status, 200)
        self.assertLess(len(response.body), 1 << 20)


if __name__ == "__main__":
    unittest.main()
