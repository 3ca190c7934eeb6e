"""Commands to a SPIRE server, through its own program and its private socket."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from deploy.spire.errors import DeployError

_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registration entry: who has the selectors gets the SPIFFE ID."""

    parent_id: str
    spiffe_id: str
    selectors: tuple[str, ...]
    ttl_seconds: int = 0
    federates_with: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    hint: str = ""

    @property
    def id(self) -> str:
        """Name the entry by what makes it the same entry: trust domain, identity, parent and selectors."""
        text = "\n".join((self.parent_id, self.spiffe_id, *sorted(self.selectors)))
        trust_domain = self.spiffe_id.removeprefix("spiffe://").partition("/")[0]
        return f"{trust_domain}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @staticmethod
    def trust_domain_of(entry_id: str) -> str:
        """Return the trust domain that an entry's id names."""
        return entry_id.rpartition(".")[0]

    def arguments(self) -> list[str]:
        """Return the entry as arguments of ``spire-server entry``."""
        named = [("-entryID", self.id), ("-parentID", self.parent_id), ("-spiffeID", self.spiffe_id)]
        named += [("-selector", selector) for selector in self.selectors]
        named += [("-federatesWith", f"spiffe://{name}") for name in self.federates_with]
        named += [("-dns", name) for name in self.dns]
        named += [("-x509SVIDTTL", str(self.ttl_seconds)), ("-hint", self.hint)]
        return [word for pair in named for word in pair]

    def describes(self, shown: dict[str, Any]) -> bool:
        """Whether what the server shows under this id is this entry in every part."""
        return (
            int(shown.get("x509_svid_ttl", 0)) == self.ttl_seconds
            and sorted(shown.get("federates_with", [])) == sorted(self.federates_with)
            and list(shown.get("dns_names", [])) == list(self.dns)
            and shown.get("hint", "") == self.hint
        )


def unix_selectors(path: Path | None, uid: int | None) -> tuple[str, ...]:
    """Tell a process by the program it runs and by its user. Raises ValueError for neither."""
    if path is None and uid is None:
        raise ValueError("an entry needs a path or a uid, else it would fit every workload")
    by_path = () if path is None else (f"unix:path:{path.resolve()}",)
    return by_path if uid is None else (*by_path, f"unix:uid:{uid}")


@dataclass(frozen=True, kw_only=True)
class ServerApi:
    """Each method is one command, or two. All raise DeployError with what the server said."""

    program: Path
    socket: Path

    def healthy(self) -> bool:
        """Whether the server is there and ready."""
        try:
            self._run("healthcheck")
        except DeployError:
            return False
        return True

    def bundle(self, form: str = "spiffe") -> str:
        """Return the trust domain's own bundle, as ``spiffe`` (JWKS) or ``pem``."""
        return self._run("bundle", "show", "-format", form)

    def set_bundle(self, trust_domain: str, bundle: str) -> None:
        """Take in a foreign trust domain's bundle; from then on the server refreshes it itself."""
        self._run("bundle", "set", "-id", f"spiffe://{trust_domain}", "-format", "spiffe", text=bundle)

    def join_token(self, spiffe_id: str) -> str:
        """Return a token that lets one agent join, and gives it a second, lasting SPIFFE ID."""
        return cast(str, self._json("token", "generate", "-spiffeID", spiffe_id, "-ttl", "600")["value"])

    def put_entry(self, entry: Entry) -> str:
        """Make the entry exist exactly so, leave it alone if it does, and return its id."""
        shown = [item for item in self._json("entry", "show", "-spiffeID", entry.spiffe_id)["entries"] if item]
        same = [item for item in shown if item["id"] == entry.id]
        if not same:
            self._run("entry", "create", *entry.arguments())
        elif not entry.describes(same[0]):
            self._run("entry", "update", *entry.arguments())
        return entry.id

    def delete_entry(self, entry_id: str) -> None:
        """End an entry; agents hear of it at their next synchronisation."""
        self._run("entry", "delete", "-entryID", entry_id)

    def _json(self, *arguments: str) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self._run(*arguments, "-output", "json")))

    def _run(self, *arguments: str, text: str = "") -> str:
        words = [*arguments, "-socketPath", str(self.socket)]
        return run(self.program, words, text=text)


def run(program: Path, words: list[str], *, text: str = "") -> str:
    """Run one command of SPIRE and return what it prints. Raises DeployError when it fails."""
    shown = " ".join((program.name, *words[:2]))
    try:
        told = subprocess.run(
            [program, *words], input=text, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"{shown}: {error}") from error
    if told.returncode:
        raise DeployError(f"{shown}: {(told.stderr + told.stdout).strip()}")
    return told.stdout
