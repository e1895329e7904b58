"""Many files at once: the page stays quick, and says how it goes."""
import sys
import unittest

from page_case import PageTestCase

LINES = 50  # of the panel
AT_ONCE = 5  # of small files


class CrowdTest(PageTestCase):
    def idle(self):
        return not self.browser.find("#transfers").displayed

    def test_hundreds_of_files_are_stored_and_no_more_lines_shown_than_anybody_reads(self):
        self.browser.script(
            "const list = document.querySelector('#transfers ul'); window.most = 0; window.said = '';"
            "new MutationObserver(() => { window.most = Math.max(window.most, list.children.length);"
            " window.said ||= document.querySelector('#transfers .others').textContent; }).observe(list, {childList: true})")
        self.drop(*["crowd-%03d.bin" % i for i in range(300)], size=100)
        self.browser.wait(self.idle, "the end of all uploads")
        self.assertLessEqual(self.browser.script("return window.most"), LINES + AT_ONCE)
        self.assertRegex(self.browser.script("return window.said"), r"^and 2\d\d more$")
        self.assertEqual(len([name for name in self.names() if name.startswith("crowd-")]), 300)
        self.assertIn("300 files uploaded", "".join(self.browser.texts(".note")))
        self.assertEqual(len(self.server.request("GET", "/files?q=crowd-&limit=1000").json()["files"]), 300)

    def test_rows_of_new_files_stand_where_the_order_wants_them(self):
        self.server.put("order-d.txt", b"x")
        self.visit("/?q=order-&sort=name")
        names = ["order-%s.txt" % letter for letter in "gbface"]
        self.drop(*names)
        for name in names:
            self.wait_for_row(name)
        self.assertEqual(self.names(), ["order-%s.txt" % letter for letter in "abcdefg"])

    def test_all_that_failed_is_tried_again_by_one_button(self):
        self.browser.script(
            "const open = XMLHttpRequest.prototype.open; window.bad = 3;"
            "XMLHttpRequest.prototype.open = function (method, url) { open.call(this, method, window.bad-- > 0 ? '/files/bad%00' : url); }")
        self.tolerated = ("400",)
        self.drop("again-1.txt", "again-2.txt", "again-3.txt")
        self.browser.wait(lambda: len(self.browser.all(".transfer[data-state=failed]")) == 3, "the failures")
        self.wait_until_shown("#transfers [data-do=again]").click()
        for name in ("again-1.txt", "again-2.txt", "again-3.txt"):
            self.wait_for_row(name)
        self.browser.wait(self.idle, "the panel going")

    def test_all_that_waits_is_cancelled_by_one_button(self):
        self.network(upload=20_000)
        try:
            self.drop(*["never-%d.bin" % i for i in range(120)], size=200_000)
            self.wait_until_shown("#transfers [data-do=stop]").click()
            self.browser.wait(self.idle, "the panel going")
        finally:
            self.network()
        self.assertEqual([name for name in self.names() if name.startswith("never-")], [])
        self.upload("after.txt", b"x")
        self.assertIsNone(self.stored("never-0.bin"))

    def test_many_files_are_deleted_and_brought_back_together(self):
        names = ["herd-%02d.txt" % i for i in range(40)]
        for name in names:
            self.server.put(name, b"x")
        self.visit("/?q=herd-&sort=name")
        self.click("#choose")
        self.click("#chosen [data-do=all]")
        self.click("#chosen [data-do=delete]")
        self.browser.wait(lambda: not self.names(), "the rows going")
        self.click(".note:last-child button")
        self.browser.wait(lambda: self.names() == names, "all of them")


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False, verbosity=2).result.wasSuccessful())
