from __future__ import annotations

import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

from rvrun.errors import RvrunError, UnknownName, UserCodeError
from rvrun.inputs import CannotRead
from rvrun.load.arguments import BadArgument
from rvrun.load.source import NoArguments, NoRoot, default_name, load
from rvrun.model import BadName, Command, DeclaredPipeline, Need, NeedKind, Resources
from rvrun.pipelines import serialize
from rvrun.pipelines.base import PipelineConfig
from rvrun.pipelines.config_keys import narrow
from rvrun.pipelines.declare import BadDeclaration, CannotLoad, LoadedPipeline, NoMethod
from rvrun.pipelines.imports import (
    BadSource,
    CannotImport,
    InvalidField,
    MissingModule,
    NotTrusted,
    restrict_to,
)
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
    """The current folder; modules imported from it are removed from `sys.modules` at the end."""
    yield in_folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(in_folder)):
            del sys.modules[name]


def write(
    attributes: str = COMMANDS,
    *,
    methods: str = METHODS,
    config: str = CONFIG,
    get_config: str = GET_CONFIG,
    path: str = "words.py",
) -> None:
    """Write a source with one pipeline, any part of which a test can replace."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    code = f"{config}class Words(rvrun.Pipeline):\n{attributes}{methods}{get_config}"
    pathlib.Path(path).write_text(code, encoding="utf-8")


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


def test_a_file_is_loaded() -> None:
    """A `.py` file gives a pipeline with its config, document and declarations."""
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
    """A command's resources override its method's attributes, and those the pipeline's."""
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


def test_locations_are_recorded() -> None:
    """A location is a file and line, without the folder."""
    write(path="sub/words.py")
    loaded = load_one("sub/words.py")
    assert loaded.declared.location == "words.py:10"
    expected = ("words.py:13", "words.py:14")
    assert expected == tuple(command.location for command in loaded.declared.commands)


def test_items_are_counted_for_split_commands() -> None:
    """`count_items` is only called for split commands."""
    write(COMMANDS + "    def count_items(self, command):\n        return {'chip': 7}[command]\n")
    expected = (7, None)
    assert expected == tuple(command.num_items for command in load_one().declared.commands)


def test_a_count_must_be_an_integer() -> None:
    """`count_items` must return an integer or None."""
    write(COMMANDS + "    def count_items(self, command):\n        return 'x'\n")
    expected = "`Words.count_items('chip')` must be an integer or None, got 'x'"
    assert expected == refusal(BadDeclaration)


def test_the_source_is_a_relative_path(folder: pathlib.Path) -> None:
    """However a file is named, its document has the path from the current folder."""
    write(path="sub/words.py")
    for source in ("sub/words.py", "./sub/words.py", str(folder / "sub" / "words.py")):
        assert load_one(source).document["source"] == "sub/words.py"


def test_a_module_has_no_source_file() -> None:
    """A module can be imported by its name, so its document does not name a file."""
    write(path="package_of_words/words.py")
    loaded = load_one("package_of_words.words")
    assert None is loaded.document["source"]
    assert loaded.document["config"]["$type"] == "package_of_words.words:WordsConfig"


def test_a_saved_config_gives_the_same_pipeline() -> None:
    """A document gives the config, document and declarations that it was saved from."""
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
    """Each document of a list gives a pipeline, in order."""
    write()
    names = ("b", "a")
    documents = [
        {**document(), "config": {**document()["config"], "name": name}}  # type: ignore[dict-item]
        for name in names
    ]
    save(*documents)
    assert names == tuple(loaded.name for loaded in load("saved.json", "local", {}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "is not a saved config: it has no `rvrun_config` version"),
        ("5", "is not a saved config: it has no `rvrun_config` version"),
        ('[{"rvrun_config": 1}, {}]', "is not a saved config: it has no `rvrun_config` version"),
        ('{"rvrun_config": 2}', "`rvrun_config` must be 1, got 2"),
        ('{"rvrun_config": "1"}', "`rvrun_config` must be 1, got '1'"),
        ("[]", "contains no config"),
        (
            '{"rvrun_config": 1, "source": 5, "config": {}}',
            "`source` must be a path or null, got 5",
        ),
    ],
)
def test_other_json_files_are_refused(content: str, problem: str) -> None:
    """The error names the file and the problem."""
    pathlib.Path("saved.json").write_text(content)
    assert f"saved.json: {problem}" == refusal(CannotLoad, "saved.json")


