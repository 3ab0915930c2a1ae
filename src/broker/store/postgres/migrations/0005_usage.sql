-- What each user takes of the log's limits: how many names of events count for the user, how many bytes of the snapshot
-- are reserved for them, and how many records of the user are pending. The user '' stands for strangers and the operator.
CREATE TABLE broker.usage (
    username TEXT PRIMARY KEY COLLATE "C",
    names BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    pending BIGINT NOT NULL
);
-- The user for whom an event counts: whoever has inserted its latest version, or, while something is pending, whoever
-- has raised its reserved bytes last. '': nobody, a stranger or the operator.
ALTER TABLE broker.events ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE broker.events e SET owner = r.username FROM broker.publications p JOIN broker.records r ON r.number = p.number
WHERE p.position = e.position AND NOT e.removed AND e.event NOT LIKE '$%';
UPDATE broker.events e SET owner = w.username FROM (
    SELECT DISTINCT ON (r.event) r.event, r.username FROM broker.pending p
    JOIN broker.records r ON r.number = p.number ORDER BY r.event, r.number
) w WHERE w.event = e.event AND e.pending > 0 AND (e.position IS NULL OR e.removed) AND e.event NOT LIKE '$%';
INSERT INTO broker.usage SELECT username, sum(names), sum(bytes), sum(pending) FROM (
    SELECT owner AS username, count(*) AS names, sum(reserved) AS bytes, 0 AS pending FROM broker.events
    WHERE (NOT removed OR pending > 0) AND event NOT LIKE '$%' GROUP BY owner
    UNION ALL
    SELECT r.username, 0, 0, count(*) FROM broker.pending p JOIN broker.records r ON r.number = p.number
    WHERE r.event NOT LIKE '$%' GROUP BY r.username
) u GROUP BY username;
