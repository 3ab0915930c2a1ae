-- What a user has to be recognised by, besides the password. Both columns are arrays in JSON.
ALTER TABLE users ADD COLUMN keys TEXT NOT NULL DEFAULT '[]';      -- API keys: id, digest, created_s, until_s, used_day
ALTER TABLE users ADD COLUMN sessions TEXT NOT NULL DEFAULT '[]';  -- the newest logins: id, login_s, until_s
CREATE INDEX users_with_keys ON users (username_key) WHERE keys != '[]';
