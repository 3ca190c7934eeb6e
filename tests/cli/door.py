"""Stands in for a door of another user: `python -m tests.cli.door SOCKET PORT UID`."""

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from broker.admin.v1 import admin_pb2, admin_pb2_grpc


class Servicer(admin_pb2_grpc.AdminServiceServicer):
    """Says that all is well."""

    def GetStatus(  # noqa: N802  # the proto's name
        self,
        request: admin_pb2.GetStatusRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> admin_pb2.GetStatusResponse:
        return admin_pb2.GetStatusResponse(issuer_ready=True, spiffe_id="spiffe://example.org/broker")


def main() -> None:
    path, port, uid = sys.argv[1:]
    listener = socket.socket()
    listener.bind(("127.0.0.1", int(port)))
    listener.listen()
    os.chown(os.path.dirname(path), int(uid), -1)  # noqa: PTH120
    # Everything is loaded and the directory entered before: the other user may read neither the interpreter's home nor
    # the folders above.
    server = grpc.server(ThreadPoolExecutor(2))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Servicer(), server)
    os.chdir(os.path.dirname(path))  # noqa: PTH120
    os.setuid(int(uid))
    server.add_insecure_port(f"unix:{os.path.basename(path)}")  # noqa: PTH119
    server.start()
    print("ready", flush=True)  # noqa: T201
    server.wait_for_termination()


main()
