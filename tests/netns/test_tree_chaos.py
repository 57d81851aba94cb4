#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""T58: every two seconds something else happens to a tree of eight hosts with
real traffic, and all that is said and done meanwhile is judged.

    test_tree_chaos.py --seed N --seconds 900

plays one seed, with --mininet in a network of Mininet's; several may run side
by side.  The default tests play each kind of fault once.  A failure prints the
command that plays its schedule again.
"""
import argparse
import calendar
import collections
import contextlib
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import sandbox  # noqa: E402
from chaos import CANDIDATES, NO_ANSWER, Fault, World
from chaos_judge import judge, toothless
from chaos_schedule import EVERY_S, KINDS, schedule
from chaos_traffic import Traffic
from ctl import Control
from lab import CRASHES, SANITIZER, Lab, children_of, executable, \
    rules_normal, wait_until
from traffic import readers_of

HOSTS, HOSTS_LEAST = 8, 4     # of fewer there is none for some faults
BUDGET_S, WHOLE_S = 2, 10
ANSWERS_A_SECOND = 7
GROWN_KIB = 3 << 10  # what an agent keeps for lists, once it was the root
HELPERS = re.compile(r"linnet-monitor|xtables-nft-multi|ip6?tables.*")
CRASH_WORDS = re.compile(
    r"\w+Sanitizer|runtime error: |[Aa]ssert|stack smashing|corrupted|"
    r"double free|signal (4|6|7|8|11|31)\b")


def say(*what):
    print(*what, flush=True)


class Clerk(threading.Thread):
    """Something that is done again and again, until it is stopped."""

    def __init__(self, world, period):
        super().__init__(daemon=True)
        self.world, self.period = world, period
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(self.period):
            # whoever is asked may be dead, or cut off
            with contextlib.suppress(*NO_ANSWER):
                try:
                    self.once()
                except (AssertionError, ValueError, KeyError, TypeError,
                        AttributeError) as e:
                    # a stranger says anything
                    if not self.world.strange() or \
                            not isinstance(e, ValueError):
                        self.world.errors.append(
                            f"{type(self).__name__}: {e!r}")

    def stop(self):
        self.ended.set()
        self.join()


def thrown_away():
    """Packets that the kernel could not take, in all namespaces."""
    return sum(int(line.split()[1], 16) for line in
               Path("/proc/net/softnet_stat").read_text().splitlines())


class Stalls(Clerk):
    """When this machine did not run who was due, or threw packets away."""

    def run(self):
        last, drops = time.monotonic(), thrown_away()
        while not self.ended.wait(0.05):
            now, more = time.monotonic(), thrown_away()
            if more != drops:
                self.world.history.drops.append(now)
            drops = more
            if now - last > 0.12:
                self.world.history.stalls.append((last + 0.05, now))
            last = now


class Controller(Clerk):
    """Asks one candidate while it is the root."""

    def __init__(self, world, i):
        super().__init__(world, 1 / ANSWERS_A_SECOND)
        self.i, self.term, self.due = i, None, 0
        self.asked, self.statuses = itertools.count(i), collections.Counter()

    def _get(self, path, timeout=BUDGET_S + 1.5):
        r = self.world.call(self.i, "GET", path, timeout=timeout)
        for name, token in self.world.tokens.items():
            assert token not in r.text + str(r.headers), f"{name}'s token"
        for seed in self.world.seeds:
            assert seed not in r.text, "the seed of a task"
        return r

    def _role(self):
        """The term in which it is the root, or None."""
        r = self._get("/api/v1/overlay")
        if r.status != 200 or r.json()["data"]["role"] != "root":
            return None
        return r.json()["data"]["epoch_text"].split(".")[0]

    def _silent(self, began):
        self.world.history.rows.append({
            "what": "silence", "host": self.world.addresses[self.i],
            "began": began, "ended": time.monotonic()})

    def once(self):
        if time.monotonic() < self.due:
            return
        began = time.monotonic()
        try:
            before = self.term or self._role()
            self.term = None
            if before is None:
                self.due = time.monotonic() + 0.5
                return
            what, question, read = self._question()
            asked = time.monotonic()
            reply = self._get(question)
            answered = time.monotonic()
            self.term = self._role()
        except NO_ANSWER:
            self.term = None
            self._silent(began)
            return
        self.statuses[reply.status] += 1
        if self.term == before and reply.status == 200:
            row = self._row(what, asked, answered, reply, read)
            if row["complete"] and row["answered"] < len(self.world.nodes):
                with contextlib.suppress(*NO_ANSWER):  # who it is without
                    row["members"] = self._get(
                        "/api/v1/overlay/members?limit=100").text
            self.world.history.rows.append(row)
        elif self.term == before and reply.status not in (503, 404):
            self.world.errors.append(f"{question}: {reply.status} {reply.text}")

    def _question(self):
        w, base = self.world, f"/api/v1/tasks/{self.world.base}"
        n = next(self.asked) % 6
        if n in (0, 3):
            return "totals", f"{base}/totals?contributors=children", None
        if n == 1:
            keys = urllib.parse.urlencode([("key", a) for a in w.addresses])
            return "keys", f"{base}/estimate?{keys}", "estimate"
        if n == 2:
            return "keys", f"{base}/top?n=100", "top"
        if n == 4:
            return "totals", f"{base}/totals", None
        return "window", f"/api/v1/tasks/{w.windowed}/totals", "window"

    def _row(self, what, began, ended, reply, read):
        r = reply.json()
        data, meta = r["data"], r["meta"]
        c = meta["coverage"]
        row = {"what": what, "host": self.world.addresses[self.i],
               "began": began, "ended": ended,
               "term": self.term,
               "missed": meta["loss"]["missed"]["packets"],
               "expected": c["hosts_expected"], "answered": c["hosts_answered"],
               "complete": c["complete"], "missing_more": c["missing_more"],
               "named": len(c["missing"]),
               "missing": {m["host"]: m["reason"] for m in c["missing"]}}
        if what == "keys":
            row["value"] = sum(d["estimate"] for d in data)
            row["keys"] = {d["key"]: (d["lower"], d["upper"]) for d in data}
            row["what"] = "keys" if read == "top" else "estimates"
        else:
            row["value"] = data["packets"]
        if "contributors" in meta:
            row["contributors"] = [
                {"host": p["host"], "packets": p.get("packets") or 0,
                 "answered": p["hosts_answered"]}
                for p in meta["contributors"]]
        if what == "window":
            row["start"] = meta["window"]["start"]
            row["window"] = self.world.moment(row["start"])
        return row


class Visitor(Clerk):
    """Goes from host to host: what each says for itself, its children."""

    def __init__(self, world):
        super().__init__(world, 0.5)
        self.turn = itertools.cycle(range(len(world.nodes)))

    def once(self):
        i = next(self.turn)
        node, w = self.world.nodes[i], self.world
        began = time.monotonic()
        for pid in children_of(node.agent.pid):
            w.errors.append(f"the agent of {node.address} has a child: "
                            f"{executable(pid)}")
        for pid in children_of(node.monitor.leader()):
            name = executable(pid)
            if name and not HELPERS.fullmatch(name):
                w.errors.append(f"the monitor of {node.address} has a child: "
                                f"{name}")
        r = node.get(f"/api/v1/tasks/{w.base}/totals?scope=host",
                     headers=w.auth, timeout=3)
        if r.status != 200 or not r.json()["meta"]["coverage"]["complete"]:
            return
        data, meta = r.json()["data"], r.json()["meta"]
        w.history.alone.append({
            "host": node.address, "start": meta["window"]["start"],
            "value": data["packets"], "began": began,
            "ended": time.monotonic(),
            "missed": meta["loss"]["missed"]["packets"]})


# ---- before and after ----

def seeds_of(world):
    """Seeds of tasks, which none but agents may ever see."""
    found = set()
    for node in world.nodes:
        for path in node.state_dir.iterdir():
            found |= set(re.findall(r'"seed": ?"([0-9a-f]{32})"',
                                    path.read_text(errors="replace")))
    return found


def ready(world, window_s, standing):
    """The tree stands and has its tasks; from now on all are counted.

    standing: what each parent asks about each window by itself.
    """
    everybody = set(world.addresses)

    def stands():
        return up(world) == everybody
    wait_until(stands, 30, "all have joined")
    since = time.monotonic()
    world.base = world.add_task(since + 10)
    world.windowed = world.add_task(since + 10, window_s=window_s,
                                    sketches=["cms"], standing=standing)
    world.kept = {world.base, world.windowed}
    assert None not in world.kept, world.errors
    world.history.window_s = window_s
    for i in range(len(world.nodes)):
        world.counts_again(i, since)
    world.seeds = seeds_of(world)
    assert world.seeds


def up(world):
    """Whom the one root has below it."""
    root = world.root()
    if root is None:
        return set()
    with contextlib.suppress(*NO_ANSWER):
        r = world.call(root, "GET", "/api/v1/overlay/members?limit=100")
        if r.status == 200:
            return {m["host"] for m in r.json()["data"] if m["state"] == "up"}
    return set()


def roots(world):
    found = []
    for i in range(len(world.nodes)):
        data = world.own(i, "/api/v1/overlay")
        if data and data["role"] != "member":
            found.append(i)
    return found


def complete(world):
    root = world.root()
    if root is None:
        return False
    with contextlib.suppress(*NO_ANSWER):
        r = world.call(root, "GET", f"/api/v1/tasks/{world.base}/totals")
        if r.status == 200:
            c = r.json()["meta"]["coverage"]
            return c["complete"] and c["hosts_answered"] == len(world.nodes)
    return False


def tasks_of(world, i):
    rows = world.own(i, "/api/v1/tasks?limit=100")
    return {t["id"]: t["generation"] for t in rows or ()}


def delete_strays(world):
    """Who was the root a moment ago, and had another above it when a task was
    put there, has it for those below it alone: there it is deleted."""
    n = 0
    for i, given in world.given.items():
        with contextlib.suppress(*NO_ANSWER):
            for ident in tasks_of(world, i).keys() - world.tasks.keys():
                if ident in given or None in given:
                    r = world.call(i, "DELETE", f"/api/v1/tasks/{ident}")
                    n += r.status < 300
    return n


def whole(world, ended):
    """One tree with all hosts in it, and complete answers, soon."""
    def stands():
        with contextlib.suppress(*NO_ANSWER):
            return (len(roots(world)) == 1 and up(world) == set(
                world.addresses) and complete(world))
        return False
    with contextlib.suppress(AssertionError):
        wait_until(stands, 60)
    now = time.monotonic()
    say(f"whole {now - ended:.2f} s after the last fault")
    if now - ended > WHOLE_S + world.history.stalled(ended, now):
        world.errors.append(f"not whole for {now - ended:.2f} s")


def reconcile(world):
    """What a controller does after all this: its tasks, and no other; then
    all agents have the same."""
    end = time.monotonic() + WHOLE_S
    for ident in world.kept:
        if ident not in tasks_of(world, world.root()):
            world.errors.append(f"task {ident} was lost")
    have = tasks_of(world, world.root())
    again = 0
    for ident in have.keys() - world.tasks.keys():
        world.change("DELETE", f"/api/v1/tasks/{ident}", None, end)
        again += 1
    strays = delete_strays(world)
    for ident, task in list(world.tasks.items()):
        while tasks_of(world, world.root()).get(ident) != task["generation"]:
            r = world.change("PUT", f"/api/v1/tasks/{ident}", task, end)
            again += 1
            if r is not None and r.status == 409:
                task["generation"] += 1
            if time.monotonic() > end:
                break
    want = {t: v["generation"] for t, v in world.tasks.items()}
    began = time.monotonic()
    others = {}

    def same():
        for i, address in enumerate(world.addresses):
            others[address] = "no answer"
            with contextlib.suppress(*NO_ANSWER):
                have = tasks_of(world, i)
                others[address] = have != want and (have or "none")
        return not any(others.values())
    with contextlib.suppress(AssertionError):
        wait_until(same, WHOLE_S)
    if any(others.values()):
        world.errors.append(f"{again} tasks sent again to {world.root()}, "
                            f"which are {want}, but of some: {others}")
    say(f"{len(want)} tasks, {again} sent again, {strays} strays deleted, the "
        f"same everywhere after {time.monotonic() - began:.2f} s")


def rule_counters(host):
    """direction -> packets of its capture rules, both families."""
    found = {"in": 0, "out": 0}
    for family in (4, 6):
        for n, way in re.findall(
                r"^\[(\d+):\d+\] -A linnet-lab-(in|out).*NFQUEUE",
                host.rules(family, counters=True), re.M):
            found[way] += int(n)
    return found


def snapshot(world):
    """What each host's kernel and monitor counted by now."""
    rows = []
    for i, n in enumerate(world.nodes):
        with Control(n.host) as c:
            s = c.stats()
        rows.append({"rule": rule_counters(n.host)["in"],
                     "nfacct": n.host.nfacct()["linnet-lab-in"][0],
                     "matched": s.matched[0].packets,
                     "received": s.received[0].packets,
                     "value": world.own(i, f"/api/v1/tasks/{world.base}/totals"
                                        "?scope=host")["packets"],
                     "protected": s.protected_packets})
    return rows


