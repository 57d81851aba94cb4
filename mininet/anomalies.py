# SPDX-License-Identifier: GPL-2.0-or-later
"""Teaching a cluster what its traffic is like, then asking the root what was
not: beside attacks whose source, target and time are known.

A row of the answers is (what, what linnet says, what is true, whether that is
right), as in scenarios.py.
"""

import threading
import time
from typing import NamedTuple

import traffic
from cluster import JOIN_S, ClusterError, wait_until

ATTACK_WINDOWS = 2.5
REST = 4                    # intervals until an alarm is over
UPLOAD_PORT = 21
FLOOD_PORT = 80


class Attack(NamedTuple):
    name: str
    src: str
    dst: str
    run: object             # run(cluster, src, dst, seconds)
    features: tuple         # what its first counter may begin with


def upload(cluster, src, dst, seconds):
    traffic.upload(cluster, src, dst, UPLOAD_PORT, seconds)


def flood(cluster, src, dst, seconds):
    traffic.syn_flood(cluster, src, dst, FLOOD_PORT, seconds)


# h1 is outside: it runs no linnet.
ATTACKS = (
    Attack("port scan", "h6", "h5", traffic.sweep,
           ("h_rst_in", "h_syn_in_refused", "h_flows_", "h_dst_ports",
            "h_max_", "tcpflags_RST", "dport_", "sport_")),
    Attack("exfiltration", "h9", "h1", upload,
           ("h_bytes_out", "h_bytes_in", "h_top_peer_share", "dport_ftp",
            "sport_ftp", "in_n", "out_n")),
    Attack("flood", "h3", "h8", flood,
           ("h_syn_", "h_rst_in", "h_half_open", "h_flows_", "h_max_",
            "tcpflags_", "dport_http", "sport_http")),
)


