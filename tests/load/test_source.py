from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

import pytest

from rvrun.aws.storage import CannotReach
from rvrun.errors import RvrunError, UnknownName, UserCodeError
from rvrun.load.arguments import BadArgument
from rvrun.load.source import default_name, load
from rvrun.model import BadName, Command, DeclaredPipeline, Need, NeedKind, Resources
from rvrun.pipelines import serialize
from rvrun.pipelines.base import PipelineConfig
from rvrun.pipelines.config_keys import narrow
from rvrun.pipelines.declare import CannotLoad, LoadedPipeline, NoMethod
from rvrun.pipelines.imports import CannotImport
from rvrun.plan.compile import NamesClash, compile_plan

CONFIG = """\
from __future__ import annotations
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    top: int = 3

    def build(self):
        return Words(self)

"""
METHODS = """\
    def chip(self, split_ind=0, num_splits=1): ...
    def train(self): ...
"""
COMMANDS = """\
    commands = ("chip", "train")
    split_commands = ("chip",)
"""
GET_CONFIG = """
def get_config(runner):
    return WordsConfig(root_uri="out")
"""


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The current folder; modules imported from it are forgotten at the end."""
    yield in_folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(in_folder)):
            del sys.modules[name]


def write(
    said: str = COMMANDS,
    *,
    methods: str = METHODS,
    config: str = CONFIG,
    get_config: str = GET_CONFIG,
    path: str = "words.py",
) -> None:
    """Write a source with one pipeline, of which one part is as the test says."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = f"{config}class Words(rvrun.Pipeline):\n{said}{methods}{get_config}"
    pathlib.Path(path).write_text(text, encoding="utf-8")


def load_one(source: str = "words.py", **args: str) -> LoadedPipeline:
    (loaded,) = load(source, "local", args)
    return loaded


def refusal(kind: type[RvrunError], source: str = "words.py", **args: str) -> str:
    with pytest.raises(kind) as caught:
        load(source, "local", args)
    assert kind is type(caught.value)
    return str(caught.value)


def document(**more: object) -> dict[str, object]:
    config = {"$type": "words:WordsConfig", "$version": 1, "root_uri": "out", "name": "words"}
    return {"rvrun_config": 1, "source": "words.py", "config": {**config, "top": 3}, **more}


def save(*documents: object) -> None:
    pathlib.Path("saved.json").write_text(
        json.dumps(documents[0] if len(documents) == 1 else documents), encoding="utf-8"
    )


def test_a_file_is_loaded_whole() -> None:
    """Config, document and declaration of the pipeline of a `.py` file."""
    write(
        COMMANDS
        + """\
    gpu_commands = ("train",)
    needs = {"train": [rvrun.aligned("chip")], "chip": []}
    config_keys = {"chip": [], "train": ["top", "name"]}
    resources = {"train": rvrun.Resources(vcpus=2)}
    def count_items(self, command):
        return 7
"""
    )
    loaded = load_one()
    digest = serialize.digest(document()["config"])
    expected = DeclaredPipeline(
        name="words",
        config_digest=digest,
        commands=(
            Command(name="chip", is_split=True, needs=(), config_keys=()),
            Command(
                name="train",
                gpu=True,
                needs=(Need("chip", NeedKind.ALIGNED),),
                config_keys=("top", "name"),
                resources=Resources(vcpus=2),
            ),
        ),
    )
    assert expected == loaded.declared
    assert document() == loaded.document
    assert list(loaded.document["config"]) == ["$type", "$version", "root_uri", "name", "top"]
    assert repr(loaded.config) == "WordsConfig(root_uri='out', name='words', top=3)"
    assert loaded.config is loaded.pipeline.config
    assert loaded.name == "words"


def test_queues_and_definitions_may_be_attributes() -> None:
    """Those of a command's resources go before its method's, and these before the pipeline's."""
    write(
        COMMANDS
        + """\
    job_queue = "all"
    job_def = "any"
    resources = {"train": rvrun.Resources(job_queue="own")}
""",
        get_config='Words.train.job_queue = Words.train.job_def = "method"\n' + GET_CONFIG,
    )
    chip, train = (command.resources for command in load_one().declared.commands)
    assert Resources(job_queue="all", job_def="any") == chip
    assert Resources(job_queue="own", job_def="method") == train
    write(COMMANDS + "    job_queue = 3\n", path="threes.py")
    with pytest.raises(CannotLoad, match="`job_queue` must be a non-empty string, got 3"):
        load("threes.py", "local", {})


