"""A warm echo through the gateway, direct to its pod, and through nginx: requests a second, CPU microseconds
per request of the proxy, and what it adds to the 99th percentile. Bodies of nothing, 1 KB and 1 MB, both
ways, on 1, 32 and 512 connections. Proxy on core 0, load and pod on core 1; rounds interleaved.

Beside the gateway: nginx that passes on and no more (`nginx`); nginx that tells pod and caller as much as the gateway
does, as far as it can know it, and logs what its requests took (`telling`), since the gateway counts that; and the floor
under the gateway, a proxy that is hyper and nothing else (`hyper`), and one that adds as many headers, which say nothing
(`headers`).

ROUNDS, SECONDS_EACH, CONNECTIONS ("1 32") and BODIES ("0 1000") choose what is run."""

import os
import re
import subprocess
import sys
import time

from gateway import BIN, ROOT, Gateway, cpu_seconds, free_port, median, need, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = os.environ.get("SECONDS_EACH", "3")
CONNECTIONS = [int(n) for n in os.environ.get("CONNECTIONS", "1 32 512").split()]
BODIES = [int(n) for n in os.environ.get("BODIES", "0 1000 1000000").split()]
FUNCTION = """
apiVersion: stoic.dev/v1
kind: Function
metadata: {name: echo}
spec:
  command: [taskset, -c, "1", stoic-echo]
  input: request
  concurrency: 1024
  runtimes: [edge]
  standby: {edge: 1}
"""
NGINX = """
daemon off; worker_processes 1; pid %(folder)s/nginx.pid; error_log %(folder)s/error.log;
events { worker_connections 4096; }
http { %(log)s; client_max_body_size 0; client_body_buffer_size 2m; proxy_buffers 8 256k; proxy_buffer_size 64k;
  proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0; client_body_temp_path %(folder)s/b; proxy_temp_path %(folder)s/p; fastcgi_temp_path %(folder)s/f;
  uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  upstream pod { server %(pod)s; keepalive 512; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:%(port)d; keepalive_requests 1000000000;
    location / { proxy_pass http://pod/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; %(tell)s } } }
"""
# What the gateway tells the pod of a request, and its caller of the answer.
TELL = """proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Event-Id $request_id; proxy_set_header Event-Time $time_iso8601;
      proxy_set_header Event-Type application/octet-stream; proxy_set_header Event-Namespace http.stoic.dev;
      add_header X-Stoic-Invocation $request_id; add_header X-Stoic-Runtime edge; add_header X-Stoic-Site edge;
      add_header X-Stoic-Start warm; add_header X-Stoic-Pod $upstream_addr;
      add_header X-Stoic-Actual "queueing=0.0000;transfer=0.0000;deployment=0.0000;processing=$upstream_header_time;response=$request_time";
      add_header X-Stoic-Predicted "queueing=0.0000;transfer=0.0000;deployment=0.0000;processing=0.0001;response=0.0001;low90=0.0000;high90=0.0002";
      add_header Server-Timing "queueing;dur=0.0000, transfer;dur=0.0000, deployment;dur=0.0000, processing;dur=$upstream_header_time, total;dur=$request_time";
"""
LOG = "access_log %(folder)s/access.log combined buffer=64k flush=1s"


def wrk(url, connections, script):
    """Requests a second, requests in all, and the 99th percentile in ms."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency"]
    command += ["-s", script, url] if script else [url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        print(out, file=sys.stderr)
    total = int(re.search(r"(\d+) requests in", out).group(1))
    late, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    factor = {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), total, float(late) * factor


def measure(ways, connections, script, what):
    """Rounds of every way in turn; says and returns what came of them."""
    for url, _ in ways.values():
        wrk(url, connections, script)
    rows = {name: {"rps": [], "cpu_us": [], "p99_ms": []} for name in ways}
    for _ in range(ROUNDS):
        for name, (url, pid) in ways.items():
            before = cpu_seconds(pid) if pid else 0
            rate, total, late = wrk(url, connections, script)
            rows[name]["rps"].append(rate)
            rows[name]["p99_ms"].append(late)
            if pid:
                rows[name]["cpu_us"].append((cpu_seconds(pid) - before) / max(total, 1) * 1e6)
    print(f"\n{what}, {connections} connection(s): median (min-max) of {ROUNDS} interleaved rounds of {SECONDS} s")
    for name, row in rows.items():
        cpu = spread(row["cpu_us"]) if row["cpu_us"] else "-"
        added = [late - direct for late, direct in zip(row["p99_ms"], rows["direct"]["p99_ms"])]
        row["p99_added_ms"] = added
        print(f"  {name:7} {spread(row['rps']):>28} req/s   {cpu:>22} CPU us/req   p99 {spread(row['p99_ms']):>22} ms"
              f"   added {spread(added)} ms")
    for name, of in [("hyper", "nginx"), ("headers", "nginx"), ("telling", "nginx"), ("stoic", "nginx"), ("stoic", "telling")]:
        ratio = [a / b for a, b in zip(rows[name]["cpu_us"], rows[of]["cpu_us"])]
        print(f"  CPU per request, {name} / {of}, round by round: {spread(ratio)}")
        rows[name][f"ratio_{of}"] = median(ratio)
    return rows


def start_nginx(folder, name, pod, log="access_log off", tell=""):
    """An nginx with one worker on core 0: the process, and its way."""
    folder, port = os.path.join(folder, name), free_port()
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(NGINX % {"folder": folder, "pod": pod, "port": port, "log": log % {"folder": folder}, "tell": tell})
    process = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", config], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    worker = int(subprocess.check_output(["pgrep", "-P", str(process.pid)]).split()[0])
    return process, (f"http://127.0.0.1:{port}/", worker)


def bare(pod, *more):
    """A proxy of hyper alone on core 0: the process, and its way."""
    command = ["taskset", "-c", "0", os.path.join(BIN, "stoic-test-bare-proxy"), pod, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return process, (f"http://{process.stdout.readline().strip()}/", process.pid)


def main():
    for tool, package in (("wrk", "wrk"), ("nginx", "nginx-light"), ("taskset", "util-linux")):
        need(tool, package)
    with Gateway(pin=0, threads=1) as gateway:
        gateway.deploy(FUNCTION)
        pod = gateway.get("/v1/pods")[0]["address"]
        nginx, passing = start_nginx(gateway.folder, "passing", pod)
        talker, telling = start_nginx(gateway.folder, "telling", pod, LOG, TELL)
        plain, hyper = bare(pod)
        more, headers = bare(pod, "--headers")
        ways = {
            "direct": (f"http://{pod}/", None),
            "nginx": passing,
            "telling": telling,
            "hyper": hyper,
            "headers": headers,
            "stoic": (f"{gateway.url}/function/echo", gateway.process.pid),
        }
        results = {}
        try:
            for size in BODIES:
                script = None
                if size:
                    script = os.path.join(gateway.folder, f"{size}.lua")
                    with open(script, "w", encoding="utf-8") as file:
                        file.write(f'wrk.method = "POST"; wrk.body = string.rep("x", {size})')
                for connections in CONNECTIONS:
                    what = f"{size} bytes each way"
                    results[f"{size}_{connections}"] = measure(ways, connections, script, what)
        finally:
            for proxy in (nginx, talker, plain, more):
                proxy.terminate()
                proxy.wait()
        record("proxy", results)


if __name__ == "__main__":
    main()
