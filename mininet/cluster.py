# SPDX-License-Identifier: GPL-2.0-or-later
"""A Mininet tree network with linnet on every host but the first.

The topology is Mininet's own tree: depth d and fan-out f give f^d hosts
h1 ... hN under Linux bridges.  h1 is the controller and runs neither program;
the others run a monitor and an agent.  The overlay follows the switches: the
first host below a switch speaks for all hosts below it, h2 in place of h1.
For depth 2 and fan-out 3 that is h2 -> h3 h4 h7, h4 -> h5 h6, h7 -> h8 h9.

A Cluster owns the network and the programs; stop() ends the programs by
their process ids and removes the network.
"""

import os
import pathlib
import select
import signal
import subprocess
import sys
import time

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topolib import TreeTopo

import sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "api"))

from client import Client, LinnetError  # noqa: E402

MONITOR_UID = 64101
AGENT_UID = 64102
HOSTS_MAX = 250
CHILDREN_MAX = 64
FANOUT = 3      # of a tree that the agents build themselves
START_S = 10
JOIN_S = 30
POLL_S = 0.05


class ClusterError(Exception):
    """The network or a program did not start."""


def overlay_parents(hosts, fanout):
    """{k: parent of host k} for hosts 2 ... `hosts`; the root h2 has None.

    Host k is leaf k - 1 of the topology.  Written to the base `fanout`, the
    last digit that is not 0 says in which switch's group the leaf stands,
    and the same number with that digit 0 is the first host of the group.
    """
    parents = {2: None}
    for k in range(3, hosts + 1):
        step = 1
        while (k - 1) // step % fanout == 0:
            step *= fanout
        first = (k - 1) - (k - 1) // step % fanout * step
        parents[k] = max(first, 1) + 1
    return parents


