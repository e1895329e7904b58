"""What the tests of the page share: a server and a browser for each class, a person's hands and eyes. No page may log an error or
break its own policy: every test ends with asking the console.
"""
import os
import struct
import sys
import unittest
import urllib.parse
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))

from depotd_server import DepotdServer, seconds  # noqa: E402
from webdriver import CHROMIUM, DRIVER, Browser  # noqa: E402

ENTER, ESCAPE, DOWN, DELETE, CONTROL = "\ue007", "\ue00c", "\ue015", "\ue017", "\ue009"


def picture(width=40, height=30):
    """A small PNG, each pixel of its own."""
    rows = b"".join(b"\0" + b"".join(bytes((x * 6 % 256, y * 8 % 256, 128)) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@unittest.skipUnless(DRIVER and CHROMIUM, "chromium and chromedriver (chromium-driver) are not installed")
class PageTestCase(unittest.TestCase):
    """A server and a browser for the class, a page opened anew for each test."""

    browser_options = {}
    server_flags = ()

    @classmethod
    def database(cls):
        """None: the one that the environment names."""

    @classmethod
    def setUpClass(cls):
        cls.server = DepotdServer(flags=cls.server_flags, database=cls.database())
        cls.addClassCleanup(cls.server.remove)
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.browser = Browser(wait_seconds=seconds(15), **cls.browser_options)
        cls.addClassCleanup(cls.browser.close)
        cls.files = os.path.join(cls.server.directory, "files")
        os.mkdir(cls.files)

    def setUp(self):
        self.tolerated = ()
        self.browser.complaints()
        self.visit("/")

    def tearDown(self):
        complaints = [each for each in self.browser.complaints() if not any(text in each for text in self.tolerated)]
        self.assertEqual(complaints, [], "the console is not empty")

    # --- the person's hands ---

    def visit(self, path):
        self.browser.open(self.server.url + path)

    def file(self, name, content):
        path = os.path.join(self.files, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def upload(self, name, content):
        self.browser.find("#picker").type(self.file(name, content))
        self.wait_for_row(name)

    def names(self):
        return self.browser.texts("#files .name")

    def row(self, name):
        """The row of a name, as a selector."""
        identity = self.browser.script(
            "return [...document.querySelectorAll('.file')].find((row) =>"
            " row.querySelector('.name').textContent === arguments[0])?.dataset.id ?? null", name)
        self.assertIsNotNone(identity, "no row is named %s; there are %s" % (name, self.names()))
        return "[data-id='%s']" % identity

    def wait_for_row(self, name):
        self.browser.wait(lambda: name in self.names(), "a row named " + name)

    def click(self, selector):
        self.browser.find(selector).click()

    def fill(self, selector, text):
        field = self.browser.find(selector)
        field.clear()
        field.type(text)

    def wait_until_shown(self, selector):
        self.browser.wait(lambda: self.browser.find(selector).displayed, selector + " being shown")
        return self.browser.find(selector)

    def stored(self, name):
        """The file object that the server has under that name, None where there is none."""
        answer = self.server.request("GET", "/files?name=" + urllib.parse.quote(name))
        files = answer.json()["files"]
        return files[0] if files else None

    def assert_no_sideways_scrolling(self):
        wide, window = self.browser.script("return [document.documentElement.scrollWidth, innerWidth]")
        self.assertLessEqual(wide, window)

    # --- what a script does faster than hands ---

    def drop(self, *names, size=1):
        """Files of that name and size, dropped together."""
        self.browser.script(
            "const data = new DataTransfer();"
            "for (const name of arguments[0]) data.items.add(new File([new Uint8Array(arguments[1])], name));"
            "for (const kind of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent("
            "new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}))", names, size)

    def network(self, offline=False, upload=-1):
        """upload: bytes a second; -1 no limit."""
        self.browser.cdp("Network.enable")
        self.browser.cdp("Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=upload)