def test_a_missing_file_is_refused() -> None:
    """A saved config that does not exist cannot be read."""
    problem = "cannot be read: No such file or directory"
    expected = f"gone.json: {problem}; name another file, or make it readable"
    assert expected == refusal(CannotRead, "gone.json")


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": 5}])
def test_a_document_without_config_is_refused(config: dict[str, object]) -> None:
    """A document must contain the values of a config."""
    value = config.get("config")
    save({"rvrun_config": 1, **config})
    expected = (
        f"saved.json: saved config {value!r}: {value!r} is not a config of type PipelineConfig; "
        "correct that file, or save it again with `rvrun render`"
    )
    assert expected == refusal(serialize.BadConfig, "saved.json")


def test_a_saved_config_accepts_no_arguments() -> None:
    """Its values are saved already."""
    save(document())
    expected = "saved.json: a saved config accepts no -a arguments"
    assert expected == refusal(NoArguments, "saved.json", top="1")


def test_a_missing_source_of_a_saved_config_is_named(folder: pathlib.Path) -> None:
    """The file that defines a saved config's class must exist."""
    save(document())
    expected = f"cannot import `{folder / 'words.py'}`: there is no such file"
    assert expected == refusal(CannotImport, "saved.json")


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("words", "a path that ends in `.py`"),
        ("/dev/null", "a path that ends in `.py`"),
        ("https://example.com/x.py", "a path or an s3:// URI"),
        ("s3://", "the path of a Python file"),
        ("s3:///x.py", "a path or an s3:// URI"),
        ("folder.py", "a regular file"),
        ("fifo.py", "a regular file"),
        ("a\0.py", "the path of a Python file"),
        (".py", "the path of a Python file"),
    ],
)
def test_a_strange_source_is_not_imported(source: str, rule: str) -> None:
    """A saved config may come from anyone."""
    pathlib.Path("folder.py").mkdir()
    os.mkfifo("fifo.py")
    save(document(source=source))
    assert refusal(BadSource, "saved.json") == (
        f"saved.json: `source` must be {rule}, got {source!r}; save the config again with "
        "`rvrun render`"
    )


def test_imports_can_be_restricted_to_the_project(
    folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """To its directory and installed packages; a link out of it, S3 and the library are outside."""
    write()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "words.py").rename(elsewhere / "wordz.py")
    pathlib.Path("link.py").symlink_to(elsewhere / "wordz.py")
    sys.path.append(str(elsewhere))
    restrict_to(str(folder))
    try:
        for source in (str(elsewhere / "wordz.py"), "link.py", "s3://bucket/words.py"):
            save(document(source=source))
            assert refusal(NotTrusted, "saved.json").startswith(f"`{source}` must be in {folder} ")
        for name in ("wordz", "antigravity"):
            config = {"$type": f"{name}:WordsConfig", "root_uri": "out"}
            save({"rvrun_config": 1, "source": None, "config": config})
            assert refusal(NotTrusted, "saved.json").startswith(f"`{name}` must be in {folder} ")
            assert name not in sys.modules
        write()
        save(document())
        assert load("saved.json", "local", {})[0].name == "words"
    finally:
        restrict_to(None)


def test_arguments_reach_get_config() -> None:
    """The runner's name is the first argument; `-a` arguments follow by name, converted."""
    get_config = """
def get_config(runner, top: int, root_uri="out"):
    return WordsConfig(root_uri=f"{root_uri}/{runner}", top=top + 1)
"""
    write(get_config=get_config)
    assert (
        repr(load_one(top="5", root_uri="s3://b").config)
        == "WordsConfig(root_uri='s3://b/local', name='words', top=6)"
    )


@pytest.mark.parametrize("name", ["action", "function", "self", "args"])
def test_an_argument_may_have_any_name(name: str) -> None:
    """No parameter of rvrun's own functions conflicts with the user's."""
    write(
        get_config=f"\ndef get_config(runner, {name}=''):\n"
        f"    return WordsConfig(root_uri={name})\n"
    )
    assert load_one(**{name: "here"}).config.root_uri == "here"


