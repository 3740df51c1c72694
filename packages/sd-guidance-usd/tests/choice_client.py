"""Asks the page of `score-distill templates`, while the command runs in a thread."""

import contextlib
import http.client
import queue
import threading
import urllib.error
import urllib.request

from sd_core.cli import main


class Lines(queue.Queue):
    """A stdout whose lines another thread can wait for."""

    def write(self, text):
        self.put(text)

    def flush(self):
        pass

    def until(self, begin):
        while not (line := self.get(timeout=60)).startswith(begin):
            pass
        return line


@contextlib.contextmanager
def serving(arguments):
    """The page's address, while the command runs in a thread; it must have ended by the end."""
    lines, codes = Lines(), []
    with contextlib.redirect_stdout(lines):
        running = threading.Thread(target=lambda: codes.append(main(arguments)), daemon=True)
        running.start()
        line = lines.until("choose others at ")
        yield line.split()[3]
        running.join(timeout=60)
    assert codes == [0]
    assert lines.until("go on with: ")


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def post(url, body, kind="application/json", **headers):
    """The status and the text."""
    headers |= {"Content-Type": kind}
    request = urllib.request.Request(f"{url}done", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def status(url, path, **headers):
    """Of a path as it is, which urllib would tidy up."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()
