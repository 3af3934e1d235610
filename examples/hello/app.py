"""The smallest application: it counts its visits in the sidecar's cache, with nothing but Python's library."""

import http.server
import json
import os
import urllib.request

SIDECAR = "http://" + os.environ.get("OUTRIGGER_HTTP_ADDR", "127.0.0.1:7071")


def sidecar(method, **request):
    call = urllib.request.Request(f"{SIDECAR}/{method}", json.dumps(request).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=5) as answer:
        return json.load(answer)


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        visits = sidecar("outrigger.cache.v1.Cache/Increment", key="visits", delta=1)["value"]
        body = f"hello, visitor {visits}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Hello).serve_forever()
