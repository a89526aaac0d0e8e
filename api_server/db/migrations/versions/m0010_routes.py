"""Routes, the secrets that they show, and the labels of devices."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Json, Sealed, Time, text

revision = "0010"
down_revision = "0009"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "device_labels",
        Column("device_id", text(40), nullable=False),
        Column("label", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        PrimaryKeyConstraint("device_id", "label"),
        ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_device_labels_device_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_device_labels_team_id_label", "device_labels", ["team_id", "label"], if_not_exists=True)
    op.create_table(
        "upstream_secrets",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("name", text(40), nullable=False),
        Column("destination", text(300), nullable=False),
        Column("value", Sealed, nullable=False),
        Column("version", Integer, nullable=False),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("updated_at", Time, nullable=False),
        PrimaryKeyConstraint("id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_upstream_secrets_team_id"),
        UniqueConstraint("team_id", "name", name="uq_upstream_secrets_team_id_name"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "routes",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("name", text(40), nullable=False),
        Column("path", text(250), nullable=False),
        Column("target", Json, nullable=False),
        Column("device_id", text(40), nullable=True),
        Column("label", text(40), nullable=True),
        Column("destination", text(300), nullable=False),
        Column("tags", Json, nullable=False),
        Column("auth", Json, nullable=False),
        Column("secret_id", text(40), nullable=True),
        Column("strip_prefix", Boolean, nullable=False),
        Column("health", Json, nullable=True),
        Column("cors", Json, nullable=True),
        Column("inspect", Boolean, nullable=False),
        Column("version", Integer, nullable=False),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("updated_at", Time, nullable=False),
        PrimaryKeyConstraint("id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_routes_team_id"),
        ForeignKeyConstraint(["secret_id"], ["upstream_secrets.id"], name="fk_routes_secret_id"),
        UniqueConstraint("team_id", "name", name="uq_routes_team_id_name"),
        UniqueConstraint("path", name="uq_routes_path"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_routes_team_id_label", "routes", ["team_id", "label"], if_not_exists=True)
    op.create_index("ix_routes_secret_id", "routes", ["secret_id"], if_not_exists=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("routes", if_exists=True)
    op.drop_table("upstream_secrets", if_exists=True)
    op.drop_table("device_labels", if_exists=True)
