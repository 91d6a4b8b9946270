"""As much of a W&B server, on loopback, as a sync needs: it keeps what it is sent. W&B's own may differ."""

import base64
import contextlib
import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ARTIFACT_INPUT = [
    "entityName", "projectName", "runName", "artifactTypeName", "artifactCollectionName", "digest", "digestAlgorithm",
    "aliases", "metadata", "description", "clientID", "sequenceClientID", "tags", "storageRegion", "ttlDurationSeconds",
    "historyStep", "distributedID", "labels", "enableDigestDeduplication",
]  # fmt: skip


SAME = ("runName", "artifactTypeName", "artifactCollectionName", "digest")  # of one run, the same artifact once more


class Server:
    """Runs by id (``lines``: file name -> {line number: text}, ``exit``), artifacts, and which run used which.

    What can go wrong with it: after ``rows_to_live`` more rows it takes nothing more, ``dead`` closes each connection
    without a word, ``silent`` never answers (a black hole), ``broken`` answers 500, ``key`` set to another than the
    client's refuses with 401.
    """

    def __init__(self, key=None):
        self.lock = threading.RLock()
        self.runs, self.artifacts, self.used, self.files, self.unknown = {}, {}, [], {}, []
        self.key, self.dead, self.broken, self.silent, self.rows_to_live = key, False, False, threading.Event(), None
        self.asked = []  # the names of all requests
        self.views = {}  # workspaces by name
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.silent.clear()
        self.http.shutdown()
        self.http.server_close()

    def history(self, run):
        lines = self.runs[run].get("lines", {}).get("wandb-history.jsonl", {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    # what the client asks

    def upsertbucket(self, v):
        run = self.runs.setdefault(v["name"], {})
        run |= {key: value for key, value in v.items() if value is not None}
        project = {"id": "p", "name": v.get("project"), "entity": {"id": "e", "name": v.get("entity") or "stub"}}
        bucket = {"id": "id-" + v["name"], "name": v["name"], "displayName": v.get("displayName"), "config": "{}"}
        count = len(run.get("lines", {}).get("wandb-history.jsonl", {}))
        return {
            "upsertBucket": {"bucket": bucket | {"project": project, "historyLineCount": count}, "inserted": not count}
        }

    def viewer(self, v):
        return {
            "viewer": {
                "id": "u",
                "entity": "stub",
                "username": "stub",
                "flags": "{}",
                "teams": {"edges": [{"node": {"name": "team"}}]},
            }
        }

    viewerentity = viewer

    def serverinfo(self, v):
        latest = {"outOfDate": False, "latestVersionString": "0.80.0", "versionOnThisInstanceString": "0.80.0"}
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "latestLocalVersionInfo": latest}}

    def serverfeaturesquery(self, v):
        return {"serverInfo": {"features": []}}

    def runresumestatus(self, v):
        """How far a run is that a sync goes on with: the next file starts after these lines."""
        model = {"id": "p", "name": v["project"], "entity": {"id": "e", "name": "stub"}, "bucket": None}
        if v["name"] in self.runs:
            run = self.runs[v["name"]]
            kinds = {"history": "wandb-history.jsonl", "events": "wandb-events.jsonl", "log": "output.log"}
            lines = {kind: run.get("lines", {}).get(file, {}) for kind, file in kinds.items()}
            tails = {kind: [kept[number] for number in sorted(kept)[-1:]] for kind, kept in lines.items()}
            model["bucket"] = {"id": "id-" + v["name"], "name": v["name"], "displayName": run.get("displayName")}
            model["bucket"] |= {f"{kind}LineCount": len(kept) for kind, kept in lines.items()}
            model["bucket"] |= {f"{kind}Tail": json.dumps(tails[kind]) for kind in ("history", "events")}
            summary = run.get("lines", {}).get("wandb-summary.json", {})
            model["bucket"] |= {"config": "{}", "tags": [], "wandbConfig": json.dumps({"t": 1})}
            model["bucket"] |= {"summaryMetrics": summary[max(summary)] if summary else "{}"}
        return {"model": model}

    def runstoppedstatus(self, v):
        return {"project": {"run": {"stopped": False}}}

    def createrunfiles(self, v):
        files = [{"name": name, "uploadUrl": f"{self.url}/up/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": "id-" + v["run"], "uploadHeaders": [], "files": files}}

    def upsertview2(self, v):
        new = v["name"] not in self.views
        self.views[v["name"]] = v
        return {"upsertView": {"view": {"id": "v", "name": v["name"]}, "inserted": new}}

    def inputfields(self, v):
        return {"TypeInfo": {"inputFields": [{"name": name} for name in ARTIFACT_INPUT]}}

    def typefields(self, v):
        return {"TypeInfo": {"fields": [{"name": "x"}]}}

    def artifacttype(self, v):
        """None is known by name before it was made."""
        return {"project": {"artifact": None}}

    def createartifact(self, v):
        asked = v.get("input", v)
        for known in self.artifacts.values():
            if known["committed"] and all(known.get(key) == asked.get(key) for key in SAME):
                return {
                    "createArtifact": {"artifact": {"id": known["id"], "state": "COMMITTED", "artifactSequence": None}}
                }
        name = f"artifact{len(self.artifacts)}"
        self.artifacts[name] = dict(asked, id=name, committed=False)
        sequence = {"id": "s", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": sequence}}}

    def createartifactmanifest(self, v):
        target = f"{self.url}/manifest/{v.get('input', v).get('artifactID')}"
        file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": target, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def updateartifactmanifest(self, v):
        return {"updateArtifactManifest": self.createartifactmanifest(v)["createArtifactManifest"]}

    def createartifactfiles(self, v):
        files = v.get("input", v).get("artifactFiles", v.get("artifactFiles", []))
        nodes = [
            {"id": f"f{number}", "name": file["name"], "displayName": file["name"], "uploadHeaders": []}
            | {"uploadUrl": f"{self.url}/file/{file['artifactID']}/{file['name']}", "uploadMultipartUrls": None}
            | {"storagePath": file["name"], "artifact": {"id": file["artifactID"]}}
            for number, file in enumerate(files)
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def commitartifact(self, v):
        name = v.get("artifactID") or v["input"]["artifactID"]
        self.artifacts[name]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": name, "digest": self.artifacts[name].get("digest", "")}}}

    def useartifact(self, v):
        self.used.append(v)
        artifact = {"id": "x", "digest": "d", "description": "", "state": "COMMITTED", "labels": "[]", "metadata": "{}"}
        return {"useArtifact": {"artifact": artifact | {"createdAt": "2026-01-01T00:00:00"}}}

    def runartifacts(self, v):
        """Which artifacts of a run are whole here."""

        def edges(digests):
            return {"edges": [{"node": {"state": "COMMITTED", "digest": digest}} for digest in digests]}

        made = [a["digest"] for a in self.artifacts.values() if a["committed"] and a.get("runName") == v["run"]]
        read = [self.artifacts[use["input"]["artifactID"]]["digest"] for use in self.used
                if use["input"]["runName"] == v["run"]]  # fmt: skip
        return {"project": {"run": {"made": edges(made), "read": edges(read)}}}

    def stream(self, run, sent):
        kept = self.runs.setdefault(run, {})
        for name, part in (sent.get("files") or {}).items():
            content = part["content"]
            if name == "wandb-history.jsonl" and self.rows_to_live is not None:
                content = content[: self.rows_to_live]
                self.rows_to_live -= len(content)
                self.dead = self.rows_to_live == 0
            lines = kept.setdefault("lines", {}).setdefault(name, {})
            lines |= {part["offset"] + number: text for number, text in enumerate(content)}
        if sent.get("complete") and not self.dead:
            kept["exit"] = sent.get("exitcode")

    def _handler(server):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    super().handle()

            def body(self):
                if self.headers.get("transfer-encoding", "").lower() == "chunked":
                    data = b""
                    while size := int(self.rfile.readline().strip() or b"0", 16):
                        data += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    data = self.rfile.read(int(self.headers.get("content-length") or 0))
                return gzip.decompress(data) if self.headers.get("content-encoding") == "gzip" else data

            def answer(self, value, status=200):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def stricken(self, secret=True):
                """Whether the request meets its fate here, unanswered or refused."""
                hole = server.silent.is_set()
                while server.silent.is_set():
                    time.sleep(0.05)
                if server.dead or hole:
                    self.close_connection = True
                    return True
                if server.broken:
                    self.answer({}, 500)
                    return True
                expected = base64.b64encode(f"api:{server.key}".encode()).decode()
                if secret and server.key and self.headers.get("authorization") != f"Basic {expected}":
                    self.answer({"errors": [{"message": "user is not logged in"}], "data": None}, 401)
                    return True
                return False

            def do_POST(self):
                data = self.body()
                if self.stricken():
                    return None
                with server.lock:
                    if self.path.startswith("/graphql"):
                        query = json.loads(data)
                        found = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
                        name = query.get("operationName") or (found[1] if found else "?")
                        server.asked.append(name)
                        known = getattr(server, name.lower(), None)
                        if known is None:
                            server.unknown.append(name)
                            return self.answer({"errors": [{"message": f"stub: {name}?"}], "data": None})
                        return self.answer({"data": known(query.get("variables") or {})})
                    if found := re.match(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                        server.asked.append("stream")
                        server.stream(found[1], json.loads(data))
                        if server.dead:
                            self.close_connection = True
                            return None
                        return self.answer({"exitcode": None, "limits": {}})
                return self.answer({})

            def do_PUT(self):
                data = self.body()
                if self.stricken(secret=False):
                    return
                with server.lock:
                    server.files[self.path] = data
                self.answer({})

            def do_GET(self):
                self.answer({})

        return Handler
