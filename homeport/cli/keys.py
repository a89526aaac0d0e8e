"""`homeport keys`: for those who run the processes themselves instead of `homeport up`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from homeport.cli.output import emit, json_option
from homeport.settings import default_data_dir
from homeport.up.data_directory import DataDirectory

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """Make the keys that relay and API server need."""


@keys.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder for them; made with mode 0700.")
@json_option
def init(data_dir: Path | None) -> None:
    """Make what is missing of keys and tokens in a folder, and name the settings that point to it.

    What is there already stays as it is. The relay needs the internal key and the public session keys; the API server
    needs the internal key, the signing keys, the administration token, the cookie keys, the keys of the audit log,
    those of API tokens and the keyring.
    Nothing secret is shown.
    """
    directory = DataDirectory(data_dir or default_data_dir(os.environ))
    directory.make_keys()
    settings = {
        "HOMEPORT_INTERNAL_KEY_FILE": str(directory.internal_key),
        "HOMEPORT_SESSION_KEYS_FILE": str(directory.public_keys),
        "HOMEPORT_SESSION_SIGNING_KEY_FILE": str(directory.signing_keys),
        "HOMEPORT_ADMIN_TOKEN_FILE": str(directory.admin_token),
        "HOMEPORT_DATA_DIR": str(directory.path),
        "HOMEPORT_AUDIT_KEY_FILE": str(directory.audit_signing_keys),
        "HOMEPORT_COOKIE_KEYS_FILE": str(directory.cookie_keys),
        "HOMEPORT_API_TOKEN_KEYS_FILE": str(directory.api_token_keys),
        "HOMEPORT_KEYRING_FILE": str(directory.keyring),
    }

    def show() -> None:
        for name, path in settings.items():
            click.echo(f"{name}={path}")

    emit(settings, show)