def exact(world, seconds=1):
    """In peace all counts are the same, to the packet: those of the rules, the
    kernel's objects, what was matched and received; and of what came, and is
    told of."""
    before = snapshot(world)
    traffic = Traffic([n.host for n in world.nodes], 0, tcp=False)
    traffic.start()
    time.sleep(seconds)  # how long there is traffic
    ledger = traffic.stop()
    after = snapshot(world)
    for n, a, b in zip(world.nodes, before, after):
        came = len(ledger.came[None, n.address])
        rose = {k: b[k] - a[k] for k in a if k != "protected"}
        told = rose.pop("value")
        # beside these may come what connections of before still send
        if told != came or len(set(rose.values())) != 1 \
                or rose["rule"] < came:
            world.errors.append(f"{n.address}: {came} came, {told} told of, "
                                f"{rose}")
        if b["protected"]:
            world.errors.append(f"{n.address}: {b['protected']} protected "
                                "packets in the queue")


def figures(world):
    """name of a program -> (KiB, descriptors) of the largest."""
    found = collections.defaultdict(lambda: [0, 0])
    for n in world.nodes:
        for name, pid in (("agent", n.agent.pid),
                          ("monitor", n.monitor.leader()),
                          *(("reader", p) for p in readers_of(n.monitor))):
            text = Path(f"/proc/{pid}/status").read_text()
            kib = int(re.search(r"VmRSS:\s+(\d+)", text).group(1))
            found[name] = [max(found[name][0], kib),
                           max(found[name][1],
                               len(os.listdir(f"/proc/{pid}/fd")))]
    return dict(found)


