# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of trouble for a tree of real agents and monitors: how it is done.

What happens when is known before anything runs (chaos_schedule.py).  Each
fault has a thread that begins it, waits, and puts it right again.
"""
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import struct
import threading
import time

from cable import Cable
from chaos_judge import History
from chaos_schedule import side_of
from lab import AGENT_UID, BUILD, MONITOR_UID, wait_until
from test_tree_overlay import Listener
from traffic import readers_of
from tree import Node, request, token_files

NO_ANSWER = (OSError, http.client.HTTPException)
CANDIDATES = 3
STEPS_S = (-3600, -60, -3, -0.4, 0.4, 3, 60, 3600)
STRANGE = (b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{\"part\": ",
           b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
           b"Content-Length: 9\r\n\r\n{\"a\": NaN",
           b"\xff" * 3000, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/"
           b"\r\nContent-Length: 0\r\n\r\n", b"")


class Member(Node):
    """A host with its two programs, a wall clock and secrets of its own."""

    def __init__(self, host, args, lock):
        self.lock, self.fanout, self.readers = lock, 2, 1
        self.link = threading.Lock()  # one bad cable at a time
        self.clock = host.lab.dir / f"clock-{host.name}"
        self.clock.write_bytes(bytes(8))
        super().__init__(host, [], monitor=False, args=args)
        self.monitor = self.start_monitor()

    def env(self):
        return {"PATH": os.environ["PATH"],
                "LD_PRELOAD": str(BUILD / "tests/netns/libshim.so"),
                "LINNET_SHIM_CLOCK": str(self.clock)}

    def start_monitor(self):
        with self.lock:
            self.monitor = self.host.monitor(
                "--readers", self.readers, wait=False, env=self.env())
        return self.monitor.wait_ready(20)

    def start(self, wait=True):
        argv = [BUILD / "agent/linnet-agent", "--instance", "lab", "--listen",
                f"{self.address}:8000", "--user", AGENT_UID, "--monitor-user",
                MONITOR_UID, "--state-dir", self.state_dir, "--fanout",
                self.fanout, *self.args]
        with self.lock:
            self.agent = self.host.start(argv, ready=True, env=self.env())
        return self.agent.wait_ready(20) if wait else self.agent

    def step_clock(self, seconds):
        with open(self.clock, "r+b") as f:
            f.write(struct.pack("q", int(seconds * 1e9)))


class World:
    """Hosts that join as a tree, a client's place, tasks, and what is known."""

    def __init__(self, lab, seed):
        self.lab, self.lock = lab, threading.Lock()
        *hosts, self.client = lab.hosts
        rng = random.Random(seed)
        self.tokens = {n: "".join(rng.choices("abcdef0123456789", k=43))
                       for n in ("fleet", "boss")}
        lab.dir.chmod(0o711)
        args = token_files(lab, "fleet", "peer", self.tokens["fleet"])
        digest = hashlib.sha256(self.tokens["boss"].encode()).hexdigest()
        with open(args[1], "a", encoding="ascii") as f:
            f.write(f"admin client {digest}\n")
        self.auth = {"Authorization": "Bearer " + self.tokens["boss"]}
        for h in hosts[:CANDIDATES]:
            args += ["--seed", h.ip4, "--root", h.ip4]
        for h in hosts:
            # bad cables take frames as they are on the wire
            h.run(["ethtool", "-K", h.dev, "tx", "off", "gso", "off", "tso",
                   "off", "gro", "off"])
            h.iptables("-t", "mangle", "-A", "INPUT", "-p", "udp", "--dport",
                       "9", "-j", "MARK", "--set-mark", "7")
            h.foreign_keep()
        self.nodes = [Member(h, args, self.lock) for h in hosts]
        for n in self.nodes:
            n.start(wait=False)
        for n in self.nodes:
            n.agent.wait_ready(20)
        self.addresses = [n.address for n in self.nodes]
        self.history = History(self.addresses)
        self.tasks, self.errors, self.strangers = {}, [], []
        self.names = self.strangers_until = 0
        self.given = {i: set() for i in range(CANDIDATES)}  # None: unsure

    # ---- what a controller does ----

    def call(self, i, method, path, body=None, timeout=4):
        return request(self.client, self.addresses[i], method, path,
                       None if body is None else json.dumps(body),
                       {"Content-Type": "application/json", **self.auth},
                       timeout)

    def own(self, i, path, timeout=4):
        """What an agent says on its own host, whatever its link is like."""
        r = self.nodes[i].get(path, headers=self.auth, timeout=timeout)
        return r.json()["data"] if r.status == 200 else None

    def root(self):
        """The first candidate that says that it is, or None."""
        for i in range(CANDIDATES):
            with contextlib.suppress(*NO_ANSWER, ValueError):
                r = self.call(i, "GET", "/api/v1/overlay", timeout=1)
                if r.status == 200 and r.json()["data"]["role"] == "root":
                    return i
        return None

    def change_at(self, i, method, path, body):
        """And what that agent may have by it: unsure if it did not say."""
        try:
            r = self.call(i, method, path, body)
        except NO_ANSWER:
            self.given[i].add(None)
            raise
        if body and r.status == 503:
            self.given[i].add(None)
        elif body and r.status < 300:
            self.given[i].add(r.json()["data"]["id"])
        elif r.status == 204:
            self.given[i].discard(path.rsplit("/", 1)[-1])
        return r

    def change(self, method, path, body=None, until=0):
        """A change of tasks at whoever is the root, tried until then."""
        while True:
            with contextlib.suppress(*NO_ANSWER):
                root = self.root()
                if root is not None:
                    r = self.change_at(root, method, path, body)
                    if r.status != 503:
                        return r
            if time.monotonic() > until:
                return None
            time.sleep(0.2)  # as a controller would

    def add_task(self, until=0, **members):
        self.names += 1
        spec = {"name": f"task-{self.names}", "filter": {"proto": "udp"},
                "key": "src", **members}
        r = self.change("POST", "/api/v1/tasks", spec, until)
        if r is None:
            return None
        if r.status != 201:
            self.errors.append(f"POST of a task: {r.status} {r.text}")
            return None
        task = r.json()["data"]
        self.tasks[task["id"]] = task
        return task["id"]

    # Who changes a task has taken it out: faults overlap, and what one of
    # them deletes another must not put again.

    def put_again(self, ident, until):
        """A new generation."""
        task = self.tasks.pop(ident, None)
        if not task:
            return
        again = {**task, "generation": task["generation"] + 1}
        r = self.change("PUT", f"/api/v1/tasks/{ident}", again, until)
        # in a partition another root may have taken one before
        taken = r is not None and r.status in (200, 201)
        self.tasks[ident] = r.json()["data"] if taken else task

    def delete_task(self, ident, until):
        task = self.tasks.pop(ident, None)
        if not task:
            return
        r = self.change("DELETE", f"/api/v1/tasks/{ident}", None, until)
        if r is None:
            self.tasks[ident] = task

    # ---- what is known ----

    def strange(self):
        """Who answered may have been no agent."""
        return not all(s.stopped for s in self.strangers) or \
            time.monotonic() < self.strangers_until

    def trouble(self, kind, i, began, ended):
        self.history.faults[self.addresses[i]].append((kind, began, ended))

    def counts_again(self, i, since, seconds=20):
        """Its monitor is another one since then; until it surely counts."""
        entry = [since, float("inf")]
        self.history.starts[self.addresses[i]].append(entry)

        def counts():
            with contextlib.suppress(*NO_ANSWER, ValueError, KeyError):
                r = self.nodes[i].get(f"/api/v1/tasks/{self.base}/totals?"
                                      "scope=host", headers=self.auth,
                                      timeout=2)
                return r.status == 200 and \
                    r.json()["meta"]["coverage"]["complete"]
            return False
        with contextlib.suppress(AssertionError):
            wait_until(counts, seconds)
            entry[1] = time.monotonic()


