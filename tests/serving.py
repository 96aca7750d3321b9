"""A local HTTP server for the tests: it knows ranges, and breaks down on request."""

import contextlib
import email.utils
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served and how badly; `requests` records (path, Range header, bytes sent)."""

    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    errors: list[int] = field(default_factory=list)  # statuses of the next answers
    ranges: bool = True
    length: bool = True
    version: str = '"1"'
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)
    url: str = ""


def _handler(site):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            data = site.files.get(self.path)
            status = site.errors.pop(0) if site.errors else 200 if data is not None else 404
            if status != 200 or data is None:
                site.requests.append((self.path, asked, 0))
                self.send_error(status)
                return
            start = self._start(asked)
            if start >= len(data) > 0:
                self._answer(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                site.requests.append((self.path, asked, 0))
                return
            headers = {"ETag": site.version, "Last-Modified": email.utils.formatdate(0, usegmt=True)}
            if site.length:
                headers["Content-Length"] = str(len(data) - start)
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._answer(206 if start else 200, headers)
            body = data[start:]
            body = body[: site.cuts.pop(0)] if site.cuts else body
            site.requests.append((self.path, asked, len(body)))
            self.wfile.write(body)

        def _start(self, asked):
            stale = self.headers.get("If-Range", site.version) != site.version
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            return int(match[1]) if match and site.ranges and not stale else 0

        def _answer(self, status, headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


@contextlib.contextmanager
def serving(files, **options):
    """Serve {"/path": bytes} on 127.0.0.1; yields the Site, its `url` set."""
    site = Site(files, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
