# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall rules: what is there, what is left, who is refused."""
import errno
import fcntl
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from ctl import (IN, OUT, READ, RULES, Control, Head, Image, Refused, TaskRead,
                 task)
from lab import (FlowRun, children_of, best_of_3, executable, wait_until,
                 within)
from traffic import (capture_works, reader_of, readers_of,
                     reproducible, supervisor_of)

RESTORE = "/usr/sbin/xtables-nft-multi"
LEGACY = "/usr/sbin/xtables-legacy-multi"
# Every line that a monitor with instance "lab" may write.
ALLOWED = [
    r":linnet-lab-(in|out) - \[0:0\]",
    r"-A INPUT -j linnet-lab-in",
    r"-A OUTPUT -j linnet-lab-out",
    r"-A linnet-lab-in -i lo -m comment --comment \"?linnet:lab\"? -j RETURN",
    r"-A linnet-lab-out -o lo -m comment --comment \"?linnet:lab\"? -j RETURN",
    r"-A linnet-lab-(in|out) -p tcp -m tcp --[sd]port 22 .*-j RETURN",
    r"-A linnet-lab-(in|out) -p (tcp|udp) -m \2 --[sd]port 8000 -j RETURN",
    r"-A linnet-lab-(in|out)( -[sd] [0-9a-f.:]+/\d+)*( -p [a-z0-9-]+)?"
    r" -m nfacct --nfacct-name +linnet-lab-\1"
    r" -j NFQUEUE --queue-(num|balance) [\d:]+ --queue-bypass",
]


def own_rules(host, family=4):
    """Our lines; an assertion if one is not of the allowed forms, or twice."""
    lines = [x.strip() for x in host.rules(family).splitlines()
             if "linnet" in x]
    for line in lines:
        assert any(re.fullmatch(p, line) for p in ALLOWED), line
    assert len(set(lines)) == len(lines), lines
    return lines


def test_rules_follow_the_tasks(lab):
    """I5: one rule a filter that no other covers, both families."""
    b = lab.hosts[1]
    b.monitor()

    def captures(family):
        return sum("NFQUEUE" in x for x in own_rules(b, family))

    with Control(b) as control:
        assert own_rules(b, 4) == [] and b.nfacct() == {}
        control.put(task(1, IN, proto=17), task(2, IN, src="10.77.0.1"),
                    task(3, IN, proto=17, src="10.77.0.0/24"))
        wait_until(lambda: captures(4) == 2 and captures(6) == 1, 2, "rules")
        control.put(task(4, OUT))
        wait_until(lambda: captures(4) == 3 and captures(6) == 2, 2, "rules")
        assert set(b.nfacct()) == {"linnet-lab-in", "linnet-lab-out"}
        for ident in (1, 2, 3):
            control.delete(ident)
        wait_until(lambda: captures(4) == 1 and captures(6) == 1, 2, "rules")
        wait_until(lambda: set(b.nfacct()) == {"linnet-lab-out"}, 2, "objects")
        control.delete(4)
        wait_until(lambda: not own_rules(b, 4) + own_rules(b, 6), 2, "rules")
        assert RULES[control.stats().rules] == "none"


def test_jump_stands_last(lab):
    """The administrator's rules in mangle come first and see the packet."""
    a, b = lab.hosts
    mark = ("-t", "mangle", "-A", "INPUT", "-p", "icmp", "-j", "MARK",
            "--set-mark", "7")
    b.iptables(*mark)
    b.iptables("-A", "INPUT", "-m", "mark", "--mark", "7", "-j", "ACCEPT")
    b.foreign_keep()
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN))
        wait_until(lambda: own_rules(b), 2, "rules")
        rows = [x for x in b.rules().splitlines() if x.startswith("-A INPUT")]
        assert rows.index("-A INPUT -p icmp -j MARK --set-xmark 0x7/0xffffffff"
                          ) < next(i for i, x in enumerate(rows)
                                   if "linnet" in x)
        assert a.ping(b.ip4) == 5
        counted = re.search(r"\[(\d+):\d+\] -A INPUT -m mark",
                            b.rules(counters=True))
        assert int(counted.group(1)) == 5


