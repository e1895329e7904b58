"""The web page in a real browser, against the real binary: as a person uses it, with scripts and without, in both languages,
on a desk and on a phone.
"""
import json
import os
import re
import struct
import sys
import unittest

from page_case import CONTROL, DELETE, DOWN, ENTER, ESCAPE, PageTestCase, picture
from depotd_server import ROOT


class WithScriptsTest(PageTestCase):
    def test_a_chosen_file_is_uploaded_and_listed(self):
        self.upload("letter.txt", b"Dear reader,\n")
        self.assertEqual(self.stored("letter.txt")["size"], 13)
        self.assertIn("13 bytes", self.browser.find(self.row("letter.txt") + " .size").text)

    def test_several_files_are_uploaded_side_by_side(self):
        names = ["many-%d.bin" % i for i in range(7)]
        self.browser.find("#picker").type("\n".join(self.file(name, os.urandom(50_000)) for name in names))
        for name in names:
            self.wait_for_row(name)
        self.browser.wait(lambda: not self.browser.find("#transfers").displayed, "the end of all uploads")

    def test_tags_and_expiry_of_the_form_go_with_the_upload(self):
        self.click(".options summary")
        self.browser.find("#upload [name=tags]").type("q4, blue")
        self.browser.find("#upload [name=expires_in] option[value='7d']").click()
        self.upload("labelled.txt", b"x")
        self.assertEqual(self.stored("labelled.txt")["tags"], ["q4", "blue"])
        self.assertIsNotNone(self.stored("labelled.txt")["expires_at"])
        self.assertEqual(self.browser.texts(self.row("labelled.txt") + " .tag"), ["q4", "blue"])
        self.assertIn("Expires in 7 days", self.browser.find(self.row("labelled.txt") + " .expires").text)

    def test_a_dropped_file_is_uploaded(self):
        self.drop("dropped.txt")
        self.wait_for_row("dropped.txt")

    def test_of_a_dropped_folder_all_comes_but_what_cannot_be_read(self):
        self.browser.script(
            "const file = (name) => ({name, isFile: true, file: (done, failed) => name.startsWith('locked') ? failed(new Error()) : done(new File(['x'], name))});"
            "const folder = (name, ...inner) => ({name, isDirectory: true, createReader: () => {"
            " const portions = [inner, []]; return {readEntries: (done) => done(portions.shift())}; }});"
            "DataTransferItem.prototype.webkitGetAsEntry = () => folder('outer', file('locked.txt'), folder('inner', file('deep.txt')), file('flat.txt'));")
        self.drop("outer")
        self.wait_for_row("deep.txt")
        self.wait_for_row("flat.txt")
        self.assertTrue(any("“locked.txt” cannot be read" in text for text in self.browser.texts(".note")))
        self.assertNotIn("locked.txt", self.names())

    def test_a_pasted_picture_is_uploaded_under_a_name_of_its_own(self):
        self.browser.script(
            "const data = new DataTransfer(); data.items.add(new File(['pasted'], 'image.png', {type: 'image/png'}));"
            "document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}))")
        self.browser.wait(lambda: [name for name in self.names() if name.startswith("20") and name.endswith(".png")],
                          "the pasted picture")

    def test_a_name_of_any_script_comes_back_as_it_was(self):
        name = "Ação – 日本語 & <b>100% \"#1\"?.txt"
        self.upload(name, b"x")
        self.assertEqual(self.stored(name)["name"], name)
        self.browser.reload()
        self.wait_for_row(name)

    def test_a_refused_upload_says_why_and_can_be_tried_again(self):
        self.browser.cdp("Network.enable")
        self.browser.script(
            "const open = XMLHttpRequest.prototype.open; let first = true;"
            "XMLHttpRequest.prototype.open = function (method, url) {"
            " open.call(this, method, first ? '/files/bad%00name' : url); first = false; }")
        self.tolerated = ("400",)
        self.browser.find("#picker").type(self.file("refused.txt", b"x"))
        self.browser.wait(lambda: self.browser.all(".transfer[data-state=failed]"), "the refusal")
        self.assertRegex(self.browser.find(".transfer .detail").text, r"Not uploaded.*\(Request [-0-9a-f]+\)")
        self.click(".transfer [data-do=retry]")
        self.wait_for_row("refused.txt")

    def test_an_upload_told_to_come_back_later_comes_back_by_itself(self):
        self.browser.script(
            "const status = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, 'status'); let busy = true;"
            "Object.defineProperty(XMLHttpRequest.prototype, 'status', {get() {"
            " if (busy && this.readyState === 4) { busy = false; return 503; } return status.get.call(this); }});"
            "XMLHttpRequest.prototype.getResponseHeader = () => '1'")
        self.browser.find("#picker").type(self.file("patient.txt", b"x"))
        self.wait_for_row("patient.txt")
        # The first try had reached the server after all, and had the same key.
        self.assertEqual(self.names().count("patient.txt"), 1)
        self.browser.reload()
        self.wait_for_row("patient.txt")
        self.assertEqual(self.names().count("patient.txt"), 1)

    def test_an_upload_goes_on_when_the_connection_is_back(self):
        self.tolerated = ("ERR_INTERNET_DISCONNECTED",)
        self.browser.script(  # not after the pause: it is cut short when the connection is back
            "const later = window.setTimeout;"
            "window.setTimeout = (run, time, ...rest) => time < 1000 ? later(run, time, ...rest) : 0")
        self.network(offline=True)
        try:
            self.browser.find("#picker").type(self.file("offline.txt", b"x"))
            self.browser.wait(lambda: self.browser.all(".transfer[data-state=pausing]"), "the pause")
        finally:
            self.network()
        self.wait_for_row("offline.txt")

    def test_a_running_upload_can_be_cancelled(self):
        self.network(upload=50_000)
        try:
            self.browser.find("#picker").type(self.file("endless.bin", bytes(4_000_000)))
            self.wait_until_shown(".transfer [data-do=cancel]").click()
            self.browser.wait(lambda: not self.browser.find("#transfers").displayed, "the end of the upload")
        finally:
            self.network()
        self.assertNotIn("endless.bin", self.names())
        self.assertIsNone(self.stored("endless.bin"))

    def test_a_picture_has_a_thumbnail_and_is_shown_large(self):
        self.upload("picture.png", picture())
        thumbnail = self.row("picture.png") + " .thumb img"
        self.browser.wait(lambda: self.browser.find(thumbnail).property("naturalWidth") == 40, "the thumbnail")
        self.click(self.row("picture.png") + " .name")
        self.browser.wait(lambda: self.browser.find("#viewer .stage img").property("naturalWidth") == 40, "the picture")
        self.browser.press(ESCAPE)
        self.browser.wait(lambda: not self.browser.find("#viewer").displayed, "the end of the view")

    def test_of_a_long_text_the_beginning_is_shown(self):
        self.upload("long.txt", b"".join(b"line %07d\n" % i for i in range(40_000)))
        self.click(self.row("long.txt") + " .name")
        shown = self.browser.wait(lambda: self.browser.find("#viewer pre").property("textContent"), "the text")
        self.assertEqual(len(shown), 256_000)
        self.assertTrue(shown.startswith("line 0000000\nline 0000001\n"))
        self.assertIn("First 256 kB", self.browser.find("#viewer .cut").text)

    def test_markup_is_shown_as_its_source(self):
        self.upload("page.html", b"<script>document.title = 'taken'</script><b>bold</b>")
        self.click(self.row("page.html") + " .name")
        shown = self.browser.wait(lambda: self.browser.find("#viewer pre").text, "the source")
        self.assertIn("<b>bold</b>", shown)
        self.assertNotEqual(self.browser.title, "taken")

    def test_sound_and_film_get_a_player(self):
        self.upload("sound.wav", b"RIFF" + struct.pack("<I", 36 + 800) + b"WAVEfmt " + struct.pack(
            "<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 800) + bytes([128] * 800))
        self.click(self.row("sound.wav") + " .name")
        self.browser.wait(lambda: self.browser.find("#viewer audio").property("duration") == 0.1, "the sound")

    def test_a_pdf_is_shown_in_a_frame(self):
        self.upload("paper.pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>"
                    b"endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF")
        self.click(self.row("paper.pdf") + " .name")
        self.browser.wait(lambda: self.browser.all("#viewer iframe[src^='blob:']"), "the frame")

    def test_a_download_has_the_bytes_that_were_uploaded(self):
        content = os.urandom(300_000)
        self.upload("bytes.bin", content)
        self.click(self.row("bytes.bin") + " [data-do=download]")
        path = os.path.join(self.browser.downloads, "bytes.bin")
        self.browser.wait(lambda: os.path.exists(path) and os.path.getsize(path) == len(content), "the download")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), content)

    def test_a_file_is_renamed_and_tagged(self):
        self.upload("before.txt", b"x")
        self.click(self.row("before.txt") + " [data-do=edit]")
        self.wait_until_shown("#viewer .edit [name=name]")
        self.browser.wait(lambda: len(self.browser.find("[data-fact=sha256]").text) == 64, "the metadata")
        self.fill("#viewer [name=name]", "after.txt")
        self.fill("#viewer [name=tags]", "one, two")
        self.click("#viewer .edit button")
        self.wait_for_row("after.txt")
        self.assertEqual(self.stored("after.txt")["tags"], ["one", "two"])
        self.assertIsNone(self.stored("before.txt"))
        self.assertNotIn("before.txt", self.names())

    def test_a_change_of_what_somebody_else_changed_meanwhile_is_not_made(self):
        self.upload("shared.txt", b"x")
        self.browser.reload()  # the list has no digest: it is there when the metadata is
        self.click(self.row("shared.txt") + " [data-do=edit]")
        self.browser.wait(lambda: len(self.browser.find("[data-fact=sha256]").text) == 64, "the metadata")
        self.server.request("PATCH", self.stored("shared.txt")["url"] + "/metadata", body=json.dumps({"tags": ["theirs"]}),
                            headers={"Content-Type": "application/merge-patch+json"})
        self.tolerated = ("412",)
        self.fill("#viewer [name=tags]", "mine")
        self.click("#viewer .edit button")
        self.browser.wait(lambda: "meanwhile" in self.browser.find("#viewer .wrong").text, "the warning")
        self.assertEqual(self.stored("shared.txt")["tags"], ["theirs"])

    def test_who_edits_before_the_metadata_came_is_told_what_changed_meanwhile(self):
        """The list is older than it: what stands in the form was never the revision that came."""
        self.upload("early.txt", b"x")
        self.browser.script(
            "const ask = window.fetch; window.fetch = async (url, options) => {"
            " if (options?.method === 'GET' && String(url).endsWith('/metadata')) await new Promise((go) => { window.go = go; });"
            " return ask(url, options); };")
        self.click(self.row("early.txt") + " [data-do=edit]")
        self.browser.wait(lambda: self.browser.script("return Boolean(window.go)"), "the question for the metadata")
        self.server.request("PATCH", self.stored("early.txt")["url"] + "/metadata", body=json.dumps({"tags": ["theirs"]}),
                            headers={"Content-Type": "application/merge-patch+json"})
        self.fill("#viewer [name=tags]", "mine")
        self.click("#viewer .edit button")
        self.browser.script("window.go()")
        self.browser.wait(lambda: "meanwhile" in self.browser.find("#viewer .wrong").text, "the warning")
        self.assertEqual(self.browser.find("#viewer [name=tags]").property("value"), "theirs")
        self.assertEqual(self.stored("early.txt")["tags"], ["theirs"])

    def test_a_deletion_can_be_taken_back(self):
        self.upload("kept.txt", b"x")
        self.click(self.row("kept.txt") + " [data-do=delete]")
        self.browser.wait(lambda: "kept.txt" not in self.names(), "the row going")
        self.click(".note:last-child button")
        self.wait_for_row("kept.txt")
        self.assertIsNotNone(self.stored("kept.txt"))

    def test_a_deletion_is_carried_out_when_the_page_is_left(self):
        self.upload("gone.txt", b"x")
        self.click(self.row("gone.txt") + " [data-do=delete]")
        self.browser.wait(lambda: "gone.txt" not in self.names(), "the row going")
        self.assertIsNotNone(self.stored("gone.txt"))
        self.browser.open("about:blank")
        self.browser.wait(lambda: self.stored("gone.txt") is None, "the deletion")

    def test_several_files_are_chosen_and_deleted_at_once(self):
        for name in ("bulk-1.txt", "bulk-2.txt", "bulk-3.txt"):
            self.upload(name, b"x")
        self.fill("#search [name=q]", "bulk-")
        self.browser.wait(lambda: len(self.names()) == 3, "the search")
        self.click("#choose")
        self.click("#chosen [data-do=all]")
        self.click("#chosen [data-do=delete]")
        self.browser.wait(lambda: not self.names(), "the rows going")
        self.browser.open("about:blank")
        self.browser.wait(lambda: self.stored("bulk-1.txt") is None and self.stored("bulk-3.txt") is None, "the deletion")

    def test_a_link_is_copied(self):
        self.upload("linked.txt", b"x")
        self.browser.script("window.copied = []; navigator.clipboard.writeText = async (text) => { window.copied.push(text); }")
        self.click(self.row("linked.txt") + " [data-do=link]")
        copied = self.browser.wait(lambda: self.browser.script("return window.copied"), "the copy")
        self.assertEqual(copied, [self.server.url + self.stored("linked.txt")["url"]])

    def test_a_file_that_somebody_deleted_meanwhile_is_said_to_be_gone(self):
        for name in ("left.txt", "vanished.txt", "right.txt"):
            self.upload(name, b"x")
        self.server.request("DELETE", self.stored("vanished.txt")["url"])
        self.tolerated = ("404",)
        self.click(self.row("vanished.txt") + " .name")
        self.browser.wait(lambda: "no longer there" in self.browser.find("#viewer .stage").text, "the notice")
        self.assertFalse(self.browser.find("#viewer .edit").displayed)
        self.assertFalse(self.browser.find("#viewer [data-do=download]").displayed)
        self.assertNotIn("vanished.txt", self.names())
        self.click("#viewer [data-do=next]")
        self.browser.wait(lambda: self.browser.find("#viewer-title").text == "left.txt", "the next file")
        self.assertTrue(self.browser.find("#viewer .edit").displayed)

    def test_a_picture_that_cannot_be_decoded_has_a_badge(self):
        self.server.put("broken.png", b"\x89PNG\r\n\x1a\n and no picture")
        self.visit("/")
        self.browser.wait(lambda: self.browser.texts(self.row("broken.png") + " .thumb .badge") == ["png"], "the badge")

    def test_nothing_is_taken_while_a_dialog_hides_where_it_would_show(self):
        self.upload("open.txt", b"x")
        self.click(self.row("open.txt") + " .name")
        self.wait_until_shown("#viewer")
        self.drop("hidden.txt")
        self.browser.press(ESCAPE)
        self.browser.wait(lambda: not self.browser.find("#viewer").displayed, "the end of the view")
        self.upload("seen.txt", b"x")
        self.assertIsNone(self.stored("hidden.txt"))

    def test_the_list_is_searched_while_typing(self):
        self.upload("needle-one.txt", b"x")
        self.upload("haystack.txt", b"x")
        self.fill("#search [name=q]", "NEEDLE")
        self.browser.wait(lambda: self.names() == ["needle-one.txt"], "the search")
        self.assertEqual(self.browser.url, self.server.url + "/?q=NEEDLE")
        self.browser.reload()
        self.assertEqual(self.names(), ["needle-one.txt"])

    def test_the_list_is_filtered_by_type_and_sorted(self):
        self.upload("zebra.png", picture())
        self.upload("zoo.txt", b"x")
        self.browser.find("#search [name=type] option[value='image/*']").click()
        self.browser.find("#search [name=sort] option[value='-name']").click()
        self.browser.wait(lambda: self.names() and self.names()[0] == "zebra.png", "the pictures")
        self.assertNotIn("zoo.txt", self.names())

    def test_a_type_that_the_page_does_not_offer_filters_too(self):
        self.upload("only.png", picture())
        self.upload("never.txt", b"x")
        self.visit("/?type=image/png")
        self.assertEqual(self.browser.find("#search [name=type]").property("value"), "image/png")
        self.assertNotIn("never.txt", self.names())

    def test_a_tag_filters_the_list(self):
        self.server.put("tagged.txt", b"x", query="?tags=rare")
        self.visit("/")
        self.click(self.row("tagged.txt") + " .tag")
        self.browser.wait(lambda: self.names() == ["tagged.txt"], "the filter")
        self.click("#filter a")
        self.browser.wait(lambda: len(self.names()) > 1 or not self.browser.all("#filter a"), "all files")

    def test_the_list_goes_on_when_its_end_comes_into_view(self):
        for i in range(120):
            self.server.put("page-%03d.txt" % i, b"x")
        self.visit("/?q=page-")
        self.assertEqual(len(self.browser.all(".file")), 50)

        def all_there():
            self.browser.script("scrollTo(0, document.body.scrollHeight)")
            return len(self.names()) == 120
        self.browser.wait(all_there, "all rows")
        self.assertEqual(sorted(self.names()), ["page-%03d.txt" % i for i in range(120)])

    def test_everything_is_done_from_the_keyboard(self):
        self.upload("keys.txt", b"typed")
        self.browser.script("document.activeElement.blur()")
        self.browser.press("/")
        self.browser.press(*"keys.txt")
        self.browser.wait(lambda: self.names() == ["keys.txt"], "the search")
        self.browser.press(DOWN)
        self.browser.press(ENTER)
        self.browser.wait(lambda: self.browser.find("#viewer pre").text == "typed", "the text")
        self.browser.press(ESCAPE)
        self.browser.wait(lambda: self.browser.script("return document.activeElement.textContent") == "keys.txt",
                          "the focus back on the row")
        self.browser.press(DELETE)
        self.browser.wait(lambda: not self.names(), "the row going")
        self.browser.press("z", holding=CONTROL)
        self.wait_for_row("keys.txt")

    def test_what_happens_is_said_to_those_who_listen(self):
        self.upload("heard.txt", b"x")
        self.browser.wait(lambda: "heard.txt uploaded" in self.browser.texts("#notes [role=status]")[0], "the announcement")

    def test_every_control_has_a_name(self):
        self.upload("named.png", picture())
        self.click("#help-button")
        nameless = self.browser.script(
            "return [...document.querySelectorAll('button, a[href], input, select, progress, iframe')].filter((each) =>"
            " !each.closest('template, [hidden]') && !each.ariaLabel && !each.textContent.trim() && !each.labels?.length"
            " && each.type !== 'hidden' && each.ariaHidden !== 'true').map((each) => each.outerHTML)")
        self.assertEqual(nameless, [])

    def test_a_script_that_somebody_slips_into_the_page_does_not_run(self):
        self.browser.script("const script = document.createElement('script'); script.textContent = 'window.slipped = true';"
                            "document.body.append(script); document.body.setAttribute('style', 'display: none')")
        self.assertIsNone(self.browser.script("return window.slipped ?? null"))
        self.tolerated = ("Content Security Policy",)
        complaints = self.browser.complaints()
        self.assertEqual(len([each for each in complaints if "Content Security Policy" in each]), 2, complaints)

    def test_a_page_that_does_not_exist_says_so_to_people(self):
        self.visit("/nothing-here")
        self.assertEqual(self.browser.find(".status").text, "404")
        self.assertRegex(self.browser.find(".request code").text, r"^[-0-9a-f]{36}$")
        self.tolerated = ("404",)


