"""Bytes of a package's wheel from whichever package index the user has configured.

pip is asked where the file is (so index, mirror, proxy and certificate settings are the user's own and no
registry's name stands in this repository), then byte ranges of it are read with resume, retry and a progress bar.
This file knows nothing of what is in a wheel; `wheel.py` does.
"""

import base64
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ATTEMPTS = 6
CHUNK = 1 << 18


class SetupError(Exception):
    """A cause and a way out, in words for the person at the terminal."""


def pip_command(pin, name, folder):
    """The arguments that make pip choose exactly the pinned file, whatever Python runs this."""
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color",
        "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:",
        "--implementation", "cp", "--python-version", pin["python"], "-d", folder,
    ]
    if pin["platform"] != "any":
        command += ["--platform", pin["platform"]]
    return command + ["%s==%s" % (name, pin["version"])]


def locate(pin, name):
    """The URL of the pinned file, read from pip's own debug output; None if this pip does not tell."""
    with tempfile.TemporaryDirectory() as folder:
        command = pip_command(pin, name, folder)
        command.insert(3, "-vv")
        try:
            pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as error:
            raise SetupError("cannot run %s: %s" % (sys.executable, error))
        lines = []
        try:
            for line in pip.stdout:
                lines = lines[-20:] + [line.strip()]
                words = line.split()
                if words[:2] == ["Found", "link"] and len(words) > 2:
                    url = words[2].split("#")[0]
                    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
                    if os.path.basename(path) == pin["file"] and "****" not in url:
                        return url
        finally:
            pip.kill()
            pip.stdout.close()
            pip.wait()
        if any("No module named pip" in line for line in lines):
            raise SetupError("%s has no pip.\n  On Debian or Ubuntu: sudo apt install python3-pip" % sys.executable)
        return None


def pip_download(pin, name, folder):
    """The whole file by pip itself: the way that always works when pip does. Returns its path."""
    os.makedirs(folder, exist_ok=True)
    if subprocess.call(pip_command(pin, name, folder)) != 0:
        raise SetupError(
            "pip could not download %s %s (its message is above).\n"
            "  Check the network, or pip's settings: `%s -m pip config list`.\n"
            "  With the file at hand, name its folder: PIP_FIND_LINKS=FOLDER.\n"
            "  What was already downloaded is kept; run the same command again to go on."
            % (name, pin["version"], sys.executable)
        )
    return os.path.join(folder, pin["file"])


def tls_context():
    """The certificates that pip would trust."""
    for variable in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        path = os.environ.get(variable)
        if path and os.path.exists(path):
            return ssl.create_default_context(cafile=path) if os.path.isfile(path) else \
                ssl.create_default_context(capath=path)
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        try:  # a Python without system certificates still has pip's
            from pip._vendor import certifi
            context.load_verify_locations(certifi.where())
        except (ImportError, OSError):
            pass
    return context


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere. Counts bytes."""

    def __init__(self, label, total, out=None):
        self.label, self.total, self.done = label, total, 0
        self.out = out or sys.stderr
        self.terminal = self.out.isatty()
        self.start = self.last = time.monotonic()
        self.resumed = 0

    def resume(self, count):
        self.resumed += count
        self.advance(count)

    def advance(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.last >= (0.1 if self.terminal else 5.0):
            self.last = now
            self.show()

    def show(self, end=""):
        seconds = max(time.monotonic() - self.start, 1e-3)
        rate = (self.done - self.resumed) / seconds / 1e6
        share = min(1.0, self.done / max(self.total, 1))
        figures = "%5.1f of %.1f MB  %5.1f MB/s" % (self.done / 1e6, self.total / 1e6, rate)
        if self.terminal:
            width = max(10, min(30, shutil.get_terminal_size().columns - 60))
            full = int(share * width)
            bar = "#" * full + "-" * (width - full)
            self.out.write("\r  %-18s [%s] %3d%%  %s\033[K%s" % (self.label, bar, share * 100, figures, end))
        else:
            self.out.write("  %s: %3d%%  %s\n" % (self.label, share * 100, figures))
        self.out.flush()

    def close(self):
        self.show(end="\n" if self.terminal else "")


class RangesRefused(Exception):
    """The server sends whole files only."""


class Remote:
    """Byte ranges of one URL, over HTTP(S)."""

    def __init__(self, url, pause=time.sleep):
        parts = urllib.parse.urlsplit(url)
        self.headers = {"User-Agent": "stoic-setup", "Accept-Encoding": "identity"}
        if parts.username:
            pair = "%s:%s" % (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
            self.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
            url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.url, self.pause = url, pause
        self.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=tls_context()))

    def _open(self, first, last):
        request = urllib.request.Request(self.url, headers=dict(self.headers, Range="bytes=%d-%d" % (first, last)))
        answer = self.opener.open(request, timeout=60)
        if answer.status != 206:
            answer.close()
            raise RangesRefused()
        return answer

    def save(self, offset, length, path, progress):
        """Appends what `path` still lacks of the range; a break leaves a file that the next run goes on with."""
        have = os.path.getsize(path) if os.path.exists(path) else 0
        if have > length:
            os.remove(path)
            have = 0
        progress.resume(have)
        failures = 0
        with open(path, "ab") as file:
            while have < length:
                try:
                    with self._open(offset + have, offset + length - 1) as answer:
                        while have < length:
                            data = answer.read(min(CHUNK, length - have))
                            if not data:
                                raise OSError("the connection ended early")
                            file.write(data)
                            have += len(data)
                            failures = 0
                            progress.advance(len(data))
                except urllib.error.HTTPError as error:
                    if error.code < 500 and error.code not in (408, 429):
                        raise SetupError("the package index answered %d to a download" % error.code)
                    failures = self._wait(failures, error)
                except (OSError, urllib.error.URLError) as error:
                    failures = self._wait(failures, error)

    def _wait(self, failures, error):
        failures += 1
        if failures >= ATTEMPTS:
            raise SetupError(
                "the download broke %d times, at last by: %s\n"
                "  Check the network and the proxy; what arrived is kept, run the same command again to go on."
                % (failures, error)
            )
        delay = min(2 ** failures, 20)
        sys.stderr.write("\n  %s; trying again in %d s\n" % (error, delay))
        self.pause(delay)
        return failures


class Local:
    """Byte ranges of a file that is already here."""

    def __init__(self, source):
        self.source = source

    def save(self, offset, length, path, progress):
        with open(self.source, "rb") as source, open(path, "wb") as file:
            source.seek(offset)
            left = length
            while left:
                data = source.read(min(1 << 22, left))
                if not data:
                    raise SetupError("%s is shorter than it should be; remove it" % self.source)
                file.write(data)
                left -= len(data)
                progress.advance(len(data))


def source_of(url):
    """The reader for what pip named: a URL, or a file of a local index."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("http", "https"):
        return Remote(url)
    if parts.scheme == "file":
        return Local(urllib.request.url2pathname(parts.path))
    raise SetupError("pip names a download by %s, which this script does not speak" % parts.scheme)
