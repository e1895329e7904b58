"""The page while the database is away: uploads are taken, the list comes back by itself."""
import contextlib
import sys
import unittest

from page_case import PageTestCase
from postgres_cluster import PostgresCluster

UNAVAILABLE = "The list is not available right now. Files can still be uploaded."


class DatabaseAwayTest(PageTestCase):
    @classmethod
    def database(cls):
        cls.cluster = PostgresCluster(tcp=True)
        cls.addClassCleanup(cls.cluster.remove)
        cls.cluster.start()
        cls.cluster.execute("CREATE ROLE depotd LOGIN")
        cls.cluster.execute("CREATE DATABASE depotd OWNER depotd")
        return "postgresql://depotd@127.0.0.1:%d/depotd" % cls.cluster.port

    def setUp(self):
        super().setUp()
        self.tolerated = ("503",)

    @contextlib.contextmanager
    def database_away(self):
        self.cluster.stop()
        try:
            yield
        finally:
            self.cluster.start()

    def notice(self):
        return "".join(self.browser.texts("#empty"))

    def test_the_page_comes_without_its_list_and_gets_it_by_itself(self):
        """It was three lines that said 503, though uploads go on."""
        self.upload("before.txt", b"x")
        with self.database_away():
            self.visit("/")
            self.assertEqual((self.notice(), self.names()), (UNAVAILABLE, []))
            self.upload("meanwhile.txt", b"x")
            self.assertEqual((self.notice(), self.names()), (UNAVAILABLE, ["meanwhile.txt"]))
        self.wait_for_row("before.txt")
        self.assertEqual((self.notice(), self.names()[:2]), ("", ["meanwhile.txt", "before.txt"]))

    def test_a_row_that_follows_the_database_a_moment_later_is_shown(self):
        self.server.put("follows.txt", b"x")
        with self.database_away():
            self.visit("/")
            self.browser.script(
                "const json = Response.prototype.json;"
                "Response.prototype.json = async function () { const page = await json.call(this);"
                " if (!window.first) page.files = []; window.first = true; return page; }")
        self.wait_for_row("follows.txt")

    def test_a_search_narrows_what_is_there_until_there_is_a_list(self):
        for name in ("one-found.txt", "one-other.txt"):
            self.upload(name, b"x")
        with self.database_away():
            self.fill("#search [name=q]", "one-f")
            self.browser.wait(lambda: self.notice() == UNAVAILABLE, "the notice")
            self.assertEqual(self.names(), ["one-found.txt"])
        self.browser.wait(lambda: not self.notice(), "the list")
        self.fill("#search [name=q]", "one-")
        self.browser.wait(lambda: self.names() == ["one-other.txt", "one-found.txt"], "both")

    def test_what_is_stored_but_not_in_the_list_yet_stays_on_the_page(self):
        self.browser.script(
            "const json = Response.prototype.json;"
            "Response.prototype.json = async function () { const page = await json.call(this);"
            " if (page.files) page.files = page.files.filter((file) => !file.name.startsWith('late'));"
            " window.answered = this.url; return page; }")
        with self.database_away():
            self.upload("late.txt", b"x")
        self.fill("#search [name=q]", "late")
        self.browser.wait(lambda: (self.browser.script("return window.answered") or "").endswith("q=late"), "the list")
        self.assertEqual((self.notice(), self.names()), ("", ["late.txt"]))


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False, verbosity=2).result.wasSuccessful())
