"""kdlab: knowledge distillation and transfer learning experiments. `kdlab --help` lists the commands."""

__version__ = "0.1.0"
