"""Applications of usual libraries in a microVM: a page, a WebSocket server, a gRPC server.

Runs in the guest, with the libraries of this checkout copied there: `python3 application.py`.
"""

import asyncio
import http.server
import socketserver
import sys
import threading

PAGE = b"""<!doctype html><meta charset="utf-8"><title>application</title>
<p id="heard">nothing yet</p>
<script>
const token = location.hash.slice(1);
const socket = new WebSocket(`wss://${location.host}/chat`, [
  "lambda-microvms", "lambda-microvms.authentication." + token, "lambda-microvms.port.9001",
  "chat",
]);
socket.onopen = () => socket.send("gr\xc3\xbc\xc3\x9fe");
socket.onmessage = ({ data }) => { heard.textContent = `${data} ${socket.protocol}`; };
socket.onclose = ({ code }) => { document.title = `closed ${code}`; };
</script>"""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(PAGE if self.path == "/" else self.path.encode())

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).upper())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is PAGE else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Web(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


async def _sockets() -> None:
    from websockets.asyncio.server import ServerConnection, serve  # noqa: PLC0415

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    def chat(_: ServerConnection, offered: list[str]) -> str | None:
        return "chat" if "chat" in offered else None

    async with serve(echo, "127.0.0.1", 9001, select_subprotocol=chat, max_size=None) as server:
        await server.serve_forever()


async def _calls() -> None:
    import grpc  # noqa: PLC0415
    import grpc.aio  # noqa: PLC0415

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            return {
                "unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "down": grpc.unary_stream_rpc_method_handler(self.down),
                "up": grpc.stream_unary_rpc_method_handler(self.up),
                "both": grpc.stream_stream_rpc_method_handler(self.both),
            }[details.method.rpartition("/")[2]]

        async def unary(self, request, context):
            context.set_trailing_metadata((("x-sum", str(len(request))),))
            return request

        async def down(self, request, context):
            for number in range(20):
                yield request + str(number).encode()

        async def up(self, requests, context):
            return b"".join([one async for one in requests])

        async def both(self, requests, context):
            async for one in requests:
                yield one.upper()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port("127.0.0.1:50051")
    await server.start()
    await server.wait_for_termination()


async def _main(what: list[str]) -> None:
    web = _Web(("127.0.0.1", 8080), _Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    async with asyncio.TaskGroup() as group:
        if "sockets" in what:
            group.create_task(_sockets())
        if "calls" in what:
            group.create_task(_calls())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
