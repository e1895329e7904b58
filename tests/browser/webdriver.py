"""A small WebDriver client (W3C WebDriver over HTTP) for Debian's chromium and chromedriver. Standard library only.

    with Browser(language="pt-BR") as browser:
        browser.open("http://127.0.0.1:8080/")
        browser.find("#picker").type("/tmp/a.txt")
        browser.wait(lambda: browser.all(".file"))

Each Browser is a chromedriver and a chromium of its own, with a profile of its own; all of it is gone afterwards. chromedriver gets a
process group, so that nothing of it survives a test that died. wait() asks again until a condition holds or its deadline is over.
"""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to element references
STARTED = re.compile(r"started successfully on port (\d+)")


class WebDriverError(Exception):
    def __init__(self, kind, message):
        super().__init__("%s: %s" % (kind, message))
        self.kind = kind


class Element:
    def __init__(self, browser, reference):
        self.browser = browser
        self.reference = reference

    def _ask(self, method, path, body=None):
        return self.browser.ask(method, "/element/%s/%s" % (self.reference, path), body)

    def click(self):
        self._ask("POST", "click", {})

    def type(self, text):
        """Keys as a person presses them; into a file input: paths, one a line."""
        self._ask("POST", "value", {"text": text})

    def clear(self):
        self._ask("POST", "clear", {})

    @property
    def text(self):
        return self._ask("GET", "text")

    @property
    def displayed(self):
        return self._ask("GET", "displayed")

    def attribute(self, name):
        return self._ask("GET", "attribute/" + name)

    def property(self, name):
        return self._ask("GET", "property/" + name)


class Browser:
    def __init__(self, language="en-US", phone=None, scripts=True, dark=False, wait_seconds=15):
        """phone: (width, height) in CSS pixels, with touch; scripts: False turns them off for the page, not for the driver."""
        self.wait_seconds = wait_seconds
        self.directory = tempfile.mkdtemp(prefix="depotd-browser-")
        self.downloads = os.path.join(self.directory, "downloads")
        self.session = None
        self.driver = None
        try:
            self._start_driver()
            self._start_session(language, phone, dark)
            if not scripts:
                self.cdp("Emulation.setScriptExecutionDisabled", value=True)
        except BaseException:
            self.close()
            raise

    # --- life ---

    def _start_driver(self):
        self.driver = subprocess.Popen([DRIVER, "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, start_new_session=True,
                                       env={**os.environ, "HOME": self.directory})
        for line in self.driver.stdout:
            found = STARTED.search(line)
            if found:
                self.port = int(found.group(1))
                threading.Thread(target=self.driver.stdout.read, daemon=True).start()  # a full pipe would stop it
                return
        raise AssertionError("chromedriver did not start")

    def _start_session(self, language, phone, dark):
        arguments = ["--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--window-size=1280,900", "--accept-lang=" + language, "--lang=" + language,
                     "--user-data-dir=" + os.path.join(self.directory, "profile")]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # chromium refuses root otherwise; the pages are our own
        if dark:
            arguments.append("--force-dark-mode")
        options = {"binary": CHROMIUM, "args": arguments,
                   "prefs": {"download.default_directory": self.downloads, "download.prompt_for_download": False,
                             "intl.accept_languages": language}}
        if phone:
            options["mobileEmulation"] = {"deviceMetrics": {"width": phone[0], "height": phone[1], "pixelRatio": 2,
                                                            "touch": True, "mobile": True}}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
                  "unhandledPromptBehavior": "accept"}
        answer = self._request("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = answer["sessionId"]

    def close(self):
        try:
            if self.session:
                self._request("DELETE", "/session/" + self.session)
        except (OSError, WebDriverError, http.client.HTTPException):
            pass  # it is ended below
        finally:
            self.session = None
            if self.driver:
                try:
                    os.killpg(self.driver.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                self.driver.wait()
                self.driver.stdout.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- the protocol ---

    def _request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body),
                               headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            value = json.loads(response.read())["value"]
        finally:
            connection.close()
        if response.status >= 400:
            raise WebDriverError(value["error"], value["message"])
        return value

    def ask(self, method, path, body=None):
        return self._request(method, "/session/" + self.session + path, body)

    def cdp(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    # --- pages ---

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def reload(self):
        self.ask("POST", "/refresh", {})

    @property
    def url(self):
        return self.ask("GET", "/url")

    @property
    def title(self):
        return self.ask("GET", "/title")

    @property
    def source(self):
        return self.ask("GET", "/source")

    def all(self, selector):
        found = self.ask("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, reference[ELEMENT]) for reference in found]

    def find(self, selector):
        return Element(self, self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT])

    def script(self, text, *arguments):
        """The value of a function body in the page; a promise is waited for."""
        return self.ask("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def texts(self, selector):
        """Of all elements at once, so that the page cannot change between them."""
        return self.script("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)

    def press(self, *keys, holding=None):
        """Keys for whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        if holding:
            actions = [{"type": "keyDown", "value": holding}, *actions, {"type": "keyUp", "value": holding}]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def wait(self, condition, what="the condition"):
        """The first true value of condition()."""
        deadline = time.monotonic() + self.wait_seconds
        while True:
            try:
                value = condition()
            except WebDriverError as error:
                if error.kind not in ("no such element", "stale element reference"):
                    raise
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError("%s did not come true in %g s; the page says:\n%s"
                                     % (what, self.wait_seconds, self.script("return document.body.innerText")))
            time.sleep(0.02)

    def complaints(self):
        """What the console said since the last call, violations of the policy included: errors and warnings."""
        entries = self.ask("POST", "/se/log", {"type": "browser"})
        return ["%s: %s" % (entry["level"], entry["message"]) for entry in entries
                if entry["level"] in ("SEVERE", "WARNING")]
