"""What STOIC shows on a real cluster: KUBECONFIG names it, REGISTRY is where it pulls from (`make images` puts the images
there). Each part makes namespaces of its own and removes them.

    tests/bench/cluster.py [scale] [away] [deleted] [cordon] [starts]     # absent: all but cordon

scale    1,000 functions as resources, 200 of them with a pod: time to converge, memory, processor; the same after kill -9
away     the API server out of reach for 30 s under load
deleted  the gateway's own pod deleted under load, with asynchronous calls: what was acknowledged, what was adopted
cordon   every node unschedulable for a while: only on a cluster that is yours alone
starts   cold, standby and warm by stage, beside a bare pod of the same image (stoic bench cold-warm)
"""

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from gateway import BIN, ROOT, Gateway, cpu_seconds, free_port, record
from link import run, until

FUNCTIONS = int(os.environ.get("FUNCTIONS", "1000"))
PODS = int(os.environ.get("PODS", "200"))
AWAY = float(os.environ.get("AWAY", "30"))
ROUNDS = os.environ.get("ROUNDS", "30")
REGISTRY = os.environ.get("REGISTRY", "")
KIND = "functions.stoic.dev"
QUIET = "[inquisitor]\nenabled = false\n"


class Namespace:
    """A namespace of this bench's own."""

    def __init__(self, part):
        self.name = f"stoic-bench-{part}-{os.getpid()}"

    def __enter__(self):
        run("kubectl", "create", "namespace", self.name)
        return self

    def __exit__(self, *_):
        # The gateway is gone by now: what a failure left over has a finalizer that nobody takes off any more.
        left = subprocess.run(["kubectl", "-n", self.name, "get", KIND, "-o", "name"], check=False, capture_output=True, text=True)
        if names := left.stdout.split():
            subprocess.run(["kubectl", "-n", self.name, "patch", *names, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'],
                           check=False, capture_output=True)
        subprocess.run(["kubectl", "delete", "namespace", self.name, "--wait=false"], check=False, capture_output=True)

    def kubectl(self, *arguments):
        """kubectl in it."""
        return run("kubectl", "-n", self.name, *arguments)

    def get(self, *arguments):
        """The same, as JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, objects):
        """Creates objects, or changes them."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        done = subprocess.run(["kubectl", "-n", self.name, "apply", "--server-side", "-f", "-"], input=text, text=True,
                              capture_output=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)

    def pods(self):
        """Names of the running pods of functions."""
        listed = self.get("pods", "-l", "app.kubernetes.io/managed-by=stoic")["items"]
        return sorted(pod["metadata"]["name"] for pod in listed if not pod["metadata"].get("deletionTimestamp"))

    def site(self, kubeconfig=None):
        """Configuration of a gateway whose pods are made here."""
        config = f'kubeconfig = "{kubeconfig}"\n' if kubeconfig else ""
        return (f'[sites.edge]\nbackend = "kubernetes"\n[sites.edge.kubernetes]\nnamespace = "{self.name}"\n{config}'
                '[runtimes.edge]\nsite = "edge"\n')


def echo(name, standby, **spec):
    """A function of the echo image."""
    return {"apiVersion": "stoic.dev/v1", "kind": "Function", "metadata": {"name": name},
            "spec": {"image": f"{REGISTRY}/stoic-echo:latest", "standby": {"edge": standby} if standby else {},
                     "bootstrap": {"batches": []}, **spec}}


