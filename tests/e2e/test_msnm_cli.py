# SPDX-License-Identifier: GPL-2.0-or-later
"""linnet msnm: made inputs, and every input that is not accepted."""
import json
import math
import os
import pty
import random
import re
import select
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from msnm_cli import (DEADLINE_S, FIELDS, LINNET, all_near,  # noqa: E402
                      as_flows, call, lines, linnet, near, needs_msnm, refused)

pytestmark = needs_msnm

# ---- made inputs --------------------------------------------------------

NAMES = ["flows", "packets", "bytes", "syn", "dns", "never", "same", "dns"]


def made_rows(n, seed=1):
    """Counters that two hidden causes move, one 0, one always 0.1."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        a, b = rng.gauss(100, 20), rng.gauss(10, 3)
        rows.append([a + rng.gauss(0, 1), 3 * a + b + rng.gauss(0, 2),
                     900 * a + rng.gauss(0, 500), b + rng.gauss(0, .5),
                     2 * b + a / 10 + rng.gauss(0, .4), 0, 0.1,
                     b - a / 20 + rng.gauss(0, .3)])
    return rows


def as_text(rows, names=NAMES, index=True):
    head = ([""] if index else []) + names
    body = [([f"r{i}"] if index else []) +
            ["" if v is None else repr(v) for v in row]
            for i, row in enumerate(rows)]
    return "".join(",".join(x) + "\n" for x in [head, *body])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Directory with rows.csv, model.json and what calibrate printed."""
    directory = tmp_path_factory.mktemp("msnm")
    rows = made_rows(240)
    (directory / "rows.csv").write_text(as_text(rows))
    summary, = linnet("calibrate", "--input", directory / "rows.csv",
                      "--lv", 2, "--output", directory / "model.json")
    return directory, rows, summary


def judge(model, row):
    """Q and D from the numbers of a model file."""
    z = [(x - m) / s for x, m, s in zip(row, model["mean"], model["scale"])]
    planes = model["loadings"][:model["lv"]]
    t = [sum(p * v for p, v in zip(plane, z)) for plane in planes]
    e = [v - sum(a * p[j] for a, p in zip(t, planes))
         for j, v in enumerate(z)]
    return (sum(v * v for v in e),
            sum(a * a / v for a, v in zip(t, model["eigenvalues"])))


def test_calibrate_summary(made):
    directory, rows, summary = made
    model = json.loads((directory / "model.json").read_text())
    assert list(summary) == ["n", "m", "rank", "lv", "explained", "ucl_q",
                             "ucl_d", "ckf", "quality", "schema", "elapsed_us"]
    assert (summary["n"], summary["m"], summary["rank"], summary["lv"]) \
        == (240, 8, 6, 2)
    assert summary["explained"] > 0.97 and summary["ckf"][0] == 1
    assert summary["quality"] == [] and model["constant"] == [5, 6]
    assert summary["schema"] == model["schema"]["hash"]
    columns = list(zip(*rows))
    mean = [math.fsum(c) / 240 for c in columns]
    assert all_near(model["mean"], mean, 1e-12, 1e-300)
    spread = [math.sqrt(math.fsum((x - m) ** 2 for x in c) / 239)
              for c, m in zip(columns, mean)]
    spread[5] = spread[6] = math.sqrt(1 / 479)
    assert all_near(model["scale"], spread, 1e-12)


def test_calibrate_options(made):
    """Which limits are active, how rows are prepared, what is too few."""
    directory, _, usual = made
    path = directory / "options.json"

    def model_of(*options):
        summary, = linnet("calibrate", "--input", directory / "rows.csv",
                          "--lv", 2, *options, "-o", path)
        model = json.loads(path.read_text())
        limits = model["limits"]
        assert summary["ucl_d"] == limits["ucl_d"]
        assert summary["quality"] == model["quality"]
        return model, limits["ucl_q"], limits["ucl_d"], limits
    _, _, ucl, limits = model_of("--phase", 1)
    assert ucl == limits["d"]["phase1"] < limits["d"]["phase2"]
    assert limits["d"]["phase2"] == usual["ucl_d"]
    _, q, d, limits = model_of("--limits", "empirical", "--alpha", 0.05)
    assert (q, d) == (limits["q"]["empirical"], limits["d"]["empirical"])
    _, best, top, limits = model_of("--limits", "max", "--alpha", 0.05)
    assert (best, top) == (max(q, limits["q"][limits["q"]["method"]]),
                           max(d, limits["d"]["phase2"]))
    model, q, _, _ = model_of("--limits", "max")
    assert model["quality"] == ["few_rows"] and q == usual["ucl_q"]
    for prep in (0, 1):
        model = model_of("--prep", prep)[0]
        assert model["scale"] == [1] * 8 and model["prep"] == prep
        assert (model["mean"] == [0] * 8) == (prep == 0)


