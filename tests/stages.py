#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test by stages; tests/run starts it.

Needs root and Debian 12; installs what is missing.  The build directory is
LINNET_BUILD or build/; variants stand beside it.  The last line counts all
tests; the exit status is 0 only if none failed.
"""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("LINNET_BUILD", TREE / "build")).resolve()
LOGS = BUILD / "test-logs"
PYTEST = ["/usr/bin/python3", "-m", "pytest", "-q", "-ra", "--color=no",
          "-p", "no:cacheprovider", "--durations=10"]
START = time.monotonic()


def variant(name):
    """The build directory of a variant, beside the main one."""
    return BUILD if name == "" else BUILD.with_name(f"{BUILD.name}-{name}")


# ---- what a stage runs: lists of commands -------------------------------

def build(name, *options, targets=(), cc="gcc", werror=True):
    """Configures once, then builds; a warning is an error."""
    directory = variant(name)
    setup = ["meson", "setup", f"-Dwerror={str(werror).lower()}", *options]
    if (directory / "build.ninja").exists():
        setup.append("--reconfigure")
    return [["env", f"CC={cc}", *setup, directory, TREE],
            ["ninja", "-C", directory, *targets]]


def lint(which):
    return [["/usr/bin/python3", TREE / "tests/lint/lint.py", BUILD, which]]


def meson_test(name):
    return [["rm", "-f", variant(name) / "meson-logs/testlog.json"],
            ["meson", "test", "-t", "5", "-C", variant(name),
             "--print-errorlogs"]]


def pytest(stage, *args, name=""):
    return [["env", f"LINNET_BUILD={variant(name)}", *PYTEST,
             f"--junitxml={LOGS / stage}.xml", *args]]


# ---- how a stage is counted: (passed, failed, skipped) ------------------

def count_exit(stage, status, text):
    """The stage is one test."""
    return (0, 1, 0) if status else (1, 0, 0)


def count_nothing(stage, status, text):
    """A preparation: only its failure counts."""
    return (0, 1, 0) if status else (0, 0, 0)


def count_summary(stage, status, text):
    """The last line says "N passed, N failed, N skipped"."""
    rows = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$",
                      text, re.M)
    return tuple(int(n or 0) for n in rows[-1]) if rows else (0, 0, 0)


def count_meson(name):
    def count(stage, status, text):
        log = variant(name) / "meson-logs/testlog.json"
        results = [json.loads(line)["result"]
                   for line in log.read_text().splitlines()]
        passed = sum(r in ("OK", "EXPECTEDFAIL") for r in results)
        skipped = results.count("SKIP")
        return passed, len(results) - passed - skipped, skipped
    return count


def count_junit(stage, status, text):
    failed = skipped = total = 0
    for suite in ET.parse(LOGS / f"{stage}.xml").getroot().iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    return total - failed - skipped, failed, skipped


MSNM = [TREE / "tests/e2e" / f"test_msnm{x}.py" for x in ("", "_agent", "_cli")]

# name, seconds allowed, commands, count
STAGES = [
    ("setup", 600, [[TREE / "tests/setup"]], count_nothing),
    ("gcc", 300, build(""), count_exit),
    ("hooks", 120, build("hooks", "-Dtest_hooks=true", "-Dtests=false",
                         targets=["monitor/linnet-monitor",
                                  "agent/linnet-agent",
                                  "tests/netns/readimage"]), count_exit),
    ("lint", 60, lint("--fast"), count_summary),
    # gcc's warnings are unreliable with sanitizers
    ("asan", 1100, build("asan", "-Db_sanitize=address,undefined",
                        werror=False), count_exit),
    ("clang", 1100, build("clang", cc="clang"), count_exit),
    ("analysis", 1100, lint("--slow"), count_summary),
    ("lint-self", 60, pytest("lint-self", "tests/lint"), count_junit),
    ("unit", 180, meson_test(""), count_meson("")),
    ("unit-asan", 1100, meson_test("asan"), count_meson("asan")),
    ("pcap", 120, pytest("pcap", "tests/netns/test_pcap.py"), count_junit),
    ("fuzz", 1100, [[TREE / "tests/fuzz/run"]], count_summary),
    ("model", 1100, [[TREE / "tests/model/run"]], count_summary),
    ("sim", 1100, [[TREE / "tests/model/sim/run"]], count_summary),
    ("msnm", 1100, pytest("msnm", *MSNM), count_junit),
    ("netns", 600, pytest("netns", "tests/netns",
                          "--ignore-glob=*/test_pcap.py",
                          "--ignore-glob=*/test_tree*.py"), count_junit),
    ("tree", 600, pytest("tree", *sorted(TREE.glob("tests/netns/test_tree*"))),
     count_junit),
    ("e2e", 600, pytest("e2e", "tests/e2e", *(f"--ignore={x}" for x in MSNM)),
     count_junit),
    ("netns-asan", 180, pytest("netns-asan", "tests/netns", "-m", "sanitize",
                               name="asan"), count_junit),
]
# These need a processor and no clock: from the first of them on they run one
# after the other beside the rest, when nothing else wants to run.
IDLE = {"asan", "clang", "analysis", "unit-asan", "fuzz", "model", "sim"}
BESIDE = IDLE | {"msnm"}  # waits for most of its time
AFTER = {"netns-asan"}  # wants what they built


class Runner:
    def __init__(self):
        self.total = [0, 0, 0]
        self.failed_stages = []
        self.lock = threading.Lock()
        self.stopped = False

    def say(self, text):
        print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)

    def command(self, argv, log, limit, name):
        """Runs one command in a process group of its own; exit status."""
        if name in IDLE:
            argv = ["chrt", "--idle", "0", *argv]
        log.write(("$ " + " ".join(map(str, argv)) + "\n").encode())
        log.flush()
        env = dict(os.environ, LINNET_BUILD=str(BUILD), PYTHONUNBUFFERED="1",
                   PYTHONDONTWRITEBYTECODE="1",
                   UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
        child = subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, cwd=TREE, env=env, start_new_session=True)
        until = time.monotonic() + limit
        tick = time.monotonic() + 30
        try:
            while True:
                try:
                    return child.wait(1)
                except subprocess.TimeoutExpired:
                    pass
                if self.stopped:
                    return 130
                if time.monotonic() > until:
                    log.write(f"\nnot done after {limit} s\n".encode())
                    return 124
                if name not in BESIDE and time.monotonic() > tick:
                    tick += 30
                    self.say("  " + last_line(Path(log.name)))
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                try:
                    child.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)

    def stage(self, name, limit, commands, count):
        self.say(f"{name} ..." + " (beside the rest)" * (name in BESIDE))
        began = time.monotonic()
        path = LOGS / f"{name}.log"
        (LOGS / f"{name}.xml").unlink(missing_ok=True)
        status = 0
        with open(path, "wb") as log:
            for argv in commands:
                status = self.command(argv, log, limit, name)
                if status:
                    break
        text = path.read_text(errors="replace")
        try:
            counts = count(name, status, text)
        except (OSError, ET.ParseError, ValueError):
            counts = (0, 0, 0)
        if status and counts[1] == 0:
            counts = (counts[0], 1, counts[2])
        with self.lock:
            self.report(name, counts, text, path, began)
        return counts[1] == 0

    def report(self, name, counts, text, path, began):
        self.total = [a + b for a, b in zip(self.total, counts)]
        self.say("{}: {} passed, {} failed, {} skipped ({:.0f} s)".format(
            name, *counts, time.monotonic() - began))
        if counts[2]:
            print("\n".join(re.findall(r"^SKIPPED.*|^skip .*", text, re.M)))
        if counts[1]:
            self.failed_stages.append(name)
            print("\n".join(text.splitlines()[-200:]))
            print(f"(all of it: {path})", flush=True)

    def run(self, stages):
        beside = [s for s in stages if s[0] in BESIDE]
        thread = threading.Thread(
            target=lambda: [self.stage(*s) for s in beside
                            if not self.stopped])
        try:
            for s in stages:
                if s[0] in AFTER and thread.ident:
                    thread.join()
                if s[0] not in BESIDE:
                    if not self.stage(*s) and s[0] in ("setup", "gcc"):
                        break
                elif not thread.ident:
                    thread.start()
        except KeyboardInterrupt:
            self.stopped = True
            raise
        finally:
            if thread.ident:
                thread.join()


def last_line(path):
    lines = path.read_text(errors="replace").split("\n")
    return next((x.strip()[-100:] for x in reversed(lines) if x.strip()), "")


def main(names):
    known = [s[0] for s in STAGES]
    if names == ["--list"]:
        print("\n".join(known))
        return 0
    unknown = [n for n in names if n not in known]
    if unknown:
        print(f"tests/run: no stage {unknown[0]}; there are: "
              f"{' '.join(known)}", file=sys.stderr)
        return 64
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runner = Runner()
    try:
        runner.run([s for s in STAGES if not names or s[0] in names])
    except KeyboardInterrupt:
        runner.failed_stages.append("interrupted")
        runner.total[1] += 1
    if runner.failed_stages:
        print("failed: " + " ".join(runner.failed_stages))
    print("{} passed, {} failed, {} skipped".format(*runner.total))
    return 1 if runner.failed_stages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
