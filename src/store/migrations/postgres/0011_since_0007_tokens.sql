-- Tokens that live for months. Only the SHA-256 of a token is kept.
CREATE TABLE long_lived_tokens (
    hash TEXT PRIMARY KEY,
    user_name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- Of the user's roles, joined by ','; empty for all of the user's rights.
    roles TEXT NOT NULL,
    -- Of the user's businesses, by id and joined by ','; empty for all.
    businesses TEXT NOT NULL,
    -- The number of the source that it may claim; 0 for none.
    source BIGINT NOT NULL,
    created_on TIMESTAMPTZ(3) NOT NULL,
    expires_at TIMESTAMPTZ(3) NOT NULL,
    -- Up to an hour late.
    last_used_on TIMESTAMPTZ(3),
    UNIQUE (user_name, name)
);