def test_observe_rows(made):
    directory, rows, summary = made
    model = json.loads((directory / "model.json").read_text())
    answers = linnet("observe", "--model", directory / "model.json",
                     "--input", directory / "rows.csv", "--diagnose",
                     "--format", "jsonl")
    assert [a["row"] for a in answers] == list(range(240))
    assert [a["id"] for a in answers[:2]] == ["r0", "r1"]
    for a, row in zip(answers, rows):
        q, d = judge(model, row)
        assert near(a["q"], q) and near(a["d"], d)
        assert a["ucl_q"] == summary["ucl_q"] and a["state"] == "ok"
        over = ("q" if a["q"] > a["ucl_q"] else "") \
            + ("d" if a["d"] > a["ucl_d"] else "")
        assert a["over"] == (over or "none")
        assert near(sum(map(abs, a["residual"])), q)
        assert a["univariate"][5] == a["novelty"] == 0
        assert a["omeda"][5] == a["omeda"][6] == 0
        by = "residual" if q / a["ucl_q"] >= d / a["ucl_d"] else "omeda"
        order = sorted(range(8), key=lambda j: -abs(a[by][j]))
        assert [t["index"] for t in a["top"]][:6] == order[:6]
        for t in a["top"]:
            assert t["name"] == NAMES[t["index"]] and t["by"] == by
            assert t["value"] == a[by][t["index"]]
    assert "missing" not in answers[0]


def test_new_counter_is_named(made):
    """One event on a counter that was constant: novelty, first in top."""
    directory, rows, _ = made
    row = list(rows[7])
    for at, amount in ((5, 1), (6, 1.1)):
        row[at] = amount
        a, = linnet("observe", "--model", directory / "model.json",
                    "--input", "-", "--diagnose", stdin=as_text([row]))
        assert a["top"][0]["name"] == NAMES[at] and a["over"][0] == "q"
        assert a["alarm"]
        assert near(a["residual"][at], 479)
        row[at] = rows[7][at]


def rule_of(answers, k, n, factor):
    """Section by section what the rule says: True where it alarms."""
    over = [a["over"] != "none" for a in answers]
    return [over[i] and (sum(over[max(0, i - n + 1):i + 1]) >= k
                         or a["q"] > factor * a["ucl_q"]
                         or a["d"] > factor * a["ucl_d"])
            for i, a in enumerate(answers)]


@pytest.mark.parametrize("rule", ["2:3:3", "1:1:1", "3:5:2", "4:64:900.5"])
def test_alarm_rule(made, rule):
    directory, rows, _ = made
    rng = random.Random(3)
    noisy = [[v * rng.choice([1, 1, 1.02, 1.3]) for v in r] for r in rows]
    option = [] if rule == "2:3:3" else ["--alarm", rule]
    answers = linnet("observe", "--model", directory / "model.json",
                     "--input", "-", *option, stdin=as_text(noisy))
    k, n, factor = rule.split(":")
    want = rule_of(answers, int(k), int(n), float(factor))
    assert [a["alarm"] for a in answers] == want
    assert True in want and False in want


def test_row_range(made):
    directory, _, _ = made
    args = ("observe", "--model", directory / "model.json", "--input")
    every = linnet(*args, directory / "rows.csv")
    assert linnet(*args, directory / "rows.csv", "--rows", "30:50") \
        == every[30:50]
    with open(directory / "rows.csv", encoding="utf-8") as f:
        text = f.read()
    assert linnet(*args, "-", "--rows", "30:50", stdin=text) == every[30:50]
    summary, = linnet("calibrate", "--input", directory / "rows.csv", "--lv",
                      1, "--rows", "40:100", "--output",
                      directory / "part.json")
    assert summary["n"] == 60
    assert "240" in refused(*args, directory / "rows.csv", "--rows", "200:241")


