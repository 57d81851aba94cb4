#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements of a Mininet network whose truth is known.

Each scenario drives traffic through a tree of nine hosts, asks linnet, and
prints the answer beside the truth: what was sent, or what the kernel's own
counters of the receiving hosts say.  Exit status 0 only if all agree.
"""

import argparse
import ast
import contextlib
import json
import re
import signal
import sys
import time
from typing import NamedTuple

import anomalies
import sandbox
import traffic
from cluster import (JOIN_S, ROOT, Cluster, ClusterError, HostClient,
                     LinnetError, wait_until)

ROWS_SHOWN = 16
SETTLE_S = 5
DEADLINE_S = 2.0
SLACK_S = 0.5           # connecting and waking up on a busy machine
BANDWIDTH_TOLERANCE = 0.2
STEADY = 0.15
ROUNDS = 3              # that count, at least, of at most
ROUNDS_MAX = 15
LIMIT_MBIT = 400


class Result(NamedTuple):
    """A table of one scenario; the last cell of a row says if it is right."""
    columns: tuple
    rows: list
    notes: list = []

    @property
    def ok(self):
        return bool(self.rows) and all(row[-1] for row in self.rows)


def compare(what, unit, answer, truth):
    """A Result with a row for each key of either map."""
    rows = [(key, str(answer.get(key, "-")), str(truth.get(key, "-")),
             answer.get(key) == truth.get(key)) for key in truth | answer]
    return Result((what, f"linnet, {unit}", f"truth, {unit}"), rows)


def configure(agent, key, increment, **filters):
    """A legacy sketch with one counter, as fields for queries."""
    sketch = agent.ask("config sketch", interface="INPUT", **filters).value
    counter = {"sketch_id": sketch, "counter_key_type": key,
               "increment": increment}
    agent.ask("config sketch counter", **counter)
    return counter


def settled(ask):
    """Ask until every packet that matched is counted and return the answer."""
    def try_once():
        answer = ask()
        return answer.coverage.missed_packets == 0 and answer

    return wait_until(try_once, SETTLE_S, "all packets counted")


def coverage_note(coverage):
    return (f"merged from {coverage.answered} of {coverage.expected} hosts, "
            f"{coverage.missed_packets} packets missed")


# The scenarios.  Each takes the cluster and returns a Result.

def bandwidth(cluster):
    """Bandwidth from h5 to h6, against iperf3 in the same minute"""
    src, dst = "h5", "h6"
    agent = cluster.client(src)

    def ask():
        return agent.ask("query bw", src=cluster.ip(src), dst=cluster.ip(dst),
                         duration=1).value

    port = cluster.net[src].defaultIntf()
    server = cluster.net[dst].popen(["iperf3", "-s", "--forceflush"])
    try:
        while b"listening" not in server.stdout.readline():
            if server.poll() is not None:
                raise ClusterError("iperf3 does not start")
        rows = [steady("plain link", ask, cluster, src, dst)]
        with limited(port, LIMIT_MBIT):
            rows.append(steady(f"link of {LIMIT_MBIT} Mbit/s", ask, cluster,
                               src, dst))
    finally:
        server.kill()
        server.communicate()
    return Result((f"{src} -> {dst}", "linnet, MBytes/s", "iperf3, MBytes/s",
                   "ratio"), rows,
                  ["the middle one of the rounds in which iperf3, asked "
                   "before and after, agreed with itself"])


def steady(what, ask, cluster, src, dst):
    """A row with the middle one of all rounds in which the truth stood still:
    other work on the machine changes what a link without limit carries.
    Rounds are added until it is right, so that only a lasting difference
    counts, and noise does not."""
    found = []
    before = iperf3(cluster, src, dst)
    for _ in range(ROUNDS_MAX):
        answer = ask()
        after = iperf3(cluster, src, dst)
        truth = (before + after) / 2
        if abs(after - before) <= STEADY * truth:
            found.append((answer / truth, answer, truth))
        before = after
        if len(found) < ROUNDS:
            continue
        ratio, answer, truth = sorted(found)[len(found) // 2]
        right = abs(ratio - 1) <= BANDWIDTH_TOLERANCE
        if right:
            break
    if len(found) < ROUNDS:
        return what, "-", "never steady", "-", False
    return what, f"{answer:g}", f"{truth:.1f}", f"{ratio:.2f}", right


@contextlib.contextmanager
def limited(port, mbit):
    """A limit on what a port sends, for the time of the block."""
    port.cmd("tc", "qdisc", "add", "dev", port.name, "root", "tbf",
             "rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms")
    try:
        yield
    finally:
        port.cmd("tc", "qdisc", "del", "dev", port.name, "root")


def iperf3(cluster, src, dst):
    """MBytes/s (2^20) that iperf3's receiver got in a second."""
    process = cluster.net[src].popen(
        ["iperf3", "-J", "-t", "1", "-c", cluster.ip(dst)])
    out, _ = process.communicate()
    end = json.loads(out)["end"]
    return end["sum_received"]["bits_per_second"] / 8 / (1 << 20)


