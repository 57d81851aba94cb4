# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares api/README.md with the tables of the agent, in both directions:
messages and their fields, what fields allow, routes, errors, headers, members
of answers, reasons.  Used by lint.py.
"""
import re

README = "api/README.md"
# Sources that write the members of /api/v1.
ANSWERS = ("agent/v1.c", "agent/v1_answers.c", "agent/v1_answer_json.c",
           "agent/v1_tasks.c", "agent/resources.c",
           "agent/overlay_api.c", "agent/alarm_api.c",
           "agent/errors.c", "agent/msnm_answer.c", "agent/msnm_api.c",
           "agent/msnm_diag.c")
# The two meanings that one field name has.
TWICE = {"F_SRC": "`src` of a filter", "F_DST": "`dst` of a filter",
         "F_PROBE_SRC": "`src` of a probe", "F_PROBE_DST": "`dst` of a probe"}
# Rows of fields.c that only query strings of /api/v1 use.
PARAMETERS = {"F_N", "F_SHARE", "F_TREE_BASE", "F_LIMIT", "F_CURSOR",
              "F_TIMEOUT", "F_REQUIRE", "F_CONTRIBUTORS", "F_DISTINCT",
              "F_VERBOSE", "F_WINDOW"}


def strings(text):
    """C string literals in a row, joined."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))


def defines(text):
    """NAME -> text of the macros that are string literals or FIELD() sets."""
    text = text.replace("\\\n", " ")
    return dict(re.findall(r"^#define (\w+)\s+(.+)$", text, re.M))


def braces(text, start):
    """The text between the brace at start and the one that closes it."""
    depth = 0
    for m in re.compile(r'"(?:[^"\\]|\\.)*"|[{}]').finditer(text, start):
        depth += {"{": 1, "}": -1}.get(m.group(0), 0)
        if depth == 0:
            return text[start + 1:m.start()]
    return text[start:]


def table_of(text, declaration):
    """The rows of an array, each without its braces."""
    m = re.search(declaration + r"[^;{]*=\s*\{", text)
    if not m:
        return []
    body, rows, at = braces(text, m.end() - 1), [], 0
    while (m := re.compile(r'(?:\[(\w+)\] = )?\{').search(body, at)):
        row = braces(body, m.end() - 1)
        rows.append((m.group(1), row))
        at = m.end() + len(row)
    return rows


# ---- what the agent has -------------------------------------------------

def field_rows(tree):
    """id -> (name, allowed)"""
    text = tree.text("agent/fields.c")
    macros = defines(text)
    keys = strings(re.search(r"key_type_list\(void\)\s*\{(.*?)\}",
                             tree.text("common/key.c"), re.S).group(1))
    rows = {}
    for ident, row in table_of(text, r"struct field_row rows\[\]"):
        name, allowed, _ = re.split(r",\s*(?![^\"]*\"(?:[^\"]*\"[^\"]*\")*"
                                    r"[^\"]*$)", row.strip(), maxsplit=2)
        for macro, value in macros.items():
            allowed = re.sub(rf"\b{macro}\b", lambda _: value, allowed)
        rows[ident] = (strings(name),
                       keys if allowed.strip() == "NULL" else strings(allowed))
    return rows


def field_set(text, macros, names):
    """Names of the fields in "FIELD(A) | FIELDS_B"."""
    for _ in range(4):
        text = re.sub(r"\b[A-Z_]+\b(?!\()",
                      lambda m: macros.get(m.group(0), m.group(0)), text)
    return {names["F_" + f] for f in re.findall(r"FIELD\((\w+)\)", text)}


def messages(tree):
    """type -> (scope, role, required, optional)"""
    text = tree.text("agent/messages.c")
    macros = defines(text) | defines(tree.text("agent/fields.h"))
    names = {k: v[0] for k, v in field_rows(tree).items()}
    found = {}
    for _, row in table_of(text, r"struct message messages\[\]"):
        kind, role, scope, takes, needs, _ = (
            x.strip() for x in row.split(","))
        takes, needs = (field_set(x, macros, names) for x in (takes, needs))
        found[strings(kind)] = ("tree" if scope == "true" else "host",
                                role.removeprefix("ROLE_").lower(),
                                needs, takes - needs)
    return found


def routes(tree):
    """{(method, path, role)}"""
    found = set()
    for name in tree.named(r"^agent/\w+\.c$"):
        text = tree.text(name)
        rows = re.findall(r'\.pattern = "([^"]+)",\s*\.methods = ([^,]+?),'
                          r"\s*\.role = (\w+)", text)
        rows += [(p, "HTTP_GET | HTTP_HEAD", role) for p, role in
                 re.findall(r'\bGET_ROUTE\("([^"]+)", (\w+),', text)]
        rows += [("/api/v1/tasks/*/" + p, "HTTP_GET | HTTP_HEAD", "ROLE_READ")
                 for p in re.findall(r'\bANSWER_ROUTE\("([^"]+)",', text)]
        for path, methods, role in rows:
            role = {"ROLE_NONE": "–", "ROLE_IN_HANDLER": "by message"}.get(
                role, role.removeprefix("ROLE_").lower())
            found |= {(m, path.replace("*", "{id}"), role)
                      for m in re.findall(r"HTTP_(\w+)", methods)}
    return found


