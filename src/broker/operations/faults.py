"""The queries that ``verify`` makes, in addition to what it reads row by row."""

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

# How many records of each event are pending, and the size of the largest of them.
WAITING = """
    SELECT r.event, count(*) AS waiting, max(iif(data IS :removal, 0, length(CAST(data AS BLOB)))) AS largest
    FROM pending p JOIN records r ON r.number = p.number GROUP BY r.event
"""

# Broker's own events, which count neither as names nor in bytes.
_OWN = "event GLOB '$*'"
# What each user takes of the limits: the latest versions of the user, and what is pending. In older schemas ``owner``
# is NULL, and nothing is counted.
USAGE = f"""
    SELECT user, sum(names) AS names, sum(bytes) AS bytes, sum(pending) AS pending FROM (
        SELECT owner AS user, 1 AS names, bytes, 0 AS pending FROM events
        WHERE position IS NOT NULL AND NOT removed AND NOT {_OWN}
        UNION ALL
        SELECT r.user, 1, iif(data IS :removal, 0, length(CAST(data AS BLOB))), 1
        FROM pending p JOIN records r ON r.number = p.number JOIN events e ON e.event = r.event
        WHERE owner IS NOT NULL AND NOT r.{_OWN}
    ) GROUP BY user
"""  # noqa: S608 (constants only)
# Who has inserted the latest version of an event.
OWNER = f"""iif(position IS NULL OR removed OR {_OWN}, '', (
    SELECT user FROM publications p JOIN records USING (number) WHERE p.position = events.position))"""  # noqa: S608 (constants only)

_COUNTED = "last_number, head, total_bytes, event_names, reserved_bytes, removals, rights"
# The counters that follow from the rows of the other tables.
COUNT = f"""
    SELECT (SELECT coalesce(max(number), 0) FROM records), (SELECT coalesce(max(position), 0) FROM publications),
           coalesce((SELECT total_bytes FROM publications ORDER BY position DESC LIMIT 1), 0),
           (SELECT count(*) FROM events WHERE (NOT removed OR pending) AND NOT {_OWN}),
           (SELECT coalesce(sum(reserved), 0) FROM events), (SELECT count(*) FROM events WHERE removed AND NOT pending),
           (SELECT coalesce(max(position), 0) FROM publications JOIN records USING (number) WHERE {_OWN})
"""  # noqa: S608 (constants only)

# These queries compare each row with those before it. They return one row for each fault, which says what is wrong, and
# where.
ORDER = (
    """SELECT 'records are missing before number', number FROM (
           SELECT number, lag(number, 1, 0) OVER (ORDER BY number) AS before FROM records
       ) WHERE number != before + 1""",
    """SELECT 'positions are missing before', position FROM (
           SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before FROM publications
       ) WHERE position != before + 1""",
    """SELECT 'the sum of bytes is wrong at position', position FROM (
           SELECT position, total_bytes, coalesce(length(CAST(data AS BLOB)), 0) AS bytes,
                  lag(total_bytes, 1, 0) OVER (ORDER BY position) AS before
           FROM publications LEFT JOIN records USING (number)
       ) WHERE total_bytes IS NOT before + bytes""",
    # The published records of those events of which some version has an end. ``before`` is the number of the record of
    # the same event that was published just before this one, and ``ending`` is the number of the newest ending before
    # it. (Of the endings of one event, a newer one has a higher number and a later time.)
    #
    # Endings come before the records that are inserted in the same transaction. A record that was pending comes before
    # an ending of the same time. An ending gets its number when it is published. So a record with a lower number was
    # pending at that time.
    """WITH versions AS (
           SELECT r.number, r.user, r.due_us, r.inserted_us, e.ends,
                  lag(r.number) OVER earlier AS before, lag(r.uuid) OVER earlier AS before_uuid,
                  lag(r.user) OVER earlier AS before_user, lag(e.until_us) OVER earlier AS before_until_us,
                  max(iif(e.ends IS NULL, NULL, r.number)) OVER earlier AS ending,
                  max(iif(e.ends IS NULL, NULL, r.due_us)) OVER earlier AS ending_due_us
           FROM records r JOIN publications p USING (number) LEFT JOIN endings e USING (number)
           WHERE r.event IN (SELECT event FROM records JOIN endings USING (number))
           WINDOW earlier AS (PARTITION BY r.event ORDER BY p.position)
       )
       SELECT 'an ending was not published just after the version that it ends', number FROM versions
       WHERE ends IS NOT NULL AND ends IS NOT before_uuid
       UNION ALL SELECT 'an ending has another user, or another time, than its version says', number FROM versions
       WHERE ends = before_uuid AND (user, due_us) IS NOT (before_user, before_until_us)
       UNION ALL SELECT 'a version has no ending, and its end (until) came before the next', before FROM versions
       WHERE ends IS NULL AND iif(due_us > inserted_us, before_until_us < due_us, before_until_us <= inserted_us)
       UNION ALL SELECT 'a record was published after an ending, and was due before it', number FROM versions
       WHERE ends IS NULL AND number < ending AND due_us <= ending_due_us
       UNION ALL SELECT 'record ' || number || ' cannot be compared', 'a time is text, and no number' FROM versions
       WHERE 'text' IN (typeof(due_us), typeof(inserted_us), typeof(before_until_us))""",
)

