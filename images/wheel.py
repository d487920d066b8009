"""Chosen members of a wheel, without downloading the rest of it.

A wheel is a zip whose directory stands at its end, and whose RECORD carries the sha256 of every member. The hash of
RECORD is pinned in `wheels.json`, so each member is checked although the file as a whole is never seen: of torch's
530 MB, about 131 MB are read.
"""

import base64
import hashlib
import io
import os
import zipfile
import zlib

from download import Local, Progress, RangesRefused, SetupError, locate, pip_download, source_of

GAP = 4 << 20  # two wanted members closer than this are read in one range


class Window(io.RawIOBase):
    """A seekable view of a file of `size` bytes of which only some spans are here, each in a file of its own."""

    def __init__(self, size, fill):
        self.size, self.fill, self.position, self.spans = size, fill, 0, []

    def add(self, start, end):
        self.spans.append((start, end, open(self.fill(start, end), "rb")))

    def seekable(self):
        return True

    def readable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self):
        return self.position

    def readinto(self, buffer):
        if self.position >= self.size or not len(buffer):
            return 0
        for start, end, file in self.spans:
            if start <= self.position < end:
                file.seek(self.position - start)
                count = file.readinto(memoryview(buffer)[: end - self.position])
                self.position += count
                return count
        raise zipfile.BadZipFile("byte %d was not expected to be read" % self.position)

    def close(self):
        for _, _, file in self.spans:
            file.close()
        self.spans = []
        super().close()


def spans(directory, wanted, end_of_members, gap=GAP):
    """The byte ranges that hold the wanted members, near ones joined: `[(start, end)]` in order."""
    offsets = sorted(info.header_offset for info in directory) + [end_of_members]
    following = dict(zip(offsets, offsets[1:]))
    joined = []
    for info in sorted(wanted, key=lambda info: info.header_offset):
        start, end = info.header_offset, following[info.header_offset]
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def record_hashes(record):
    """`{member: sha256 digest}` from a wheel's RECORD."""
    hashes = {}
    for line in record.decode().splitlines():
        name, _, rest = line.strip().rpartition(",")[0].rpartition(",")
        if rest.startswith("sha256="):
            text = rest[len("sha256="):]
            hashes[name.strip('"')] = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return hashes


def take(name, pin, choose, folder, downloads):
    """Puts members of the pinned wheel under `folder`.

    `choose(member)` gives the path of a member below `folder`, or None to leave it. `downloads` is where part files
    live until everything is there and checked; they are removed then.
    """
    os.makedirs(downloads, exist_ok=True)
    complete = os.path.join(downloads, pin["file"])
    url = None if os.path.exists(complete) else locate(pin, name)
    if url is not None:
        try:
            _extract(name, pin, source_of(url), choose, folder, downloads)
            _remove_parts(pin, downloads)
            return
        except RangesRefused:
            pass
        except (SetupError, zipfile.BadZipFile, zlib.error) as error:
            _remove_parts(pin, downloads, only_if=not isinstance(error, SetupError))
            if isinstance(error, SetupError):
                raise
    # The server sends no ranges, pip does not tell the address, or a part was damaged: let pip fetch the whole file.
    if not os.path.exists(complete):
        complete = pip_download(pin, name, downloads)
    if _sha256(complete) != pin["sha256"]:
        os.remove(complete)
        raise SetupError("%s does not have the pinned sha256; it was removed. Run the same command again." % pin["file"])
    _extract(name, pin, Local(complete), choose, folder, downloads)
    _remove_parts(pin, downloads)
    os.remove(complete)


def _extract(name, pin, source, choose, folder, downloads):
    quiet = Progress(name, 0, out=io.StringIO())
    bar = quiet

    def fill(start, end):
        path = os.path.join(downloads, "%s.%d-%d.part" % (pin["file"], start, end))
        source.save(start, end - start, path, bar)
        return path

    window = Window(pin["size"], fill)
    with window, io.BufferedReader(window) as buffered:
        window.add(pin["size"] - pin["directory"], pin["size"])
        archive = zipfile.ZipFile(buffered)
        members = archive.infolist()
        record = next(info for info in members if info.filename.endswith(".dist-info/RECORD"))
        wanted = [(info, choose(info.filename)) for info in members if not info.is_dir()]
        wanted = [(info, path) for info, path in wanted if path is not None]
        ranges = spans(members, [info for info, _ in wanted] + [record], archive.start_dir)
        bar = Progress(name, sum(end - start for start, end in ranges))
        for start, end in ranges:
            window.add(start, end)
        bar.close()

        text = archive.read(record)
        if hashlib.sha256(text).hexdigest() != pin["record_sha256"]:
            raise zipfile.BadZipFile("the list of hashes of %s is not the pinned one" % pin["file"])
        hashes = record_hashes(text)
        for info, path in wanted:
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(info) as source_file, open(target, "wb") as file:
                for data in iter(lambda: source_file.read(1 << 20), b""):
                    digest.update(data)
                    file.write(data)
            if hashes.get(info.filename) != digest.digest():
                raise zipfile.BadZipFile("%s in %s does not have its sha256" % (info.filename, pin["file"]))
            if (info.external_attr >> 16) & 0o111:
                os.chmod(target, 0o755)


def _remove_parts(pin, downloads, only_if=True):
    if only_if:
        for entry in os.listdir(downloads):
            if entry.startswith(pin["file"]) and entry.endswith(".part"):
                os.remove(os.path.join(downloads, entry))


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(1 << 20), b""):
            digest.update(data)
    return digest.hexdigest()
