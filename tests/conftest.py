"""Every test runs offline, on one thread, and away from the user's own cache and results."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("kdlab", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("kdlab")
