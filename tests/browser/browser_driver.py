"""A headless Chromium, driven through ChromeDriver's HTTP interface with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
STARTED = re.compile(r"started successfully on port (\d+)")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in WebDriver's JSON
TIMEOUT_S = 60


def missing() -> str:
    """Return why no browser can be driven here, or nothing."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (Debian: chromium, chromium-driver)" if absent else ""


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path):
        command = ["chromedriver", "--port=0", "--log-level=SEVERE"]
        self._driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._driver.stdout is not None
        port = next((found[1] for line in self._driver.stdout if (found := STARTED.search(line))), None)
        assert port is not None, "chromedriver did not start"
        self._root = f"http://127.0.0.1:{port}/session"
        options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        try:
            self._root += "/" + self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self._driver.kill()
            raise

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        address, kind = self._root + path, {"Content-Type": "application/json"}
        request = urllib.request.Request(address, data, kind, method=method)  # noqa: S310 - our own driver
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)["value"]

    def quit(self) -> None:
        """End the browser and its driver."""
        try:
            self._send("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)
            self._driver.stdout.close()

    def look(self, width: int, height: int, scheme: str = "light", phone: bool = False) -> None:
        """Set the size of the page in CSS pixels and what the reader prefers, light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        self._devtools("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, path: Path) -> None:
        """Open a file, as a double click on it does, and wait until it is loaded and its pictures are decoded."""
        self.log("browser"), self.log("performance")
        self._send("POST", "/url", {"url": path.resolve().as_uri()})
        self.run("return Promise.allSettled([...document.images].map(i => i.decode())).then(() => true)")

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, wanted: Any, seconds: float = 20.0) -> None:
        """Wait until a script returns what is wanted; events of the page come when they come."""
        ends = time.monotonic() + seconds
        while (found := self.run(script)) != wanted:
            assert time.monotonic() < ends, f"{script}: {found}, not {wanted}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click on the first element of a CSS selector, as a mouse does."""
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{found[ELEMENT]}/click", {})

    def press_escape(self) -> None:
        """Press the key that closes what is open."""
        for kind in ("rawKeyDown", "keyUp"):
            key = {"type": kind, "key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27}
            self._devtools("Input.dispatchKeyEvent", key)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last look: "browser" (the console) or "performance" (the network)."""
        return self._send("POST", "/se/log", {"type": kind})

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console since the page was opened."""
        return [entry["message"] for entry in self.log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requested(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        opened = [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]
        return [params["request"]["url"] for params in sent] + opened

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write a picture of the page, or of what is seen of it, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = self._devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(shown["data"]))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})
