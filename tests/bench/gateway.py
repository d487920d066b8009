"""Starts a gateway (and what stands beside it) for a measurement, and ends it again."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("STOIC_BIN_DIR", os.path.join(ROOT, "target", "release"))
TICK = os.sysconf("SC_CLK_TCK")


class Gateway:
    """A gateway of our own on a free port; `with Gateway(...) as gateway`."""

    def __init__(self, config="", pin=None, threads=None):
        self.folder = tempfile.mkdtemp(prefix="stoic-bench-")
        path = os.path.join(self.folder, "stoic.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write((f"threads = {threads}\n" if threads else "") + config)
        self.pin = pin
        self.log = open(os.path.join(self.folder, "log"), "w", encoding="utf-8")
        line = self.start("127.0.0.1:0")
        found = re.search(r"http://(\S+)", line)
        if not found:
            sys.exit("the gateway did not start: " + open(self.log.name, encoding="utf-8").read())
        self.url = "http://" + found.group(1)
        self.address = found.group(1)

    def start(self, address):
        """Starts the process; its first line, once it listens."""
        command = [os.path.join(BIN, "stoic"), "up", "--listen", address, "--config",
                   os.path.join(self.folder, "stoic.toml"), "--data", os.path.join(self.folder, "data")]
        if self.pin is not None:
            command = ["taskset", "-c", str(self.pin), *command]
        environment = dict(os.environ, PATH=BIN + os.pathsep + os.environ["PATH"])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        return self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def reborn(self):
        """kill -9, and a new life at the same address and in the same folder; seconds until its first line."""
        self.process.kill()
        self.process.wait()
        begun = time.perf_counter()
        self.start(self.address)
        return time.perf_counter() - begun

    def get(self, path):
        """JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def deploy(self, text, patience=180):
        """Deploys a function and waits for its standbys and its bootstrap."""
        request = urllib.request.Request(self.url + "/v1/functions", data=text.encode(), method="POST")
        name = json.load(urllib.request.urlopen(request, timeout=60))["metadata"]["name"]
        until = time.monotonic() + patience
        while time.monotonic() < until:
            status = self.get(f"/v1/functions/{name}")["status"]
            if status["bootstrap"]["state"] in ("done", "none", "failed"):
                if status["bootstrap"]["state"] == "failed":
                    sys.exit(f"{name}: {status['bootstrap']['detail']}")
                return status
            time.sleep(0.05)
        sys.exit(f"{name} was not ready within {patience} s")

    def post(self, path, data, headers):
        """Posts a body (bytes or an open file); returns headers and body of the answer."""
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=600) as answer:
            return dict(answer.headers), answer.read()


def cpu_seconds(pid):
    """User and system seconds of a process and its threads."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_memory_mib(pid):
    """Largest resident size so far."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def median(values):
    """Median."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values):
    """`median (min-max)`."""
    return f"{median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def record(name, value):
    """Keeps a figure under target/bench."""
    folder = os.path.join(ROOT, "target", "bench")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)


def need(tool, package):
    """Says what is missing for this measurement."""
    if shutil.which(tool) is None:
        print(f"skipped: needs `{tool}` (Debian package {package})")
        sys.exit(0)