def same_rules(world):
    """The rules are those of the tasks, as a monitor that just began has them.
    """
    def rules(n):
        queues = ("--queue-num 7000" if n.readers == 1 else
                  f"--queue-balance 7000:{6999 + n.readers}")
        return ([sorted(rules_normal(n.host.rules(f)).replace(queues, "QUEUES")
                        .splitlines()) for f in (4, 6)],
                sorted(n.host.nfacct()))
    first = world.nodes[0]
    first.monitor.stop()
    first.start_monitor()
    wait_until(lambda: complete(world), 20, "complete with a fresh monitor")
    try:
        wait_until(lambda: all(rules(n) == rules(first) for n in world.nodes),
                   5)
    except AssertionError:
        for n in world.nodes:
            if rules(n) != rules(first):
                world.errors.append(f"rules of {n.address} {rules(n)}\n are "
                                    f"not those of the tasks {rules(first)}")


def check_processes(world):
    """None crashed; none says a secret."""
    secrets = [*world.tokens.values(), *world.seeds]
    for host in world.lab.hosts:
        for p in host.processes:
            status, log = p.popen.poll(), p.log()
            if status in CRASHES or SANITIZER.search(log) or \
                    CRASH_WORDS.search(log):
                world.errors.append(f"{p.argv[0]}: {status}\n{log[-3000:]}")
            if any(s in log for s in secrets):
                world.errors.append(f"a secret in the log of {p.argv[0]}")
    for n in world.nodes:
        for pid in (n.agent.pid, n.monitor.leader(), *readers_of(n.monitor)):
            told = (Path(f"/proc/{pid}/cmdline").read_bytes()
                    + Path(f"/proc/{pid}/environ").read_bytes())
            if any(s.encode() in told for s in secrets):
                world.errors.append(f"a secret is told by process {pid}")
    # that of clients goes to whomever the client asks
    if any(world.tokens["fleet"].encode() in s.seen for s in world.strangers):
        world.errors.append("a token went to a stranger")


