#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine can see of the project's rules:

    tests/lint/lint.py [BUILD] [--tree DIR] [--fast|--slow] [--only CHECK]

Each check is a function that returns findings, "file:line: text".  Prints one
line a check and the findings; the last line counts the checks.  A check that
needs a tool or a built program which is not there is skipped and says so.
"""
import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check_api  # noqa: E402

FUNCTION_LINES, FILE_LINES, HEADER_LINES = 80, 1000, 150
# A header may be longer only with a reason.
LONG_HEADERS = {
    "common/ctl.h": "one protocol, all of its messages",
    "common/sketch/sketch.h": "one contract for all kinds of sketch",
    "agent/tree/message.h": "one protocol, all of its messages",
    "agent/tree/private.h": "what the files of one machine share",
    "agent/tree/tree.h": "one contract for daemon and simulator",
}

# Headers of libc and of the kernel; what is not here is a third party's.
SYSTEM = re.compile(r"""^(?:(?:sys|linux|asm|netinet|arpa|net|bits)/.+
    |(?:assert|byteswap|ctype|dirent|endian|errno|fcntl|fenv|float|fnmatch
    |getopt|glob|grp|ifaddrs|inttypes|iso646|libgen|limits|locale|malloc|math
    |netdb|poll|pthread|pwd|regex|sched|semaphore|setjmp|signal|spawn|stdalign
    |stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string
    |strings|syslog|termios|threads|time|uchar|ucontext|unistd|utime|wchar
    |wctype|immintrin|emmintrin)\.h)$""", re.X)
LIBRARIES = {"json.h": "json-c", "pcap.h": "pcap", "cblas.h": "lapacke",
             "lapacke.h": "lapacke", "Rmath.h": "Rmath", "ini.h": "inih",
             "curses.h": "ncurses", "ncurses.h": "ncurses"}
# Third-party libraries that common/ may use, each in one file.
COMMON_LIBRARIES = {"lapacke": "common/msnm/", "Rmath": "common/msnm/"}

PROGRAMS = ("agent", "monitor", "api")
MAY_INCLUDE = {"common": ("common/",),
               "monitor": ("common/", "monitor/"),
               "agent": ("common/", "agent/"),
               "agent/detect": ("common/", "agent/detect/"),
               "api": ("common/", "api/", "agent/detect/")}
# A library inside a program: it knows nothing of the rest of it.
PARTS = ("agent/detect",)
# Directories whose files are alternatives to each other; None: all but the
# file named like the directory.
FAMILIES = {"common/sketch": ("cms", "exact", "topk", "hll", "spread", "quant",
                              "sample", "features"),
            "monitor/capture": None, "agent/member": None,
            "agent/export": None}

DENIED = ("system popen execlp execvp execvpe strcpy strcat sprintf vsprintf "
          "gets alloca atoi strtok rand srand").split()
DENIED_MONITOR = {
    r"\bNF_(?:DROP|REPEAT|QUEUE|STOLEN)\b": "a verdict that is not accept",
    r"UNBIND": "unbinding a queue: just close the socket",
    r"(?:put|set)\w*\s*\([^;]*NFQA_PAYLOAD": "sending NFQA_PAYLOAD",
}
DENIED_AGENT = {r"\bjson_object_get_int\w*": "unchecked integer access"}
AGENT_JSON = "agent/json.c"  # the checked accessors
WORDS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|/work/|/farm/|\bsleep [0-9]")
PYTHON_DENIED = re.compile(
    r"shell=True|os\.system|os\.popen|\bpkill\b|\bkillall\b|\bmn -c\b")
NO_SPDX = re.compile(r"^LICENSE$|\.(?:json|csv|gz|pcap|pcapng|svg|png|ico|bin)$"
                     r"|^tests/(?:data|fuzz/(?:corpus|seeds|crashes)[^/]*)/"
                     r"|^debian/(?:source/format|copyright)$")
# Objects that may change: the level of the log.
MUTABLE = {"log.c"}
# What the environment of a test build is called.
HOOK = re.compile(rb"LINNET_HOOK\w*")
MANUALS = {"monitor/linnet-monitor": "monitor/linnet-monitor.8",
           "agent/linnet-agent": "agent/linnet-agent.8",
           "api/linnet": "api/linnet.1"}

CHECKS = []


def check(fn):
    CHECKS.append(fn)
    return fn


class Skip(Exception):
    """The check cannot be made here; why."""


class Tree:
    """The files of the project, read once."""

    def __init__(self, root, build):
        self.root, self.build = Path(root), Path(build)
        self._text = {}
        done = subprocess.run(
            ["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"],
            capture_output=True, text=True, check=False)
        if done.returncode == 0:
            names = done.stdout.splitlines()
        else:
            names = [str(p.relative_to(self.root))
                     for p in self.root.rglob("*") if p.is_file()]
        self.files = sorted(n for n in set(names) if (self.root / n).is_file())

    def text(self, name):
        if name not in self._text:
            self._text[name] = (self.root / name).read_text(errors="replace")
        return self._text[name]

    def named(self, pattern):
        return [n for n in self.files if re.search(pattern, n)]

    def c_files(self, *tops):
        return [n for n in self.named(r"\.[ch]$")
                if not tops or n.split("/")[0] in tops]

    def code(self, name):
        """C text without comments and strings, lines kept."""
        def blank(m):
            return re.sub(r"[^\n]", " ", m.group(0))
        return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"'
                      r"|'(?:\\.|[^'\\\n])*'", blank, self.text(name),
                      flags=re.S)

    def includes(self, name):
        """(line, kind, header) of each include; kind is < or \"."""
        for i, line in enumerate(self.text(name).splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if m:
                yield i, m.group(1), m.group(2)


def library_of(header):
    return LIBRARIES.get(header, header.split("/")[0].removesuffix(".h"))


def part_of(name):
    return next((p for p in PARTS if name.startswith(p + "/")),
                name.split("/")[0])


def tool(name):
    if not shutil.which(name):
        raise Skip(f"no {name}")
    return name


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True,
                          text=True, check=False, **options)