# Each query finds rows that must never exist. It returns one row for each fault, which says where the fault is. The
# parameter ``:removal`` is the data that removes an event; see verify.find_faults.
FAULTS = (
    ("the column log_only of a record is neither 0 nor 1",
     "SELECT number FROM records WHERE log_only NOT IN (0, 1)"),
    ("a record is published and cancelled", "SELECT number FROM publications JOIN cancellations USING (number)"),
    ("a log-only record is published or cancelled",
     """SELECT number FROM records WHERE log_only AND (number IN (SELECT number FROM publications)
        OR number IN (SELECT number FROM cancellations))"""),
    ("a record was published before its time",
     "SELECT number FROM publications JOIN records USING (number) WHERE published_us < due_us"),
    ("a record was cancelled when it was due already",
     "SELECT number FROM cancellations JOIN records USING (number) WHERE cancelled_us >= due_us AND reason IS NULL"),
    ("a record was refused by the server before it was due",
     "SELECT number FROM cancellations JOIN records USING (number) WHERE cancelled_us < due_us AND reason IS NOT NULL"),
    ("a record was cancelled by a user, and has a reason, which only the server gives",
     "SELECT number FROM cancellations WHERE user != '' AND reason IS NOT NULL"),
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
     f"""SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.bytes != iif(r.data IS :removal OR e.{_OWN}, 0, coalesce(length(CAST(r.data AS BLOB)), 0))"""),  # noqa: S608
    ("an event's latest is false, and the event says that it is not, or the other way round",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.falsy IS NOT (r.data IS 'false')"""),
    ("a user is in another state than the newest record of $user says",
     """SELECT id FROM users LEFT JOIN (
            SELECT substr(event, 7) AS id, data FROM events JOIN publications USING (position)
            JOIN records USING (number, event) WHERE event GLOB '$user/*'
        ) USING (id)
        WHERE iif(
            json_valid(roles) AND json_valid(ended) AND (data IS NULL OR json_valid(data)),
            (gen, disabled, json(roles), json(ended)) IS NOT (
                coalesce(data ->> '$.gen', 0), coalesce(data ->> '$.disabled', 0),
                coalesce(json(data -> '$.roles'), '[]'), coalesce(json(data -> '$.ended'), '[]')),
            1)"""),
    ("a record of $user is about nobody",
     "SELECT event FROM events WHERE event GLOB '$user/*' AND substr(event, 7) NOT IN (SELECT id FROM users)"),
    ("an event's latest is a removal, and the event says that it is none, or the other way round",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN records r USING (number)
        WHERE e.removed IS NOT (r.data IS :removal)"""),
    ("an event's latest ends at another time than it says",
     """SELECT e.event FROM events e LEFT JOIN publications p USING (position) LEFT JOIN endings n USING (number)
        WHERE e.until_us IS NOT n.until_us"""),
    # Every transaction ends the versions whose time has come, and the newest records show when the last one was. Those
    # of Broker's own events do not: they are what the operator changes before a restored log is confirmed, and until
    # then nothing ends.
    ("an event's latest has no ending, and its end (until) came before the newest record was written",
     f"""SELECT event FROM events WHERE until_us <= max(
            (SELECT published_us FROM publications JOIN records USING (number) WHERE NOT {_OWN}
             ORDER BY position DESC LIMIT 1),
            (SELECT inserted_us FROM records WHERE NOT {_OWN} ORDER BY number DESC LIMIT 1)
        )"""),  # noqa: S608
    ("an event has another number of pending records than it says",
     f"SELECT event FROM events LEFT JOIN ({WAITING}) USING (event) WHERE pending != coalesce(waiting, 0)"),  # noqa: S608
    ("an event has a latest or pending records, but no row in the table events",
     f"""SELECT event FROM ({LATEST}) l, state WHERE event NOT IN (SELECT event FROM events)
        AND NOT (removed AND position <= removals_floor)
        UNION SELECT records.event FROM pending JOIN records USING (number)
        WHERE records.event NOT IN (SELECT event FROM events)"""),  # noqa: S608
    ("an event has a row in the table events, but neither a latest nor a pending record",
     "SELECT event FROM events WHERE position IS NULL AND pending = 0"),
    # A removal needs no bytes, but older versions of Broker reserved the length of its data, and kept what they had
    # reserved for records that were not pending any more.
    ("an event reserves another number of bytes than its records may need",
     f"""SELECT event FROM events e LEFT JOIN ({WAITING}) USING (event)
        WHERE ({_OWN} AND reserved) OR (NOT {_OWN} AND (
        reserved < max(bytes, coalesce(largest, 0)) OR (pending = 0 AND reserved != bytes)
        OR (owner IS NOT NULL AND reserved != max(bytes, coalesce(largest, 0)))))"""),  # noqa: S608
    ("an event has another owner than whoever has inserted its latest version",
     f"SELECT event FROM events WHERE owner IS NOT NULL AND owner IS NOT {OWNER}"),  # noqa: S608
    ("a pending record has another event, or another size, than its row says",
     """SELECT p.number FROM pending p LEFT JOIN records r ON r.number = p.number
        WHERE p.event IS NOT NULL AND (p.event, p.size) IS NOT (
            r.event, iif(r.data IS :removal, 0, length(CAST(r.data AS BLOB))))"""),
    ("a user takes something else of the limits than the rows say",
     f"""SELECT user FROM ({USAGE}) u LEFT JOIN usage o USING (user)
        WHERE (u.names, u.bytes, u.pending) IS NOT (o.names, o.bytes, o.pending) AND user IS NOT NULL
        UNION SELECT user FROM usage WHERE (names OR bytes OR pending) AND user NOT IN (SELECT user FROM ({USAGE}))"""),  # noqa: S608
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
    (f"the counters of the log are wrong ({_COUNTED})",
     f"SELECT 'state' FROM state WHERE ({_COUNTED}) IS NOT ({COUNT})"),  # noqa: S608
)  # fmt: skip
