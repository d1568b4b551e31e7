"""Makes a unary call for each action of its arguments ("" for none), all in one session, and prints which host served each.

grpc_session.py ADDRESS CA.PEM ACTION…, beside who.proto
"""

import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent))
messages, services = grpc.protos_and_services("who.proto")


class KeepToken(grpc.UnaryUnaryClientInterceptor):
    """Keeps the session. An empty token asks for one; in an answer it says that the session is over."""

    def __init__(self):
        self.token = ""

    def intercept_unary_unary(self, continuation, details, request):
        metadata = [*(details.metadata or ()), ("x-session-token", self.token)]
        call = continuation(details._replace(metadata=metadata), request)
        for name, value in [*call.initial_metadata(), *call.trailing_metadata()]:
            if name == "x-session-token":
                self.token = value
        return call


address, ca, *actions = sys.argv[1:]
credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes())
with grpc.secure_channel(address, credentials) as channel:
    client = services.WhoStub(grpc.intercept_channel(channel, KeepToken()))
    for action in actions:
        print(client.Serves(messages.Question(action=action), timeout=10).host)
