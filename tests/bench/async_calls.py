#!/usr/bin/env python3
"""Asynchronous calls while the gateway is killed again and again: all that were accepted are run, none is lost.

    tests/bench/async_calls.py          # CALLS=100000 KILLS=5 CALLERS=8 STOIC_BIN_DIR=target/debug

Callers post as fast as they are answered. The gateway gets SIGKILL at even distances and is started again on the same
folder; a call counts as accepted when its 202 has arrived, and whoever got no answer posts anew. Then every identity
that was acknowledged is looked up.
"""

import http.client
import json
import os
import sys
import threading
import time

import gateway as bench

CALLS = int(os.environ.get("CALLS", "100000"))
KILLS = int(os.environ.get("KILLS", "5"))
CALLERS = int(os.environ.get("CALLERS", "8"))
FUNCTION = json.dumps({
    "apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": "echo"},
    "spec": {"command": ["stoic-echo"], "runtimes": ["edge"], "concurrency": 64, "standby": {"edge": 1},
             "bootstrap": {"batches": []}},
})  # fmt: skip


def caller(address, accepted, until, lock):
    connection = None
    while True:
        with lock:
            if len(accepted) >= until:
                return
        try:
            connection = connection or http.client.HTTPConnection(address, timeout=30)
            connection.request("POST", "/async-function/echo", b"hello", {"content-type": "text/plain"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 202:
                time.sleep(0.05)
                continue
            with lock:
                accepted.append(answer.headers["x-call-id"])
        except (OSError, http.client.HTTPException):
            connection = None
            time.sleep(0.02)


def states(gateway):
    """Every call's state, page by page."""
    found, before = {}, ""
    while True:
        page = gateway.get("/v1/calls?limit=1000" + before)
        found.update((call["id"], call["state"]) for call in page["calls"])
        if not page["next"]:
            return found
        before = "&before=" + page["next"]


def main():
    with bench.Gateway("[inquisitor]\nenabled = false\n") as gateway:
        gateway.deploy(FUNCTION)
        accepted, lock, times = [], threading.Lock(), []
        for part in range(1, KILLS + 2):
            begun, had = time.monotonic(), len(accepted)
            goal = CALLS * part // (KILLS + 1)
            callers = [threading.Thread(target=caller, args=(gateway.address, accepted, goal, lock))
                       for _ in range(CALLERS)]
            for one in callers:
                one.start()
            if part <= KILLS:
                while len(accepted) < goal - (goal - had) // 10:
                    time.sleep(0.001)
                # In the midst of it; the callers go on with the next life.
                gateway.reborn()
            for one in callers:
                one.join()
            times.append((len(accepted) - had) / (time.monotonic() - begun))
        begun = time.monotonic()
        while True:
            open_calls = sum(len(gateway.get(f"/v1/calls?state={state}&limit=1")["calls"])
                             for state in ("queued", "running"))
            if not open_calls:
                break
            if time.monotonic() - begun > 1800:
                sys.exit("calls did not end within 30 minutes")
            time.sleep(0.5)
        found = states(gateway)
        lost = [call for call in accepted if call not in found]
        other = [call for call in accepted if found.get(call, "succeeded") != "succeeded"]
        print(f"{len(accepted)} calls accepted, the gateway killed {KILLS} times: {len(lost)} lost, "
              f"{len(other)} not succeeded; accepted {bench.spread(times)} a second with {CALLERS} callers; "
              f"the rest ran in {time.monotonic() - begun:.1f} s")
        bench.record("async_calls", {"accepted": len(accepted), "kills": KILLS, "lost": len(lost),
                                     "not_succeeded": len(other), "per_second": times})
        if lost or other:
            sys.exit(1)


if __name__ == "__main__":
    main()