def resident(pid):
    """Resident MiB of a process, now."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def scale():
    """Many functions, many pods."""
    with Namespace("scale") as namespace:
        config = QUIET + f'[controller]\nenabled = true\nnamespace = "{namespace.name}"\n' + namespace.site()
        with Gateway(config) as gateway:
            figures = {"functions": FUNCTIONS, "pods": PODS, "empty_mib": resident(gateway.process.pid)}

            def ready():
                # One that was applied a moment ago has no status yet.
                status = [one.get("status", {}) for one in namespace.get(KIND)["items"]]
                return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in one.get("conditions", []))
                           for one in status)

            def converge(what, objects, test, patience=900):
                cpu, begun = cpu_seconds(gateway.process.pid), time.perf_counter()
                for at in range(0, len(objects), 100):
                    namespace.apply(objects[at:at + 100])
                applied = time.perf_counter() - begun
                until(what, test, patience)
                took = time.perf_counter() - begun
                figure = {"applied_s": applied, "ready_s": took, "cpu_s": cpu_seconds(gateway.process.pid) - cpu,
                          "resident_mib": resident(gateway.process.pid)}
                print(f"{what}: applied in {applied:.1f} s, all ready {took - applied:.1f} s later; {figure['cpu_s']:.2f} s of "
                      f"processor, {figure['resident_mib']:.0f} MiB resident", flush=True)
                return figure

            figures["declared"] = converge(f"{FUNCTIONS} functions", [echo(f"f{n}", 0) for n in range(FUNCTIONS)],
                                           lambda: ready() == FUNCTIONS)
            figures["with_pods"] = converge(f"{PODS} of them with a pod", [echo(f"f{n}", 1) for n in range(PODS)],
                                            lambda: len(idle(gateway)) == PODS and ready() == FUNCTIONS)
            time.sleep(3)
            cpu = cpu_seconds(gateway.process.pid)
            versions = [one["metadata"]["resourceVersion"] for one in namespace.get(KIND)["items"]]
            time.sleep(10)
            figures["idle_share"] = (cpu_seconds(gateway.process.pid) - cpu) / 10
            if versions != [one["metadata"]["resourceVersion"] for one in namespace.get(KIND)["items"]]:
                sys.exit("statuses were written though nothing changed")
            print(f"while nothing changes: {100 * figures['idle_share']:.1f} % of a core, nothing written", flush=True)
            before = set(namespace.pods())
            begun = time.perf_counter()
            figures["restart_s"] = gateway.reborn()
            until("its pods are adopted", lambda: len(idle(gateway)) == PODS, 120)
            figures["adopted_s"] = time.perf_counter() - begun
            time.sleep(5)
            after = set(namespace.pods())
            figures["pods_replaced"] = len(before - after)
            figures["restart_cpu_s"] = cpu_seconds(gateway.process.pid)
            print(f"after kill -9: serves after {figures['restart_s']:.2f} s, {len(after & before)} of {PODS} pods adopted after "
                  f"{figures['adopted_s']:.2f} s; {figures['restart_cpu_s']:.2f} s of processor, "
                  f"{resident(gateway.process.pid):.0f} MiB resident", flush=True)
            begun = time.perf_counter()
            namespace.kubectl("delete", KIND, "--all", "--timeout=300s")
            figures["deleted_s"] = time.perf_counter() - begun
            until("no pod is left", lambda: not namespace.pods())
            print(f"all deleted, with their pods, in {figures['deleted_s']:.1f} s", flush=True)
            return figures


def idle(gateway):
    """Pods that stand by."""
    return [pod for pod in gateway.get("/v1/pods") if pod["state"] == "idle"]


class Load:
    """Callers that ask on and on; what they were answered, and the longest that one waited."""

    def __init__(self, address, path, callers=4, headers=None, verb="GET", pause=0.005):
        self.address, self.path, self.verb, self.pause = address, path, verb, pause
        self.headers = headers or {}
        self.answers, self.calls, self.longest = {}, [], 0.0
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.ask) for _ in range(callers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def ask(self):
        """One caller."""
        connection = None
        while not self.stop.is_set():
            begun, call = time.perf_counter(), None
            try:
                connection = connection or http.client.HTTPConnection(self.address, timeout=20)
                connection.request(self.verb, self.path, b"hello" if self.verb == "POST" else None, self.headers)
                answer = connection.getresponse()
                answer.read()
                said, call = answer.status, answer.headers.get("x-call-id")
                names = [name.lower() for name in answer.headers]
                if said == 404 and not any(name.startswith("x-stoic") for name in names):
                    # A Service without pods: whoever is behind the machine's network answers.
                    said, connection = "nobody", None
            except (OSError, http.client.HTTPException) as error:
                said, connection = type(error).__name__, None
            with self.lock:
                self.answers[said] = self.answers.get(said, 0) + 1
                self.longest = max(self.longest, time.perf_counter() - begun)
                if said == 202 and call:
                    self.calls.append(call)
            time.sleep(self.pause)


class Switch:
    """A relay in front of the API server that can be switched off: connections end, new ones are refused."""

    def __init__(self, folder):
        config = json.loads(run("kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        cluster = config["clusters"][0]["cluster"]
        host = cluster["server"].removeprefix("https://").rstrip("/")
        self.far = host if ":" in host else host + ":443"
        self.port = free_port()
        cluster["server"] = f"https://127.0.0.1:{self.port}"
        cluster["tls-server-name"] = self.far.rsplit(":", 1)[0]
        self.kubeconfig = os.path.join(folder, "kubeconfig")
        with open(os.open(self.kubeconfig, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.process = None
        self.on()

    def on(self):
        """The API server is there."""
        link = os.path.join(os.path.dirname(os.path.abspath(__file__)), "link.py")
        self.process = subprocess.Popen([sys.executable, link, "--relay", "127.0.0.1", str(self.port), self.far, "0"])
        until("the relay listens", self.listens)

    def listens(self):
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def off(self):
        """It is not."""
        self.process.kill()
        self.process.wait()


def away():
    """Warm requests go on without an API server."""
    folder = tempfile.mkdtemp(prefix="stoic-bench-")
    switch = Switch(folder)
    try:
        with Namespace("away") as namespace:
            with Gateway(QUIET + namespace.site(switch.kubeconfig).replace(
                    "[runtimes.edge]", 'reach = "ip"\n[runtimes.edge]')) as gateway:
                gateway.deploy(json.dumps(echo("hi", 2)))
                until("two standbys", lambda: len(idle(gateway)) == 2)
                before = namespace.pods()
                with Load(gateway.address, "/function/hi/") as load:
                    time.sleep(3)
                    switch.off()
                    time.sleep(AWAY)
                    switch.on()
                    time.sleep(5)
                print(f"API server away for {AWAY:.0f} s: {load.answers}, the longest took {1000 * load.longest:.0f} ms", flush=True)
                if set(load.answers) != {200}:
                    sys.exit("warm requests failed")
                if namespace.pods() != before:
                    sys.exit(f"pods were lost: {before} before, {namespace.pods()} after")
                return {"seconds": AWAY, "answers": load.answers, "longest_s": load.longest}
    finally:
        switch.off()
        shutil.rmtree(folder, ignore_errors=True)


def cordon():
    """No node takes pods: what is warm serves, what is cold is refused by name, and served once a node is back."""
    nodes = [node["metadata"]["name"] for node in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]]
    with Namespace("cordon") as namespace:
        config = ('[inquisitor]\nenabled = true\nevery = "2s"\nquiet = "0s"\n[sites.edge]\n[runtimes.edge]\nsite = "edge"\norder = 0\n'
                  + namespace.site().replace("edge", "cloud").replace("[runtimes", 'room_timeout = "2s"\n[runtimes')
                  + "order = 1\n")
        with Gateway(config) as gateway:
            spec = {"runtimes": ["cloud"], "standby": {"cloud": 1}}
            warm, cold = echo("warm", 0), echo("cold", 0)
            warm["spec"].update(spec)
            cold["spec"].update({"runtimes": ["cloud"], "standby": {}})
            gateway.deploy(json.dumps(warm))
            until("a standby", lambda: [pod for pod in idle(gateway) if pod["function"] == "warm"])
            gateway.deploy(json.dumps(cold))

            def standing():
                runtime = next(one for one in gateway.get("/v1/runtimes") if one["name"] == "cloud")
                return next(of["standing"] for of in runtime["functions"] if of["function"] == "cold")

            figures = {}
            run("kubectl", "cordon", *nodes)
            try:
                begun = time.perf_counter()
                try:
                    urllib.request.urlopen(gateway.url + "/function/cold/", timeout=60)
                    sys.exit("a pod was started though no node takes any")
                except urllib.error.HTTPError as error:
                    said = json.load(error)
                figures["refused_s"], figures["code"] = time.perf_counter() - begun, said["code"]
                print(f"nodes unschedulable: {said['code']} after {figures['refused_s']:.1f} s: {said['detail']}", flush=True)
                until("the runtime is unavailable", lambda: standing()["available"] is False)
                print(f"the inquisitor: {standing()}", flush=True)
                if urllib.request.urlopen(gateway.url + "/function/warm/", timeout=60).status != 200:
                    sys.exit("the warm pod does not serve")
            finally:
                run("kubectl", "uncordon", *nodes)
            begun = time.perf_counter()
            until("the runtime is available again", lambda: standing()["available"])
            figures["back_s"] = time.perf_counter() - begun
            if urllib.request.urlopen(gateway.url + "/function/cold/", timeout=60).status != 200:
                sys.exit("it does not serve again")
            print(f"schedulable again: available after {figures['back_s']:.1f} s, and serves", flush=True)
            return figures


def deleted():
    """The gateway's pod goes, by the hand of somebody with no patience."""
    helm = subprocess.run([os.path.join(ROOT, "tests", "helm.sh")], capture_output=True, text=True, check=True).stdout.strip()
    folder = tempfile.mkdtemp(prefix="stoic-bench-")
    volume = None
    with Namespace("deleted") as namespace:
        try:
            classes = json.loads(run("kubectl", "get", "storageclass", "-o", "json"))["items"]
            if not classes:
                # A cluster of one node without storage: a folder of this machine is the volume.
                volume = namespace.name
                os.chmod(folder, 0o777)
                namespace.apply([{
                    "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
                    "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": folder},
                             "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
                             "claimRef": {"namespace": namespace.name, "name": "stoic"}}}])
            run(helm, "install", "stoic", os.path.join(ROOT, "deploy", "helm", "stoic"), "--wait", "--timeout", "120s",
                "--namespace", namespace.name, "--set", f"image.registry={REGISTRY},image.pullPolicy=Always")
            address = namespace.get("service", "stoic")["spec"]
            address = f"{address['clusterIP']}:{address['ports'][0]['port']}"
            token = base64.b64decode(namespace.get("secret", "stoic-admin")["data"]["token"]).decode()
            headers = {"x-stoic-token": token}

            def ask(path):
                request = urllib.request.Request(f"http://{address}{path}", headers=headers)
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)

            namespace.apply([echo("hi", 2)])
            until("two standbys", lambda: len([p for p in ask("/v1/pods") if p["state"] == "idle"]) == 2)
            figures = {}
            for name, how in (("in order", ("--wait=false",)), ("without grace", ("--grace-period=0", "--force"))):
                before = namespace.pods()
                gateways = namespace.get("pods", "-l", "app.kubernetes.io/name=stoic,app.kubernetes.io/instance=stoic")
                gateway = gateways["items"][0]["metadata"]
                with Load(address, "/async-function/hi", headers=headers, verb="POST") as asynchronous, \
                        Load(address, "/function/hi/", headers=headers) as load:
                    time.sleep(3)
                    begun = time.perf_counter()
                    namespace.kubectl("delete", "pod", gateway["name"], *how)
                    # The one that goes still answers for a moment.
                    until("it is another pod", lambda: any(
                        pod["metadata"]["uid"] != gateway["uid"] and any(c["type"] == "Ready" and c["status"] == "True"
                                                                         for c in pod["status"].get("conditions", []))
                        for pod in namespace.get("pods", "-l", "app.kubernetes.io/name=stoic")["items"]))
                    down = time.perf_counter() - begun
                    time.sleep(10)
                after = namespace.pods()

                def unfinished():
                    return [c for state in ("queued", "running")
                            for c in ask(f"/v1/calls?state={state}&limit=1")["calls"]]

                until("all calls have ended", lambda: not unfinished())
                ended, at = {}, ""
                while True:
                    page = ask("/v1/calls?limit=1000" + at)
                    ended.update((call["id"], call["state"]) for call in page["calls"])
                    if not page["next"]:
                        break
                    at = "&before=" + page["next"]
                lost = [call for call in asynchronous.calls if ended.get(call) != "succeeded"]
                print(f"gateway's pod deleted {name} under load: the next one ready after {down:.1f} s; "
                      f"{len(asynchronous.calls)} calls acknowledged, {len(lost)} of them lost; "
                      f"{len(set(before) & set(after))} of {len(before)} warm pods adopted; answers {load.answers} and "
                      f"{asynchronous.answers}", flush=True)
                if lost or before != after:
                    sys.exit(f"lost: {lost[:5]}; pods {before} before, {after} after")
                figures[name] = {"down_s": down, "acknowledged": len(asynchronous.calls), "lost": len(lost),
                                 "adopted": len(after), "answers": {str(k): v for k, v in load.answers.items()}}
            namespace.kubectl("delete", KIND, "hi", "--timeout=60s")
            run(helm, "uninstall", "stoic", "--wait", "--namespace", namespace.name)
            return figures
        finally:
            if volume:
                run("kubectl", "delete", "persistentvolume", volume, "--wait=false")
            shutil.rmtree(folder, ignore_errors=True)