def hitters(cluster):
    """Heavy hitters of h5 after each host pinged each other"""
    agent = cluster.client("h5")
    counter = configure(agent, "src", "pkt", proto="icmp")
    traffic.ping_all(cluster)
    answer = settled(lambda: agent.ask("query heavy hitters", **counter))
    truth = {node.IP(): 2 for node in cluster.net.hosts if node.name != "h5"}
    return compare("source", "packets", answer.value, truth)


def talkers(cluster):
    """Heavy hitters of the network: sources of over 10 % of its UDP bytes"""
    datagrams = [("h3", "h5", 300), ("h6", "h2", 40), ("h1", "h9", 200),
                 ("h3", "h8", 150), ("h7", "h4", 30), ("h9", "h6", 260),
                 ("h8", "h3", 20)]
    root = cluster.client(cluster.root)
    counter = configure(root, "src", "byte", proto="udp")
    for flow in datagrams:
        traffic.udp(cluster, *flow)
    answer = settled(lambda: root.ask("query heavy hitters",
                                      hitter_base="tree", **counter))
    sent = {}
    for src, _, count in datagrams:
        length = count * (traffic.UDP_PAYLOAD + traffic.UDP_HEADERS)
        sent[cluster.ip(src)] = sent.get(cluster.ip(src), 0) + length
    total = sum(sent.values())
    truth = {ip: n for ip, n in sorted(sent.items(), key=lambda i: -i[1])
             if n > total / 10}
    result = compare("source", "bytes", answer.value, truth)
    ordered = list(answer.value) == list(truth)
    return result._replace(
        rows=result.rows + [("largest first", "yes" if ordered else "no",
                             "yes", ordered)],
        notes=[coverage_note(answer.coverage)])


def pings(cluster):
    """Flow sizes of the network: each host pings each other"""
    root = cluster.client(cluster.root)
    counter = configure(root, "src_dst", "bytes", proto="icmp")
    traffic.ping_all(cluster)
    answer = settled(lambda: root.ask("query heavy hitters", **counter))
    # A request and a reply of 84 bytes; h1 has no monitor.
    truth = {f"{src.IP()},{cluster.ip(dst)}": 168 for src in cluster.net.hosts
             for dst in cluster.parents if src.name != dst}
    return compare("flow", "bytes", answer.value, truth)._replace(
        notes=[coverage_note(answer.coverage)])