class StringsTest(unittest.TestCase):
    def test_every_string_that_a_script_names_exists_and_none_is_idle(self):
        assets = os.path.join(ROOT, "src", "front", "web", "assets")
        with open(os.path.join(assets, "strings.en.json"), encoding="utf-8") as file:
            strings = json.load(file)
        code = ""
        for name in os.listdir(assets) + ["../web_page.c"]:
            if name.endswith((".js", ".html", ".c")):
                with open(os.path.join(assets, name), encoding="utf-8") as file:
                    code += file.read()
        for key in re.findall(r'\bt\("(\w+)"', code):
            self.assertIn(key, strings)
        for key in re.findall(r'\btn\("(\w+)"', code):
            self.assertIn(key + "_one", strings)
            self.assertIn(key + "_other", strings)
        idle = [key for key in strings if not re.search(r'[":]%s["}]' % re.sub("_(one|other)$", "", key), code)
                and not re.search(r'[":]%s["}]' % key, code)]
        self.assertEqual(idle, [])


class InPortugueseTest(PageTestCase):
    browser_options = {"language": "pt-BR"}

    def test_the_page_speaks_portuguese(self):
        self.assertEqual(self.browser.find("html").attribute("lang"), "pt")
        self.assertEqual(self.browser.title, "Arquivos · depotd")
        self.upload("relatório.txt", b"x" * 1999)
        self.assertEqual(self.browser.find(self.row("relatório.txt") + " .size").text, "2 kB")
        self.browser.wait(lambda: "relatório.txt enviado" in self.browser.find(".note").text, "the note")

    def test_no_string_is_left_untranslated(self):
        self.upload("texto.txt", b"x")
        self.click(self.row("texto.txt") + " .name")
        self.wait_until_shown("#viewer")
        for word in ("Upload", "Download", "Search", "Delete", "Close", "Save"):
            self.assertNotIn(word, self.browser.script("return document.body.innerText"))


