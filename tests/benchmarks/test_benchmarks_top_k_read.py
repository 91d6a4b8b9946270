"""The benchmark of reading stored logits works at a small size."""

from tests.benchmarks.top_k_read import TYPES, measure


def test_each_type_has_its_bytes_and_times():
    found = measure(vocabulary=512, width=16, layers=1, chunk=64, rows=9, repeats=2)
    assert {name: one["bytes"] for name, one in found["read"].items()} == {
        "float32": 64 * 8 + 16, "float16": 64 * 6 + 16, "packed": 64 * 9 // 8 + 48 + 2 + 8,
    }  # fmt: skip
    assert set(found["read"]) == set(TYPES)
    assert all(0 < one["share"] < 1 and one["ms"] > 0 for one in found["read"].values()) and found["step_ms"] > 0