def flows(cluster):
    """Flow sizes of the network: TCP and UDP, against the kernel's counters"""
    udp = [("h3", "h5", 200), ("h1", "h9", 120), ("h8", "h2", 64),
           ("h5", "h3", 10)]
    tcp = [("h3", "h5", 3_000_000), ("h6", "h2", 1_000_000),
           ("h1", "h7", 500_000), ("h9", "h1", 250_000), ("h4", "h8", 1)]
    root = cluster.client(cluster.root)
    counters = {p: configure(root, "src_dst", "byte", proto=p)
                for p in ("udp", "tcp")}
    with traffic.Counters(cluster, counters) as kernel:
        for flow in udp:
            traffic.udp(cluster, *flow)
        for flow in tcp:
            traffic.tcp(cluster, *flow)
        answers = {p: quiet(root, kernel, p, c) for p, c in counters.items()}
    rows = []
    for proto, (answer, seen) in answers.items():
        for key in seen | answer.value:
            rows.append((f"{proto} {key}", str(answer.value.get(key, "-")),
                         str(seen.get(key, "-")),
                         answer.value.get(key) == seen.get(key)))
    # The kernel's counts are themselves checked against what was sent.
    for src, dst, count in udp:
        key = f"{cluster.ip(src)},{cluster.ip(dst)}"
        sent = count * (traffic.UDP_PAYLOAD + traffic.UDP_HEADERS)
        rows.append((f"sent, udp {key}",
                     str(answers["udp"][0].value.get(key, "-")), str(sent),
                     answers["udp"][0].value.get(key) == sent))
    return Result(("flow", "linnet, bytes", "kernel, bytes"), rows,
                  [coverage_note(answers["tcp"][0].coverage)])


def quiet(root, kernel, proto, counter):
    """An answer and the kernel's bytes between which nothing came in."""
    def try_once():
        before = kernel.read(proto)
        answer = settled(lambda: root.ask("query heavy hitters",
                                          hitter_threshold=0, **counter))
        if kernel.read(proto) != before:
            return None
        return answer, {key: n for key, (_, n) in before.items()}

    return wait_until(try_once, SETTLE_S, "the end of the traffic")


def scan(cluster):
    """A port scan of h5 by h6, reported by examples/port_scan.py"""
    ports, seconds = (8008, 8092), 4
    out, errors = example(
        cluster, ["port_scan.py", cluster.ip("h5"), "--seconds", str(seconds)],
        lambda: traffic.scan_ports(cluster, "h6", "h5", *ports))
    reports = [ast.literal_eval(line.partition("detected.")[2].strip())
               for line in out.splitlines()]
    rows = compare("scanner", "ports", reports[0] if reports else {},
                   {cluster.ip("h6"): ports[1] - ports[0] + 1}).rows
    rows.append(("reports", str(len(reports)), "1", len(reports) == 1))
    return Result(("scanner", "linnet, ports", "truth, ports"), rows,
                  [errors[-500:]] if errors else [])


def example(cluster, argv, during=None):
    """Run a script of examples/ at the controller, and during() once it has
    printed its first line.  What it printed after that, and its errors."""
    path = str(ROOT / "examples" / argv[0])
    script = cluster.controller.popen([path] + argv[1:])
    if during and script.stdout.readline():
        during()
    try:
        out, errors = script.communicate(timeout=JOIN_S)
    finally:
        script.kill()
    return out.decode(), errors.decode().strip()


