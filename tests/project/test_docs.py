"""The documentation site: it builds without a warning, and its references are complete."""

from __future__ import annotations

import html
import pathlib
import re
import sys

import pytest

from rvrun.settings.schema import all_fields, fields_of
from tests.conftest import ROOT, Project

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytest.importorskip("material", reason="the extra `docs` is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, processes: None) -> pathlib.Path:
    """The site, built as CI builds it."""
    folder = tmp_path_factory.mktemp("docs")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet")
    config = ("--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder / "site"))
    done = Project(folder).run(*command, *config, NO_MKDOCS_2_WARNING="1")
    assert (done.stdout, done.stderr) == ("", "")
    return folder / "site"


def read(site: pathlib.Path, page: str) -> str:
    return html.unescape((site / page / "index.html").read_text(encoding="utf-8"))


def test_each_verb_is_described(site: pathlib.Path) -> None:
    """The reference of the command line has each verb, with its examples."""
    from rvrun.cli.app import VERBS

    page = read(site, "cli")
    for verb in (verb for verbs in VERBS.values() for verb in verbs):
        assert f"<code>rvrun {verb}</code>" in page
        assert f"<li><code>rvrun {verb}" in page


def test_each_setting_is_described(site: pathlib.Path) -> None:
    """The reference of the settings has each setting, also those of records."""
    page = read(site, "settings")
    fields = all_fields()
    records = [f for field in fields if field.record for f in fields_of(field.record)]
    for field in (*fields, *records):
        assert f"<dt><code>{field.key.rpartition('.')[2]}</code></dt>" in page
    assert "RVRUN_LOCAL_JOBS" in page
    assert "[batch.commands.GLOB]" in page


def test_nothing_is_left_to_generate(site: pathlib.Path) -> None:
    """Each marker of a page was filled in."""
    for page in site.rglob("*.html"):
        assert "<!-- generated" not in page.read_text(encoding="utf-8"), page


def test_nothing_is_loaded_from_other_hosts(site: pathlib.Path) -> None:
    """Scripts, styles, fonts and images are the site's own."""
    tag = re.compile(r"<(?:script|img|source|iframe|link)\b[^>]*>")
    elsewhere = re.compile(
        r'\bsrc="?https?:|rel="?(?:stylesheet|preconnect|icon)\b.*href="?https?:'
    )
    for page in site.rglob("*.html"):
        tags = tag.findall(page.read_text(encoding="utf-8"))
        assert tags
        assert [tag for tag in tags if elsewhere.search(tag)] == [], page


def test_links_out_of_docs_lead_into_the_repository(site: pathlib.Path) -> None:
    """Links as GitHub has them become those of the site, or of files in the repository."""
    repository = "https://github.com/rvrun/rvrun"
    assert f'href="{repository}/blob/main/examples/aws/batch.yml"' in read(site, "aws-batch")
    assert 'href="../changelog/"' in read(site, "plan-format")
    assert 'href="design/"' in read(site, "")
