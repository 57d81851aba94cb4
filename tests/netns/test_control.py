# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: what an agent may do, and what nobody may."""
import ctypes
import errno
import fcntl
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

import ctl
from ctl import IN, OUT, Control, Refused, task
from lab import AGENT_UID, MONITOR_UID, status_of, wait_until
from test_rules import own_rules
from traffic import (reader_of, readers_of, reproducible, spray,
                     supervisor_of, trace_lines, udp_packet)

CAP_NET_ADMIN = 1 << 12


@pytest.fixture
def host(lab):
    return lab.hosts[1]


def refused(call, *args):
    with pytest.raises(Refused) as e:
        call(*args)
    return e.value.errno


@pytest.mark.sanitize
def test_tasks(host):
    """Put and delete are idempotent; contradictions are refused."""
    host.monitor()
    with Control(host) as control:
        hello = control.hello()
        assert hello.tasks_max == 32 and hello.backend == b"nfqueue"
        one = task(1, IN, "src")
        control.put(one, one)
        assert control.list() == [(1, 1)]
        changed = task(1, IN, "dst")
        assert refused(control.put, changed) == errno.EEXIST
        changed.generation = 2
        control.put(changed)
        assert control.list() == [(1, 2)]
        assert refused(control.put, one) == errno.EEXIST
        control.delete(1)
        assert refused(control.delete, 1) in (errno.ENOENT, 0)
        control.specs[9] = task(9)
        assert refused(control.read, 9) == errno.ENOENT
        assert control.hello().incarnation == hello.incarnation


@pytest.mark.sanitize
def test_limits(host):
    """The 33rd task and memory above the budget change nothing."""
    host.monitor()
    with Control(host) as control:
        control.put(*(task(i, IN) for i in range(1, 33)))
        assert refused(control.put, task(33, IN)) == errno.ENOSPC
        assert len(control.list()) == 32
        for i in range(1, 33):
            control.delete(i)
        put = 0
        with pytest.raises(Refused) as e:
            for i in range(1, 33):
                control.put(task(i, IN, "5-tuple"))
                put = i
        assert e.value.errno == errno.ENOSPC and put >= 10
        stats = control.stats()
        assert stats.tasks == put
        assert stats.memory_used <= stats.memory_limit == 192 << 20
        assert len(own_rules(host)) > 0


@pytest.mark.sanitize
def test_images_are_sealed(host):
    host.monitor()
    with Control(host) as control:
        control.put(task(1, IN, "src"))
        image = control.image(1)
        seals = fcntl.fcntl(image.fd, fcntl.F_GET_SEALS)
        want = (fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
                | fcntl.F_SEAL_SEAL)
        assert seals & want == want
        assert image.head.magic == 0x6C6E6967 and image.head.kinds == 15
        assert bytes(task(1).seed) not in Path(
            f"/proc/self/fd/{image.fd}").read_bytes(), "the seed is in it"
        image.close()


def raw(host, data):
    """What the monitor does with this datagram: a reply, or b"": closed."""
    sock = host.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(5)
    with sock:
        sock.connect("\0linnet/lab")
        try:
            sock.send(data)
            return sock.recv(4096)
        except ConnectionError:
            return b""


def head(kind, size, **change):
    h = ctl.Head(magic=ctl.MAGIC, version=ctl.VERSION, type=kind, len=size)
    for name, value in change.items():
        setattr(h, name, value)
    return bytes(h)


@pytest.mark.sanitize
def test_t47_malformed_requests(host):
    """Anything unknown closes the connection and is counted."""
    host.monitor()
    body = bytes(ctypes.sizeof(ctl.TaskPut) - 24)
    whole = len(body) + 24
    bad = [b"x", b"\0" * 24, head(ctl.PUT, whole)[:20], bytes(4096),
           head(0, 24), head(7, 24), head(65535, 24),
           head(ctl.STATS, 24, magic=1) + bytes(136),
           head(ctl.STATS, 160, version=2) + bytes(136),
           head(ctl.PUT, whole) + body[:-1], head(ctl.PUT, whole - 1) + body,
           head(ctl.PUT, 2**32 - 1) + body, head(ctl.PUT, whole) + body + b"x"]
    for data in bad:
        assert raw(host, data) == b"", data[:24]
    with Control(host) as control:
        assert control.stats().bad_requests >= len(bad)
        assert control.list() == [] and own_rules(host) == []