def examples(cluster):
    """The scripts of examples/, started by a user at h1"""
    def pings():
        traffic.ping_all(cluster)

    def port_scan():
        traffic.scan_ports(cluster, "h6", "h5", 8008, 8092)

    src, dst, root = (cluster.ip(n) for n in ("h5", "h6", cluster.root))
    hitters = [f"2 {node.IP()}" for node in cluster.net.hosts
               if node.IP() != src]
    flows = [f"168 {a.IP()} -> {cluster.ip(b)}" for a in cluster.net.hosts
             for b in cluster.parents if a.name != b]
    rows, notes = [], []

    def check(argv, wanted, during=None):
        out, errors = example(cluster, argv, during)
        lines = [" ".join(line.split()) for line in out.splitlines()]
        good = len(lines) == len(wanted) and all(map(re.fullmatch, wanted,
                                                     lines))
        rows.append((" ".join(argv), lines[-1] if lines else "-",
                     f"{len(wanted)} lines", good))
        if errors:
            notes.append(errors[-500:])

    check(["bandwidth.sh", src, dst], [r"\d{2,}|\d\.\d\d"])
    check(["bandwidth.py", src, dst, "--seconds", "1"],
          [rf"{src} -> {dst}: [\d.]+ MBytes/s"])
    check(["heavy_hitters.py", src, "--proto", "icmp", "--seconds", "2"],
          hitters + ["hosts that answered: 1/1"], pings)
    check(["heavy_hitters.sh", src, "icmp", "2"], hitters, pings)
    check(["flow_sizes.py", root, "--proto", "icmp", "--seconds", "2"],
          flows + ["64 flows, 8 of 8 hosts, 0 packets missed"], pings)
    check(["flow_sizes.sh", root, "icmp", "2"],
          flows + ["X-Linnet-Missed-Packets: 0", "X-Linnet-Answered: 8/8"],
          pings)
    check(["port_scan.py", src, "--seconds", "4"],
          [rf"portscan detected. {{'{dst}': 85}}"], port_scan)
    check(["port_scan.sh", src, "4"], [f"portscan detected. {dst} 85"],
          port_scan)
    return Result(("script", "its last line", "expected"), rows, notes)


def failure(cluster):
    """Killing each agent in turn: who is missing, and what is left"""
    root = cluster.client(cluster.root, timeout=DEADLINE_S)
    counter = configure(root, "src_dst", "pkt", proto="icmp")
    traffic.ping_all(cluster)

    def ask():
        return root.ask("query heavy hitters", **counter)

    whole = settled(ask).value
    rows = [("none", "-", "-", "0.00", len(whole) == 64)]
    for victim in cluster.subtree(cluster.root)[1:]:
        lost = {cluster.ip(n): "behind" for n in cluster.subtree(victim)}
        lost[cluster.ip(victim)] = "unreachable"
        left = {key: n for key, n in whole.items()
                if key.split(",")[1] not in lost}
        cluster.kill_agent(victim)
        begin = time.monotonic()
        answer = ask()
        took_s = time.monotonic() - begin
        cluster.restart_agent(victim)
        wait_until(lambda: ask().value == whole, JOIN_S,
                   f"{victim} back with its counts")
        rows.append((victim, names(cluster, answer.coverage.missing),
                     names(cluster, lost), f"{took_s:.2f}",
                     answer.coverage.missing == lost
                     and not answer.coverage.complete
                     and answer.value == left
                     and took_s <= DEADLINE_S + SLACK_S))
    return Result(("killed", "linnet, missing", "truth, missing", "seconds"),
                  rows, ["each was restarted and had its tasks again"])


CANDIDATES = ["h2", "h4", "h7"]
REPAIR_S = 5            # the tree goes round who is lost
TAKE_OVER_S = 6         # another root answers
HEAL_S = 10             # all are in one tree again
CUT_S = 10              # how long a link is down


def overlay(cluster, **_):
    """A tree that repairs itself: agents killed, stopped, cut off by a link"""
    cluster.regroup(CANDIDATES)
    try:
        steps = prepared(cluster)
        steps.all()
    finally:
        cluster.net.configLinkStatus("s1", "s4", "up")
        cluster.regroup()
    return Result(("what", "root", "truth", "seconds"), steps.rows,
                  ["seconds until a root said so; what it said before lacked "
                   "hosts, and counted none twice"])


def prepared(cluster, tries=3):
    """What is compared later is exact: on a busy machine packets may be
    missed, which the answers say; then it begins anew."""
    while True:
        tries -= 1
        try:
            return Repairs(cluster)
        except ClusterError:
            if not tries:
                raise
            cluster.clear_tasks()


