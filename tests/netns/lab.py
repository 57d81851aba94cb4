# SPDX-License-Identifier: GPL-2.0-or-later
"""Small networks for tests: hosts are network namespaces of this process.

The namespaces have no names: they live as descriptors of the test process and
vanish with it, whatever ends it.  Processes started inside are ended by a
janitor, a child that outlives the test process and reads from a pipe until
this process is gone; it ends what still runs inside these namespaces, and
nothing else.  So neither a failing test nor SIGKILL leaves anything behind.
"""
import contextlib
import ctypes
import functools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LINNET_BUILD", TREE / "build")).resolve()
# A user nobody else has; there need be no entry in the user data base.
MONITOR_UID, AGENT_UID = 64101, 64102
CLONE_NEWNET = 0x40000000
SANITIZER = re.compile(r"\w+Sanitizer|: runtime error: ")
# signals that nobody but the kernel or the program itself sends
CRASHES = {-getattr(signal, "SIG" + name) for name in
           ("SEGV", "BUS", "FPE", "ILL", "ABRT", "SYS", "TRAP")}
OURS = re.compile(r"/(agent|monitor)/linnet-(agent|monitor)$")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args) != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{name}: {os.strerror(err)}")


class TimeBound(AssertionError):
    """A bound on time was missed; the machine may have stalled."""


def within(value, limit, what):
    """Asserts a bound on time, which best_of_3 may try again."""
    if value > limit:
        raise TimeBound(f"{what}: {value:.3f}, allowed {limit}")


def best_of_3(test):
    """Runs a test again if a *time* bound was missed; others fail at once."""
    @functools.wraps(test)
    def wrapper(*args, **kwargs):
        for attempt in range(3):
            try:
                return test(*args, **kwargs)
            except TimeBound as e:
                print(f"attempt {attempt + 1}: {e}")
                if attempt == 2:
                    raise
                if "lab" in kwargs:
                    kwargs["lab"].reset()
    return wrapper


def wait_until(condition, seconds, what="the condition"):
    """Polls every 20 ms; returns the first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def hooks_build():
    """The build with hooks for tests, in which readers can be slowed down and
    windows are short: tests/run makes it before; by hand it is made here."""
    path = BUILD.with_name(BUILD.name + "-hooks")
    commands = [["ninja", "-C", path, "monitor/linnet-monitor",
                 "agent/linnet-agent", "tests/netns/readimage"]]
    if not (path / "build.ninja").exists():
        commands.insert(0, ["meson", "setup", "-Dtest_hooks=true",
                            "-Dtests=false", path, TREE])
    for argv in commands:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return path


def pids_inside(inodes, ignore=()):
    """Processes whose network namespace is one of these."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in ignore:
            with contextlib.suppress(OSError):
                stat = os.stat(f"/proc/{entry}/ns/net")
                if stat.st_ino in inodes and not is_zombie(int(entry)):
                    found.append(int(entry))
    return found


def status_of(pid):
    """/proc/PID/status as a dictionary; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines()
                if ":\t" in line)


def is_zombie(pid):
    return status_of(pid).get("State", "Z").startswith("Z")


def children_of(pid):
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(p) for p in text.split() if not is_zombie(int(p))]


def executable(pid):
    """Name of the file that a process runs; "" when it is gone."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def end_processes(inodes, ignore=(), seconds=5):
    """Kills what runs inside, by number, until nothing does."""
    seen = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pids = pids_inside(inodes, ignore)
        if not pids:
            break
        for pid in pids:
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return seen


def _janitor(directory, fds):
    """Waits for the end of the test process, then removes what it left."""
    inodes = {os.fstat(fd).st_ino for fd in fds}
    while os.read(0, 1):
        pass
    end_processes(inodes, ignore=(os.getpid(),))
    shutil.rmtree(directory, ignore_errors=True)