def test_cleaned_rows_are_listed(made):
    """By their numbers in the file, also with --rows."""
    directory, rows, _ = made
    dirty = [list(r) for r in rows]
    for i in (60, 90):
        dirty[i][0] *= 40
    text = as_text(dirty)
    for option in ([], ["--rows", "50:240"]):
        summary, = linnet("calibrate", "--input", "-", "--lv", "auto",
                          "--clean", 0.05, *option, "--output",
                          directory / "clean.json", stdin=text)
        model = json.loads((directory / "clean.json").read_text())
        assert {60, 90} <= set(model["rows"]["dropped"])
        assert summary["quality"] == model["quality"] == ["cleaned"]
        assert model["rows"]["used"] == summary["n"]


def test_all_latent_variables(made):
    """lv = rank: no residual, so Q has no limit and is never over."""
    directory, rows, _ = made
    summary, = linnet("calibrate", "--input", directory / "rows.csv", "--lv",
                      6, "--output", directory / "full.json")
    assert summary["ucl_q"] is None
    spike = [x * 50 for x in rows[0]]
    a, = linnet("observe", "--model", directory / "full.json", "--input", "-",
                "--diagnose", stdin=as_text([spike]))
    assert a["ucl_q"] is None and a["over"] == "d" and a["alarm"]
    assert {t["by"] for t in a["top"]} == {"omeda"}


@pytest.mark.parametrize("method", ["tsr", "average", "zero"])
def test_missing_cells(made, method):
    directory, rows, _ = made
    model = json.loads((directory / "model.json").read_text())
    holes = [list(rows[3]), [None] * 8, list(rows[4])]
    holes[0][1] = holes[0][5] = None
    first, nothing, whole = linnet(
        "observe", "--model", directory / "model.json", "--input", "-",
        "--missing", method, stdin=as_text(holes))
    assert first["missing"] == [1, 5] and first["imputed_by"] == method
    assert 0 < first["imputed_share"] < 0.3 and "missing" not in whole
    x = first["filled"][0]
    want = {"zero": 0, "average": model["mean"][1], "tsr": rows[3][1]}[method]
    assert near(x, want, 0.05 if method == "tsr" else 1e-12, 1e-300)
    assert near(nothing["imputed_share"], 1)
    assert nothing["state"] == "suppressed" and not nothing["alarm"]
    # all informative columns are missing: the mean is what is left
    assert nothing["imputed_by"] == ("zero" if method == "zero" else "average")


def test_replay_learns(made):
    """Batches, skipped rows, states; n = lambda n + B."""
    directory, rows, _ = made
    rows = [list(r) for r in rows]
    rows[25][0] = None
    rows[30][0] = 1e6
    (directory / "run.csv").write_text(as_text(rows))
    args = ["--batch", 12, "--lambda", 0.5, "--lv", 2, "--models"]
    got = linnet("replay", "--input", directory / "run.csv", *args)
    models = [g for g in got if "model" in g]
    answers = [g for g in got if "model" not in g]
    assert len(answers) == 240 and [m["model"] for m in models] \
        == list(range(19))
    assert models[1]["rows"] == [12, 24] and models[2]["rows"] == [24, 38]
    assert [m["learned"] for m in models] == [12] * 19
    assert [m["skipped"] for m in models[:4]] == [0, 0, 2, 0]
    assert got[12] == models[0] and "eigenvalues" in got[12]
    assert [m["n"] for m in models[:3]] == [12, 18, 21]
    first = answers[0]
    assert [first[x] for x in ("q", "d", "ucl_q", "ucl_d", "over", "alarm",
                               "state", "n")] \
        == [None] * 4 + ["none", False, "learning", 0]
    assert answers[12]["n"] == 12 and answers[12]["state"] == "warming"
    assert answers[37]["n"] == 18 and answers[37]["state"] == "ok"
    assert answers[25]["missing"] == [0]
    assert not any(a["alarm"] for a in answers if a["state"] != "ok")
    assert answers[30]["alarm"]
    kept = linnet("replay", "--input", "-", *args, "--quarantine", 0,
                  stdin=as_text(rows))
    assert [m["skipped"] for m in kept if "model" in m][:4] == [0, 0, 1, 0]


def test_replay_warm(made):
    """The warm model judges until the first batch is learned."""
    directory, _, _ = made
    observed = linnet("observe", "--model", directory / "model.json",
                      "--input", directory / "rows.csv")
    got = linnet("replay", "--input", directory / "rows.csv", "--batch", 60,
                 "--lambda", 1, "--warm", directory / "model.json")
    for a, b in zip(got[:60], observed):
        assert a.pop("n") == 240 and a == b
    assert got[60]["n"] == 300 and got[60]["q"] != observed[60]["q"]
    message = refused("replay", "--input", directory / "rows.csv", "--batch",
                      60, "--lambda", 1, "--warm", directory / "model.json",
                      "--lv", 3)
    assert "lv 2" in message


