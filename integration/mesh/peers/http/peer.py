"""A stock client of HTTP, by lines on standard input, each of which gets one that begins with "@ OK" or "@ ERROR":
   refer NAME URL [PROXY]    what NAME stands for: a URL, and HOST:PORT of the proxy that it is asked of
   call NAME X               asks for it, and answers with what came and X
   load NAME, stop NAME      asks for it again and again, until stop answers with calls, failures and the first failure"""
import sys
import threading
import urllib.request

references, loads = {}, {}


def ask(name):
    url, proxy = references[name]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": "http://" + proxy} if proxy else {}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode().strip()


class Load(threading.Thread):
    def __init__(self, name):
        super().__init__(daemon=True)
        self.name_of, self.calls, self.failed, self.first, self.over = name, 0, 0, "", False
        self.start()

    def run(self):
        while not self.over:
            self.calls += 1
            try:
                ask(self.name_of)
            except Exception as e:
                self.failed, self.first = self.failed + 1, self.first or repr(e)

    def end(self):
        self.over = True
        self.join()
        return f"{self.calls} {self.failed} {self.first}"


def act(words):
    match words[0]:
        case "refer":
            references[words[1]] = (words[2], words[3] if len(words) > 3 else "")
            return ""
        case "call":
            return ask(words[1]) + ":" + words[2]
        case "load":
            loads[words[1]] = Load(words[1])
            return ""
        case "stop":
            return loads.pop(words[1]).end()
    raise ValueError(words[0])


print("@ OK started", flush=True)
for line in sys.stdin:
    try:
        said = "OK " + act(line.split())
    except Exception as e:
        said = "ERROR " + repr(e)
    print("@ " + said.replace("\n", " "), flush=True)