def test_a_wrong_argument_names_function_and_file() -> None:
    """The error shows the parameters of the source's `get_config`."""
    write(get_config="\ndef get_config(runner, top=3):\n    return WordsConfig(root_uri='')\n")
    expected = "-a top x: is not an integer; `get_config` of words.py takes `top=3`"
    assert expected == refusal(BadArgument, top="x")


def test_get_configs_may_return_several() -> None:
    """`get_configs` may return a list or a tuple, and is preferred to `get_config`."""
    get_configs = """
def get_configs(runner):
    return tuple(WordsConfig(root_uri=name, name=name) for name in ("b", "a"))
"""
    write(get_config=GET_CONFIG + get_configs)
    assert [loaded.name for loaded in load("words.py", "local", {})] == ["b", "a"]


@pytest.mark.parametrize(
    ("get_config", "problem"),
    [
        ("", "must define a function `get_config` or `get_configs`"),
        ("get_config = 5\n", "must define a function `get_config` or `get_configs`"),
        (
            "def get_config(runner): return 1\n",
            "`get_config` must return an rvrun.PipelineConfig or a list of them, got 1",
        ),
        (
            "def get_config(runner): ...\n",
            "`get_config` must return an rvrun.PipelineConfig or a list of them, got None",
        ),
        (
            "def get_config(runner): return WordsConfig\n",
            (
                "`get_config` must return an rvrun.PipelineConfig or a list of them, "
                "got <class 'words.WordsConfig'>"
            ),
        ),
        (
            "def get_configs(runner): return [WordsConfig(root_uri=''), 'x']\n",
            "`get_configs` must return an rvrun.PipelineConfig or a list of them, got 'x'",
        ),
        ("def get_configs(runner): return []\n", "`get_configs` returned no config"),
    ],
)
def test_a_source_without_configs_is_refused(get_config: str, problem: str) -> None:
    """The error names the source and what its function returned."""
    write(get_config=f"\n{get_config}")
    assert f"words.py: {problem}" == refusal(CannotLoad)


def test_a_value_that_a_config_refuses_is_one_sentence() -> None:
    """It has the line, the rule, the value, and the argument to change; there is no traceback."""
    write(get_config="def get_config(runner, root_uri=5): return WordsConfig(root_uri=root_uri)\n")
    problem = "WordsConfig.root_uri = 5: int is not an instance of str"
    message = refusal(InvalidField)
    assert re.fullmatch(rf"words\.py:\d+: {re.escape(problem)}; change that value", message)
    assert refusal(InvalidField, root_uri="5").endswith("; change -a root_uri")


def test_a_rule_of_attrs_is_rephrased() -> None:
    """Without attrs' internals."""
    write(
        get_config="import attrs\nclass Rated(WordsConfig):\n"
        "    lr: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))\n"
        "def get_config(runner, lr=1.0): return Rated(root_uri='out', lr=lr)\n"
    )
    message = refusal(InvalidField, lr="-1")
    assert re.fullmatch(r"words\.py:\d+: `Rated\.lr` must be > 0, got -1\.0; change -a lr", message)


def test_an_empty_root_is_refused() -> None:
    """Files would be scattered in the current directory."""
    write(get_config="def get_config(runner): return WordsConfig(root_uri='')\n")
    assert refusal(NoRoot) == (
        "`root_uri` of pipeline `words` must name a directory, got an empty string; name one, or "
        "`.` for the current directory"
    )