@check
def layering(tree):
    """agent/ and monitor/ include common/, never each other."""
    found = []
    for name in tree.c_files("common", *PROGRAMS):
        allowed = MAY_INCLUDE[part_of(name)]
        if re.match(r"api/client\.[ch]$", name):
            allowed = ("api/client.h", "client.h")
        for line, kind, header in tree.includes(name):
            if kind == '"' and not header.startswith(allowed):
                found.append(f"{name}:{line}: must not include {header}")
    return found


@check
def third_party(tree):
    """One file per library and program, never a header, never common/."""
    found, users = [], {}
    for name in tree.c_files("common", *PROGRAMS):
        top = part_of(name)
        for line, kind, header in tree.includes(name):
            if kind != "<" or SYSTEM.match(header):
                continue
            library = library_of(header)
            home = COMMON_LIBRARIES.get(library)
            if name.endswith(".h") and not name.startswith("api/"):
                found.append(f"{name}:{line}: {header} in a header")
            elif top == "common" and not (home and name.startswith(home)):
                found.append(f"{name}:{line}: {header} in common/")
            else:
                users.setdefault((top, library), set()).add(name)
    for (top, library), names in sorted(users.items()):
        if len(names) > 1 and top != "api":
            found.append(f"{top}: {library} in {len(names)} files: "
                         + " ".join(sorted(names)))
    return found


