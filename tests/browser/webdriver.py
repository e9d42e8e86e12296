"""A browser for tests: Chromium, driven through chromedriver by the WebDriver protocol.

Source: the W3C recommendation WebDriver (https://www.w3.org/TR/webdriver2/), whose paths and
bodies the requests follow; `goog/cdp/execute` is chromedriver's way to Chromium's own commands.
"""
import base64
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of a reference to an element


class DriverError(Exception):
    """What the driver refused, in its words."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, what, seconds=30):
    """The first true answer of `condition`; throws AssertionError with `what` when time is up."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s for {what}; found {answer!r}"
        time.sleep(0.1)


class Element:
    def __init__(self, browser, reference):
        self.browser, self.reference = browser, reference

    def _call(self, method, path, body=None):
        return self.browser.call(method, f"/element/{self.reference}{path}", body)

    def click(self):
        self._call("POST", "/click", {})

    def type(self, text):
        self._call("POST", "/value", {"text": text})

    def clear(self):
        self._call("POST", "/clear", {})

    def fill(self, text):
        self.clear()
        self.type(text)

    @property
    def text(self):
        """What a person sees of its text."""
        return self._call("GET", "/text")

    @property
    def label(self):
        """What a screen reader calls it."""
        return self._call("GET", "/computedlabel")

    @property
    def role(self):
        return self._call("GET", "/computedrole")

    def is_shown(self):
        return self._call("GET", "/displayed")

    def property(self, name):
        return self._call("GET", f"/property/{name}")

    def find(self, selector):
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return Element(self.browser, found[ELEMENT])


class Browser:
    """One window of a headless Chromium with a profile of its own; close() ends it."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        self.address = f"http://127.0.0.1:{free_port()}"
        self.log = open(folder / "chromedriver.log", "wb")
        self.driver = subprocess.Popen(
            [shutil.which("chromedriver"), f"--port={self.address.rsplit(':', 1)[1]}"],
            stdout=self.log, stderr=subprocess.STDOUT)
        wait_until(self._is_ready, "chromedriver")
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                     "--window-size=1280,900", "--hide-scrollbars",
                     "--autoplay-policy=no-user-gesture-required",
                     f"--user-data-dir={folder / 'profile'}"],
            "prefs": {"download.default_directory": str(self.downloads)}}
        self.session = ""
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = f"/session/{answer['sessionId']}"

    def _is_ready(self):
        with contextlib.suppress(urllib.error.URLError, DriverError):
            with urllib.request.urlopen(f"{self.address}/status", timeout=5) as answer:
                return json.load(answer)["value"]["ready"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        session = getattr(self, "session", "")
        request = urllib.request.Request(self.address + session + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise DriverError(json.load(error)["value"]["message"]) from None

    def close(self):
        with contextlib.suppress(DriverError, OSError):
            self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()
        self.log.close()

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def reload(self):
        self.call("POST", "/refresh", {})

    def find(self, selector):
        """The first element that fits; throws DriverError where there is none."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return Element(self, found[ELEMENT])

    def find_all(self, selector):
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, one[ELEMENT]) for one in found]

    def press(self, *keys):
        """Presses keys one after the other, wherever the focus is; "\\ue004" is Tab."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act(steps)

    def press_together(self, *keys):
        self._act([{"type": "keyDown", "value": key} for key in keys]
                  + [{"type": "keyUp", "value": key} for key in reversed(keys)])

    def _act(self, steps):
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys",
                                                    "actions": steps}]})

    def run(self, script, *arguments):
        """What a function of this body returns in the page."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        """The same for a body that calls its last argument with the answer."""
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def answer_dialog(self, accept=True):
        self.call("POST", "/alert/accept" if accept else "/alert/dismiss", {})

    def console(self):
        """What the page and the browser have written to the console since the last call."""
        return self.call("POST", "/se/log", {"type": "browser"})

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show_as(self, width, height, scale=1, mobile=False, scheme="light", motion=True):
        """Sets the screen and what the reader prefers."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=scale, mobile=mobile)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"}])

    def screenshot(self, file):
        pathlib.Path(file).write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