@pytest.mark.parametrize(
    ("get_config", "message"),
    [
        (
            "def get_config(runner): raise OSError('no disk')\n",
            "`get_config` of words.py raised OSError: no disk",
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
def test_get_config_that_raises_is_a_user_code_error(get_config: str, message: str) -> None:
    """Its exception is the cause."""
    write(get_config=f"\n{get_config}")
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert message == str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_module_missing_in_get_config_has_a_fix() -> None:
    """The fix names the module and the Python to install it for."""
    write(get_config="\ndef get_config(runner):\n    import no_such_package\n")
    with pytest.raises(MissingModule) as caught:
        load_one()
    fix = f"install `no_such_package` for {sys.executable}, or add its directory to PYTHONPATH"
    assert fix == caught.value.how_to_fix()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("raise OSError('no disk')", "building pipeline `words` raised OSError: no disk"),
        ("raise SystemExit(3)", "building pipeline `words` raised SystemExit: 3"),
    ],
)
def test_build_that_raises_is_a_user_code_error(build: str, message: str) -> None:
    """Its exception is the cause."""
    write(config=CONFIG.replace("return Words(self)", build))
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert message == str(caught.value)
    assert caught.value.__cause__ is not None


def test_build_must_return_a_pipeline() -> None:
    """Any other value is refused."""
    write(config=CONFIG.replace("Words(self)", "5"))
    expected = "pipeline `words`: `WordsConfig.build` must return an rvrun.Pipeline, got 5"
    assert expected == refusal(CannotLoad)


def test_a_config_must_define_build() -> None:
    """The error names the config class."""
    write(config=CONFIG.replace("def build", "def built"))
    expected = (
        "building pipeline `words` raised NotImplementedError: "
        "WordsConfig must define a method `build`"
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
def test_the_default_name_is_the_class_name(name: str, expected: str) -> None:
    """In lower case, without the usual suffixes of config classes."""
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
    """The error shows where the class is defined."""
    write(get_config=GET_CONFIG.replace('"out"', f'"out", name="{name}"'))
    expected = f"a pipeline name must {rule}, got {name!r} (words.py:4)"
    assert expected == refusal(BadName)


def test_a_bad_default_name_is_refused() -> None:
    """A name made from the class's name must be valid, too."""
    config = CONFIG.replace("WordsConfig", "WörterConfig")
    write(config=config, get_config=GET_CONFIG.replace("WordsConfig", "WörterConfig"))
    assert refusal(BadName).endswith(", got 'wörter' (words.py:4)")


def test_a_bad_command_name_is_refused() -> None:
    """Command names are ASCII, although Python allows more."""
    write('    commands = ("très",)\n', methods="    def très(self): ...\n")
    expected = (
        "a command name must contain only ASCII letters, digits, `_` and `-`, and start with a "
        "letter or `_`, got 'très' (pipeline `words`)"
    )
    assert expected == refusal(BadName)


SUGGESTION = "; did you mean `train`? Its methods:"


@pytest.mark.parametrize(
    ("attributes", "name", "suggestion"),
    [
        ('    commands = ("chip", "trian")\n', "trian", SUGGESTION),
        (COMMANDS + '    gpu_commands = ("trin",)\n', "trin", SUGGESTION),
        (COMMANDS + '    needs = {"tra": []}\n', "tra", SUGGESTION),
        (COMMANDS + '    config_keys = {"rain": []}\n', "rain", SUGGESTION),
        (COMMANDS + '    resources = {"trains": rvrun.Resources()}\n', "trains", SUGGESTION),
        ('    commands = ("count_items",)\n', "count_items", "; its methods:"),
        ('    commands = ("size",)\n    size = 3\n', "size", "; its methods:"),
    ],
)
def test_a_command_without_a_method_is_refused(attributes: str, name: str, suggestion: str) -> None:
    """Whichever attribute names the command, the error names the class and its methods."""
    write(attributes)
    attribute = attributes.removeprefix(COMMANDS).split()[0]
    expected = (
        f"pipeline `words`: `Words` has no method `{name}`, which `{attribute}` names"
        f"{suggestion} `chip`, `train`"
    )
    assert expected == refusal(NoMethod)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            COMMANDS + '    needs = {"train": ["chp"]}\n',
            (
                "unknown command `chp` in `needs` of command `train` of pipeline `words`; "
                "did you mean `chip`? Known commands: `chip`, `train`"
            ),
        ),
        (
            '    commands = ("train",)\n    needs = {"train": ["chip"]}\n',
            (
                "unknown command `chip` in `needs` of command `train` of pipeline `words`; "
                "known commands: `train`"
            ),
        ),
        (
            COMMANDS + '    config_keys = {"train": ["tpo"]}\n',
            (
                "unknown config field `tpo` in `config_keys` of command `train` of pipeline "
                "`words`; did you mean `top`? Known config fields: `root_uri`, `name`, `top`"
            ),
        ),
        (
            COMMANDS + '    config_keys = {"train": ["top.deep"]}\n',
            (
                "unknown config field `deep` in `config_keys` of command `train` of pipeline "
                "`words`; known config fields: none"
            ),
        ),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(attributes: str, message: str) -> None:
    """Whichever attribute names a command or field, the error says where and what is known."""
    write(attributes)
    assert message == refusal(UnknownName)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            '    commands = "chip"\n',
            "`Words.commands` must be a list of names such as ['chip'], got 'chip'",
        ),
        (
            '    commands = ("chip", 5)\n',
            "`Words.commands` must be a list of names, got ('chip', 5)",
        ),
        ("    commands = None\n", "`Words.commands` must be a list of names, got None"),
        (
            COMMANDS + "    needs = []\n",
            "`Words.needs` must be a dictionary with command names as keys, got []",
        ),
        (
            COMMANDS + '    needs = {"train": "chip"}\n',
            "`Words.needs['train']` must be a list of names such as ['chip'], got 'chip'",
        ),
        (
            COMMANDS + '    config_keys = {"train": "top"}\n',
            "`Words.config_keys['train']` must be a list of names such as ['top'], got 'top'",
        ),
        (
            COMMANDS + '    needs = {"train": None}\n',
            "`Words.needs['train']` must be a list of names, got None",
        ),
        (
            COMMANDS + '    needs = {"train": [5]}\n',
            "`Words.needs['train']` must be a list of names, got [5]",
        ),
        (
            COMMANDS + '    config_keys = {"train": [5]}\n',
            "`Words.config_keys['train']` must be a list of names, got [5]",
        ),
        (
            COMMANDS + "    needs = {5: []}\n",
            "`Words.needs` must be a dictionary with command names as keys, got {5: []}",
        ),
        (
            COMMANDS + '    resources = {"train": {"vcpus": 1}}\n',
            "`Words.resources['train']` must be an rvrun.Resources, got {'vcpus': 1}",
        ),
    ],
)
def test_declarations_of_a_wrong_type_are_refused(attributes: str, message: str) -> None:
    """The error names the attribute, what it must be, and its value."""
    write(attributes)
    assert message == refusal(BadDeclaration)


