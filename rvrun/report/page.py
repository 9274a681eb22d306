"""The page of a run: one HTML file that needs nothing else, and no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rvrun import __version__, paths
from rvrun.inputs import CannotRead
from rvrun.observe.local_run import failed_targets, reason_of
from rvrun.observe.snapshot import Snapshot, StageTargets, TargetState
from rvrun.remote.state import RunState, State
from rvrun.render.jinja import Template, render
from rvrun.report import graph
from rvrun.report.data import span_columns
from rvrun.report.source import Source
from rvrun.report.statistics import distribution_of, stragglers_of
from rvrun.report.timeline import Timeline
from rvrun.rundir.exits import describe_exit
from rvrun.rundir.explain import read_values
from rvrun.secret_marks import is_secret
from rvrun.text import count, duration, local_time, memory

TEMPLATE = Template("rvrun.templates", "report", "report.html.j2")
#: How many failures are shown with the ends of their logs.
NUM_FAILURES = 50
#: What is shown instead of a value that may be a secret.
HIDDEN = "(hidden)"


def to_html(source: Source, timeline: Timeline) -> str:
    """Return the page. The same run directory gives the same bytes, unless something runs in it."""
    snapshot, state = source.snapshot, source.state
    # What never started failed because of what it needs, so it tells least.
    failures = sorted(
        failed_targets(snapshot), key=lambda one: (one.attempt is None, one.target.name)
    )
    return render(
        TEMPLATE,
        title=state.run_id,
        state=state.word,
        version=__version__,
        subtitle=_subtitle(snapshot, state),
        notes=source.notes,
        cards=_cards(snapshot, timeline, state),
        failures=[_failure(source, one) for one in failures[:NUM_FAILURES]],
        num_more=max(len(failures) - NUM_FAILURES, 0),
        stages=[_stage(stage) for stage in snapshot.stages],
        critical=_critical(timeline),
        drawings=[graph.draw(pipeline) for pipeline in snapshot.plan.pipelines],
        box={"width": graph.WIDTH, "height": graph.HEIGHT},
        by_name={stage.name: _node(stage) for stage in snapshot.stages},
        configs=_configs(snapshot),
        data=_embedded(span_columns(snapshot, timeline)),
    )


def _embedded(values: Mapping[str, Any]) -> str:
    """JSON that can be in a script element, which any `</script>` would end."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _subtitle(snapshot: Snapshot, state: RunState) -> str:
    jobs = "" if snapshot.jobs is None else f", {count(snapshot.jobs, 'target')} in parallel"
    hosts = {one.attempt.host for one in snapshot.targets if one.attempt and one.attempt.host}
    where = f" on {', '.join(sorted(hosts))}" if 0 < len(hosts) < 4 else ""
    ended = "" if state.ended is None else f" to {local_time(state.ended)}"
    return f"{state.runner}{jobs}{where} · {local_time(state.began)}{ended}"


def _cards(snapshot: Snapshot, timeline: Timeline, state: RunState) -> list[dict[str, str]]:
    """What is shown in large numbers: a label, a value, and what it means."""
    total = sum(len(stage.targets) for stage in snapshot.stages)
    done = state.count(State.SUCCEEDED)
    cards = [_card("Targets done", f"{done:,} of {total:,}", _others(state))]
    if not timeline.bursts:
        return cards
    last = len(timeline.bursts) - 1
    burst = timeline.bursts[last]
    wall = burst.ended - burst.began
    cards.append(_card("Duration", duration(wall), "of the latest run, first start to last end"))
    chain = timeline.critical_seconds
    share = (
        f"{percent(chain / wall)} of the duration; more slots cannot shorten it" if wall > 0 else ""
    )
    cards.append(_card("Critical path", duration(chain), share))
    busy, idle = timeline.busy_seconds(last), timeline.idle_share(last)
    text = f"of {count(burst.slots, 'slot')}; targets took {duration(busy)} together"
    cards.append(_card("Idle", percent(idle), text))
    peaks = [
        (one.attempt.peak_memory_kib, one.target.name)
        for one in snapshot.targets
        if one.attempt and one.attempt.peak_memory_kib
    ]
    if peaks:
        peak, name = max(peaks)
        cards.append(_card("Peak memory", memory(peak), name))
    return cards


def percent(share: float) -> str:
    """Format a share from 0 to 1: `65 %`."""
    return f"{share * 100:.0f} %"


