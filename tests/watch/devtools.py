"""A headless Chromium, driven by its DevTools protocol over a pipe: what the page's test and a look at it need."""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def find_chromium():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if shutil.which(name):
            return shutil.which(name)
    return None


class Browser:
    """Messages are JSON with a zero byte behind; it reads from descriptor 3 and writes to 4."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="qgrpo-chromium-")
        read_end, self.to_browser = os.pipe()
        self.from_browser, write_end = os.pipe()
        command = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
                   "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", f"--user-data-dir={self.profile}",
                   "about:blank"]
        # Descriptors 3 and 4 of the shell may be the pipes' own: they are moved away first.
        script = f'exec 8<&{read_end} 9>&{write_end}; exec "$@" 3<&8 4>&9'
        self.process = subprocess.Popen(["bash", "-c", script, "bash", *command], pass_fds=(read_end, write_end),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(read_end)
        os.close(write_end)
        self.pending, self.number, self.events = b"", 0, []

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, seconds):
        """The next message, or nothing within that time."""
        until = time.monotonic() + seconds
        while b"\0" not in self.pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.from_browser], [], [], left)[0]:
                return None
            piece = os.read(self.from_browser, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium has ended")
            self.pending += piece
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, seconds=60, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = self.receive(until - time.monotonic())
            if answer is None:
                break
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)
        raise TimeoutError(f"{method}: no answer in {seconds} s")

    def page(self, **size):
        return Page(self, **size)


class Page:
    def __init__(self, browser, width=1280, height=900, dark=False, phone=False):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def open(self, address):
        self.call("Page.navigate", url=address)

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:1000])
        return answer["result"].get("value")

    def wait(self, condition, seconds=30):
        """Until a script's value is true; returns it. While the page is not whole yet the value may be none."""
        script = f"(() => {{ try {{ return {condition}; }} catch (error) {{ return null; }} }})()"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            value = self.evaluate(script)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"not so within {seconds} s: {condition}")

    def key(self, name, code=0):
        """ArrowLeft, Enter .., or a character."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Home": 36, "End": 35,
                 "Escape": 27, "Tab": 9, "PageUp": 33, "PageDown": 34}
        code = codes.get(name, ord(name[0]) if len(name) == 1 else 0)
        text = {"text": name} if len(name) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def mouse(self, kind, x, y, button="none"):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(button == "left"), clickCount=1)

    def screenshot(self, path, whole=False):
        parameters = {"format": "png"}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            parameters.update(captureBeyondViewport=True,
                              clip={"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", **parameters)["data"]))

    def of(self, method):
        """What has happened on this page, by the event's name."""
        return [event["params"] for event in self.browser.events
                if event["method"] == method and event.get("sessionId") == self.session]

    def errors(self):
        """What its console says of faults, broken policies too."""
        thrown = [event["exceptionDetails"].get("exception", {}).get("description", event["exceptionDetails"]["text"])
                  for event in self.of("Runtime.exceptionThrown")]
        logged = [event["entry"]["text"] for event in self.of("Log.entryAdded") if event["entry"]["level"] in ("error", "warning")]
        said = [str(event["args"]) for event in self.of("Runtime.consoleAPICalled") if event["type"] in ("error", "warning", "assert")]
        return thrown + logged + said

    def requests(self):
        return [event["request"]["url"] for event in self.of("Network.requestWillBeSent")]
