-- The log. Rows of records, publications and cancellations are only ever inserted: the state of a record is whether
-- it has a publication or a cancellation. pending, events and state are derived from them, in the same transactions.
-- The same tables as on SQLite, in a schema of their own. No foreign keys: each row would cost a lookup of its record
-- and a lock on it, and the one place that writes, transaction.py, writes both.

CREATE TABLE broker.records (
    number BIGINT PRIMARY KEY,
    uuid UUID NOT NULL UNIQUE,
    event TEXT COLLATE "C" NOT NULL,
    username TEXT NOT NULL,
    timestamp TEXT,                     -- the number as sent; NULL: none was
    due_us BIGINT NOT NULL,
    log_only BOOLEAN NOT NULL,
    inserted_us BIGINT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX records_of_event ON broker.records (event, number);

CREATE TABLE broker.publications (
    position BIGINT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    published_us BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL         -- of data, up to and with this position
);

CREATE TABLE broker.cancellations (
    number BIGINT PRIMARY KEY,
    username TEXT NOT NULL,
    cancelled_us BIGINT NOT NULL
);

-- What waits for its time.
CREATE TABLE broker.pending (
    due_us BIGINT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (due_us, number)
);

-- One row for each event that has a latest, or a pending record that may become it.
CREATE TABLE broker.events (
    event TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT,                    -- of the latest
    bytes BIGINT NOT NULL,              -- of the latest's data
    pending BIGINT NOT NULL,            -- how many wait
    reserved BIGINT NOT NULL            -- the most bytes that the latest may come to have while they wait
) WITH (fillfactor = 50);               -- updated at each publication: room for it on the same page

CREATE TABLE broker.state (
    one BOOLEAN PRIMARY KEY CHECK (one),
    last_number BIGINT NOT NULL,
    head BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,        -- of data, published so far
    event_names BIGINT NOT NULL,        -- rows of events
    reserved_bytes BIGINT NOT NULL,     -- sum of events.reserved
    token_secret TEXT NOT NULL,         -- signs the tokens of all nodes
    moved TEXT,                         -- where `broker move` has moved the log to: it is read-only
    arrived BOOLEAN NOT NULL DEFAULT false -- whether it is known to be there
) WITH (fillfactor = 10);
INSERT INTO broker.state
VALUES (true, 0, 0, 0, 0, 0, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));

CREATE TABLE broker.epochs (
    epoch TEXT PRIMARY KEY,
    ended BIGINT,                       -- the last position that is valid with it; NULL: the current epoch
    cluster TEXT                        -- the PostgreSQL and its timeline that it was begun on
);
CREATE UNIQUE INDEX current_epoch ON broker.epochs ((true)) WHERE ended IS NULL;
INSERT INTO broker.epochs VALUES (substr(md5(gen_random_uuid()::text), 1, 8), NULL, NULL);

CREATE TABLE broker.users (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    username_key TEXT COLLATE "C" NOT NULL UNIQUE,
    info TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    gen BIGINT NOT NULL,                -- raised when older tokens must not hold any more
    disabled BOOLEAN NOT NULL,
    created_us BIGINT NOT NULL
);
