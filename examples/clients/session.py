"""Requests the URLs of its arguments, one after the other in one session, and prints which host served each."""

import sys

import requests

with requests.Session() as session:  # Each requests.get() of its own would be a client without a cookie.
    for url in sys.argv[1:]:
        response = session.get(url, timeout=10)
        response.raise_for_status()
        print(response.headers["x-served-by"])