def test_a_pipeline_must_have_commands() -> None:
    """A pipeline without commands has nothing to run."""
    write("    pass\n")
    assert refusal(CannotLoad) == "pipeline `words`: `Words.commands` is empty"


@pytest.mark.parametrize(
    "attributes",
    [
        '    commands = {"chip", "train"}\n',
        COMMANDS + '    needs = {"train": {"chip"}}\n',
        COMMANDS + '    config_keys = {"train": {"top", "name"}}\n',
    ],
)
def test_sets_are_refused(attributes: str) -> None:
    """The order of a set differs between processes, so plans would differ, too."""
    write(attributes)
    refusal(BadDeclaration)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            "    def chip(self): ...\n",
            (
                "`Words.chip()` must accept (split_ind, num_splits): "
                "got an unexpected keyword argument 'split_ind'"
            ),
        ),
        (
            "    def chip(self, split_ind): ...\n",
            (
                "`Words.chip(split_ind)` must accept (split_ind, num_splits): "
                "got an unexpected keyword argument 'num_splits'"
            ),
        ),
        (
            "    def chip(self, split_ind, num_splits, size): ...\n",
            (
                "`Words.chip(split_ind, num_splits, size)` must accept (split_ind, num_splits): "
                "missing a required argument: 'size'"
            ),
        ),
    ],
)
def test_a_split_method_must_accept_its_split(methods: str, message: str) -> None:
    """A method in `split_commands` must accept `split_ind` and `num_splits`, and no more."""
    write('    commands = ("chip",)\n    split_commands = ("chip",)\n', methods=methods)
    assert f"pipeline `words`: {message}" == refusal(CannotLoad)