def test_where_things_are_declared_is_kept() -> None:
    """Locations are file and line, without the folder."""
    write(path="sub/words.py")
    loaded = load_one("sub/words.py")
    assert loaded.declared.location == "words.py:10"
    expected = ("words.py:13", "words.py:14")
    assert expected == tuple(command.location for command in loaded.declared.commands)


def test_items_are_counted_for_split_commands() -> None:
    """`count_items` is asked for what is split, and for nothing else."""
    write(COMMANDS + "    def count_items(self, command):\n        return {'chip': 7}[command]\n")
    expected = (7, None)
    assert expected == tuple(command.num_items for command in load_one().declared.commands)


def test_a_count_that_is_no_number_is_refused() -> None:
    """`count_items` gives a whole number or None."""
    write(COMMANDS + "    def count_items(self, command):\n        return 'x'\n")
    expected = "`Words.count_items`: 'x' for `chip` is no whole number"
    assert expected == refusal(CannotLoad)


def test_the_source_is_noted_relative_with_forward_slashes(folder: pathlib.Path) -> None:
    """However a file is named, its document names it from the current folder."""
    write(path="sub/words.py")
    for source in ("sub/words.py", "./sub/words.py", str(folder / "sub" / "words.py")):
        assert load_one(source).document["source"] == "sub/words.py"


def test_a_module_has_no_source_file() -> None:
    """A module is found by its name again, so its document names no file."""
    write(path="package_of_words/words.py")
    loaded = load_one("package_of_words.words")
    assert None is loaded.document["source"]
    assert loaded.document["config"]["$type"] == "package_of_words.words:WordsConfig"


def test_a_saved_config_is_loaded_as_it_was() -> None:
    """A document gives the pipeline that it was saved of."""
    write()
    first = load_one()
    save(first.document)
    again = load_one("saved.json")
    assert (first.config, first.document, first.declared) == (
        again.config,
        again.document,
        again.declared,
    )


def test_saved_configs_may_be_a_list() -> None:
    """A list of documents gives a pipeline each, in order."""
    write()
    names = ("b", "a")
    documents = [
        {**document(), "config": {**document()["config"], "name": name}}  # type: ignore[dict-item]
        for name in names
    ]
    save(*documents)
    assert names == tuple(loaded.name for loaded in load("saved.json", "local", {}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "is no saved config: it has no `rvrun_config` version"),
        ("5", "is no saved config: it has no `rvrun_config` version"),
        ('[{"rvrun_config": 1}, {}]', "is no saved config: it has no `rvrun_config` version"),
        ('{"rvrun_config": 2}', "is of file version 2; this rvrun reads 1"),
        ('{"rvrun_config": "1"}', "is of file version '1'; this rvrun reads 1"),
        ("[", "is not JSON (Expecting value: line 1 column 2 (char 1))"),
        ("[]", "holds no config"),
        ('{"rvrun_config": 1, "source": 5, "config": {}}', "has source 5, which is no path"),
    ],
)
def test_a_file_that_is_no_saved_config_is_refused(text: str, problem: str) -> None:
    """The error names the file and what is wrong with it."""
    pathlib.Path("saved.json").write_text(text)
    assert f"saved.json: {problem}" == refusal(CannotLoad, "saved.json")


def test_a_saved_file_that_is_not_there_is_refused() -> None:
    """So is a missing file."""
    expected = "gone.json: cannot be read: No such file or directory"
    assert expected == refusal(CannotReach, "gone.json")


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": 5}])
def test_a_document_without_config_is_refused(config: dict[str, object]) -> None:
    """A document must hold the values of a config."""
    value = config.get("config")
    save({"rvrun_config": 1, **config})
    expected = f"saved config {value!r}: {value!r} is no PipelineConfig"
    assert expected == refusal(serialize.BadConfig, "saved.json")


def test_a_saved_config_takes_no_arguments() -> None:
    """Its values are there already."""
    save(document())
    expected = "saved.json: a saved config takes no arguments (-a)"
    assert expected == refusal(CannotLoad, "saved.json", top="1")


