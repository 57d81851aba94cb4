# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the monitor's control socket (common/ctl.h), for tests.

The structs mirror the C ones; test_ctl_layout checks sizes and offsets against
what the compiler says.
"""
import array
import ctypes
import errno
import ipaddress
import os
import socket
import subprocess
from ctypes import c_char, c_int32, c_uint8, c_uint16, c_uint32, c_uint64

from lab import BUILD, wait_until

MAGIC, VERSION = 0x6C6E6E74, 1
HELLO, PUT, DEL, LIST, READ, STATS, WINDOW = range(1, 8)
IN, OUT = 0, 1
PKT, BYTE, SEGMENT = range(3)
CMS, EXACT, TOPK, HLL = (1 << i for i in range(4))
FEATURES = 1 << 16
ROW, FLOWS = 1, 2
PARTIAL, CLOCK, MISSED, OVERFLOW = 1, 2, 4, 8
KEYS = ["none", "src", "dst", "src_dst", "sport", "dport", "src_dport",
        "dst_dport", "5-tuple"]
RULES = ["none", "ok", "degraded", "off"]
READIMAGE = BUILD / "tests/netns/readimage"


class Struct(ctypes.Structure):
    """Compares and prints by content."""

    def __bytes__(self):
        return ctypes.string_at(ctypes.addressof(self), ctypes.sizeof(self))

    def __repr__(self):
        rows = (f"{n}={getattr(self, n)!r}" for n, *_ in self._fields_)
        return f"{type(self).__name__}({', '.join(rows)})"


class Head(Struct):
    _fields_ = [("magic", c_uint32), ("version", c_uint16),
                ("type", c_uint16), ("len", c_uint32), ("seq", c_uint32),
                ("status", c_int32), ("reserved", c_uint32)]


class Prefix(Struct):
    _fields_ = [("addr", c_uint8 * 16), ("len", c_uint8)]


class Filter(Struct):
    _fields_ = [("dir", c_uint8), ("family", c_uint8), ("proto", c_uint8),
                ("has_src", c_uint8), ("has_dst", c_uint8),
                ("reserved", c_uint8 * 3), ("src", Prefix), ("dst", Prefix)]


class TaskSpec(Struct):
    _fields_ = [("id", c_uint64), ("generation", c_uint64),
                ("filter", Filter), ("key", c_uint8), ("increment", c_uint8),
                ("both", c_uint8), ("semantics", c_uint8),
                ("records_log2", c_uint8), ("reserved", c_uint8),
                ("kinds", c_uint32),
                ("window_ms", c_uint32), ("reserved2", c_uint32),
                ("seed", c_uint8 * 16)]


class Totals(Struct):
    _fields_ = [(n, c_uint64) for n in (
        "items", "weight", "pkt", "segment", "byte", "hidden_byte", "super",
        "fragment", "unkeyed_pkt", "unkeyed_byte")]


class Volume(Struct):
    _fields_ = [("packets", c_uint64), ("bytes", c_uint64)]

    @property
    def pair(self):
        return self.packets, self.bytes


class Hello(Struct):
    _fields_ = [("head", Head), ("incarnation", c_uint64),
                ("memory_limit", c_uint64), ("memory_used", c_uint64),
                ("tasks_max", c_uint32), ("backend", c_char * 16),
                ("version", c_char * 32)]


class TaskPut(Struct):
    _fields_ = [("head", Head), ("task", TaskSpec)]


class TaskDel(Struct):
    _fields_ = [("head", Head), ("id", c_uint64)]


class TaskRow(Struct):
    _fields_ = [("id", c_uint64), ("generation", c_uint64)]


class TaskList(Struct):
    _fields_ = [("head", Head), ("n", c_uint32), ("reserved", c_uint32),
                ("task", TaskRow * 32)]


class Loss(Struct):
    _fields_ = [("matched", Volume), ("received", Volume)]


class TaskRead(Struct):
    _fields_ = [("head", Head), ("id", c_uint64), ("generation", c_uint64),
                ("kinds", c_uint32), ("reserved", c_uint32),
                ("n_images", c_uint32), ("rules", c_uint32),
                ("loss", Loss)]


class WindowRead(Struct):
    _fields_ = [("head", Head), ("id", c_uint64), ("generation", c_uint64),
                ("interval", c_uint64), ("what", c_uint32),
                ("reserved", c_uint32), ("n_images", c_uint32),
                ("readers", c_uint32), ("rules", c_uint32),
                ("has_loss", c_uint32), ("loss", Loss)]


class Stats(Struct):
    _fields_ = [("head", Head), ("incarnation", c_uint64),
                ("memory_used", c_uint64), ("memory_limit", c_uint64),
                ("reader_restarts", c_uint64), ("readers", c_uint32),
                ("rules", c_uint32), ("tasks", c_uint32),
                ("queue_depth", c_uint32), ("matched", Volume * 2),
                ("received", Volume * 2), ("protected_packets", c_uint64),
                ("bad_requests", c_uint64), ("finished", c_uint32),
                ("reserved", c_uint32)]


class ImagePlace(Struct):
    _fields_ = [("offset", c_uint64), ("len", c_uint64)]


class ImageHead(Struct):
    _fields_ = [("magic", c_uint32), ("kinds", c_uint32), ("id", c_uint64),
                ("generation", c_uint64), ("reader_incarnation", c_uint64),
                ("began_ms", c_uint64), ("now_ms", c_uint64),
                ("slot_now", c_uint64), ("slot_first", c_uint64),
                ("saturated", c_uint32), ("reserved", c_uint32),
                ("totals", Totals), ("image", ImagePlace * 8)]


STRUCTS = {"ctl_head": Head, "filter": Filter, "task_spec": TaskSpec,
           "totals": Totals, "ctl_hello": Hello, "ctl_task_put": TaskPut,
           "ctl_task_del": TaskDel, "ctl_task_list": TaskList,
           "ctl_task_read": TaskRead, "ctl_stats": Stats,
           "ctl_window_read": WindowRead,
           "ctl_image": ImageHead}


class Refused(OSError):
    """The monitor answered with an error status."""


def prefix(text):
    """"10.0.0.0/8" as struct ip_prefix; IPv4 in its 16-byte form."""
    net = ipaddress.ip_network(text, strict=False)
    raw, length = net.network_address.packed, net.prefixlen
    if net.version == 4:
        raw, length = bytes(10) + b"\xff\xff" + raw, length + 96
    return Prefix((c_uint8 * 16)(*raw), length)


def task(ident, direction=IN, key="none", increment=PKT, kinds=None, proto=0,
         family=0, src=None, dst=None, generation=1, seed=bytes(range(16))):
    """A task as the agent would put it: a canonical filter."""
    nets = [ipaddress.ip_network(a, strict=False) for a in (src, dst) if a]
    family = family or (nets[0].version if nets else {1: 4, 58: 6}.get(proto, 0))
    t = TaskSpec(id=ident, generation=generation, key=KEYS.index(key),
                 increment=increment, seed=(c_uint8 * 16)(*seed))
    if kinds is None:
        kinds = 0 if key == "none" else CMS | EXACT | TOPK | HLL
    t.kinds = kinds
    t.filter.dir, t.filter.family, t.filter.proto = direction, family, proto
    if src:
        t.filter.has_src, t.filter.src = 1, prefix(src)
    if dst:
        t.filter.has_dst, t.filter.dst = 1, prefix(dst)
    return t


def features(ident, window_s=10, records_log2=0, **options):
    """A task that counts features, of both directions."""
    t = task(ident, increment=SEGMENT, **options)
    t.kinds, t.window_ms, t.both = FEATURES, window_s * 1000, 1
    t.semantics, t.records_log2 = 1, records_log2
    return t


def ask_images(images, *args, keys=None):
    """Words of each line that readimage prints for these images."""
    specs = [os.memfd_create("task") for _ in images]
    try:
        pairs = []
        for image, fd in zip(images, specs):
            os.write(fd, bytes(image.spec))
            pairs += [f"/proc/self/fd/{fd}", f"/proc/self/fd/{image.fd}"]
        done = subprocess.run(
            [READIMAGE, *map(str, args[:1]), *pairs, *map(str, args[1:])],
            pass_fds=(*specs, *(i.fd for i in images)), capture_output=True,
            input="".join(f"{k}\n" for k in keys) if keys else None,
            text=True, check=False)
    finally:
        for fd in specs:
            os.close(fd)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def read_topk(images):
    """(key -> (upper, err), floor) of each image."""
    tables, rows = [], {}
    for words in ask_images(images, "topk"):
        if words[0] == "floor":
            tables.append((rows, int(words[1])))
            rows = {}
        else:
            rows[words[0]] = (int(words[1]), int(words[2]))
    return tables


class Image:
    """One reader's sketches of one task, in a sealed memfd."""

    def __init__(self, spec, fd):
        self.spec, self.fd = spec, fd
        self.head = ImageHead.from_buffer_copy(
            os.pread(fd, ctypes.sizeof(ImageHead), 0))
        self.totals = self.head.totals

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def topk(self):
        """(key -> (upper, err), floor)"""
        return read_topk([self])[0]

    def exact(self, end_slot):
        """(key -> value, evicted, spilled); None when too old."""
        rows = ask_images([self], "exact", end_slot)
        if rows == [["too_old"]]:
            return None
        return ({r[0]: int(r[1]) for r in rows[:-2]}, int(rows[-2][1]),
                int(rows[-1][1]))

    def hll(self):
        """(estimate, lower, upper, exact)"""
        return tuple(map(int, ask_images([self], "hll")[0]))

    def points(self, keys):
        """key -> (lower, upper, point)"""
        rows = ask_images([self], "points", "-", keys=list(keys))
        return {r[0]: tuple(map(int, r[1:])) for r in rows}


