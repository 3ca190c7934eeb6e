"""The bare RPC: the broker's own protocol over mutual TLS, and a handler that answers at once.

What no gRPC server in Python can be faster than: `python -m tests.bench.bare FOLDER PORT`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2
from tests.bench.stage import serve_until_stopped, tls_of

# As long as what the broker answers.
CREDENTIAL = types_pb2.Credential(
    token="x" * 1000,
    credential_id="cred_019a8e3c-0000-7000-8000-000000000001",
    authorization_details="x" * 180,
    intent_digest="sha-256:" + "x" * 43,
    decision_id="dec_019a8e3c-0000-7000-8000-000000000004",
    policy_ids=["order-readers-may-look-up-orders"],
    transaction_id="txn_019a8e3c-0000-7000-8000-000000000003",
    tenant="retail",
)


class Bare(exchange_pb2_grpc.ExchangeServiceServicer):
    """Answers every intent with the same credential."""

    async def Exchange(self, request: Any, context: Any) -> exchange_pb2.ExchangeResponse:  # noqa: ARG002, N802 - gRPC's
        return exchange_pb2.ExchangeResponse(credential=CREDENTIAL)

    async def ExchangeStream(  # noqa: N802 - gRPC's
        self,
        request_iterator: AsyncIterator[exchange_pb2.ExchangeStreamRequest],
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[exchange_pb2.ExchangeStreamResponse]:
        item = exchange_pb2.ExchangeStreamResponse.Item
        async for message in request_iterator:
            yield exchange_pb2.ExchangeStreamResponse(
                items=[item(correlation=each.correlation, credential=CREDENTIAL) for each in message.items]
            )


async def main(folder: Path, port: int) -> None:
    server = grpc.aio.server()
    exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(Bare(), server)
    server.add_secure_port(f"127.0.0.1:{port}", tls_of(folder))
    await serve_until_stopped(server)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
