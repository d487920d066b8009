"""An edge box and its cloud over a real, held link, as in the paper's section 4.1: this machine's gateway in a network
namespace of its own, another gateway over TLS as its cloud, `tc tbf` at 70.79 Mbit/s on both ends of the wire between
them, and a relay that adds 20 ms to each round trip. The pods of the cloud are those of the cluster in KUBECONFIG (images
from REGISTRY); without one they are processes of this machine.

Measured: predicted against actual T_s in every mode, after the bootstrap and WARM_UP rounds of the largest and the smallest
batch in turn; a fixed loop before and after each batch tells whether this machine ran at its usual pace meanwhile, since a
neighbour on the host can halve it, which no prediction can know. Then the faults: the wire cut
and mended in mid-batch, the other gateway killed in mid-batch. Each result has to hold each item once, as the edge alone
would have given it. Needs root, for the namespace."""

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager

from gateway import BIN, ROOT, Gateway, free_port, median, need, record, spread

ROUNDS = int(os.environ.get("ROUNDS", "8"))
WARM_UP = int(os.environ.get("WARM_UP", "3"))
ITEMS = int(os.environ.get("ITEMS", "200"))
RATE, ADDED = "70.79mbit", 0.020
NEAR, FAR = "10.77.0.2", "10.77.0.1"


class Wire:
    """A network namespace `near`, a wire to it from here, held by tbf at both ends."""

    def __init__(self):
        self.name = f"stoic-edge-{os.getpid()}"
        self.here, self.there = f"sth{os.getpid()}", f"stt{os.getpid()}"
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        ip("netns", "add", self.name)
        self.near = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
        ip("addr", "add", f"{FAR}/30", "dev", self.here)
        ip("link", "set", self.here, "up")
        self.hold(self.here)
        with self.inside():
            ip("addr", "add", f"{NEAR}/30", "dev", self.there)
            ip("link", "set", "lo", "up")
            ip("link", "set", self.there, "up")
            self.hold(self.there)

    @staticmethod
    def hold(device):
        """Holds what leaves a device to the rate."""
        run("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", RATE, "burst", "64kb", "latency", "100ms")

    @contextmanager
    def inside(self):
        """This thread, and processes that it starts, in the near namespace."""
        enter(self.near)
        try:
            yield
        finally:
            enter(self.home)

    @contextmanager
    def outside(self):
        """The same, in the namespace that this program was started in."""
        enter(self.home)
        try:
            yield
        finally:
            enter(self.near)

    def cut(self):
        """Takes the wire down, without a word to either end."""
        with self.outside():
            ip("link", "set", self.here, "down")

    def mend(self):
        """Puts it up again."""
        with self.outside():
            ip("link", "set", self.here, "up")

    def remove(self):
        """Wire and namespace."""
        enter(self.home)
        ip("link", "del", self.here)
        ip("netns", "del", self.name)


def enter(namespace):
    """setns(2); Python has it from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0x40000000) != 0:
        sys.exit("setns: " + os.strerror(ctypes.get_errno()))


def run(*command):
    """A command that has to work."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def ip(*arguments):
    """ip(8)."""
    run("ip", *arguments)


