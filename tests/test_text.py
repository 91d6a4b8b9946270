from kdlab.text import one_line, printable


def test_nothing_of_a_text_steers_a_terminal():
    hostile = "a\x1b]0;x\x07\x1b[2J\x9b\u202eb\u2066\ud800\rc"
    said = printable(hostile)
    assert not set(said) & set("\x1b\x07\x9b\u202e\u2066\ud800\r")
    assert said.encode("utf-8")
    assert (said[0], said[-1]) == ("a", "c")


def test_lines_and_other_languages_stay():
    assert printable("ü 电影\t🙂\n") == "ü 电影\t🙂\n"
    assert one_line("ü 电影\t🙂\n") == "ü 电影 🙂"


def test_a_long_line_is_cut():
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert one_line("x" * 200) == "x" * 200
