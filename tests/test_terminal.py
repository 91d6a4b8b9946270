"""What is written while a command works: it fits the terminal, and only one process writes."""

import io
import sys

import pytest

from kdlab import terminal


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def look(monkeypatch):
    """Makes standard error a terminal that this process owns; pytest puts its own back before the test begins."""
    monkeypatch.setattr("multiprocessing.current_process", lambda: type("P", (), {"name": "MainProcess"})())
    monkeypatch.setenv("TERM", "xterm")

    def begin():
        monkeypatch.setattr(sys, "stderr", drawn := Terminal())
        return drawn

    return begin


@pytest.mark.parametrize("columns", range(50, 200, 10))
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0, None])
def test_a_bar_fits_and_keeps_what_stands_after_it(columns, part):
    text = terminal.bar("training 12/30", part, "val/accuracy 0.613  0:12 left", columns)
    assert len(text) <= columns and text.endswith("val/accuracy 0.613  0:12 left")


def test_a_line_stands_above_the_one_that_is_drawn(look):
    screen = look()
    line = terminal.Line()
    line.show("drawn")
    terminal.announce("said")
    assert screen.getvalue() == "\rdrawn\x1b[K" + "\r\x1b[K" + "said\n" + "\rdrawn\x1b[K"
    line.wipe()
    terminal.announce("alone")
    assert screen.getvalue().endswith("\r\x1b[Kalone\n")


def test_what_comes_from_elsewhere_cannot_steer_the_terminal(look):
    screen = look()
    terminal.announce("a\x1b[31m[red]b\r")
    assert screen.getvalue() == "a\ufffd[31m[red]b\ufffd\n"
    line = terminal.Line()
    line.show("c\x1b[2J")
    assert "\x1b[2J" not in screen.getvalue()
    line.wipe()


def test_a_worker_hands_its_notes_over_and_says_nothing_else(look):
    screen = look()
    heard = []
    terminal.hand_over(lambda kind, text: heard.append((kind, text)))
    try:
        terminal.note("one")
        terminal.announce("two")
        assert not terminal.draws()
    finally:
        terminal.hand_over(None)
    assert heard == [("note", "one")] and screen.getvalue() == ""


def test_a_bar_estimates_from_what_it_saw_itself(look, monkeypatch):
    screen = look()
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    bar = terminal.Bar("teacher pass", 100)
    for done in (50, 60, 70):  # 50 were done before
        now[0] += 10
        bar.update(done)
    assert screen.getvalue().endswith("0:30 left\x1b[K") and "teacher pass  70%" in screen.getvalue()
    bar.update(71)  # just now: not drawn again
    assert "71%" not in screen.getvalue()
    bar.close()


def test_without_a_terminal_a_bar_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("multiprocessing.current_process", lambda: type("P", (), {"name": "MainProcess"})())
    with terminal.Bar("teacher pass", 1200) as bar:
        bar.update(600)
    assert capsys.readouterr().err == "teacher pass: 1,200 batches\n"