# ---- forms of a file ----------------------------------------------------

def test_forms_of_one_table(made):
    """CRLF, a byte order mark, comments, no index: the same answers."""
    directory, rows, _ = made
    text = as_text(rows)
    args = ("observe", "--model", directory / "model.json", "--input", "-")
    plain = linnet(*args, stdin=text)
    forms = [text.replace("\n", "\r\n"), "\ufeff" + text, text[:-1],
             "# comment\r\n# linnet-features csv 0\r\n" + text,
             "\ufeff# \u00e4\n" + text, text.replace(",", "ts,", 1)]
    for form in forms:
        assert linnet(*args, stdin=form) == plain
    bare = linnet(*args, stdin=as_text(rows, index=False))
    assert [{**a, "id": b["id"]} for a, b in zip(bare, plain)] == plain
    assert "id" not in bare[0]
    env = dict(os.environ, LC_ALL="de_DE.UTF-8", LC_NUMERIC="de_DE.UTF-8")
    assert linnet(*args, stdin=text, env=env) == plain


def test_numbers_in_all_forms(made):
    """Digits as spreadsheets and numpy write them."""
    directory, rows, _ = made
    row = [100, 310, 90000, 10.5, 31, 0, 0.1, 5]
    odd = ["+100", "310.", "9e4", "1.05E+1", "0031", "-0", ".1", "5.000"]
    args = ("observe", "--model", directory / "model.json", "--input", "-")
    a, = linnet(*args, stdin=as_text([row], index=False))
    b, = linnet(*args, stdin=",".join(NAMES) + "\n" + ",".join(odd))
    assert a == b


def test_schema_of_the_file(made):
    """Rows of another kind are not judged."""
    directory, rows, _ = made
    text = "# linnet-features packets/1 60\n" + as_text(rows)
    summary, = linnet("calibrate", "--input", "-", "--lv", 2, "--output",
                      directory / "packets.json", stdin=text)
    model = json.loads((directory / "packets.json").read_text())
    assert model["schema"]["semantics"] == "packets/1"
    assert model["schema"]["window_s"] == 60
    assert summary["schema"] == model["schema"]["hash"]
    args = ("--input", "-", "--model")
    assert linnet("observe", *args, directory / "packets.json", stdin=text)
    for path, bad in (("packets.json", as_text(rows)),
                      ("model.json", text)):
        message = refused("observe", *args, directory / path, stdin=bad)
        assert re.match(r"-:[12]:1: ", message) and "packets/1" in message


# ---- what is not accepted -----------------------------------------------

GOOD = "id,a,b,c\n" + "".join(f"x{i},{i % 7},{i % 5},{i * i % 11}\n"
                              for i in range(40))
