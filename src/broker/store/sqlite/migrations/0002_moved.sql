-- Where `broker move` has moved the log to; a log that has moved is read-only. NULL: it is here.
ALTER TABLE state ADD COLUMN moved TEXT;
-- Whether it is known to be there: 0 only from just before the commit there until just after it.
ALTER TABLE state ADD COLUMN arrived INTEGER NOT NULL DEFAULT 0;
