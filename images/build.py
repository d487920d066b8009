#!/usr/bin/env python3
"""Makes the images: stoic, stoic-base, stoic-runtime, stoic-echo, stoic-wildlife, each :latest and :VERSION.

    images/build.py [--registry HOST:PORT] [--push] [--only NAME]... [--cuda] [--debian IMAGE]

Called by `make images`, after the release binaries were built. Binaries go in as they are, stripped; no image holds
a compiler. Works with the classic builder and with BuildKit (DOCKER_BUILDKIT=1), by the `docker` command. Contexts are
laid out under target/images, so that a build sends what it needs and nothing else; files have one fixed time, so that
equal inputs give equal layers. Standard library only.
"""

import argparse
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import setup  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTEXTS = os.path.join(ROOT, "target", "images")
# Of libtorch, what programs load (images/setup.py lays them out).
LIBRARIES = ["libc10.so", "libcudart.so.13", "libcupti.so.13", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so"]
# 2020-06-01: any fixed time will do.
FIXED_TIME = 1590969600


class Failed(Exception):
    """What went wrong and the way out, in one line."""


def version():
    with open(os.path.join(ROOT, "Cargo.toml")) as file:
        for line in file:
            if line.startswith("version"):
                return line.split('"')[1]
    raise Failed("Cargo.toml has no version")


def binary(name):
    path = os.path.join(ROOT, "target", "release", name)
    if not os.path.exists(path):
        raise Failed("%s is not built: run `make images`, which builds it first" % path)
    return path


def place(context, source, name):
    """Copies a file into a context, stripped where it is a program or library."""
    target = os.path.join(context, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(source, "rb") as file:
        elf = file.read(4) == b"\x7fELF"
    # The symbols of libtorch alone are a fifth of it; nothing needs them to run.
    if not elf or subprocess.run(["strip", "--strip-unneeded", "-o", target, source]).returncode:
        shutil.copyfile(source, target)
    os.chmod(target, 0o755 if elf else 0o644)
    os.utime(target, (FIXED_TIME, FIXED_TIME))


def context(name, dockerfile, files):
    folder = os.path.join(CONTEXTS, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    shutil.copyfile(os.path.join(ROOT, dockerfile), os.path.join(folder, "Dockerfile"))
    for target, source in files.items():
        place(folder, source, target)
    return folder


def docker(*arguments, quiet=False):
    output = subprocess.DEVNULL if quiet else None
    if subprocess.run(["docker", *arguments], stdout=output).returncode:
        raise Failed("`docker %s` failed; its message stands above" % " ".join(arguments))


def size(name):
    shown = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", name], capture_output=True, text=True
    )
    return int(shown.stdout or 0)


def check_engine(debian):
    if not shutil.which("docker"):
        raise Failed("there is no `docker` command here: install a Docker engine and its client (Debian: docker.io)")
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        raise Failed("the Docker engine does not answer: start it, or name another with DOCKER_HOST")
    if subprocess.run(["docker", "image", "inspect", debian], capture_output=True).returncode:
        if subprocess.run(["docker", "pull", "-q", debian]).returncode:
            raise Failed("%s cannot be pulled: name another Debian 12 image with --debian" % debian)


def plan(cuda):
    libtorch = os.path.join(setup.libtorch_folder(), "lib")
    weights = os.path.join(setup.cache(), setup.WEIGHTS)
    libraries = {
        "lib/" + name: os.path.join(libtorch, name)
        for name in LIBRARIES
        if os.path.exists(os.path.join(libtorch, name))
    }
    base = ("stoic-base", "images/base/Dockerfile", libraries)
    if cuda:
        base = ("stoic-base", "images/base/cuda.Dockerfile", pip_settings())
    return [
        base,
        ("stoic", "images/gateway/Dockerfile", {"stoic": binary("stoic")}),
        ("stoic-runtime", "images/runtime/Dockerfile", {"stoic-runtime": binary("stoic-runtime")}),
        ("stoic-echo", "functions/echo/Dockerfile", {"stoic-echo": binary("stoic-echo")}),
        (
            "stoic-wildlife",
            "functions/wildlife/Dockerfile",
            {"stoic-wildlife": binary("stoic-wildlife"), setup.WEIGHTS: weights},
        ),
    ]


def pip_settings():
    """pip's configuration and the certificates of this machine, for the stage that fetches CUDA's wheels."""
    os.makedirs(CONTEXTS, exist_ok=True)
    settings = os.path.join(CONTEXTS, "pip.conf")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout.splitlines()
    with open(settings, "w") as file:
        file.write("[global]\n")
        for line in listed:
            key, _, value = line.partition("=")
            if key.startswith("global."):
                file.write("%s = %s\n" % (key[len("global."):], value.strip().strip("'")))
        if os.environ.get("PIP_INDEX_URL"):
            file.write("index-url = %s\n" % os.environ["PIP_INDEX_URL"])
    return {"pip.conf": settings, "certificates.crt": "/etc/ssl/certs/ca-certificates.crt"}


def build(arguments):
    number, prefix = version(), arguments.registry + "/" if arguments.registry else ""
    suffix = "-cuda" if arguments.cuda else ""
    check_engine(arguments.debian)
    made = []
    images = plan(arguments.cuda)
    known = [name for name, _, _ in images]
    for name in arguments.only:
        if name not in known:
            raise Failed("there is no image %s; there are: %s" % (name, ", ".join(known)))
    latest = "latest" + suffix if not suffix else suffix[1:]
    for name, dockerfile, files in images:
        if arguments.only and name not in arguments.only:
            continue
        if arguments.cuda and name in ("stoic", "stoic-echo"):
            continue
        setup.say("building %s:%s%s" % (prefix + name, number, suffix))
        folder = context(name + suffix, dockerfile, files)
        tags = ["%s:%s%s" % (prefix + name, number, suffix), "%s:%s" % (prefix + name, latest)]
        build_arguments = ["--build-arg", "DEBIAN=%s" % arguments.debian]
        if name in ("stoic-runtime", "stoic-wildlife"):
            build_arguments = ["--build-arg", "BASE=%sstoic-base:%s%s" % (prefix, number, suffix)]
        labels = [
            "--label", "org.opencontainers.image.title=" + name,
            "--label", "org.opencontainers.image.version=" + number,
            "--label", "org.opencontainers.image.licenses=Apache-2.0",
        ]  # fmt: skip
        tagged = [part for tag in tags for part in ("-t", tag)]
        docker("build", "-q", "--network", arguments.network, *build_arguments, *labels, *tagged, folder, quiet=True)
        made += [tags]
    for tags in made if arguments.push else []:
        for tag in tags:
            setup.say("pushing %s" % tag)
            docker("push", "-q", tag, quiet=True)
    base = size("%sstoic-base:%s%s" % (prefix, number, suffix))
    print("%-44s %9s %9s" % ("image", "size MB", "own MB"))
    for first, _ in made:
        whole = size(first)
        shares = first.split("/")[-1].startswith(("stoic-runtime", "stoic-wildlife"))
        print("%-44s %9.1f %9.1f" % (first, whole / 1e6, (whole - base if shares else whole) / 1e6))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", default="", help="prefix of the names, as localhost:5000")
    parser.add_argument("--push", action="store_true", help="push them there")
    parser.add_argument("--only", action="append", default=[], help="only this image (repeatable)")
    parser.add_argument("--cuda", action="store_true", help="the CUDA variant of the images that use libtorch")
    parser.add_argument("--debian", default="debian:bookworm-slim", help="the Debian 12 image to stand on")
    parser.add_argument("--network", default="default", help="network of the build's own steps")
    arguments = parser.parse_args()
    if arguments.push and not arguments.registry:
        parser.error("--push needs --registry")
    try:
        build(arguments)
    except (Failed, setup.SetupError) as failed:
        sys.stderr.write("images: %s\n" % failed)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
