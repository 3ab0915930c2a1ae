-- What a user has to be recognised by, besides the password. Both columns are arrays in JSON.
ALTER TABLE users ADD COLUMN keys TEXT NOT NULL DEFAULT '[]';      -- API keys: id, digest, created_s, until_s, used_day
ALTER TABLE users ADD COLUMN sessions TEXT NOT NULL DEFAULT '[]';  -- the newest logins: id, login_s, until_s
-- Tokens are signed with the secret and with this. A restore changes it, so that older tokens are not valid any more, also
-- if the secret is a setting.
ALTER TABLE state ADD COLUMN token_salt TEXT NOT NULL DEFAULT '';
CREATE INDEX users_with_keys ON users (username_key) WHERE keys != '[]';
