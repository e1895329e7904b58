"""The page's address says what is seen: it can be shared and reloaded, and the browser's Back takes the last step back."""
import sys
import unittest

from page_case import ESCAPE, PageTestCase, picture


class HistoryTest(PageTestCase):
    def at(self, address, *names):
        """Whether the page is there, and lists these."""
        return self.browser.url == self.server.url + address and (not names or self.names() == list(names))

    def wait_for(self, address, *names):
        self.browser.wait(lambda: self.at(address, *names), "%s with %s" % (address, names))

    def back(self):
        self.browser.script("history.back()")

    def viewing(self):
        return self.browser.find("#viewer-title").text if self.browser.find("#viewer").displayed else None

    def test_back_takes_filters_away_one_by_one_and_forward_brings_them_again(self):
        self.upload("step.png", picture())
        self.upload("step.txt", b"x")
        self.visit("/")
        self.fill("#search [name=q]", "step")
        self.wait_for("/?q=step", "step.txt", "step.png")
        self.browser.find("#search [name=type] option[value='image/*']").click()
        self.wait_for("/?q=step&type=image%2F*", "step.png")
        self.back()
        self.wait_for("/?q=step", "step.txt", "step.png")
        self.assertEqual(self.browser.find("#search [name=type]").property("value"), "")
        self.back()
        self.wait_for("/")
        self.assertEqual(self.browser.find("#search [name=q]").property("value"), "")
        self.browser.script("history.forward()")
        self.wait_for("/?q=step", "step.txt", "step.png")
        self.assertEqual(self.browser.find("#search [name=q]").property("value"), "step")

    def test_what_is_typed_in_one_go_is_one_step(self):
        before = self.browser.script("return history.length")
        for text in ("o", "ne", " more"):
            self.browser.find("#search [name=q]").type(text)
            typed = self.browser.find("#search [name=q]").property("value").replace(" ", "+")
            self.wait_for("/?q=" + typed)
        self.assertEqual(self.browser.script("return history.length"), before + 1)

    def test_back_takes_a_tag_away(self):
        self.server.put("tagged.txt", b"x", query="?tags=rare")
        self.server.put("plain.txt", b"x")
        self.visit("/")
        self.click(self.row("tagged.txt") + " .tag")
        self.wait_for("/?tag=rare", "tagged.txt")
        self.back()
        self.browser.wait(lambda: "plain.txt" in self.names(), "all files")
        self.assertEqual(self.browser.texts("#filter a"), [])

    def test_where_nothing_is_found_a_link_leads_to_all_files(self):
        self.upload("there.txt", b"x")
        self.fill("#search [name=q]", "nowhere")
        self.browser.wait(lambda: self.browser.all("#empty a"), "the link")
        self.click("#empty a")
        self.wait_for_row("there.txt")
        self.assertEqual(self.browser.url, self.server.url + "/")

    def test_back_closes_the_view_of_a_file_and_forward_opens_it(self):
        self.upload("viewed.txt", b"x")
        address = "/#" + self.stored("viewed.txt")["id"]
        self.click(self.row("viewed.txt") + " .name")
        self.wait_for(address)
        self.back()
        self.browser.wait(lambda: self.viewing() is None, "the view closing")
        self.browser.script("history.forward()")
        self.browser.wait(lambda: self.viewing() == "viewed.txt" and self.at(address), "the view")
        self.browser.press(ESCAPE)
        self.browser.wait(lambda: self.viewing() is None and self.at("/"), "the plain address")

    def test_back_and_forward_in_one_go_leave_the_view_open(self):
        """The dialog says that it closed a moment after it did: by then it is open again."""
        self.upload("again.txt", b"x")
        address = "/#" + self.stored("again.txt")["id"]
        self.click(self.row("again.txt") + " .name")
        self.wait_for(address)
        for _ in range(5):
            self.browser.script("addEventListener('popstate', () => history.forward(), { once: true }); history.back();")
            self.browser.wait(lambda: self.viewing() == "again.txt" and self.at(address), "the view again")
        self.browser.press(ESCAPE)
        self.browser.wait(lambda: self.viewing() is None and self.at("/"), "the plain address")

    def test_a_view_leaves_one_step_behind_however_many_files_were_looked_at(self):
        for name in ("first.txt", "second.txt", "third.txt"):
            self.upload(name, b"x")
        self.click(self.row("third.txt") + " .name")
        self.browser.wait(lambda: self.viewing() == "third.txt", "the third")
        before = self.browser.script("return history.length")
        self.click("#viewer [data-do=next]")
        self.click("#viewer [data-do=next]")
        self.wait_for("/#" + self.stored("first.txt")["id"])
        self.assertEqual((self.viewing(), self.browser.script("return history.length")), ("first.txt", before))
        self.back()
        self.browser.wait(lambda: self.viewing() is None and self.at("/"), "the list")

    def test_an_address_that_names_a_file_opens_it(self):
        shared = self.server.put("shared.txt", b"x")
        for i in range(60):  # so that it is on no page that was loaded
            self.server.put("newer-%d.txt" % i, b"x")
        self.visit("/#" + shared["id"])
        self.browser.wait(lambda: self.viewing() == "shared.txt", "the view")
        self.browser.reload()
        self.browser.wait(lambda: self.viewing() == "shared.txt", "the view after a reload")
        self.click("#viewer [data-do=close]")
        self.browser.wait(lambda: self.viewing() is None and self.at("/"), "the plain address")

    def test_an_address_of_a_file_that_is_gone_says_so(self):
        self.tolerated = ("404",)
        self.visit("/#01939d30-0000-7000-8000-000000000000")
        self.browser.wait(lambda: "no longer there" in self.browser.find(".note").text, "the note")
        self.assertIsNone(self.viewing())
        self.assertTrue(self.at("/"))


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False, verbosity=2).result.wasSuccessful())