def test_a_split_method_may_accept_its_split_in_any_way() -> None:
    """Defaults, keyword-only parameters and `**kwargs` accept it."""
    methods = (
        "    def a(self, *, split_ind, num_splits): ...\n"
        "    def b(self, **kwargs): ...\n"
        "    def c(self, num_splits=1, split_ind=0, extra=None): ...\n"
    )
    attributes = '    commands = ("a", "b", "c")\n    split_commands = commands\n'
    write(attributes, methods=methods)
    assert [command.is_split for command in load_one().declared.commands] == [True] * 3


def test_a_method_that_is_not_split_has_no_required_parameters() -> None:
    """Its parameters must have defaults."""
    write('    commands = ("train",)\n', methods="    def train(self, size): ...\n")
    expected = (
        "pipeline `words`: `Words.train(size)` must accept a call without arguments: "
        "missing a required argument: 'size'"
    )
    assert expected == refusal(CannotLoad)


def test_attributes_may_be_properties() -> None:
    """Declarations may depend on the config; each property is read once."""
    attributes = """\
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
    write(attributes, get_config=GET_CONFIG.replace('"out"', '"out", top=1'))
    declared = load_one().declared.commands
    assert (Command(name="chip", is_split=True, needs=()),) == declared


def test_a_property_may_yield_its_commands() -> None:
    """A generator is consumed only once."""
    write('    @property\n    def commands(self):\n        yield from ("chip", "train")\n')
    assert tuple(command.name for command in load_one().declared.commands) == ("chip", "train")


def test_a_property_that_raises_is_a_user_code_error() -> None:
    """Its exception is the cause."""
    write("    @property\n    def commands(self):\n        raise KeyError('x')\n")
    with pytest.raises(UserCodeError) as caught:
        load_one()
    assert str(caught.value) == "reading pipeline `words` raised KeyError: 'x'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_commands_named_twice_are_refused() -> None:
    """Two commands of the same name would be the same target."""
    write('    commands = ("chip", "chip")\n    split_commands = ("chip",)\n')
    with pytest.raises(NamesClash) as caught:
        compile_plan([load_one().declared])
    expected = (
        "command names must be unique, ignoring case, got `chip` (words.py:13) and `chip` "
        "(words.py:13); rename one of the two commands"
    )
    assert expected == str(caught.value)


def test_messages_of_validators_are_shown() -> None:
    """Of the errors of attrs' validators, only the sentence is shown."""
    write(COMMANDS + '    resources = {"train": rvrun.Resources(vcpus="two")}\n')
    message = refusal(UserCodeError)
    expected = "raised ValueError: `vcpus` must be an integer of at least 1, got 'two'"
    assert message.endswith(expected)


def test_a_config_that_cannot_be_read_again_is_refused() -> None:
    """Loading saves and reads each config, so that no target finds one that it cannot read."""
    write(config=CONFIG.replace("top: int = 3", "top: int = True"))
    expected = "config class WordsConfig: True is not an integer at top"
    assert expected == refusal(serialize.BadConfig)


def test_a_file_named_without_its_suffix_is_suggested() -> None:
    """If there is no such module but a file of that name, the file is suggested."""
    pathlib.Path("my.config.py").write_text("")
    with pytest.raises(CannotImport) as caught:
        load("my.config", "local", {})
    expected = "cannot import `my.config`: there is no such module; did you mean `my.config.py`?"
    assert expected == str(caught.value)
    fix = f"name a file, or a module that {sys.executable} can import from here"
    assert fix == caught.value.how_to_fix()


@pytest.mark.parametrize("source", ["", ".", "..words"])
def test_a_name_that_is_not_a_modules_is_refused(source: str) -> None:
    """An empty or relative name is not an error in the user's code."""
    assert f"cannot import `{source}`: there is no such module" == refusal(CannotImport, source)


def test_the_part_of_a_config_is_selected_by_its_keys() -> None:
    """The class and `root_uri` are always included; dotted keys select from nested configs."""
    config = {"$type": "m:C", "$version": 1, "root_uri": "out", "a": {"b": [1], "c": 2}, "d": 3}
    always = {"$type": "m:C", "root_uri": "out"}
    assert always == narrow(config, [])
    assert {**always, "a.b": [1], "d": 3} == narrow(config, ["a.b", "d"])
    assert {**always, "a": {"b": [1], "c": 2}} == narrow(config, ["a"])