class Control:
    """A connection to the monitor of a host."""

    def __init__(self, host, instance="lab", timeout=5):
        self.sock = host.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(timeout)
        self.sock.connect(f"\0linnet/{instance}")
        self.seq = 0
        self.specs = {}

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, kind, message):
        """Fills in the head and sends; returns the sequence number."""
        self.seq += 1
        message.head.magic, message.head.version = MAGIC, VERSION
        message.head.type, message.head.seq = kind, self.seq
        message.head.len = ctypes.sizeof(message)
        self.sock.send(bytes(message))
        return self.seq

    def receive(self, struct):
        """(reply, descriptors)"""
        data, anc, flags, _ = self.sock.recvmsg(
            4096, socket.CMSG_SPACE(4 * 8), socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionResetError("the monitor closed the connection")
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        fds = array.array("i")
        for level, kind, raw in anc:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(raw)
        head = Head.from_buffer_copy(data)
        assert (head.magic, head.version) == (MAGIC, VERSION)
        assert head.len == len(data), "the length of a reply is wrong"
        if head.status:
            for fd in fds:
                os.close(fd)
            raise Refused(-head.status, os.strerror(-head.status))
        reply = struct()
        ctypes.memmove(ctypes.addressof(reply), data,
                       min(len(data), ctypes.sizeof(reply)))
        return reply, list(fds)

    def ask(self, kind, message, struct):
        """One request, one reply; waits out -EAGAIN and -EBUSY."""
        result = []

        def attempt():
            seq = self.send(kind, message)
            try:
                result[:] = self.receive(struct)
            except Refused as e:
                if e.errno in (errno.EAGAIN, errno.EBUSY):
                    return False
                raise
            assert result[0].head.seq == seq and result[0].head.type == kind
            return True

        wait_until(attempt, 5, "an answer that is not -EAGAIN")
        return result

    def hello(self):
        return self.ask(HELLO, Hello(), Hello)[0]

    def stats(self):
        return self.ask(STATS, Stats(), Stats)[0]

    def put(self, *specs):
        for spec in specs:
            self.ask(PUT, TaskPut(task=spec), Head)
            self.specs[spec.id] = spec

    def send_put(self, *specs):
        """Sends without waiting for the replies."""
        for spec in specs:
            self.send(PUT, TaskPut(task=spec))

    def delete(self, ident):
        self.ask(DEL, TaskDel(id=ident), Head)

    def list(self):
        reply = self.ask(LIST, TaskList(), TaskList)[0]
        return [(r.id, r.generation) for r in reply.task[:reply.n]]

    def read(self, ident, kinds=0):
        """(loss, images of all readers)"""
        spec = self.specs[ident]
        reply, fds = self.ask(READ, TaskRead(
            id=ident, generation=spec.generation, kinds=kinds), TaskRead)
        assert reply.n_images == len(fds)
        return reply.loss, [Image(spec, fd) for fd in fds]

    def window(self, ident, interval, what=ROW | FLOWS):
        """(reply, images of all readers) of a closed window."""
        spec = self.specs[ident]
        reply, fds = self.ask(WINDOW, WindowRead(
            id=ident, generation=spec.generation, interval=interval,
            what=what), WindowRead)
        assert reply.n_images == len(fds)
        return reply, [Image(spec, fd) for fd in fds]

    def row(self, ident, interval):
        """(name -> value of the readers' merged row, flows)."""
        reply, images = self.window(ident, interval)
        loss = reply.loss
        words = ask_images(images, "row", reply.readers, loss.matched.packets,
                           loss.matched.packets - loss.received.packets)
        flows = [f for i in images for f in ask_images([i], "flows")]
        for i in images:
            i.close()
        return {k: int(v) for k, v in words}, flows

    def totals(self, ident):
        """Totals of all readers together, and the loss."""
        loss, images = self.read(ident)
        sums = {name: sum(getattr(i.totals, name) for i in images)
                for name, _ in Totals._fields_}
        for i in images:
            i.close()
        return sums, loss

    def image(self, ident, kinds=CMS | EXACT | TOPK | HLL):
        """The image of the only reader."""
        _, images = self.read(ident, kinds)
        assert len(images) == 1
        return images[0]


# head itself carries no "head" member: let put and delete read a bare one.
Head.head = property(lambda self: self)
