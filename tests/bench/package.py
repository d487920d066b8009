"""A 40 MB package from client to labels: how much of the time is not compute, and the gateway's memory."""

import json
import os
import subprocess
import time

from gateway import BIN, ROOT, Gateway, median, peak_memory_mib, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "3"))


def main():
    with open(os.path.join(ROOT, "functions", "wildlife", "function.yaml"), encoding="utf-8") as file:
        function = file.read()
    with Gateway() as gateway:
        package = os.path.join(gateway.folder, "photos.zip")
        subprocess.run([os.path.join(BIN, "stoic-wildlife"), "scenes", "--out", package, "--count", "200", "--seed", "9"],
                       check=True, stderr=subprocess.DEVNULL)
        size = os.path.getsize(package)
        gateway.deploy(function)
        before = peak_memory_mib(gateway.process.pid)
        shares, totals = [], []
        for runtime in ("edge", "cpu") * ROUNDS:
            with open(package, "rb") as body:
                begun = time.perf_counter()
                headers = {"content-type": "application/zip", "content-length": str(size), "x-stoic-runtime": runtime,
                           "accept": "application/x-ndjson"}
                _, answer = gateway.post("/function/wildlife?bootstrap=true", body, headers)
                total = time.perf_counter() - begun
            last = json.loads(answer.splitlines()[-1])
            if last["type"] != "result":
                raise SystemExit(f"the batch failed: {last}")
            inside = last["stages_s"].get("work", last["measurement"]["actual"]["processing"])
            processing = last["measurement"]["actual"]["processing"]
            if runtime == "edge":
                shares.append((total - processing) / total)
                totals.append(total)
            print(f"  {runtime}: {total:.2f} s, of which T_p {processing:.2f} s (pod's own {inside:.2f} s), "
                  f"T_t {last['measurement']['actual']['transfer']:.2f} s")
        peak = peak_memory_mib(gateway.process.pid)
        print(f"{size / 1e6:.1f} MB, 200 images: not compute at the edge, share of the time: {spread(shares)}; "
              f"gateway's peak memory {peak:.1f} MiB ({before:.1f} before)")
        record("package", {"bytes": size, "share_not_compute": median(shares), "peak_mib": peak, "total_s": totals})


if __name__ == "__main__":
    main()
