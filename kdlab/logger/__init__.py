"""Where a run is written down: csv, W&B, TensorBoard."""

import os

# W&B tells its makers how it is used, of an offline run too, as the process ends; who wants that sets the variable
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
