"""The other end of a run of canaries: input that is bad, commands, and everything that can be read afterwards."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc

from broker.audit.entry import Opening
from broker.audit.saved import to_line
from broker.v1 import types_pb2
from tests.attacks import entrances as to
from tests.attacks.canary import Place, key_forms
from tests.attacks.canary_kept import Run
from tests.attacks.raw import PATHS, intent, send, text
from tests.cli.setups import invoke
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, SECURITY, SUPPORT

# What was asked for is recorded, with whatever stood in it, as a personal value.
ASKED = (Place.STORE, Place.PERSONAL)
# But the action, purpose and audience of an intent stand in its event for all to read.
NAMED = (*ASKED, Place.EVENTS, Place.STREAM, Place.EXPORTS, Place.COMMANDS)


async def bad_input(run: Run) -> None:
    """Ask with what is no order: what stands in it is told to nobody, not even to who asked."""
    agent, security = run.to(SUPPORT), run.to(SECURITY)

    def bad(name: str, *may: Place) -> str:
        return run.say(f"bad {name}", *(may or ASKED), home=Place.SENT)

    order = types_pb2.Resource
    await run.refuse(
        to.exchange(agent, to.request(parameters=f'{{"{bad("parameter name")}": 1.5}}')),
        to.exchange(agent, to.request(parameters="{" + bad("parameters"))),
        to.conversation(agent, to.request(parameters=f'{{"a": "{bad("parameter of a stream")}", "a": 1}}')),
        to.exchange(agent, to.request(purpose=bad("purpose", *NAMED))),
        to.exchange(agent, to.request(action=bad("action", *NAMED))),
        to.exchange(agent, to.request(audience="spiffe://example.org/" + bad("audience", *NAMED))),
        to.exchange(agent, to.request(task_id=bad("task"))),
        to.exchange(agent, to.request(resource=order(type="order", id=bad("resource") + "\n"))),
        to.exchange(agent, to.request(on_behalf_of=bad("person") + "\n")),
        to.exchange(agent, to.request(request_id=bad("request id") * 5)),
        to.begin_task(agent, conversation=bad("conversation") * 5),
        to.begin_task(agent, tenant=bad("tenant")),
        to.revoke(security, agent=bad("agent")),
        to.approve(agent, bad("approval")),
        to.redeem(agent, bad("credential")),
        send(agent, PATHS["Exchange"], intent(text(1, bad("text").encode() + b"\xff"))),
        send(agent, PATHS["Exchange"], bad("message").encode()),
        send(agent, PATHS["SubscribeAudit"], text(1, bad("cursor").encode())),
    )
    served = to.request().SerializeToString()
    carried = [
        (name, run.say(f"metadata {name}", home=Place.SENT)) for name in ("traceparent", "authorization", "x-api-key")
    ]
    told = await send(agent, PATHS["Exchange"], served, metadata=carried)
    assert told.code is grpc.StatusCode.OK, told


async def commands(run: Run, credential: str, folder: Path) -> None:
    """Read the log with every command that does, with and without personal values."""
    run.to(SECURITY)
    api = WorkloadApi(folder / "security.sock")
    api.give_svid(run.svids[SECURITY], run.house.home)
    run.stack.callback(api.stop)
    environment = {
        "SPIFFE_ENDPOINT_SOCKET": api.start().socket,
        "BROKER_ADDRESS": f"127.0.0.1:{run.house.door.port}",
        "BROKER_ID": BROKER,
    }

    async def told(place: Place, *arguments: str, status: int = 0) -> None:
        result = await asyncio.to_thread(invoke, *arguments, **environment)
        assert result.exit_code == status, (arguments, result.output)
        run.keep(place, result.output)

    plain, personal = (Place.COMMANDS, ()), (Place.PERSONAL, ("--personal",))
    for place, option in (plain, personal):
        for form in ("text", "json", "ocsf", "otel"):
            await told(place, "audit", "tail", "--format", form, *option)
        await told(place, "audit", "trace", credential, *option)
        await told(place, "audit", "trace", credential, "--json", *option)
        for form in ("ocsf", "otel"):
            file = folder / f"{place.name}-{form}.jsonl"
            await told(place, "audit", "export", "--format", form, str(file), *option)
            kept = Place.EXPORTS if place is Place.COMMANDS else place
            keep_files(run, kept, folder, f"{file.name}*")
    await told(Place.COMMANDS, "audit", "unaccounted")
    await told(Place.COMMANDS, "keys", "list")
    token = folder / "identity-token"
    token.write_text(run.say("file that is no identity token", home=Place.SENT) + " and more")
    await told(Place.COMMANDS, "approve", to.NOBODYS_APPROVAL, "--identity-token-file", str(token), status=2)
    _configuration(run, folder)


def keep_files(run: Run, place: Place, folder: Path, named: str = "*") -> None:
    """Keep what files hold, of which nobody but their owner reads any."""
    for path in folder.glob(named):
        assert not path.stat().st_mode & 0o077, path
        run.keep(place, path.read_bytes())


def _configuration(run: Run, folder: Path) -> None:
    """A configuration with a secret where none belongs is refused by its place, not by its value."""
    wrong = folder / "wrong.toml"
    secret = run.say("secret in the configuration", home=Place.SENT)
    wrong.write_text((run.house.folder / "broker.toml").read_text() + f'\n[database]\npassword = "{secret}"\n')
    for command in ("serve", "doctor"):
        result = invoke(command, "--config", wrong)
        assert result.exit_code
        assert "database" in result.output
        run.keep(Place.COMMANDS, result.output)


async def read_everything(run: Run) -> None:
    """Keep the log, the streams, the database, the keys."""
    house = run.house
    for event in await house.log():
        run.keep(Place.EVENTS, event["content"])
    status = await house.status()
    run.keep(Place.STATUS, status)
    for place, personal in ((Place.STREAM, False), (Place.PERSONAL, True)):
        call: Any = to.audit(run.to(SECURITY), personal=personal)
        while True:
            message = await call.read()
            run.keep(place, message)
            for event in message.events:
                openings = [
                    Opening(field=each.field, value=each.value.encode(), salt=each.salt) for each in event.openings
                ]
                run.keep(place, to_line(event.position, event.event, openings))
                if personal and openings:
                    run.hold("salt of a commitment", [openings[0].salt], Place.PERSONAL, Place.STORE)
            if message.heartbeat.position and message.to_position >= message.heartbeat.position:
                break
        call.cancel()
    _keys(run)


def _keys(run: Run) -> None:
    house, path = run.house, run.house.settings.store.path
    for file in (path, path.with_name(path.name + "-wal")):
        run.keep(Place.STORE, file.read_bytes())
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (cursor_key,) = connection.execute("SELECT cursor_key FROM log").fetchone()
    run.hold("key of cursors", [cursor_key], Place.STORE)
    keep_files(run, Place.KEYS, house.settings.keys.dir)
    forms: dict[str, list[bytes]] = {"key of tokens": [], "key of checkpoints": []}
    for file in house.settings.keys.dir.glob("*.pem"):
        use = "checkpoints" if file.name.startswith("checkpoint") else "tokens"
        forms[f"key of {use}"] += key_forms(file.read_bytes())
    for name, each in forms.items():
        run.hold(name, each, Place.KEYS)
    for who, svid in {**run.svids, BROKER: house.broker}.items():
        run.hold(f"key of {who.rpartition('/')[2]}", key_forms(svid.private_key), Place.SENT)
        run.keep(Place.SENT, svid.private_key)
