#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges a history of answers while hosts moved, restarted and were lost:

    check_history.py [--teeth] FILE

A line is a JSON object, times in seconds of one clock:

  {"host": H, "value": V}             what this host alone counts
  {"member": H, "at": T, "in": B}     it joined for good, or was taken out
  {"answer": …, "began": T, "ended": T, "budget": S, "value": V,
   "missed": V, "expected": N, "answered": N, "complete": B,
   "missing": {H: REASON}, "missing_more": N}   what one client was told

An answer is wrong if its value, with what it says was missed, is not that of
the hosts that are not missing (a host twice, or one of which nothing is known)
or, where not all of these are named, cannot be that of so many, if the numbers
do not add up, if it calls itself complete and lacks a host that was a member
all the time, or if it came later than its budget and 0.1 s.
--teeth: at least a tenth of the answers are complete and a tenth are not, else
the history shows nothing.  The last line counts; the exit status is 1 if
anything is wrong.
"""
import argparse
import json
import sys
from collections import Counter

LATE_S = 0.1


def sum_of(values, n, total):
    """n of the values add up to total"""
    if 2 * n > len(values):  # the others are fewer
        n, total = len(values) - n, sum(values) - total
    sums = {(0, 0)}
    for v in values:
        sums |= {(k + 1, s + v) for k, s in sums if k < n and s + v <= total}
    return (n, total) in sums


class History:
    def __init__(self, lines):
        self.value, self.changes, self.answers = {}, [], []
        for line in lines:
            row = json.loads(line)
            if "host" in row:
                self.value[row["host"]] = row["value"]
            elif "member" in row:
                self.changes.append((row["at"], row["member"], row["in"]))
            else:
                self.answers.append(row)
        self.changes.sort()

    def members(self, began, ended):
        """Hosts that were members from the one time to the other."""
        inside, touched = set(self.value), set()
        for at, host, joined in self.changes:
            if at <= began:
                (inside.add if joined else inside.discard)(host)
            elif at <= ended:
                touched.add(host)
        return inside - touched

    def judge(self, a):
        """What is wrong with this answer, if anything."""
        missing = set(a["missing"])
        if a["answered"] + len(missing) + a["missing_more"] != a["expected"]:
            yield "numbers"
        if a["ended"] - a["began"] > a["budget"] + LATE_S:
            yield "late"
        if a["complete"] and missing:
            yield "complete without the missing"
        if a["complete"] and a["answered"] < len(
                self.members(a["began"], a["ended"])):
            yield "complete without a member"
        if a["missing_more"]:
            # who is in it is not known, but how many
            values = sorted(self.value.values())
            n = min(a["answered"], len(values))
            if a["value"] > sum(values[len(values) - n:]):
                yield "double"
            if a["value"] + a["missed"] < sum(values[:n]):
                yield "value"
            return
        there = self.value.keys() - missing
        if a["answered"] > len(there):
            yield "double"
        elif not self.adds_up(a, there):
            yield ("double" if a["value"] > sum(map(self.value.get, there))
                   else "value")

    def adds_up(self, a, there):
        """The value is that of so many of these hosts."""
        n, total = a["answered"], a["value"] + a["missed"]
        sure = there & self.members(a["began"], a["ended"])
        others = [self.value[h] for h in there - sure]
        rest = total - sum(self.value[h] for h in sure)
        if n >= len(sure) and sum_of(others, n - len(sure), rest):
            return True
        # who was not expected, either
        return len(there) - n < 4 and sum_of(
            [self.value[h] for h in there], n, total)


def check(lines, teeth=False):
    """(what is wrong -> how often, text: each wrong answer, and a count)"""
    history, text = History(lines), []
    wrong = Counter()
    for a in history.answers:
        for what in history.judge(a):
            wrong[what] += 1
            text.append(f"{what}: {json.dumps(a)}")
    n = len(history.answers)
    complete = sum(a["complete"] for a in history.answers)
    if teeth and not n // 10 <= complete <= n - n // 10:
        wrong["no teeth"] += 1
    said = ", ".join(f"{k} {v}" for k, v in sorted(wrong.items()))
    text.append(f"{n} answers, {complete} complete, {wrong['double']} double "
                f"counts; {said or 'all right'}")
    return wrong, "\n".join(text)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--teeth", action="store_true")
    parser.add_argument("file")
    args = parser.parse_args()
    with open(args.file, encoding="utf-8") as f:
        wrong, text = check(f, args.teeth)
    print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