class Sampler(threading.Thread):
    """50 times a second: is there ever a queue rule without bypass?"""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host, self.samples, self.seen, self.bad = host, 0, 0, []
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            text = self.host.rules(4 if self.samples % 2 else 6)
            self.samples += 1
            self.seen += "NFQUEUE" in text
            self.bad += [x for x in text.splitlines()
                         if "NFQUEUE" in x and "--queue-bypass" not in x]

    def finish(self):
        self.done.set()
        self.join(10)
        assert not self.bad, self.bad
        return self.samples


def test_t12_killed_at_any_moment(lab):
    """100 starts, each killed; one start and stop leaves nothing."""
    b = lab.hosts[1]
    rng = reproducible(12)
    b.iptables("-A", "INPUT", "-p", "icmp", "-j", "DROP")
    b.iptables("-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "-j", "MARK",
               "--set-mark", "3", family=6)
    b.foreign_keep()
    sampler = Sampler(b)
    sampler.start()
    for _ in range(100):
        monitor = b.monitor(wait=False)
        if rng.random() < 0.8 and monitor.wait_ready(check=False):
            with Control(b) as control:
                control.send_put(task(1, IN), task(2, OUT, proto=6))
                until = time.monotonic() + rng.uniform(0, 0.3)
                wait_until(lambda: time.monotonic() > until, 1)
        else:
            until = time.monotonic() + rng.uniform(0, 0.05)
            wait_until(lambda: time.monotonic() > until, 1)
        monitor.kill_tree()
    assert sampler.seen > 0, "never saw a rule: the test shows nothing"
    b.monitor().stop()
    sampler.finish()
    b.check_clean()


def test_t15_second_monitor(lab):
    """20 of them under traffic: each leaves, nothing changes."""
    a, b = lab.hosts
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=17))
        wait_until(lambda: own_rules(b), 2, "rules")
        before, incarnation = b.rules(), control.hello().incarnation
        flow = FlowRun(a, b, 4000, 4)
        for _ in range(20):
            second = b.monitor(wait=False)
            assert not second.wait_ready(check=False)
            assert second.wait() == 75, second.log()
            assert len(second.log().splitlines()) == 1, second.log()
        result = flow.finish()
        assert result.lost == 0
        assert re.sub(r"(?m)^#.*", "", b.rules()) == \
            re.sub(r"(?m)^#.*", "", before)
        assert control.hello().incarnation == incarnation
        sums, loss = control.totals(1)
        assert sums["pkt"] == loss.matched.packets == result.sent


def read_once(control, ident):
    """(state of the rules, when counting began, packets); None: refused."""
    try:
        control.send(READ, TaskRead(id=ident, generation=1))
        reply, fds = control.receive(TaskRead)
    except Refused as e:
        assert e.errno == errno.EAGAIN
        return None
    image = Image(control.specs[ident], fds[0])
    image.close()
    return RULES[reply.rules], image.head.began_ms, image.totals.pkt


def test_flushed_rules_are_noticed(lab):
    """No answer claims what passed unseen; the first repair is at once."""
    a, b = lab.hosts
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=1), task(2, OUT, proto=1))
        assert a.ping(b.ip4, 5) == 5
        state, first, packets = read_once(control, 1)
        assert (state, packets) == ("ok", 5)
        flushed = time.time() * 1000
        b.iptables("-t", "mangle", "-F")
        answer = read_once(control, 1)
        assert answer is None or answer[1] >= int(flushed) > first, answer
        wait_until(lambda: "NFQUEUE" in b.rules(), 1, "rules are put back")
        state, again, packets = wait_until(lambda: read_once(control, 1), 1,
                                           "an answer")
        assert (state, packets) == ("ok", 0) and again >= int(flushed)
        assert a.ping(b.ip4, 7) == 7
        for ident in (1, 2):
            sums, loss = control.totals(ident)
            assert (sums["pkt"], sums["byte"]) == (7, 7 * 84)
            assert loss.matched.pair == loss.received.pair == (7, 7 * 84)
        # once a minute: until then each answer says so
        b.iptables("-t", "mangle", "-F", "INPUT")
        for _ in range(20):
            assert read_once(control, 1)[0] == "degraded"
        assert RULES[control.stats().rules] == "degraded"
        assert "linnet" not in "".join(x for x in b.rules().splitlines()
                                       if x.startswith("-A INPUT"))


