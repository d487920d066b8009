"""Tests of the set-up that need no network: `python3 -m unittest discover images`."""

import collections
import hashlib
import io
import os
import pickle
import struct
import sys
import tempfile
import unittest
import unittest.mock
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import backbone  # noqa: E402
import download  # noqa: E402
import setup  # noqa: E402
import wheel  # noqa: E402


class FakeStorage:
    pass


class Global:
    """Pickles as the name of something the real checkpoint would import."""

    def __init__(self, name):
        self.name = name


class Pickler(pickle._Pickler):
    """Writes what torch.save wrote: tensors as calls of torch._utils with persistent storages."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + obj.name.encode() + b"\n")
        elif isinstance(obj, tuple) and obj and obj[0] == "tensor":
            _, storage, offset, shape, stride = obj
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
            self.write(b"(")
            for part in ("storage", Global("torch\nFloatStorage"), storage[0], "cpu", storage[1], None):
                self.save(part)
            self.write(b"tQ")
            for part in (offset, shape, stride, False, collections.OrderedDict()):
                self.save(part)
            self.write(b"tR")
        else:
            super().save(obj, save_persistent_id)


def checkpoint(state, storages):
    file = io.BytesIO()
    for value in (backbone.MAGIC, backbone.PROTOCOL, {"little_endian": True}, state, [s[0] for s in storages]):
        Pickler(file, protocol=2).dump(value)
    for _, values in storages:
        file.write(struct.pack("<q", len(values)) + struct.pack("<%df" % len(values), *values))
    return file.getvalue()


class Backbone(unittest.TestCase):
    def test_a_checkpoint_becomes_safetensors(self):
        data = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        state = collections.OrderedDict()
        state["row"] = ("tensor", ("7", 7), 1, (2, 3), (3, 1))
        state["column"] = ("tensor", ("7", 7), 1, (3, 2), (1, 3))
        out = backbone.safetensors(backbone.load(io.BytesIO(checkpoint(state, [("7", data)]))))
        (length,) = struct.unpack("<Q", out[:8])
        self.assertEqual(length % 8, 0)
        values = struct.unpack("<12f", out[8 + length:])
        self.assertEqual(values[:6], (1, 4, 2, 5, 3, 6))
        self.assertEqual(values[6:], (1, 2, 3, 4, 5, 6))

    def test_code_in_a_checkpoint_is_refused(self):
        for evil in (b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"ctorch\nload\n."):
            with self.assertRaises(backbone.Refused):
                backbone.load(io.BytesIO(evil))

    def test_whatever_is_cut_off_is_refused(self):
        state = collections.OrderedDict(w=("tensor", ("0", 4), 0, (4,), (1,)))
        whole = checkpoint(state, [("0", [1.0] * 4)])
        backbone.load(io.BytesIO(whole))
        for length in range(0, len(whole) - 1, 3):
            with self.assertRaises(backbone.Refused):
                backbone.load(io.BytesIO(whole[:length]))

    def test_a_tensor_beyond_its_storage_is_refused(self):
        state = collections.OrderedDict(w=("tensor", ("0", 4), 2, (4,), (1,)))
        with self.assertRaises(backbone.Refused):
            backbone.safetensors(backbone.load(io.BytesIO(checkpoint(state, [("0", [1.0] * 4)]))))


class Wheel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def make(self, damaged=False):
        import base64
        members = {"p/a.bin": os.urandom(3000), "p/big.bin": os.urandom(200000), "p/z.txt": b"text" * 100}
        lines = []
        for name, data in members.items():
            digest = hashlib.sha256(b"" if damaged else data).digest()
            lines.append("%s,sha256=%s,%d" % (name, base64.urlsafe_b64encode(digest).decode().rstrip("="), len(data)))
        record = "\n".join(lines + ["p.dist-info/RECORD,,"]).encode()
        path = os.path.join(self.folder.name, "p.whl")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in list(members.items()) + [("p.dist-info/RECORD", record)]:
                archive.writestr(name, data)
        with zipfile.ZipFile(path) as archive:
            directory = os.path.getsize(path) - archive.start_dir
        pin = {"file": "p.whl", "size": os.path.getsize(path), "directory": directory,
               "record_sha256": hashlib.sha256(record).hexdigest()}
        return path, pin, members

    def extract(self, path, pin):
        out, parts = (os.path.join(self.folder.name, name) for name in ("out", "parts"))
        os.makedirs(parts, exist_ok=True)
        wheel._extract("p", pin, download.Local(path), lambda m: m if m in ("p/a.bin", "p/z.txt") else None,
                       out, parts)
        return out

    def test_chosen_members_are_taken_and_the_rest_is_not_read(self):
        path, pin, members = self.make()
        gap, wheel.GAP = wheel.GAP, 100
        self.addCleanup(setattr, wheel, "GAP", gap)
        out = self.extract(path, pin)
        with open(os.path.join(out, "p/a.bin"), "rb") as file:
            self.assertEqual(file.read(), members["p/a.bin"])
        self.assertFalse(os.path.exists(os.path.join(out, "p/big.bin")))

    def test_a_member_without_its_hash_is_refused(self):
        path, pin, _ = self.make(damaged=True)
        with self.assertRaises(zipfile.BadZipFile):
            self.extract(path, pin)
        pin["record_sha256"] = "0" * 64
        with self.assertRaises(zipfile.BadZipFile):
            self.extract(path, pin)

    def test_near_members_share_a_range(self):
        info = collections.namedtuple("Info", "header_offset")
        a, b, c = info(0), info(100), info(900)
        self.assertEqual(wheel.spans([a, b, c], [a, c], 1000, gap=10), [(0, 100), (900, 1000)])
        self.assertEqual(wheel.spans([a, b, c], [a, c], 1000, gap=800), [(0, 1000)])


class Resume(unittest.TestCase):
    def test_a_broken_download_goes_on_where_it_stopped(self):
        import http.server
        import threading
        content, asked = os.urandom(500000), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                first, last = (int(x) for x in self.headers["Range"][len("bytes="):].split("-"))
                asked.append(first)
                self.send_response(206)
                self.send_header("Content-Length", str(last - first + 1))
                self.end_headers()
                # The first answer breaks off half way.
                self.wfile.write(content[first:first + 250000 if len(asked) == 1 else last + 1])

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "part")
            with open(path, "wb") as file:
                file.write(content[1000:2000])
            remote = download.Remote("http://127.0.0.1:%d/f" % server.server_port, pause=lambda _: None)
            remote.save(1000, len(content) - 1000, path, download.Progress("f", 1, out=io.StringIO()))
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content[1000:])
        self.assertEqual(asked[0], 2000)
        self.assertGreater(asked[1], 200000)


class Libtorch(unittest.TestCase):
    """A libtorch that the user brings, in `LIBTORCH`."""

    def folder(self, files):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        for name, text in files.items():
            path = os.path.join(temporary.name, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        return temporary.name

    def test_it_is_taken_by_what_archives_and_headers_say(self):
        defines = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n"
        library = {"lib/libtorch_cpu.so": "", "include/torch/script.h": ""}
        for said in (
            {"build-version": "2.11.0+cpu\n"},
            {"include/torch/headeronly/version.h": defines},
            {"include/torch/csrc/api/include/torch/version.h": defines},
        ):
            setup.check_foreign_libtorch(self.folder({**library, **said}))
        for said, word in (
            ({"build-version": "2.5.1\n"}, "version 2.5, and the bindings need 2.11"),
            ({}, "version unknown"),
        ):
            with self.assertRaisesRegex(download.SetupError, word):
                setup.check_foreign_libtorch(self.folder({**library, **said}))
        with self.assertRaisesRegex(download.SetupError, "holds no libtorch"):
            setup.check_foreign_libtorch(self.folder({"build-version": "2.11.0"}))

    def test_what_env_prints_may_be_in_force_when_setup_runs_again(self):
        folder = self.folder({"libtorch-%s-cpu/build-version" % setup.TORCH: setup.TORCH})
        own = os.path.join(folder, "libtorch-%s-cpu" % setup.TORCH)
        with unittest.mock.patch.dict(os.environ, {"STOIC_CACHE": folder, "LIBTORCH": own}):
            with unittest.mock.patch.object(setup, "say") as said:
                setup.libtorch()
        self.assertEqual(said.call_args.args[0], "libtorch: %s" % own)


if __name__ == "__main__":
    unittest.main()