class Fault(threading.Thread):
    """One event, from its beginning to its end."""

    def __init__(self, world, event, began):
        super().__init__(daemon=True)
        self.world, self.event = world, event
        self.node = world.nodes[event.host]
        self.host = self.node.host
        self.began = began + event.at
        self.until = self.began + event.lasts
        self.undo, self.over = [], threading.Event()

    def run(self):
        time.sleep(max(0, self.began - time.monotonic()))
        try:
            name = f"{self.event.kind}_{self.event.deed}".replace(" ", "_")
            getattr(self, name, getattr(self, self.event.kind, None))()
        except Exception as e:  # noqa: BLE001  told at the end
            self.world.errors.append(f"{self.event}: {e!r}")
        for step in reversed(self.undo):
            with contextlib.suppress(*NO_ANSWER):
                step()
        self.over.set()

    def hold(self):
        time.sleep(max(0, self.until - time.monotonic()))

    def note(self, kind, i=None, since=None):
        """It begins now; it has ended when this is called."""
        now = time.monotonic()
        entry = [kind, now if since is None else since, float("inf")]
        self.world.history.faults[self.world.addresses[
            self.event.host if i is None else i]].append(entry)

        def ended():
            entry[2] = time.monotonic()
        return ended

    # ---- kill, stop ----

    def signal_reader(self, signo):
        pids = readers_of(self.node.monitor)
        # there is none for a moment after another one died
        with contextlib.suppress(ProcessLookupError, ZeroDivisionError):
            os.kill(pids[self.event.number % len(pids)], signo)

    def kill_agent(self):
        ended = self.note("agent")
        self.node.agent.kill()
        self.hold()
        self.node.start()
        ended()

    def kill_supervisor(self, how=None):
        ended, since = self.note("monitor"), time.monotonic()
        (how or self.node.monitor.kill)()
        self.hold()
        self.node.start_monitor()
        ended()
        self.over.set()
        self.world.counts_again(self.event.host, since)

    def kill_monitor(self):
        self.kill_supervisor(self.node.monitor.kill_tree)

    def kill_reader(self):
        ended = self.note("reader")
        self.signal_reader(signal.SIGKILL)
        ended()

    def kill_host(self):
        """Both programs at once."""
        ended = self.note("agent")

        def both():
            self.node.agent.kill()
            self.node.monitor.kill_tree()
        ended_too, since = self.note("monitor"), time.monotonic()
        both()
        self.hold()
        self.node.start(wait=False)
        self.node.start_monitor()
        ended_too()
        self.node.agent.wait_ready(20)
        ended()
        self.over.set()
        self.world.counts_again(self.event.host, since)

    def stop_agent(self):
        ended = self.note("agent")
        self.node.agent.signal(signal.SIGSTOP)
        self.hold()
        self.node.agent.signal(signal.SIGCONT)
        ended()

    def stop_supervisor(self):
        self.node.monitor.signal(signal.SIGSTOP)
        self.hold()
        self.node.monitor.signal(signal.SIGCONT)

    def stop_reader(self):
        """Its supervisor kills it."""
        ended = self.note("hang")
        self.signal_reader(signal.SIGSTOP)
        ended()

    # ---- links ----

    def cable(self, what):
        """Another cable to the host, until the fault ends."""
        with self.node.link:
            self.recable(what)

    def recable(self, what):
        switch, port = self.world.lab.switch, self.host.port
        new, other = "q" + port, "r" + port     # the two ends of the other one
        ended = self.note("link")
        switch.run(["ip", "-batch", "-"], input="\n".join((
            f"link add {new} master {self.host.bridge} up type veth peer name "
            + other,
            f"link set {other} up promisc on",
            f"link set {port} promisc on nomaster")) + "\n")
        with self.world.lock:
            cable = Cable(switch, (port, other), what.get("to", {}),
                          what.get("away", {}), self.event.number,
                          self.world.addresses)
        self.hold()
        cable.end()
        switch.run(["ip", "-batch", "-"], input="\n".join((
            f"link del {new}",
            f"link set {port} promisc off master {self.host.bridge}")) + "\n")
        ended()

    def partition(self):
        """No packet passes, one way or both: to is away from the switch."""
        ways = {"both": ("to", "away")}.get(self.event.deed,
                                            (self.event.deed,))
        # the first interface is that to the host
        names = {"to": "away", "away": "to"}
        self.cable({names[w]: {"loss": 1} for w in ways})

    def partition_down(self):
        ended, switch = self.note("link"), self.world.lab.switch
        switch.run(["ip", "link", "set", self.host.port, "down"])
        self.hold()
        switch.run(["ip", "link", "set", self.host.port, "up"])
        ended()

    def drop(self, host, chain, *match):
        """An administrator's rule, until the fault ends."""
        rule = [chain, *match, "-j", "DROP"]
        host.iptables("-t", "raw", "-I", *rule)
        self.undo.append(lambda: host.iptables("-t", "raw", "-D", *rule))

    def partition_rules(self):
        ended = self.note("link")
        self.drop(self.host, "PREROUTING", "-i", self.host.dev)
        self.drop(self.host, "OUTPUT", "-o", self.host.dev)
        self.hold()
        self.undo.insert(0, ended)

    def partition_side(self):
        """Some hosts are alone with each other; the client reaches all."""
        side = side_of(self.event, len(self.world.nodes))
        others = ",".join(a for i, a in enumerate(self.world.addresses)
                          if i not in side)
        for i in range(len(self.world.nodes)):
            self.undo.append(self.note("link", i))
        for i in side:
            host = self.world.nodes[i].host
            self.drop(host, "PREROUTING", "-s", others)
            self.drop(host, "OUTPUT", "-d", others)
        self.hold()

    def slow(self):
        rng = random.Random(self.event.number)
        way = {"delay": rng.uniform(0.02, 0.6)}
        if self.event.deed == "jitter":
            way = {"delay": 0.01, "jitter": rng.uniform(0.05, 0.4)}
        self.cable({"to": way, "away": way})

    def slow_rate(self):
        ended = self.note("link")
        self.host.run(["tc", "qdisc", "replace", "dev", self.host.dev, "root",
                       "tbf", "rate", "64kbit", "burst", "4k", "latency",
                       "400ms"])
        self.hold()
        self.host.run(["tc", "qdisc", "del", "dev", self.host.dev, "root"])
        ended()

    def corrupt(self):
        """loss, double, flip, garble"""
        share = random.Random(self.event.number).choice((0.05, 0.2, 0.5))
        way = {self.event.deed: share, "jitter": 0.02}
        since = time.monotonic()
        try:
            self.cable({"to": way, "away": way})
        finally:
            if self.event.deed == "flip":
                self.world.history.flips.append(
                    (self.node.address, since - 1, time.monotonic() + 1))

    def corrupt_reset(self):
        """Connections to and from the agent break, again and again."""
        ended = self.note("link")
        rule = ["INPUT", "-p", "tcp", "--dport", "8000", "!", "-i", "lo", "-m",
                "statistic", "--mode", "random", "--probability", "0.2", "-j",
                "REJECT", "--reject-with", "tcp-reset"]
        self.host.iptables("-I", *rule)
        self.hold()
        self.host.iptables("-D", *rule)
        ended()

    def corrupt_stranger(self):
        """Somebody else at its address, who says what is no answer."""
        ended, link = self.note("agent"), self.note("link")
        self.node.agent.kill()
        strange = STRANGE[self.event.number % len(STRANGE)]
        listener = Listener(self.host, self.node.address, strange)
        self.world.strangers.append(listener)
        with listener:
            self.hold()
            self.world.strangers_until = time.monotonic() + 5
        self.node.start()
        ended()
        link()

    # ---- moves ----

    def back(self, entry, since):
        """It is a member again once the root and itself say so."""
        self.over.set()

        def joined():
            with contextlib.suppress(*NO_ANSWER, ValueError, KeyError,
                                     TypeError):
                root = self.world.root()
                if root is None or time.monotonic() < since + 3:
                    return False
                mine = self.world.own(self.event.host, "/api/v1/overlay")
                rows = self.world.call(root, "GET", "/api/v1/overlay/members?"
                                       "limit=100").json()["data"]
                return mine["role"] != "detached" and any(
                    m["host"] == self.node.address and m["state"] == "up"
                    for m in rows)
            return False
        with contextlib.suppress(AssertionError):
            wait_until(joined, 60)
            entry[2] = time.monotonic()

    def gone(self):
        entry = [self.node.address, time.monotonic(), float("inf")]
        self.world.history.away.append(entry)
        return entry

    def move_drain(self):
        ended, entry = self.note("agent"), self.gone()
        with contextlib.suppress(*NO_ANSWER):
            self.node.post("/api/v1/overlay/drain", {}, headers=self.world.auth)
        self.hold()
        self.node.agent.kill()
        self.node.start()
        ended()
        self.back(entry, time.monotonic())

    def remove(self):
        """Its parent lets it go; None if it has none."""
        mine = self.world.own(self.event.host, "/api/v1/overlay")
        if not mine or not mine["parent"]:
            return False
        above = next(n for n in self.world.nodes
                     if n.address == mine["parent"].split(":")[0])
        above.post(f"/api/v1/overlay/children/{self.node.address}", {},
                   method="DELETE", headers=self.world.auth)
        return True

    def move_remove(self):
        entry = self.gone()
        with contextlib.suppress(*NO_ANSWER, ValueError):
            self.remove()
        self.hold()
        self.back(entry, time.monotonic())

    def move_by_hand(self):
        """Given to another by the old form, before it finds a place."""
        entry, other = self.gone(), self.world.nodes[self.event.other]
        with contextlib.suppress(*NO_ANSWER, ValueError):
            self.remove()
            request(other.host, other.address, "POST", "/",
                    f"type=add leaf agent&agent_addr={self.node.address}",
                    {"Content-Type": "application/x-www-form-urlencoded",
                     **self.world.auth}, 4)
        self.hold()
        self.back(entry, time.monotonic())

    # ---- configuration, clocks ----

    def reconfigure_task(self):
        """One that comes and goes."""
        rng = random.Random(self.event.number)
        ident = self.world.add_task(
            self.until, filter={"proto": rng.choice(("tcp", "udp", "icmp")),
                                "direction": rng.choice(("in", "out"))},
            key=rng.choice(("src", "dst", "5-tuple", "none")))
        self.hold()
        if ident:
            self.world.delete_task(ident, self.until + 2)

    def reconfigure_tasks(self):
        """One that stays gets another generation, another is made and an old
        one goes."""
        mine = [t for t in list(self.world.tasks) if t not in self.world.kept]
        if mine:
            self.world.put_again(mine[-1], self.until)
        self.world.add_task(self.until, filter={"proto": "tcp"}, key="dst")
        if len(mine) > 3:
            self.world.delete_task(mine[0], self.until)

    def reconfigure_agent(self):
        """Ended in order, and started with another configuration."""
        ended = self.note("agent")
        self.node.agent.stop()
        self.node.fanout = 2 + self.event.number % 3
        self.node.start()
        ended()

    def reconfigure_monitor(self):
        def stop():
            self.node.readers = 1 + self.event.number % 2
            self.node.monitor.stop()
        self.until = time.monotonic()
        self.kill_supervisor(stop)

    def clock(self):
        ended = self.note("clock")
        self.node.step_clock(STEPS_S[self.event.number % len(STEPS_S)])
        self.hold()
        self.node.step_clock(0)
        ended()
