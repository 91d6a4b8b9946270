"""Questions to a W&B server: whether it is there and takes the key, and what it has of a run.

The queries are those of W&B's own client. They were verified against a protocol stub, not against W&B's server.
"""

from __future__ import annotations

import base64
import json
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST_ANSWER = 64 * 2**20  # bytes
PAGE = 1000  # artifacts of a run in one answer

RUN = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) {
    name historyLineCount summaryMetrics } } }"""
ARTIFACTS = """query RunArtifacts($entity: String!, $project: String!, $run: String!, $perPage: Int) {
  project(entityName: $entity, name: $project) { run(name: $run) {
    made: outputArtifacts(first: $perPage) { edges { node { state digest } } }
    read: inputArtifacts(first: $perPage) { edges { node { state digest } } } } } }"""
VIEW = """mutation UpsertView2($entityName: String, $projectName: String, $type: String, $name: String,
    $displayName: String, $description: String, $spec: String) {
  upsertView(input: {entityName: $entityName, projectName: $projectName, name: $name, displayName: $displayName,
      description: $description, type: $type, spec: $spec, createdUsing: WANDB_SDK}) {
    view { id name } inserted } }"""
VIEWER = "query Viewer { viewer { entity username teams { edges { node { name } } } } }"


class NoServerError(Exception):
    """The server is not there, does not answer, or refuses; one sentence, which never has the key in it."""


@dataclass(frozen=True)
class Status:
    """The status of a run on a server.

    Attributes:
        known: whether there is such a run.
        rows: of its history.
        summary: names of its summary.
        digests: of the artifacts that are whole there: made by the run, and read by it.
    """

    known: bool = False
    rows: int = 0
    summary: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()


class Server:
    """A W&B server, asked over HTTP.

    Args:
        url: its address, without a path.
        seconds: longest wait for an answer.
    """

    def __init__(self, url: str, seconds: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self.seconds = seconds
        proxies = ProxyHandler({}) if urlparse(url).hostname in LOOPBACK else ProxyHandler()
        self._open = build_opener(_Stay, proxies).open

    def entity(self) -> str:
        """The team or user that the key belongs to. Errors: NoServerError, also where the key is refused."""
        viewer = self._viewer()
        return str(viewer.get("entity") or viewer.get("username") or "")

    def entities(self) -> frozenset[str]:
        """The user of the key and the teams of that user. Errors: NoServerError, also where the key is refused."""
        viewer = self._viewer()
        teams = _down(viewer, "teams").get("edges") or []
        names = [viewer.get("entity"), viewer.get("username"), *(_down(edge, "node").get("name") for edge in teams)]
        return frozenset(str(name) for name in names if name)

    def _viewer(self) -> dict[str, Any]:
        viewer = self._ask(VIEWER, {}).get("viewer")
        if not isinstance(viewer, Mapping) or not viewer:
            raise NoServerError(f"W&B's server {self.url} does not accept the key: check WANDB_API_KEY")
        return dict(viewer)

    def run(self, entity: str, project: str, run: str) -> Status:
        """The status of a run; an empty Status where it is not known. Errors: NoServerError."""
        found = self._ask(RUN, {"entity": entity, "project": project, "name": run})
        bucket = _down(found, "model", "bucket")
        if not bucket:
            return Status()
        try:
            summary = json.loads(bucket.get("summaryMetrics") or "{}")
            rows = int(bucket.get("historyLineCount") or 0)
        except (TypeError, ValueError):
            raise NoServerError(f"W&B's server {self.url} gave no count of the rows of {run}") from None
        answer = self._ask(ARTIFACTS, {"entity": entity, "project": project, "run": run, "perPage": PAGE})
        digests = set()
        for side in ("made", "read"):
            for edge in _down(answer, "project", "run", side).get("edges") or []:
                node = _down(edge, "node")
                if node.get("state") == "COMMITTED":
                    digests.add(str(node.get("digest")))
        return Status(True, rows, frozenset(summary if isinstance(summary, dict) else ()), frozenset(digests))

    def view(self, workspace: Mapping[str, Any]) -> bool:
        """Store a workspace, in the place of one of its name; whether it is new. Errors: NoServerError."""
        variables = {
            "entityName": workspace["entity"], "projectName": workspace["project"], "name": workspace["name"],
            "displayName": workspace["display_name"], "type": "project-view", "description": "",
            "spec": json.dumps(workspace["spec"]),
        }  # fmt: skip
        return bool(_down(self._ask(VIEW, variables), "upsertView").get("inserted"))

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        word = base64.b64encode(f"api:{key(self.url) or ''}".encode()).decode()
        headers = {"content-type": "application/json", "authorization": f"Basic {word}", "user-agent": "kdlab"}
        body = json.dumps({"query": query, "variables": variables, "operationName": query.split("(")[0].split()[1]})
        try:
            request = Request(self.url + "/graphql", body.encode(), headers)
            with self._open(request, timeout=self.seconds) as answer:
                reply = json.loads(answer.read(LARGEST_ANSWER))
        except HTTPError as error:
            error.close()
            reason = "refuses the key: check WANDB_API_KEY" if error.code in (401, 403) else f"answers {error.code}"
            raise NoServerError(f"W&B's server {self.url} {reason}") from None
        except TimeoutError:
            raise NoServerError(f"W&B's server {self.url} gave no answer in {self.seconds:g} s") from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", str(error))
            if isinstance(reason, TimeoutError):
                reason = f"no answer in {self.seconds:g} s"
            raise NoServerError(f"W&B's server {self.url} cannot be reached ({reason})") from None
        except Exception as error:  # no HTTP, no JSON, an address that is none
            raise NoServerError(f"{self.url} does not answer as a W&B server ({type(error).__name__})") from None
        if not isinstance(reply, dict) or reply.get("errors") or not isinstance(reply.get("data"), dict):
            raise NoServerError(f"W&B's server {self.url} did not take a question: {str(reply)[:200]}")
        return reply["data"]


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the key is for this server alone."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def address() -> str:
    """The server that W&B's variables and the user's own settings name; not those of the working directory."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    from kdlab.logger.settings import wandb

    return str(wandb.setup().settings.base_url)


def key(url: str) -> str | None:
    """The key for a server, from WANDB_API_KEY or the netrc file, for a request's header and for nothing else."""
    if word := os.environ.get("WANDB_API_KEY"):
        return word
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def _down(value: Any, *names: str) -> dict[str, Any]:
    """A mapping some levels down; empty where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}