class OnAPhoneTest(PageTestCase):
    browser_options = {"phone": (390, 844)}

    def test_nothing_is_wider_than_the_screen(self):
        self.upload("a name that is very long " + "and has no end " * 6 + ".txt", b"x")
        self.upload("unbroken" * 20 + ".txt", b"x")
        self.assert_no_sideways_scrolling()
        self.click("#choose")
        self.assert_no_sideways_scrolling()
        self.click("#choose")
        self.browser.script("document.querySelector(arguments[0]).click()",  # a note may lie over it
                            self.row("unbroken" * 20 + ".txt") + " .name")
        self.wait_until_shown("#viewer")
        self.assert_no_sideways_scrolling()

    def test_what_is_touched_is_large_enough(self):
        self.upload("touched.txt", b"x")
        small = self.browser.script(
            "return [...document.querySelectorAll('button, .button, input, select, .tool')].filter((each) => {"
            " const box = each.getBoundingClientRect();"
            " return box.width > 1 && (box.height < 36 || box.width < 36) && each.checkVisibility(); })"
            ".map((each) => each.outerHTML)")
        self.assertEqual(small, [])


class OnASmallPhoneTest(OnAPhoneTest):
    browser_options = {"phone": (320, 568)}


class InTheDarkTest(PageTestCase):
    browser_options = {"dark": True}

    def test_text_stands_out_from_its_ground(self):
        """WCAG 2.2, 1.4.3: 4.5 to 1. Colours that are mixed or laid over each other are left to the eye."""
        self.upload("contrast.txt", b"x")
        poor = self.browser.script("""
            const parse = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
            const ground = (node) => {
                const colour = parse(getComputedStyle(node).backgroundColor);
                return colour.length < 4 || colour[3] ? colour : ground(node.parentElement);
            };
            return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility() && node.getBoundingClientRect().width > 1
                && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())).map((node) => {
                const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
                return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), node.outerHTML];
            }).filter(([contrast]) => contrast < 4.5)""")
        self.assertEqual(poor, [])
        self.assertEqual(self.browser.script("return matchMedia('(prefers-color-scheme: dark)').matches"), True)


