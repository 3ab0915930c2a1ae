-- Versions that end. A row for each record that has an end (until), and for each record that is such an end (ends).
CREATE TABLE broker.endings (
    number BIGINT PRIMARY KEY,
    until TEXT,                         -- as sent
    until_us BIGINT,
    ends UUID                           -- the uuid of the version that this record ends
);

-- An event is removed if the data of its latest is null. Its row is kept for a while, so that clients which were away
-- are told of the removal; it counts as a name only as long as something is pending.
ALTER TABLE broker.events ADD COLUMN removed BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE broker.events ADD COLUMN until_us BIGINT;   -- when the latest ends; NULL: it does not end by itself
CREATE INDEX removals ON broker.events (position) WHERE removed;
CREATE INDEX events_that_end ON broker.events (until_us) WHERE until_us IS NOT NULL;

ALTER TABLE broker.state ADD COLUMN removals BIGINT NOT NULL DEFAULT 0;       -- rows of events that are not names
ALTER TABLE broker.state ADD COLUMN removals_floor BIGINT NOT NULL DEFAULT 0; -- removals up to here may be unknown

-- What was null so far has no state from now on.
UPDATE broker.events SET removed = true, bytes = 0, reserved = CASE WHEN pending > 0 THEN reserved ELSE 0 END
WHERE position IN (
    SELECT p.position FROM broker.events e
    JOIN broker.publications p ON p.position = e.position JOIN broker.records r ON r.number = p.number
    WHERE r.data = 'null'
);
-- Such an event was removed by its first null after other data. A null without state, at the beginning or after another
-- null, has changed nothing: an event that only had nulls keeps its row only for what is pending.
UPDATE broker.events e SET position = l.position, removed = l.position IS NOT NULL FROM (
    SELECT event, max(position) FILTER (WHERE NOT (removal AND no_state)) AS position FROM (
        SELECT r.event, p.position, r.data = 'null' AS removal,
               lag(r.data = 'null', 1, true) OVER (PARTITION BY r.event ORDER BY p.position) AS no_state
        FROM broker.records r JOIN broker.publications p ON p.number = r.number
        WHERE r.event IN (SELECT event FROM broker.events WHERE removed)
    ) all_of_them GROUP BY event
) l WHERE l.event = e.event;
DELETE FROM broker.events WHERE position IS NULL AND pending = 0;
UPDATE broker.state SET event_names = (SELECT count(*) FROM broker.events WHERE NOT removed OR pending > 0),
                        removals = (SELECT count(*) FROM broker.events WHERE removed AND pending = 0),
                        reserved_bytes = (SELECT coalesce(sum(reserved), 0) FROM broker.events);
