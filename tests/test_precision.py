"""bfloat16 is chosen where the CPU multiplies in it faster, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from kdlab.precision import computing, current, fastest


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("AuthenticAMD", "fpu avx512f avx512_bf16", "bf16-mixed"),
        ("GenuineIntel", "fpu avx512_bf16 amx_bf16", "bf16-mixed"),
        ("GenuineIntel", "fpu avx512f avx512_bf16", "32-true"),
        ("AuthenticAMD", "fpu avx2 avx512f", "32-true"),
    ],
)
def test_the_maker_and_the_flags_of_the_cpu_decide(tmp_path, vendor, flags, precision):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\nbugs\t\t:\n\nprocessor\t: 1\n")
    assert fastest(info) == precision


def test_a_machine_that_does_not_say_computes_in_full(tmp_path):
    assert fastest(tmp_path / "nothing") == "32-true"


@pytest.mark.parametrize(
    ("name", "now"), [("bf16-mixed", "bfloat16"), ("bfloat16", "bfloat16"), ("32-true", "float32")]
)
def test_it_computes_as_the_trainer_does_and_gives_back_what_was(name, now):
    with computing(name):
        assert current() == now
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert str(product.dtype) == f"torch.{now}" and current() == "float32"
