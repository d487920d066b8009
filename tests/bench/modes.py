"""One batch of 200 in pairs: shared by edge and cloud (mode cooperative) against each of them alone, and the race
of both (mode duplicator). Real inference at both sites; the link between them is the emulated default. Pods are
warm, so that the figures are about the work and not about deployments.

Both sites are on this machine, so that they share its cores: how much more two pods do here than one is measured as
well. No division of the work can gain more than that."""

import json
import os
import subprocess
import time

from gateway import BIN, ROOT, Gateway, median, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "5"))
ITEMS = int(os.environ.get("ITEMS", "200"))


def run(gateway, package, size, headers):
    """One batch; seconds from the first byte sent to the last event, and that event."""
    with open(package, "rb") as body:
        begun = time.perf_counter()
        headers = {"content-type": "application/zip", "content-length": str(size), "accept": "application/x-ndjson",
                   **headers}
        _, answer = gateway.post("/function/wildlife?bootstrap=true", body, headers)
        total = time.perf_counter() - begun
    last = json.loads(answer.splitlines()[-1])
    if last["type"] != "result" or last["items"] != ITEMS:
        raise SystemExit(f"the batch failed: {last}")
    return total, last


def together(gateway, package, size, ways):
    """How much more two pods work at the same time than one: a whole batch in each, transfer apart."""
    import threading
    alone = run(gateway, package, size, ways["edge"])[1]["measurement"]["actual"]["processing"]
    seen = {}

    def far():
        seen["cpu"] = run(gateway, package, size, ways["cpu"])[1]["measurement"]["actual"]["processing"]

    thread = threading.Thread(target=far)
    thread.start()
    # The edge's batch begins when the other's package has arrived.
    while not any(pod["runtime"] == "cpu" and pod["running"] and worked(pod) for pod in gateway.get("/v1/pods")):
        time.sleep(0.02)
    seen["edge"] = run(gateway, package, size, ways["edge"])[1]["measurement"]["actual"]["processing"]
    thread.join()
    return alone * (1 / seen["edge"] + 1 / seen["cpu"])


def worked(pod):
    """Whether a pod is at a batch now, by its own word."""
    import urllib.request
    with urllib.request.urlopen(f"http://{pod['address']}/metrics", timeout=10) as answer:
        return "\nstoic_pod_busy 1" in answer.read().decode()


def main():
    with open(os.path.join(ROOT, "functions", "wildlife", "function.yaml"), encoding="utf-8") as file:
        function = file.read().replace("standby: {edge: 1}", "standby: {edge: 1, cpu: 1}")
    with Gateway() as gateway:
        package = os.path.join(gateway.folder, "photos.zip")
        subprocess.run([os.path.join(BIN, "stoic-wildlife"), "scenes", "--out", package, "--count", str(ITEMS),
                        "--seed", "9"], check=True, stderr=subprocess.DEVNULL)
        size = os.path.getsize(package)
        gateway.deploy(function)
        ways = {
            "edge": {"x-stoic-runtime": "edge"},
            "cpu": {"x-stoic-runtime": "cpu"},
            "cooperative": {"x-stoic-mode": "cooperative"},
            "duplicator": {"x-stoic-mode": "duplicator"},
        }
        for name in ("edge", "cpu"):
            run(gateway, package, size, ways[name])
        bounds = [together(gateway, package, size, ways) for _ in range(2)]
        print(f"two pods at once work {spread(bounds)} times what one does on this machine", flush=True)
        totals = {name: [] for name in ways}
        results = {}
        for number in range(ROUNDS):
            # The order turns, so that what wanders on the machine wanders over all of them.
            order = list(ways)
            order = order[number % len(order):] + order[:number % len(order)]
            for name in order:
                total, last = run(gateway, package, size, ways[name])
                totals[name].append(total)
                measurement = last["measurement"]
                by = measurement["items_by"] or measurement["runtime"]
                print(f"  {name}: {total:.2f} s ({by}; race {measurement['race']})", flush=True)
                with gateway_result(gateway, last["result"]) as answer:
                    results[name] = json.load(answer)
        labels = {name: [(item["name"], item.get("label")) for item in result["items"]]
                  for name, result in results.items()}
        if [n for n, _ in labels["edge"]] != [n for n, _ in labels["cooperative"]]:
            raise SystemExit("the shared batch lost or mixed up items")
        same = sum(one == other for one, other in zip(labels["edge"], labels["cooperative"]))
        print(f"{same} of {ITEMS} labels are those of the edge alone (the cloud computes in its own precision)")
        better = [min(edge, cpu) for edge, cpu in zip(totals["edge"], totals["cpu"])]
        ratios = [alone / shared for alone, shared in zip(better, totals["cooperative"])]
        races = [race / alone for alone, race in zip(better, totals["duplicator"])]
        print(f"{size / 1e6:.1f} MB, {ITEMS} images, {ROUNDS} pairs: edge {spread(totals['edge'])} s, cpu "
              f"{spread(totals['cpu'])} s, cooperative {spread(totals['cooperative'])} s")
        print(f"cooperative against the better place of its pair: {spread(ratios)} times as fast; "
              f"duplicator takes {spread(races)} of the better place's time")
        record("modes", {"bytes": size, "items": ITEMS, "totals_s": totals, "cooperative_speedup": median(ratios),
                         "speedups": ratios, "two_pods_to_one": median(bounds), "duplicator_share": median(races)})


def gateway_result(gateway, path):
    """A stored result."""
    import urllib.request
    return urllib.request.urlopen(gateway.url + path, timeout=60)


if __name__ == "__main__":
    main()
