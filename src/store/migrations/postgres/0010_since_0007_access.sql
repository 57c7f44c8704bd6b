-- The businesses whose records a user may see, by id and joined by ','; empty for all.
ALTER TABLE users ADD COLUMN businesses TEXT NOT NULL DEFAULT '';
-- A refresh token is kept after its use (kind 'spent'), so its reuse is noticed. All tokens that follow from one sign-in are a
-- family; empty in rows of earlier versions.
ALTER TABLE tokens ADD COLUMN family TEXT NOT NULL DEFAULT '';
-- The refresh token that this one was exchanged for.
ALTER TABLE tokens ADD COLUMN parent TEXT;
ALTER TABLE tokens ADD COLUMN spent_at TIMESTAMPTZ(3);
ALTER TABLE tokens ADD COLUMN repeated BOOLEAN NOT NULL DEFAULT FALSE;
