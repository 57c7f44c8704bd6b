-- Which of the gateways of a business works; the others stand by. Times are the database's own.
CREATE TABLE leases (
    business_id BIGINT PRIMARY KEY,
    -- The gateway, for people.
    holder TEXT NOT NULL,
    -- The process, drawn at its start.
    instance TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