def test_a_saved_config_whose_source_is_gone_names_it(folder: pathlib.Path) -> None:
    """The file that declares its class must be there."""
    save(document())
    expected = f"cannot import `{folder / 'words.py'}`: there is no such file"
    assert expected == refusal(CannotImport, "saved.json")


def test_arguments_reach_get_config() -> None:
    """The runner's name goes first, `-a` arguments by their names and types."""
    get_config = """
def get_config(runner, top: int, root_uri="out"):
    return WordsConfig(root_uri=f"{root_uri}/{runner}", top=top + 1)
"""
    write(get_config=get_config)
    assert (
        repr(load_one(top="5", root_uri="s3://b").config)
        == "WordsConfig(root_uri='s3://b/local', name='words', top=6)"
    )


@pytest.mark.parametrize("name", ["what", "function", "self", "args"])
def test_an_argument_may_have_any_name(name: str) -> None:
    """No name of rvrun's own stands in the way of the user's."""
    write(
        get_config=f"\ndef get_config(runner, {name}=''):\n"
        f"    return WordsConfig(root_uri={name})\n"
    )
    assert load_one(**{name: "here"}).config.root_uri == "here"


def test_a_wrong_argument_names_function_and_file() -> None:
    """What `bind` says is about `get_config` of the source."""
    write(get_config="\ndef get_config(runner, top=3):\n    return WordsConfig(root_uri='')\n")
    expected = "-a top x: is no whole number; `get_config` of words.py takes `top=3`"
    assert expected == refusal(BadArgument, top="x")


def test_get_configs_gives_several() -> None:
    """`get_configs` may return a list or a tuple, and goes before `get_config`."""
    get_configs = """
def get_configs(runner):
    return tuple(WordsConfig(root_uri=name, name=name) for name in ("b", "a"))
"""
    write(get_config=GET_CONFIG + get_configs)
    assert [loaded.name for loaded in load("words.py", "local", {})] == ["b", "a"]


@pytest.mark.parametrize(
    ("get_config", "problem"),
    [
        ("", "has neither a function `get_config` nor `get_configs`"),
        ("get_config = 5\n", "has neither a function `get_config` nor `get_configs`"),
        (
            "def get_config(runner): return 1\n",
            "`get_config` returned 1, which is no rvrun.PipelineConfig",
        ),
        (
            "def get_config(runner): ...\n",
            "`get_config` returned None, which is no rvrun.PipelineConfig",
        ),
        (
            "def get_config(runner): return WordsConfig\n",
            "`get_config` returned <class 'words.WordsConfig'>, which is no rvrun.PipelineConfig",
        ),
        (
            "def get_configs(runner): return [WordsConfig(root_uri=''), 'x']\n",
            "`get_configs` returned 'x', which is no rvrun.PipelineConfig",
        ),
        ("def get_configs(runner): return []\n", "`get_configs` returned no config"),
    ],
)
def test_a_source_that_gives_no_configs_is_refused(get_config: str, problem: str) -> None:
    """The error names the source and what it gave."""
    write(get_config=f"\n{get_config}")
    assert f"words.py: {problem}" == refusal(CannotLoad)


@pytest.mark.parametrize(
    ("get_config", "said"),
    [
        (
            "def get_config(runner): raise OSError('no disk')\n",
            "`get_config` of words.py raised OSError: no disk",
        ),
        (
            "def get_config(runner): return WordsConfig(root_uri=5)\n",
            (
                "`get_config` of words.py raised TypeError: "
                "WordsConfig.root_uri = 5: int is not an instance of str"
            ),
        ),
        (
            "def get_config(): return WordsConfig(root_uri='')\n",
            (
                "`get_config` of words.py raised TypeError: "
                "get_config() takes 0 positional arguments but 1 was given"
            ),
        ),
        (
            "def get_config(runner): raise SystemExit(3)\n",
            "`get_config` of words.py raised SystemExit: 3",
        ),
    ],
)
def test_what_get_config_raises_is_the_users_error(get_config: str, said: str) -> None:
    """It is told in a sentence and kept as the cause."""
    write(get_config=f"\n{get_config}")
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert said == str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("raise OSError('no disk')", "building pipeline `words` raised OSError: no disk"),
        ("raise SystemExit(3)", "building pipeline `words` raised SystemExit: 3"),
    ],
)
def test_what_build_raises_is_the_users_error(build: str, said: str) -> None:
    """So is what the config's `build` raises."""
    write(config=CONFIG.replace("return Words(self)", build))
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert said == str(caught.value)
    assert caught.value.__cause__ is not None


