"""The port for tokens."""

from datetime import datetime

from sqlalchemy import delete, or_, update
from sqlmodel import col, select

from preprov.model.access import Scope, Token
from preprov.store.codec import dump_json, load_json
from preprov.store.engine import Database
from preprov.store.rows import TokenRow


class SqlTokenStore:
    """Implements `contracts.TokenStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, token: Token) -> None:
        """Keep a new one."""
        with self._db.write() as session:
            session.add(
                TokenRow(
                    token_id=token.token_id,
                    digest=token.digest,
                    tenant=token.tenant,
                    scopes=dump_json(sorted(token.scopes)),
                    pools=dump_json(list(token.pools)),
                    node_id=token.node_id,
                    note=token.note,
                    created_at=token.created_at,
                    expires_at=token.expires_at,
                    revoked_at=token.revoked_at,
                    used_at=token.used_at,
                )
            )

    def get(self, token_id: str) -> Token | None:
        """One by its id."""
        with self._db.read() as session:
            row = session.get(TokenRow, token_id)
        return None if row is None else _token(row)

    def tokens(self, tenant: str | None = None) -> tuple[Token, ...]:
        """By time of making."""
        wanted = select(TokenRow).order_by(col(TokenRow.created_at), col(TokenRow.token_id))
        if tenant is not None:
            wanted = wanted.where(col(TokenRow.tenant) == tenant)
        with self._db.read() as session:
            return tuple(_token(r) for r in session.exec(wanted).all())

    def revoke(self, token_id: str, at: datetime) -> Token | None:
        """Good for nothing from then on."""
        with self._db.write() as session:
            row = session.get(TokenRow, token_id)
            if row is None:
                return None
            row.revoked_at = row.revoked_at or at
            session.add(row)
            return _token(row)

    def forget(self, scope: Scope, before: datetime) -> int:
        """Drop tokens of that scope alone that were of no more use by then."""
        table = TokenRow.__table__  # type: ignore[attr-defined]
        over = or_(table.c.expires_at <= before, table.c.revoked_at <= before, table.c.used_at <= before)
        with self._db.read() as session:
            found = session.execute(
                select(table.c.token_id).where(table.c.scopes == dump_json([scope]), over)
            ).scalars()
            gone = list(found)
        if gone:
            with self._db.write() as session:
                session.connection().execute(delete(table).where(table.c.token_id.in_(gone)))
        return len(gone)

    def use_up(self, token_id: str, at: datetime) -> bool:
        """True for exactly one caller."""
        table = TokenRow.__table__  # type: ignore[attr-defined]
        unused = update(table).where(table.c.token_id == token_id, table.c.used_at.is_(None)).values(used_at=at)
        with self._db.write() as session:
            return int(session.connection().execute(unused).rowcount) == 1


def _token(row: TokenRow) -> Token:
    return Token(
        token_id=row.token_id,
        digest=row.digest,
        tenant=row.tenant,
        scopes=frozenset(Scope(s) for s in load_json(row.scopes)),
        pools=tuple(load_json(row.pools)),
        node_id=row.node_id,
        note=row.note,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
    )