def test_rules_put_back_by_a_put(lab):
    """A hole that a new task's rules close is a hole."""
    a, b = lab.hosts
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=1))
        assert a.ping(b.ip4, 5) == 5
        assert read_once(control, 1)[2] == 5
        flushed = time.time() * 1000
        b.iptables("-t", "mangle", "-F")
        control.put(task(2, OUT, proto=6))
        state, began, packets = wait_until(lambda: read_once(control, 1), 1,
                                           "an answer")
        assert (state, packets) == ("ok", 0) and began >= int(flushed)


def test_changes_by_others_do_no_harm(lab):
    """Rules of others come and go: ours stand, and counting goes on."""
    a, b = lab.hosts
    b.monitor()
    with Control(b) as control:
        control.put(task(1, IN, proto=1))
        began = read_once(control, 1)[1]
        for i in range(20):
            b.iptables("-D" if i % 2 else "-A", "INPUT", "-p", "tcp",
                       "--dport", 7000 + i // 2, "-j", "DROP",
                       family=6 if i // 2 % 2 else 4)
            assert a.ping(b.ip4, 1) == 1
            assert read_once(control, 1) == ("ok", began, i + 1)


def test_changes_by_others_without_end(lab):
    """Rules of others change faster than ours can be read: answers come."""
    a, b = lab.hosts
    b.monitor()
    change = " ".join(f"iptables-nft {c} FORWARD -p udp -j DROP;"
                      for c in ("-A", "-D"))
    with Control(b) as control:
        control.put(task(1, IN, proto=1))
        assert a.ping(b.ip4, 3) == 3
        began = read_once(control, 1)[1]
        churn = b.start(["sh", "-c", f"while :; do {change} done"])
        wait_until(lambda: "FORWARD -p udp" in
                   b.run(["iptables-nft-save"]).stdout, 5, "a change")
        for _ in range(40):
            assert read_once(control, 1) == ("ok", began, 3)
        churn.kill_tree()
        b.iptables("-F", "FORWARD")


def hidden(*programs):
    """A command prefix: these programs do not exist for what it runs."""
    mounts = "; ".join(f"mount --bind /dev/null {p}" for p in programs)
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec",
            f'{mounts}; exec "$@"', "sh"]


@pytest.fixture
def legacy(lab):
    """Command prefix: only the legacy tools are there, and no /run/linnet."""
    b = lab.hosts[1]
    for tool in ("iptables-legacy-save", "ip6tables-legacy-save"):
        done = b.run([tool, "-t", "mangle"], check=False)
        if done.returncode:
            pytest.skip(f"this kernel has no legacy tables: {done.stderr}")
    run = lab.dir / "run"
    run.mkdir()
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec",
            f'mount --bind /dev/null {RESTORE}; mount --bind {run} /run;'
            'exec "$@"', "sh"]


def legacy_rules(host, *options):
    return "".join(host.run([f"{t}-legacy-save", "-t", "mangle",
                             *options]).stdout for t in ("iptables",
                                                         "ip6tables"))


def legacy_counter(host, direction):
    """(packets, bytes) of the capture rules, both families."""
    rows = re.findall(rf"^\[(\d+):(\d+)\] -A linnet-lab-{direction}.*NFQUEUE",
                      legacy_rules(host, "-c"), re.M)
    return tuple(sum(int(x) for x in column) for column in zip(*rows))


