"""Memory and idle CPU of a gateway with many functions declared and many process pods; a burst on a cold
function; what the caller after a killed pod waits.

FUNCTIONS (default 100) and PODS (default 20); the figures of the specification have 1000 and 200."""

import concurrent.futures
import json
import os
import signal
import sys
import time
import urllib.request

from gateway import Gateway, cpu_seconds, median, peak_memory_mib, record, spread

FUNCTIONS = int(os.environ.get("FUNCTIONS", "100"))
PODS = int(os.environ.get("PODS", "20"))
ROUNDS = int(os.environ.get("ROUNDS", "9"))


def declared(name, standby=None):
    """A function that runs stoic-echo, one request at a time, at the edge."""
    return json.dumps({
        "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": name},
        "spec": {"command": ["stoic-echo"], "runtimes": ["edge"], "bootstrap": {"batches": []},
                 "standby": {"edge": standby or {"min": 0, "max": 1}}},
    })


def put(gateway, text):
    request = urllib.request.Request(gateway.url + "/v1/functions", data=text.encode(), method="POST")
    urllib.request.urlopen(request, timeout=120).read()


def call(gateway, path, method="GET", data=None):
    request = urllib.request.Request(gateway.url + path, data=data, method=method)
    begun = time.perf_counter()
    urllib.request.urlopen(request, timeout=120).read()
    return (time.perf_counter() - begun) * 1000


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def until(what, holds):
    end = time.monotonic() + 300
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"waited in vain: {what}")
        time.sleep(0.1)


def idle_cpu(pid, seconds=5):
    """Per cent of one core over some seconds in which nothing is asked."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds * 100


def memory():
    with Gateway() as gateway:
        pid = gateway.process.pid
        empty = resident_mib(pid)
        begun = time.perf_counter()
        for n in range(FUNCTIONS):
            put(gateway, declared(f"declared-{n}"))
        declare_ms = (time.perf_counter() - begun) * 1000 / FUNCTIONS
        functions, functions_cpu = resident_mib(pid), idle_cpu(pid)
        per = min(20, PODS)
        for n in range(PODS // per):
            put(gateway, declared(f"pods-{n}", {"min": per, "max": per}))
        until("the pods are idle", lambda: sum(p["state"] == "idle" for p in gateway.get("/v1/pods")) == PODS // per * per)
        pods, pods_cpu = resident_mib(pid), idle_cpu(pid)
        warm = median([call(gateway, "/function/pods-0", "POST", b"x") for _ in range(200)])
        found = {"functions": FUNCTIONS, "pods": PODS // per * per, "empty_mib": empty,
                 "with_functions_mib": functions, "with_pods_mib": pods, "peak_mib": peak_memory_mib(pid),
                 "idle_cpu_percent_functions": functions_cpu, "idle_cpu_percent_pods": pods_cpu,
                 "declare_ms": declare_ms, "warm_ms": warm}
    print(f"resident MiB: empty {empty:.1f}, {FUNCTIONS} functions declared {functions:.1f}, and {found['pods']} process pods "
          f"{pods:.1f} (peak {found['peak_mib']:.1f}); idle CPU of one core: {functions_cpu:.1f} % and {pods_cpu:.1f} %; "
          f"one declaration {declare_ms:.1f} ms; a warm call {warm:.2f} ms")
    return found


def bursts():
    cold, last, killed = [], [], []
    with Gateway() as gateway, concurrent.futures.ThreadPoolExecutor(16) as pool:
        for n in range(ROUNDS):
            put(gateway, declared(f"one-{n}", {"max": 16}))
            put(gateway, declared(f"many-{n}", {"max": 16}))
            cold.append(call(gateway, f"/function/one-{n}", "POST", b"x"))
            asked = [pool.submit(call, gateway, f"/function/many-{n}", "POST", b"x") for _ in range(16)]
            last.append(max(one.result() for one in asked))
            until("its pod is idle", lambda: any(p["function"] == f"one-{n}" and p["state"] == "idle" for p in gateway.get("/v1/pods")))
            pod = next(p for p in gateway.get("/v1/pods") if p["function"] == f"one-{n}")
            os.kill(pod["pid"], signal.SIGKILL)
            killed.append(call(gateway, f"/function/one-{n}", "POST", b"x"))
            for name in (f"one-{n}", f"many-{n}"):
                call(gateway, f"/v1/functions/{name}", "DELETE")
    ratio = median([b / c for b, c in zip(last, cold)])
    print(f"ms, median (min-max) of {ROUNDS} rounds: a cold call {spread(cold)}; the last of 16 at once on a cold function "
          f"{spread(last)}, {ratio:.2f} times a cold call; the call after its pod was killed {spread(killed)}")
    return {"cold_ms": cold, "burst_last_ms": last, "burst_ratio": ratio, "after_kill_ms": killed}


def main():
    record("pools", {"memory": memory(), "bursts": bursts()})


if __name__ == "__main__":
    main()
