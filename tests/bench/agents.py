#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand agents on one machine: answers of the root, and what they cost.

Real agents, a process each, on loopback addresses of one namespace, as k-ary
heaps; the monitors behind them are one process that serves real sketches of
streams whose truth is known (tests/netns/stubmonitor.c).  Each answer must be
right; only complete ones are timed.  Beside the tree, in the same run: a client
that asks each agent for its own part, one after the other ("in turn", a new
connection each) and all at once ("star").

delay: milliseconds until a monitor answers: what a network or a busy host adds
to each exchange, and takes nobody's processor.

floor: processor time of all agents for one query, divided by the processors:
no order of the same work is faster on this machine.  model: D (RTT + k c) for
hosts that have their own processors, with RTT (a leaf asked for its own part)
and c (of an inner agent, for one child) as measured here.  Needs root.

  agents.py [-n 1000] [--fanout 8 16] [--delay 0 1] [--queries 60]
            [--layout child|list] [--json F]
"""
import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns"))

from lab import BUILD  # noqa: E402
from footprint import cpu_seconds, kib  # noqa: E402
from swarm import Swarm, complete  # noqa: E402

QUESTIONS = {"totals": "totals", "one key": "estimate?key=10.0.0.0",
             "heavy hitters": "top?n=10"}
GOALS = {"p50_ms": 500, "p99_ms": 1500, "over_floor": 1.5, "faster": 5}
IDLE_CORES, IDLE_PERCENT, PSS_KIB = 0.6, 0.1, 4096
CORES = os.cpu_count()
TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """Of all processors and everybody."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, words)
    return (user + nice + system + irq + softirq + steal) / TICKS


class Meter:
    """Processor time of the swarm while a body runs."""

    def __init__(self, swarm):
        self.swarm = swarm

    def _read(self):
        agents = [cpu_seconds(a.pid) for a in self.swarm.agents]
        return agents, cpu_seconds(self.swarm.monitors.pid)

    def __enter__(self):
        self._before = self._read()
        self._busy, self._self = busy_seconds(), time.process_time()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self._began
        busy = busy_seconds() - self._busy
        client = time.process_time() - self._self
        after = self._read()
        self.each = [b - a for a, b in zip(self._before[0], after[0])]
        self.agents = sum(self.each)
        self.monitors = after[1] - self._before[1]
        # what others did on this machine meanwhile, in processors
        self.others = max(0, (busy - self.agents - self.monitors - client) /
                          self.seconds)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def asked_apart(swarm, question, how, rounds, *options):
    """Milliseconds of each round in which all answered."""
    path = swarm.path(question)
    path += ("&" if "?" in path else "?") + "scope=host"
    done = swarm.host.run([BUILD / "tests/bench/asker", how, swarm.list_file,
                           path, rounds, *options], timeout=120)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [float(ms) for ms, n in rows if int(n) == swarm.n]


def child_cost_ms(swarm, meter, queries):
    """Of an inner agent for one child: what it costs beyond a leaf."""
    leaves = [c for i, c in enumerate(meter.each) if not swarm.children(i)]
    leaf = statistics.mean(leaves)
    inner = sum(c - leaf for i, c in enumerate(meter.each)
                if swarm.children(i))
    return 1000 * inner / (swarm.n - 1) / queries