def test_build_gives_a_pipeline() -> None:
    """Anything else is refused."""
    write(config=CONFIG.replace("Words(self)", "5"))
    expected = "pipeline `words`: `WordsConfig.build` returned 5, no rvrun.Pipeline"
    assert expected == refusal(CannotLoad)


def test_a_config_without_build_says_so() -> None:
    """A config class that builds nothing is named."""
    write(config=CONFIG.replace("def build", "def built"))
    expected = (
        "building pipeline `words` raised NotImplementedError: WordsConfig has no method `build`"
    )
    assert expected == refusal(UserCodeError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TinyConfig", "tiny"),
        ("TinyPipelineConfig", "tiny"),
        ("TinyPipeline", "tiny"),
        ("TinyThings", "tinythings"),
        ("Config", "config"),
        ("PipelineConfig", "pipeline"),
    ],
)
def test_the_default_name_is_that_of_the_class(name: str, expected: str) -> None:
    """In lower case, without what config classes are called."""
    assert expected == default_name(type(name, (PipelineConfig,), {}))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (
            name,
            "contain only ASCII letters, digits, `.`, `_` and `-`, start with a letter or digit, "
            "and not end with `.json`",
        )
        for name in ("a b", "a/b", "-a", ".a", "ä", "$a", "a.json")
    ]
    + [
        (name, "not be one of all, clean, done, forward, help, which the Makefile uses")
        for name in ("all", "Done")
    ],
)
def test_a_bad_pipeline_name_is_refused(name: str, rule: str) -> None:
    """A name that cannot stand in targets is told with the place of its class."""
    write(get_config=GET_CONFIG.replace('"out"', f'"out", name="{name}"'))
    expected = f"a pipeline name must {rule}, got {name!r} (words.py:4)"
    assert expected == refusal(BadName)


def test_a_bad_default_name_is_refused() -> None:
    """So is a name that only the class gave."""
    config = CONFIG.replace("WordsConfig", "WörterConfig")
    write(config=config, get_config=GET_CONFIG.replace("WordsConfig", "WörterConfig"))
    assert refusal(BadName).endswith(", got 'wörter' (words.py:4)")


def test_a_bad_command_name_is_refused() -> None:
    """Command names are ASCII, whatever Python takes."""
    write('    commands = ("très",)\n', methods="    def très(self): ...\n")
    expected = (
        "a command name must contain only ASCII letters, digits and `_`, and not start with a "
        "digit, got 'très' (pipeline `words`)"
    )
    assert expected == refusal(BadName)


NEAR = ", did you mean `train`?"


