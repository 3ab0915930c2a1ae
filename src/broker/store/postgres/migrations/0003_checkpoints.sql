-- The state of the log at some of its positions, so that the state at any time can be read without a walk from the
-- beginning (`GET /snapshot?at=`). These rows are derived from the log, and are written some time after the records, in
-- transactions of their own.
CREATE TABLE broker.checkpoints (
    position BIGINT PRIMARY KEY,
    events BIGINT NOT NULL,             -- how many events have state at this position
    earliest_us BIGINT NOT NULL,        -- the earliest published_us since the checkpoint before this one
    latest TEXT NOT NULL                -- the positions of their latest records, as a JSON array
);
CREATE INDEX checkpoint_times ON broker.checkpoints (earliest_us, position);
