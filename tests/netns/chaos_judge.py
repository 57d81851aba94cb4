# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what agents said while their hosts had every kind of trouble.

A History holds what was said and what was done; judge() gives what is wrong
with it, as a Counter, and the words.  Times are of the monotonic clock.
"""
import bisect
import collections
import itertools
import json

BUDGET_S, LATE_S = 2, 0.1
EDGE_S = 0.1     # from a packet's arrival until it is counted
WINDOW_EDGE_S = 0.25
# what a monitor may do to the traffic of its host: a reader that died is
# noticed after 0.25 s, one that hangs within a second
DIED_S, HUNG_S = 0.35, 1.2
LINK_AFTER_S = 3  # neighbours are asked again
TCP_S = 3.5


class History:
    """hosts: addresses.  faults: host -> [(kind, began, ended)], kind one of
    link, agent, monitor, reader, hang, clock.  starts: host -> [(not before,
    surely after)], from when its monitor counts.  away: (host, from, until),
    when it need not be a member.  rows: answers.  alone: what hosts said for
    themselves, in order.  stalls: (began, ended) of this machine; drops: when
    it threw packets away."""

    def __init__(self, hosts, ledger=None):
        self.hosts, self.ledger = hosts, ledger
        self.away, self.rows, self.alone = [], [], []
        self.faults = {h: [] for h in hosts}
        self.starts = {h: [] for h in hosts}
        self.stalls, self.drops, self.flips = [], [], []
        self.window_s = 5
        self.began, self._flipped, self._still = 0, {}, []

    def dump(self, path):
        """For whoever wants to know how it came to what was said."""
        with open(path, "w", encoding="utf-8") as f:
            json.dump({k: v for k, v in vars(self).items()
                       if k not in ("ledger", "_flipped", "_still")}, f)

    def during(self, kinds, host, since, until, after=0):
        """Faults of these kinds at this host in that time."""
        return [f for f in self.faults[host] if f[0] in kinds
                and f[1] <= until and f[2] + after >= since]

    def stalled(self, since, until):
        """How long this machine stood still meanwhile."""
        if len(self._still) <= len(self.stalls):
            self._still = [0, *itertools.accumulate(
                b - a for a, b in self.stalls)]

        def before(t):
            i = bisect.bisect_right(self.stalls, (t, t))
            over = self.stalls[i - 1][1] - t if i else 0
            return self._still[i] - max(0, over)
        return before(until) - before(since)

    def dropped(self, t):
        """The kernel had too much to do and threw packets away."""
        i = bisect.bisect_left(self.drops, t - 0.3)
        return i < len(self.drops) and self.drops[i] < t + 0.3

    def members(self, since, until):
        """Who surely was one all the time."""
        return set(self.hosts) - {h for h, a, b in self.away
                                  if a <= until and b >= since}

    def flipped(self, host, since, until, source=None):
        """Datagrams that came broken, and were counted or not."""
        if (source, host) not in self._flipped:
            self._flipped[source, host] = [
                t for t in self.ledger.gone[source, host]
                if any(a <= t <= b for h, a, b in self.flips
                       if source is None or h in (host, source))]
        gone = self._flipped[source, host]
        return (bisect.bisect_right(gone, until)
                - bisect.bisect_left(gone, since))

    def bounds(self, host, began, ended, source=None):
        """What its monitor has counted at a moment between these times."""
        low, high = None, 0
        starts = self.starts[host]
        for i, (since, sure) in enumerate(starts):
            if since > ended or (i + 1 < len(starts) and
                                 starts[i + 1][1] < began):
                continue
            until = began - EDGE_S
            if i + 1 < len(starts):
                until = min(until, starts[i + 1][0])
            mine = self.ledger.at_least(host, sure + EDGE_S, until, source)
            low = mine if low is None else min(low, mine)
            high = max(high, self.ledger.at_most(host, since - EDGE_S, ended,
                                                 source)
                       + self.flipped(host, since - 1, ended, source))
        return low or 0, high


def answer_bounds(h, row, source=None):
    """Of all hosts that are in an answer: which these are is known where all
    that are missing are named."""
    there = set(h.hosts)
    if not row["missing_more"]:
        there -= row["missing"].keys()
    sure = h.members(row["began"], row["ended"])
    lows, high = [], 0
    for host in there:
        a, b = h.bounds(host, row["began"], row["ended"], source)
        lows.append(a if host in sure else 0)
        high += b
    # of some it has not heard yet
    return sum(sorted(lows)[:row["answered"]]), high


def judge_numbers(h, row):
    """The hosts: each once, all of them or named."""
    if row["answered"] + row["named"] + row["missing_more"] != \
            row["expected"]:
        yield "numbers"
    if row["named"] != len(row["missing"]):
        yield "a host is named twice"
    if row["expected"] > len(h.hosts) or not row["missing"].keys() <= set(
            h.hosts):
        yield "more hosts than there are"
    there = len(h.hosts) - len(row["missing"])
    if row["answered"] > there:
        yield "double"
    if row["complete"] and row["missing"]:
        yield "complete without the missing"
    if row["complete"] and row["answered"] < len(
            h.members(row["began"], row["ended"])):
        yield "complete without a member"
    parts = row.get("contributors")
    if parts is not None and (
            sum(p["packets"] for p in parts) != row["value"] or
            sum(p["answered"] for p in parts) != row["answered"]):
        yield "contributors"


def judge_value(h, row):
    """The sum is that of what came to the hosts that are in it."""
    low, high = answer_bounds(h, row)
    if row["value"] > high:
        yield "too much"
    if row["value"] + row["missed"] < low:
        yield "too little"
    yield from judge_keys(h, row)


def judge_keys(h, row):
    """Bounds hold the truth."""
    for source, (lower, upper) in row.get("keys", {}).items():
        low, high = answer_bounds(h, row, source)
        if lower > high:
            yield "a key has too much"
        if upper is not None and upper + row["missed"] < low:
            yield "a key has too little"


def judge_time(h, row):
    """Unless nothing could come of the host, or it did not run."""
    late = row["ended"] - row["began"] - BUDGET_S - LATE_S
    if late > h.stalled(row["began"], row["ended"]) and not h.during(
            {"link", "agent"}, row["host"], row["began"], row["ended"], 1):
        yield "late"


def judge_window(h, row):
    """A closed window, all hosts together."""
    if not row["complete"] or row["window"] is None:
        return
    since, until = row["window"], row["window"] + h.window_s
    edge = WINDOW_EDGE_S + h.stalled(since - 1, until + 1)
    if edge > 1 or any(h.during({"clock"}, x, since - 2, until + 2)
                       for x in h.hosts):
        return
    low = sum(h.ledger.at_least(x, since + edge, until - edge)
              for x in h.hosts)
    high = sum(h.ledger.at_most(x, since - edge, until + edge)
               + h.flipped(x, since - 1, until + edge) for x in h.hosts)
    if row["value"] > high:
        yield "a window has too much"
    sure = h.members(row["began"] - 2 * h.window_s, row["ended"])
    if row["value"] + row["missed"] < low and len(sure) == len(h.hosts):
        yield "a window has too little"


def judge_silence(h, row):
    """No answer: the host, the link or the agent must have had a reason."""
    if not h.during({"link", "agent"}, row["host"], row["began"] - 1,
                    row["ended"], 2) and \
            h.stalled(row["began"], row["ended"]) < 0.5:
        yield "no answer"


JUDGES = {"totals": (judge_numbers, judge_value, judge_time),
          "keys": (judge_numbers, judge_value, judge_time),
          "estimates": (judge_numbers, judge_keys, judge_time),
          "window": (judge_numbers, judge_window, judge_time),
          "silence": (judge_silence,)}


def judge_history_of_one(h):
    """In the life of its readers a host's count never goes back, in that of
    its monitor nor does what it counted or says that it missed."""
    last = {}
    for row in h.alone:
        faults = [f[0] for f in h.faults[row["host"]] if f[1] < row["ended"]]
        lives = faults.count("monitor")
        deaths = lives + faults.count("reader") + faults.count("hang")
        for key, value in (((row["host"], row["start"], deaths),
                            row["value"]),
                           ((row["host"], lives),
                            row["value"] + row["missed"])):
            if value < last.get(key, 0) and not h.stalled(
                    row["began"] - 5, row["ended"]):
                yield "went back", row
            last[key] = value


def judge_closed(h):
    """A closed window is the same for everybody, whenever asked."""
    seen = {}
    for row in h.rows:
        if row["what"] == "window" and row["complete"] and row["window"]:
            if seen.setdefault(row["start"], row["value"]) != row["value"]:
                yield "a closed window changed", row


def judge_datagrams(h):
    """Measuring harms no traffic: what was lost was on a bad link, or its
    monitor had been killed or stopped a moment ago."""
    for t, *ends in h.ledger.lost:
        def excused(x, t=t):
            slow = h.stalled(t - 2, t + 2)
            return (h.dropped(t)
                    or h.during({"link"}, x, t, t + 0.5, LINK_AFTER_S)
                    or h.during({"reader", "monitor"}, x, t - DIED_S - slow,
                                t + HUNG_S)
                    or h.during({"hang"}, x, t - HUNG_S - slow, t + 0.5))
        if not any(map(excused, ends)):
            yield "a datagram was lost", [t - h.began, *ends]


def judge_connections(h):
    for a, b, began, ended, wrong in h.ledger.tcp:
        if (wrong or ended - began > TCP_S) and h.stalled(
                began, ended) < 0.5 and not any(
                    h.during({"link"}, x, began, ended, LINK_AFTER_S)
                    for x in (a, b)):
            yield "a connection failed", [began - h.began, a, b,
                                          ended - began, wrong]


WHOLE = (judge_history_of_one, judge_closed, judge_datagrams,
         judge_connections)


def bounds_told(h, row, source):
    return (f"  {source or 'all'}: bounds {answer_bounds(h, row, source)}: " +
            ", ".join(f"{x} {h.bounds(x, row['began'], row['ended'], source)}"
                      for x in h.hosts if x not in row["missing"]))


def sources_told(h, what, row):
    """Whose bounds say why; None: all together."""
    if what.startswith("too"):
        yield None
    if what.startswith("a key"):
        yield from (source for source in row["keys"]
                    if any(judge_keys(h, {**row, "keys": {
                        source: row["keys"][source]}})))


def judge(h):
    """(what is wrong -> how often, words)"""
    wrong, words = collections.Counter(), []

    def say(what, row):
        wrong[what] += 1
        if wrong[what] <= 5:
            at = row["began"] - h.began if isinstance(row, dict) else row[0]
            words.append(f"{what} at {at:.2f}: {json.dumps(row)}")
            if isinstance(row, dict):
                for source in sources_told(h, what, row):
                    words.append(bounds_told(h, row, source))
    for row in h.rows:
        for one in JUDGES[row["what"]]:
            for what in one(h, row):
                say(what, row)
    for whole in WHOLE:
        for what, row in whole(h):
            say(what, row)
    return wrong, "\n".join(words)


# ---- lies: each judge finds its own ----

def _first(h, what, **members):
    """The place of the last of these answers; None if there is none."""
    return next((i for i in reversed(range(len(h.rows)))
                 if h.rows[i]["what"] == what and
                 all(h.rows[i].get(k) == v for k, v in members.items())), None)


def _changed(h, i, **members):
    rows = list(h.rows)
    rows[i] = {**rows[i], **members}
    return {"rows": rows}


def lies(h):
    """(what must be found, changes to the history)"""
    whole = next(i for i in reversed(range(len(h.rows)))
                 if h.rows[i]["what"] == "totals" and h.rows[i]["complete"] and
                 len(h.members(h.rows[i]["began"], h.rows[i]["ended"]))
                 == len(h.hosts))
    row = h.rows[whole]
    one = max(h.bounds(x, row["began"], row["ended"])[0] for x in h.hosts)
    yield "too much", _changed(h, whole, value=row["value"] + one)
    yield "too little", _changed(h, whole, value=row["value"] - one)
    yield "double", _changed(h, whole, answered=len(h.hosts) + 1,
                             expected=len(h.hosts) + 1)
    yield "a host is named twice", _changed(h, whole, named=1)
    yield "more hosts than there are", _changed(
        h, whole, answered=len(h.hosts) + 1, expected=len(h.hosts) + 1)
    yield "numbers", _changed(h, whole, expected=row["expected"] + 1)
    yield "complete without a member", _changed(
        h, whole, answered=len(h.hosts) - 1, expected=len(h.hosts) - 1)
    yield "complete without the missing", _changed(
        h, whole, missing={h.hosts[0]: "timeout"})
    yield "late", {**_changed(h, whole, ended=row["began"] + 60),
                   "faults": {x: [] for x in h.hosts}}
    parts = next(i for i, r in enumerate(h.rows) if r.get("contributors"))
    yield "contributors", _changed(h, parts, contributors=h.rows[parts][
        "contributors"][:-1])
    keys = _first(h, "keys", complete=True)
    name, (lower, upper) = next(iter(h.rows[keys]["keys"].items()))
    yield "a key has too much", _changed(
        h, keys, keys={name: (2 * lower + 100, upper)})
    yield "a key has too little", _changed(h, keys, keys={name: (0, 0)})
    window = _first(h, "window", complete=True)
    if window is not None:
        yield "a closed window changed", {"rows": h.rows + [
            {**h.rows[window], "value": h.rows[window]["value"] + 1}]}
    quiet = next((i for i, r in enumerate(h.rows) if r["what"] == "window" and
                  list(judge_window(h, {**r, "value": 0, "missed": 0}))),
                 None)
    if quiet is not None:
        yield "a window has too little", _changed(h, quiet, value=0, missed=0)
        yield "a window has too much", _changed(h, quiet, value=10**6)
    last = h.alone[-1]
    yield "went back", {"alone": h.alone + [
        {**last, "value": last["value"] - 1}]}
    calm = row["began"]
    yield "no answer", {"rows": h.rows + [{
        "what": "silence", "host": h.hosts[0], "began": calm,
        "ended": calm + 3}], "faults": {x: [] for x in h.hosts}}


def toothless(h):
    """Lies that judge() does not find."""
    h.stalls, h.drops, h._still = [], [], []  # these excuse
    old = dict(vars(h))
    missed = []
    for what, change in lies(h):
        vars(h).update(change)
        if not judge(h)[0][what]:
            missed.append(what)
        vars(h).update(old)
    ledger = h.ledger
    some = next(t for t in ledger.sent[None, h.hosts[0]])
    ledger.lost.append((some, h.hosts[1], h.hosts[0]))
    h.faults = {x: [] for x in h.hosts}
    if not judge(h)[0]["a datagram was lost"]:
        missed.append("a datagram was lost")
    ledger.lost.pop()
    ledger.tcp.append((*h.hosts[:2], some, some + 5, "timed out"))
    if not judge(h)[0]["a connection failed"]:
        missed.append("a connection failed")
    ledger.tcp.pop()
    vars(h).update(old)
    return missed