class Repairs:
    """What the roots said at each step, beside what was so."""

    def __init__(self, cluster):
        self.cluster, self.hosts = cluster, set(cluster.parents)
        where = {name: cluster.controller for name in CANDIDATES}
        where["h7"] = cluster.net["h8"]     # on its side of the link
        self.agents = {name: HostClient(node, cluster.ip(name),
                                        timeout=DEADLINE_S)
                       for name, node in where.items()}
        root = self.agents[CANDIDATES[0]]
        self.counter = configure(root, "src_dst", "pkt", proto="icmp")
        self.task = root.post("tasks", {"key": "src"})["data"]
        wait_until(lambda: self.held(root), SETTLE_S, "all have the tasks")
        traffic.ping_all(cluster)
        self.whole = settled(lambda: root.ask("query heavy hitters",
                                              **self.counter)).value
        self.rows = []

    def held(self, root):
        """By every host: what comes before that may be missed."""
        task = root.get(f"tasks/{self.task['id']}/totals")
        counter = root.ask("query heavy hitters", **self.counter)
        return (task["meta"]["coverage"]["complete"]
                and counter.coverage.complete)

    @staticmethod
    def is_root(agent):
        with contextlib.suppress(LinnetError, OSError):
            return agent.get("overlay")["data"]["role"] == "root"

    def root(self):
        """Its name and its client."""
        return wait_until(lambda: next((item for item in self.agents.items()
                                        if self.is_root(item[1])), None),
                          HEAL_S, "a root")

    def all(self):
        """Each step; one that cannot be taken is a wrong row, the last."""
        try:
            self.row("all are there", self.hosts, 1)
            self.inner_lost()
            self.cut_off()
            self.root_lost()
        except (ClusterError, LinnetError, OSError) as e:
            self.rows.append(("then", str(e), "-", "-", False))

    def ask(self, agent):
        """An answer of a root, or None."""
        with contextlib.suppress(LinnetError, OSError):
            if self.is_root(agent):
                return agent.ask("query heavy hitters", **self.counter)
        return None

    def right(self, answer, there):
        c, cluster = answer.coverage, self.cluster
        gone = {cluster.ip(name) for name in self.hosts - there}
        left = {key: n for key, n in self.whole.items()
                if cluster.name_of(key.split(",")[1]) in there}
        return (answer.value == left and c.complete == (not gone)
                and (c.answered, c.expected) == (len(there), len(self.hosts))
                and set(c.missing) == gone)

    def possible(self, answer):
        """Each host is in it once or not at all, and it knows of how many."""
        there = {key.split(",")[1] for key in answer.value}
        left = {key: n for key, n in self.whole.items()
                if key.split(",")[1] in there}
        c = answer.coverage
        return (answer.value == left and c.answered == len(there)
                and not there & set(c.missing)
                and (not c.complete or len(there) == len(self.hosts)))

    def row(self, what, there, limit_s, asked=CANDIDATES, begin=None):
        """Ask until it is the answer of the hosts that are there."""
        begin = begin or time.monotonic()
        took_s, said = None, "-"
        while took_s is None and time.monotonic() < begin + 2 * HEAL_S:
            for answer in filter(None, map(self.ask, map(self.agents.get,
                                                         asked))):
                c = answer.coverage
                said = (f"{c.answered}/{c.expected} "
                        f"{'complete' if c.complete else 'partial'} "
                        + names(self.cluster, c.missing))
                if not self.possible(answer):
                    self.rows.append((what, said, "impossible", "-", False))
                if self.right(answer, there):
                    took_s = time.monotonic() - begin
                    break
        gone = " ".join(sorted(self.hosts - there)) or "nobody"
        self.rows.append((what, said,
                          f"{len(there)}/{len(self.hosts)} without {gone}",
                          "-" if took_s is None else f"{took_s:.2f}",
                          took_s is not None and took_s <= limit_s))

    def stays(self, what, sides, until):
        """Until then each root answers for the hosts of its side."""
        right = []

        def over():
            for name, there in sides.items():
                answer = self.ask(self.agents[name])
                right.append(bool(answer and self.right(answer, there)))
            return time.monotonic() >= until

        wait_until(over, 2 * CUT_S, what)
        self.rows.append((what, f"{sum(right)} right", f"{len(right)} asked",
                          "-", all(right)))

    def inner_lost(self):
        cluster, root = self.cluster, self.agents[CANDIDATES[0]]
        victim = inner_hosts(cluster, root)[0]
        cluster.kill_agent(victim)
        self.row(f"{victim} killed", self.hosts - {victim}, REPAIR_S)
        cluster.restart_agent(victim)
        self.row("started again", self.hosts, HEAL_S)
        victim = inner_hosts(cluster, root)[-1]
        process = cluster.programs[victim, "agent"].process
        process.send_signal(signal.SIGSTOP)
        self.row(f"{victim} stopped", self.hosts - {victim}, REPAIR_S)
        process.send_signal(signal.SIGCONT)
        self.row("goes on", self.hosts, HEAL_S)

    def cut_off(self):
        side = {"h7", "h8", "h9"}
        self.cluster.net.configLinkStatus("s1", "s4", "down")
        cut = time.monotonic()
        self.row("h7-h9 cut off: h2", self.hosts - side, REPAIR_S, ["h2"])
        self.row("and h7", side, TAKE_OVER_S, ["h7"], cut)
        self.stays("both, 10 s long", {"h2": self.hosts - side, "h7": side},
                   cut + CUT_S)
        self.cluster.net.configLinkStatus("s1", "s4", "up")
        self.row("link is up", self.hosts, HEAL_S)

    def root_lost(self):
        """A controller sends its task again, and there is none twice."""
        victim, root = self.root()
        before = task_ids(root)
        self.cluster.kill_agent(victim)
        self.row(f"{victim}, the root, killed", self.hosts - {victim},
                 TAKE_OVER_S)
        self.cluster.restart_agent(victim)
        self.row("started again", self.hosts, HEAL_S)
        _, root = self.root()
        root.put("tasks/" + self.task["id"], self.task)
        after = task_ids(root)
        self.rows.append(("a task sent again", " ".join(after),
                          " ".join(before), "-", after == before))