@pytest.mark.parametrize(
    ("said", "name", "suggestion"),
    [
        ('    commands = ("chip", "trian")\n', "trian", NEAR),
        (COMMANDS + '    gpu_commands = ("trin",)\n', "trin", NEAR),
        (COMMANDS + '    needs = {"tra": []}\n', "tra", NEAR),
        (COMMANDS + '    config_keys = {"rain": []}\n', "rain", NEAR),
        (COMMANDS + '    resources = {"trains": rvrun.Resources()}\n', "trains", NEAR),
        ('    commands = ("count_items",)\n', "count_items", ""),
        ('    commands = ("size",)\n    size = 3\n', "size", ""),
    ],
)
def test_a_command_without_a_method_is_told(said: str, name: str, suggestion: str) -> None:
    """Wherever a command is named that has no method, the class and its methods are named."""
    write(said)
    expected = (
        f"pipeline `words`: `Words` has no method `{name}` for the command of that name"
        f"{suggestion}; its methods: `chip`, `train`"
    )
    assert expected == refusal(NoMethod)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            COMMANDS + '    needs = {"train": ["chp"]}\n',
            (
                "unknown command `chp` in `needs` of command `train` of pipeline `words`, "
                "did you mean `chip`?; known: `chip`, `train`"
            ),
        ),
        (
            '    commands = ("train",)\n    needs = {"train": ["chip"]}\n',
            (
                "unknown command `chip` in `needs` of command `train` of pipeline `words`; "
                "known: `train`"
            ),
        ),
        (
            COMMANDS + '    config_keys = {"train": ["tpo"]}\n',
            (
                "unknown config field `tpo` in `config_keys` of command `train` of pipeline "
                "`words`, did you mean `top`?; known: `root_uri`, `name`, `top`"
            ),
        ),
        (
            COMMANDS + '    config_keys = {"train": ["top.deep"]}\n',
            (
                "unknown config field `deep` in `config_keys` of command `train` of pipeline "
                "`words`; known: none"
            ),
        ),
    ],
)
def test_names_that_name_nothing_are_told_with_the_nearest(said: str, message: str) -> None:
    """Wherever a command or field is named that is not there, the error says where and what is."""
    write(said)
    assert message == refusal(UnknownName)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("    pass\n", "pipeline `words`: `Words.commands` is empty"),
        (
            '    commands = "chip"\n',
            "`Words.commands`: 'chip' is no sequence of command names",
        ),
        (
            '    commands = ("chip", 5)\n',
            "`Words.commands`: ('chip', 5) is no sequence of command names",
        ),
        ("    commands = None\n", "`Words.commands`: None is no sequence of command names"),
        (COMMANDS + "    needs = []\n", "`Words.needs`: [] is no mapping from command names"),
        (
            COMMANDS + '    needs = {"train": "chip"}\n',
            "`Words.needs`: `train` has a text; write ['chip']",
        ),
        (
            COMMANDS + '    config_keys = {"train": "top"}\n',
            "`Words.config_keys`: `train` has a text; write ['top']",
        ),
        (
            COMMANDS + '    needs = {"train": None}\n',
            "`Words.needs`: `train` has None, no sequence of names",
        ),
        (
            COMMANDS + '    needs = {"train": [5]}\n',
            "`Words.needs`: `train` has [5], no sequence of names",
        ),
        (
            COMMANDS + '    config_keys = {"train": [5]}\n',
            "`Words.config_keys`: `train` has [5], no sequence of names",
        ),
        (
            COMMANDS + "    needs = {5: []}\n",
            "`Words.needs`: {5: []} is no mapping from command names",
        ),
        (
            COMMANDS + '    resources = {"train": {"vcpus": 1}}\n',
            "`Words.resources`: `train` has {'vcpus': 1}, no rvrun.Resources",
        ),
    ],
)
def test_declarations_of_the_wrong_kind_are_refused(said: str, message: str) -> None:
    """The error names the attribute, what it is and what it should be."""
    write(said)
    assert message == refusal(CannotLoad)


@pytest.mark.parametrize(
    "said",
    [
        '    commands = {"chip", "train"}\n',
        COMMANDS + '    needs = {"train": {"chip"}}\n',
        COMMANDS + '    config_keys = {"train": {"top", "name"}}\n',
    ],
)
def test_what_has_no_order_is_refused(said: str) -> None:
    """A set has another order in each process, so that plans of it would not be the same."""
    write(said)
    refusal(CannotLoad)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            "    def chip(self): ...\n",
            (
                "`Words.chip()` is not to be called as chip(self, split_ind, num_splits): "
                "got an unexpected keyword argument 'split_ind'"
            ),
        ),
        (
            "    def chip(self, split_ind): ...\n",
            (
                "`Words.chip(split_ind)` is not to be called as chip(self, split_ind, num_splits): "
                "got an unexpected keyword argument 'num_splits'"
            ),
        ),
        (
            "    def chip(self, split_ind, num_splits, size): ...\n",
            (
                "`Words.chip(split_ind, num_splits, size)` is not to be called as "
                "chip(self, split_ind, num_splits): missing a required argument: 'size'"
            ),
        ),
    ],
)
def test_a_split_method_takes_its_split(methods: str, message: str) -> None:
    """A method in `split_commands` must take `split_ind` and `num_splits`, and no more."""
    write('    commands = ("chip",)\n    split_commands = ("chip",)\n', methods=methods)
    assert f"pipeline `words`: {message}" == refusal(CannotLoad)