def starts():
    """stoic bench cold-warm on the cluster."""
    figures = {}
    with Namespace("starts") as namespace:
        with Gateway(QUIET + namespace.site()) as gateway:
            gateway.deploy(json.dumps(echo("echo", 0)))
            with open(os.path.join(ROOT, "functions", "wildlife", "function.yaml"), encoding="utf-8") as file:
                wildlife = file.read().replace("localhost:5000", REGISTRY).replace("standby: {edge: 1}", "standby: {}")
            gateway.deploy(wildlife)
            out = os.path.join(ROOT, "target", "bench", "cluster-starts")
            subprocess.run([os.path.join(BIN, "stoic"), "bench", "cold-warm", "--gateway", gateway.url, "--function", "echo",
                            "--function", "wildlife", "--backend", "kubernetes", "--baseline", "bare-pod,direct", "--rounds",
                            ROUNDS, "--out", out], check=True)
            figures["report"] = out
    return figures


def main():
    if not os.environ.get("KUBECONFIG") or not REGISTRY:
        print("skipped: no cluster (set KUBECONFIG, and REGISTRY to a registry that the cluster pulls from)")
        return
    parts = {"scale": scale, "away": away, "deleted": deleted, "cordon": cordon, "starts": starts}
    wanted = sys.argv[1:] or [name for name in parts if name != "cordon"]
    if unknown := [name for name in wanted if name not in parts]:
        print(f"no such part: {unknown[0]}; there are {', '.join(parts)}", file=sys.stderr)
        sys.exit(2)
    run("kubectl", "apply", "--server-side", "-f", os.path.join(ROOT, "deploy", "kubernetes", "crd.yaml"))
    for name in wanted:
        record(f"cluster-{name}", parts[name]())


if __name__ == "__main__":
    main()
