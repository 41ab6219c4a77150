"""HTTP: requests in, bytes out, errors ours. The only folder that knows requests and urllib3."""

from h2o_client.transport.call import Call, CallLock, Waker, Woken
from h2o_client.transport.cookies import Cookies, cookie_of_environment
from h2o_client.transport.response import Response
from h2o_client.transport.transport import Transport

__all__ = [
    "Call",
    "CallLock",
    "Cookies",
    "Response",
    "Transport",
    "Waker",
    "Woken",
    "cookie_of_environment",
]