def test_any_way_to_take_the_split_will_do() -> None:
    """Defaults, keyword-only parameters and `**kwargs` all take it."""
    methods = (
        "    def a(self, *, split_ind, num_splits): ...\n"
        "    def b(self, **kwargs): ...\n"
        "    def c(self, num_splits=1, split_ind=0, extra=None): ...\n"
    )
    said = '    commands = ("a", "b", "c")\n    split_commands = commands\n'
    write(said, methods=methods)
    assert [command.is_split for command in load_one().declared.commands] == [True] * 3


def test_a_method_that_is_not_split_takes_nothing() -> None:
    """Its parameters need defaults."""
    write('    commands = ("train",)\n', methods="    def train(self, size): ...\n")
    expected = (
        "pipeline `words`: `Words.train(size)` is not to be called as train(self): "
        "missing a required argument: 'size'"
    )
    assert expected == refusal(CannotLoad)


def test_attributes_may_be_properties() -> None:
    """What a pipeline declares may depend on its config; each property is read once."""
    said = """\
    reads = 0
    split_commands = ("chip",)

    @property
    def commands(self):
        Words.reads += 1
        assert Words.reads == 1
        return ["chip", "train"][: self.config.top]

    @property
    def needs(self):
        return {"chip": []}
"""
    write(said, get_config=GET_CONFIG.replace('"out"', '"out", top=1'))
    declared = load_one().declared.commands
    assert (Command(name="chip", is_split=True, needs=()),) == declared


def test_a_property_may_yield_its_commands() -> None:
    """What can be gone through only once is gone through once."""
    write('    @property\n    def commands(self):\n        yield from ("chip", "train")\n')
    assert tuple(command.name for command in load_one().declared.commands) == ("chip", "train")


def test_a_property_that_raises_is_the_users_error() -> None:
    """The cause is kept."""
    write("    @property\n    def commands(self):\n        raise KeyError('x')\n")
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert str(caught.value) == "reading pipeline `words` raised KeyError: 'x'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_commands_named_twice_are_refused() -> None:
    """Two commands of one name would be one target."""
    write('    commands = ("chip", "chip")\n    split_commands = ("chip",)\n')
    with pytest.raises(NamesClash) as caught:
        compile_plan([load_one().declared])
    expected = (
        "command names must be unique, ignoring case, got `chip` (words.py:13) and `chip` "
        "(words.py:13)"
    )
    assert expected == str(caught.value)


def test_bad_resources_are_told_in_a_sentence() -> None:
    """What attrs' validators raise is told without their internals."""
    write(COMMANDS + '    resources = {"train": rvrun.Resources(vcpus="two")}\n')
    message = refusal(UserCodeError)
    expected = "raised ValueError: `vcpus` must be an integer of at least 1, got 'two'"
    assert message.endswith(expected)


def test_a_config_that_would_not_come_back_is_refused() -> None:
    """A config is saved and read while loading, so that no target meets what cannot be read."""
    write(config=CONFIG.replace("top: int = 3", "top: int = True"))
    expected = "config class WordsConfig: True is no int at top"
    assert expected == refusal(serialize.BadConfig)


def test_a_file_named_without_its_ending_is_suggested() -> None:
    """Where a module is not there but a file of that name is, the file is suggested."""
    pathlib.Path("my.config.py").write_text("")
    expected = "cannot import `my.config`: there is no such module; did you mean `my.config.py`?"
    assert expected == refusal(CannotImport, "my.config")


@pytest.mark.parametrize("source", ["", ".", "..words"])
def test_what_names_no_module_is_refused(source: str) -> None:
    """An empty or relative name is no error of the user's code."""
    assert f"cannot import `{source}`: there is no such module" == refusal(CannotImport, source)


def test_the_part_of_a_config_is_selected_by_its_keys() -> None:
    """Class and place always count; dotted keys reach into nested configs."""
    config = {"$type": "m:C", "$version": 1, "root_uri": "out", "a": {"b": [1], "c": 2}, "d": 3}
    always = {"$type": "m:C", "root_uri": "out"}
    assert always == narrow(config, [])
    assert {**always, "a.b": [1], "d": 3} == narrow(config, ["a.b", "d"])
    assert {**always, "a": {"b": [1], "c": 2}} == narrow(config, ["a"])