def task_ids(agent):
    return sorted(task["id"] for task in agent.get("tasks")["data"])


def inner_hosts(cluster, root):
    """Names of those that have children, but the root."""
    members = root.get("overlay/members", limit=1000)["data"]
    above = {m["parent"] for m in members}
    return [cluster.name_of(m["host"]) for m in members
            if m["node_id"] in above and m["parent"]]


def names(cluster, missing):
    return " ".join(f"{cluster.name_of(ip)}={reason}"
                    for ip, reason in sorted(missing.items()))


def totals(cluster):
    """Totals of the network, asked in four ways"""
    root = cluster.client(cluster.root)
    plain = {"interface": "INPUT", "proto": "icmp"}
    root.ask("config counter", **plain)
    packets = configure(root, "src_dst", "pkt", proto="icmp")
    length = configure(root, "dst", "byte", proto="icmp")
    with traffic.Counters(cluster, ["icmp"]) as kernel:
        traffic.ping_all(cluster)
        counter = settled(lambda: root.ask("query counter", **plain)).value
        by_pair = root.ask("query heavy hitters", **packets).value
        by_host = root.ask("query heavy hitters", **length).value
        seen = kernel.read("icmp").values()
    task = [t["id"] for t in root.get("tasks")["data"]
            if t["sketch_id"] == length["sketch_id"] and t["key"] == "dst"][0]
    total = root.get(f"tasks/{task}/totals")["data"]
    truth = sum(n for n, _ in seen), sum(n for _, n in seen)
    rows = [("plain counter, packets", counter[0], truth[0]),
            ("plain counter, bytes", counter[1], truth[1]),
            ("sum of pairs, packets", sum(by_pair.values()), truth[0]),
            ("sum of hosts, bytes", sum(by_host.values()), truth[1]),
            ("task totals, packets", total["packets"], truth[0]),
            ("task totals, bytes", total["bytes"], truth[1]),
            ("sent, packets", 2 * 8 * 8, truth[0]),
            ("sent, bytes", 2 * 8 * 8 * 84, truth[1])]
    return Result(("total", "linnet", "kernel"),
                  [(what, str(a), str(b), a == b) for what, a, b in rows])