def certificate(folder):
    """A certificate for the far address, which is its own authority."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=campus", "-addext", f"subjectAltName=IP:{FAR}", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert)
    return cert, key


class Campus:
    """The other gateway: TLS, a token, and pods of a cluster where there is one."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.data = os.path.join(folder, "data")
        self.token = os.path.join(folder, "token")
        self.port = free_port()
        self.cert, key = certificate(folder)
        self.cluster = bool(os.environ.get("KUBECONFIG") and os.environ.get("REGISTRY"))
        self.namespace = f"stoic-link-{os.getpid()}"
        backend = ""
        if self.cluster:
            run("kubectl", "create", "namespace", self.namespace)
            backend = f'backend = "kubernetes"\n[sites.campus.kubernetes]\nnamespace = "{self.namespace}"\n'
        self.config = os.path.join(folder, "campus.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            # Nothing that a stopped bench leaves behind is probed for: the inquisitor of the edge is the one measured.
            file.write(f'[tls]\ncert = "{self.cert}"\nkey = "{key}"\n[inquisitor]\nenabled = false\n[sites.campus]\n'
                       f'{backend}[runtimes.cpu]\nsite = "campus"\nthreads = 1\n')
        run(os.path.join(BIN, "stoic"), "token", "create", "--name", "shed", "--scope", "invoke,deploy",
            "--data", self.data, "--out", self.token)
        self.log = open(os.path.join(folder, "log"), "a", encoding="utf-8")

    def start(self):
        """Starts it, and waits for its line."""
        environment = dict(os.environ, PATH=BIN + os.pathsep + os.environ["PATH"])
        self.process = subprocess.Popen(
            [os.path.join(BIN, "stoic"), "up", "--listen", f"127.0.0.1:{self.port}", "--config", self.config,
             "--data", self.data], stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        if "https://" not in self.process.stdout.readline():
            sys.exit("the other gateway did not start: " + open(self.log.name, encoding="utf-8").read())

    def kill(self):
        """Ends it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def pods(self):
        """Names of its pods in the cluster."""
        listed = run("kubectl", "get", "pods", "-n", self.namespace, "-o", "name")
        return listed.split()

    def remove(self):
        """Stops it in order, and removes its namespace."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        if self.cluster:
            run("kubectl", "delete", "namespace", self.namespace, "--wait=false")


def edge_config(campus):
    """The edge box: its own pods, and the other gateway as its cloud."""
    return (f'[inquisitor]\nenabled = false\n[sites.edge]\n[sites.cloud]\nbackend = "gateway"\n[sites.cloud.gateway]\n'
            f'url = "https://{FAR}:{PORT}"\nca = "{campus.cert}"\ntoken_file = "{campus.token}"\n')


PORT = 8443


def until(what, test, patience=120):
    """Waits for something to become true."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if test():
            return
        time.sleep(0.1)
    sys.exit(f"not within {patience} s: {what}")


def batch(gateway, package, headers, seen=None):
    """One batch of a package (its items, its file); seconds from the first byte sent to the last event, and that event. `seen` gets each event."""
    items, path = package
    with open(path, "rb") as body:
        request = urllib.request.Request(
            gateway.url + "/function/wildlife", data=body, method="POST",
            headers={"content-type": "application/zip", "content-length": str(os.path.getsize(path)),
                     "accept": "application/x-ndjson", **headers})
        begun = time.perf_counter()
        last = None
        with urllib.request.urlopen(request, timeout=600) as answer:
            for line in answer:
                last = json.loads(line)
                if seen:
                    seen(last)
        total = time.perf_counter() - begun
    if last["type"] != "result" or last["items"] != items:
        sys.exit(f"the batch failed: {last}\n{open(gateway.log.name, encoding='utf-8').read()[-4000:]}")
    return total, last


def labels(gateway, last):
    """Names and labels of a stored result, in order."""
    with urllib.request.urlopen(gateway.url + last["result"], timeout=60) as answer:
        return [(item["name"], item.get("label")) for item in json.load(answer)["items"]]


WAYS = {
    "edge": {"x-stoic-runtime": "edge"},
    "cloud": {"x-stoic-runtime": "cloud.cpu"},
    "selector": {"x-stoic-mode": "selector"},
    "duplicator": {"x-stoic-mode": "duplicator"},
    "cooperative": {"x-stoic-mode": "cooperative"},
}


def pace():
    """Seconds of this machine's processor for a fixed loop, about 10 ms."""
    begun = time.process_time()
    total = 0
    for number in range(100_000):
        total += number * number
    return time.process_time() - begun


# A batch was at the usual pace when the loops around it took no more or less than this share beside the median of all.
STEADY = 0.15


def predictions(gateway, packages):
    """Batches of random sizes in every mode; errors of T_s."""
    rows = {name: [] for name in WAYS}
    draw = random.Random(7)
    for number in range(WARM_UP + ROUNDS):
        # The order turns, so that what wanders on the machine wanders over all of them.
        order = list(WAYS)
        order = order[number % len(order):] + order[:number % len(order)]
        package = draw.choice(packages) if number >= WARM_UP else packages[-1 if number % 2 == 0 else 0]
        for name in order:
            paces = [pace()]
            total, last = batch(gateway, package, WAYS[name])
            paces.append(pace())
            measurement = last["measurement"]
            # T_s is the sum of its parts; nothing is predicted before the first run in a place.
            predicted, actual = (sum((measurement[key] or {}).values()) for key in ("predicted", "actual"))
            by = measurement["items_by"] or measurement["runtime"]
            print(f"  {name}, {package[0]} images: predicted {predicted:.2f}, took {actual:.2f} s, by the caller's clock "
                  f"{total:.2f} s ({by})", flush=True)
            if number >= WARM_UP:
                rows[name].append({"items": package[0], "predicted": predicted, "actual": actual, "caller": total,
                                   "by": by, "paces": paces})
    everything = [row for of in rows.values() for row in of]
    usual = median([one for row in everything for one in row["paces"]])
    for row in everything:
        row["steady"] = all(abs(one / usual - 1) <= STEADY for one in row["paces"])
    return rows


def pmae(rows):
    """Mean absolute error over mean actual, in percent (paper, section 5)."""
    return 100 * sum(abs(row["predicted"] - row["actual"]) for row in rows) / sum(row["actual"] for row in rows)


def hindsight(rows, of):
    """What the median of all other batches of the same size in the same places, later ones too, would have missed by in
    some, in percent: what this machine's own unrest leaves to any prediction."""
    def kind(row):
        return row["by"] if isinstance(row["by"], str) else "both", row["items"]

    missed = actual = 0.0
    for row in of:
        others = [other["actual"] for all_of in rows.values() for other in all_of
                  if other is not row and kind(other) == kind(row)]
        if others:
            missed += abs(median(others) - row["actual"])
            actual += row["actual"]
    return 100 * missed / actual if actual else 0.0


def faulty(gateway, package, headers, break_it, expected):
    """A batch during which something breaks when the cloud has begun with it; how it ended, and who did how much."""
    events, at_work = [], []

    def seen(event):
        if event["type"] == "working":
            at_work.append(event["runtime"])
        done = event["type"] == "progress" and (event.get("by_runtime") or {at_work[-1]: event["done"]})
        if not events and done and done.get("cloud.cpu"):
            events.append(event)
            break_it()
        elif event["type"] == "retry":
            events.append(event)

    total, last = batch(gateway, package, headers, seen)
    if not events:
        sys.exit(f"the cloud had no part in it: {last}")
    got = labels(gateway, last)
    if [name for name, _ in got] != [name for name, _ in expected]:
        sys.exit("items were lost, doubled or mixed up")
    measurement = last["measurement"]
    return {"seconds": total, "by": measurement["items_by"] or measurement["runtime"],
            "same_labels": sum(one == other for one, other in zip(got, expected)), "items": len(got),
            "told": [event["reason"] for event in events[1:]]}


def train(gateway, folder):
    """A model, trained on labelled scenes at whichever end is faster; both ends serve it from then on."""
    scenes = os.path.join(folder, "labelled.zip")
    run(os.path.join(BIN, "stoic-wildlife"), "scenes", "--out", scenes, "--count", "100", "--labelled", "--seed", "3")
    run(os.path.join(BIN, "stoic"), "function", "call", "wildlife", "--action", "train", "--data", scenes, "--gateway",
        gateway.url)
    # A new model is bootstrapped anew: what is measured beside that is slowed by it, and before it little is known.
    time.sleep(1)
    until("the model is bootstrapped", lambda: gateway.get("/v1/functions/wildlife")["status"]["bootstrap"]["state"] == "done")


def available(gateway):
    """Whether the cloud's runtime may be used now."""
    return any(runtime["name"] == "cloud.cpu" and runtime["available"] for runtime in gateway.get("/v1/runtimes"))


def faults(gateway, wire, campus, packages):
    """The wire and the other gateway, broken in mid-batch."""
    package = packages[-1]
    expected = labels(gateway, batch(gateway, package, WAYS["edge"])[1])
    found, mending = {}, []

    def cut(seconds):
        wire.cut()
        # A thread keeps the namespace it was started in, so another program mends the wire.
        up = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{wire.home}", "ip", "link", "set", wire.here, "up"]
        mending.append(threading.Timer(seconds, subprocess.run, [up]))
        mending[-1].start()

    for name, mode, break_it in [
            ("wire cut for 3 s, cooperative", "cooperative", lambda: cut(3)),
            ("wire cut for 30 s, cooperative", "cooperative", lambda: cut(30)),
            ("wire cut for 30 s, selector with the edge busy", "selector", lambda: cut(30)),
            ("gateway killed, cooperative", "cooperative", campus.kill),
            ("gateway killed, selector with the edge busy", "selector", campus.kill)]:
        for timer in mending:
            timer.join()
        until("the cloud is there", lambda: available(gateway))
        ready(gateway)
        busy = []
        if mode == "selector":
            # A queue before the edge's one pod, so that the cloud is sooner.
            busy = [threading.Thread(target=batch, args=(gateway, package, WAYS["edge"])) for _ in range(3)]
            for thread in busy:
                thread.start()
            until("the edge is busy", lambda: any(pod["runtime"] == "edge" and pod["state"] == "busy"
                                                  for pod in gateway.get("/v1/pods")))
            time.sleep(0.7)
        found[name] = faulty(gateway, package, WAYS[mode], break_it, expected)
        for thread in busy:
            thread.join()
        if campus.process.poll() is not None:
            with wire.outside():
                campus.start()
        print(f"  {name}: {found[name]}", flush=True)
    for timer in mending:
        timer.join()
    until("the cloud is there", lambda: available(gateway))
    return found


def ready(gateway):
    """Waits for an idle pod in each place."""
    def both():
        pods = gateway.get("/v1/pods")
        return {"edge", "cloud.cpu"} <= {pod["runtime"] for pod in pods if pod["state"] == "idle"}
    until("a standby at both ends", both)


def main():
    if os.geteuid() != 0:
        print("skipped: a network namespace needs root")
        return
    need("tc", "iproute2")
    need("ip", "iproute2")
    need("openssl", "openssl")
    folder = tempfile.mkdtemp(prefix="stoic-link-")
    campus = Campus(folder)
    wire = Wire()
    relay = None
    try:
        campus.start()
        relay = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--relay", FAR, str(PORT),
                                  f"127.0.0.1:{campus.port}", str(ADDED)])
        packages = []
        for items in (ITEMS // 4, ITEMS // 2, ITEMS):
            path = os.path.join(folder, f"{items}.zip")
            run(os.path.join(BIN, "stoic-wildlife"), "scenes", "--out", path, "--count", str(items), "--seed", str(items))
            packages.append((items, path))
        with open(os.path.join(ROOT, "functions", "wildlife", "function.yaml"), encoding="utf-8") as file:
            function = file.read().replace("standby: {edge: 1}", "standby: {edge: {min: 1, max: 1}, cloud.cpu: 1}\n  runtimes: [edge, cloud.cpu]")
        function = function.replace("localhost:5000", os.environ.get("REGISTRY", "localhost:5000"))
        with wire.inside(), Gateway(edge_config(campus)) as gateway:
            until("the other gateway is greeted", lambda: available(gateway))
            gateway.deploy(function)
            train(gateway, folder)
            ready(gateway)
            link = next(one["link"] for one in gateway.get("/v1/runtimes") if one["name"] == "cloud.cpu")
            print(f"the cloud's pods: {'of the cluster' if campus.cluster else 'processes'}; its link as measured: {link}",
                  flush=True)
            rows = predictions(gateway, packages)
            for name, of in rows.items():
                steady = [row for row in of if row["steady"]]
                print(f"{name}: PMAE of T_s {pmae(of):.1f} %, T_s {spread([row['actual'] for row in of])} s; at the machine's "
                      f"usual pace {f'{pmae(steady):.1f} % of {len(steady)}' if steady else 'none'}; the median of all "
                      f"others alike would have missed by {hindsight(rows, of):.1f} %", flush=True)
            everything = [row for of in rows.values() for row in of]
            paces = sorted(one for row in everything for one in row["paces"])
            print(f"this machine's pace: a fixed loop took {1e3 * paces[0]:.1f} to {1e3 * paces[-1]:.1f} ms, mostly "
                  f"{1e3 * paces[len(paces) // 10]:.1f} to {1e3 * paces[-len(paces) // 10]:.1f}", flush=True)
            print(f"all: PMAE of T_s {pmae(everything):.1f} % over {len(everything)} batches (the median of all others alike: "
                  f"{hindsight(rows, everything):.1f} %); median error "
                  f"{100 * median([abs(row['predicted'] - row['actual']) / row['actual'] for row in everything]):.1f} %")
            found = faults(gateway, wire, campus, packages)
        if campus.cluster:
            until("no pod is left over", lambda: not campus.pods())
        record("link", {"cluster": campus.cluster, "rows": rows, "faults": found,
                        "pmae": {name: pmae(of) for name, of in rows.items()}, "pmae_all": pmae(everything),
                        "hindsight": {name: hindsight(rows, of) for name, of in rows.items()}})
    finally:
        wire.remove()
        if relay:
            relay.terminate()
        campus.remove()
        shutil.rmtree(folder, ignore_errors=True)


def relay_main(host, port, far, added):
    """Carries connections on, each byte half of the added round trip later."""
    import asyncio

    async def carry(reader, writer):
        loop = asyncio.get_running_loop()
        # What may be on its way at once; the rate is the wire's to hold.
        waiting = asyncio.Queue(64)

        async def take():
            while data := await reader.read(65536):
                await waiting.put((loop.time() + added / 2, data))
            await waiting.put((loop.time() + added / 2, b""))

        async def give():
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0, due - loop.time()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        await asyncio.gather(take(), give())

    async def serve(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*far.rsplit(":", 1))
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            # An end that broke is a break at the other end, too.
            writer.transport.abort()
            far_writer.transport.abort()

    async def main_loop():
        server = await asyncio.start_server(serve, host, port)
        async with server:
            await server.serve_forever()

    asyncio.run(main_loop())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--relay"]:
        relay_main(sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
    else:
        main()
