"""Running: the broker that is up on this configuration, found by its admin socket."""

import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from broker.admin.v1 import admin_pb2, admin_pb2_grpc

_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), SO_PEERCRED: pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """A broker that answers; `door` and `uid` are the process and user that listen."""

    door: int
    uid: int
    status: admin_pb2.GetStatusResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Something stands at the socket and does not answer, or not us."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Nobody listens; `left` when a socket of an earlier broker still lies there."""

    left: bool


def find_broker(path: Path, seconds: float) -> Alive | Silent | Absent:
    """Ask whoever listens on the admin socket for its state.

    Args:
        path: of the socket.
        seconds: to wait for the answer.

    """
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return Absent(left=True)
        door, uid = _listener(path, seconds)
    except FileNotFoundError:
        return Absent(left=False)
    except ConnectionRefusedError:
        return Absent(left=True)
    except OSError as failure:
        return Silent(detail=failure.strerror or str(failure))
    with grpc.insecure_channel(f"unix:{path}") as channel:
        try:
            status = admin_pb2_grpc.AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=seconds)
        except grpc.RpcError as error:
            return Silent(detail=f"{error.code().name}: {error.details()}")
    return Alive(door=door, uid=uid, status=status)


def _listener(path: Path, seconds: float) -> tuple[int, int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return pid, uid
