"""The shape of the smallest models that whole commands train in tests."""

TINY = ("hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200")