BAD = {
    "empty": ("", 1, 1),
    "only a comment": ("# x\n", 1, 1),
    "no header": ("1,2,3\n4,5,6\n", 1, 1),
    "no row": ("id,a,b\n", 2, 1),
    "unnamed column": ("id,a,,c\n1,2,3,4\n", 1, 3),
    "too few cells": (GOOD + "x,1,2\n", 42, 4),
    "too many cells": (GOOD + "x,1,2,3,4\n", 42, 5),
    "not a number": (GOOD + "x,1,two,3\n", 42, 3),
    "comma as point": (GOOD.replace("x7,0,2,5", "x7,0;2,2,5"), 9, 2),
    "hexadecimal": (GOOD + "x,0x1,2,3\n", 42, 2),
    "nan": (GOOD + "x,1,2,NaN\n", 42, 4),
    "infinite": (GOOD + "x,1,inf,2\n", 42, 3),
    "too large": (GOOD + "x,1,2,1e151\n", 42, 4),
    "quoted": (GOOD + 'x,"1",2,3\n', 42, 2),
    "blank line": (GOOD + "\nx,1,2,3\n", 42, 1),
    "NUL": (GOOD + "x,1,2\0,3\n", 42, 3),
    "bad schema line": ("# linnet-features packets/1\n" + GOOD, 1, 1),
    "not UTF-8": (GOOD.encode() + b"\xe4,1,2,3\n", 42, 1),
    "NUL in the header": ("id,a,b\0,c\n1,2,3,4\n", 1, 3),
}


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model of GOOD."""
    path = tmp_path_factory.mktemp("good") / "model.json"
    linnet("calibrate", "--input", "-", "--lv", 1, "--output", path,
           stdin=GOOD)
    return path


@pytest.mark.parametrize("what", BAD)
def test_bad_table(good, tmp_path, what):
    """Its place is named, nothing printed, the output not touched."""
    text, line, column = BAD[what]
    path, old = tmp_path / "bad.csv", tmp_path / "old.json"
    path.write_bytes(as_bytes(text))
    old.write_text("old")
    place = f"{path}:{line}:{column}: "
    message = refused("calibrate", "--input", path, "--lv", 1, "--output", old)
    assert message.startswith(place), message
    assert old.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    message = refused("replay", "--input", path, "--lv", 1, "--batch", 10,
                      "--lambda", 1)
    assert message.startswith(place), message
    done = call("calibrate", "--input", "-", "--lv", 1, "--output", old,
                stdin=as_bytes(text))
    assert done.stderr.decode().startswith(f"linnet: -:{line}:{column}: ")
    if line > 1:  # else it is not the model's header
        message = refused("observe", "--input", path, "--model", good) \
            if what != "no row" else place
        assert message.startswith(place), message


def test_empty_cell(good, tmp_path):
    text = GOOD + "x,1,,3\n"
    path = tmp_path / "rows.csv"
    path.write_text(text)
    for args in (["calibrate", "--lv", 1, "--output", tmp_path / "x"],
                 ["observe", "--model", good, "--missing", "refuse"]):
        assert refused(*args, "--input", path).startswith(f"{path}:42:3: ")
    assert linnet("observe", "--model", good, "--input",
                  path)[40]["missing"] == [1]
    # rows of standard input stand
    done = call("observe", "--model", good, "--missing", "refuse", "--input",
                "-", stdin=text)
    assert done.returncode == 78 and len(lines(done.stdout.decode())) == 40
    assert done.stderr.decode().startswith("linnet: -:42:3: ")


def test_other_columns(good):
    args = ("observe", "--model", good, "--input", "-")
    for head, column in (("id,a,x,c", 3), ("id,a,b,c,d", 5), ("id,a,b", 4),
                         ("a,c,b", 2), ("id,b,a,c", 2)):
        row = ",".join("1" for _ in head.split(","))
        message = refused(*args, stdin=f"# x\n{head}\n{row}\n")
        assert message.startswith(f"-:2:{column}: "), (head, message)


def test_combinations_not_acceptable(good, tmp_path):
    out = ["--output", tmp_path / "m"]
    cases = [
        (["calibrate", "--lv", 4], GOOD, "3"),
        (["calibrate", "--lv", 1], "a,b\n1,2\n", "at least 3"),
        (["calibrate", "--lv", 1], "a,b\n" + "1,2\n" * 50, "varies"),
        (["calibrate", "--lv", 1, "--rows", "0:99"], GOOD, "40"),
    ]
    for args, text, word in cases:
        message = refused(*args, "--input", "-", *out, stdin=text)
        assert word in message, message
    replay = ["replay", "--input", "-", "--lambda", 1]
    assert "batch" in refused(*replay, "--batch", 3, "--lv", 2, stdin=GOOD)
    path = tmp_path / "run.csv"
    path.write_text("a,b\n" + "1,2\n" * 20 + "3,4\n5,1\n" * 20)
    replay[2] = path
    assert "rows 0:10" in refused(*replay, "--batch", 10, "--lv", 1)


def test_bad_models(good, tmp_path):
    text = good.read_text()
    path = tmp_path / "m.json"
    model = json.loads(text)
    model["loadings"][0][0] *= 1.001
    cases = ["", "{}", text[:-30], text.replace('"version": 1', '"version": 2'),
             json.dumps(model), "[]" * 100000]
    for bad in cases:
        path.write_text(bad)
        message = refused("observe", "--model", path, "--input", "-",
                          stdin=GOOD)
        assert message.startswith(f"{path}: ")
    assert "is missing" in message or "JSON" in message
    refused("observe", "--model", tmp_path / "none", "--input", "-")
    refused("observe", "--model", good, "--input", tmp_path / "none")
    refused("observe", "--model", good, "--input", tmp_path)


# What is enough but for files that are there: that is found later, with 78.
ENOUGH = {
    "calibrate": ["--input=none", "--lv=1", "--output=none/none"],
    "observe": ["--model=none", "--input=none"],
    "replay": ["--input=none", "--batch=5", "--lambda=1", "--lv=1"],
    "count": ["--input=none"],
}
WRONG = {
    "calibrate": ["--lv=0", "--lv=-1", "--lv=many", "--prep=3", "--prep=",
                  "--alpha=0", "--alpha=0.51", "--alpha=nan", "--phase=3",
                  "--phase=0", "--limits=most", "--clean=0.51", "--clean=-1",
                  "--rows=5", "--rows=5:5", "--rows=6:5", "--rows=-1:5",
                  "--rows=0:", "--unknown", "--batch=5", "--output=",
                  "--missing=tsr", "--format=jsonl"],
    "observe": ["--missing=what", "--alarm=3:2:1", "--alarm=2:3",
                "--alarm=2:3:0.5", "--alarm=0:3:3", "--alarm=1:65:3",
                "--format=csv", "--lv=2", "--rows=1:1", "--model="],
    "replay": ["--lambda=0", "--lambda=1.1", "--prep=0", "--lv=auto",
               "--batch=0", "--quarantine=-1", "--phase=1", "--limits=max"],
    "count": ["--lv=1", "--rows=0:1", "--per-record=1"],
}


@pytest.mark.parametrize("verb, option", [
    (verb, option) for verb in WRONG for option in WRONG[verb]])
def test_wrong_option(verb, option):
    """Also where the command would go on to fail otherwise."""
    refused(verb, *ENOUGH[verb])
    message = refused(verb, *ENOUGH[verb], option, exit_status=2)
    assert message.startswith(option.split("=")[0]), message


@pytest.mark.parametrize("verb, at", [
    (verb, at) for verb in ENOUGH for at in range(len(ENOUGH[verb]))])
def test_missing_option(verb, at):
    some = list(ENOUGH[verb])
    option = some.pop(at).split("=")[0]
    assert refused(verb, *some, exit_status=2) \
        == f"{option}: must be given (see --help)"


def test_wrong_words():
    refused("guess", exit_status=2)
    for verb, options in ENOUGH.items():
        assert "usage" in refused(verb, *options, "operand", exit_status=2)


# ---- streams and outputs ------------------------------------------------

def test_rows_are_answered_as_they_come(good):
    head, *rows = GOOD.splitlines(True)
    child = subprocess.Popen(
        [LINNET, "msnm", "observe", "--model", good, "--input", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    guard = threading.Timer(DEADLINE_S, child.kill)
    guard.start()
    try:
        child.stdin.write(head.encode())
        for i, row in enumerate(rows[:5]):
            child.stdin.write(row.encode())
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["row"] == i
        child.stdin.write(b"x,1,2\n")
        out, err = child.communicate()
    finally:
        guard.cancel()
    assert (child.returncode, out) == (78, b"")
    assert err.startswith(b"linnet: -:7:4: ")


def test_output_cannot_be_written(good, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    calibrate = ["calibrate", "--input", path, "--lv", 1, "--output"]
    # our own, lest a broken command takes the host's
    os.mknod(tmp_path / "full", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    for target in (tmp_path / "full", tmp_path, tmp_path / "none/m.json",
                   "/proc/m.json"):
        refused(*calibrate, target, exit_status=74)
    assert (tmp_path / "full").is_char_device()
    observe = [LINNET, "msnm", "observe", "--model", good, "--input", path]
    count = [LINNET, "msnm", "count", "--input", tmp_path / "flows.csv"]
    (tmp_path / "flows.csv").write_text(as_flows([FLOW] * 3))
    replay = [LINNET, "msnm", "replay", "--input", path, "--lv", "1",
              "--batch", "9", "--lambda", "1"]
    for argv in (observe, replay, count):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE,
                                  timeout=DEADLINE_S, check=False)
        assert done.returncode == 74 and done.stderr.count(b"\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) \
        == ["flows.csv", "full", "rows.csv"]


def test_reader_goes_away(made):
    """linnet ... | head: no message, but the exit status."""
    directory, _, _ = made
    read, write = os.pipe()
    child = subprocess.Popen(
        [LINNET, "msnm", "observe", "--model", directory / "model.json",
         "--input", directory / "rows.csv", "--diagnose"],
        stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    _, err = child.communicate(timeout=DEADLINE_S)
    assert (child.returncode, err) == (74, b"")


def test_model_file_is_replaced(good, tmp_path):
    """Mode and links stay; saved twice it differs in its time alone."""
    path, link = tmp_path / "m.json", tmp_path / "link.json"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to("m.json")
    linnet("calibrate", "--input", "-", "--lv", 1, "--output", link,
           stdin=GOOD)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    first, second = json.loads(path.read_text()), json.loads(good.read_text())
    assert first.pop("created") and second.pop("created")
    assert first == second
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json",
                                                          "m.json"]


def test_progress_on_a_terminal(good, tmp_path):
    """After a second a line counts rows; nothing of it on a pipe."""
    fifo = tmp_path / "rows.csv"
    os.mkfifo(fifo)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [LINNET, "msnm", "observe", "--model", good, "--input", fifo],
        stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen, until = b"", time.monotonic() + DEADLINE_S
    with open(fifo, "w", encoding="ascii") as f:
        f.write(GOOD)
        while b"rows" not in seen and time.monotonic() < until:
            f.write("x,1,2,3\n" * 64)
            f.flush()
            if select.select([ours], [], [], 0.05)[0]:
                seen += os.read(ours, 4096)
    assert re.search(rb"\rlinnet: \d+ rows", seen)
    assert child.wait(DEADLINE_S) == 0
    os.close(ours)


def test_timing(made):
    directory, _, _ = made
    done = call("observe", "--model", directory / "model.json", "--input",
                directory / "rows.csv", "--timing")
    assert done.returncode == 0 and len(lines(done.stdout.decode())) == 240
    timing, = lines(done.stderr.decode())
    assert timing["rows"] == 240 and timing["judge_ns_per_row"] > 0


# ---- flow records -------------------------------------------------------

FLOW = "10.0.0.6,8.8.8.8,40000,443,TCP,.AP...,0,20,5000,3,200,1,65535"


def nonzero(flow, fields=FIELDS):
    record, total = linnet("count", "--input", "-", "--per-record",
                           stdin=as_flows([flow], fields))
    assert record["record"] == 0 and total["records"] == 1
    assert len(total["counters"]) == 144
    assert record["nonzero"] == [i for i, n in enumerate(total["counters"])
                                 if n]
    return set(record["nonzero"])


def test_count_rules(tmp_path):
    """Classes, closed ranges, what is absent; columns in any order."""
    every = nonzero(FLOW)
    # private to public; 20 packets are few and some
    assert {0, 3, 53, 79, 104} <= every and 1 not in every and 2 not in every
    assert len(every & set(range(118, 122))) == 2
    extra = nonzero("x y," + FLOW, "ts," + FIELDS)
    assert extra == every
    for cell, gone in ((0, {0}), (1, {3}), (3, {79, 102})):
        cells = FLOW.split(",")
        cells[cell] = "8.0" if cell == 3 else "::1"
        assert nonzero(",".join(cells)) == every - gone
    for address, at in (("100.64.0.1", 0), ("127.0.0.1", 0), ("0.1.2.3", 0),
                        ("224.0.0.1", 0), ("255.255.255.255", 0),
                        ("169.254.0.1", 0), ("fc00::1", 0), ("x", 0),
                        ("172.31.0.1", 2), ("172.32.0.1", 3),
                        ("192.168.9.9", 2), ("100.128.0.1", 3)):
        assert nonzero(FLOW.replace("8.8.8.8", address)) & {2, 3} \
            == ({at} - {0}), address
    assert 108 in nonzero(FLOW.replace("TCP", "GRE")) - every
    path = tmp_path / "flows.csv"
    path.write_text(as_flows([FLOW] * 3))
    total, = linnet("count", "--input", path)
    assert total["records"] == 3
    assert {i for i, n in enumerate(total["counters"]) if n == 3} == every


def test_count_refuses(tmp_path):
    path = tmp_path / "flows.csv"
    for text, line, column in (
            ("", 1, 1), (as_flows([]), 2, 1),
            (as_flows([FLOW], FIELDS.replace("stos", "tos")), 1, 14),
            (as_flows([FLOW, FLOW + ",1"]), 3, 14),
            (as_flows([FLOW, FLOW[:-6]]), 3, 13)):
        path.write_text(text)
        message = refused("count", "--input", path, "--per-record")
        assert message.startswith(f"{path}:{line}:{column}: "), message
