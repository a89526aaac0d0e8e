"""nginx as a device's service, or as a backend over TLS: files to download, a folder to upload to.

GET  /files/{name}     files of the folder `files`, with ranges
PUT  /upload/{name}    kept in the folder `upload`
GET  /empty            204
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.certificates import Certificate
from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["Nginx", "nginx"]

_BACKLOG = 4096

_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    types {{ text/html html; text/plain txt; }}
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    server {{
        listen {listen}{tls} backlog={backlog}{certificate};
        location /files/ {{ root {folder}; }}
        location /upload/ {{ root {folder}; dav_methods PUT; }}
        location = /empty {{ return 204; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx."""

    process: Process
    folder: Path
    address: str
    """HOST:PORT."""
    encrypted: bool = False

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"{'https' if self.encrypted else 'http'}://{self.address}"

    @property
    def files(self) -> Path:
        """What it serves at `/files/`."""
        return self.folder / "files"

    @property
    def upload(self) -> Path:
        """Where it keeps what was put to `/upload/`."""
        return self.folder / "upload"


@contextmanager
def nginx(folder: Path, *, tls: Certificate | None = None) -> Iterator[Nginx]:
    """nginx on a free port with one worker; its files are in `folder`.

    Args:
        folder: of its files.
        tls: its certificate; None for plain HTTP.
    """
    command = tool("nginx")
    for name in ("files", "upload", "temporary"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # nginx cannot say which port it took, so it inherits the open socket, as it does when it replaces its own binary.
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        configuration = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""  # else its worker is one who cannot enter our folder
        lines = "" if tls is None else f"; ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key}"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                listen=address,
                user=user,
                tls="" if tls is None else " ssl",
                certificate=lines,
                backlog=_BACKLOG,
            )
        )
        process = Process(
            "nginx",
            [command, "-p", folder, "-c", configuration, "-e", "stderr"],
            folder=folder,
            environment={"NGINX": f"{listener.fileno()};"},
            descriptors=[listener.fileno()],
        )
    with process:
        yield Nginx(process, folder, address, tls is not None)
