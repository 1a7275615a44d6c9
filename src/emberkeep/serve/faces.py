"""One listener, several faces: the path of a request says which of them it is for."""

from starlette.types import ASGIApp, Receive, Scope, Send

from emberkeep.aws.routes import PREFIXES


class Faces:
    """Hands what AWS clients ask to `aws`, and everything else to `rest`."""

    def __init__(self, aws: ASGIApp, rest: ASGIApp) -> None:
        self._aws = aws
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_aws = scope["type"] == "http" and scope["path"].startswith(PREFIXES)
        await (self._aws if is_aws else self._rest)(scope, receive, send)
