-- Who may do what. The rules are versions of the reserved event $rules, and what changes about a user is a version of
-- the reserved event $user/<id>. Such an event has a row in events, but counts neither as a name nor in bytes.
ALTER TABLE state ADD COLUMN rights INTEGER NOT NULL DEFAULT 0; -- the position of the newest record of such an event
ALTER TABLE events ADD COLUMN falsy INTEGER NOT NULL DEFAULT 0; -- whether the data of the latest is false
UPDATE events SET falsy = 1
WHERE position IN (SELECT p.position FROM publications p JOIN records r ON r.number = p.number WHERE r.data = 'false');

ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT '[]';  -- as a JSON array
ALTER TABLE users ADD COLUMN ended TEXT NOT NULL DEFAULT '[]';  -- the sessions that were logged out, as a JSON array
ALTER TABLE users ADD COLUMN code TEXT NOT NULL DEFAULT '';     -- the hash of a code to set a new password with
ALTER TABLE users ADD COLUMN code_until_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cancellations ADD COLUMN reason TEXT;               -- why the server has cancelled it; NULL: a user has
