"""The queries that ``verify`` makes, in addition to its walks."""

from __future__ import annotations

# The latest record of every event, and whether it removes the event. Removals up to ``state.removals_floor`` are
# included. The latest is the newest published record that has changed the event's state. A removal has not changed it
# if there was none: if it is the event's first published record, or comes after another removal.
LATEST = """
    SELECT event, max(position) AS position, removal AS removed FROM (
        SELECT event, position, removal, lag(removal, 1, 1) OVER (PARTITION BY event ORDER BY position) AS no_state
        FROM (
            SELECT r.event, p.position, r.data IS :removal AS removal FROM publications p JOIN records r USING (number)
        )
    ) WHERE NOT (removal AND no_state) GROUP BY event
"""

# Each query finds rows that must never exist. It returns one row for each fault, which says where the fault is. The
# parameter ``:removal`` is the data that removes an event; see verify.find_faults.
FAULTS = (
    ("the column log_only of a record is neither 0 nor 1",
     "SELECT number FROM records WHERE log_only NOT IN (0, 1)"),
    ("a record is published and cancelled", "SELECT number FROM publications JOIN cancellations USING (number)"),
    ("a log-only record is published or cancelled",
     """SELECT number FROM records WHERE log_only AND (number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations))"""),
    ("a publication or a cancellation has no record",
     """SELECT number FROM (SELECT number FROM publications UNION ALL SELECT number FROM cancellations)
        WHERE number NOT IN (SELECT number FROM records)"""),
    ("a record was published before its time",
     "SELECT number FROM publications JOIN records USING (number) WHERE published_us < due_us"),
    ("a record was cancelled when it was due already",
     "SELECT number FROM cancellations JOIN records USING (number) WHERE cancelled_us >= due_us"),
    ("a record is pending that was published, cancelled or is log-only",
     """SELECT number FROM pending WHERE number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations) OR number IN (SELECT number FROM records WHERE log_only)"""),
    ("a pending record has another due time than the record says, or there is no such record",
     "SELECT p.number FROM pending p LEFT JOIN records r USING (number) WHERE p.due_us IS NOT r.due_us"),
    ("a record is neither published, cancelled, log-only nor pending",
     """SELECT number FROM records WHERE NOT log_only AND number NOT IN (SELECT number FROM publications)
        AND number NOT IN (SELECT number FROM cancellations) AND number NOT IN (SELECT number FROM pending)"""),
    # A removal up to the floor may be unknown. Then the event has a row only for what is pending.
    ("an event's latest is not the newest of its records that changed its state",
     f"""SELECT event FROM events e LEFT JOIN ({LATEST}) l USING (event), state WHERE e.position IS NOT l.position
        AND NOT (e.position IS NULL AND e.pending AND l.removed AND l.position <= removals_floor)"""),  # noqa: S608
    ("an event's latest has another length than it says",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.bytes != iif(r.data IS :removal, 0, coalesce(length(CAST(r.data AS BLOB)), 0))"""),
    ("an event's latest is a removal, and the event says that it is none, or the other way round",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.removed IS NOT (r.data IS :removal)"""),
    ("an event's latest ends at another time than it says",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN endings n USING (number)
        WHERE e.until_us IS NOT n.until_us"""),
    # Every transaction ends the versions whose time has come, and the newest records show when the last one was.
    ("an event's latest has no ending, and its end (until) came before the newest record was written",
     """SELECT event FROM events WHERE until_us <= max(
            (SELECT published_us FROM publications ORDER BY position DESC LIMIT 1),
            (SELECT inserted_us FROM records ORDER BY number DESC LIMIT 1)
        )"""),
    ("an event has another number of pending records than it says",
     """SELECT event FROM events LEFT JOIN
        (SELECT r.event, count(*) AS waiting FROM pending p JOIN records r USING (number) GROUP BY r.event)
        USING (event) WHERE pending != coalesce(waiting, 0)"""),
    ("an event has a latest or pending records, but no row in the table events",
     f"""SELECT event FROM ({LATEST}) l, state WHERE event NOT IN (SELECT event FROM events)
        AND NOT (removed AND position <= removals_floor)
        UNION SELECT event FROM pending JOIN records USING (number)
        WHERE event NOT IN (SELECT event FROM events)"""),  # noqa: S608
    ("an event has a row in the table events, but neither a latest nor a pending record",
     "SELECT event FROM events WHERE position IS NULL AND pending = 0"),
    # ``reserved`` is the latest record's size when nothing is pending. Otherwise it is the largest size seen since the
    # first pending record was inserted. That record may have been cancelled or superseded, so all that can be checked
    # is that *some* record of the event has this size. A removal needs no bytes, but older versions of Broker reserved
    # the length of its data.
    ("an event reserves another number of bytes than its records may need",
     """SELECT event FROM events e LEFT JOIN (
            SELECT r.event, max(iif(r.data IS :removal, 0, length(CAST(r.data AS BLOB)))) AS largest
            FROM pending p JOIN records r USING (number) GROUP BY r.event
        ) w USING (event)
        WHERE reserved < max(bytes, coalesce(largest, 0)) OR (pending = 0 AND reserved != bytes)
        OR (pending AND NOT EXISTS (
            SELECT 1 FROM records r WHERE r.event = e.event AND NOT r.log_only
            AND (length(CAST(r.data AS BLOB)) = e.reserved OR (r.data IS :removal AND e.reserved = 0))
        ))"""),
    ("a row of the table endings has no record",
     "SELECT number FROM endings WHERE number NOT IN (SELECT number FROM records)"),
    ("a row of the table endings has neither an end (until) nor a version that its record ends, or both",
     """SELECT number FROM endings
        WHERE (until IS NULL) != (until_us IS NULL) OR (until IS NULL) = (ends IS NULL)"""),
    ("a record has an end (until), although it is log-only or removes the event",
     """SELECT number FROM endings JOIN records USING (number)
        WHERE until_us IS NOT NULL AND (log_only OR data IS :removal)"""),
    ("an ending has other data than null, or was not published at the time when it was inserted",
     """SELECT number FROM endings JOIN records USING (number) LEFT JOIN publications USING (number)
        WHERE ends IS NOT NULL AND (data IS NOT :removal OR published_us IS NOT inserted_us)"""),
    ("an epoch is not 8 hexadecimal digits",
     """SELECT epoch FROM epochs WHERE epoch IS NULL OR length(CAST(epoch AS BLOB)) != 8
        OR length(epoch) != 8 OR epoch GLOB '*[^0-9a-f]*'"""),
    ("an epoch ended at what is no position",
     "SELECT epoch FROM epochs WHERE ended < 0 OR typeof(ended) NOT IN ('integer', 'null')"),
    ("there is not exactly one current epoch",
     "SELECT count(*) FROM epochs WHERE ended IS NULL HAVING count(*) != 1"),
    ("an epoch ended beyond the head", "SELECT epoch FROM epochs, state WHERE ended > head"),
    ("there is not exactly one row of counters", "SELECT count(*) FROM state HAVING count(*) != 1"),
    ("the floor of the removals that are known is not between 0 and the head",
     "SELECT removals_floor FROM state WHERE removals_floor NOT BETWEEN 0 AND head"),
    ("the counters of the log are wrong (last_number, head, total_bytes, event_names, reserved_bytes, removals)",
     """SELECT 'state' FROM state WHERE last_number != (SELECT coalesce(max(number), 0) FROM records)
        OR head != (SELECT coalesce(max(position), 0) FROM publications)
        OR total_bytes != coalesce((SELECT p.total_bytes FROM publications p ORDER BY position DESC LIMIT 1), 0)
        OR event_names != (SELECT count(*) FROM events WHERE NOT removed OR pending)
        OR reserved_bytes != (SELECT coalesce(sum(reserved), 0) FROM events)
        OR removals != (SELECT count(*) FROM events WHERE removed AND NOT pending)"""),
)  # fmt: skip