def errors(tree):
    """{(text, status, status of v1, problem)}"""
    found = set()
    for ident, row in table_of(tree.text("agent/errors.c"),
                               r"struct error_row rows\[\]"):
        m = re.match(r'\s*(\d+),\s*(\d+),\s*"([^"]*)",\s*"([^"]*)"', row)
        if ident != "ERR_NONE" and m:
            found.add((m.group(3), m.group(1), m.group(2), m.group(4)))
    return found


def words(tree):
    """{(problem, status)} of what builds the tree"""
    rows = re.findall(r'\[(TREE_\w+)\] = \{ "([^"]+)", (\d+) \}',
                      tree.text("agent/tree/message.c"))
    return {(name, status) for ident, name, status in rows
            if ident not in ("TREE_OK", "TREE_WAIT")}  # not sent


def members(tree):
    """Names of members that answers of /api/v1 have."""
    found = set()
    for name in ANSWERS:
        for m in re.finditer(r"\b(?:json_(?:put_\w+|open)|(?:v1_|msnm_|modelfile_)?put_\w+)"
                             r'\(\s*&?\w+,\s*"(\w+)"', tree.text(name)):
            found.add(m.group(1))
    return found


def headers(tree):
    """X-Linnet headers of the legacy form."""
    return {h for name in ("agent/messages.c", "agent/messages_sketch.c")
            for h in re.findall(r'"(X-Linnet-[A-Za-z-]+)"', tree.text(name))}


def reasons(tree):
    rows = re.findall(r"\[MISSING_\w+\]\s*=\s*\"([^\"]+)\"",
                      tree.text("agent/coverage.c"))
    return set(rows) - {"none", "answered"}


# ---- what the document says ---------------------------------------------

def doc_tables(text):
    """Cells of the rows below each header line, by that line."""
    found = {}
    for m in re.finditer(r"^(\|.*\|)\n\|[-|]+\|\n((?:\|.*\|\n)*)", text, re.M):
        rows = [[c.strip() for c in line.strip("|").split("|")]
                for line in m.group(2).splitlines()]
        found.setdefault(m.group(1), []).extend(rows)
    return found


def quoted(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def first(cell):
    return re.match(r"`?([^`]*)", cell).group(1)


def compare(what, have, said):
    return ([f"{README}: {what} {x} is not described" for x in
             sorted(map(str, have - said))] +
            [f"{README}: {what} {x} does not exist" for x in
             sorted(map(str, said - have))])


def findings(tree):
    text = re.sub(r"^```.*?^```$", "", tree.text(README), flags=re.M | re.S)
    tables = doc_tables(text)

    def rows(*columns):
        return tables.get("| " + " | ".join(columns) + " |", [])

    fields = field_rows(tree)
    have = {TWICE.get(k, f"`{n}`") + f" ({allowed})"
            for k, (n, allowed) in fields.items() if k not in PARAMETERS}
    said = {f"{r[0]} ({r[1]})" for r in rows("field", "allowed", "default")}
    found = compare("field", have, said)
    # scope stands in both tables
    have = {f"`{n}` ({allowed})" for k, (n, allowed) in fields.items()
            if k in PARAMETERS or k == "F_SCOPE"}
    said = {f"{r[0]} ({r[1]})" for r in rows("parameter", "allowed", "default")}
    found += compare("parameter", have, said)

    have = {f"{t}: {s}, {r}, {sorted(n)}, {sorted(o)}"
            for t, (s, r, n, o) in messages(tree).items()}
    said = {f"{first(r[0])}: {r[1]}, {r[2]}, {sorted(quoted(r[3]))}, "
            f"{sorted(quoted(r[4]))}" for r in
            rows("`type`", "scope", "role", "required", "optional", "reply")}
    found += compare("message", have, said)

    said = {(m, first(r[1]), r[2]) for r in
            rows("method", "path", "role", "parameters or members", "answer") +
            rows("method", "path", "role", "what") for m in r[0].split(", ")}
    found += compare("route", routes(tree), said)

    said = {(first(r[0]), r[1], r[2], first(r[3])) for r in
            rows("text", "status", "v1", "problem", "when")}
    found += compare("error", errors(tree), said)

    said = {(first(r[0]), r[1]) for r in
            rows("problem between agents", "status", "when")}
    found += compare("problem", words(tree), said)

    said = {first(r[0]) for r in rows("header", "value")}
    said |= quoted(text) & {"X-Linnet-Deadline"}
    found += compare("header", headers(tree), said)

    said = {first(r[0]) for r in rows("reason", "meaning")}
    found += compare("reason", reasons(tree), said)

    known = members(tree)
    said = set().union(*(quoted(r[0]) for r in rows("member", "meaning") +
                         rows("member", "allowed (default)")))
    found += [f"{README}: member {x} is not described" for x in
              sorted(known - quoted(text))]
    found += [f"{README}: member {x} does not exist" for x in
              sorted(said - known)]
    empty = [name for name, table in (
        ("messages.c", messages(tree)), ("fields.c", fields),
        ("errors.c", errors(tree)), ("coverage.c", reasons(tree)),
        ("tree/message.c", words(tree)))
        if not table]
    return found + [f"agent/{name}: found no rows" for name in empty]
