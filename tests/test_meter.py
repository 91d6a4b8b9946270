from kdlab import meter
from kdlab.meter import Meter


def test_it_says_how_much_is_done_and_what_is_left():
    work = Meter("predicting", 4000, done=2000)
    work.done = 3000
    assert work.line(60.0) == "predicting: 3,000 of 4,000 rows, 75%, 1:00 left"
    assert Meter("predicting", None).line(1.0) == "predicting: 0 rows"


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    now = iter([0.0, 10.0, 16.0, 20.0, 40.0])
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(now))
    with Meter("reading", 100) as work:
        for _ in range(4):
            work.more(10)
    said = capsys.readouterr().err.splitlines()
    assert said == ["reading: 20 of 100 rows, 20%, 1:04 left", "reading: 40 of 100 rows, 40%, 1:00 left"]
