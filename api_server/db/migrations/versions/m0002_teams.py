"""Teams, members and invitations."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Time, text

revision = "0002"
down_revision = "0001"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "teams",
        Column("id", text(40), nullable=False),
        Column("name", text(200), nullable=False),
        Column("description", text(1000), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("created_by", text(64), nullable=True),
        Column("deleted_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "members",
        Column("team_id", text(40), nullable=False),
        Column("user_id", text(40), nullable=False),
        Column("role", text(16), nullable=False),
        Column("since", Time, nullable=False),
        Column("added_by", text(64), nullable=True),
        PrimaryKeyConstraint("team_id", "user_id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_members_team_id"),
        ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_members_user_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_members_user_id", "members", ["user_id"], if_not_exists=True)
    op.create_table(
        "invitations",
        Column("id", text(40), nullable=False),
        Column("token_hash", text(64), nullable=False),
        Column("email", text(320), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("expires_at", Time, nullable=False),
        Column("accepted_at", Time, nullable=True),
        Column("accepted_by", text(64), nullable=True),
        Column("revoked_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("token_hash", name="uq_invitations_token_hash"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"], if_not_exists=True)
    op.create_table(
        "invitation_teams",
        Column("invitation_id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("role", text(16), nullable=False),
        PrimaryKeyConstraint("invitation_id", "team_id"),
        ForeignKeyConstraint(
            ["invitation_id"], ["invitations.id"], name="fk_invitation_teams_invitation_id", ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_invitation_teams_team_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_invitation_teams_team_id", "invitation_teams", ["team_id"], if_not_exists=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("invitation_teams", if_exists=True)
    op.drop_table("invitations", if_exists=True)
    op.drop_table("members", if_exists=True)
    op.drop_table("teams", if_exists=True)