@check
def families(tree):
    """Members of a family never include each other."""
    found = []
    for directory, members in FAMILIES.items():
        inside = [n for n in tree.c_files()
                  if os.path.dirname(n) == directory]
        stems = set(members or (Path(n).stem for n in inside))
        stems.discard(os.path.basename(directory))
        for name in inside:
            own = Path(name).stem
            if own not in stems:
                continue
            for line, kind, header in tree.includes(name):
                other = Path(header).stem
                if kind == '"' and os.path.dirname(header) == directory \
                        and other in stems and other != own:
                    found.append(f"{name}:{line}: includes its sibling "
                                 f"{header}")
    return found


@check
def spdx(tree):
    """Every file names its licence in its first lines."""
    return [f"{n}:1: no SPDX-License-Identifier" for n in tree.files
            if not NO_SPDX.search(n) and (tree.root / n).stat().st_size
            and "SPDX-License-Identifier: GPL-2.0-or-later"
            not in "\n".join(tree.text(n).splitlines()[:3])]


def c_functions(tree, name):
    """(first line, lines): a body stands between braces in column 0."""
    start = None
    for i, line in enumerate(tree.text(name).splitlines(), 1):
        if line == "{":
            start = i
        elif line.startswith("}") and start:
            yield start, i - start + 1
            start = None


@check
def sizes(tree):
    """Functions, files and headers stay within their limits."""
    found = []
    for name in tree.named(r"\.([ch]|py|js)$"):
        lines = len(tree.text(name).splitlines())
        if lines > FILE_LINES:
            found.append(f"{name}:1: {lines} lines")
        if name.endswith(".h") and lines > HEADER_LINES \
                and name not in LONG_HEADERS and name[:6] != "tests/":
            found.append(f"{name}:1: a header of {lines} lines")
        functions = []
        if re.search(r"\.[ch]$", name):
            functions = c_functions(tree, name)
        elif name.endswith(".py"):
            functions = [(n.lineno, n.end_lineno - n.lineno + 1)
                         for n in ast.walk(ast.parse(tree.text(name)))
                         if isinstance(n, ast.FunctionDef)]
        found += [f"{name}:{at}: a function of {n} lines"
                  for at, n in functions if n > FUNCTION_LINES]
    return found


@check
def deny_list(tree):
    """Functions that the project does without."""
    found = []
    general = {rf"\b{f}\s*\(": f"{f}()" for f in DENIED}
    for name in tree.c_files():
        patterns = dict(general)
        if name.startswith("monitor/"):
            patterns |= DENIED_MONITOR
        if name.startswith("agent/") and name != AGENT_JSON:
            patterns |= DENIED_AGENT
        code = tree.code(name)
        for pattern, what in patterns.items():
            found += [f"{name}:{code[:m.start()].count(chr(10)) + 1}: {what}"
                      for m in re.finditer(pattern, code)]
    return found


@check
def words(tree):
    """No unfinished work, no path of one machine, no broad kills."""
    found = []
    for name in tree.named(r"\.(c|h|py|sh|js|build|md|[1-8])$|^tests/[^/]+$|^\.ci/"
                           r"|^mininet/[^.]+$|^examples/"):
        if name.startswith("tests/lint/"):
            continue
        code = not name.endswith((".md", ".c", ".h"))
        for i, line in enumerate(tree.text(name).splitlines(), 1):
            m = WORDS.search(line) or code and PYTHON_DENIED.search(line)
            if m:
                found.append(f"{name}:{i}: {m.group(0).strip()}")
    return found


@check
def clang_format(tree):
    """The layout is what clang-format makes of it."""
    names = tree.c_files()
    done = run(tool("clang-format"), "--dry-run", "-Werror", *names,
               cwd=tree.root)
    rows = {}
    for name, line in re.findall(r"^(\S+?):(\d+):\d+: error", done.stderr,
                                 re.M):
        rows.setdefault(name, set()).add(int(line))
    return [f"{name}:{min(lines)}: {len(lines)} lines are not as clang-format "
            "writes them" for name, lines in sorted(rows.items())]