def _card(label: str, value: str, text: str) -> dict[str, str]:
    return {"label": label, "value": value, "text": text}


def _others(state: RunState) -> str:
    counts = [(s, state.count(s)) for s in State if s is not State.SUCCEEDED]
    return ", ".join(f"{number:,} {name}" for name, number in counts if number) or "all of them"


def _failure(source: Source, one: TargetState) -> dict[str, Any]:
    attempt = one.attempt
    values = {
        "target": one.target.name,
        "end": "",
        "reason": "; ".join(filter(None, ("was not started", one.reason))),
        "attempt": 1,
        "memory": "",
        "log": source.read_log(one),
    }
    if attempt is None:
        return values
    return values | {
        # How it was killed is part of the reason.
        "end": "" if attempt.exit_code is None else describe_exit(attempt.exit_code, None),
        "reason": "; ".join(filter(None, (reason_of(attempt), one.reason))),
        "attempt": attempt.number,
        "memory": "" if attempt.peak_memory_kib is None else memory(attempt.peak_memory_kib),
    }


def _stage(stage: StageTargets) -> dict[str, Any]:
    distribution = distribution_of(stage)
    peaks = [a.peak_memory_kib for a in stage.attempts if a.peak_memory_kib is not None]
    values: dict[str, Any] = {
        "name": stage.name,
        "targets": f"{len(stage.targets):,}",
        "counts": _counts(stage),
        "needs": ", ".join(stage.needs),
        "memory": memory(max(peaks)) if peaks else "",
        "median": "",
        "distribution": [],
        "stragglers": [],
    }
    if distribution is not None:
        names = ("least", "median", "p95", "most", "total")
        values |= {name: duration(getattr(distribution, name)) for name in names}
        values["distribution"] = _bars(distribution.bins) if distribution.number > 1 else []
        values["stragglers"] = [
            {
                "target": straggler.target.target.name,
                "seconds": duration(straggler.seconds),
                "factor": f"{straggler.factor:.1f}",
            }
            for straggler in stragglers_of(stage, distribution)
        ]
    return values


#: Width and height of the drawing of a distribution, in pixels.
BARS_WIDTH, BARS_HEIGHT = 144, 28


def _bars(bins: tuple[int, ...]) -> list[dict[str, float]]:
    """The bars of a distribution; a bin that is not empty can be seen, however small it is."""
    width = BARS_WIDTH / len(bins)
    bars = []
    for number, size in enumerate(bins):
        if size:
            height = max(size / max(bins) * BARS_HEIGHT, 1.5)
            left, top = round(number * width, 1), round(BARS_HEIGHT - height, 1)
            bars.append(
                {"x": left, "y": top, "width": round(width - 1, 1), "height": round(height, 1)}
            )
    return bars


def _counts(stage: StageTargets) -> list[dict[str, Any]]:
    counts = [(state, len(stage.with_state(state))) for state in State]
    return [{"state": str(state), "number": f"{n:,}", "share": n} for state, n in counts if n]


def _node(stage: StageTargets) -> dict[str, Any]:
    done, total = len(stage.with_state(State.SUCCEEDED)), len(stage.targets)
    order = (State.FAILED, State.RUNNING, State.STOPPED, State.STALE, State.PENDING)
    state = next((s for s in order if stage.with_state(s)), State.SUCCEEDED)
    text = f"{done:,} of {total:,} done" if total > 1 else str(state)
    return {"state": str(state), "text": text, "share": round(done / total, 3)}


def _critical(timeline: Timeline) -> list[dict[str, str]]:
    return [
        {"target": span.target.target.name, "seconds": duration(span.seconds)}
        for span in (timeline.spans[position] for position in timeline.critical)
    ]


def _configs(snapshot: Snapshot) -> list[dict[str, str]]:
    configs = []
    for pipeline in snapshot.plan.pipelines:
        try:
            values = read_values(snapshot.run_dir / paths.config(pipeline.name))
        except CannotRead:
            values = None
        if values is not None:
            text = json.dumps(hide_secrets(values), indent=2, ensure_ascii=False)
            configs.append({"pipeline": pipeline.name, "text": text})
    return configs


def hide_secrets(value: Any, name: str = "") -> Any:
    """Return JSON values without those that may be secrets, as pages are sent to other people."""
    if isinstance(value, Mapping):
        return {key: hide_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [hide_secrets(item, name) for item in value]
    return HIDDEN if isinstance(value, str) and is_secret(name, value) else value
