-- What each user takes of the log's limits: how many events have a latest version of the user, and how many records of
-- the user are pending, together; how many bytes both have; and how many records are pending. The user '' stands for
-- strangers and the operator.
CREATE TABLE usage (
    user TEXT PRIMARY KEY,
    names INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    pending INTEGER NOT NULL
) WITHOUT ROWID;
-- Who has inserted the latest version, if the event has state.
ALTER TABLE events ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE events SET owner = r.user FROM publications p JOIN records r USING (number)
WHERE p.position = events.position AND NOT removed AND events.event NOT GLOB '$*';
-- The event of each pending record, and the bytes that are reserved for it, so that those of the largest are known.
ALTER TABLE pending ADD COLUMN event TEXT NOT NULL DEFAULT '';
ALTER TABLE pending ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE pending SET event = r.event, size = iif(r.data = 'null', 0, length(CAST(r.data AS BLOB)))
FROM records r WHERE r.number = pending.number;
CREATE INDEX pending_of_event ON pending (event, size);
-- Some events reserve more than that, for what is not pending any more.
UPDATE events SET reserved = max(bytes, (SELECT max(size) FROM pending p WHERE p.event = events.event))
WHERE pending AND event NOT GLOB '$*';
UPDATE state SET reserved_bytes = (SELECT coalesce(sum(reserved), 0) FROM events);
INSERT INTO usage SELECT user, sum(names), sum(bytes), sum(pending) FROM (
    SELECT owner AS user, 1 AS names, bytes, 0 AS pending FROM events
    WHERE position IS NOT NULL AND NOT removed AND event NOT GLOB '$*'
    UNION ALL
    SELECT r.user, 1, size, 1 FROM pending JOIN records r USING (number) WHERE pending.event NOT GLOB '$*'
) GROUP BY user;
