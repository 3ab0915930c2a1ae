-- Versions that end. A row for each record that has an end (until), and for each record that is such an end (ends).
CREATE TABLE endings (
    number INTEGER PRIMARY KEY REFERENCES records,
    until TEXT,                         -- as sent
    until_us INTEGER,
    ends BLOB                           -- the uuid of the version that this record ends
);

-- An event is removed if the data of its latest is null. Its row is kept for a while, so that clients which were away
-- are told of the removal; it counts as a name only as long as something is pending.
ALTER TABLE events ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN until_us INTEGER;         -- when the latest ends; NULL: it does not end by itself
CREATE INDEX removals ON events (position) WHERE removed;
CREATE INDEX events_that_end ON events (until_us) WHERE until_us IS NOT NULL;

ALTER TABLE state ADD COLUMN removals INTEGER NOT NULL DEFAULT 0;       -- rows of events that do not count as names
ALTER TABLE state ADD COLUMN removals_floor INTEGER NOT NULL DEFAULT 0; -- removals up to this position may be unknown

-- What was null so far has no state from now on.
UPDATE events SET removed = 1, bytes = 0, reserved = CASE WHEN pending THEN reserved ELSE 0 END
WHERE position IN (SELECT p.position FROM publications p JOIN records r ON r.number = p.number WHERE r.data = 'null');
-- Such an event was removed by its first null after other data. A null without state, at the beginning or after another
-- null, has changed nothing: an event that only had nulls keeps its row only for what is pending.
UPDATE events SET position = l.position, removed = l.position IS NOT NULL FROM (
    SELECT event, max(position) FILTER (WHERE NOT (removal AND no_state)) AS position FROM (
        SELECT event, position, removal, lag(removal, 1, 1) OVER (PARTITION BY event ORDER BY position) AS no_state
        FROM (
            SELECT r.event, p.position, r.data = 'null' AS removal FROM records r JOIN publications p USING (number)
            WHERE r.event IN (SELECT event FROM events WHERE removed)
        )
    ) GROUP BY event
) l WHERE l.event = events.event;
DELETE FROM events WHERE position IS NULL AND NOT pending;
UPDATE state SET event_names = (SELECT count(*) FROM events WHERE NOT removed OR pending),
                 removals = (SELECT count(*) FROM events WHERE removed AND NOT pending),
                 reserved_bytes = (SELECT coalesce(sum(reserved), 0) FROM events);
