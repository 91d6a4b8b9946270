"""The loggers of a run: csv, W&B, TensorBoard."""

import os

# W&B sends its makers statistics of use, of an offline run too, as the process ends; set the variable to allow it
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
