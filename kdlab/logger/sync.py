"""Send runs that were logged offline, whole or in part, to a W&B server, and count there what arrived.

``wandb sync`` calls it a success where a run could not be uploaded, and sends what the server has already once more.
So only rows that the server lacks are sent, and rows, summary and artifacts are counted there before and after.
Verified against a protocol stub on loopback, not against W&B's own server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kdlab.logger.server import NoServerError, Server, Status
from kdlab.logger.sync_plan import SyncPlan
from kdlab.logger.unsent_log import copy

ARRIVE_SECONDS = 20.0  # how long what was taken may need until the server counts it
PATIENCE_SECONDS = 15.0  # how long a server may be silent while it is sent to
RETRIES = ("WANDB__GRAPHQL_RETRY_MAX", "WANDB__FILE_STREAM_RETRY_MAX", "WANDB__FILE_TRANSFER_RETRY_MAX")


class Sync:
    """Sends sync_plans to one server, some at a time.

    Args:
        root: ``<outputs>/wandb``, where copies of the logs are kept while they are sent.
        at_once: runs in one call of ``wandb sync``.
        entity: the team or user that the runs may go to besides the key's own; "" is none.
        report: called with each run, and with what is left of it: "" where it is whole on the server.
    """

    def __init__(
        self, server: Server, root: Path, at_once: int, report: Callable[[SyncPlan, str], None], entity: str = ""
    ) -> None:
        self.server, self.root, self.at_once, self.report, self.entity = server, root, at_once, report, entity
        self.own, self.teams = "", frozenset[str]()

    def begin(self) -> None:
        """Ask for the server. Errors: NoServerError, where it is not there or refuses the key."""
        self.own, self.teams = self.server.entity(), self.server.entities()

    def refuses(self, plan: SyncPlan) -> str:
        """The reason why a run must not be sent, in words; "" where nothing is against it."""
        if plan.dangers:
            return "; ".join(plan.dangers)
        if others := sorted(plan.entities - self.teams - {self.own, self.entity}):
            return (
                f"its log names {others[0]!r}, which is neither the key's user nor a team of theirs "
                f"({', '.join(sorted(self.teams))}): kdlab sync entity={others[0]} sends it there"
            )
        return ""

    def where(self, plan: SyncPlan) -> str:
        """The team or user, and the project, that a run goes to."""
        return f"{plan.entity or self.own}/{plan.project}"

    def there(self, plan: SyncPlan) -> Status:
        """The status of a run on the server. Errors: NoServerError."""
        return self.server.run(plan.entity or self.own, plan.project, plan.id)

    def send(self, wanted: Sequence[tuple[SyncPlan, Status]]) -> None:
        """Send what each status lacks. Once the server is gone, the rest is reported as left and not tried."""
        gone = ""
        for start in range(0, len(wanted), self.at_once):
            some = wanted[start : start + self.at_once]
            gone = gone or self._carry(some)
            for plan, _ in some:
                try:
                    left = gone or self._arrived(plan)
                except NoServerError as error:
                    left = gone = str(error)
                if not left:
                    for part in plan.parts:  # wandb's own mark, so that a later `wandb sync` leaves it alone
                        part.path.with_name(part.path.name + ".synced").touch()
                self.report(plan, left)

    def _arrived(self, plan: SyncPlan) -> str:
        deadline, pause = time.monotonic() + ARRIVE_SECONDS, 0.05
        while (left := plan.lacks(self.there(plan))) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        return left

    def _carry(self, some: Sequence[tuple[SyncPlan, Status]]) -> str:
        """One call of ``wandb sync``; what ended it, "" where it came to its end."""
        with tempfile.TemporaryDirectory(prefix="sync-", dir=self.root) as room:
            folders = []
            for plan, status in some:
                rows, runtime = 0, 0.0
                for part in plan.parts:
                    skip = min(max(status.rows - rows, 0), part.rows)
                    folder = Path(room) / part.path.parent.name
                    folders.append(copy(part.path, folder, skip, rows, runtime).parent)
                    rows, runtime = rows + part.rows, runtime + part.runtime
            command = [sys.executable, "-m", "wandb", "sync", "--no-skip-synced", "--no-skip-online", "-n", "4"]
            with (Path(room) / "output.txt").open("wb") as output:
                process = subprocess.Popen(
                    [*command, *map(str, folders)], env=self._variables(room), stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, start_new_session=True,
                )  # fmt: skip
                try:
                    return self._watch(process)
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # with W&B's service, which would go on alone
                    process.wait()

    def _watch(self, process: subprocess.Popen) -> str:
        answered = asked = time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - asked < 2:
                continue
            try:
                self.server.entity()
                answered = asked = time.monotonic()
            except NoServerError as error:
                asked = time.monotonic()
                if asked - answered > PATIENCE_SECONDS:
                    return str(error)
        return ""

    def _variables(self, room: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
        return kept | {"WANDB_BASE_URL": self.server.url, "WANDB_DIR": room} | dict.fromkeys(RETRIES, "3")