def grown(before, after):
    """Programs that take more memory or descriptors than at the beginning."""
    return [f"{name}: {before[name]} before, {after[name]} after"
            for name in after
            if after[name][0] > before[name][0] + GROWN_KIB or
            after[name][1] > before[name][1] + 6]


# ---- one seed ----

def play(world, events):
    """All faults; when the last one ended."""
    clerks = [Stalls(world, 0), Visitor(world),
              *(Controller(world, i) for i in range(CANDIDATES))]
    for c in clerks:
        c.start()
    began = time.monotonic() + 0.5
    world.history.began = began
    faults = [Fault(world, e, began) for e in events]
    for f in faults:
        time.sleep(max(0, f.began - 0.2 - time.monotonic()))
        f.start()
    for f in faults:
        if not f.over.wait(max(0, f.until + 30 - time.monotonic())):
            world.errors.append(f"{f.event} does not end")
    whole(world, time.monotonic())
    for f in faults:
        f.join(70)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: all(r.get("complete") for r in
                               world.history.rows[-6:]), 5)
    for c in clerks:
        c.stop()
    statuses = sum((c.statuses for c in clerks[2:]), collections.Counter())
    say(f"statuses {dict(statuses)}")


def run(seed, seconds, logs=None, hosts=HOSTS, every=EVERY_S, window_s=5,
        network=Lab):
    """Plays a seed; (errors, History).  What is wrong leaves its logs there.
    """
    events = schedule(seed, seconds, hosts, every)
    with network(hosts + 1) as lab:
        world = World(lab, seed)
        wall = time.time() - time.monotonic()
        world.moment = lambda text: (
            calendar_seconds(text) - wall if text else None)
        ready(world, window_s, ["totals"] if seed % 2 else [])
        traffic = Traffic([n.host for n in world.nodes], seed)
        traffic.start()
        try:
            before = figures(world)
            play(world, events)
        finally:
            world.history.ledger = traffic.stop()
        reconcile(world)
        after = figures(world)
        say(f"KiB and descriptors {before}, then {after}")
        if seconds > 60:
            world.errors += grown(before, after)
        exact(world)
        same_rules(world)
        check_processes(world)
        wrong, words = judge(world.history)
        if logs and (wrong or world.errors):
            shutil.copytree(lab.dir, logs, dirs_exist_ok=True)
            world.history.dump(Path(logs) / "history.json")
        options = "" if network is Lab else " --mininet"
        return report(f"--seed {seed} --seconds {seconds} --hosts {hosts} "
                      f"--every {every}{options}", events, world, wrong, words)


