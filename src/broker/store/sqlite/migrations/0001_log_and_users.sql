-- The log. Rows of records, publications and cancellations are only ever inserted: the state of a record is whether
-- it has a publication or a cancellation. pending, events and state are derived from them, in the same transactions.

CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    event TEXT NOT NULL,
    user TEXT NOT NULL,
    timestamp TEXT,                     -- the number as sent; NULL: none was
    due_us INTEGER NOT NULL,
    log_only INTEGER NOT NULL,
    inserted_us INTEGER NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX records_of_event ON records (event, number);

CREATE TABLE publications (
    position INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE REFERENCES records,
    published_us INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL        -- of data, up to and with this position
);

CREATE TABLE cancellations (
    number INTEGER PRIMARY KEY REFERENCES records,
    user TEXT NOT NULL,
    cancelled_us INTEGER NOT NULL
);

-- What waits for its time.
CREATE TABLE pending (
    due_us INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (due_us, number)
) WITHOUT ROWID;

-- One row for each event that has a latest, or a pending record that may become it.
CREATE TABLE events (
    event TEXT PRIMARY KEY,
    position INTEGER,                   -- of the latest
    bytes INTEGER NOT NULL,             -- of the latest's data
    pending INTEGER NOT NULL,           -- how many wait
    reserved INTEGER NOT NULL           -- the most bytes that the latest may come to have while they wait
) WITHOUT ROWID;

CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_number INTEGER NOT NULL,
    head INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,       -- of data, published so far
    event_names INTEGER NOT NULL,       -- rows of events
    reserved_bytes INTEGER NOT NULL     -- sum of events.reserved
);
INSERT INTO state VALUES (1, 0, 0, 0, 0, 0);

CREATE TABLE epochs (
    epoch TEXT PRIMARY KEY,
    ended INTEGER                       -- the last position that is valid with it; NULL: the current epoch
);
INSERT INTO epochs VALUES (lower(hex(randomblob(4))), NULL);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    info TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    gen INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    created_us INTEGER NOT NULL
);
