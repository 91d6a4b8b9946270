"""The run without a teacher that an evaluation compares a student with."""

import pytest

from kdlab.artifact.contender import find_baseline
from kdlab.config.trust import Trust
from kdlab.file import write_json
from tests.report.synthetic_run import distill_config, write_run


def config(loss, **more):
    return distill_config(1, loss=loss) | {"datamodule": {"_target_": "kdlab.datamodule.table.Table", **more}}


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ({"download": True}, {"download": False}, True),
        ({"max_length": 128}, {"max_length": 128.0}, True),
        ({"unlabelled": "keep"}, {"unlabelled": "drop"}, True),
        ({"max_length": 128}, {"max_length": 64}, False),
    ],
)
def test_it_is_the_same_student_whatever_does_not_change_results(tmp_path, here, there, found):
    student = write_run(tmp_path, "distill", "taught", config("kd", **here))
    for name, loss in (("alone", "ce"), ("other", "kd")):
        folder = write_run(tmp_path, "distill", name, config(loss, **there))
        write_json(folder / "done.json", {"state": "finished", "metric": "val/accuracy", "value": 0.8})
    baseline = find_baseline(student, tmp_path, Trust())
    assert (baseline.id if baseline else None) == ("alone" if found else None)
