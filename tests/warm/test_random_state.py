"""Random state of forked targets, compared with that of fresh processes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import sys

import attrs
import pytest

from rvrun.warm.random_state import RandomStates
from tests.conftest import Project

NUM_FORKED = 50
NUM_FRESH = 2
#: Imports `case` in the context, and prints what `case.draw` returns in forked processes.
FORKED = """
import json, os, random, sys
sys.path.insert(0, os.getcwd())
from rvrun.warm.random_state import RandomStates

before = (random.Random.__dict__.copy(), random._inst.__class__, random._urandom, sys.meta_path[:])
with RandomStates() as states:
    import case
after = (random.Random.__dict__.copy(), random._inst.__class__, random._urandom, sys.meta_path[:])
assert before == after, "a replacement is left"

def draw_in_child():
    reader, writer = os.pipe()
    if os.fork() == 0:
        states.renew()
        os.write(writer, json.dumps(case.draw()).encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    with open(reader) as file:
        return json.load(file)

print(json.dumps([states.doubts, [draw_in_child() for _ in range(%d)]]))
"""
FRESH = """
import json, os, sys
sys.path.insert(0, os.getcwd())
import case
print(json.dumps(case.draw()))
"""


@attrs.frozen
class Case:
    """A module, and the numbers that are drawn from its generators."""

    name: str
    #: What the module does when it is imported.
    module: str
    #: Expressions whose values differ in every process.
    fresh: tuple[str, ...] = ()
    #: Expressions whose values are the same in every process.
    seeded: tuple[str, ...] = ()

    def source(self) -> str:
        draws = ", ".join([*self.fresh, *self.seeded])
        return f"{self.module}\ndef draw():\n    return [{draws}]\n"


PYTHON = [
    Case("nothing", "import random", fresh=("random.random()",)),
    Case("drawn", "import random; random.gauss(0, 1)", fresh=("random.gauss(0, 1)",)),
    Case("seeded", "import random; random.seed(42)", seeded=("random.random()",)),
    Case("seeded by text", "import random; random.seed('a')", seeded=("random.random()",)),
    Case(
        "seeded and drawn",
        "import random; random.seed(1); random.gauss(0, 1)",
        seeded=("random.gauss(0, 1)",),
    ),
    Case(
        "seeded, then not",
        "import random; random.seed(1); random.seed()",
        fresh=("random.random()",),
    ),
    Case(
        "not seeded, then seeded",
        "import random; random.seed(); random.seed(1)",
        seeded=("random.random()",),
    ),
    Case("imported function", "from random import seed, random; seed(3)", seeded=("random()",)),
    Case("hidden instance", "import random; random._inst.seed(3)", seeded=("random.random()",)),
    Case(
        "restored",
        "import random; random.random(); state = random.getstate(); random.seed(1); "
        "random.setstate(state)",
        fresh=("random.random()",),
    ),
    Case(
        "state of another",
        "import random; random.setstate(random.Random(5).getstate())",
        seeded=("random.random()",),
    ),
    Case(
        "instances",
        """
import copy, random
class Unhashable(random.Random):
    def __eq__(self, other):
        return self is other
A, B, C = random.Random(), random.Random(3), Unhashable()
A.random()
D, E = copy.copy(A), copy.deepcopy(B)
F = random.Random(1); F.seed()
G = random.Random(); G.setstate(B.getstate())
H = random.SystemRandom()
""",
        fresh=("A.random()", "C.random()", "D.random()", "F.random()", "H.random()"),
        seeded=("B.random()", "E.random()", "G.random()"),
    ),
]
NUMPY = [
    Case("nothing", "import numpy as np", fresh=("np.random.rand()",)),
    Case(
        "drawn",
        "import numpy as np; np.random.normal(size=2001)",
        fresh=("np.random.normal()", "np.random.rand()"),
    ),
    Case(
        "drawn a lot", "import numpy as np; np.random.rand(1_000_000)", fresh=("np.random.rand()",)
    ),
    Case("seeded", "import numpy as np; np.random.seed(0)", seeded=("np.random.rand()",)),
    Case(
        "seeded and drawn",
        "import numpy as np; np.random.seed(0); np.random.normal(size=2001)",
        seeded=("np.random.normal()", "np.random.rand()"),
    ),
    Case(
        "seeded by an array",
        "import numpy as np; np.random.seed([1, 2])",
        seeded=("np.random.rand()",),
    ),
    Case(
        "seeded, then not",
        "import numpy as np; np.random.seed(0); np.random.rand(); "
        "np.random.seed(); np.random.normal()",
        fresh=("np.random.normal()", "np.random.rand()"),
    ),
    Case(
        "hidden instance",
        "import numpy as np; np.random.mtrand._rand.seed(0)",
        seeded=("np.random.rand()",),
    ),
    Case(
        "restored",
        "import numpy as np; np.random.rand(); state = np.random.get_state(); np.random.seed(1); "
        "np.random.rand(); np.random.set_state(state)",
        fresh=("np.random.rand()",),
    ),
    Case(
        "state of another",
        "import numpy as np; np.random.set_state(np.random.RandomState(5).get_state())",
        seeded=("np.random.rand()",),
    ),
    Case(
        "legacy instances",
        """
import numpy as np
A, B = np.random.RandomState(), np.random.RandomState(3)
A.normal(); B.normal()
C = np.random.RandomState(4); C.seed(None)
D = np.random.RandomState(np.random.MT19937())
E = np.random.RandomState(np.random.MT19937(5))
""",
        fresh=("A.normal()", "A.rand()", "C.rand()", "D.rand()"),
        seeded=("B.normal()", "B.rand()", "E.rand()"),
    ),
    Case(
        "generators",
        """
import pickle, secrets
import numpy as np
A, B = np.random.default_rng(), np.random.default_rng(3)
A.integers(9, dtype="u4"); B.integers(9, dtype="u4")
C, D = A.spawn(1)[0], B.spawn(1)[0]
E = pickle.loads(pickle.dumps(B))
F = [np.random.Generator(kind()) for kind in
     (np.random.PCG64DXSM, np.random.Philox, np.random.SFC64, np.random.MT19937)]
G = np.random.SeedSequence()
H = np.random.default_rng(secrets.randbits(128))
""",
        fresh=(
            *("A.random()", "C.random()", "A.spawn(1)[0].random()", "A.bytes(4).hex()"),
            *(f"F[{i}].random()" for i in range(4)),
            *("G.entropy", "np.random.default_rng(G).random()", "H.random()"),
        ),
        seeded=(
            *("B.random()", "D.random()", "B.spawn(1)[0].random()", "E.random()"),
            "str(C.bit_generator.seed_seq.spawn_key)",
            "A.bit_generator.seed_seq.n_children_spawned",
        ),
    ),
]
TORCH = [
    Case("nothing", "import torch", fresh=("torch.rand(1).item()",)),
    Case("drawn", "import torch; torch.randn(5)", fresh=("torch.rand(1).item()",)),
    Case(
        "seeded",
        "import torch; torch.manual_seed(0); torch.randn(5)",
        seeded=("torch.randn(1).item()", "torch.rand(1).item()"),
    ),
    Case(
        "imported function",
        "from torch import manual_seed, rand; manual_seed(0)",
        seeded=("rand(1).item()",),
    ),
    Case(
        "restored",
        "import torch\nwith torch.random.fork_rng():\n    torch.manual_seed(1)",
        fresh=("torch.rand(1).item()",),
    ),
    Case(
        "generators",
        "import torch; A = torch.Generator(); B = torch.Generator().manual_seed(3)",
        seeded=("torch.rand(1, generator=A).item()", "torch.rand(1, generator=B).item()"),
    ),
    Case(
        "seeds for all libraries",
        "import random, numpy, torch; random.seed(1); numpy.random.seed(1); torch.manual_seed(1)",
        seeded=("random.random()", "numpy.random.rand()", "torch.rand(1).item()"),
    ),
    Case("CUDA is not initialized", "import torch", seeded=("torch.cuda.is_initialized()",)),
]


def check(project: Project, case: Case) -> None:
    """Compare the numbers drawn in forked processes with those in fresh ones."""
    project.write("case.py", case.source())
    project.write("forked.py", FORKED % NUM_FORKED)
    doubts, forked = json.loads(project.run(sys.executable, "forked.py").stdout)
    fresh = [json.loads(project.run(sys.executable, "-c", FRESH).stdout) for _ in range(NUM_FRESH)]
    assert doubts == []
    for i, draw in enumerate([*case.fresh, *case.seeded]):
        in_forked, in_fresh = {row[i] for row in forked}, {row[i] for row in fresh}
        if draw in case.fresh:
            assert (len(in_fresh), len(in_forked)) == (NUM_FRESH, NUM_FORKED), draw
            assert in_fresh.isdisjoint(in_forked), draw
        else:
            assert len(in_fresh) == 1, draw
            assert in_forked == in_fresh, draw


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(PYTHON)
def test_python(project: Project, case: Case) -> None:
    check(project, case)


@named(NUMPY)
def test_numpy(project: Project, case: Case) -> None:
    pytest.importorskip("numpy")
    check(project, case)


@named(TORCH)
def test_torch(project: Project, case: Case) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    check(project, case)


#: As little of PyTorch as the finder on `sys.meta_path` sees.
STAND_IN = {
    "torch/__init__.py": "from torch._C import default_generator, Generator\nimport torch.random",
    "torch/random.py": "",
    "torch/_C.py": """
import os
class Generator:
    def __init__(self):
        self.value = 67280421310721
    def initial_seed(self):
        return self.value
    def seed(self):
        self.value = int.from_bytes(os.urandom(8)) | 2**60
    def manual_seed(self, value):
        self.value = value
default_generator = Generator()
default_generator.seed()
""",
}


@named(
    [
        Case("nothing", "import torch", fresh=("torch.default_generator.value",)),
        Case(
            "seeded",
            "import torch; torch.default_generator.manual_seed(3)",
            seeded=("torch.default_generator.value",),
        ),
    ]
)
def test_the_default_generator_of_torch(project: Project, case: Case) -> None:
    for path, text in STAND_IN.items():
        project.write(path, text)
    check(project, case)


@pytest.mark.parametrize(
    ("module", "doubt"),
    [
        (
            "import torch; torch.default_generator.manual_seed(2**60)",
            f"an import seeded a PyTorch generator with {2**60}, which may be random or deliberate",
        ),
        (
            "import torch; G = torch.Generator(); G.manual_seed(2**60)",
            f"an import seeded a PyTorch generator with {2**60}, which may be random or deliberate",
        ),
        (
            "import numpy as np; G = np.random.PCG64(); G.state = np.random.PCG64(1).state",
            "an import set the state of a NumPy PCG64, or drew very many numbers",
        ),
    ],
)
def test_doubts(project: Project, module: str, doubt: str) -> None:
    """A state that is wrong in some targets if it is renewed, and in others if it is not."""
    for path, text in STAND_IN.items():
        project.write(path, text)
    project.write("case.py", f"{module}\ndef draw(): pass")
    project.write("forked.py", FORKED % 1)
    doubts, _ = json.loads(project.run(sys.executable, "forked.py").stdout)
    assert doubts == [doubt]


def test_libraries_that_were_imported_before(project: Project) -> None:
    """They count as unseeded, as nothing was watching."""
    pytest.importorskip("numpy")
    project.write("case.py", "import numpy\ndef draw(): return [numpy.random.rand()]")
    project.write("forked.py", "import numpy\nnumpy.random.seed(1)\n" + FORKED % NUM_FORKED)
    doubts, forked = json.loads(project.run(sys.executable, "forked.py").stdout)
    assert doubts == []
    assert len({draw for (draw,) in forked}) == NUM_FORKED


def replaceable() -> list[object]:
    return [dict(vars(random.Random)), type(random._inst), list(sys.meta_path)]


def test_an_import_that_fails_leaves_no_replacement() -> None:
    before = replaceable()
    with pytest.raises(ImportError), RandomStates():
        importlib.import_module("rvrun.no_such_module")
    assert before == replaceable()