def calendar_seconds(text):
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) \
        + float("0" + text[19:].rstrip("Z") or 0)


def report(options, events, world, wrong, words):
    rows = [r for r in world.history.rows if r["what"] != "silence"]
    whole_ones = sum(r["complete"] for r in rows)
    late = max((r["ended"] - r["began"] for r in rows), default=0)
    stalls = sum(b - a for a, b in world.history.stalls)
    ledger = world.history.ledger
    say(f"played {options}: {len(events)} faults, {len(rows)} answers, "
        f"{whole_ones} complete, {len(world.history.alone)} of hosts alone, "
        f"slowest {late:.2f} s; {ledger.n} datagrams, {len(ledger.lost)} lost; "
        f"{len(ledger.tcp)} connections; the machine stood still for "
        f"{stalls:.1f} s; {sum(wrong.values()) + len(world.errors)} "
        f"violations {dict(wrong)}")
    if wrong or world.errors:
        say(words)
        for e in world.errors:
            say(f"error: {e}")
        for e in events:
            say(e)
        say(f"again: {__file__} {options}")
    return [*wrong, *world.errors], world.history


# ---- tests ----

def test_t58_chaos():
    """Each kind of fault once; and each lie about it would have been found."""
    seed = int(os.environ.get("LINNET_TEST_SEED", 58))
    errors, history = run(seed, len(KINDS), None, 5, 1, 2)
    assert not errors, errors
    complete_ones = [r["complete"] for r in history.rows if "complete" in r]
    assert any(complete_ones) and not all(complete_ones), "no teeth"
    assert not toothless(history)


