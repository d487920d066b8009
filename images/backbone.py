"""torch's legacy checkpoint format to safetensors, with the standard library alone.

A legacy checkpoint is five pickles (magic number, protocol, sizes of the machine, the object, the keys of its
storages) and then each storage as an 8-byte little-endian count and raw values. The unpickler here builds ordered
dictionaries and float tensors and refuses every other name, so a changed file cannot run code.
"""

import array
import collections
import json
import pickle
import struct

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
TYPES = {"FloatStorage": ("F32", 4), "LongStorage": ("I64", 8)}


class Refused(Exception):
    """The file is not what this converter reads."""


class Storage:
    """A numbered block of raw values, filled after the pickles have been read."""

    def __init__(self, kind, key, count):
        if kind not in TYPES:
            raise Refused("storage of type %r" % (kind,))
        self.kind, self.key, self.count, self.data = kind, key, count, None


Tensor = collections.namedtuple("Tensor", "storage offset shape stride")


def _tensor(storage, offset, shape, stride, *_ignored):
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def _parameter(tensor, *_ignored):
    return tensor


class Unpickler(pickle.Unpickler):
    """Knows tensors, ordered dictionaries and nothing else."""

    ALLOWED = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }

    def __init__(self, file):
        super().__init__(file, encoding="utf-8")
        self.storages = {}

    def find_class(self, module, name):
        if module == "torch" and name in TYPES:
            return name
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise Refused("the checkpoint names %s.%s, which is not allowed" % (module, name)) from None

    def persistent_load(self, identity):
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise Refused("an unknown kind of reference")
        kind, key, _device, count = identity[1:5]
        return self.storages.setdefault(key, Storage(kind, key, count))


def load(file):
    """`{name: Tensor}` from an open legacy checkpoint of a state dictionary."""
    try:
        if Unpickler(file).load() != MAGIC or Unpickler(file).load() != PROTOCOL:
            raise Refused("not a legacy torch checkpoint")
        if not Unpickler(file).load().get("little_endian"):
            raise Refused("written on a big-endian machine")
        unpickler = Unpickler(file)
        state = unpickler.load()
        for key in Unpickler(file).load():
            storage = unpickler.storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            if count != storage.count:
                raise Refused("storage %s has %d values, not %d" % (key, count, storage.count))
            size = count * TYPES[storage.kind][1]
            storage.data = file.read(size)
            if len(storage.data) != size:
                raise Refused("the file ends early")
    except (pickle.UnpicklingError, EOFError, struct.error, AttributeError, KeyError, IndexError,
            TypeError, ValueError) as error:
        raise Refused("not a legacy torch checkpoint: %s" % error) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise Refused("not a state dictionary")
    return state


def _raw(name, tensor):
    """The tensor's values in row-major order; the checkpoint keeps some in another (it came from TensorFlow)."""
    places = [0]
    for length, stride in zip(tensor.shape, tensor.stride):
        if length < 0 or (stride < 1 and length > 1):
            raise Refused("%s has an impossible shape" % name)
        places = [place + index * stride for place in places for index in range(length)]
    values = memoryview(tensor.storage.data).cast("I" if tensor.storage.kind == "FloatStorage" else "Q")
    if places and not 0 <= tensor.offset + max(places) < len(values):
        raise Refused("%s reaches over its storage" % name)
    return array.array(values.format, [values[tensor.offset + place] for place in places]).tobytes()


def safetensors(state):
    """The bytes of a safetensors file with the same names, in a fixed order."""
    header, blocks, offset = {}, [], 0
    for name in sorted(state):
        tensor = state[name]
        data = _raw(name, tensor)
        header[name] = {
            "dtype": TYPES[tensor.storage.kind][0],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        blocks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blocks)
