-- Who may do what. The rules are versions of the reserved event $rules, and what changes about a user is a version of
-- the reserved event $user/<id>. Such an event has a row in events, but counts neither as a name nor in bytes.
ALTER TABLE broker.state ADD COLUMN rights BIGINT NOT NULL DEFAULT 0; -- the position of the newest record of such an event
ALTER TABLE broker.events ADD COLUMN falsy BOOLEAN NOT NULL DEFAULT false; -- whether the data of the latest is false
UPDATE broker.events e SET falsy = true FROM broker.publications p JOIN broker.records r ON r.number = p.number
WHERE p.position = e.position AND r.data = 'false';

ALTER TABLE broker.users ADD COLUMN roles TEXT NOT NULL DEFAULT '[]'; -- as a JSON array
ALTER TABLE broker.users ADD COLUMN ended TEXT NOT NULL DEFAULT '[]'; -- the sessions that were logged out, as a JSON array
ALTER TABLE broker.users ADD COLUMN code TEXT NOT NULL DEFAULT ''; -- the hash of a code to set a new password with
ALTER TABLE broker.users ADD COLUMN code_until_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE broker.cancellations ADD COLUMN reason TEXT; -- why the server has cancelled it; NULL: a user has

-- A node of an older version, which knows nothing of rights, may still run. Each of its transactions and each of its
-- reads of records asks for the column "epoch", and fails from now on.
ALTER TABLE broker.epochs RENAME COLUMN epoch TO name;