def test_t58_mininet():
    """The same in a tree of switches that Mininet made, by a process of its
    own: its end is that of the network."""
    seed = os.environ.get("LINNET_TEST_SEED", "59")
    process = subprocess.Popen(
        [sys.executable, __file__, "--mininet", "--seed", seed, "--seconds",
         str(len(KINDS)), "--every", "1"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        text, _ = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        process.terminate()     # it cleans up
        text, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, text
    assert re.search(rf"{len(KINDS)} faults, [1-9]\d* answers, [1-9]\d* "
                     r"complete, .* 0 violations", text), text


def test_t58_schedule():
    """A seed is a schedule, which has every kind of fault equally often."""
    events = schedule(1, 320, HOSTS)
    assert events == schedule(1, 320, HOSTS) != schedule(2, 320, HOSTS)
    assert set(collections.Counter(e.kind for e in events).values()) == {20}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--hosts", type=int, default=HOSTS,
                        help=f"with linnet; one more is the client's ({HOSTS})")
    parser.add_argument("--every", type=float, default=EVERY_S,
                        help=f"seconds between faults ({EVERY_S})")
    parser.add_argument("--mininet", action="store_true",
                        help="in a Mininet tree of Linux bridges; --hosts is "
                             "8, 15, 24 ...")
    parser.add_argument("--schedule", action="store_true",
                        help="only print what would happen")
    parser.add_argument("--logs", metavar="DIR",
                        help="where to leave those of a failure")
    args = parser.parse_args()
    if args.hosts < HOSTS_LEAST:
        parser.error(f"--hosts: at least {HOSTS_LEAST}")
    if args.mininet and math.isqrt(args.hosts + 1) ** 2 != args.hosts + 1:
        parser.error("--hosts: 8, 15, 24 ... with --mininet")
    if args.every <= 0 or args.seconds < 1:
        parser.error("--every and --seconds: more than 0")
    if args.schedule:
        for event in schedule(args.seed, args.seconds, args.hosts, args.every):
            say(event)
        return 0
    network = Lab
    if args.mininet:
        tempfile.tempdir = sandbox.enter()
        from mininet_lab import MininetLab as network  # needs Mininet
    return 1 if run(args.seed, args.seconds, args.logs, args.hosts, args.every,
                    network=network)[0] else 0


if __name__ == "__main__":
    sys.exit(main())
