"""The base of export formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.format.trace import Example

Run = Callable[[Mapping[str, Tensor]], Tensor]  # from the inputs of some rows, by name, to their logits in float32


class Format(ABC):
    """Writes a trained model in one form, and runs what it wrote.

    Attributes:
        exact: whether the written model computes what the original computes, to the rounding of float32, so that equal
            decisions are expected.
        libraries: the modules that it imports besides torch; the extra ``kdlab[export]`` has them.

    Example: a format of one's own, which keeps nothing but the numbers::

        class Numbers(Format):
            def write(self, model, example, folder):
                torch.save(model.state_dict(), folder / "numbers.pt")
                return [folder / "numbers.pt"]
            …
    """

    exact: bool = True
    libraries: Sequence[str] = ()

    def check(self, model: str) -> None:
        """Refuse early what cannot work, before the data are read.

        Args:
            model: the name of the model's class.

        Raises:
            UserError: a library is missing, or such a model cannot be written.
        """
        if absent := [name for name in self.libraries if find_spec(name) is None]:
            raise UserError(
                f"format={type(self).__name__.lower()} needs the library {absent[0]}: pip install 'kdlab[export]'"
            )

    @abstractmethod
    def write(self, model: nn.Module, example: Example, folder: Path) -> list[Path]:
        """Write the model, which is in eval mode, into a folder.

        Returns:
            the files with its weights, whose bytes are its size.

        Raises:
            UserError: this model cannot be written in this form.
        """

    @abstractmethod
    def load(self, folder: Path, names: Sequence[str]) -> Run:
        """The written model, which computes on one thread.

        Args:
            names: of the inputs, in their order.
        """

    @abstractmethod
    def usage(self, names: Sequence[str]) -> tuple[str, str]:
        """Python lines for somebody without kdlab: those that load the model of the variable ``folder``, and those that
        make ``logits``, a numpy array, of ``inputs``, a mapping of numpy arrays."""

    def notes(self) -> Iterable[str]:
        """Sentences about what the written model needs, for its README."""
        return ()
