"""A web page on this machine alone, where one picture of each class is chosen.

| request                     | answer                                                        |
|-----------------------------|---------------------------------------------------------------|
| GET /                       | the page                                                      |
| GET /question.json          | the names of the classes, how many pictures, what is chosen   |
| GET /picture/CLASS/INDEX    | a picture; both are numbers, so that no path can be asked for |
| POST /done                  | {"picks": [[INDEX, MIRRORED], ...]}, one for each class: ends |
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import Lock
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sd_core.errors import ConfigError, ScoreDistillationError
from sd_core.shapes import Images
from sd_guidance_usd.choice_page import PAGE

HOST = "127.0.0.1"
MOST_BYTES = 2**16
_PICTURE = re.compile(r"/picture/([0-9]{1,6})/([0-9]{1,6})")
_ALLOWED = (
    "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)


@dataclass(frozen=True)
class Pick:
    """Which picture of a class, and whether the other way round."""

    index: int
    mirrored: bool = False

    def of(self, pictures: Images) -> Float[Tensor, "3 height width"]:
        chosen = pictures[self.index]
        return chosen.flip(-1) if self.mirrored else chosen


@dataclass(frozen=True)
class Question:
    """The classes, the files of their pictures, what is chosen so far, and what keeps a choice."""

    classes: Sequence[str]
    files: Sequence[Sequence[Path]]
    picks: Sequence[Pick]
    keep: Callable[[Sequence[Pick]], None]

    def table(self) -> list[dict[str, Any]]:
        """For the page."""
        every = zip(self.classes, self.files, self.picks, strict=True)
        return [{"name": name, "count": len(files), **asdict(pick)} for name, files, pick in every]


def read_picks(body: bytes, counts: Sequence[int]) -> list[Pick]:
    """What the page posts; a ValueError for anything that is not one pick of each class."""
    try:
        content = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    told = content.get("picks") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(told, list) or len(told) != len(counts):
        raise ValueError(f'expected {{"picks": [...]}} with {len(counts)} pairs')
    picks = []
    for pair, count in zip(told, counts, strict=True):
        match pair:
            case [int(index), bool(mirrored)] if type(index) is int and 0 <= index < count:
                picks.append(Pick(index, mirrored))
            case _:
                raise ValueError(f"a pair is not [0 to {count - 1}, true or false]")
    return picks


class ChoiceServer(ThreadingHTTPServer):
    """Listens from the start, answers from `ask` on, until a choice is posted."""

    daemon_threads = True  # browsers open connections that they never use

    def __init__(self, port: int) -> None:
        self._question: Question | None = None
        self._lock, self._answered = Lock(), False
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST} cannot be used ({error.strerror}). Choose another, or 0 "
                "for any that is free."
            ) from None

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without looking up a name for the address
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    @property
    def question(self) -> Question:
        assert self._question is not None  # nobody is answered before `ask`
        return self._question

    def ask(self, question: Question) -> None:
        """Returns when a choice was posted and kept."""
        self._question = question
        self.serve_forever(poll_interval=0.1)

    def keep(self, picks: Sequence[Pick]) -> bool:
        """Whether these are the first; others are too late."""
        with self._lock:
            if not self._answered:
                self.question.keep(picks)
                self._answered = True
                return True
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # such as a browser that was closed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 30.0  # seconds of silence after which a connection is given up
    server: ChoiceServer

    def do_GET(self) -> None:
        self._or_say_why_not(self._get)

    def do_POST(self) -> None:
        self._or_say_why_not(self._post)

    def _or_say_why_not(self, answer: Callable[[], None]) -> None:
        """An error, such as a full disk, is told to the page, which may post again."""
        try:
            answer()
        except (ConnectionError, TimeoutError):  # nobody listens
            raise
        except Exception as error:
            ours = isinstance(error, ScoreDistillationError)
            told = str(error) if ours else f"{type(error).__name__}: {error}"
            self._say(500, " ".join(told.split()))

    def _get(self) -> None:
        if not self._is_ours():
            self._refuse(self._how_to_open())
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE.encode())
        elif self.path == "/question.json":
            told = json.dumps(self.server.question.table()).encode()
            self._answer(200, "application/json", told)
        elif (file := self._picture()) is not None:
            self._answer(200, "image/png", file.read_bytes())
        else:
            self._answer(404, "text/plain", b"there is nothing here")

    def _post(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,6}", length) or int(length) > MOST_BYTES:
            self._refuse(f"expected a length of at most {MOST_BYTES}")
            return
        body = self.rfile.read(int(length))  # what is not read would cut the answer off
        # For this type another site's page has to ask first, and is given no answer.
        of_page = self.path == "/done" and self.headers.get("Content-Type") == "application/json"
        if not self._is_ours():
            self._refuse(self._how_to_open())
            return
        if not of_page:
            self._refuse("expected JSON of this page at /done")
            return
        try:
            picks = read_picks(body, [len(files) for files in self.server.question.files])
        except ValueError as error:
            self._refuse(str(error))
            return
        if not self.server.keep(picks):
            self._refuse("there was a choice already")
            return
        self._answer(200, "text/plain", b"saved")
        self.server.shutdown()

    def _is_ours(self) -> bool:
        """Asked for by the address: a name that leads here may be a stranger's."""
        port = self.server.server_port
        return self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")

    def _picture(self) -> Path | None:
        found = _PICTURE.fullmatch(self.path)
        if not found:
            return None
        row, column = int(found[1]), int(found[2])
        files = self.server.question.files
        return files[row][column] if row < len(files) and column < len(files[row]) else None

    def _how_to_open(self) -> str:
        return (
            f"open this page as {self.server.url}; through ssh forward the same port, and set it "
            f"with --with port={self.server.server_port}"
        )

    def _refuse(self, why: str) -> None:
        self._say(400, why)

    def _say(self, status: int, what: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", what.encode(errors="replace"))

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _ALLOWED)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is for the command's own lines."""