def measure(swarm, name, question, queries):
    swarm.warm(question)
    taken, whole = [], 0
    with Meter(swarm) as meter:
        for _ in range(queries):
            reply = swarm.ask(question)
            if complete(reply):
                whole += 1
                taken.append(reply.seconds * 1000)
                swarm.check(question, reply)
    # each leaf once: an agent paces what it asks of its monitor
    leaf = [swarm.ask(question + ("&" if "?" in question else "?") +
                      "scope=host", swarm.n - 1 - i).seconds * 1000
            for i in range(min(50, swarm.n // 2))]
    turn = asked_apart(swarm, question, "turn", 2)
    star = asked_apart(swarm, question, "star", 3)
    row = {"question": name, "fanout": swarm.fanout, "delay_ms": swarm.delay,
           "depth": swarm.depth,
           "asked": queries, "complete": whole,
           "p50_ms": statistics.median(taken), "p99_ms": percentile(taken, .99),
           "agents_cpu_ms": 1000 * meter.agents / queries,
           "monitors_cpu_ms": 1000 * meter.monitors / queries,
           "others_cores": meter.others,
           "turn_ms": statistics.median(turn) if turn else None,
           "star_ms": statistics.median(star) if star else None,
           "c_ms": child_cost_ms(swarm, meter, queries),
           "rtt_ms": statistics.median(leaf)}
    row["floor_ms"] = row["agents_cpu_ms"] / CORES
    row["over_floor"] = row["p50_ms"] / row["floor_ms"]
    if turn:
        row["faster"] = row["turn_ms"] / row["p50_ms"]
    add_model(row, swarm)
    return row


def add_model(row, swarm):
    n, k, rtt, c = swarm.n, swarm.fanout, row["rtt_ms"], row["c_ms"]
    row["model_ms"] = swarm.depth * (rtt + k * c)
    row["model_star_ms"] = rtt + (n - 1) * c
    row["model_turn_ms"] = (n - 1) * (rtt + c)


def idle(swarm, seconds):
    with Meter(swarm) as meter:
        time.sleep(seconds)  # what is measured is this time of nothing
    pss = [kib(a.pid, "Pss") for a in swarm.agents]
    rss = [kib(a.pid, "Rss") for a in swarm.agents]
    fds = [(swarm.descriptors(i), 2 * len(swarm.children(i)) + 32)
           for i in range(swarm.n)]
    return {"fanout": swarm.fanout, "cores": meter.agents / meter.seconds,
            "mean_percent": 100 * statistics.mean(meter.each) / meter.seconds,
            "worst_percent": 100 * max(meter.each) / meter.seconds,
            "median_percent": 100 * statistics.median(meter.each) /
            meter.seconds,
            "monitors_cores": meter.monitors / meter.seconds,
            "others_cores": meter.others,
            "pss_max_kib": max(pss), "pss_median_kib": statistics.median(pss),
            "rss_max_kib": max(rss), "rss_median_kib": statistics.median(rss),
            "fds_max": max(n for n, _ in fds),
            "fds_over": sum(n > allowed for n, allowed in fds)}


def verdict(fine):
    return "pass" if fine else "MISS"


def report_head():
    print(f"{'question':14} {'k':>2} {'D':>1} {'delay':>5} {'whole':>7} "
          f"{'p50':>6} {'p99':>6} {'CPU':>6} {'floor':>6} {'p50/':>5} "
          f"{'in':>6} {'faster':>6} {'star':>6} | {'RTT':>5} {'c':>6} "
          f"{'tree':>6} {'turn':>6} {'star':>6} | {'others':>6}\n"
          f"{'':18} {'ms':>5} {'':7} {'ms':>6} {'ms':>6} {'ms':>6} "
          f"{'ms':>6} {'floor':>5} {'turn':>6} {'':6} {'':6} | {'ms':>5} "
          f"{'ms':>6} {'model':>6} {'model':>6} {'model':>6} | {'cores':>6}",
          flush=True)


def report(r):
    missed = [name for name, limit in GOALS.items() if name in r and
              (r[name] < limit if name == "faster" else r[name] > limit)]
    print(f"{r['question']:14} {r['fanout']:2} {r['depth']} "
          f"{r['delay_ms']:5g} {r['complete']:3}/{r['asked']:3} "
          f"{r['p50_ms']:6.0f} {r['p99_ms']:6.0f} {r['agents_cpu_ms']:6.0f} "
          f"{r['floor_ms']:6.0f} {r['over_floor']:5.2f} "
          f"{r['turn_ms'] or 0:6.0f} {r.get('faster', 0):6.1f} "
          f"{r['star_ms'] or 0:6.0f} | {r['rtt_ms']:5.2f} {r['c_ms']:6.3f} "
          f"{r['model_ms']:6.1f} {r['model_turn_ms']:6.0f} "
          f"{r['model_star_ms']:6.0f} | {r['others_cores']:6.2f}  "
          f"{'MISS ' + ', '.join(missed) if missed else 'pass'}",
          flush=True)


def report_idle(r, n):
    limit = IDLE_CORES * n / 1000
    print(f"idle: {r['cores']:.2f} cores in all (<= {limit:g} "
          f"{verdict(r['cores'] <= limit)}), an agent "
          f"{r['mean_percent']:.3f} % (<= {IDLE_PERCENT} "
          f"{verdict(r['mean_percent'] <= IDLE_PERCENT)}), one without "
          f"children {r['median_percent']:.3f}, the busiest "
          f"{r['worst_percent']:.3f}; monitors {r['monitors_cores']:.2f} "
          f"cores, others {r['others_cores']:.2f}\n"
          f"an agent's PSS {r['pss_median_kib'] / 1024:.1f} MiB, largest "
          f"{r['pss_max_kib'] / 1024:.1f} (<= {PSS_KIB / 1024:g} "
          f"{verdict(r['pss_max_kib'] <= PSS_KIB)}), RSS "
          f"{r['rss_median_kib'] / 1024:.1f}, largest "
          f"{r['rss_max_kib'] / 1024:.1f}; descriptors at most "
          f"{r['fds_max']}, {r['fds_over']} agents over 2 x children + 32 "
          f"{verdict(not r['fds_over'])}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--fanout", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--delay", type=float, nargs="+", default=[0, 1],
                        metavar="MS")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--idle", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--layout", choices=["child", "list"], default="child")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows, idles = [], []
    for fanout in args.fanout:
        began = time.monotonic()
        with Swarm(args.n, fanout, args.layout, args.delay[0],
                   seconds=120) as swarm:
            print(f"\n{args.n} agents, k = {fanout}: stand after "
                  f"{time.monotonic() - began:.0f} s", flush=True)
            idles.append(idle(swarm, args.idle))
            report_idle(idles[-1], args.n)
            report_head()
            for delay in args.delay:
                swarm.set_delay(delay)
                for name, question in QUESTIONS.items():
                    rows.append(measure(swarm, name, question, args.queries))
                    report(rows[-1])
    if args.json:
        args.json.write_text(json.dumps({"queries": rows, "idle": idles},
                                        indent=1))


if __name__ == "__main__":
    main()
