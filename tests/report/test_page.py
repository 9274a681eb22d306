"""The page of a run: its text, and what a real browser makes of it."""

from __future__ import annotations

import html.parser
import json
import pathlib
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable

import pytest

from rvrun.model import PlannedPipeline, Stage
from rvrun.observe.local_run import state_of
from rvrun.observe.snapshot import read_snapshot
from rvrun.report.graph import draw
from rvrun.report.page import hide_secrets, to_html
from rvrun.report.source import source_here
from rvrun.report.timeline import make_timeline
from tests.conftest import PATIENCE
from tests.report.made import BEGAN, made

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
#: Runs before the page's own script, and records its errors.
WATCH = """<script>
addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });
document.addEventListener("securitypolicyviolation", (event) => {
  document.documentElement.dataset.error = "blocked " + event.blockedURI;
});
</script>"""


def page_of(folder: pathlib.Path, name: str = "runs/land") -> str:
    snapshot = read_snapshot(folder)
    return to_html(
        source_here(snapshot, state_of(snapshot, name)), make_timeline(snapshot, BEGAN + 7200)
    )


class Structure(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects what could use the network."""

    VOID = ("meta", "link", "input", "rect", "line", "path", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.links += [str(values[key]) for key in ("src", "href", "action") if key in values]
        self.ids += [str(values["id"])] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.problems.append(tag)


def test_the_page_is_well_formed_and_needs_no_network(tmp_path: pathlib.Path) -> None:
    """All its elements are closed, ids are unique, and it links only to itself."""
    text = page_of(made(tmp_path, 3, failing=[("land/predict/1", 3)]))
    structure = Structure()
    structure.feed(text)
    assert (structure.open, structure.problems) == ([], [])
    assert len(structure.ids) == len(set(structure.ids))
    assert [link for link in structure.links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_the_same_run_gives_the_same_page(tmp_path: pathlib.Path) -> None:
    """Byte for byte."""
    folder = made(tmp_path, 3)
    assert page_of(folder) == page_of(folder)


def test_what_the_page_says(tmp_path: pathlib.Path) -> None:
    """Failures with the ends of their logs, escaped; values of the config, without secrets."""
    text = page_of(made(tmp_path, 3, failing=[("land/predict/1", 3)]))
    assert "<title>runs/land: failed</title>" in text
    assert "ValueError: bad &lt;tile&gt; 17" in text
    assert "land/predict/1" in text
    assert "10 of 12" in text
    assert "&#34;lr&#34;: 0.01" in text
    assert "abcdefgh12345" not in text
    assert "(hidden)" in text


def test_a_target_that_is_running_took_the_time_so_far(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on the critical path with that."""
    folder = made(tmp_path, 3)
    record = folder / "records/land/eval.jsonl"
    start = json.loads(record.read_text(encoding="utf-8").splitlines()[0])
    record.write_text(json.dumps({**start, "time": BEGAN + 7140}) + "\n", encoding="utf-8")
    monkeypatch.setattr("rvrun.rundir.attempts.is_locked", lambda path: path == str(record))
    assert '<li>land/eval <span class="muted">1 min 00 s</span></li>' in page_of(folder)


def test_why_there_is_no_log(tmp_path: pathlib.Path) -> None:
    """Someone removed it, or plain make ran the target. Then not that nothing was printed."""
    folder = made(tmp_path, 3, failing=[("land/predict/1", 3), ("land/predict/2", 3)])
    (folder / "logs/land/predict.3/1.log").unlink()
    record = folder / "records/land/predict.3/2.jsonl"
    record.write_text(record.read_text(encoding="utf-8").replace("log_offset", "none"))
    text = page_of(folder)
    assert "<code>logs/land/predict.3/1.log</code>: someone has removed or replaced it" in text
    assert "Log: its output went to the terminal" in text
    assert "nothing was printed" not in text


def test_a_long_name_fits_into_its_box() -> None:
    """The beginning and the end of it are shown."""
    stage = Stage(command="predict_windows_of_all_scenes")
    pipeline = PlannedPipeline(name="land", config_digest="", stages=(stage,))
    assert [node.label for node in draw(pipeline).nodes] == ["predict…_scenes"]


def test_a_log_cannot_end_the_script(tmp_path: pathlib.Path) -> None:
    """Whatever targets print is text."""
    folder = made(tmp_path, 3, failing=[("land/eval", 1)])
    evil = "</pre></script><script>alert(1)</script>\n"
    (folder / "logs/land/eval.log").write_text(evil)
    assert "<script>alert" not in page_of(folder)


def test_secrets_are_hidden() -> None:
    """By their names or by their form, however deep they are."""
    value = {"a": [{"password": "x"}], "tokens": 512, "url": "https://u:p@host", "key": "land"}
    assert hide_secrets(value) == {
        "a": [{"password": "(hidden)"}],
        "tokens": 512,
        "url": "(hidden)",
        "key": "land",
    }


# ---- In a browser ------------------------------------------------------------------------------


@pytest.fixture
def browse(tmp_path: pathlib.Path, processes: None) -> Callable[..., tuple[str, bytes]]:
    """Return a function that opens a page in a browser; it returns the DOM and a screenshot."""
    if BROWSER is None:
        pytest.skip("no Chromium on PATH; apt-get install chromium")

    def open_page(text: str, script: str = "", *, dark: bool = False) -> tuple[str, bytes]:
        page = tmp_path / "page.html"
        done = f'{WATCH}<meta name="x">'
        text = text.replace("<head>", f"<head>{done}", 1)
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
        shot = tmp_path / "shot.png"
        common = [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=4000",
            "--window-size=1280,1400",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        options = [f"--screenshot={shot}"], ["--dump-dom"]
        outputs = []
        for option in options:
            ended = subprocess.run(
                [*common, *option, page.as_uri()], capture_output=True, timeout=PATIENCE, check=True
            )
            outputs.append(ended.stdout.decode())
        return outputs[1], shot.read_bytes()

    return open_page


def pixels(png: bytes) -> tuple[int, int, set[bytes]]:
    """The width and height of a screenshot, and the colours of every fourth row."""
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[colour]
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    raw = zlib.decompress(data)
    stride = width * size
    before = bytearray(stride)
    colours: set[bytes] = set()
    for row in range(height):
        kind, line = raw[row * (stride + 1)], bytearray(raw[row * (stride + 1) + 1 :][:stride])
        unfilter(kind, line, before, size)
        before = line
        if row % 4 == 0:
            colours |= {bytes(line[i : i + 3]) for i in range(0, stride, size)}
    return width, height, colours


def unfilter(kind: int, line: bytearray, before: bytearray, size: int) -> None:
    """Undo the filter of a row (PNG specification, section 9)."""
    for i in range(len(line)):
        left = line[i - size] if i >= size else 0
        up, corner = before[i], before[i - size] if i >= size else 0
        if kind == 1:
            line[i] = (line[i] + left) & 255
        elif kind == 2:
            line[i] = (line[i] + up) & 255
        elif kind == 3:
            line[i] = (line[i] + (left + up) // 2) & 255
        elif kind == 4:
            guess = left + up - corner
            far = [abs(guess - value) for value in (left, up, corner)]
            line[i] = (line[i] + (left, up, corner)[far.index(min(far))]) & 255


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_draws_the_timeline(
    tmp_path: pathlib.Path, browse: Callable[..., tuple[str, bytes]], *, dark: bool
) -> None:
    """Without errors, in the colours of the stages, in light and dark mode; and it can be used."""
    text = page_of(made(tmp_path / "run", 3, failing=[("land/predict/1", 3)]))
    script = """
      const canvas = document.getElementById("gantt");
      for (const key of ["End", "ArrowLeft", "+", "-", "0", "Home", "ArrowDown"])
        canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      document.getElementById("filter").value = "predict";
      document.getElementById("filter").oninput();
      document.querySelector('[data-sort="ms"]').click();
    """
    dom, png = browse(text, script, dark=dark)
    assert "data-error" not in dom
    assert 'id="timeline-section" aria-labelledby="timeline"><' in dom.replace("\n", "").replace(
        "  ", ""
    )
    chosen = re.search(r'id="chosen"[^>]*>([^<]*)<', dom)
    assert chosen is not None
    assert chosen[1].startswith("land/chip/0 · succeeded · took ")
    assert "3 of 12 targets" in dom
    took = re.findall(r"<td class=\"number\">([\d.]+) s</td><td class=\"number\">\d+ MiB", dom)
    assert len(took) == 3
    assert took == sorted(took, key=float, reverse=True)
    _, _, colours = pixels(png)
    stages = ("6c98ea", "f0a255") if dark else ("4c78c8", "e08a2e")
    page = "0f141b" if dark else "f5f6f8"
    assert {bytes.fromhex(colour) for colour in (*stages, page)} <= colours


@pytest.mark.parametrize("rows", ["slots", "targets", "stages"])
def test_a_browser_draws_ten_thousand_targets(
    tmp_path: pathlib.Path, browse: Callable[..., tuple[str, bytes]], rows: str
) -> None:
    """With few calls in each view, and a list of which only a part is in the document.

    Calls are counted, because how long they take depends on what else the machine does.
    """
    text = ten_thousand(tmp_path)
    script = f"""
      let calls = 0;
      const canvas = CanvasRenderingContext2D.prototype;
      const members = Object.entries(Object.getOwnPropertyDescriptors(canvas));
      for (const [name, {{ value }}] of members) if (typeof value === "function")
        canvas[name] = function (...words) {{ calls += 1; return value.apply(this, words); }};
      document.querySelector('[data-rows="{rows}"]').click();
      document.documentElement.dataset.calls = calls;
    """
    dom, png = browse(text, script)
    assert "data-error" not in dom
    calls = re.search(r'data-calls="(\d+)"', dom)
    assert calls is not None
    assert 0 < int(calls[1]) < 10 * 9_999
    assert "9,999 of 9,999 targets" in dom
    assert dom.count("<tr") < 120
    _, _, colours = pixels(png)
    assert bytes.fromhex("e08a2e") in colours


def ten_thousand(tmp_path: pathlib.Path) -> str:
    """The page of a run with 10,000 targets, made from one with 300 to save the time of files."""
    folder = made(tmp_path / "run", 99, jobs=32)
    text = page_of(folder)
    match = re.search(r'(<script type="application/json" id="data">)(.*?)(</script>)', text)
    assert match is not None
    data = json.loads(match[2])
    enlarge(data, 9999)
    return text.replace(match[0], match[1] + json.dumps(data) + match[3])


def enlarge(data: dict[str, dict[str, list[int]]], number: int) -> None:
    """Repeat the targets and their spans, each time later, until there are `number`."""
    period = max(a + b for a, b in zip(data["span"]["at"], data["span"]["ms"], strict=True))
    count = len(data["target"]["stage"])
    spans, targets = data["span"], data["target"]
    for copy in range(1, -(-number // count)):
        for name in spans:
            shift = {"target": copy * count, "at": copy * period}.get(name, 0)
            spans[name] += [value + shift for value in spans[name][:count]]
        for name in targets:
            targets[name] += targets[name][:count]
    for columns in (spans, targets):
        for name in columns:
            columns[name] = columns[name][:number]
    data["bursts"][0]["ms"] = period * -(-number // count)  # type: ignore[index, call-overload]