class Watch:
    """The judgements of the root, each taken once, and of those that alarm
    the diagnosis, asked at once."""

    def __init__(self, cluster, window_s, say):
        self.cluster, self.window_s, self.say = cluster, window_s, say
        self.root = cluster.client(cluster.root)
        self.judged, self.diagnoses = {}, {}

    def look(self):
        for row in self.root.ask("query msnm", history=6).value:
            k = row.get("interval")
            if k is None or k in self.judged:
                continue
            self.judged[k] = row
            if row.get("alarm"):
                self.diagnoses[k] = self.root.ask(
                    "query msnm diagnosis", interval=k).value
                self.say(describe(self.cluster, self, k))

    def now(self):
        """The interval that is not over."""
        return int(time.time() // self.window_s)

    def until(self, k):
        """Look until interval k has been judged."""
        def reached():
            self.look()
            return max(self.judged, default=0) >= k

        end_s = (k + 1) * self.window_s - time.time()
        wait_until(reached, max(end_s, 0) + JOIN_S, f"interval {k}")

    def alarms(self, intervals):
        return [k for k in intervals if self.judged.get(k, {}).get("alarm")]


def calibrate(cluster, window_s, rows, say):
    """Turn it on for all hosts and wait until each has learnt."""
    root = cluster.client(cluster.root)
    root.ask("config msnm", window_s=window_s, rows=rows)
    levels = 1 + max(map(cluster.level, cluster.parents))
    begin = time.monotonic()

    def state(name):
        found = cluster.client(name).ask("query msnm").value
        stage = found.get("model", {}).get("stage", "-")
        return f"{found['phase']}, {stage}", found

    def wanted(name):
        return "watching, " + ("full" if cluster.children(name) else "own")

    def done():
        states = {name: state(name)[0] for name in cluster.parents}
        passed = int((time.monotonic() - begin) / window_s)
        say(f"{passed} of about {levels * (rows + 2)} intervals: " +
            ", ".join(f"{n} {s}" for n, s in states.items() if s != wanted(n)))
        if all(states[n] == wanted(n) for n in states):
            return True
        time.sleep(window_s)
        return False

    try:
        wait_until(done, levels * (rows * 1.1 + 6) * window_s, "calibrated")
    except ClusterError:
        pass                # the rows say who is not
    states = {name: state(name) for name in cluster.parents}
    wrong = [f"{name}: {text}" for name, (text, _) in states.items()
             if text != wanted(name)]
    latent = ", ".join(f"{name} {found.get('model', {}).get('lv')}"
                       for name, (_, found) in states.items())
    return ([("hosts calibrated", " ".join(wrong) or str(len(states)),
              str(len(cluster.parents)), not wrong)],
            [f"latent variables: {latent}"])


def attack(cluster, watch, a):
    """Attack; the intervals it was in."""
    watch.until(watch.now() - 1)
    time.sleep(watch.window_s - time.time() % watch.window_s)
    thread = threading.Thread(
        target=a.run, args=(cluster, a.src, a.dst,
                            ATTACK_WINDOWS * watch.window_s), daemon=True)
    first = watch.now()
    thread.start()
    while thread.is_alive():
        watch.look()
        thread.join(watch.window_s / 10)
    span = range(first, watch.now() + 1)
    watch.until(span[-1])
    return span


def ends_of(cluster, a):
    """Those of its two hosts that can see it."""
    return [n for n in (a.src, a.dst) if n in cluster.parents]


def attack_rows(cluster, watch, a, span):
    """What the root said of an attack, beside the truth."""
    alarms = watch.alarms(span)
    rows = [(f"{a.name}: alarm in interval",
             " ".join(str(1 + k - span[0]) for k in alarms) or "none",
             f"of {len(span)}", bool(alarms))]
    if not alarms:
        return rows
    # The first whole interval of the attack if it alarms.
    found = watch.diagnoses[min(alarms, key=lambda k: (k == span[0], k))]
    path = [cluster.name_of(host) for host in found["path"]]
    ends = ends_of(cluster, a)
    top = [t["name"] for t in found["top"]] or ["-"]
    pair = {cluster.ip(a.src), cluster.ip(a.dst)}
    keys = [f["key"] for f in found.get("flows", [])]
    own = [key for key in keys if set(key.split(",")[:2]) == pair]
    return rows + [
        (f"{a.name}: path", " > ".join(path), " or ".join(ends),
         path[-1] in ends),
        (f"{a.name}: first counter", top[0], a.features[0] + " or alike",
         top[0].startswith(a.features)),
        (f"{a.name}: flows", own[0] if own else str(keys[:1]),
         f"{a.src} and {a.dst}", bool(own))]


def leaf_note(cluster, a, span):
    """What those who can see an attack say themselves."""
    text = []
    for name in ends_of(cluster, a):
        rows = cluster.client(name).ask("query msnm", history=12).value
        text += [f"{name} q {max(found):.1f} of its limit" for found in [
            [r["q"] / r["ucl_q"] for r in rows
             if r.get("interval") in span and "q" in r]] if found]
    return f"{a.name}: " + ", ".join(text)


def quiet_rows(watch, first, minutes, spans, allowed):
    """Alarms of the root outside of attacks are false."""
    count = int(minutes * 60 / watch.window_s)
    judged = [k for k in range(first, first + count)
              if watch.judged.get(k, {}).get("state") == "ok"]
    false = [k for k in sorted(watch.judged) if watch.judged[k].get("alarm")
             and not any(k in span for span in spans)]
    return [("quiet: intervals judged", str(len(judged)), str(count),
             len(judged) == count),
            ("false alarms, these and between attacks", str(len(false)),
             f"at most {allowed}", len(false) <= allowed)]


def host_note(cluster, first, count):
    """Alarms of each host in the quiet minutes."""
    found = []
    for name in cluster.parents:
        rows = [r for r in cluster.client(name).ask(
            "query msnm", history=min(count + 12, 1440)).value
            if first <= r.get("interval", 0) < first + count]
        found.append(f"{name} {sum(r['alarm'] for r in rows)} of {len(rows)}")
    return "alarms in quiet minutes by host: " + ", ".join(found)


def describe(cluster, watch, k):
    """One judgement in a line."""
    row = watch.judged[k]
    text = f"{row['start'][11:19]} over {row['over']}" + (
        " ALARM" if row["alarm"] else "")
    text += "".join(f", {s} {row[s] / row['ucl_' + s]:.2f} of its limit"
                    for s in "qd" if s in row and row.get("ucl_" + s))
    text += ": " + ", ".join(f"{n} {v:.1f}" for n, v in row["top"][:4])
    if k in watch.diagnoses:
        path = map(cluster.name_of, watch.diagnoses[k]["path"])
        text += f"; {' > '.join(path)}: " + ", ".join(
            f"{t['name']} {t['value']:.6g} (usually {t['mean']:.6g})"
            for t in watch.diagnoses[k]["top"][:4])
    return text


def watched(cluster, watch, minutes, say):
    """(rows, notes): all attacks, then the quiet minutes."""
    rows, notes, spans = [], [], {}
    for a in ATTACKS:
        say(f"{a.name}: {a.src} -> {a.dst}")
        spans[a] = attack(cluster, watch, a)
        rows += attack_rows(cluster, watch, a, spans[a])
        notes.append(leaf_note(cluster, a, spans[a]))
        watch.until(watch.now() + REST)
    say(f"{minutes:g} quiet minutes")
    first = watch.now()
    count = int(minutes * 60 / watch.window_s)
    watch.until(first + count - 1)
    notes.append(host_note(cluster, first, count))
    rows += quiet_rows(watch, first, minutes, spans.values(),
                       max(1, int(minutes // 10)))
    for k in sorted(watch.judged):
        if watch.judged[k].get("over") not in (None, "none"):
            names = [a.name for a, span in spans.items() if k in span]
            notes.append(f"{''.join(names) or 'quiet'}: " +
                         describe(cluster, watch, k))
    return rows, notes


def run(cluster, window_s, rows, minutes, seed, say):
    """(rows, notes) of everything."""
    with traffic.Background(cluster, seed) as background:
        found, notes = calibrate(cluster, window_s, rows, say)
        if all(row[-1] for row in found):
            more, lines = watched(cluster, Watch(cluster, window_s, say),
                                  minutes, say)
            found, notes = found + more, notes + lines
    counts = ", ".join(f"{n} {what}" for what, n in background.done.items())
    return found, notes + ["background: " + counts]
