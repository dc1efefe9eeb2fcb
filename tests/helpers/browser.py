"""A headless Chromium for tests of pages, spoken to by the WebDriver protocol (W3C 2018)."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium.chromedriver")

_SECONDS = 60


def found_browser() -> tuple[str, str] | None:
    """Paths of a Chromium and of its driver; None where one is missing."""
    browser, driver = (
        next((path for name in names if (path := shutil.which(name))), None)
        for names in (CHROMIUMS, DRIVERS)
    )
    return (browser, driver) if browser and driver else None


class Browser:
    """One session; everything that a page asks for or complains about is kept."""

    def __init__(
        self, address: str, browser: str, profile: Path, more_flags: Sequence[str] = ()
    ) -> None:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", f"--user-data-dir={profile}",
                 *more_flags)  # fmt: skip
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": browser, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._address = address
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"
        self._call("POST", f"{self._session}/url", {"url": "about:blank"})

    def open(self, page: Path | str, width: int, height: int = 900, media: str = "") -> None:
        """Shows a file or an address on a screen of some px, or as printed (`media="print"`)."""
        self.logs("browser"), self.logs("performance")
        self.chrome("Emulation.setDeviceMetricsOverride", width=width, height=height,
                    deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.chrome("Emulation.setEmulatedMedia", media=media)
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self._call("POST", f"{self._session}/url", {"url": address})

    def run(self, script: str) -> Any:
        """What a function of this body returns, called in the page."""
        content = {"script": script, "args": []}
        return self._call("POST", f"{self._session}/execute/sync", content)

    def wait(self, script: str) -> Any:
        """What a function of this body returns, as soon as that is truthy.

        Raises:
            TimeoutError: It does not become so.
        """
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            if found := self.run(script):
                return found
            time.sleep(0.05)
        raise TimeoutError(script)

    def choose(self, selector: str, file: Path) -> None:
        """Chooses a file in a field for files."""
        place = {"using": "css selector", "value": selector}
        (element,) = self._call("POST", f"{self._session}/element", place).values()
        path = f"{self._session}/element/{element}/value"
        self._call("POST", path, {"text": str(file.resolve())})

    def complaints(self) -> list[str]:
        """Messages of the console since `open`: errors, and what its policy forbade."""
        return [str(one["message"]) for one in self.logs("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since `open`, without those inside page or browser."""
        events = [json.loads(one["message"])["message"] for one in self.logs("performance")]
        asked = [one["params"]["request"]["url"] for one in events
                 if one["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return [address for address in asked if not address.startswith(("data:", "chrome:"))]

    def logs(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("POST", f"{self._session}/se/log", {"type": kind})
        return found

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        found = self.chrome("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def pdf(self) -> bytes:
        """The page as it is printed, on A4."""
        found = self.chrome("Page.printToPDF", printBackground=True, paperWidth=8.27,
                            paperHeight=11.69)  # fmt: skip
        return base64.b64decode(found["data"])

    def chrome(self, command: str, **params: Any) -> Any:
        """A command of Chrome's DevTools protocol."""
        content = {"cmd": command, "params": params}
        return self._call("POST", f"{self._session}/goog/cdp/execute", content)

    def close(self) -> None:
        self._call("DELETE", self._session, None)

    def _call(self, method: str, path: str, content: Any) -> Any:
        return _call(method, self._address + path, content)


@contextmanager
def open_browser(folder: Path, more_flags: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser that ends with the block; `folder` holds its profile.

    Raises:
        RuntimeError: It does not start.
    """
    found = found_browser()
    if found is None:
        raise RuntimeError("there is no Chromium with a driver here")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    driver = subprocess.Popen(
        [found[1], f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        browser = Browser(address, found[0], folder / "profile", more_flags)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(_SECONDS)


def _wait(address: str) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            if _call("GET", f"{address}/status", None)["ready"]:
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.05)
    raise RuntimeError("the driver of Chromium does not answer")


def _call(method: str, address: str, content: Any) -> Any:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(
        address, body, {"Content-Type": "application/json"}, method=method
    )
    # A proxy of the environment is none of this machine's business with itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return json.loads(answer.read())["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()) from None
