"""Servers that read nothing and answer nothing: the most that a protocol does in Python here.

Example:

    python -m benchmarks.serving_empty 8500 8501
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import tyro
from aiohttp import web

from benchmarks.serving_load import PREDICT


def grpc_server(port: int, num_threads: int = 16) -> grpc.Server:
    service, _, method = PREDICT.removeprefix("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server = grpc.server(ThreadPoolExecutor(num_threads))
    server.add_registered_method_handlers(service, {method: handler})
    server.add_insecure_port(f"127.0.0.1:{port}")
    return server


async def serve_rest(port: int) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=b"{}")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main(port: tyro.conf.Positional[int], rest_api_port: tyro.conf.Positional[int]) -> None:
    server = grpc_server(port)
    server.start()
    asyncio.run(serve_rest(rest_api_port))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