@pytest.mark.sanitize
def test_t40_hostile_tasks(host):
    """200 damaged tasks: refused, or rules of the allowed forms alone."""
    rng = reproducible(40)
    host.monitor()
    accepted = 0
    with Control(host) as control:
        for n in range(200):
            spec = task(rng.choice((1, 2)), rng.randrange(2), generation=n + 1,
                        **rng.choice(({}, {"src": "10.0.0.0/8"},
                                      {"dst": "fd00::/8"}, {"proto": 17})))
            data = bytearray(bytes(spec))
            for _ in range(rng.choice((0, 1, 1, 2, 8))):
                data[rng.randrange(16, len(data) - 16)] = rng.choice(
                    (0, 1, 0x2D, 0x3B, 0x24, 0x0A, 0xFF, rng.randrange(256)))
            try:
                control.put(ctl.TaskSpec.from_buffer_copy(data))
                accepted += 1
            except Refused as e:
                assert e.errno in (errno.EINVAL, errno.EEXIST,
                                   errno.ENOSPC), e
            except ConnectionError:
                pytest.fail("a damaged task is a refusal, not a closed door")
            if n % 20 == 0:
                for family in (4, 6):
                    own_rules(host, family)
        assert 10 < accepted < 200
        for family in (4, 6):
            own_rules(host, family)


def test_t41_hostile_environment(lab, build):
    """T40, T41: nothing is executed but the helper, with nothing of ours."""
    host = lab.hosts[1]
    evil = lab.dir / "evil"
    evil.mkdir()
    for name in ("iptables-nft-restore", "ip6tables-nft-restore",
                 "iptables-restore", "iptables-nft-save", "xtables-nft-multi",
                 "sh", "nfacct"):
        (evil / name).write_text(f"#!/bin/sh\ntouch {evil}/ran-{name}\n")
        (evil / name).chmod(0o755)
    trace = lab.dir / "trace"
    env = {"PATH": str(evil), "IFS": "/", "LINNET_SHIM": "netlink",
           "LD_LIBRARY_PATH": str(evil), "XTABLES_LIBDIR": str(evil)}
    host.monitor(prefix=["/usr/bin/strace", "-f", "-qq", "-v", "-s", "200", "-e",
                         "trace=execve", "-o", trace], env=env, cwd=evil,
                 seconds=20)
    with Control(host) as control:
        control.put(task(1, IN, proto=17), task(2, OUT, src="10.0.0.0/8"))
        wait_until(lambda: own_rules(host), 3, "rules")
        control.delete(1)
        control.delete(2)
        wait_until(lambda: not own_rules(host), 3, "rules gone")
    assert not lab.stop_all()
    calls = [args for _, _, args in trace_lines(trace) if "= 0" in args][1:]
    assert calls, "no helper ran"
    # path, argv, empty environment
    form = (r'"/usr/s?bin/(?:xtables-nft-multi|ip6?tables-nft-(?:restore|save))"'
            r', \[((?:"[^"]*"(?:, )?)+)\], (?:\[\]|0x0|NULL) ?\) += 0')
    for args in calls:
        assert re.fullmatch(form, args.strip()), args
    assert not list(evil.glob("ran-*"))


def test_t42_targets(lab):
    """Whatever is measured, our rules only capture, return or jump."""
    host = lab.hosts[1]
    host.monitor()
    with Control(host) as control:
        control.put(task(1, IN), task(2, OUT, proto=6),
                    task(3, IN, src="10.77.0.0/16", proto=132))
        wait_until(lambda: own_rules(host, 6), 2, "rules")
        targets = {re.search(r"-j (\S+)", x).group(1)
                   for f in (4, 6) for x in own_rules(host, f)
                   if x.startswith("-A")}
    assert targets <= {"NFQUEUE", "RETURN", "linnet-lab-in", "linnet-lab-out"}


def check_privileges(pid, capabilities):
    status = status_of(pid)
    assert status["Uid"].split() == [str(MONITOR_UID)] * 4
    assert status["Gid"].split() == [str(MONITOR_UID)] * 4
    assert status["Groups"].split() in ([], [str(MONITOR_UID)])
    assert int(status["CapEff"], 16) == capabilities, status["CapEff"]
    assert int(status["CapPrm"], 16) == capabilities
    assert int(status["NoNewPrivs"]) == 1
    # not dumpable: its files in /proc are root's
    assert os.stat(f"/proc/{pid}/fd").st_uid == 0
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0", limits)


def test_t47_privileges(host):
    monitor = host.monitor("--readers", 2)
    supervisor = supervisor_of(monitor)
    wait_until(lambda: len(readers_of(monitor)) == 2, 5, "readers")
    for pid in (supervisor, *readers_of(monitor)):
        check_privileges(pid, CAP_NET_ADMIN)
        assert int(status_of(pid)["CapBnd"], 16) in (0, CAP_NET_ADMIN)
    assert int(status_of(supervisor)["CapAmb"], 16) == CAP_NET_ADMIN
    for pid in readers_of(monitor):
        assert int(status_of(pid)["CapAmb"], 16) == 0
        assert int(status_of(pid)["Seccomp"]) == 2


