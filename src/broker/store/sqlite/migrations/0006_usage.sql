-- What each user takes of the log's limits: how many names of events count for the user, how many bytes of the snapshot
-- are reserved for them, and how many records of the user are pending. The user '' stands for strangers and the operator.
CREATE TABLE usage (
    user TEXT PRIMARY KEY,
    names INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    pending INTEGER NOT NULL
) WITHOUT ROWID;
-- The user for whom an event counts: whoever has inserted its latest version, or, while something is pending, whoever
-- has raised its reserved bytes last. '': nobody, a stranger or the operator.
ALTER TABLE events ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE events SET owner = r.user FROM publications p JOIN records r USING (number)
WHERE p.position = events.position AND NOT removed AND events.event NOT GLOB '$*';
UPDATE events SET owner = w.user FROM (
    SELECT event, user, min(number) FROM pending JOIN records USING (number) GROUP BY event
) w WHERE w.event = events.event AND pending AND (position IS NULL OR removed) AND events.event NOT GLOB '$*';
INSERT INTO usage SELECT user, sum(names), sum(bytes), sum(pending) FROM (
    SELECT owner AS user, count(*) AS names, sum(reserved) AS bytes, 0 AS pending FROM events
    WHERE (NOT removed OR pending) AND event NOT GLOB '$*' GROUP BY owner
    UNION ALL
    SELECT user, 0, 0, count(*) FROM pending JOIN records USING (number) WHERE event NOT GLOB '$*' GROUP BY user
) GROUP BY user;