def test_legacy_tools(lab, legacy):
    """Without iptables-nft: from a hand start, to the packet, twice."""
    a, b = lab.hosts
    check = b.monitor("--check", prefix=legacy, wait=False)
    assert check.wait() == 0, check.log()
    assert "iptables-legacy-restore" in check.log()
    assert "linnet" not in legacy_rules(b)
    for _ in range(2):
        monitor = b.monitor(prefix=legacy)
        with Control(b) as control:
            control.put(task(1, IN), task(2, OUT))
            assert a.ping(b.ip4, 20) == 20 and a.ping(b.ip6, 20) == 20
            assert "NFQUEUE" not in b.rules(4) + b.rules(6)
            for ident, direction in ((1, "in"), (2, "out")):
                wait_until(lambda i=ident, d=direction:
                           control.totals(i)[0]["pkt"]
                           == legacy_counter(b, d)[0], 5, "all counted")
                sums, loss = control.totals(ident)
                assert sums["pkt"] >= 40
                assert (sums["pkt"], sums["byte"]) == loss.matched.pair
                assert loss.matched.pair == loss.received.pair
                assert loss.matched.pair == legacy_counter(b, direction)
                assert loss.matched.pair == b.nfacct()[
                    f"linnet-lab-{direction}"]
        monitor.kill_tree()
        assert "linnet" in legacy_rules(b)
    monitor = b.monitor(prefix=legacy)
    assert "linnet" not in legacy_rules(b)
    monitor.stop()


def test_legacy_lock_excludes(lab, legacy):
    """Who holds /run/xtables.lock makes our tools wait."""
    b = lab.hosts[1]
    b.monitor(prefix=legacy)
    lock = open(lab.dir / "run/xtables.lock", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with Control(b) as control:
        control.send_put(task(1, IN))
        time_out = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > time_out, 1)
        assert "linnet" not in legacy_rules(b)
        lock.close()
        control.receive(Head)
        assert "linnet" in legacy_rules(b)


def test_legacy_lock_is_missing(lab, legacy):
    """No lock, no start, and --check says it."""
    b = lab.hosts[1]
    for options in ([], ["--check"]):
        monitor = b.monitor(*options, wait=False, prefix=[
            "env", "XTABLES_LOCKFILE=/nonexistent/lock", *legacy])
        assert monitor.wait() == 69
        assert monitor.log().count("\n") == 1, monitor.log()
        assert "/nonexistent/lock" in monitor.log()


def test_check_tries_the_rules(lab):
    """What the kernel or the tool refuses, --check finds out."""
    b = lab.hosts[1]
    check = b.monitor("--check", wait=False)
    assert check.wait() == 0, check.log()
    assert "iptables-nft-restore" in check.log()
    b.check_clean()
    libs, = Path("/usr/lib").glob("*-linux-gnu/xtables")
    check = b.monitor("--check", wait=False, prefix=[
        "unshare", "-m", "--propagation", "private", "sh", "-ec",
        f'mount --bind /dev/null {libs}/libxt_nfacct.so; exec "$@"', "sh"])
    assert check.wait() == 69, check.log()
    assert "rules: " in check.log()


SHIM = ["env", "ASAN_OPTIONS=verify_asan_link_order=0",
        "LD_PRELOAD={build}/tests/netns/libshim.so"]
# what is missing, command prefix, options, exit status
REFUSALS = [
    ("no capability", ["capsh", "--drop=cap_net_admin", "--", "-c",
                       'exec "$@"', "sh"], [], 77),
    ("not root", ["setpriv", "--reuid=64109", "--regid=64109",
                  "--clear-groups", "--inh-caps=-all"], [], 77),
    ("unknown user", [], ["--user", "no-such-user"], 77),
    ("no restore tool", hidden(RESTORE, LEGACY), [], 69),
    ("netlink refused", [*SHIM, "LINNET_SHIM=netlink"], [], 69),
    ("bind refused", [*SHIM, "LINNET_SHIM=bind"], [], 69),
    ("bad instance", [], ["--instance", "a;b"], 64),
    ("unknown option", [], ["--frobnicate"], 64),
    ("bad port", [], ["--agent-port", "65536"], 64),
    ("no file", [], ["--capture", "pcap:/nonexistent"], 64),
]