def wait_until(condition, limit_s, what):
    """Poll until condition() is true and return its value."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not within {limit_s} s")
        time.sleep(POLL_S)


class HostClient(Client):
    """A Client that asks from the network of a Mininet host."""

    def __init__(self, node, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.node = node

    def _send(self, *args):
        with sandbox.inside(self.node):
            return super()._send(*args)

    def ready(self):
        """The agent has its monitor and all that it needs itself."""
        reply, _ = self._send("GET", "/readyz", None, {}, self.timeout)
        return reply.status == 200


class Program:
    """One running monitor or agent and its log."""

    def __init__(self, node, name, argv, log):
        self.label = f"{node.name} {name}"
        self.log = pathlib.Path(log)
        self.ready, write = os.pipe()
        with open(log, "ab") as out:
            self.process = node.popen(
                argv + ["--ready-fd", str(write)], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, cwd="/", pass_fds=[write])
        os.close(write)

    def wait_ready(self):
        readable, _, _ = select.select([self.ready], [], [], START_S)
        served = readable and os.read(self.ready, 1)
        os.close(self.ready)
        if not served:
            self.kill()
            text = self.log.read_text(errors="replace")
            raise ClusterError(f"{self.label} did not start:\n{text[-2000:]}")

    def kill(self, number=signal.SIGKILL):
        """End it; after SIGTERM it has START_S to go by itself."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Cluster:
    """start() before use, stop() afterwards, also after a failed start."""

    def __init__(self, tmp, depth=2, fanout=3, build=ROOT / "build"):
        hosts = fanout ** depth
        if depth < 1 or fanout < 1 or not 2 <= hosts <= HOSTS_MAX:
            raise ClusterError(f"fan-out ^ depth must be 2 ... {HOSTS_MAX}")
        self.tmp = pathlib.Path(tmp)
        self.build = pathlib.Path(build).resolve()
        self.parents = {f"h{k}": p and f"h{p}" for k, p
                        in overlay_parents(hosts, fanout).items()}
        if any(len(self.children(n)) > CHILDREN_MAX for n in self.parents):
            raise ClusterError(f"more than {CHILDREN_MAX} children of a host")
        self.programs = {}
        self.candidates = []    # names; none: the tree is configured
        for path in self._binary("monitor"), self._binary("agent"):
            if not os.access(path, os.X_OK):
                raise ClusterError(f"{path} is missing: build first")
        setLogLevel("warning")
        Mininet.inited = True       # it would change limits of the machine
        self.net = Mininet(TreeTopo(depth, fanout), switch=LinuxBridge,
                           controller=None, autoSetMacs=True)
        self.controller = self.net["h1"]
        self.root = "h2"

    def start(self):
        """Start everything and wait until the overlay is whole."""
        self.net.start()
        for name in self.parents:
            self._start_monitor(name)
        self._wait_ready("monitor", self.parents)
        # From the leaves up, so that each parent finds its children there.
        for level in sorted({self.level(n) for n in self.parents})[::-1]:
            names = [n for n in self.parents if self.level(n) == level]
            for name in names:
                self._start_agent(name)
            self._wait_ready("agent", names)
        self.wait_whole()

    def stop(self):
        """End the programs and remove the network."""
        for kind in "agent", "monitor":
            for (name, k), program in self.programs.items():
                if k == kind:
                    program.process.terminate()
        for program in self.programs.values():
            program.kill(signal.SIGTERM)
        self.programs.clear()
        self.net.stop()

    def ip(self, name):
        return self.net[name].IP()

    def name_of(self, address):
        """h5 for 10.0.0.5, else the address itself."""
        names = {node.IP(): node.name for node in self.net.hosts}
        return names.get(address, address)

    def children(self, name):
        return [n for n, parent in self.parents.items() if parent == name]

    def subtree(self, name):
        """The host and all hosts behind it."""
        return [name] + [n for child in self.children(name)
                         for n in self.subtree(child)]

    def level(self, name):
        parent = self.parents[name]
        return 0 if parent is None else 1 + self.level(parent)

    def client(self, name, **kwargs):
        """Ask the agent of a host from the controller h1."""
        return HostClient(self.controller, self.ip(name), **kwargs)

    def kill_agent(self, name):
        self.programs.pop((name, "agent")).kill()

    def restart_agent(self, name):
        self._start_agent(name)
        self._wait_ready("agent", [name])

    def regroup(self, candidates=()):
        """Start all agents anew.  They find their tree themselves, with one of
        these for its root; without these it is the configured one again."""
        for name in self.parents:
            program = self.programs.pop((name, "agent"), None)
            if program:
                program.kill(signal.SIGTERM)
        self.candidates = list(candidates)
        for name in self.parents:
            self._start_agent(name)
        self._wait_ready("agent", self.parents)
        self.wait_whole()

    def wait_whole(self):
        """Wait until the root gets an answer from every host, and every host
        knows all others: to those it may be asked to measure bandwidth."""
        root = self.client(self.root)
        path = "tasks/" + root.post("tasks", {"key": "none"})["data"]["id"]

        def whole():
            try:
                covered = root.get(path + "/totals")["meta"]["coverage"]
            except LinnetError as e:
                if e.status != 503:
                    raise
                return False
            return (covered["complete"] and
                    covered["hosts_answered"] == len(self.parents))

        wait_until(whole, JOIN_S, "all hosts in the overlay")
        root.delete(path)
        for name in self.parents:
            agent = self.client(name)
            wait_until(lambda: len(agent.get("overlay/members", limit=1000)
                                   ["data"]) == len(self.parents),
                       JOIN_S, f"{name} knows all hosts")

    def clear_tasks(self):
        """Delete every task, the root's first, each where it was made."""
        def cleared(agent):
            for task in agent.get("tasks")["data"]:
                try:
                    agent.delete("tasks/" + task["id"])
                except LinnetError as e:
                    if e.status not in (404, 409):
                        raise
            return not agent.get("tasks")["data"]

        for name in self.parents:
            agent = self.client(name)
            wait_until(lambda: cleared(agent), JOIN_S, f"{name} without tasks")

    def _binary(self, kind):
        return self.build / kind / f"linnet-{kind}"

    def _start(self, name, kind, options):
        self.programs[name, kind] = Program(
            self.net[name], kind, [str(self._binary(kind))] + options,
            self.tmp / f"{name}-{kind}.log")

    def _start_monitor(self, name):
        self._start(name, "monitor", ["--user", str(MONITOR_UID),
                                      "--agent-user", str(AGENT_UID)])

    def _start_agent(self, name):
        state = self.tmp / (f"{name}-joining" if self.candidates
                            else f"{name}-state")
        if not state.exists():
            state.mkdir(0o700)
            os.chown(state, AGENT_UID, AGENT_UID)
        options = ["--insecure", "--listen", "0.0.0.0",
                   "--user", str(AGENT_UID), "--state-dir", str(state),
                   "--monitor-user", str(MONITOR_UID)]
        for child in self.children(name) if not self.candidates else []:
            options += ["--child", self.ip(child)]
        for candidate in self.candidates:
            options += ["--seed", self.ip(candidate),
                        "--root", self.ip(candidate)]
        if self.candidates:
            options += ["--fanout", str(FANOUT)]
        self._start(name, "agent", options)

    def _wait_ready(self, kind, names):
        for name in names:
            self.programs[name, kind].wait_ready()
            if kind == "agent":
                wait_until(self.client(name).ready, START_S,
                           f"{name}: {kind} ready")
