# SPDX-License-Identifier: GPL-2.0-or-later
"""Many real agents in one namespace, on loopback addresses, as a k-ary heap.

Their monitors are one process (stubmonitor.c), whose streams follow from a
seed: truth() says what the whole tree must answer.
"""
import collections
import itertools
import json
import os
import signal
import subprocess

from lab import AGENT_UID, BUILD, Lab, wait_until
from tree import request

FLOWS, SEED = 32, 1
AGENTS, CLIENTS = "127.1.0.0/16", "127.0.1"
SPEC = {"filter": {"direction": "in", "proto": "udp"}, "key": "src",
        "increment": "byte"}


def mix(z):
    """As in stubmonitor.c."""
    mask = 2**64 - 1
    z = z + 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def flow(host, j, seed=SEED):
    """(source, packets, bytes) of flow j of a host."""
    v = mix(seed + (host << 32) + j)
    packets = 1 + v % (2000 // (j + 1))
    source = (f"10.{16 + host // 256}.{host % 256}.{j}" if j % 2
              else f"10.0.0.{j}")
    return source, packets, packets * (40 + (v >> 32) % 1400)


def truth(hosts, flows=FLOWS):
    """(packets, bytes, source -> bytes) of these hosts together."""
    packets, sources = 0, collections.Counter()
    for host in hosts:
        for j in range(flows):
            source, n, size = flow(host, j)
            packets += n
            sources[source] += size
    return packets, sum(sources.values()), sources


def address(i):
    """127.0.0.1, where clients call from, is nobody's."""
    return f"127.1.{i // 250}.{i % 250 + 1}"


def complete(reply):
    return reply.status == 200 and reply.json()["meta"]["coverage"]["complete"]


class Swarm:
    """with Swarm(127, 16) as swarm: the tree stands and has one task.

    layout: "child", parents are told their children; "list", all have the
    same list of addresses; "join", they find their place at the first three,
    which may be the root; in both they know over a restart who they are.  The
    last `late` ones are not started.  delay: milliseconds until a monitor
    answers.
    """

    def __init__(self, n, fanout, layout="child", delay=0, flows=FLOWS,
                 seconds=60, late=0):
        self.n, self.fanout, self.layout = n, fanout, layout
        self.delay, self.flows, self.seconds = delay, flows, seconds
        self.agents, self.task, self.late = [None] * n, None, late
        self.calls = itertools.count()

    def __enter__(self):
        self.lab = Lab(1)
        try:
            self.lab.dir.chmod(0o711)  # the agents are not root
            self.host, = self.lab.hosts
            self._start()
            self._configure()
        except BaseException:
            print(self.lab.logs()[-20000:])
            self._stop()
            self.lab.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        self._stop()
        return self.lab.__exit__(kind, value, trace)

    def children(self, i):
        first = self.fanout * i + 1
        return range(min(first, self.n), min(first + self.fanout, self.n))

    def below(self, i):
        """Numbers of an agent and all below it."""
        return [i, *(b for c in self.children(i) for b in self.below(c))]

    @property
    def depth(self):
        """Steps from the root to the host farthest away."""
        depth, i = 0, self.n - 1
        while i > 0:
            depth, i = depth + 1, (i - 1) // self.fanout
        return depth

    def _place(self, i):
        if self.layout == "child":
            return [a for c in self.children(i)
                    for a in ("--child", address(c))]
        state = self.lab.dir / f"state-{i}"
        if not state.exists():
            state.mkdir(mode=0o700)
            os.chown(state, AGENT_UID, AGENT_UID)
        place = ["--list", self.list_file]
        if self.layout == "join":
            place = [a for c in range(3) for a in ("--seed", address(c),
                                                   "--root", address(c))]
        return ["--fanout", self.fanout, "--state-dir", state, *place]

    def _start_monitors(self):
        self.monitors = self.host.start(
            [BUILD / "tests/netns/stubmonitor", self.n, self.flows, SEED,
             AGENT_UID, int(self.delay * 1000)], stdout=subprocess.PIPE)
        assert self.monitors.popen.stdout.readline() == b"ready\n", \
            self.monitors.log()

    def set_delay(self, delay):
        """Other monitors, which answer after so many milliseconds."""
        if delay != self.delay:
            self.delay = delay
            self.monitors.stop()
            self._start_monitors()
            self.warm("totals")

    def _start(self):
        self._start_monitors()
        self.list_file = self.lab.dir / "hosts"
        self.list_file.write_text(
            "".join(f"{address(i)}\n" for i in range(self.n)))
        order = range(self.n - self.late)
        starting = collections.deque()
        for i in order if self.layout == "join" else reversed(order):
            starting.append(self.start(i, wait=False))
            # as many at once as do not make each other late
            if len(starting) > 8:
                starting.popleft().wait_ready(self.seconds)
        for agent in starting:
            agent.wait_ready(self.seconds)

    def start(self, i, wait=True):
        """The agent of this host, for the first time or again."""
        self.agents[i] = self.host.start(
            [BUILD / "agent/linnet-agent", "--instance", f"h{i}",
             "--insecure", "--listen", address(i), "--user", AGENT_UID,
             "--log-level", "error", *self._place(i)], ready=True)
        if wait:
            self.agents[i].wait_ready(self.seconds)
        return self.agents[i]

    def _configure(self):
        """The tree stands, and every host has the task."""
        wait_until(lambda: self.status()["overlay"]["hosts_expected"] ==
                   self.n - self.late, self.seconds,
                   "the root knows all hosts")
        r = self.call("POST", "/api/v1/tasks", SPEC)
        assert r.status == 201, r.text
        self.task = r.json()["data"]["id"]
        self.warm("totals")

    def _stop(self):
        self.heal()
        agents = [a for a in self.agents if a]
        for agent in agents:
            agent.signal(signal.SIGCONT)
            agent.signal(signal.SIGTERM)
        for agent in agents:
            agent.wait(self.seconds)

    # ---- links ----

    def cut(self, hosts, to=True, away=True):
        """No packet passes between these agents and the others; or none to
        these, or none away from these, alone.  Clients reach all."""
        inside = [address(i) for i in hosts]
        rules = ["*filter", ":TO - [0:0]", ":AWAY - [0:0]"]
        for a in inside:
            rules += [f"-A TO -s {a} -j RETURN", f"-A AWAY -d {a} -j RETURN"]
        rules += [f"-A TO -s {AGENTS} -j DROP", f"-A AWAY -d {AGENTS} -j DROP"]
        for a in inside:
            rules += [f"-A INPUT -d {a} -j TO"] * to
            rules += [f"-A INPUT -s {a} -j AWAY"] * away
        self.host.run(["iptables-nft-restore"],
                      input="\n".join((*rules, "COMMIT\n")))

    def heal(self):
        """All links are whole."""
        self.host.run(["iptables-nft-restore"], input="*filter\nCOMMIT\n")

    # ---- requests ----

    def call(self, method, path, body=None, i=0, timeout=30):
        """From one of many addresses: clients have limits of their own."""
        return request(self.host, address(i), method, path,
                       None if body is None else json.dumps(body),
                       {"Content-Type": "application/json"}, timeout,
                       f"{CLIENTS}.{next(self.calls) % 250 + 1}")

    def data(self, path, i=0):
        r = self.call("GET", path, i=i)
        assert r.status == 200, r.text
        return r.json()["data"]

    def status(self, i=0):
        return self.data("/api/v1/status", i)

    def up(self, i=0):
        """Addresses of the hosts that this agent reaches, its own included."""
        return {m["host"] for m in self.data(
            "/api/v1/overlay/members?limit=1000", i) if m["state"] == "up"}

    def path(self, question):
        """question: "totals", "top?n=10", ..."""
        return f"/api/v1/tasks/{self.task}/{question}"

    def ask(self, question, i=0, timeout=30):
        return self.call("GET", self.path(question), i=i, timeout=timeout)

    def warm(self, question):
        """The monitors count when they are asked for the first time."""
        wait_until(lambda: complete(self.ask(question)), self.seconds,
                   f"a complete answer to {question}")

    def descriptors(self, i):
        return len(os.listdir(f"/proc/{self.agents[i].pid}/fd"))

    def check(self, question, reply, hosts=None):
        """The answer is what these hosts counted, all by default."""
        packets, size, sources = truth(range(self.n) if hosts is None
                                       else hosts, self.flows)
        data = reply.json()["data"]
        if question.startswith("totals"):
            assert (data["packets"], data["bytes"]) == (packets, size), data
            return
        for row in data:
            assert row["lower"] <= sources[row["key"]] <= row["upper"], row
        if question.startswith("top"):
            heavy = sources.most_common(len(data))
            assert [(r["key"], r["estimate"]) for r in data] == heavy, \
                (data, heavy)
