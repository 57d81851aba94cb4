#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What capture costs: throughput with each reader ÷ throughput without one.

Two hosts in namespaces joined by a veth pair.  A block runs every arm once in
a shuffled order; the figure of an arm is the median over the blocks of its
ratio to the bare arm of the same block.  Needs root, and a build with
-Dbench=true in LINNET_BUILD.

  capture.py [--blocks 7] [--seconds 3] [--arms rule,naive,nfqueue]
             [--loads tcp,udp,flood,lossless] [--json F]
"""
import argparse
import contextlib
import json
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "netns"))

from ctl import BYTE, Control, task  # noqa: E402
from lab import BUILD, Lab, wait_until  # noqa: E402

QUEUE = 7000
PASS = {("nfqueue", "tcp"): 0.85, ("nfqueue", "udp"): 0.65}


@contextlib.contextmanager
def arm_bare(host):
    yield lambda: {}


@contextlib.contextmanager
def rule(host):
    """The rule of a naive set-up: everything that comes in."""
    spec = ["INPUT", "!", "-i", "lo", "-j", "NFQUEUE", "--queue-num", QUEUE,
            "--queue-bypass"]
    host.run(["iptables-nft", "-t", "mangle", "-A", *spec])
    try:
        yield
    finally:
        host.run(["iptables-nft", "-t", "mangle", "-D", *spec])


@contextlib.contextmanager
def arm_rule(host):
    with rule(host):
        yield lambda: {}


@contextlib.contextmanager
def arm_naive(host, *args):
    with rule(host):
        reader = host.start([BUILD / "tests/bench/naive", QUEUE, *args])
        wait_until(lambda: "ready" in reader.log(), 5, "the naive reader")
        yield lambda: {}
        reader.kill()


def arm_naive_gso(host):
    return arm_naive(host, "-g")


@contextlib.contextmanager
def arm_floor(host):
    """The system calls of linnet-monitor without linnet-monitor."""
    with rule(host):
        reader = host.start([BUILD / "tests/bench/floor", QUEUE])
        wait_until(lambda: "ready" in reader.log(), 5, "the floor")
        yield lambda: {}
        reader.kill()


def queue_drops(host):
    """Packets that the queue dropped, and messages that it could not send."""
    text = host.run(["cat", "/proc/self/net/netfilter/nfnetlink_queue"]).stdout
    return sum(int(n) for n in text.split()[5:7])


@contextlib.contextmanager
def arm_nfqueue(host):
    """linnet-monitor with the default sketches on all that comes in."""
    monitor = host.monitor(instance="bench")
    with Control(host, "bench") as client:
        client.put(task(1, key="src_dst", increment=BYTE))

        def loss():
            stats = client.stats()
            matched, got = stats.matched[0], stats.received[0]
            return {"missed": matched.packets - got.packets,
                    "dropped": queue_drops(host)}

        yield loss
    monitor.stop()


ARMS = {"bare": arm_bare, "rule": arm_rule, "naive": arm_naive,
        "naive-g": arm_naive_gso, "floor": arm_floor, "nfqueue": arm_nfqueue}


def tcp(src, dst, seconds):
    """Bytes per second that one iperf3 stream carries.

    CUBIC, the default of Debian: BBR takes its window from the round trip of
    an idle host, 6 us here, and then measures that, not the host.
    """
    server = dst.start(["iperf3", "-s", "-1", "-p", 5300, "--forceflush"])
    wait_until(lambda: "listening" in server.log(), 5, "iperf3 server")
    done = src.run(["iperf3", "-c", dst.ip4, "-p", 5300, "-t", seconds, "-J",
                    "-C", "cubic"], timeout=seconds + 30)
    server.wait(10)
    return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 8


def udp(src, dst, seconds):
    """64-byte datagrams per second of iperf3, a call each, that arrive."""
    server = dst.start(["iperf3", "-s", "-1", "-p", 5302, "--forceflush"])
    wait_until(lambda: "listening" in server.log(), 5, "iperf3 server")
    done = src.run(["iperf3", "-c", dst.ip4, "-p", 5302, "-t", seconds, "-J",
                    "-u", "-b", 0, "-l", 64, "-w", "4M"], timeout=seconds + 30)
    server.wait(10)
    end = json.loads(done.stdout)["end"]["sum"]
    return (end["packets"] - end["lost_packets"]) / end["seconds"]


def datagrams(src, dst, seconds, *rate):
    """64-byte datagrams: how many were sent, how many arrived."""
    sink = dst.start([BUILD / "tests/bench/udpflood", "recv", dst.ip4, 5301])
    wait_until(lambda: "ready" in sink.log(), 5, "udp sink")
    done = src.run([BUILD / "tests/bench/udpflood", "send", dst.ip4, 5301,
                    seconds, *rate])
    sink.stop()
    return int(done.stdout), int(sink.log().split()[-1])


def flood(src, dst, seconds):
    """64-byte datagrams per second of a sender that batches, that arrive."""
    return datagrams(src, dst, seconds)[1] / seconds


def lossless(src, dst, seconds):
    """The highest rate of 64-byte datagrams, a call each, without a loss."""
    low, high = 20e3, 2e6

    def carried(rate):
        for _ in range(2):  # a moment of another process's is no answer
            sent, got = datagrams(src, dst, seconds / 4, rate)
            if got == sent and sent > 0.98 * rate * seconds / 4:
                return True
        return False

    while high > 1.03 * low:
        rate = (low * high) ** 0.5
        low, high = (rate, high) if carried(rate) else (low, rate)
    return low


LOADS = {"tcp": tcp, "udp": udp, "flood": flood, "lossless": lossless}


def run(lab, arms, loads, blocks, seconds, seed):
    order = random.Random(seed)
    a, b = lab.hosts
    rows = []
    for block in range(blocks):
        for load in loads:
            drive = LOADS[load]
            for arm in order.sample(arms, len(arms)):
                with ARMS[arm](b) as after:
                    rate = drive(a, b, seconds)
                    extra = after()
                rows.append({"block": block, "load": load, "arm": arm,
                             "rate": rate, **extra})
                print(f"block {block} {load} {arm:8} {rate:14.0f}/s "
                      f"{extra or ''}", file=sys.stderr, flush=True)
    return rows


def report(rows, arms, loads):
    print(f"{'arm':10} {'load':9} {'median':>7} {'min':>7} {'max':>7} "
          f"{'missed':>7} {'dropped':>7}  goal")
    for load in loads:
        for arm in arms:
            mine = [r for r in rows if r["load"] == load and r["arm"] == arm]
            base = {r["block"]: r["rate"] for r in rows
                    if r["load"] == load and r["arm"] == "bare"}
            ratio = sorted(r["rate"] / base[r["block"]] for r in mine)
            goal = PASS.get((arm, load))
            median = statistics.median(ratio)
            lost = [sum(r[k] for r in mine) if k in mine[0] else "-"
                    for k in ("missed", "dropped")]
            verdict = "" if goal is None else \
                f"{goal} {'pass' if median >= goal else 'MISS'}"
            print(f"{arm:10} {load:9} {median:7.3f} {ratio[0]:7.3f} "
                  f"{ratio[-1]:7.3f} {lost[0]:>7} {lost[1]:>7}  {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    arms = [a for a in args.arms.split(",") if a in ARMS]
    if "bare" not in arms:
        arms.insert(0, "bare")
    loads = [x for x in args.loads.split(",") if x in LOADS]
    with Lab(2) as lab:
        rows = run(lab, arms, loads, args.blocks, args.seconds, args.seed)
    report(rows, arms, loads)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
