"""Cold, zygote, standby and warm for echo and wildlife, on process and (where an engine and the images are) docker, by
stage, with baselines and bursts of 16 in the same run: `stoic bench cold-warm` on a gateway of its own. What is aimed at
is said with the interval that says so.

Images: STOIC_ECHO_IMAGE and STOIC_WILDLIFE_IMAGE, else those that `make images` leaves."""

import json
import os
import shutil
import subprocess
import sys

from gateway import BIN, ROOT, record

ROUNDS = os.environ.get("ROUNDS", "30")
BURST = os.environ.get("BURST", "16")
BURST_ROUNDS = os.environ.get("BURST_ROUNDS", "10")
IMAGES = {
    "echo": os.environ.get("STOIC_ECHO_IMAGE", "localhost:5000/stoic-echo:latest"),
    "wildlife": os.environ.get("STOIC_WILDLIFE_IMAGE", "localhost:5000/stoic-wildlife:latest"),
}
OUT = os.path.join(ROOT, "target", "bench", "cold-warm")


def engine_has(image):
    """Whether there is an engine, and the image on it."""
    if shutil.which("docker") is None:
        return False
    inspected = subprocess.run(["docker", "image", "inspect", image], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, check=False)
    return inspected.returncode == 0


def main():
    functions = [name for name in IMAGES if os.path.exists(os.path.join(BIN, "stoic-" + name))]
    images = {name: image for name, image in IMAGES.items() if name in functions and engine_has(image)}
    command = [os.path.join(BIN, "stoic"), "bench", "cold-warm", "--own", "--out", OUT, "--rounds", ROUNDS,
               "--burst", BURST, "--burst-rounds", BURST_ROUNDS, "--max-pods", BURST]
    if int(ROUNDS) < 30:
        command.append("--short")
    for name in functions:
        command += ["--function", name]
    baselines = ["direct"]
    if images:
        command += ["--backend", "process,docker"]
        baselines += ["docker-run", "engine-floor"]
        for name, image in images.items():
            command += ["--image", f"{name}={image}"]
    else:
        print(f"only process sites: no engine with {' or '.join(IMAGES.values())} (make images brings them)")
    command += ["--baseline", ",".join(baselines)]
    ended = subprocess.run(command, check=False, env=dict(os.environ, PATH=BIN + os.pathsep + os.environ["PATH"]))
    if ended.returncode != 0:
        sys.exit(ended.returncode)
    with open(os.path.join(OUT, "summary.json"), encoding="utf-8") as file:
        summary = json.load(file)

    def shown(interval, unit=""):
        return f"{interval['value']:.3g}{unit} [{interval['low']:.3g}, {interval['high']:.3g}]" if interval else "-"

    print("\naims:")
    for ratio in summary["ratios"]:
        if ratio["aim"]:
            print(f"  {ratio['function']} on {ratio['backend']}: {ratio['of']} / {ratio['to']} "
                  f"{shown(ratio['ratio'])}, aim {ratio['aim']}: {ratio['told']}")
    for burst in summary["bursts"]:
        print(f"  {burst['function']} on {burst['backend']}: p99 of a burst of {burst['calls']} "
              f"{shown(burst['p99_ms'], ' ms')}, one cold start {shown(burst['one_cold_p50_ms'], ' ms')}, "
              f"ratio {shown(burst['p99_to_one_cold'])}, aim under 2; {burst['most_pods']} pods, {burst['failed']} failed")
    record("starts", {key: summary[key] for key in ("conclusive", "noise", "machine", "results", "ratios", "bursts",
                                                    "load")})


if __name__ == "__main__":
    main()