class OnASmallServerTest(PageTestCase):
    server_flags = ("--limits.max_upload", "1M")

    def test_a_file_that_is_too_large_is_refused_in_the_servers_words(self):
        """The answer comes while the body is still being sent: it must not be lost to a connection reset."""
        self.tolerated = ("413",)
        for attempt in range(3):
            self.browser.find("#picker").type(self.file("large-%d.bin" % attempt, bytes(30_000_000)))
        self.browser.wait(lambda: len(self.browser.all(".transfer[data-state=failed]")) == 3, "the refusals")
        for text in self.browser.texts(".transfer .detail"):
            self.assertIn("Not uploaded", text)
            self.assertNotIn("reached", text)
        self.click("#transfers [data-do=clear]")
        self.upload("small.bin", bytes(1000))


class WithScriptsOffTest(PageTestCase):
    browser_options = {"scripts": False}

    def test_the_plain_form_uploads_several_files_with_tags(self):
        self.browser.find("#picker").type("\n".join([self.file("plain-1.txt", b"one"), self.file("plain-2.txt", b"two")]))
        self.click(".options summary")
        self.browser.find("#upload [name=tags]").type("plain")
        self.click("#upload [type=submit]")
        self.wait_for_row("plain-1.txt")
        self.assertEqual(self.stored("plain-2.txt")["tags"], ["plain"])
        self.assertEqual(self.browser.url, self.server.url + "/")

    def test_the_list_is_searched_and_its_files_are_links(self):
        self.server.put("linked-one.txt", b"content")
        self.server.put("other.txt", b"x")
        self.visit("/")
        self.browser.find("#search [name=q]").type("linked")
        self.click("#search [type=submit]")
        self.browser.wait(lambda: self.names() == ["linked-one.txt"], "the search")
        link = self.browser.find("#files .name").property("href")
        self.assertEqual(self.server.request("GET", link[len(self.server.url):]).body, b"content")

    def test_the_next_page_is_a_link(self):
        for i in range(60):
            self.server.put("sheet-%02d.txt" % i, b"x")
        self.visit("/?q=sheet-&sort=name")
        self.assertEqual(self.names(), ["sheet-%02d.txt" % i for i in range(50)])
        second = ["sheet-%02d.txt" % i for i in range(50, 60)]

        def turned():
            """A click while the page is still being laid out may miss its link: then it is done again, as people do."""
            if self.names() == second:
                return True
            for link in self.browser.all("a[rel=next]"):
                link.click()
            return self.names() == second

        self.browser.wait(turned, "the next page")

    def test_no_control_is_shown_that_would_do_nothing(self):
        self.server.put("still.txt", b"x")
        self.visit("/")
        self.assertFalse(self.browser.find("#choose").displayed)
        self.assertFalse(self.browser.find("#help-button").displayed)
        self.assertEqual(len(self.browser.all("#files button")), 0)


if __name__ == "__main__":
    outcome = unittest.main(exit=False, verbosity=2).result
    bad = len(outcome.failures) + len(outcome.errors)
    print("%d passed, %d failed" % (outcome.testsRun - bad - len(outcome.skipped), bad))
    sys.exit(1 if bad else 0)
