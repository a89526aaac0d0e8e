"""What the person at the terminal is told once everything answers."""

from __future__ import annotations

import shlex
from pathlib import Path

from homeport.run_file import Run

__all__ = ["banner", "curl_line"]


def curl_line(run: Run, admin_token: Path) -> str:
    """One line for a shell that goes through the tunnel, whichever folder it is typed in."""
    url = f"{run.gateway}/d/{run.team}/{run.demo_device}/{run.demo_service}/headers"
    return f'curl -H "Authorization: Bearer $(cat {shlex.quote(str(admin_token))})" {url}'


def banner(run: Run, data_dir: Path, admin_token: Path) -> str:
    """Several lines for standard output."""
    folder = shlex.quote(str(data_dir))
    lines = ["", "Homeport is up.", ""]
    if run.demo_device is not None:
        lines += [
            f"  Open      {run.gateway}/d/{run.team}/{run.demo_device}/{run.demo_service}/",
            f"            (any user name; the password is in {admin_token})",
            "",
            "  Or type   this; it goes through the tunnel to the demo device and back:",
            "",
            curl_line(run, admin_token),
            "",
        ]
    if run.issuer is not None:
        lines += [f"  Sign in   {run.api}/api/auth/login?return_to=/api/auth/me", ""]
    lines += [
        f"  API       {run.api}/docs",
        f"  Devices   dial {run.tunnel}; to connect one of yours:",
        "",
        f"homeport pairing-tokens create --name my-device --data-dir {folder} --output pairing-token",
        f"homeport agent pair --api {run.api} --token-file pairing-token --data-dir .my-device",
        "homeport agent --data-dir .my-device --service web=http://127.0.0.1:8000",
        "",
        f"  Sessions  homeport sessions list --data-dir {folder}",
        "  Stop      Ctrl-C",
        "",
    ]
    return "\n".join(lines)
