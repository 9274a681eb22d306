"""What a process has imported: a real target at its end, or one that preloads."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.conftest import Project

#: Prints what a target has imported at its end, or, without arguments, a process that preloads.
SCRIPT = """
import atexit, json, sys
from rvrun.__main__ import main
import rvrun.worker.target
from rvrun.worker.pipeline import read_document

uri, without, *words = sys.argv[1:]
def report():
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)
if words:
    atexit.register(report)
    sys.argv = ["rvrun", "run_command", uri, *words]
    main()
else:
    from rvrun.warm.preload import preload
    preload(read_document(uri), uri, without.split())
    report()
"""


def modules(
    project: Project, document: dict[str, Any], *words: str, without: str = "", **env: str
) -> set[str]:
    """What a target with `words` has imported at its end; without words, what is preloaded."""
    project.write("config.json", json.dumps(document))
    project.write("modules.py", SCRIPT)
    project.run(
        sys.executable, "modules.py", "config.json", without, *words, code=0, cwd=".", **env
    )
    return set(json.loads(project.read("modules.json")))