class Process:
    """A process inside a host; its standard error goes to a file."""

    def __init__(self, host, argv, ready=False, **options):
        self.host, self.argv = host, [str(a) for a in argv]
        self.program = options.pop("program", None)
        host.lab.started += 1
        self.log_path = host.lab.dir / f"{host.name}-{host.lab.started}.log"
        pass_fds = options.pop("pass_fds", ())
        if ready:
            self._ready_fd, write_fd = os.pipe()
            self.argv += ["--ready-fd", str(write_fd)]
            pass_fds = (*pass_fds, write_fd)
        with open(self.log_path, "wb") as log, host.inside():
            self.popen = subprocess.Popen(
                self.argv, pass_fds=pass_fds,
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=options.pop("stdout", log),
                stderr=options.pop("stderr", log), **options)
        self.pid = self.popen.pid
        host.processes.append(self)
        if ready:
            os.close(write_fd)

    def wait_ready(self, seconds=5, check=True):
        """Until the program wrote its byte; else an assertion, or None."""
        readable, _, _ = select.select([self._ready_fd], [], [], seconds)
        byte = os.read(self._ready_fd, 1) if readable else b""
        os.close(self._ready_fd)
        if not byte and not check:
            return None
        if not byte:
            why = "ended" if readable else f"was not ready in {seconds} s"
            raise AssertionError(f"{self.argv[0]} {why}:\n{self.log()}")
        return self

    def log(self):
        return self.log_path.read_text(errors="replace")

    def alive(self):
        return self.popen.poll() is None

    def leader(self):
        """The process that matters, behind a tracer or a wrapper."""
        pid = self.pid
        while self.program and executable(pid) != self.program:
            pid, = children_of(pid) or [0]
            if not pid:
                return self.pid
        return pid

    def signal(self, signo):
        if self.alive():
            os.kill(self.leader(), signo)

    def wait(self, seconds=5):
        """Exit status (negative: signal)."""
        return self.popen.wait(seconds)

    def stop(self, seconds=5):
        """Asks it to end; fails if it crashed, or one of ours ends badly, and
        kills it and fails if it does not end."""
        asked = self.alive()
        self.signal(signal.SIGTERM)
        try:
            status = self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()
            raise AssertionError(f"{self.argv[0]} ignored SIGTERM for "
                                 f"{seconds} s:\n{self.log()}") from None
        ours = asked and any(OURS.search(a) for a in self.argv)
        assert status not in CRASHES and not (ours and status), \
            f"{self.argv[0]} ended with status {status}:\n{self.log()}"
        return status

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait()

    def kill_tree(self):
        """Kills it and its children at the same moment."""
        pids = [self.pid, self.leader(), *children_of(self.leader())]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()
        wait_until(lambda: all(is_zombie(p) for p in pids), 2, "children gone")


def rules_normal(text):
    """iptables-save text without counters, comments and empty tables."""
    text = re.sub(r"\[\d+:\d+\]", "[0:0]", text)
    tables = re.findall(r"^\*.*?^COMMIT$", text, re.M | re.S)
    return "\n".join(t for t in tables
                     if re.search(r"^-A|^:\S+ -|^:\S+ DROP", t, re.M))


