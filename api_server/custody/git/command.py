"""The git command, on a short lead.

It gets an environment of our own and nothing of ours: no configuration of the system or the user, no prompt, no agent,
an empty home; it may speak to one URL in one protocol and follows no redirect; it has a time limit, and dies with
everything that it started when that is over.

The credential is given to git alone, in its environment, by a helper that is configured for that URL's host alone; it
is on no command line and in no file. What git writes is looked at, and never shown: a server chooses its text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from api_server.custody.destinations import Place
from api_server.custody.errors import StoreRefusedError, StoreUnavailableError
from common.secret import Secret

__all__ = ["GitCommand", "GitFailedError", "Remote"]

_MAX_OUTPUT = 256 * 1024 * 1024
"""Bytes; the documents of a large installation."""

_HELPER = (
    '!f() { test "$1" = get || return 0; '
    'printf \'username=%s\\npassword=%s\\n\' "$CUSTODY_GIT_USER" "$CUSTODY_GIT_TOKEN"; }; f'
)
"""A credential helper (gitcredentials(7)): a shell function that prints what is in the environment of git."""

_RACES = (
    "(fetch first)",
    "(non-fast-forward)",
    "(stale info)",
    "failed to update ref",
    "cannot lock ref",
    "incorrect old value",
    "reference already exists",
)
"""What git-push says of a branch that is not where it was."""

_REFUSALS = (
    "authentication failed",
    "could not read username",
    "could not read password",
    "invalid username",
    "error: 401",
    "error: 403",
    "error: 404",
    "repository not found",
    "not found",
    "pre-receive hook declined",
    "[remote rejected]",
    "permission denied",
    "unable to update url base from redirection",
    "error: 30",
)


@dataclass(frozen=True, slots=True)
class Remote:
    """The repository that git may speak to."""

    place: Place
    username: str
    token: Secret | None
    ca_file: Path | None = None


class GitFailedError(Exception):
    """Git ended with another exit code than 0, for a reason that is not the network's.

    Args:
        command: such as `cat-file`.
        code: that it ended with.
        said: what it wrote, in lower case, for decisions, never to be shown.
    """

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"git {command} ended with {code}")
        self.command = command
        self.code = code
        self.said = said

    @property
    def is_race(self) -> bool:
        """Whether a push came too late: somebody else has pushed meanwhile."""
        return self.command == "push" and any(each in self.said for each in _RACES)


class GitCommand:
    """Runs git on one repository of this machine.

    Args:
        folder: of the bare repository.
        home: an empty folder.
        remote: that it may speak to.
        timeout: seconds for each command.
    """

    def __init__(self, folder: Path, home: Path, remote: Remote, *, timeout: float) -> None:
        self._folder = folder
        self._remote = remote
        self._timeout = timeout
        place = remote.place
        options = {
            "core.hooksPath": os.devnull,
            "core.fsmonitor": "false",
            "core.symlinks": "false",
            "core.askPass": "",
            "credential.helper": "",  # forgets helpers that were configured before
            "gc.auto": "0",
            "maintenance.auto": "false",
            "protocol.version": "2",
            "transfer.fsckObjects": "true",
            "submodule.recurse": "false",
            "http.followRedirects": "false",
            "http.sslVerify": "true",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": str(max(1, int(timeout))),
        }
        if remote.ca_file is not None:
            options["http.sslCAInfo"] = str(remote.ca_file)
        if remote.token is not None:
            options[f"credential.{place.origin}.helper"] = _HELPER
        self._options = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_DIR": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": place.scheme,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_AUTHOR_NAME": "Homeport",
            "GIT_AUTHOR_EMAIL": "custody@homeport.invalid",
            "GIT_COMMITTER_NAME": "Homeport",
            "GIT_COMMITTER_EMAIL": "custody@homeport.invalid",
        }
        self._credential = (
            {}
            if remote.token is None
            else {"CUSTODY_GIT_USER": remote.username, "CUSTODY_GIT_TOKEN": remote.token.reveal()}
        )

    async def local(self, *arguments: str, data: bytes = b"") -> bytes:
        """What a command writes that stays on this machine. It has no credential.

        Raises:
            GitFailedError: it failed.
            StoreUnavailableError: it took too long, or git is not installed.
        """
        return await self._run(arguments, data, self._environment)

    async def remote(self, *arguments: str) -> bytes:
        """What a command writes that speaks to the server.

        Raises:
            GitFailedError: it failed, and the repository on this machine may be why.
            StoreRefusedError: the server says no.
            StoreUnavailableError: the server cannot be reached, or took too long.
        """
        try:
            return await self._run(arguments, b"", self._environment | self._credential)
        except GitFailedError as exc:
            said = exc.said
            origin = self._remote.place.origin
            if exc.is_race:
                raise
            if any(each in said for each in _REFUSALS):
                raise StoreRefusedError(f"the Git server at {origin} refuses `git {exc.command}`") from None
            if "unable to access" in said or "could not resolve" in said or "rpc failed" in said or "hung up" in said:
                raise StoreUnavailableError(f"the Git server at {origin} cannot be reached") from None
            raise

    async def _run(self, arguments: Sequence[str], data: bytes, environment: Mapping[str, str]) -> bytes:
        # From a file without a name: of a pipe, uvloop forgets the end when a command has ended before it was written.
        with tempfile.TemporaryFile(dir=self._environment["HOME"]) as given:
            given.write(data)
            given.seek(0)
            return await self._run_on(given, arguments, environment)

    async def _run_on(self, given: IO[bytes], arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
        command = arguments[0]
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *self._options,
                *arguments,
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(environment),
                cwd="/",
                start_new_session=True,  # a group of its own, which can be ended whole
            )
        except OSError as exc:
            raise StoreUnavailableError(f"git cannot be run: {exc.strerror}") from None
        try:
            async with asyncio.timeout(self._timeout):
                out, err = await process.communicate()
        except TimeoutError:
            raise StoreUnavailableError(f"`git {command}` took longer than {self._timeout:g} s") from None
        finally:
            # Time is up, or whoever asked has gone: none of its children stays.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if process.returncode:
            said = (out[:65536] + err[:65536]).decode("utf-8", "replace").lower()
            raise GitFailedError(command, process.returncode, said)
        if len(out) > _MAX_OUTPUT:
            raise StoreRefusedError(f"`git {command}` wrote more than {_MAX_OUTPUT} bytes")
        return out