@pytest.mark.sanitize
@pytest.mark.parametrize("case", REFUSALS, ids=lambda c: c[0])
def test_t16_refusals(lab, case, build):
    """One clear line, a documented exit status, no rule."""
    b = lab.hosts[1]
    _, prefix, options, status = case
    prefix = [p.format(build=build) if "{build}" in p else p for p in prefix]
    monitor = b.monitor(*options, prefix=prefix, wait=False)
    if monitor.wait_ready(check=False):
        # Where the refusal comes with the first task, it is the reply.
        pytest.fail(f"it started:\n{monitor.log()}")
    assert monitor.wait() == status, monitor.log()
    lines = [x for x in monitor.log().splitlines() if "LD_PRELOAD" not in x]
    assert 1 <= len(lines) <= 2, monitor.log()
    b.check_clean()


def test_t16_queue_is_taken(lab):
    """Rules would be accepted, but somebody else has the queue."""
    b = lab.hosts[1]
    first = b.monitor(instance="other")
    with Control(b, "other") as control:
        control.put(task(1, IN))
        wait_until(lambda: "NFQUEUE" in b.rules(), 2, "rules")
        before = re.sub(r"(?m)^#.*", "", b.rules())
        second = b.monitor(wait=False)
        assert not second.wait_ready(check=False)
        assert second.wait() in (69, 75), second.log()
        assert re.sub(r"(?m)^#.*", "", b.rules()) == before
    assert first.stop() == 0


def netlink_inodes(pid):
    """Socket numbers of this process that are netlink sockets."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}")
                 for fd in os.listdir(f"/proc/{pid}/fd")]
        table = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    except OSError:
        return set()
    known = {row.split()[-1] for row in table}
    return {x[8:-1] for x in links if x.startswith("socket:[")} & known


class ChildWatch(threading.Thread):
    """Looks at the descriptors of every child of the monitor, all the time."""

    def __init__(self, monitor):
        super().__init__(daemon=True)
        self.supervisor = supervisor_of(monitor)
        self.owned = netlink_inodes(self.supervisor)
        for reader in readers_of(monitor):
            self.owned |= netlink_inodes(reader)
        self.readers = set(readers_of(monitor))
        self.helpers, self.inherited = set(), set()
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            for pid in children_of(self.supervisor):
                if pid in self.readers or executable(pid) == "linnet-monitor":
                    continue
                self.helpers.add(pid)
                self.inherited |= netlink_inodes(pid) & self.owned


@best_of_3
def test_t17_nothing_inherits_the_queue(lab):
    """1,000 reconfigurations, then a reader dies while a helper lives."""
    a, b = lab.hosts
    slow = lab.dir / "slow"
    real = lab.dir / "real"
    real.write_bytes(Path(RESTORE).read_bytes())
    wrapper = lab.dir / "wrapper"
    wrapper.write_text(f'#!/bin/bash\n[ ! -e {slow} ] || read -t 2 <> '
                       f'<(:)\nexec -a "$0" {real} "$@"\n')
    for path in (lab.dir, real, wrapper):
        path.chmod(0o755)
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-ec",
              f'mount --bind {wrapper} {RESTORE}; exec "$@"', "sh"]
    monitor = b.monitor(prefix=prefix)
    controls = [Control(b) for _ in range(4)]
    try:
        controls[0].put(task(1, IN))
        watch = ChildWatch(monitor)
        assert len(watch.owned) >= 1, "found no netlink socket to look for"
        watch.start()
        for i in range(500):
            control = controls[i % 4]
            control.put(task(2, OUT, proto=1 + i % 200))
            control.delete(2)
        watch.done.set()
        watch.join(5)
        assert watch.helpers, "saw no helper: the test shows nothing"
        assert not watch.inherited, "netlink sockets inherited"

        flow = FlowRun(a, b, 4000, 3)
        capture_works(controls[0])
        slow.touch()
        controls[1].send_put(task(3, OUT, proto=6))
        wait_until(lambda: [p for p in children_of(watch.supervisor)
                            if executable(p) == "bash"], 3, "a helper alive")
        killed = time.time()
        os.kill(reader_of(monitor), signal.SIGKILL)
        result = flow.finish()
        slow.unlink()
    finally:
        for control in controls:
            control.close()
    assert result.lost_between(killed - 0.1, killed + 1) <= 64
    within(result.gap(), 0.25, "gap")