def network_of(task="thread-self"):
    """A descriptor of the network namespace of a process."""
    return os.open(f"/proc/{task}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def new_network():
    """A descriptor of a new namespace that nobody is in."""
    old = network_of()
    try:
        _call("unshare", CLONE_NEWNET)
        fd = network_of()
        _call("setns", old, CLONE_NEWNET)
        return fd
    finally:
        os.close(old)


class Host:
    """One namespace with an interface, an IPv4 and an IPv6 address.

    dev is the interface, port the other end of its cable, at the switch's
    bridge; fd is the namespace, if there is one already.
    """

    def __init__(self, lab, name, number, fd=None):
        self.lab, self.name = lab, name
        self.ip4, self.ip6 = f"10.77.0.{number}", f"fd77::{number:x}"
        self.dev, self.port, self.bridge = f"eth{number}", f"p{number}", "br0"
        self.processes = []
        self.foreign = {"iptables": "", "ip6tables": ""}
        self.fd = new_network() if fd is None else fd
        self.inode = os.fstat(self.fd).st_ino
        self.run(["ip", "link", "set", "lo", "up"])

    @property
    def path(self):
        """A path that ip(8) and nsenter(1) take for this namespace."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace meanwhile."""
        old = network_of()
        try:
            _call("setns", self.fd, CLONE_NEWNET)
            yield
        finally:
            _call("setns", old, CLONE_NEWNET)
            os.close(old)

    def socket(self, *args):
        """A socket that belongs to the namespace for good."""
        with self.inside():
            return socket.socket(*args)

    def sysctl(self, name, value):
        with self.inside():
            Path("/proc/sys/" + name.replace(".", "/")).write_text(f"{value}\n")

    def run(self, argv, check=True, **options):
        """Runs to the end; the CompletedProcess with text output."""
        with self.inside():
            done = subprocess.run([str(a) for a in argv], text=True,
                                  capture_output=True, check=False,
                                  timeout=options.pop("timeout", 30), **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{argv}: exit {done.returncode}: "
                                 f"{done.stderr or done.stdout}")
        return done

    def start(self, argv, **options):
        return Process(self, argv, **options)

    def monitor(self, *args, instance="lab", build=None, wait=True, prefix=(),
                seconds=5, **options):
        """linnet-monitor with the users of the lab, ready or an error.

        prefix: a command that runs it, such as a tracer.
        """
        argv = [*prefix, (build or BUILD) / "monitor/linnet-monitor",
                "--instance", instance, "--user", MONITOR_UID,
                "--agent-user", AGENT_UID, *args]
        process = self.start(argv, ready=True, program="linnet-monitor",
                             **options)
        return process.wait_ready(seconds) if wait else process

    # ---- netfilter ----

    def rules(self, family=4, counters=False):
        tool = "iptables-nft-save" if family == 4 else "ip6tables-nft-save"
        return self.run([tool, *(["-c"] if counters else [])]).stdout

    def iptables(self, *args, family=4):
        """Adds a rule of the administrator's, which must stay as it is."""
        self.run(["iptables-nft" if family == 4 else "ip6tables-nft", "-w",
                  *args])

    def foreign_keep(self):
        """Rules as they are now must be found again at the end."""
        self.foreign = {"iptables": rules_normal(self.rules(4)),
                        "ip6tables": rules_normal(self.rules(6))}

    def nfacct(self):
        """name -> (packets, bytes)"""
        text = self.run(["nfacct", "list"]).stdout
        rows = re.findall(r"pkts = (\d+), bytes = (\d+).*?} = (\S+);", text)
        return {name: (int(p), int(b)) for p, b, name in rows}

    def leftovers(self):
        """What is left of ours, and changes to the administrator's rules."""
        found = []
        for family, tool in ((4, "iptables"), (6, "ip6tables")):
            text = self.rules(family)
            if "linnet" in text:
                found.append(f"{self.name}: rules left behind:\n{text}")
            elif rules_normal(text) != self.foreign[tool]:
                found.append(f"{self.name}: foreign rules changed:\n{text}")
        objects = [n for n in self.nfacct() if n.startswith("linnet")]
        if objects:
            found.append(f"{self.name}: nfacct objects left: {objects}")
        return found

    def check_clean(self):
        found = self.leftovers()
        assert not found, "\n".join(found)

    # ---- traffic ----

    def ping(self, address, count=5, interval=0.02, wait=1):
        """Number of answers."""
        text = self.run(["ping", "-n", "-c", count, "-i", interval, "-W", wait,
                         address], check=False,
                        timeout=60 + count * interval).stdout
        return int(re.search(r"(\d+) received", text).group(1))


class Lab:
    """n hosts: two on one cable, more on a switch.

    with Lab(2) as lab: a, b = lab.hosts
    Leaving it stops every process and, unless the body failed, checks that
    nothing is left behind.
    """

    def __init__(self, n=2):
        self.hosts, self.switch, self.started = [], None, 0
        self.keepers = []       # processes that belong to the network
        self._tmp = tempfile.TemporaryDirectory(prefix="linnet-lab-")
        self.dir = Path(self._tmp.name)
        self._janitor = None
        try:
            self._build(n)
        except BaseException:
            self.close()
            raise

    def _connect(self, n):
        """Makes the hosts and puts cables between them."""
        for i in range(1, n + 1):
            self.hosts.append(Host(self, chr(64 + i) if n <= 26 else f"h{i}", i))
        if n == 2:
            a, b = self.hosts
            a.run(["ip", "link", "add", a.dev, "type", "veth", "peer", "name",
                   b.dev, "netns", b.path])
        elif n > 2:
            self.switch = Host(self, "switch", 0)
            self.switch.run(["ip", "link", "add", "br0", "up", "type",
                             "bridge"])
            for h in self.hosts:
                self.switch.run(
                    ["ip", "link", "add", h.port, "master", h.bridge, "up",
                     "type", "veth", "peer", "name", h.dev, "netns", h.path])

    def _own(self):
        """Hosts and switch, in whose namespaces nobody else is."""
        return [h for h in (*self.hosts, self.switch) if h]

    def _build(self, n):
        self._connect(n)
        namespaces = [h.fd for h in self._own()]
        self._janitor = subprocess.Popen(
            ["/usr/bin/python3", "-IS", __file__, self.dir,
             *map(str, namespaces)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=namespaces,
            start_new_session=True)
        for h in self.hosts if n > 1 else []:
            h.run(["ip", "-batch", "-"], input="\n".join((
                f"link set {h.dev} addrgenmode none",
                f"link set {h.dev} up",
                f"addr replace {h.ip4}/16 dev {h.dev}",
                f"addr add {h.ip6}/64 dev {h.dev} nodad")) + "\n")
        self._wait_for_links()

    def _wait_for_links(self):
        """The kernel takes a link into use a moment after it is up; until
        then it loses packets, and neighbours are asked again a second later.
        """
        first = self.hosts[0]
        for h in self.hosts[1:]:
            for address in (h.ip4, h.ip6):
                wait_until(lambda a=address: first.ping(a, 1, wait=0.1), 5,
                           f"the link to {h.name}")

    def __enter__(self):
        return self

    def stop_all(self):
        """Ends all processes, the last started first; returns errors."""
        errors = []
        for h in self.hosts:
            for p in reversed(h.processes):
                with contextlib.suppress(ProcessLookupError):
                    p.signal(signal.SIGCONT)
                try:
                    p.stop()
                except AssertionError as e:
                    errors.append(str(e))
        return errors

    def reset(self):
        """Everything stops; the hosts stay."""
        errors = self.stop_all()
        assert not errors, "\n".join(errors)
        for h in self.hosts:
            h.processes.clear()

    def logs(self):
        return "".join(f"--- {h.name} {' '.join(p.argv)}\n{p.log()}"
                       for h in self.hosts for p in h.processes if p.log())

    def check(self):
        """Stops everything; what must hold after every test."""
        errors = self.stop_all()
        left = pids_inside({h.inode for h in self.hosts},
                           (os.getpid(), *self.keepers))
        errors += [f"process {p} is left: " + " ".join(cmdline(p))
                   for p in left]
        for h in self.hosts:
            errors += h.leftovers()
            errors += [f"{h.name}: {p.argv[0]}:\n{p.log()}"
                       for p in h.processes if SANITIZER.search(p.log())]
        assert not errors, "\n".join(errors)

    def close(self):
        for h in self.hosts:
            for p in h.processes:
                if p.alive():
                    p.kill()
        ignore = (os.getpid(), self._janitor.pid if self._janitor else 0)
        end_processes({h.inode for h in self._own()}, ignore)
        if self._janitor:
            self._janitor.stdin.close()
            self._janitor.wait(10)
        for h in filter(None, (*self.hosts, self.switch)):
            os.close(h.fd)
        self._tmp.cleanup()

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.check()
        finally:
            if kind is not None or sys.exc_info()[0] is not None:
                print(self.logs())
            self.close()


def cmdline(pid):
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [a.decode(errors="replace") for a in text.split(b"\0") if a]


# ---- numbered datagrams -------------------------------------------------

class Flow:
    """What became of numbered datagrams (tests/netns/flowgen.c).

    records: (number, sent, received) in the order of arrival, in seconds.
    """

    def __init__(self, sent, records, began, ended):
        self.sent, self.records = sent, records
        self.began, self.ended = began, ended
        numbers = [r[0] for r in records]
        self.received = len(set(numbers))
        self.lost = sent - self.received
        self.duplicates = len(numbers) - self.received
        top, self.late = -1, 0
        for n in numbers:
            self.late += n < top
            top = max(top, n)

    def times(self, since=None, until=None):
        """Arrival times, with the ends of the interval as if arrived."""
        since = self.began if since is None else since
        until = self.ended if until is None else until
        inner = sorted(r[2] for r in self.records if since < r[2] < until)
        return [since, *inner, until]

    def gap(self, since=None, until=None):
        """Longest time without a datagram."""
        t = self.times(since, until)
        return max(b - a for a, b in zip(t, t[1:]))

    def zero_intervals(self, seconds=0.1):
        """Number of aligned intervals without a datagram."""
        n = int((self.ended - self.began) / seconds)
        seen = {int((r[2] - self.began) / seconds) for r in self.records}
        return n - len(seen & set(range(n)))

    def lost_between(self, since, until):
        """Datagrams sent in this time that never arrived."""
        have = {r[0] for r in self.records}
        period = (self.ended - self.began) / max(self.sent, 1)
        first = max(0, round((since - self.began) / period))
        last = min(self.sent, round((until - self.began) / period))
        return sum(n not in have for n in range(first, last))


class FlowRun:
    """Datagrams from one host to another while the body of a `with` runs."""

    def __init__(self, src, dst, rate=4000, seconds=None, count=None,
                 port=5001, size=64, address=None):
        address = address or dst.ip4
        tool = BUILD / "tests/netns/flowgen"
        self.count = count or int(rate * seconds)
        self.path = dst.lab.dir / f"flow-{dst.name}-{port}-{time.time_ns()}"
        self.sink = dst.start([tool, "recv", address, port, self.path],
                              stdout=subprocess.PIPE)
        assert self.sink.popen.stdout.readline() == b"ready\n", self.sink.log()
        self.source = src.start([tool, "send", address, port, rate, self.count,
                                 size], stdout=subprocess.PIPE)
        self.began = time.time()
        self._src = src

    def finish(self, seconds=60, settle=1.5):
        """Waits for the last datagram; settle: how long for missing ones."""
        status = self.source.wait(seconds)
        ended = time.time()
        report = json.loads(self.source.popen.stdout.read())
        assert status == 0, f"flowgen send: exit {status}"
        end = time.monotonic() + settle
        while time.monotonic() < end:
            if os.path.getsize(self.path) >= 24 * report["sent"]:
                break
            time.sleep(0.02)
        self.sink.stop()
        words = memoryview(self.path.read_bytes()).cast("Q")
        records = [(words[i], words[i + 1] / 1e9, words[i + 2] / 1e9)
                   for i in range(0, len(words), 3)]
        return Flow(report["sent"], records, report["began"] / 1e9,
                    min(report["ended"] / 1e9, ended))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _janitor(sys.argv[1], [int(a) for a in sys.argv[2:]])
