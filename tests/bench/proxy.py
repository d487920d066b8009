"""A warm echo through the gateway, direct to its pod, and through nginx: requests a second and CPU
microseconds per request of the proxy. Proxy on core 0, load and pod on core 1; rounds interleaved."""

import os
import re
import subprocess
import sys
import time

from gateway import ROOT, Gateway, cpu_seconds, free_port, median, need, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = os.environ.get("SECONDS_EACH", "3")
FUNCTION = """
apiVersion: stoic.dev/v1
kind: Function
metadata: {name: echo}
spec:
  command: [taskset, -c, "1", stoic-echo]
  input: request
  concurrency: 512
  runtimes: [edge]
  standby: {edge: 1}
"""
NGINX = """
daemon off; worker_processes 1; pid %(folder)s/nginx.pid; error_log %(folder)s/error.log;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path %(folder)s/b; proxy_temp_path %(folder)s/p; fastcgi_temp_path %(folder)s/f;
  uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  upstream pod { server %(pod)s; keepalive 512; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:%(port)d; keepalive_requests 1000000000;
    location / { proxy_pass http://pod/; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
"""


def wrk(url, connections):
    """Requests a second, requests in all, and the 99th percentile in ms."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        print(out, file=sys.stderr)
    total = int(re.search(r"(\d+) requests in", out).group(1))
    late, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    factor = {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), total, float(late) * factor


def main():
    for tool, package in (("wrk", "wrk"), ("nginx", "nginx-light"), ("taskset", "util-linux")):
        need(tool, package)
    with Gateway(pin=0, threads=1) as gateway:
        gateway.deploy(FUNCTION)
        pod = gateway.get("/v1/pods")[0]["address"]
        port = free_port()
        config = os.path.join(gateway.folder, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(NGINX % {"folder": gateway.folder, "pod": pod, "port": port})
        nginx = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", config], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        worker = int(subprocess.check_output(["pgrep", "-P", str(nginx.pid)]).split()[0])
        ways = {
            "direct": (f"http://{pod}/", None),
            "nginx": (f"http://127.0.0.1:{port}/", worker),
            "stoic": (f"{gateway.url}/function/echo", gateway.process.pid),
        }
        results = {}
        try:
            for connections in (1, 32):
                for url, _ in ways.values():
                    wrk(url, connections)
                rows = {name: {"rps": [], "cpu_us": [], "p99_ms": []} for name in ways}
                for _ in range(ROUNDS):
                    for name, (url, pid) in ways.items():
                        before = cpu_seconds(pid) if pid else 0
                        rate, total, late = wrk(url, connections)
                        rows[name]["rps"].append(rate)
                        rows[name]["p99_ms"].append(late)
                        if pid:
                            rows[name]["cpu_us"].append((cpu_seconds(pid) - before) / total * 1e6)
                results[connections] = rows
                print(f"\n{connections} connection(s): median (min-max) of {ROUNDS} interleaved rounds of {SECONDS} s")
                for name, row in rows.items():
                    cpu = spread(row["cpu_us"]) if row["cpu_us"] else "-"
                    print(f"  {name:7} {spread(row['rps']):>28} req/s   {cpu:>20} CPU us/req   p99 {spread(row['p99_ms'])} ms")
                ratio = [a / b for a, b in zip(rows["stoic"]["cpu_us"], rows["nginx"]["cpu_us"])]
                print(f"  CPU per request, stoic / nginx, round by round: {spread(ratio)}")
                results[f"ratio_{connections}"] = median(ratio)
        finally:
            nginx.terminate()
            nginx.wait()
        record("proxy", results)


if __name__ == "__main__":
    main()