def test_t47_pcap_reader_keeps_nothing(lab):
    host = lab.hosts[1]
    path = lab.dir / "empty.pcap"
    path.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000"
                                   "ffff000065000000"))
    monitor = host.monitor("--capture", f"pcap:{path}")
    check_privileges(reader_of(monitor), 0)


def as_user(uid, code):
    """Exit status and output of Python code run as a user without rights."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "/usr/bin/python3", "-c",
            code]


CONNECT = """
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect("\\0linnet/lab")
s.settimeout(5)
try:
    s.send(%r)
    print(len(s.recv(4096)))
except ConnectionError:
    print(0)
"""
PTRACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in %r:
    print(libc.ptrace(16, pid, 0, 0), ctypes.get_errno())
    try:
        os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        print("opened")
    except OSError as e:
        print(-1, e.errno)
"""


def test_t47_other_users(host):
    """Only root and the agent's user are answered; nobody may look inside."""
    monitor = host.monitor()
    request = head(ctl.HELLO, ctypes.sizeof(ctl.Hello)) + bytes(
        ctypes.sizeof(ctl.Hello) - 24)
    answered = {uid: host.run(as_user(uid, CONNECT % request)).stdout.strip()
                for uid in (AGENT_UID, MONITOR_UID, 64109)}
    assert int(answered[AGENT_UID]) > 0
    assert answered[MONITOR_UID] == answered[64109] == "0", answered
    pids = [supervisor_of(monitor), reader_of(monitor)]
    # the monitor's own user included: the processes are not dumpable
    for uid in (AGENT_UID, MONITOR_UID):
        lines = host.run(as_user(uid, PTRACE % pids)).stdout.splitlines()
        assert len(lines) == 4
        for line in lines:
            value, code = map(int, line.split())
            assert value == -1 and code in (errno.EPERM, errno.EACCES), line


@pytest.mark.sanitize
def test_clients_are_limited(host):
    """A fifth client is turned away, the four others are served."""
    host.monitor()
    controls = [Control(host) for _ in range(4)]
    for control in controls:
        control.hello()
    fifth = host.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fifth.settimeout(1)
    try:
        fifth.connect("\0linnet/lab")
        fifth.send(head(ctl.HELLO, ctypes.sizeof(ctl.Hello))
                   + bytes(ctypes.sizeof(ctl.Hello) - 24))
        assert fifth.recv(4096) == b""
    except OSError:
        pass
    fifth.close()
    for control in controls:
        control.hello()
        control.close()


@pytest.mark.sanitize
def test_rate_is_limited(host):
    """More than 100 requests a second are answered "busy", not served."""
    host.monitor()
    with Control(host) as control:
        statuses = []
        for _ in range(300):
            control.send(ctl.LIST, ctl.TaskList())
            try:
                control.receive(ctl.TaskList)
                statuses.append(0)
            except Refused as e:
                statuses.append(e.errno)
        assert statuses.count(errno.EBUSY) >= 100
        assert set(statuses) == {0, errno.EBUSY}


def test_several_readers(lab):
    """Two readers share the flows; together they count everything."""
    a, b = lab.hosts
    b.monitor("--readers", 2)
    with Control(b) as control:
        control.put(task(1, IN, "sport", proto=17))
        # the kernel spreads by addresses
        spray(a, [udp_packet(f"10.9.0.{n % 40 + 1}", b.ip4, 1, 9)
                  for n in range(1000)], 20000)
        wait_until(lambda: control.totals(1)[0]["pkt"] >= 1000, 5, "counted")
        loss, images = control.read(1, ctl.TOPK)
        assert len(images) == 2
        counts = [i.totals.pkt for i in images]
        assert sum(counts) == 1000 == loss.matched.packets, counts
        assert min(counts) > 0, "one reader got everything"
        for image in images:
            image.close()


def test_stop_removes_everything(host):
    """Exit status 0 within two seconds, nothing left."""
    monitor = host.monitor()
    with Control(host) as control:
        control.put(task(1, IN), task(2, OUT))
    assert monitor.stop(2) == 0, monitor.log()
    host.check_clean()
    done = subprocess.run([monitor.argv[0], "--version"], text=True,
                          capture_output=True, check=True)
    assert done.stdout.startswith("linnet-monitor "), done.stdout
    assert os.path.exists(monitor.argv[0])
