# SPDX-License-Identifier: GPL-2.0-or-later
"""Every check of lint.py must be able to fail: each is shown what it forbids,
and something beside it that is allowed."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import lint  # noqa: E402

SPDX = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n"
# Assembled, so that these files themselves stay clean.
UNFINISHED = "TO" + "DO"
LONG = SPDX + "int f(void)\n{\n" + "\tg();\n" * 79 + "}\n"

# check, files, number of findings
CASES = [
    ("layering", {"agent/a.c": '#include "monitor/x.h"\n'}, 1),
    ("layering", {"monitor/a.c": '#include "agent/x.h"\n'
                                 '#include "common/x.h"\n'}, 1),
    ("layering", {"common/a.c": '#include "agent/x.h"\n'}, 1),
    ("layering", {"common/a.c": '#include "util.h"\n'}, 1),
    ("layering", {"api/client.c": '#include "common/util.h"\n'}, 1),
    ("layering", {"api/cli/main.c": '#include "common/util.h"\n'}, 0),
    ("layering", {"agent/detect/a.c": '#include "agent/detect/x.h"\n'
                                      '#include "agent/x.h"\n',
                  "agent/b.c": '#include "agent/detect/x.h"\n'}, 1),
    ("third_party", {"agent/a.c": "#include <curl/curl.h>\n",
                     "agent/b.c": "#include <curl/curl.h>\n"}, 1),
    ("third_party", {"agent/a.c": "#include <json-c/json.h>\n",
                     "agent/b.c": "#include <curl/curl.h>\n"}, 0),
    ("third_party", {"agent/a.h": "#include <json-c/json.h>\n"}, 1),
    ("third_party", {"common/a.c": "#include <json-c/json.h>\n"
                                   "#include <linux/if.h>\n"}, 1),
    ("third_party", {"common/msnm/pca.c": "#include <lapacke.h>\n"}, 0),
    ("families", {"common/sketch/cms.c": '#include "common/sketch/hll.h"\n',
                  "common/sketch/hll.c": '#include "common/sketch/hll.h"\n'
                                         '#include "common/sketch/sketch.h"\n'
                  }, 1),
    ("families", {"monitor/capture/a.c": '#include "monitor/capture/b.h"\n',
                  "monitor/capture/b.h": "",
                  "monitor/capture/capture.c":
                  '#include "monitor/capture/b.h"\n'}, 1),
    ("spdx", {"common/a.c": "int x;\n", "common/b.c": SPDX}, 1),
    ("spdx", {"api/openapi.json": "{}", "tests/data/x": "y"}, 0),
    ("sizes", {"common/a.c": LONG}, 1),
    ("sizes", {"common/a.c": LONG.replace("\tg();\n", "", 1)}, 0),
    ("sizes", {"common/a.h": SPDX + "\n" * 150}, 1),
    ("sizes", {"common/a.c": SPDX + "\n" * 1000}, 1),
    ("sizes", {"tests/a.py": "def f():\n" + "    g()\n" * 80}, 1),
    ("deny_list", {"common/a.c": "int f(void) { return atoi(s); }\n"}, 1),
    ("deny_list", {"common/a.c": "/* atoi(x) */ my_atoi(\"atoi(\");\n"}, 0),
    ("deny_list", {"monitor/a.c": "verdict(NF_DROP);\n"}, 1),
    ("deny_list", {"monitor/a.c": "c(NFQNL_CFG_CMD_UNBIND);\n"}, 1),
    ("deny_list", {"monitor/a.c": "mnl_attr_put(h, NFQA_PAYLOAD, n, p);\n"}, 1),
    ("deny_list", {"monitor/a.c": "p = attr[NFQA_PAYLOAD]; NF_ACCEPT;\n"}, 0),
    ("deny_list", {"agent/a.c": "json_object_get_int64(o);\n",
                   "agent/json.c": "json_object_get_int64(o);\n"}, 1),
    ("words", {"common/a.c": f"/* {UNFINISHED}: more */\n"}, 1),
    ("words", {"tests/a.py": "f(x, shell" + "=True)\n"}, 1),
    ("clang_format", {"common/a.c": "int  f( void ){return 0;}\n"}, 1),
    ("clang_format", {"common/a.c": "int f(void)\n{\n\treturn 0;\n}\n"}, 0),
    ("python_syntax", {"tests/a.py": "import os\n"}, 1),
    ("python_syntax", {"tests/a.py": "def f(:\n"}, 1),
    ("no_hooks", {"build/monitor/linnet-monitor": "\0LINNET_HOOK_SLEEP\0"}, 1),
    ("no_hooks", {"build/monitor/linnet-monitor": "\0webhook_ok\0"}, 0),
    ("mutable_state", {"build/common/x.p/a.c.o":
                       "int a; static int b = 1; const int c = 2;\n"
                       "const char *const d = \"e\"; int *g(void)\n"
                       "{ static int h; return &h; }\n"}, 3),
    ("mutable_state", {"build/common/x.p/log.c.o": "static int level;\n"}, 0),
    ("manual_options", {"build/monitor/linnet-monitor":
                        "#!/bin/sh\necho '  --check   x'\necho '  --new'\n",
                        "monitor/linnet-monitor.8":
                        ".It Fl -check\n.It Fl -old Ar N\n"}, 2),
    ("api_reference", {"agent/messages.c": ""}, 1),
    ("manuals", {"monitor/x.8": ".Dd $Mdocdate$\n.Dt X 8\n.Os\n.Bd\n"}, None),
    ("cppcheck", {"build/compile_commands.json": "[]", "common/a.c":
                  SPDX + "int f(int n)\n{\n\tint a[2];\n\ta[0] = n;\n"
                  "\ta[2] = 1;\n\treturn a[0];\n}\n"}, 1),
    ("clang_tidy", {"common/a.c": "int f(int *p)\n{\n\tint x = 1;\n\tx = 2;\n"
                    "\tx = 3;\n\treturn *p;\n}\n"}, None),
]


def write(tree, files):
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith(".o"):
            path.rename(path.with_suffix(".in"))
            subprocess.run(["gcc", "-c", "-x", "c", "-fPIE", "-o", path,
                            path.with_suffix(".in")], check=True)
        elif text.startswith("#!"):
            path.chmod(0o755)


@pytest.mark.parametrize("case", range(len(CASES)),
                         ids=lambda i: f"{CASES[i][0]}-{i}")
def test_check_can_fail(case, tmp_path):
    name, files, expected = CASES[case]
    write(tmp_path, files)
    for config in (".clang-format", ".clang-tidy"):
        shutil.copy(Path(lint.__file__).parents[2] / config, tmp_path)
    if name == "clang_tidy":
        rows = [{"directory": str(tmp_path), "file": f, "command":
                 f"gcc -c {f}"} for f in files]
        write(tmp_path, {"build/compile_commands.json": json.dumps(rows)})
    found = getattr(lint, name)(lint.Tree(tmp_path, tmp_path / "build"))
    if expected is None:
        assert found
    else:
        assert len(found) == expected, found


def test_every_check_has_a_case():
    assert {fn.__name__ for fn in lint.CHECKS} == {c[0] for c in CASES}
