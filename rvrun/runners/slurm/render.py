"""Render a run: a script per stage, one that submits them all, and the Makefile. Pure.

A task of a job calls make for its own splits. So the same rules as everywhere decide what is done,
and a task that runs again, for whatever reason, continues where it stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun import __version__, paths
from rvrun.environment import LOGS, VERBOSITY
from rvrun.model import Stage
from rvrun.programs.engines import image_uri
from rvrun.remote.ledger import ID_EXTRA, run_name
from rvrun.render import jinja
from rvrun.render.quote import for_make, for_recipe, for_shell
from rvrun.runners.local import makefile
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run
from rvrun.runners.slurm.jobs import (
    MAX_ARRAY_SIZE,
    Job,
    Packing,
    Submission,
    job_to_json,
    plan_jobs,
    submissions,
)
from rvrun.runners.slurm.options import (
    environment_problems,
    job_settings,
    problems,
    requested,
    sbatch_options,
)
from rvrun.runners.slurm.queue import job_name
from rvrun.runners.slurm.settings import SlurmCommandSettings, SlurmSettings
from rvrun.settings.overrides import check_globs
from rvrun.settings.schema import key_of, variable
from rvrun.text import count

FOLDER = "slurm"
TITLE = "Slurm"
#: The jobs of a run, as JSON.
JOBS = f"{FOLDER}/jobs.json"
SUBMIT = f"{FOLDER}/submit.sh"
#: The script that make calls for each target.
TARGET = f"{FOLDER}/target.sh"
#: Where jobs print what targets do not: below `logs/`.
OUTPUT = f"{paths.LOGS}/{FOLDER}"
#: Characters of a job's name in accounting, and how many rounds a run may have in it.
MAX_NAME, MOST_ROUNDS = 255, 99
STAGE_TEMPLATE = jinja.Template("rvrun.templates", FOLDER, "stage.sh.j2")
SUBMIT_TEMPLATE = jinja.Template("rvrun.templates", FOLDER, "submit.sh.j2")
TARGET_TEMPLATE = jinja.Template("rvrun.templates", FOLDER, "target.sh.j2")


@attrs.frozen(kw_only=True)
class Script:
    """The values that the template of a stage gets as `job`; strings are quoted for the shell.

    - `options`: those of sbatch. `array`: the value of `--array`; None for one task.
    - `out`: the run directory, relative to the directory where commands run.
    - `goal`: what make is called for; the index of a split follows, if the stage is split.
    - `first_of`, `last`: how many splits a task runs, and the last split.
    - `launcher`: what make runs in; empty without a container.
    """

    title: str
    name: str
    command: str
    options: Sequence[str]
    modules: Sequence[str]
    prologue: Sequence[str]
    environment: Mapping[str, str]
    out: str
    program: str
    goal: str
    is_split: bool
    pack: int
    last: int
    parallel: int
    attempts: int
    launcher: str
    has_gpu_locks: bool


def render(run: Run) -> dict[str, str]:
    """Return the Makefile and the scripts of a run, as {relative path: text}.

    Raises `NoMatch` for a glob of the settings that no command matches, `BadTemplate` for a user's
    template, `Unquotable` for a path, `Unfit` for settings that Slurm would refuse.
    """
    settings = run.settings.of(SlurmSettings)
    check_globs("slurm.commands", settings.commands, run.command_names)
    stages = {f"{p.name}/{s.command}": s for p in run.plan.pipelines for s in p.stages}
    declared = {name: requested(name, stage, settings) for name, stage in stages.items()}
    check_fit(TITLE, [*_out_problems(run.out), *_problems(declared, settings)])
    own = {name: job_settings(name, stage, settings) for name, stage in stages.items()}
    packing = {name: Packing(value.pack or 1, value.max_running) for name, value in own.items()}
    jobs = plan_jobs(run.plan, packing)
    calls = submissions(
        jobs,
        {job.stage: range(job.num_tasks) for job in jobs},
        settings.max_array_size or MAX_ARRAY_SIZE,
    )
    check_fit(TITLE, _name_problems(run, calls))
    templates = run.settings.templates
    scripts = {
        f"{FOLDER}/{call.job.script}": jinja.render(
            STAGE_TEMPLATE,
            templates,
            version=__version__,
            submit=for_shell(f"{run.out}/{SUBMIT}"),
            job=_script(run, call, stages[call.job.stage], own[call.job.stage]),
        )
        for call in calls
        if call.offset == 0
    }
    return {
        **makefile.render(run),
        **scripts,
        SUBMIT: _render_submit(run, calls, templates),
        TARGET: jinja.render(TARGET_TEMPLATE, templates, rvrun=_rvrun(settings)),
        JOBS: json.dumps([job_to_json(job) for job in jobs], indent=2) + "\n",
    }


def _out_problems(out: str) -> list[str]:
    if "\\" not in out:
        return []
    # With one, sbatch replaces no pattern in the path of a job's output (sbatch(1)).
    return [f"the run directory must not have backslashes, got {out!r}; choose another with --out"]


def _name_problems(run: Run, calls: Sequence[Submission]) -> Iterator[str]:
    """Names that accounting would cut off are not found again."""
    name = run_name(run.out, run.name)
    run_id = name + "x" * ID_EXTRA
    longest = max(len(job_name(call.key, run_id, MOST_ROUNDS)) for call in calls)
    if longest > MAX_NAME:
        yield (
            f"job names must have at most {MAX_NAME} characters, got {longest} in a run named "
            f"`{name}` and its retries; use a shorter --run-name, or a shorter pipeline name"
        )


def _problems(declared: Mapping[str, SlurmCommandSettings], settings: SlurmSettings) -> list[str]:
    return [
        problem
        for name, value in declared.items()
        for problem in (
            *problems(name, value, settings),
            *environment_problems(name, value, settings.not_secret),
        )
    ]


def _rvrun(settings: SlurmSettings) -> str:
    """The command line of rvrun, as the shell evaluates it."""
    key = variable(key_of(SlurmSettings, "rvrun"))
    return settings.rvrun or f"${{{key}:-rvrun}}"


def _script(run: Run, call: Submission, stage: Stage, own: SlurmCommandSettings) -> Script:
    settings, job = run.settings.of(SlurmSettings), call.job
    pipeline, _, command = job.stage.partition("/")
    # An escape for sbatch, and not for the shell, which does not read these lines.
    name = f"{pipeline}-{command}"
    output = f"{run.out}/{OUTPUT}/{name}-%{'A_%a' if job.num_splits else 'j'}.out"
    options = [
        f"--job-name={job.stage}",
        f"--output={_as_option(output)}",
        *([f"--array={call.array}"] if call.array else []),
        "--open-mode=append",
        "--kill-on-invalid-dep=yes",
        *sbatch_options(own, settings),
    ]
    parallel = own.parallel or 1
    gpus = "shared" if stage.gpu and parallel > 1 else "alone"
    return Script(
        title=_title(job),
        name=job.stage,
        command=command,
        options=options,
        modules=[for_shell(module) for module in settings.modules],
        prologue=settings.prologue,
        environment=_environment(run, own),
        out=for_shell(run.out),
        program=for_shell(for_make(f"sh {for_shell(f'{run.out}/{TARGET}')} {command} {gpus}")),
        goal=job.stage,
        is_split=job.num_splits is not None,
        pack=job.pack,
        last=(job.num_splits or 1) - 1,
        parallel=parallel,
        attempts=own.attempts or 1,
        launcher=_launcher(own, settings, is_gpu=stage.gpu),
        has_gpu_locks=gpus == "shared",
    )


def _as_option(path: str) -> str:
    """Write a path as sbatch reads it in a script: `%` begins a pattern (sbatch(1))."""
    for_recipe(path)
    name, pattern, end = path.rpartition("-%")
    name = name.replace("%", "%%").replace('"', '\\"')
    return f'"{name}{pattern}{end}"'


def _title(job: Job) -> str:
    if job.num_splits is None:
        return f"{job.stage}: 1 target"
    splits, tasks = count(job.num_splits, "split"), count(job.num_tasks, "array task")
    return f"{job.stage}: {splits} in {tasks}"


def _environment(run: Run, own: SlurmCommandSettings) -> dict[str, str]:
    """The variables that a script exports, quoted."""
    variables = {LOGS: "1", **({VERBOSITY: str(run.verbosity)} if run.verbosity else {})}
    users = dict(sorted(own.environment.items()))
    return {name: for_shell(value) for name, value in (variables | users).items()}


def _launcher(own: SlurmCommandSettings, settings: SlurmSettings, *, is_gpu: bool) -> str:
    if own.container is None:
        return ""
    if settings.container_runtime == "apptainer":
        image = for_shell(image_uri(own.container))
        # By itself, apptainer does not mount a directory that is reached by a link.
        words = ["apptainer exec", '--bind "$PWD"', '--pwd "$PWD"', *(["--nv"] if is_gpu else [])]
        return " ".join([*words, image])
    image = for_shell(_for_pyxis(own.container))
    mount = '--container-mounts="$PWD:$PWD" --container-workdir="$PWD"'
    # srun does not take them over from sbatch (release notes of Slurm 22.05).
    cpus = '--cpus-per-task="$SLURM_CPUS_PER_TASK"'
    return f"srun {cpus} --container-image={image} {mount}"


def _for_pyxis(image: str) -> str:
    """Name an image as pyxis does: a file has a folder, and a registry ends with `#`."""
    if image.startswith(("/", "./", "../")) or "://" in image or "#" in image:
        return image
    if image.endswith((".sqsh", ".squashfs")):
        return f"./{image}"
    host, slash, rest = image.partition("/")
    # Only a host has a dot or a port (Docker's reference of image names).
    return f"{host}#{rest}" if slash and re.search(r"[.:]|^localhost$", host) else image


def _render_submit(run: Run, calls: Sequence[Submission], templates: str | None) -> str:
    names = {call.key: f"job{number}" for number, call in enumerate(calls, start=1)}
    rows = [
        {
            "key": call.key,
            "variable": names[call.key],
            "script": for_shell(f"{run.out}/{FOLDER}/{call.job.script}"),
            "depends": dependency({key: f"${name}" for key, name in names.items()}, call),
            # The script's own is that of the first array.
            "array": call.array if call.offset else None,
            "offset": call.offset,
        }
        for call in calls
    ]
    return jinja.render(
        SUBMIT_TEMPLATE,
        templates,
        version=__version__,
        title=run.plan.title,
        # From the folder of the script.
        workdir=for_shell(f"../{run.workdir_from_run_dir}"),
        output=for_shell(f"{run.out}/{OUTPUT}"),
        calls=rows,
    )


def dependency(ids: Mapping[str, str], call: Submission) -> str:
    """Return the value of `--dependency`; empty if there is nothing to wait for.

    - `ids`: of the jobs, by the keys of their submissions.
    """
    whole = ":".join(["afterok", *(ids[key] for key in call.after)]) if call.after else ""
    tasks = [f"aftercorr:{ids[key]}" for key in call.corresponding]
    return ",".join(filter(None, [whole, *tasks]))
