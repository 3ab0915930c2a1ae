-- What each user takes of the log's limits: how many events have a latest version of the user, and how many records of
-- the user are pending, together; how many bytes both have; and how many records are pending. The user '' stands for
-- strangers and the operator.
CREATE TABLE broker.usage (
    username TEXT PRIMARY KEY COLLATE "C",
    names BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    pending BIGINT NOT NULL
);
-- Who has inserted the latest version, if the event has state.
ALTER TABLE broker.events ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE broker.events e SET owner = r.username FROM broker.publications p JOIN broker.records r ON r.number = p.number
WHERE p.position = e.position AND NOT e.removed AND e.event NOT LIKE '$%';
-- The event of each pending record, and the bytes that are reserved for it, so that those of the largest are known.
ALTER TABLE broker.pending ADD COLUMN event TEXT NOT NULL DEFAULT '' COLLATE "C";
ALTER TABLE broker.pending ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
UPDATE broker.pending p SET event = r.event, size = CASE WHEN r.data = 'null' THEN 0 ELSE octet_length(r.data) END
FROM broker.records r WHERE r.number = p.number;
CREATE INDEX pending_of_event ON broker.pending (event, size);
-- Some events reserve more than that, for what is not pending any more.
UPDATE broker.events e
SET reserved = greatest(bytes, (SELECT max(size) FROM broker.pending p WHERE p.event = e.event))
WHERE pending > 0 AND event NOT LIKE '$%';
UPDATE broker.state SET reserved_bytes = (SELECT coalesce(sum(reserved), 0) FROM broker.events);
INSERT INTO broker.usage SELECT username, sum(names), sum(bytes), sum(pending) FROM (
    SELECT owner AS username, 1 AS names, bytes, 0 AS pending FROM broker.events
    WHERE position IS NOT NULL AND NOT removed AND event NOT LIKE '$%'
    UNION ALL
    SELECT r.username, 1, p.size, 1 FROM broker.pending p JOIN broker.records r ON r.number = p.number
    WHERE r.event NOT LIKE '$%'
) u GROUP BY username;
