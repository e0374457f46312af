"""Users, their tokens, and what was changed about both."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Identity, LargeBinary, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base

_KNOWN = "role IN ('look', 'correct', 'run', 'admin')"


class Account(Base):
    """A user. Rows are never deleted: what a removed user said keeps a name that nobody else gets."""

    __tablename__ = "account"
    __table_args__ = (CheckConstraint(_KNOWN, name="role"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    # Names before it was renamed: what was said under them stays as it is.
    former_names: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    role: Mapped[str]
    is_enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]


class AccessToken(Base):
    """A token of a user. Neither the token nor anything that signs in is stored, only SHA-256 hashes of them."""

    __tablename__ = "access_token"
    __table_args__ = (CheckConstraint(_KNOWN, name="role"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    # Of the cookie that the sign-in page sets for this token.
    session_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    # None: that of the user.
    role: Mapped[str | None]
    note: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    # The hour of its last use.
    used_at: Mapped[datetime | None]


class PageSession(Base):
    """That somebody signed in on the page and has not signed out. The cookie says with which token."""

    __tablename__ = "page_session"

    # SHA-256 of the cookie. Nothing that is stored can be used as one.
    hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The present name of who it is, or that of a token in the settings. None: an older version did not note it.
    name: Mapped[str | None]


class AccountEvent(Base):
    """Who changed what about users and tokens. Its ids are in the order of the commits: see ``storage.accounts``."""

    __tablename__ = "account_event"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    said_by: Mapped[str]
    what: Mapped[str]
    # The user's name at that time.
    name: Mapped[str]
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[str] = mapped_column(Text, server_default="")