def msnm(cluster, window=10, rows=50, minutes=10, seed=1):
    """Anomalies: a port scan, an exfiltration, a flood, and quiet minutes"""
    def say(text):
        print("   " + text, file=sys.stderr, flush=True)

    found, notes = anomalies.run(cluster, window, rows, minutes, seed, say)
    return Result(("what", "linnet", "truth"), found, notes)


SCENARIOS = {f.__name__: f for f in (bandwidth, hitters, talkers, pings,
                                     flows, scan, examples, failure, totals)}
LONG = {f.__name__: f for f in (overlay, msnm)}     # only by name


def show(result):
    """Print the table: wrong rows always, right ones up to ROWS_SHOWN."""
    wrong = [row for row in result.rows if not row[-1]]
    right = [row for row in result.rows if row[-1]]
    shown = (wrong + right)[:max(len(wrong), ROWS_SHOWN)]
    table = [result.columns + ("",)]
    table += [row[:-1] + ("ok" if row[-1] else "WRONG",) for row in shown]
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:-1], widths[1:])]
        print("   " + "  ".join(cells + [row[-1]]).rstrip())
    if len(shown) < len(result.rows):
        print(f"   … and {len(result.rows) - len(shown)} more rows, all ok")
    for note in result.notes:
        print("   " + note)


def run(cluster, name, as_json, **options):
    """Run one scenario, print its result, leave no task behind."""
    function = (SCENARIOS | LONG)[name]
    if not as_json:
        print(f"\n== {function.__doc__}", flush=True)
    begin, error = time.monotonic(), None
    try:
        result = function(cluster, **options if name in LONG else {})
        cluster.clear_tasks()
    except (ClusterError, LinnetError, OSError, RuntimeError, ValueError) as e:
        result = Result((), [])
        error = f"{type(e).__name__}: {e}"
    if as_json:
        print(json.dumps({"name": name, "ok": result.ok, "error": error,
                          "wrong": [r for r in result.rows if not r[-1]],
                          "notes": result.notes}), flush=True)
        return result.ok
    if error:
        print("   " + error)
    else:
        show(result)
    print(f"   {'agrees' if result.ok else 'DOES NOT AGREE'} "
          f"({time.monotonic() - begin:.1f} s)", flush=True)
    return result.ok


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME",
                   help=f"of {', '.join(SCENARIOS)} (all these); or overlay, "
                   "half a minute, and msnm, over half an hour")
    p.add_argument("--window", type=int, default=10, help="msnm: seconds of "
                   "an interval (10; less where the build has test_hooks)")
    p.add_argument("--rows", type=int, default=50,
                   help="msnm: intervals that a host learns from (50)")
    p.add_argument("--minutes", type=float, default=10,
                   help="msnm: quiet minutes at the end (10)")
    p.add_argument("--seed", type=int, default=1,
                   help="msnm: of the traffic between the hosts (1)")
    p.add_argument("--build", help="build directory (build/)")
    p.add_argument("--json", action="store_true",
                   help="one object for each scenario instead of tables")
    args = p.parse_args()
    unknown = set(args.names) - SCENARIOS.keys() - LONG.keys()
    if unknown:
        p.error(f"no such scenario: {' '.join(unknown)}")
    tmp = sandbox.enter()
    try:
        cluster = Cluster(tmp, build=args.build or ROOT / "build")
    except ClusterError as e:
        sys.exit(str(e))
    try:
        if not args.json:
            print("starting 9 hosts, 8 of them with linnet ...", flush=True)
        cluster.start()
        results = [run(cluster, name, args.json, window=args.window,
                       rows=args.rows, minutes=args.minutes, seed=args.seed)
                   for name in args.names or SCENARIOS]
    except ClusterError as e:
        sys.exit(str(e))
    finally:
        cluster.stop()
    if not args.json:
        print(f"\n{sum(results)} of {len(results)} agree")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
