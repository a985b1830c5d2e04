"""Starts servers for tests and ends them."""

import json
import os
import pathlib
import subprocess
import tempfile
import threading
import urllib.request

FRUGAL = os.environ.get("FRUGAL", "frugal")
SECONDS_TO_START = 60


def model_folder():
    return pathlib.Path(os.environ["FRUGAL_MODEL"])


class Server:
    """A server of its own home on a free port, with the tiny model as `tiny`."""

    def __init__(self, *flags, config="", keys=()):
        self.folder = tempfile.TemporaryDirectory(prefix="frugal-conformance-")
        self.home = pathlib.Path(self.folder.name) / "home"
        self.keys = {name: self.frugal("keys", "add", name, *more) for name, *more in keys}
        settings = pathlib.Path(self.folder.name) / "settings.toml"
        settings.write_text(config)
        command = [FRUGAL, "serve", f"tiny={model_folder()}", "--json", "--config", settings]
        command += ["--bind", "127.0.0.1:0", "--home", self.home, *flags]
        self.log = open(pathlib.Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        guard = threading.Timer(SECONDS_TO_START, self.process.kill)
        guard.start()
        try:
            self.url = "http://" + self._event("listening")["addresses"][0]
            self._event("loaded")
        finally:
            guard.cancel()
        # What it tells later must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def frugal(self, *arguments):
        self.home.mkdir(parents=True, exist_ok=True)
        command = [FRUGAL, *arguments, "--home", self.home, "--quiet"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _event(self, name):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
        self.log.seek(0)
        raise RuntimeError(f"the server did not start: {self.log.read()}")

    @property
    def v1(self):
        return self.url + "/v1"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def post(self, path, body, key="none"):
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def ids(self, text):
        """A text's tokens, marks of the model included."""
        return self.post("/tokenize", {"model": "tiny", "prompt": text, "add_special_tokens": False})["tokens"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
            self.log.close()
            self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
