"""Nothing of a data set depends on the order of a set, which Python draws anew for each process."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import json
from kdlab.datamodule.corpus import Corpus, unlike
labels = ["1", "01", "001", "0", "10", "b", "a;b", "a"] + [str(number) for number in range(40)]
numbers = Corpus("x", ["t"] * 43, ["1", "01", "001"] + [str(number) for number in range(40)])
words = Corpus("x", ["t"] * len(labels), labels)
several = Corpus("x", ["t"] * 3, [["1", "01"], ["001", "b"], labels], multi_label=True)
texts = [f"text {number % 30}" for number in range(60)]
print(json.dumps([
    numbers.order(), numbers.codes().tolist(), words.order(), several.order(), several.codes().tolist(),
    unlike(texts, [str(number % 7 < 6) for number in range(60)]),
]))
"""


def test_labels_have_the_same_order_in_every_process():
    found = set()
    for seed in ("0", "1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().startswith('[["0", "001", "01", "1", "2",')