@check
def python_syntax(tree):
    """Scripts compile, import nothing that they do not use, and define nothing
    that they import."""
    found = []
    for name in tree.named(r"\.py$") + [
            n for n in tree.files if tree.text(n)[:40].startswith("#!")
            and "python3" in tree.text(n).splitlines()[0]
            and not n.endswith(".py")]:
        try:
            top = ast.parse(tree.text(name))
        except SyntaxError as e:
            found.append(f"{name}:{e.lineno}: {e.msg}")
            continue
        used = {n.id for n in ast.walk(top) if isinstance(n, ast.Name)}
        defined = {n.name for n in top.body
                   if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        for node in ast.walk(top):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found += [f"{name}:{node.lineno}: unused import {a.name}"
                          for a in node.names if a.name != "*"
                          and (a.asname or a.name).split(".")[0] not in used]
                found += [f"{name}:{node.lineno}: {a.name} is imported and "
                          "defined" for a in node.names
                          if (a.asname or a.name) in defined]
    return found


def built(tree, name):
    path = tree.build / name
    if not path.exists():
        raise Skip(f"{path} is not built")
    return path


@check
def no_hooks(tree):
    """A release build holds no hook of the test build."""
    found, seen = [], 0
    options = tree.build / "meson-info/intro-buildoptions.json"
    if options.exists() and any(o["name"] == "test_hooks" and o["value"]
                                for o in json.loads(options.read_text())):
        return [f"{tree.build}: configured with test_hooks"]
    for program in MANUALS:
        path = tree.build / program
        if path.exists():
            seen += 1
            found += [f"{program}: {hook.decode()}" for hook in
                      sorted(set(HOOK.findall(path.read_bytes())))]
    if not seen:
        raise Skip("no program is built")
    return found


@check
def mutable_state(tree):
    """No file-scope variable that changes but the level of the log."""
    found, seen = [], 0
    for obj in sorted(set(tree.build.glob("**/*.p/**/*.c.o"))):
        top = obj.relative_to(tree.build).parts[0]
        if top not in MAY_INCLUDE:
            continue
        seen += 1
        if obj.name.removesuffix(".o").split("_")[-1] in MUTABLE:
            continue
        table = run("objdump", "-t", obj).stdout
        found += [f"{obj.name}: {m.group(1)}" for m in re.finditer(
            r"^\S+ \S\s+O \.(?:data|bss)\S*\s+\S+\s+(\S+)$", table, re.M)
            if ".data.rel.ro" not in m.group(0)]
    if not seen:
        raise Skip("nothing is built")
    return found


@check
def manual_options(tree):
    """--help and the manual page name the same options."""
    found, seen = [], 0
    for program, manual in MANUALS.items():
        if not (tree.build / program).exists():
            continue
        seen += 1
        if manual not in tree.files:
            found.append(f"{manual}: there is no such page")
            continue
        text = run(tree.build / program, "--help").stdout
        for verb in re.findall(r"^  ([a-z]+(?: [a-z]+)?)(?: |$)", text, re.M):
            text += run(tree.build / program, *verb.split(), "--help").stdout
        shown = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", text))
        # mdoc(7), or the tags of man(7)
        page = tree.text(manual).replace("\\-", "-")
        listed = set(re.findall(r"Fl -([a-z][a-z0-9-]+)", "".join(
            re.findall(r"^\.(?:It|Op) .*", page, re.M))))
        for tag in re.findall(r"^\.T[PQ].*\n(.*)", page, re.M):
            listed |= set(re.findall(r"--([a-z][a-z0-9-]+)", tag))
        found += [f"{manual}: --{o} of --help is missing"
                  for o in sorted(shown - listed)]
        found += [f"{manual}: --{o} is not in --help"
                  for o in sorted(listed - shown)]
    if not seen:
        raise Skip("no program is built")
    return found


@check
def api_reference(tree):
    """api/README.md and the tables of the agent say the same."""
    if "agent/messages.c" not in tree.files:
        raise Skip("no agent/messages.c")
    if check_api.README not in tree.files:
        return [f"{check_api.README}: there is no such file"]
    return check_api.findings(tree)


@check
def manuals(tree):
    """mandoc finds nothing in the manual pages."""
    pages = tree.named(r"\.[1-8]$")
    if not pages:
        raise Skip("no manual page")
    done = run(tool("mandoc"), "-T", "lint", "-W", "warning", *pages,
               cwd=tree.root)
    return [x for x in done.stdout.splitlines() if "outdated mandoc" not in x
            and "unknown library" not in x]


def compile_commands(tree, *tops):
    rows = json.loads(built(tree, "compile_commands.json").read_text())
    names = set()
    for row in rows:
        path = (Path(row["directory"]) / row["file"]).resolve()
        if path.is_relative_to(tree.root.resolve()):
            names.add(str(path.relative_to(tree.root.resolve())))
    return sorted(n for n in names if n.split("/")[0] in tops)


@check
def cppcheck(tree):
    """cppcheck finds no error, warning or portability problem."""
    tool("cppcheck")
    built(tree, "compile_commands.json")
    done = run("cppcheck", "--quiet", "-j2", "--std=c11", "-D_GNU_SOURCE",
               "-D__x86_64__", "-D__linux__",
               # sys/queue.h, which it does not read
               "-DLIST_FOREACH(v,h,f)=for(v=(h)->lh_first;v;v=v->f.le_next)",
               '-DLINNET_VERSION="0"', "--enable=warning,portability",
               "--inline-suppr", "--suppress=missingInclude",
               "--suppress=missingIncludeSystem",
               # no second evaluation where the compiler already checks
               "--suppress=normalCheckLevelMaxBranches",
               "--template={file}:{line}: {id}: {message}",
               "-I", tree.root,
               *(d for d in ("common", *PROGRAMS) if (tree.root / d).is_dir()),
               cwd=tree.root)
    return [x for x in done.stderr.splitlines() if re.match(r"\S+:\d+: ", x)]


@check
def clang_tidy(tree):
    """clang-tidy, with the checks of .clang-tidy."""
    tool("clang-tidy")
    names = compile_commands(tree, "common", *PROGRAMS)

    def tidy(name):
        done = run("clang-tidy", "--quiet", "-p", tree.build,
                   # options of gcc that clang does not know
                   "--extra-arg=-Wno-unknown-warning-option", name,
                   cwd=tree.root)
        rows = re.findall(r"^(\S+?)(:\d+:\d+: (?:error|warning): .*)$",
                          done.stdout, re.M)
        return [os.path.relpath(os.path.realpath(os.path.join(tree.build, f)),
                                tree.root.resolve()) + rest
                for f, rest in rows]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(tidy, names))
    return list(dict.fromkeys(x for rows in results for x in rows))


SLOW = (cppcheck, clang_tidy)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--tree", default=Path(__file__).resolve().parents[2])
    parser.add_argument("--fast", action="store_true",
                        help="without the analysers")
    parser.add_argument("--slow", action="store_true",
                        help="only the analysers")
    parser.add_argument("--only", action="append", default=[],
                        choices=[c.__name__ for c in CHECKS])
    args = parser.parse_args()
    tree = Tree(args.tree, Path(args.build).resolve())
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    for fn in CHECKS:
        if args.only and fn.__name__ not in args.only \
                or args.fast and fn in SLOW or args.slow and fn not in SLOW:
            continue
        try:
            found = fn(tree)
            word, why = ("FAIL", "") if found else ("ok", "")
        except Skip as e:
            found, word, why = [], "skip", f": {e}"
        count[word] += 1
        print(f"{word} {fn.__name__.replace('_', '-')}{why}", flush=True)
        print("".join(f"  {row}\n" for row in found), end="", flush=True)
    print(f"{count['ok']} passed, {count['FAIL']} failed, "
          f"{count['skip']} skipped")
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
