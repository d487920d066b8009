"""From starting `stoic up` to its first answer at /readyz, on an empty and on a used data folder."""

import os
import signal
import subprocess
import tempfile
import time
import urllib.request

from gateway import BIN, free_port, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "15"))


def start(data):
    """Milliseconds until ready."""
    port = free_port()
    begun = time.perf_counter()
    process = subprocess.Popen([os.path.join(BIN, "stoic"), "up", "--listen", f"127.0.0.1:{port}", "--data", data],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
                return (time.perf_counter() - begun) * 1000
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the gateway did not start")
                time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def main():
    fresh, used = [], []
    with tempfile.TemporaryDirectory() as kept:
        start(kept)
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as empty:
                fresh.append(start(empty))
            used.append(start(kept))
    print(f"start to ready, ms, median (min-max) of {ROUNDS}: empty folder {spread(fresh)}, used folder {spread(used)}")
    record("start", {"fresh_ms": fresh, "used_ms": used})


if __name__ == "__main__":
    main()
