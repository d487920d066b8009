"""Memory: of a gateway with 1,000 functions declared, of the same with 200 process pods, and what a forked pod of
wildlife has of its own against what a whole one takes."""

import json
import os
import time
import urllib.request

from gateway import BIN, Gateway, median, record, spread

FUNCTIONS = int(os.environ.get("FUNCTIONS", "1000"))
PODS = int(os.environ.get("PODS", "200"))
FORKED = int(os.environ.get("FORKED", "4"))
ECHO = """
apiVersion: stoic.dev/v1
kind: Function
metadata: {name: %s}
spec: {command: [stoic-echo], runtimes: [edge], standby: {edge: {min: %d, max: %d}}, bootstrap: {batches: []}}
"""
WILDLIFE = """
apiVersion: stoic.dev/v1
kind: Function
metadata: {name: wildlife}
spec: {command: [stoic-wildlife], input: batch, runtimes: [edge], standby: {edge: {min: %d, max: %d}}, bootstrap: {batches: []}}
"""


def memory(pid):
    """Resident, proportional and own size of a process, MiB."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in list(file)[1:]:
            name, value = line.split(":")
            sizes[name] = int(value.split()[0]) / 1024
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "own": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def post(gateway, text):
    """Deploys and does not wait."""
    request = urllib.request.Request(gateway.url + "/v1/functions", data=text.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        json.load(answer)


def ready(gateway, function, count, patience=300):
    """Waits for so many idle pods of a function."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        pods = [pod for pod in gateway.get("/v1/pods") if pod["function"] == function and pod["state"] == "idle"]
        if len(pods) >= count:
            return pods
        time.sleep(0.1)
    raise SystemExit(f"{function} had not {count} idle pods within {patience} s")


def main():
    quiet = "[inquisitor]\nenabled = false\n[link]\nprobe = false\n"
    figures = {"functions": FUNCTIONS, "pods": PODS}
    with Gateway(quiet) as gateway:
        figures["empty_mib"] = memory(gateway.process.pid)
        begun = time.perf_counter()
        for number in range(FUNCTIONS):
            post(gateway, ECHO % (f"f{number}", 0, 1))
        took = time.perf_counter() - begun
        time.sleep(3)
        figures["declared_mib"] = memory(gateway.process.pid)
        post(gateway, ECHO % ("many", PODS, PODS))
        pods = ready(gateway, "many", PODS)
        time.sleep(3)
        figures["with_pods_mib"] = memory(gateway.process.pid)
        own = [memory(pod["pid"])["own"] for pod in pods if pod.get("pid")]
        figures["pod_own_mib"] = median(own)
    for name, text in (("empty_mib", "a gateway with nothing"), ("declared_mib", f"with {FUNCTIONS} functions declared"),
                       ("with_pods_mib", f"and {PODS} process pods")):
        print(f"{text}: {figures[name]['rss']:.1f} MiB resident, {figures[name]['own']:.1f} MiB of its own")
    print(f"{FUNCTIONS} deployments took {took:.1f} s; an echo pod has {spread(own)} MiB of its own")

    if os.path.exists(os.path.join(BIN, "stoic-wildlife")):
        with Gateway(quiet) as gateway:
            post(gateway, WILDLIFE % (FORKED, FORKED))
            pods = ready(gateway, "wildlife", FORKED)
            # The first may have been started whole, before there was anything to fork from: it goes.
            for pod in [pod for pod in pods if "fork" not in (pod.get("stages") or {})]:
                request = urllib.request.Request(f"{gateway.url}/v1/pods/{pod['name']}", method="DELETE")
                urllib.request.urlopen(request, timeout=60).read()
            until = time.monotonic() + 60
            while time.monotonic() < until:
                pods = ready(gateway, "wildlife", FORKED)
                forked = [pod for pod in pods if "fork" in (pod.get("stages") or {})]
                if len(forked) == len(pods):
                    break
                time.sleep(0.2)
            if not forked:
                print("no pod of wildlife names a stage `fork`: this site forks none")
            else:
                sizes = [memory(pod["pid"]) for pod in forked]
                whole = median([size["rss"] for size in sizes])
                own = [size["own"] for size in sizes]
                share = [size["own"] / size["rss"] for size in sizes]
                print(f"a forked pod of wildlife: {whole:.1f} MiB resident, {spread(own)} MiB of its own, "
                      f"{spread([100 * one for one in share])} % of it (aim 0.5)")
                figures["forked"] = {"resident_mib": whole, "own_mib": median(own), "own_share": median(share)}
    record("memory", figures)


if __name__ == "__main__":
    main()
