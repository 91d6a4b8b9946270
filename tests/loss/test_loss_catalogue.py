"""The table of objectives is generated from the code, and the guide holds it as it is."""

from pathlib import Path

import pytest

from kdlab.loss.catalogue import END, START, entries, source, table, written
from kdlab.loss.logit.kl import KL

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
ENTRIES = list(entries(CONF))


def test_the_guide_holds_the_table(request):
    page = ROOT / "kdlab/guide/objectives.md"
    wanted = written(page.read_text("utf-8"), CONF)
    if request.config.getoption("--docs-write"):
        page.write_text(wanted, "utf-8")
    assert page.read_text("utf-8") == wanted, "an objective changed: make docs writes the table anew"


def test_every_term_has_a_row():
    assert sorted(entry.name for entry in ENTRIES) == sorted(path.stem for path in (CONF / "loss/term").glob("*.yaml"))
    lines = table(CONF).splitlines()
    assert len(lines) == 2 + len(ENTRIES) + len({entry.family for entry in ENTRIES})
    assert all(line.count(" | ") == lines[0].count(" | ") for line in lines[2:] if "**" not in line)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_row_says_what_it_is_and_where_it_comes_from(entry):
    assert entry.family in ("logit", "feature", "relation")
    assert len(entry.about) > 10, (
        f"the first line of conf/loss/term/{entry.name}.yaml is a comment that says what it is"
    )
    assert any(year in entry.source for year in map(str, range(1960, 2030))), "a docstring has a line Source: … YEAR …"
    assert "|" not in entry.about + entry.source


def test_rows_say_what_terms_read_and_where_they_are_used():
    named = {entry.name: entry for entry in ENTRIES}
    assert (named["kl"].reads, named["kl"].tasks) == ("", "one label")
    assert {"kd", "hint", "rkd"} <= set(named["kl"].recipes)
    assert (named["hint"].reads, named["listnet"].reads) == ("`hidden.-1`", "other rows")
    assert (named["dkd"].reads, named["tf_kd"].reads) == ("labels", "labels, no teacher")
    tasks = [named[name].tasks for name in ("mld", "regression", "mse")]
    assert tasks == ["several labels", "1 number a row", "any"]
    assert source(KL) == "Hinton, Vinyals, Dean 2015, arXiv:1503.02531"


def test_what_is_around_the_table_stays_and_a_lost_marker_is_told():
    document = f"before\n{START}\nstale\n{END}\nafter\n"
    new = written(document, CONF)
    assert new.startswith(f"before\n{START}\n| term |") and new.endswith(f" |\n{END}\nafter\n") and "stale" not in new
    assert written(new, CONF) == new
    for lost in (START, END):
        with pytest.raises(ValueError, match="marker"):
            written(document.replace(lost, ""), CONF)
