"""Calls stock by the Host and through an HTTP proxy: python3 client.py HOST PORT."""
import http.client
import sys
import urllib.request

host, port = sys.argv[1], int(sys.argv[2])
c = http.client.HTTPConnection(host, port, timeout=20)
for i in range(50):
    body = b"p" * (300000 if i % 2 else i + 1)
    if i % 3 == 0:
        c.request("POST", "/echo", iter([body[:10], body[10:]] if len(body) > 10 else [body]), {"Host": "stock"}, encode_chunked=True)
    else:
        c.request("POST", "/echo", body, {"Host": "stock"})
    r = c.getresponse()
    got = r.read()
    assert r.status == 200 and got == body and r.headers["outrigger-origin"] == "app", (i, r.status, len(got))
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{host}:{port}"}))
assert opener.open("http://stock/host", timeout=20).read() == b"stock"
print("ok")
